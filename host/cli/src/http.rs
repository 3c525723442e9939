//! The HTTP client of the commands that talk to a server.

use anyhow::{Context as _, Result, bail};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use ureq::http::Response;
use ureq::{Agent, Body};

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
    let config = Agent::config_builder().http_status_as_error(false);
    config.build().into()
}

fn read<T: DeserializeOwned>(url: &str, answer: Result<Response<Body>, ureq::Error>) -> Result<T> {
    let mut answer =
        answer.with_context(|| format!("cannot reach {url}; is `wafer serve` running there?"))?;
    let status = answer.status();
    let text = answer
        .body_mut()
        .with_config()
        .limit(1 << 30)
        .read_to_string()
        .with_context(|| format!("cannot read the answer of {url}"))?;
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
