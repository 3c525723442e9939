//! Asking a server.

use anyhow::{Context as _, Result, bail};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use ureq::Agent;

/// Posts a body and reads the JSON that comes back.
///
/// # Errors
/// When the server cannot be reached, or answers with an error: its message.
pub(crate) fn post<T: DeserializeOwned>(url: &str, content_type: &str, body: &[u8]) -> Result<T> {
    let agent: Agent = Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into();
    let mut answer = agent
        .post(url)
        .header("content-type", content_type)
        .send(body)
        .with_context(|| format!("cannot reach {url}; is `wafer serve` running there?"))?;
    let status = answer.status();
    let text = answer
        .body_mut()
        .with_config()
        .limit(1 << 30)
        .read_to_string()
        .with_context(|| format!("the answer of {url}"))?;
    let json: Json = serde_json::from_str(&text)
        .with_context(|| format!("{url} answered {status}, and not with JSON"))?;
    if let Some(message) = json["error"]["message"].as_str() {
        bail!("{url} answered {status}: {message}");
    }
    serde_json::from_value(json)
        .with_context(|| format!("{url} answered something else than was expected"))
}
