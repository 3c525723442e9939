//! Asking a server.

use anyhow::{Context as _, Result, bail};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use ureq::http::Response;
use ureq::{Agent, Body};

/// Posts a body and reads the JSON that comes back.
///
/// # Errors
/// When the server cannot be reached, or answers with an error: its message.
pub(crate) fn post<T: DeserializeOwned>(url: &str, content_type: &str, body: &[u8]) -> Result<T> {
    let request = agent().post(url).header("content-type", content_type);
    read(url, request.send(body))
}

/// Gets what there is.
///
/// # Errors
/// As [`post`].
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
        .with_context(|| format!("the answer of {url}"))?;
    let json: Json = serde_json::from_str(&text)
        .with_context(|| format!("{url} answered {status}, and not with JSON"))?;
    // The Open Inference Protocol has errors of its own form.
    let error = &json["error"];
    if let Some(message) = error["message"].as_str().or(error.as_str()) {
        bail!("{url} answered {status}: {message}");
    }
    serde_json::from_value(json)
        .with_context(|| format!("{url} answered something else than was expected"))
}
