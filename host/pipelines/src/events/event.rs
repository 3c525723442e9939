//! How events are delivered, and the report of what became of them.

use serde::{Deserialize, Serialize};

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
