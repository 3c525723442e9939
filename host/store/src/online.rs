//! The latest row of each entity, and the outbox.

use std::fmt::{Debug, Display};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wafer_core::aggregate::{is_item, merge_items};
use wafer_core::rules::{RowVersion, replaces};
use wafer_core::{EntityKey, Timestamp};

use crate::{Consumed, Error, Kind, Result};

/// Names one row: the version of a feature group, and an entity of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OnlineKey {
    /// Such as `plane_outcome_v1`; at most 64 bytes, without a zero byte.
    pub group: String,
    /// The entity's encoded join keys.
    pub entity: EntityKey,
}

/// What is stored of an entity: its newest row, or a summary of its events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnlineRow {
    /// Its event time, when it was created, and its event's identity.
    pub version: RowVersion,
    /// Says by which schema `values` was packed; the store only keeps it.
    pub fingerprint: u64,
    /// The packed features, an [item](wafer_core::aggregate::Item), or nothing:
    /// the entity was deleted.
    #[serde(with = "in_bytes")]
    pub values: Bytes,
}

impl OnlineRow {
    /// Says that an entity was deleted: facts up to this time are not stored again.
    pub fn tombstone(deleted: Timestamp) -> Self {
        Self {
            version: RowVersion {
                event: deleted,
                created: deleted,
                id: u64::MAX,
            },
            fingerprint: 0,
            values: Bytes::new(),
        }
    }

    /// Whether it says that its entity was deleted.
    pub fn is_tombstone(&self) -> bool {
        self.values.is_empty()
    }
}

/// The online write rule, which every backend applies: of rows the newer one
/// stays; events are added to an entity's summary; nothing of before its deletion
/// comes back. `None`: what is stored stays as it is.
///
/// # Errors
/// [`Kind::Corrupt`](crate::Kind::Corrupt) when what is stored cannot be read.
pub fn combine(stored: Option<&OnlineRow>, new: &OnlineRow) -> Result<Option<OnlineRow>> {
    match stored {
        Some(stored) if is_item(&new.values) && is_item(&stored.values) => {
            let values = merge_items(&stored.values, &new.values).map_err(|e| {
                Error::caused(Kind::Corrupt, "a stored summary of events is damaged", e)
            })?;
            Ok(Some(OnlineRow {
                version: stored.version.max(new.version),
                fingerprint: new.fingerprint,
                values: values.into(),
            }))
        }
        stored => {
            let applies = replaces(new.version, stored.map(|stored| stored.version));
            Ok(applies.then(|| new.clone()))
        }
    }
}

/// A row to be written, or events to be added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnlineWrite {
    /// Whose row it is.
    pub key: OnlineKey,
    /// The row.
    pub row: OnlineRow,
    /// When requests stop asking for it: its `ttl` and the time that it is answered
    /// `expired` are over. The store may forget it then. `None`: never.
    pub keep_until: Option<Timestamp>,
}

/// A write whose time is still to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlyWrite {
    /// When it is to be applied.
    pub due: Timestamp,
    /// What is written then.
    pub write: OnlineWrite,
}

/// Turns a row of the outbox into what it writes online, and when.
pub type FromOutbox = Arc<dyn Fn(&OutboxRow) -> Result<EarlyWrite> + Send + Sync>;

/// What a group holds online, to be put in the place of what it held.
#[derive(Clone)]
pub struct GroupContent {
    /// What is due.
    pub rows: Vec<OnlineWrite>,
    /// What is not due yet.
    pub early: Vec<EarlyWrite>,
    /// Rows of the group's outbox after this number are not in it yet, and are
    /// added.
    pub outbox_after: u64,
    /// How.
    pub from_outbox: FromOutbox,
    /// The present: what of the outbox is due.
    pub now: Timestamp,
}

impl Debug for GroupContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupContent")
            .field("rows", &self.rows.len())
            .field("early", &self.early.len())
            .finish_non_exhaustive()
    }
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    #[serde(with = "in_bytes")]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventCommit {
    /// Source that the event came from; ids are unique within it.
    pub source: String,
    /// Identity of the event.
    pub id: String,
    /// Until when the identity is remembered, to recognise a repetition.
    pub remember_until: Timestamp,
    /// What is due: applied by [`combine`].
    pub writes: Vec<OnlineWrite>,
    /// What is still to come: applied once it is due.
    pub early: Vec<EarlyWrite>,
    /// Rows for the offline tables.
    pub outbox: Vec<OutboxRow>,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventOutcome {
    /// It is stored, durably; so many of its writes were older than what was
    /// stored, and changed nothing online.
    Committed {
        /// Of its `writes`.
        older: u32,
    },
    /// An event of this identity is stored already; nothing was changed.
    Duplicate,
}

/// What is in the outbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Tables that have rows in it, with the number of rows.
    pub tables: Vec<(String, u64)>,
    /// Names of commits that are still being written: their rows will be in it.
    pub unfinished: Vec<String>,
}

/// The latest row per (group version, entity), with the outbox that makes
/// acknowledged events durable before they reach the offline tables.
///
/// Everything here is safe with several processes on one store, and every write
/// is durable when it returns.
#[async_trait]
pub trait OnlineStore: Debug + Display + Send + Sync + 'static {
    /// The rows of some keys as they are at `now`, in the order of the keys; `None`
    /// where there is none. Sees every write that returned before the call, and
    /// early rows that are due.
    async fn get_many(&self, keys: &[OnlineKey], now: Timestamp) -> Result<Vec<Option<OnlineRow>>>;

    /// Writes rows by [`combine`]. Each by itself is atomic; on an error some of
    /// them may have been written. Repeating is safe for rows; summaries of events
    /// would be added twice, and go through [`commit_events`](Self::commit_events).
    async fn put_many(&self, writes: Vec<OnlineWrite>) -> Result<PutCounts>;

    /// Commits events, each atomically and in order; the outcomes are in order
    /// too. Early rows that are due at `now` are applied first.
    async fn commit_events(
        &self,
        events: Vec<EventCommit>,
        now: Timestamp,
    ) -> Result<Vec<EventOutcome>>;

    /// Upkeep for a store that puts early rows aside: takes in those that are due,
    /// so that reads find them in their places.
    async fn apply_due(&self, now: Timestamp) -> Result<()>;

    /// Whether there is anything in the outbox: for those who look often.
    async fn has_outbox(&self) -> Result<bool>;

    /// What is in the outbox. Commits whose process died are finished on the way: to be
    /// asked by one process at a time.
    async fn waiting(&self) -> Result<Waiting>;

    /// The first rows of a table's outbox, oldest first, at most `limit`.
    async fn read_outbox(&self, table: &str, limit: usize) -> Result<Vec<OutboxEntry>>;

    /// Forgets the rows of a table's outbox up to a sequence number, included.
    async fn trim_outbox(&self, table: &str, through: u64) -> Result<()>;

    /// Puts content in the place of all that a group version has, early rows
    /// included, at once: readers see either. Tombstones stay.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when rows after `outbox_after` have left the outbox: they
    /// would be nowhere. Nothing is changed then.
    async fn replace_group(&self, group: &str, content: GroupContent) -> Result<()>;

    /// Writes tombstones and forgets early rows of their entities; rows of after
    /// `deleted` stay, summaries go as a whole.
    async fn delete(&self, keys: Vec<OnlineKey>, deleted: Timestamp) -> Result<()>;

    /// Number of entities that a group version has a row for, tombstones included.
    async fn count(&self, group: &str) -> Result<u64>;

    /// What its service charged for since this process opened it; nothing for a
    /// store without one.
    fn consumed(&self) -> Vec<Consumed> {
        Vec::new()
    }
}

/// `Bytes` as one piece, where the format has such.
mod in_bytes {
    use std::fmt;

    use bytes::Bytes;
    use serde::de::{Error, SeqAccess, Visitor};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        struct Found;

        impl<'de> Visitor<'de> for Found {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes::copy_from_slice(bytes))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Bytes, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = seq.next_element()? {
                    bytes.push(byte);
                }
                Ok(bytes.into())
            }
        }

        from.deserialize_bytes(Found)
    }
}
