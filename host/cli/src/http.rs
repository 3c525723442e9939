//! The HTTP client of the commands that talk to a server.
//!
//! It follows no redirect: `wafer serve` answers none, and whatever else is at its address would
//! choose who gets the request, with the events or the credentials in it.

use anyhow::{Context as _, Result, anyhow, bail};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use ureq::http::Response;
use ureq::{Agent, Body};
use url::Url;
use wafer_core::{cut_to, page_text, without_userinfo};

/// Where the address of the server is set.
const SETTING: &str = "--server";

/// How much of the address of a redirect an error shows, in bytes.
const SHOWN: usize = 500;

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
        .max_redirects(0)
        .tls_config(wafer_build::tls());
    config.build().into()
}

/// Returns the address that an answer redirects a request to, without a password, or `None` if it
/// names none.
fn redirect_target(url: &str, answer: &Response<Body>) -> Option<String> {
    let location = answer.headers().get("location")?;
    let location = String::from_utf8_lossy(location.as_bytes());
    // It may be relative to the address that was asked.
    let target = Url::parse(url).and_then(|url| url.join(&location));
    let target = target.map_or_else(|_| location.into_owned(), String::from);
    Some(cut_to(without_userinfo(&target), SHOWN))
}

fn read<T: DeserializeOwned>(url: &str, answer: Result<Response<Body>, ureq::Error>) -> Result<T> {
    let shown = without_userinfo(url);
    // The client quotes an address that it cannot read.
    let answer = answer.map_err(|e| anyhow!("{}", e.to_string().replace(url, &shown)));
    let mut answer =
        answer.with_context(|| format!("cannot reach {shown}; is `wafer serve` running there?"))?;
    let status = answer.status();
    if status.is_redirection() {
        let target = redirect_target(url, &answer);
        bail!(
            "{shown}: the answer is a redirect (status {}) to {}, which is not followed; set \
             {SETTING} to an address at which `wafer serve` itself answers",
            status.as_u16(),
            target.as_deref().unwrap_or("no address")
        );
    }
    let url = shown;
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
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use super::*;

    /// Answers one request, which has a body of so many bytes, with a status, headers and a body.
    fn answering(
        listener: TcpListener,
        asked: usize,
        head: String,
        body: &'static str,
    ) -> JoinHandle<()> {
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            while request.read_line(&mut line).unwrap() > 2 {
                line.clear();
            }
            request.read_exact(&mut vec![0; asked]).unwrap();
            write!(
                stream,
                "HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
        })
    }

    #[test]
    fn redirects_are_told_with_both_addresses_and_not_followed() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        other.set_nonblocking(true).unwrap();
        let elsewhere = other.local_addr().unwrap();
        for (status, location, wanted) in [
            (
                301,
                format!("http://{elsewhere}/x"),
                format!("{elsewhere}/x"),
            ),
            (302, format!("//{elsewhere}/x"), format!("{elsewhere}/x")),
            (
                303,
                format!("http://a:geheim@{elsewhere}"),
                format!("{elsewhere}/"),
            ),
            (307, "https://[".to_owned(), "https://[".to_owned()),
            (308, "/login".to_owned(), "/login".to_owned()),
            (308, String::new(), String::new()),
        ] {
            for body in [&b""[..], b"{}"] {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let url = format!("http://b:geheim@{}/v1/x", listener.local_addr().unwrap());
                let head = match location.is_empty() {
                    true => format!("{status} Elsewhere"),
                    false => format!("{status} Elsewhere\r\nlocation: {location}"),
                };
                let server = answering(listener, body.len(), head, "");
                let answer = match body.is_empty() {
                    true => get::<Json>(&url),
                    false => post(&url, "application/json", body),
                };
                server.join().unwrap();
                let said = format!("{:#}", answer.unwrap_err());
                let target = match location.is_empty() {
                    true => "no address".to_owned(),
                    false => wanted.clone(),
                };
                let redirect = format!("the answer is a redirect (status {status}) to ");
                let asked = url.replace("b:geheim@", "");
                for part in [&*asked, &redirect, &target, "is not followed; set --server"] {
                    assert!(said.contains(part), "{part}: {said}");
                }
                assert!(!said.contains("geheim"), "{said}");
            }
        }
        let nobody = other.accept().unwrap_err();
        assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock);
    }

    #[test]
    fn page_in_the_place_of_an_answer_is_told_as_one_and_no_password() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let page = "<html>\n<title>Sign in</title>";
        let head = "200 OK\r\ncontent-type: text/html".to_owned();
        let server = answering(listener, 0, head, page);
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
