//! `POST /v1/sources/{source}/events`: accepts events as NDJSON or as CloudEvents 1.0 (structured,
//! binary or batch).
//!
//! This module decodes the body into events, each with its identity if it brings one. The pipelines
//! service passes them through the pipelines of the source and commits each event durably; only
//! then is the request answered, with a result for each event. With status 200, every event is
//! durable and readable online. With status 422, some events were rejected: the answer says which
//! ones and why, and the others are durable. Pushing the same events again is safe, because an
//! event whose identity is known changes nothing.
//!
//! Format:
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md>

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::Value as Json;
use wafer_core::{Digest, joined_identity};
use wafer_platform::{Arrival, IncomingEvent, Platform};

use crate::error::Failure;

/// Answers a request with events.
pub(crate) async fn post(
    State(platform): State<Arc<Platform>>,
    Path(source): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let events = decode(&headers, &body?)?;
    let report = platform
        .pipelines()
        .ingest(&source, events, Arrival::Now)
        .await?;
    let status = if report.rejected == 0 {
        StatusCode::OK
    } else {
        StatusCode::UNPROCESSABLE_ENTITY
    };
    Ok((status, JsonBody(report)).into_response())
}

/// Decodes the events of a body by its content type.
///
/// # Errors
/// Returns an error for a content type that is not supported, and when CloudEvents are not JSON. An
/// event that is not valid by itself is returned with its error as the payload.
fn decode(headers: &HeaderMap, body: &[u8]) -> Result<Vec<IncomingEvent>, Failure> {
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let media = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if headers.contains_key("ce-specversion") {
        return Ok(vec![binary(headers, body)]);
    }
    match media.as_str() {
        "application/cloudevents+json" => Ok(vec![structured(json(body)?)]),
        "application/cloudevents-batch+json" => match json(body)? {
            Json::Array(events) => Ok(events.into_iter().map(structured).collect()),
            _ => Err(Failure::invalid("a batch of CloudEvents is a JSON array")),
        },
        ""
        | "application/x-ndjson"
        | "application/jsonl"
        | "application/json"
        | "text/plain"
        | "application/x-www-form-urlencoded" => Ok(ndjson(body)),
        other => Err(Failure::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            format!(
                "content type `{other}`; send application/x-ndjson, application/cloudevents+json or \
                 application/cloudevents-batch+json"
            ),
        )),
    }
}

fn json(body: &[u8]) -> Result<Json, Failure> {
    let json = serde_json::from_slice(body);
    let json = json.map_err(|e| Failure::invalid(format!("the body is not JSON: {e}")))?;
    match wafer_core::lost_number(body) {
        None => Ok(json),
        Some(number) => Err(Failure::invalid(format!(
            "the body has the number {number}, which is not kept exactly; send it as text"
        ))),
    }
}

/// Returns the event of each line. Blank lines are skipped.
fn ndjson(body: &[u8]) -> Vec<IncomingEvent> {
    body.split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty())
        .map(IncomingEvent::from_json)
        .collect()
}

/// Decodes a structured CloudEvent, whose attributes are in the same object as its data.
fn structured(event: Json) -> IncomingEvent {
    let text = event.to_string();
    let attribute = |name: &str| event.get(name).and_then(Json::as_str);
    let attributes = [
        attribute("specversion"),
        attribute("id"),
        attribute("source"),
        attribute("type"),
    ];
    let id = identity(attributes);
    let payload = id
        .clone()
        .and_then(|_| match (event.get("data"), event.get("data_base64")) {
            (Some(data), None) => Ok(data.clone()),
            (_, Some(_)) => Err("has binary data; send JSON".to_owned()),
            (None, None) => Err("has no data".to_owned()),
        });
    IncomingEvent {
        payload,
        id: id.ok(),
        content: Digest::of(text.as_bytes()),
    }
}

/// Decodes a binary CloudEvent, whose attributes are in headers and whose data is the body.
fn binary(headers: &HeaderMap, body: &[u8]) -> IncomingEvent {
    let attribute = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let attributes = [
        attribute("ce-specversion"),
        attribute("ce-id"),
        attribute("ce-source"),
        attribute("ce-type"),
    ];
    let id = identity(attributes);
    let event = IncomingEvent::from_json(body);
    IncomingEvent {
        payload: id.clone().and(event.payload),
        id: id.ok(),
        content: event.content,
    }
}

/// Checks the attributes of a CloudEvent, and returns its identity: its source and its id.
fn identity([version, id, source, kind]: [Option<&str>; 4]) -> Result<String, String> {
    let needed = |name: &str, value: Option<&str>| -> Result<String, String> {
        let value = value.filter(|value| !value.is_empty());
        value
            .map(str::to_owned)
            .ok_or_else(|| format!("CloudEvents attribute `{name}` is missing"))
    };
    match needed("specversion", version)?.as_str() {
        "1.0" => {}
        other => return Err(format!("CloudEvents version {other}; send 1.0")),
    }
    needed("type", kind)?;
    let (source, id) = (needed("source", source)?, needed("id", id)?);
    Ok(joined_identity(&source, &id))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)))
            .collect()
    }

    const STRUCTURED: &str =
        r#"{"specversion":"1.0","id":"7","source":"/ewr","type":"report","data":{"a":1}}"#;

    #[test]
    fn plain_and_cloud_events_are_decoded() {
        let plain = decode(
            &headers(&[("content-type", "application/x-ndjson; charset=utf-8")]),
            b"{\"a\":1}\n\n {\"a\":2} \r\n",
        )
        .unwrap();
        assert_eq!(plain.len(), 2);
        assert_eq!(plain[1].payload, Ok(serde_json::json!({"a": 2})));
        assert_eq!(plain[0].id, None);

        let one = decode(
            &headers(&[("content-type", "application/cloudevents+json")]),
            STRUCTURED.as_bytes(),
        )
        .unwrap();
        assert_eq!(
            (one[0].id.as_deref(), &one[0].payload),
            (Some("/ewr 7"), &Ok(serde_json::json!({"a": 1})))
        );

        let batch = format!("[{STRUCTURED},{STRUCTURED}]");
        let batch = decode(
            &headers(&[("content-type", "application/cloudevents-batch+json")]),
            batch.as_bytes(),
        )
        .unwrap();
        assert_eq!(batch.len(), 2);

        let binary = headers(&[
            ("content-type", "application/json"),
            ("ce-specversion", "1.0"),
            ("ce-id", "7"),
            ("ce-source", "/ewr"),
            ("ce-type", "report"),
        ]);
        let binary = decode(&binary, b"{\"a\":1}").unwrap();
        assert_eq!(
            (binary[0].id.as_deref(), &binary[0].payload),
            (Some("/ewr 7"), &Ok(serde_json::json!({"a": 1})))
        );
    }

    #[test]
    fn different_pairs_of_source_and_id_are_different_events() {
        let id = |source: &str, id: &str| {
            let event = serde_json::json!({
                "specversion": "1.0", "id": id, "source": source, "type": "report", "data": {}
            });
            structured(event).id.unwrap()
        };
        assert_ne!(id("a b", "c"), id("a", "b c"));
        assert_ne!(id("a", "1 b"), id("a 1", "b"));
        assert_ne!(id(" ", "x"), id("  ", "x"));
    }

    #[test]
    fn invalid_events_are_rejected_one_by_one() {
        for (event, wanted) in [
            (STRUCTURED.replace("1.0", "0.3"), "CloudEvents version 0.3"),
            (STRUCTURED.replace("\"id\":\"7\",", ""), "`id` is missing"),
            (
                STRUCTURED.replace("\"/ewr\"", "\"\""),
                "`source` is missing",
            ),
            (
                STRUCTURED.replace("\"data\":{\"a\":1}", "\"data_base64\":\"AA==\""),
                "binary data",
            ),
            (STRUCTURED.replace(",\"data\":{\"a\":1}", ""), "has no data"),
        ] {
            let message = structured(serde_json::from_str(&event).unwrap())
                .payload
                .unwrap_err();
            assert!(message.contains(wanted), "{message}");
        }
        let lines = ndjson(b"{\"a\":1}\n{oops\n");
        assert!(lines[0].payload.is_ok() && lines[1].payload.is_err());
    }

    #[test]
    fn unsupported_content_types_are_refused() {
        let failure = decode(&headers(&[("content-type", "application/xml")]), b"<a/>");
        assert_eq!(
            failure.unwrap_err().into_response().status(),
            StatusCode::UNSUPPORTED_MEDIA_TYPE
        );
        let failure = decode(
            &headers(&[("content-type", "application/cloudevents+json")]),
            b"<a/>",
        );
        assert_eq!(
            failure.unwrap_err().into_response().status(),
            StatusCode::BAD_REQUEST
        );
    }
}
