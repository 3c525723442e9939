//! The HTTP client of the commands that talk to a server.

use anyhow::{Context as _, Result, anyhow, bail};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use ureq::http::Response;
use ureq::{Agent, Body};
use wafer_core::{page_text, without_userinfo};

/// Where the address of the server is set.
const SETTING: &str = "--server";

/// Posts a body and decodes the JSON of the answer.
///
/// # Errors
/// Returns an error when the server cannot be reached, when its answer is not the expected JSON,
/// and with the server's message when it answers with an error.
pub(crate) fn post<T: DeserializeOwned>(url: &str, content_type: &str, body: &[u8]) -> Result<T> {
    let request = agent().post(url).header("content-type", content_type);
    read(url, request.send(body))
}

/// Gets a URL and decodes the JSON of the answer.
///
/// # Errors
/// Returns the same errors as [`post`].
pub(crate) fn get<T: DeserializeOwned>(url: &str) -> Result<T> {
    read(url, agent().get(url).call())
}

fn agent() -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .tls_config(wafer_build::tls());
    config.build().into()
}

fn read<T: DeserializeOwned>(url: &str, answer: Result<Response<Body>, ureq::Error>) -> Result<T> {
    let shown = without_userinfo(url);
    // The client quotes an address that it cannot read.
    let answer = answer.map_err(|e| anyhow!("{}", e.to_string().replace(url, &shown)));
    let url = shown;
    let mut answer =
        answer.with_context(|| format!("cannot reach {url}; is `wafer serve` running there?"))?;
    let status = answer.status();
    let content_type = answer.headers().get("content-type");
    let content_type = content_type.and_then(|kind| kind.to_str().ok());
    let content_type = content_type.map(str::to_owned);
    let text = answer
        .body_mut()
        .with_config()
        .limit(1 << 30)
        .read_to_string()
        .with_context(|| format!("cannot read the answer of {url}"))?;
    let page = page_text(
        status.as_u16(),
        content_type.as_deref(),
        text.as_bytes(),
        SETTING,
    );
    if let Some(said) = page {
        bail!("{url}: {said}");
    }
    let json: Json = serde_json::from_str(&text)
        .with_context(|| format!("{url} answered {status} without JSON"))?;
    // An error of the Open Inference Protocol is a string; all other errors are objects with a
    // message.
    let error = &json["error"];
    if let Some(message) = error["message"].as_str().or(error.as_str()) {
        bail!("{url} answered {status}: {message}");
    }
    serde_json::from_value(json)
        .with_context(|| format!("the answer of {url} has an unexpected form"))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn page_in_the_place_of_an_answer_is_told_as_one_and_no_password() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head = lines.map_while(std::result::Result::ok);
            head.take_while(|line| !line.is_empty()).for_each(drop);
            let page = "<html>\n<title>Sign in</title>";
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\
                 connection: close\r\n\r\n{page}",
                page.len()
            )
            .unwrap();
        });
        let url = format!("http://user:geheim@{address}/v1/x");
        let error = get::<Json>(&url).unwrap_err();
        server.join().unwrap();
        let said = format!("{error:#}");
        let wanted = format!(
            "http://{address}/v1/x: the answer is a page of HTML and not one of the service (status \
             200, content type `text/html`, which begins with `<html>`)"
        );
        assert!(said.starts_with(&wanted), "{said}");
        let error = get::<Json>(&url).unwrap_err();
        let said = format!("{error:#}");
        assert!(said.starts_with("cannot reach http://127.0.0.1"), "{said}");
        assert!(!said.contains("geheim"), "{said}");
    }
}
