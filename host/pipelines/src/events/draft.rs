//! Drafts: what an event will write, from its identity to the finished commit.

use std::fmt::Display;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use serde_json::Value as Json;
use wafer_core::rules::{available_from_event, available_from_file};
use wafer_core::{
    Duration, IncomingEvent, Timestamp, cut, encode_texts, number_identity, text_identity,
};
use wafer_store::{EventCommit, OutboxRow, Result};

use crate::events::arrivals::Arrivals;
use crate::events::event::Delivery;
use crate::group_rows::Target;

/// A row of a group that an event writes. It is encoded when the event is committed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    /// The position of the rows that it is one of, among all that the push made.
    pub(crate) made: usize,
    /// The position of the row in them.
    pub(crate) row: usize,
    /// The available time of the row.
    pub(crate) available: Timestamp,
    /// When the row is applied online.
    pub(crate) applied: WhenApplied,
}

/// When a row is applied online.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenApplied {
    Now,
    /// At this time.
    Later(Timestamp),
    /// Not before it is healed: it goes to the late table.
    WhenHealed,
}

/// An event on its way to a commit.
pub(crate) struct Draft {
    /// The commit that the event writes, or why the event is refused.
    pub(crate) commit: Result<EventCommit, String>,
    /// The rows that the event writes beside those that its commit has already.
    pub(crate) pending: Vec<Pending>,
    /// The latest event time of the event's rows.
    pub(crate) latest: Option<Timestamp>,
    /// Whether an event with a later event time came in before.
    pub(crate) late: bool,
    /// Whether a row of the event goes to a late table.
    pub(crate) too_late: bool,
    /// Whether a row of the event was left out because its entity was deleted.
    pub(crate) has_deleted_rows: bool,
    /// The rows for quarantine tables, if the event is refused.
    pub(crate) quarantine: Vec<OutboxRow>,
    /// The identity of the event.
    pub(crate) id: String,
}

/// The times and settings by which the events of one push are judged.
#[derive(Clone, Copy)]
pub(crate) struct IngestTerms<'a> {
    /// The present.
    pub(crate) now: Timestamp,
    /// Whether the events come in now or are history.
    pub(crate) delivery: Delivery,
    /// How far in the future an event time may lie.
    pub(crate) skew: Duration,
    /// The delay of the source.
    pub(crate) delay: Duration,
    /// How old an event may be; with `None` no event is too late.
    pub(crate) lateness: Option<Duration>,
    /// Numbers the rows of this push and of all others in the order in which they come in.
    pub(crate) arrivals: &'a Arrivals,
    /// How often functions were over a size so far, in this push.
    pub(crate) over_size: &'a OverSize,
}

/// How often a function took too much memory or returned too much for the events of one push.
///
/// Such a call may fill its memory before it fails, which takes long. So only a few events are
/// looked for that cause it; a function that has too little memory for all events fails the push.
#[derive(Debug, Default)]
pub(crate) struct OverSize(AtomicU32);

impl OverSize {
    /// The number of calls after which no further events are looked for. To find one of 4,096
    /// events takes 13 such calls.
    const CALLS: u32 = 64;

    /// Counts a call. Returns whether there were too many.
    pub(crate) fn count(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed) >= Self::CALLS
    }
}

impl IngestTerms<'_> {
    /// Returns the available time of a row.
    pub(crate) fn available(self, event: Timestamp) -> Timestamp {
        match self.delivery {
            Delivery::Now => available_from_event(event, self.now),
            Delivery::Backfill => available_from_file(event, self.delay),
        }
    }
}

/// Packs texts as a row of a table without keys. One of them is an event, which may be large.
fn packed_texts(texts: &[&dyn Display]) -> Bytes {
    let mut bytes = Vec::new();
    encode_texts(texts, &mut bytes);
    bytes.into()
}

impl Draft {
    /// Creates a draft with the identity of the event and without writes. The draft is refused
    /// if the event cannot be read or lacks its identity.
    pub(crate) fn new(
        event: &IncomingEvent,
        source: &str,
        id_field: Option<&str>,
        until: Timestamp,
    ) -> Self {
        let id = event_id(event, id_field).map_err(cut);
        let commit = id.clone().map(|id| EventCommit {
            source: source.to_owned(),
            id,
            remember_until: until,
            writes: Vec::new(),
            early: Vec::new(),
            outbox: Vec::new(),
        });
        Self {
            commit,
            pending: Vec::new(),
            latest: None,
            late: false,
            too_late: false,
            has_deleted_rows: false,
            quarantine: Vec::new(),
            id: id.unwrap_or_else(|_| content_id(event)),
        }
    }

    /// Refuses the event, unless it is refused already. If the event could be read, it is put
    /// into the quarantine of the target.
    pub(crate) fn refuse(
        &mut self,
        reason: String,
        target: &Target,
        event: &IncomingEvent,
        now: Timestamp,
    ) {
        if self.commit.is_err() {
            return;
        }
        let reason = cut(reason);
        if let Ok(payload) = &event.payload {
            let source = self.commit.as_ref().map_or("", |commit| &commit.source);
            let values = packed_texts(&[&reason, &source, payload]);
            self.quarantine.push(OutboxRow {
                table: target.group.quarantine_table().name,
                event: now,
                available: now,
                created: now,
                event_id: self.id.clone(),
                values,
                order: None,
            });
        }
        self.commit = Err(reason);
    }

    /// Does not keep the content of an event that has a row of a deleted entity. If it was refused
    /// because of another row, it leaves nothing in the quarantine, which a deletion that is over
    /// does not search again. If all its rows were left out, it is refused.
    pub(crate) fn forget_deleted(&mut self) {
        if !self.has_deleted_rows {
            return;
        }
        self.quarantine.clear();
        let writes_nothing = |commit: &EventCommit| commit.outbox.is_empty();
        if self.pending.is_empty() && self.commit.as_ref().is_ok_and(writes_nothing) {
            let reason = "its entity was deleted after it happened, so the event is not accepted";
            self.commit = Err(reason.to_owned());
        }
    }

    /// Returns whether a row of the event is not due yet.
    pub(crate) fn is_early(&self) -> bool {
        let mut pending = self.pending.iter();
        pending.any(|pending| matches!(pending.applied, WhenApplied::Later(_)))
    }

    /// Adds the raw event to the rows for the archive table, if the source has one and no row of
    /// the event was left out. `archive` is the archive table and the tables that the event is
    /// written to.
    pub(crate) fn archive(
        &mut self,
        event: &IncomingEvent,
        archive: Option<&(String, String)>,
        terms: IngestTerms<'_>,
    ) {
        let now = terms.now;
        let (Ok(commit), Ok(payload), Some((table, tables))) =
            (&mut self.commit, &event.payload, archive)
        else {
            return;
        };
        if self.has_deleted_rows {
            return;
        }
        // The raw event has the available time of its rows: events of a backfill were available
        // when they happened, not when they came in.
        let available = match terms.delivery {
            Delivery::Now => now,
            Delivery::Backfill => self.latest.map_or(now, |latest| terms.available(latest)),
        };
        commit.outbox.push(OutboxRow {
            table: table.clone(),
            event: now,
            available,
            created: now,
            event_id: commit.id.clone(),
            values: packed_texts(&[payload, tables]),
            order: Some(terms.arrivals.take(1)),
        });
    }

    /// Marks the event as late if its event time is before the watermark. Returns the watermark
    /// after this event.
    pub(crate) fn compare_with_watermark(&mut self, watermark: Timestamp) -> Timestamp {
        let Some(latest) = self.latest else {
            return watermark;
        };
        self.late = latest < watermark;
        watermark.max(latest)
    }
}

/// Returns the identity of an event that has no other: the digest of its content.
fn content_id(event: &IncomingEvent) -> String {
    event.content.hex()[..32].to_owned()
}

/// Returns the identity of an event: the value of the source's identity field if it has one,
/// else the identity that the event came with, else the digest of its content.
pub(crate) fn event_id(event: &IncomingEvent, id_field: Option<&str>) -> Result<String, String> {
    let payload = event.payload.as_ref().map_err(Clone::clone)?;
    let id = match id_field {
        None => event.id.clone(),
        Some(field) => match payload.get(field) {
            // All events without an identity would be the same one.
            Some(Json::String(id)) if id.is_empty() => {
                return Err(format!("field `{field}`, its identity, is empty"));
            }
            Some(Json::String(id)) => {
                let id = text_identity(id);
                let id = id.map_err(|reason| format!("field `{field}`, its identity, {reason}"))?;
                Some(id.into_owned())
            }
            Some(Json::Number(id)) if is_exact(id) => Some(number_identity(&id.to_string())),
            Some(Json::Number(id)) => {
                return Err(format!(
                    "field `{field}`, its identity, is {id} or near it: a number of so many digits \
                     is not kept exactly, and other events would have the same; send it as text"
                ));
            }
            _ => {
                return Err(format!(
                    "field `{field}`, its identity, is missing or neither text nor number"
                ));
            }
        },
    };
    Ok(id.unwrap_or_else(|| content_id(event)))
}

/// Returns whether a number is the one that was sent. Of integers that fit into 64 bits all digits
/// are kept. Others are floats, of which different ones can be equal from 2^53 on.
fn is_exact(number: &serde_json::Number) -> bool {
    let is_integer = number.is_i64() || number.is_u64();
    is_integer
        || number
            .as_f64()
            .is_some_and(|float| float.abs() < 9_007_199_254_740_992.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn identity_is_the_field_or_came_with_the_event_or_is_its_content() {
        let text = br#"{"n": 7, "d": "7", "t": "x", "b": true, "o": "", "s": " "}"#;
        let content = content_id(&IncomingEvent::from_json(text));
        let missing = |field| {
            Err(format!(
                "field `{field}`, its identity, is missing or neither text nor number"
            ))
        };
        for (came_with, field, wanted) in [
            (None, None, Ok(content)),
            (Some("e"), None, Ok("e".to_owned())),
            (Some("e"), Some("t"), Ok("x".to_owned())),
            // The number 7 and the text "7" are different identities.
            (None, Some("n"), Ok(" 7".to_owned())),
            (None, Some("d"), Ok("7".to_owned())),
            (Some("e"), Some("s"), Ok(" ".to_owned())),
            (
                Some("e"),
                Some("o"),
                Err("field `o`, its identity, is empty".to_owned()),
            ),
            (Some("e"), Some("b"), missing("b")),
            (Some("e"), Some("other"), missing("other")),
        ] {
            let event = IncomingEvent {
                id: came_with.map(str::to_owned),
                ..IncomingEvent::from_json(text)
            };
            assert_eq!(event_id(&event, field), wanted, "{came_with:?} {field:?}");
        }
        for (number, is_kept) in [
            ("9007199254740993", true),
            ("18446744073709551615", true),
            ("18446744073709551616", false),
            ("100000000000000000000001", false),
            ("1e300", false),
            ("1.5", true),
        ] {
            let event = IncomingEvent::from_json(format!("{{\"n\": {number}}}").as_bytes());
            let id = event_id(&event, Some("n"));
            assert_eq!(id.is_ok(), is_kept, "{number}: {id:?}");
            assert!(!is_kept || id == Ok(format!(" {number}")), "{number}");
        }
        let long = format!("{{\"t\": \"{}\"}}", "x".repeat(1_025));
        let long = event_id(&IncomingEvent::from_json(long.as_bytes()), Some("t"));
        let long = long.unwrap_err();
        assert!(long.starts_with("field `t`, its identity, is 1025 bytes long"));
        let unread = event_id(&IncomingEvent::from_json(b"{"), Some("t"));
        assert!(unread.is_err_and(|reason| reason.contains("is not JSON")));
    }

    #[test]
    fn event_is_late_if_it_happened_before_the_watermark() {
        for (watermark, latest, is_late, wanted) in [
            (10, None, false, 10),
            (10, Some(9), true, 10),
            (10, Some(10), false, 10),
            (10, Some(11), false, 11),
        ] {
            let mut draft = Draft {
                latest: latest.map(at),
                ..Draft::new(&IncomingEvent::from_json(b"{}"), "s", None, at(0))
            };
            let found = draft.compare_with_watermark(at(watermark));
            assert_eq!((found, draft.late), (at(wanted), is_late), "{latest:?}");
        }
    }

    fn outbox_row(table: &str) -> OutboxRow {
        OutboxRow {
            table: table.to_owned(),
            event: at(0),
            available: at(0),
            created: at(0),
            event_id: "e".to_owned(),
            values: Bytes::new(),
            order: None,
        }
    }

    #[test]
    fn refused_event_with_a_row_of_a_deleted_entity_leaves_no_content() {
        for (has_deleted_rows, wanted) in [(false, 1), (true, 0)] {
            let mut draft = Draft {
                commit: Err("another row is wrong".to_owned()),
                has_deleted_rows,
                quarantine: vec![outbox_row("t_quarantine")],
                ..Draft::new(&IncomingEvent::from_json(b"{}"), "s", None, at(0))
            };
            draft.forget_deleted();
            assert_eq!(draft.quarantine.len(), wanted);
            assert_eq!(draft.commit, Err("another row is wrong".to_owned()));
        }
    }

    #[test]
    fn event_is_refused_if_all_its_rows_were_of_deleted_entities() {
        for (has_deleted_rows, outbox, is_refused) in [
            (false, vec![], false),
            (true, vec![], true),
            // Another row of the event is kept.
            (true, vec![outbox_row("t")], false),
        ] {
            let mut draft = Draft::new(&IncomingEvent::from_json(b"{}"), "s", None, at(0));
            draft.has_deleted_rows = has_deleted_rows;
            let rows = outbox.len();
            draft.commit.as_mut().unwrap().outbox = outbox;
            draft.forget_deleted();
            assert_eq!(
                draft.commit.is_err(),
                is_refused,
                "{has_deleted_rows} {rows}"
            );
        }
    }
}
