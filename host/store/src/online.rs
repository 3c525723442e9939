//! The latest row of each entity, and the outbox.

use std::fmt::{Debug, Display};

use async_trait::async_trait;
use bytes::Bytes;
use wafer_core::rules::RowVersion;
use wafer_core::{EntityKey, Timestamp};

use crate::Result;

/// Names one row: the version of a feature group, and an entity of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OnlineKey {
    /// Such as `plane_outcome@1`; at most 64 bytes, without a zero byte.
    pub group: String,
    /// The entity's encoded join keys.
    pub entity: EntityKey,
}

/// The stored row of an entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnlineRow {
    /// Its event time and when it was created; the newer row wins.
    pub version: RowVersion,
    /// Says by which schema `values` was packed; the store only keeps it.
    pub fingerprint: u64,
    /// The packed features.
    pub values: Bytes,
}

/// A row to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnlineWrite {
    /// Whose row it is.
    pub key: OnlineKey,
    /// The row.
    pub row: OnlineRow,
}

/// What became of some writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PutCounts {
    /// Rows that are now stored.
    pub applied: u64,
    /// Rows that a newer one, or the same one, stood in the way of.
    pub older: u64,
}

/// A row on its way to an offline table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// The table it belongs to.
    pub table: String,
    /// When the fact held.
    pub event: Timestamp,
    /// When a request could first have seen it.
    pub available: Timestamp,
    /// When its writing was claimed.
    pub created: Timestamp,
    /// Identity of the event it came from.
    pub event_id: String,
    /// The packed keys and features.
    pub values: Bytes,
}

/// A row of the outbox with its place in the order of its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxEntry {
    /// Rises with each row of the table, and is never used twice.
    pub sequence: u64,
    /// The row.
    pub row: OutboxRow,
}

/// One event, ready to be committed: what it is known by, and everything that
/// it writes. All of it happens, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventCommit {
    /// Source that the event came from; ids are unique within it.
    pub source: String,
    /// Identity of the event.
    pub id: String,
    /// Until when the identity is remembered, to recognise a repetition.
    pub remember_until: Timestamp,
    /// Rows that are due: applied by the newest-wins rule.
    pub writes: Vec<OnlineWrite>,
    /// Rows whose event time is still to come: applied once it has.
    pub early: Vec<OnlineWrite>,
    /// Rows for the offline tables.
    pub outbox: Vec<OutboxRow>,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventOutcome {
    /// It is stored, durably.
    Committed,
    /// An event of this identity is stored already; nothing was changed.
    Duplicate,
}

/// The latest row per (group version, entity), with the outbox that makes
/// acknowledged events durable before they reach the offline tables.
///
/// Everything here is safe with several processes on one store, and every write
/// is durable when it returns.
#[async_trait]
pub trait OnlineStore: Debug + Display + Send + Sync + 'static {
    /// The rows of some keys, in the order of the keys; `None` where there is
    /// none. Sees every write that returned before the call.
    async fn get_many(&self, keys: &[OnlineKey]) -> Result<Vec<Option<OnlineRow>>>;

    /// Writes rows by the newest-wins rule. Each row by itself is atomic; on an
    /// error some of them may have been written, and repeating is safe.
    async fn put_many(&self, writes: Vec<OnlineWrite>) -> Result<PutCounts>;

    /// Commits events, each atomically and in order; the outcomes are in order
    /// too. Early rows that are due at `now` are applied first.
    async fn commit_events(
        &self,
        events: Vec<EventCommit>,
        now: Timestamp,
    ) -> Result<Vec<EventOutcome>>;

    /// Applies early rows that are due at `now`; says how many were.
    async fn apply_due(&self, now: Timestamp) -> Result<u64>;

    /// Tables that have rows in the outbox, with the number of rows.
    async fn outbox_tables(&self) -> Result<Vec<(String, u64)>>;

    /// The first rows of a table's outbox, oldest first, at most `limit`.
    async fn read_outbox(&self, table: &str, limit: usize) -> Result<Vec<OutboxEntry>>;

    /// Forgets the rows of a table's outbox up to a sequence number, included.
    async fn trim_outbox(&self, table: &str, through: u64) -> Result<()>;

    /// Number of entities that a group version has a row for.
    async fn count(&self, group: &str) -> Result<u64>;
}
