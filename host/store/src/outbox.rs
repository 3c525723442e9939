//! The outbox: rows that were acknowledged and are not in the offline tables yet.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wafer_core::Timestamp;

use crate::Result;

/// A row that waits to be appended to an offline table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxRow {
    /// Name of the offline table.
    pub table: String,
    /// Event time of the row.
    pub event: Timestamp,
    /// When a request could first have seen the row.
    pub available: Timestamp,
    /// Creation time of the row.
    pub created: Timestamp,
    /// Identity of the event that the row comes from.
    pub event_id: String,
    /// The packed keys and features.
    #[serde(with = "crate::in_bytes")]
    pub values: Bytes,
    /// When the row came in, among the rows of its creation time; below 2^63. `None` for a row of a
    /// table whose rows are not ordered by it, or that was written before it was kept.
    // The last field, so that rows that were written without it can be read.
    #[serde(default)]
    pub order: Option<u64>,
}

/// An outbox row with its sequence number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxEntry {
    /// Position of the row in its table's outbox. Rises with each row, and is never reused.
    pub sequence: u64,
    /// The row.
    pub row: OutboxRow,
}

/// What waits in the outbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboxContents {
    /// Tables that have rows in the outbox, with the sequence number of the last one.
    pub tables: Vec<(String, u64)>,
    /// Names of commits that are not finished yet; their rows are not in the outbox yet.
    pub unfinished: Vec<String>,
    /// Names of finished commits whose rows cannot be read yet, because there are too many others
    /// before them. They can be read when those are trimmed.
    pub left_out: Vec<String>,
}

/// Holds the rows that [`commit_events`](crate::OnlineStore::commit_events) wrote for the offline
/// tables, until they are appended there. That makes acknowledged events durable before they
/// reach the tables.
#[async_trait]
pub trait Outbox: Debug + Send + Sync + 'static {
    /// Returns whether the outbox may have rows. Cheaper than [`waiting`](Self::waiting), for
    /// polling.
    async fn has_rows(&self) -> Result<bool>;

    /// Returns since when the outbox has had something that it still has, or `None` if it is empty.
    /// Cheaper than [`waiting`](Self::waiting), for monitoring: a remote store is asked once.
    ///
    /// It is the creation time of the oldest row. A store in which a commit may wait to be finished
    /// by another process returns when the oldest commit was begun, finished or not, by the clock
    /// of its writer's machine.
    ///
    /// # Errors
    /// Returns the errors of reading the store.
    async fn waiting_since(&self) -> Result<Option<Timestamp>>;

    /// Returns what waits in the outbox.
    ///
    /// Finishes commits whose process died, so only one process should call it at a time.
    async fn waiting(&self) -> Result<OutboxContents>;

    /// Returns the first rows of a table's outbox, oldest first, at most `limit`.
    async fn read(&self, table: &str, limit: usize) -> Result<Vec<OutboxEntry>>;

    /// Removes the rows of a table's outbox up to and including sequence number `through`.
    async fn trim(&self, table: &str, through: u64) -> Result<()>;
}
