//! Events as they come in, and what became of them.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use wafer_core::Digest;
use wafer_store::Result;

/// An event as it came in.
#[derive(Clone, Debug, PartialEq)]
pub struct IncomingEvent {
    /// Its fields; or why it could not be read.
    pub payload: Result<Json, String>,
    /// Its identity, if it came with one.
    pub id: Option<String>,
    /// Digest of its content as it came, its identity when it has no other.
    pub content: Digest,
}

impl IncomingEvent {
    /// An event from the text of a JSON object.
    pub fn from_json(text: &[u8]) -> Self {
        let payload = serde_json::from_slice(text).map_err(|e| format!("is not JSON: {e}"));
        Self {
            payload,
            id: None,
            content: Digest::of(text),
        }
    }
}

/// How events that come in are dated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// They come in now.
    Now,
    /// They are history: each came in when it happened, plus the source's delay.
    Backfill,
}

/// What became of one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum EventResult {
    /// It is durable, and readable online.
    Accepted,
    /// It is durable, and older than the source's `lateness` allows: it waits in
    /// the late table until it is healed.
    TooLate,
    /// It had been accepted before; nothing was changed.
    Duplicate,
    /// It was refused, and left nothing behind but a row in the quarantine table.
    Rejected {
        /// Why.
        error: String,
    },
}

/// What became of the events of one push, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngestReport {
    /// Events that are durable now.
    pub accepted: usize,
    /// Events that were durable before.
    pub duplicate: usize,
    /// Events that were refused.
    pub rejected: usize,
    /// Of the accepted ones, those that an event with a later time came before.
    pub late: usize,
    /// Of the accepted ones, those that wait in a late table.
    pub too_late: usize,
    /// Of the accepted ones, those that changed nothing online, as what was stored
    /// is newer.
    pub older: usize,
    /// Of the accepted ones, those that are applied online once they are due.
    pub early: usize,
    /// Each of them.
    pub events: Vec<EventResult>,
}

impl IngestReport {
    /// Adds another report's numbers, and its events after these.
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
