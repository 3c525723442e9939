//! The online store: the latest row of each entity, and the commits of events.

use std::fmt::{Debug, Display};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wafer_core::aggregate::{is_item, merge_items};
use wafer_core::rules::{RowVersion, replaces};
use wafer_core::{Duration, EntityKey, Timestamp};

use crate::{Error, Kind, OutboxRow, Result};

/// The key of an online row: a version of a feature group, and an entity.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OnlineKey {
    /// Name and version of the feature group, such as `plane_outcome_v1`. At most 64 bytes,
    /// without a zero byte.
    pub group: String,
    /// The encoded join keys of the entity.
    pub entity: EntityKey,
}

/// The stored state of an entity: its newest row, a summary of its events (an aggregate
/// [item](wafer_core::aggregate::Item)), or a tombstone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnlineRow {
    /// Event time, creation time and order of arrival of the row. Orders the rows of an entity.
    pub version: RowVersion,
    /// Fingerprint of the schema that `values` was packed with. The store does not interpret
    /// it.
    pub fingerprint: u64,
    /// The packed features, or an encoded aggregate item. Empty for a tombstone.
    #[serde(with = "crate::in_bytes")]
    pub values: Bytes,
}

impl OnlineRow {
    /// Creates a tombstone: the entity was deleted, and rows with an event time up to
    /// `deleted` are not stored again.
    pub fn tombstone(deleted: Timestamp) -> Self {
        Self {
            version: RowVersion {
                event: deleted,
                created: deleted,
                order: u64::MAX,
            },
            fingerprint: 0,
            values: Bytes::new(),
        }
    }

    /// Returns whether this is a tombstone: its entity was deleted.
    pub fn is_tombstone(&self) -> bool {
        self.values.is_empty()
    }
}

/// The online write rule, which every backend applies.
///
/// Two summaries of events are merged. Otherwise the row with the higher version is kept, so
/// that a tombstone also keeps out older rows. Returns the row to store, or `None` if the
/// stored row stays as it is.
///
/// # Errors
/// Returns [`Kind::Corrupt`](crate::Kind::Corrupt) when a summary cannot be decoded.
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

/// A row to write, or a summary of events to add.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnlineWrite {
    /// Group version and entity of the row.
    pub key: OnlineKey,
    /// The row, or the summary.
    pub row: OnlineRow,
    /// When the store may forget the row: after its `ttl` and the time during which requests
    /// are answered `expired`. `None` means never.
    pub keep_until: Option<Timestamp>,
}

/// A write that is applied later, because its row has an event time in the future.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlyWrite {
    /// When the write is applied.
    pub due: Timestamp,
    /// The write.
    pub write: OnlineWrite,
}

/// Converts an outbox row into its online write and the time when that is due.
pub type FromOutbox = Arc<dyn Fn(&OutboxRow) -> Result<EarlyWrite> + Send + Sync>;

/// The new online content of a group version, for
/// [`replace_group`](OnlineStore::replace_group).
#[derive(Clone)]
pub struct GroupContent {
    /// Rows that are due.
    pub rows: Vec<OnlineWrite>,
    /// Rows that are not due yet.
    pub early: Vec<EarlyWrite>,
    /// Sequence number of the last outbox row that `rows` and `early` include. Later rows of
    /// the group's outbox are added to the content.
    pub outbox_after: u64,
    /// Converts the outbox rows that are added.
    pub from_outbox: FromOutbox,
    /// The current time, which decides which outbox rows are due.
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

/// Counts of the outcomes of [`put_many`](OnlineStore::put_many).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PutCounts {
    /// Number of rows that were stored.
    pub applied: u64,
    /// Number of rows that were not stored, because a row of the same or a newer version was
    /// already stored.
    pub older: u64,
}

/// One event with everything that it writes. It is committed atomically.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventCommit {
    /// Name of the source that the event came from. Identities are unique within a source.
    pub source: String,
    /// Identity of the event.
    pub id: String,
    /// Until when the identity is remembered, to recognise duplicates.
    pub remember_until: Timestamp,
    /// Writes that are due; applied by [`combine`].
    pub writes: Vec<OnlineWrite>,
    /// Writes that are not due yet; applied when they are.
    pub early: Vec<EarlyWrite>,
    /// Rows for the offline tables.
    pub outbox: Vec<OutboxRow>,
}

/// The outcome of committing one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventOutcome {
    /// The event is stored durably.
    Committed {
        /// Number of its `writes` that changed nothing, because a row of the same or a newer
        /// version was already stored.
        older: u32,
    },
    /// An event of this identity was already stored; nothing was changed.
    Duplicate,
}

/// Counts what a read takes into memory. It is called with the bytes of all values of the read by
/// then, before the last of them are taken, and its error ends the read.
pub type CountRead<'a> = &'a (dyn Fn(u64) -> Result<()> + Send + Sync);

/// Stores the latest row of each entity of each group version.
///
/// A backend that commits events is an [`Outbox`](crate::Outbox) as well, because a commit writes
/// the rows for the offline tables together with those for requests.
///
/// Several processes can share one store. Every write is durable when it returns.
#[async_trait]
pub trait OnlineStore: Debug + Display + Send + Sync + 'static {
    /// Returns the rows of `keys` as they are at `now`, in the order of the keys, with `None`
    /// for entities that have no row or were deleted.
    ///
    /// Sees every write that returned before the call, and the early rows that are due at
    /// `now`. A backend can offer weaker reads as a setting. Changes nothing: whatever time a
    /// reader asks for, other readers see what they saw before.
    async fn get_many(&self, keys: &[OnlineKey], now: Timestamp) -> Result<Vec<Option<OnlineRow>>> {
        self.get_many_counted(keys, now, &|_| Ok(())).await
    }

    /// Reads rows like [`get_many`](Self::get_many), and counts the bytes of their values as they
    /// are read. A remote store counts what an answer brought when it is there.
    ///
    /// # Errors
    /// Returns the error of `count`.
    async fn get_many_counted(
        &self,
        keys: &[OnlineKey],
        now: Timestamp,
        count: CountRead<'_>,
    ) -> Result<Vec<Option<OnlineRow>>>;

    /// Writes rows by [`combine`].
    ///
    /// Each write is atomic by itself; on an error some of the writes may have happened.
    /// Repeating the call is safe for rows, but would add summaries of events twice: use
    /// [`commit_events`](Self::commit_events) for those.
    async fn put_many(&self, writes: Vec<OnlineWrite>) -> Result<PutCounts>;

    /// Commits events in order, each one atomically, and returns their outcomes in the same
    /// order. Early rows that are due at `now` are applied first, and identities that are
    /// remembered until an earlier time are forgotten. Neither can be undone, so `now` must be a
    /// time that has come for everybody.
    async fn commit_events(
        &self,
        events: Vec<EventCommit>,
        now: Timestamp,
    ) -> Result<Vec<EventOutcome>>;

    /// Returns the time after which a commit of events that was asked for is durable, or never will
    /// be, unless its process was suspended. Whoever has to read the events that were taken in
    /// before a moment waits for that long.
    fn commits_within(&self) -> Duration {
        Duration::from_secs(2)
    }

    /// Returns how many bytes the values of a row may take, as [`wafer_core::value_bytes`] counts
    /// them. Whoever makes a row that takes more rejects it: once it is committed, its event is
    /// acknowledged.
    ///
    /// What a store holds of an entity may grow beyond its room even so, because a summary has
    /// values of many events. Reads of that entity fail then.
    fn max_row_bytes(&self) -> u64 {
        u64::MAX
    }

    /// Replaces everything that a group version holds, early rows included, atomically:
    /// readers see either the old or the new content. Tombstones stay.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when rows after `outbox_after` have left the outbox, because
    /// the new content would lack them. Nothing is changed then.
    async fn replace_group(&self, group: &str, content: GroupContent) -> Result<()>;

    /// Deletes entities: writes tombstones, and removes the entities' early rows up to
    /// `deleted`.
    ///
    /// A row with an event time after `deleted` stays. A summary is removed as a whole, even
    /// if some of its events are later.
    async fn delete(&self, keys: Vec<OnlineKey>, deleted: Timestamp) -> Result<()>;

    /// Returns the number of entities that have a row in a group version, tombstones included.
    async fn count(&self, group: &str) -> Result<u64>;
}
