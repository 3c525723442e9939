//! Events as they come in, and the report of what became of them.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use wafer_core::{Digest, check_json_text};
use wafer_store::Result;

/// An event as it came in.
#[derive(Clone, Debug, PartialEq)]
pub struct IncomingEvent {
    /// The fields of the event, or why it could not be read.
    pub payload: Result<Json, String>,
    /// The identity of the event, if it came with one.
    pub id: Option<String>,
    /// The digest of the content as it came in, which is the identity of an event that has no
    /// other.
    pub content: Digest,
}

impl IncomingEvent {
    /// Creates an event from the text of a JSON object. The event has no identity beside its
    /// content. It cannot be read if a parser makes another number of one of its numbers, or drops
    /// a field because another one has the same name.
    pub fn from_json(text: &[u8]) -> Self {
        let parsed = || serde_json::from_slice(text).map_err(|e| format!("is not JSON: {e}"));
        Self {
            payload: check_json_text(text).and_then(|()| parsed()),
            id: None,
            content: Digest::of(text),
        }
    }
}

/// How the available times of events are determined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The events come in now.
    Now,
    /// The events are history: each came in when it happened, plus the source's delay.
    Backfill,
}

/// The outcome of one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum EventResult {
    /// The event is durable and readable online.
    Accepted,
    /// The event is durable, but older than the source's `lateness` allows: it waits in the late
    /// table until it is healed.
    TooLate,
    /// The event had been accepted before; nothing was changed.
    Duplicate,
    /// The event was refused, and left nothing but a row in the quarantine table.
    Rejected {
        /// Why the event was refused.
        error: String,
    },
}

/// The outcomes of the events of one push.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngestReport {
    /// The number of events that were accepted and are durable now.
    pub accepted: usize,
    /// The number of events that had been accepted before.
    pub duplicate: usize,
    /// The number of events that were refused.
    pub rejected: usize,
    /// The number of accepted events that came in after an event with a later event time.
    pub late: usize,
    /// The number of accepted events that wait in a late table.
    pub too_late: usize,
    /// The number of accepted events that changed nothing online, because the stored row is
    /// newer.
    pub older: usize,
    /// The number of accepted events that are applied online once they are due.
    pub early: usize,
    /// The outcome of each event, in the order of the push.
    pub events: Vec<EventResult>,
}

impl IngestReport {
    /// Adds the counts of another report, and appends its events.
    pub fn extend(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.duplicate += other.duplicate;
        self.rejected += other.rejected;
        self.late += other.late;
        self.too_late += other.too_late;
        self.older += other.older;
        self.early += other.early;
        self.events.extend(other.events);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_with_a_name_twice_in_one_object_is_not_read() {
        for (text, name) in [
            (r#"{"k": 1, "c": 1, "c": 2}"#, Some("c")),
            (r#"{"k": 1, "o": {"x": 1, "x": 1}}"#, Some("x")),
            (r#"{"k": 1, "o": {"k": 1}}"#, None),
        ] {
            let payload = IncomingEvent::from_json(text.as_bytes()).payload;
            let wanted = name.map(|name| format!("has the name `{name}` twice in one object"));
            match (payload, wanted) {
                (Ok(_), None) => {}
                (Err(found), Some(wanted)) => assert!(found.starts_with(&wanted), "{found}"),
                (found, wanted) => panic!("{text}: {found:?}, wanted {wanted:?}"),
            }
        }
    }
}
