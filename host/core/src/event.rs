//! Events as they come in, and those that were given up on their way.

use serde_json::Value as Json;

use crate::{Digest, Timestamp, check_json_text, without_mark};

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
    /// Creates an event from the text of a JSON object, before which a byte-order mark may be. The
    /// event has no identity beside its content, to which the mark does not belong. It cannot be
    /// read if a parser makes another number of one of its numbers, or drops a field because
    /// another one has the same name.
    pub fn from_json(text: &[u8]) -> Self {
        let text = without_mark(text);
        let parsed = || serde_json::from_slice(text).map_err(|e| format!("is not JSON: {e}"));
        Self {
            payload: check_json_text(text).and_then(|()| parsed()),
            id: None,
            content: Digest::of(text),
        }
    }
}

/// A batch of events that the service that delivers them gave up, and kept aside.
#[derive(Clone, Debug, PartialEq)]
pub struct FailedBatch {
    /// The source that takes the events.
    pub source: String,
    /// When the first of the events came to the service. None of them was taken in before.
    pub arrived: Timestamp,
    /// The events, in the order in which they came to the service.
    pub events: Vec<FailedEvent>,
}

/// An event of a [`FailedBatch`].
#[derive(Clone, Debug, PartialEq)]
pub struct FailedEvent {
    /// By which the service names the event, such as a sequence number.
    pub name: String,
    /// The event, as it would have come in.
    pub event: IncomingEvent,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_mark_before_an_event_is_no_part_of_it() {
        let text = r#"{"k": 1}"#;
        let marked = IncomingEvent::from_json(format!("\u{feff}{text}").as_bytes());
        assert_eq!(marked, IncomingEvent::from_json(text.as_bytes()));
        assert!(marked.payload.is_ok());
        let twice = format!("\u{feff}\u{feff}{text}");
        assert!(IncomingEvent::from_json(twice.as_bytes()).payload.is_err());
    }

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
