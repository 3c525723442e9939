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

use std::future::Future;
use std::iter::Peekable;
use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value as Json;
use wafer_core::{Digest, cut_to, joined_identity};
use wafer_platform::{Delivery, EventResult, IncomingEvent, IngestReport, Platform};

use crate::MAX_EVENTS;
use crate::error::Failure;
use crate::extract::Path;
use crate::intake::{Payload, check_text};
use crate::json_size::parsed_size;
use crate::media_type::{is_json, media_type, unsupported};

/// The greatest number of events that are decoded and ingested together.
const SLICE_EVENTS: usize = 4_096;
/// The size of the parsed events, in bytes, from which on no further ones are ingested together
/// with them.
const SLICE_BYTES: u64 = 8 << 20;
/// The memory that an event takes on its way into the store, as a multiple of its parsed size,
/// beside the encoded rows, of which the pipelines hold few at a time.
const COPIES: u64 = 3;
/// The number of events whose errors are answered in full.
const FULL_ERRORS: usize = 10_000;
/// The greatest length in bytes of the errors of further events.
const SHORT_ERROR: usize = 200;

/// The events of a push, each with the memory that it takes, in bytes. They are decoded one by one.
type Events<'a> = Box<dyn Iterator<Item = (u64, IncomingEvent)> + Send + 'a>;

/// Answers a request with events.
pub(crate) async fn post(
    State(platform): State<Arc<Platform>>,
    Path(source): Path<String>,
    headers: HeaderMap,
    payload: Payload,
) -> Result<Response, Failure> {
    let events = decode(&headers, &payload)?;
    let service = platform.pipelines().events();
    let ingest = |events| service.ingest(&source, events, Delivery::Now);
    let report = ingest_slices(events, ingest).await?;
    let status = if report.rejected == 0 {
        StatusCode::OK
    } else {
        StatusCode::UNPROCESSABLE_ENTITY
    };
    Ok((status, JsonBody(report)).into_response())
}

/// Ingests the events of a push some at a time, so that memory does not depend on their number.
///
/// # Errors
/// Returns the first error of `ingest`. Its message says how many events at least were accepted.
pub(crate) async fn ingest_slices<F>(
    events: impl Iterator<Item = (u64, IncomingEvent)>,
    ingest: impl Fn(Vec<IncomingEvent>) -> F,
) -> Result<IngestReport, Failure>
where
    F: Future<Output = wafer_platform::Result<IngestReport>>,
{
    let mut events = events.peekable();
    let mut report = IngestReport::default();
    loop {
        let ingested = ingest(next_slice(&mut events)).await;
        let mut ingested = ingested.map_err(|error| {
            let known = report.accepted + report.duplicate;
            Failure::from(error).after_accepted(known)
        })?;
        if report.events.len() >= FULL_ERRORS {
            shorten_errors(&mut ingested);
        }
        report.extend(ingested);
        if events.peek().is_none() {
            return Ok(report);
        }
    }
}

/// Decodes the next events, as many as are ingested together.
fn next_slice(
    events: &mut Peekable<impl Iterator<Item = (u64, IncomingEvent)>>,
) -> Vec<IncomingEvent> {
    let (mut slice, mut size) = (Vec::new(), 0);
    while slice.len() < SLICE_EVENTS && size < SLICE_BYTES {
        let Some((event_size, event)) = events.next() else {
            break;
        };
        size += event_size;
        slice.push(event);
    }
    slice
}

/// Cuts the errors of rejected events. A function may say much about each of many small events.
fn shorten_errors(report: &mut IngestReport) {
    for event in &mut report.events {
        if let EventResult::Rejected { error } = event {
            *error = cut_to(&*error, SHORT_ERROR);
        }
    }
}

/// Checks the number of events or rows in a push.
///
/// # Errors
/// Returns status 413 for too many.
pub(crate) fn check_count(count: usize) -> Result<(), Failure> {
    match count > MAX_EVENTS {
        true => Err(Failure::too_large(format!(
            "{count} events are too many: a request has at most {MAX_EVENTS}; send them in several"
        ))),
        false => Ok(()),
    }
}

/// Decodes the events of a body by its content type.
///
/// # Errors
/// Returns an error for a content type that is not supported, for too many events, and when
/// CloudEvents are not JSON. An event that is not valid by itself is returned with its error as the
/// payload.
pub(crate) fn decode<'a>(headers: &HeaderMap, payload: &'a Payload) -> Result<Events<'a>, Failure> {
    let media_type = media_type(headers);
    if headers.contains_key("ce-specversion") {
        // CloudEvents are JSON unless they say otherwise.
        if !media_type.is_empty() && !is_json(&media_type) {
            return Err(unsupported(&media_type, "application/json"));
        }
        payload.check(parsed_size(&payload.bytes, payload.left() / COPIES) * COPIES)?;
        let event = binary(headers, &payload.bytes);
        return Ok(Box::new(std::iter::once((0, event))));
    }
    match media_type.as_str() {
        "application/cloudevents+json" => {
            payload.check(parsed_size(&payload.bytes, payload.left() / COPIES) * COPIES)?;
            check_text(&payload.bytes)?;
            let event = structured(json(&payload.bytes)?);
            Ok(Box::new(std::iter::once(event)))
        }
        "application/cloudevents-batch+json" => {
            payload.check_json()?;
            match json(&payload.bytes)? {
                Json::Array(events) => {
                    check_count(events.len())?;
                    Ok(Box::new(events.into_iter().map(structured)))
                }
                _ => Err(Failure::invalid("a batch of CloudEvents is a JSON array")),
            }
        }
        "application/x-ndjson" | "application/jsonl" | "application/json" => ndjson(payload),
        other => Err(unsupported(
            other,
            "application/x-ndjson or application/json with an object in each line, \
             application/cloudevents+json or application/cloudevents-batch+json",
        )),
    }
}

fn json(body: &[u8]) -> Result<Json, Failure> {
    let json = serde_json::from_slice(body);
    json.map_err(|e| Failure::invalid(format!("the body is not JSON: {e}")))
}

/// Decodes the event of each line. Blank lines are skipped.
///
/// # Errors
/// Returns status 413 for too many lines, and for a line that would take too much memory. No line
/// has been decoded then.
fn ndjson(payload: &Payload) -> Result<Events<'_>, Failure> {
    let lines = || {
        let lines = payload.bytes.split(|byte| *byte == b'\n');
        lines
            .map(<[u8]>::trim_ascii)
            .filter(|line| !line.is_empty())
    };
    check_count(lines().count())?;
    let enough = payload.left() / COPIES;
    for line in lines() {
        payload.check(parsed_size(line, enough) * COPIES)?;
    }
    let event = |line| (parsed_size(line, 0), IncomingEvent::from_json(line));
    Ok(Box::new(lines().map(event)))
}

/// Decodes a structured CloudEvent, whose attributes are in the same object as its data. Returns
/// its parsed size too.
fn structured(mut event: Json) -> (u64, IncomingEvent) {
    let text = event.to_string();
    let attribute = |name: &str| event.get(name).and_then(Json::as_str);
    let id = identity([
        attribute("specversion"),
        attribute("id"),
        attribute("source"),
        attribute("type"),
    ]);
    let mut take = |name: &str| event.as_object_mut().and_then(|event| event.remove(name));
    let (data, data_base64) = (take("data"), take("data_base64"));
    let payload = id.clone().and_then(|_| match (data, data_base64) {
        (Some(data), None) => Ok(data),
        (_, Some(_)) => Err("has binary data; send JSON".to_owned()),
        (None, None) => Err("has no data".to_owned()),
    });
    let event = IncomingEvent {
        payload,
        id: id.ok(),
        content: Digest::of(text.as_bytes()),
    };
    (parsed_size(text.as_bytes(), 0), event)
}

/// Decodes a binary CloudEvent, whose attributes are in headers and whose data is the body.
fn binary(headers: &HeaderMap, body: &[u8]) -> IncomingEvent {
    let attribute = |name| header_attribute(headers, name);
    let attributes = || -> Result<[Option<String>; 4], String> {
        Ok([
            attribute("specversion")?,
            attribute("id")?,
            attribute("source")?,
            attribute("type")?,
        ])
    };
    let id = attributes().and_then(|attributes| {
        let attributes = attributes.each_ref();
        identity(attributes.map(Option::as_deref))
    });
    let event = IncomingEvent::from_json(body);
    IncomingEvent {
        payload: id.clone().and(event.payload),
        id: id.ok(),
        content: event.content,
    }
}

/// Returns an attribute of a binary CloudEvent, so that it is the same as in a structured one. Its
/// header is in quotes or not, and percent-encoded (section 3.1.3.2 of the HTTP binding).
fn header_attribute(headers: &HeaderMap, name: &str) -> Result<Option<String>, String> {
    let header = format!("ce-{name}");
    let Some(value) = headers.get(header.as_str()) else {
        return Ok(None);
    };
    let text = value.to_str().ok().and_then(unquoted);
    let decoded = text.and_then(|text| percent_decoded(&text));
    decoded.map(Some).ok_or_else(|| {
        format!(
            "CloudEvents attribute `{name}`: header `{header}` is not percent-encoded UTF-8 in \
             printable ASCII; write `%` as %25, and other characters so too"
        )
    })
}

/// Removes the quotes around the value of a header, and the backslashes that escape characters in
/// them. Returns `None` if the quotes do not end where the value does.
fn unquoted(value: &str) -> Option<String> {
    let Some(quoted) = value.strip_prefix('"') else {
        return Some(value.to_owned());
    };
    let (mut text, mut rest) = (String::new(), quoted.chars());
    loop {
        match rest.next()? {
            '"' => return rest.as_str().is_empty().then_some(text),
            '\\' => text.push(rest.next()?),
            other => text.push(other),
        }
    }
}

/// Decodes what is percent-encoded in a text, once. Returns `None` for a `%` without two digits,
/// and for bytes that are not UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
    let (mut decoded, mut bytes) = (Vec::new(), text.bytes());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => u8::try_from(digit(bytes.next())? * 16 + digit(bytes.next())?).ok()?,
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

/// Checks the attributes of a CloudEvent, and returns its identity: its source and its id.
fn identity([version, id, source, kind]: [Option<&str>; 4]) -> Result<String, String> {
    fn needed<'a>(name: &str, value: Option<&'a str>) -> Result<&'a str, String> {
        let value = value.filter(|value| !value.is_empty());
        value.ok_or_else(|| format!("CloudEvents attribute `{name}` is missing"))
    }
    match needed("specversion", version)? {
        "1.0" => {}
        other => {
            return Err(format!(
                "CloudEvents version {}; send 1.0",
                cut_to(other, 60)
            ));
        }
    }
    needed("type", kind)?;
    joined_identity(needed("source", source)?, needed("id", id)?)
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

    const MEMORY: u64 = 48 << 20;

    /// Returns the events of a body, or the status with which it is refused.
    fn decoded(
        pairs: &[(&'static str, &'static str)],
        body: &str,
    ) -> Result<Vec<IncomingEvent>, StatusCode> {
        let payload = Payload::new(body.to_owned().into(), MEMORY);
        let events = decode(&headers(pairs), &payload);
        let events = events.map(|events| events.map(|(_, event)| event).collect());
        events.map_err(|failure| failure.status())
    }

    #[test]
    fn plain_and_cloud_events_are_decoded() {
        let ndjson = [("content-type", "application/x-ndjson; charset=utf-8")];
        let plain = decoded(&ndjson, "{\"a\":1}\n\n {\"a\":2} \r\n").unwrap();
        assert_eq!(plain.len(), 2);
        assert_eq!(plain[1].payload, Ok(serde_json::json!({"a": 2})));
        assert_eq!(plain[0].id, None);

        let one = [("content-type", "application/cloudevents+json")];
        let one = decoded(&one, STRUCTURED).unwrap();
        assert_eq!(
            (one[0].id.as_deref(), &one[0].payload),
            (Some("/ewr 7"), &Ok(serde_json::json!({"a": 1})))
        );

        let batch = [("content-type", "application/cloudevents-batch+json")];
        let batch = decoded(&batch, &format!("[{STRUCTURED},{STRUCTURED}]")).unwrap();
        assert_eq!(batch.len(), 2);

        let attributes = [
            ("ce-specversion", "1.0"),
            ("ce-id", "7"),
            ("ce-source", "/ewr"),
            ("ce-type", "report"),
        ];
        for media_type in [None, Some(("content-type", "application/json"))] {
            let pairs: Vec<_> = attributes.into_iter().chain(media_type).collect();
            let binary = decoded(&pairs, "{\"a\":1}").unwrap();
            assert_eq!(
                (binary[0].id.as_deref(), &binary[0].payload),
                (Some("/ewr 7"), &Ok(serde_json::json!({"a": 1})))
            );
        }
    }

    #[test]
    fn attributes_in_headers_are_those_of_a_structured_event() {
        for (header, wanted) in [
            ("/ewr", Some("/ewr")),
            ("/a%20b", Some("/a b")),
            ("%2Fewr%2F%e2%82%AC%F0%9F%98%80", Some("/ewr/€😀")),
            ("100%25", Some("100%")),
            // One round: the attribute itself has a percent sign.
            ("%2541", Some("%41")),
            // As earlier versions of CloudEvents wrote spaces and quotes.
            ("\"a b\"", Some("a b")),
            ("\"a \\\"b\\\" \\\\ %20c\"", Some("a \"b\" \\  c")),
            ("a \"b\"", Some("a \"b\"")),
            ("\"a", None),
            ("\"a\"b", None),
            ("\"a\\", None),
            ("50%", None),
            ("%4", None),
            ("%zz", None),
            // Not UTF-8: overlong, and a part of a character.
            ("%C0%A0", None),
            ("%E2%82", None),
        ] {
            let headers = headers(&[
                ("ce-specversion", "1.0"),
                ("ce-type", "report"),
                ("ce-id", "7%207"),
                ("ce-source", header),
            ]);
            let event = binary(&headers, b"{\"a\":1}");
            let Some(wanted) = wanted else {
                let message = event.payload.unwrap_err();
                assert!(message.contains("`ce-source`"), "{header}: {message}");
                assert_eq!(event.id, None);
                continue;
            };
            let same = structured(serde_json::json!({
                "specversion": "1.0", "id": "7 7", "source": wanted, "type": "report", "data": {"a": 1}
            }));
            assert_eq!(event.id, same.1.id, "{header}");
            assert_eq!(event.payload, same.1.payload, "{header}");
        }
    }

    #[tokio::test]
    async fn events_are_ingested_in_slices_of_bounded_size_and_in_order() {
        let large = || (SLICE_BYTES, IncomingEvent::from_json(b"1"));
        let small = || (1, IncomingEvent::from_json(b"2"));
        let many = SLICE_EVENTS * 2 + 1;
        for (events, wanted) in [
            (vec![], vec![0]),
            (vec![small(); 3], vec![3]),
            (vec![small(); many], vec![SLICE_EVENTS, SLICE_EVENTS, 1]),
            (
                vec![small(), large(), small(), large(), small()],
                vec![2, 2, 1],
            ),
        ] {
            let slices = std::sync::Mutex::new(Vec::new());
            let ingest = |events: Vec<IncomingEvent>| {
                slices.lock().unwrap().push(events.len());
                let report = IngestReport {
                    accepted: events.len(),
                    ..IngestReport::default()
                };
                std::future::ready(Ok(report))
            };
            let count = events.len();
            let report = ingest_slices(events.into_iter(), ingest).await.unwrap();
            assert_eq!(report.accepted, count);
            assert_eq!(*slices.lock().unwrap(), wanted);
        }
    }

    #[tokio::test]
    async fn an_error_says_how_many_events_were_accepted_before() {
        let events = vec![(1, IncomingEvent::from_json(b"1")); SLICE_EVENTS + 1];
        let ingest = |events: Vec<IncomingEvent>| {
            let report = IngestReport {
                accepted: events.len(),
                ..IngestReport::default()
            };
            let is_first = events.len() == SLICE_EVENTS;
            let error = || wafer_platform::Error::invalid("no more");
            std::future::ready(is_first.then_some(report).ok_or_else(error))
        };
        let failure = ingest_slices(events.into_iter(), ingest).await.unwrap_err();
        let message = failure.into_message();
        assert!(
            message.starts_with("at least 4096 events were accepted")
                && message.ends_with("no more")
        );
    }

    #[test]
    fn different_pairs_of_source_and_id_are_different_events() {
        let id = |source: &str, id: &str| {
            let event = serde_json::json!({
                "specversion": "1.0", "id": id, "source": source, "type": "report", "data": {}
            });
            structured(event).1.id.unwrap()
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
            let (_, event) = structured(serde_json::from_str(&event).unwrap());
            let message = event.payload.unwrap_err();
            assert!(message.contains(wanted), "{message}");
        }
        let ndjson = [("content-type", "application/x-ndjson")];
        let lines = decoded(&ndjson, "{\"a\":1}\n{oops\n").unwrap();
        assert!(lines[0].payload.is_ok() && lines[1].payload.is_err());
    }

    #[test]
    fn bodies_that_cannot_be_taken_are_refused_as_a_whole() {
        let lines = "1\n".repeat(MAX_EVENTS);
        let too_many = "1\n".repeat(MAX_EVENTS + 1);
        let batch = format!("[1{}]", ",1".repeat(MAX_EVENTS));
        let nested = format!("{{\"a\":[{{\"b\":1}}{}]}}", ",{\"b\":1}".repeat(50_000));
        let nested_batch = format!("[{nested}]");
        let unsupported = Some(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let too_large = Some(StatusCode::PAYLOAD_TOO_LARGE);
        let invalid = Some(StatusCode::BAD_REQUEST);
        let event = "application/cloudevents+json";
        for (media_type, body, wanted) in [
            ("application/xml", "<a/>", unsupported),
            ("text/plain", "{}", unsupported),
            ("application/x-www-form-urlencoded", "{}", unsupported),
            ("multipart/form-data", "{}", unsupported),
            ("", "{}", unsupported),
            ("application/json", "{}", None),
            ("application/jsonl", "{}", None),
            (event, "<a/>", invalid),
            ("application/cloudevents-batch+json", "{}", invalid),
            ("application/x-ndjson", &lines, None),
            ("application/x-ndjson", &too_many, too_large),
            ("application/cloudevents-batch+json", &batch, too_large),
            ("application/x-ndjson", &nested, too_large),
            (event, &nested, too_large),
            ("application/cloudevents-batch+json", &nested_batch, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("content-type", media_type.parse().unwrap());
            let payload = Payload::new(body.to_owned().into(), MEMORY);
            let found = decode(&headers, &payload)
                .err()
                .map(|failure| failure.status());
            assert_eq!(
                found,
                wanted,
                "{media_type} {}",
                &body[..body.len().min(40)]
            );
        }
        let mut headers = headers(&[("ce-specversion", "1.0")]);
        headers.insert("content-type", HeaderValue::from_static("text/plain"));
        let payload = Payload::new("{}".into(), MEMORY);
        let failure = decode(&headers, &payload).err().unwrap();
        assert_eq!(failure.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
}
