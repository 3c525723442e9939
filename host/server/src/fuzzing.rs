//! Entry points of the fuzz targets in `fuzz/`: the parsers of bodies, without a server.

use axum::http::{HeaderMap, HeaderValue};
use bytes::Bytes;
use serde_json::Value as Json;
use wafer_core::{DataType, Field};
use wafer_platform::IncomingEvent;

use crate::error::Failure;
use crate::intake::Payload;
use crate::limits::allowance;
use crate::{events, feast, inference};

/// The content types of events, of which the first byte of an input chooses one.
const EVENT_TYPES: [&str; 4] = [
    "application/x-ndjson",
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
    "",
];

/// Parses the body of a push of events. The first byte of the input chooses the content type.
///
/// # Errors
/// Returns the message of a body that is refused.
///
/// # Panics
/// Panics when an event would not be the same after it was stored and read again.
pub fn events(bytes: &[u8]) -> Result<usize, String> {
    let Some((first, body)) = bytes.split_first() else {
        return Ok(0);
    };
    let kind = EVENT_TYPES[usize::from(*first) % EVENT_TYPES.len()];
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static(kind));
    if kind.is_empty() {
        for name in ["ce-specversion", "ce-id", "ce-source", "ce-type"] {
            headers.insert(name, HeaderValue::from_static("1.0"));
        }
    }
    let payload = payload(body);
    let events = events::decode(&headers, &payload).map_err(Failure::into_message)?;
    let events: Vec<IncomingEvent> = events.map(|(_, event)| event).collect();
    events.iter().for_each(check_kept);
    Ok(events.len())
}

/// Parses an inference request, and converts its tensors to values of each type. The first two
/// bytes of the input say where the JSON ends and binary tensors begin.
///
/// # Errors
/// Returns the message of a request that is refused.
///
/// # Panics
/// Panics when a tensor becomes more or fewer values than there are rows.
pub fn tensors(bytes: &[u8]) -> Result<usize, String> {
    let Some((length, body)) = bytes.split_first_chunk() else {
        return Ok(0);
    };
    let types = DataType::storable(2);
    let names = types.iter().map(|data_type| data_type.to_string());
    let fields = names.zip(&types);
    let fields: Vec<Field> = fields
        .map(|(name, data_type)| Field::new(name, data_type.clone(), true))
        .collect();
    inference::parsed(u16::from_le_bytes(*length), &payload(body), &fields)
}

/// Parses the body of each request of Feast's protocol.
///
/// # Errors
/// Returns the message of the first parser that refuses it.
///
/// # Panics
/// Panics when a row would not be the same once it was kept.
pub fn feast(bytes: &[u8]) -> Result<usize, String> {
    let events = feast::parsed(bytes).map_err(Failure::into_message)?;
    events.iter().for_each(check_kept);
    Ok(events.len())
}

/// Checks that an event has an identity, if it has one of its own, and that its fields are the same
/// once they were written as text and read again, as archives and quarantines do.
fn check_kept(event: &IncomingEvent) {
    assert_ne!(event.id.as_deref(), Some(""), "an identity is empty");
    if let Ok(fields) = &event.payload {
        let read: Result<Json, _> = serde_json::from_str(&fields.to_string());
        assert_eq!(read.ok().as_ref(), Some(fields));
    }
}

/// Returns a body as a handler gets it.
fn payload(body: &[u8]) -> Payload {
    Payload::new(Bytes::copy_from_slice(body), allowance(body.len()))
}
