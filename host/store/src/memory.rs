//! A store in memory, for tests.

mod overrides;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use wafer_core::Timestamp;
use wafer_core::aggregate::is_item;

use crate::online::combine;
use crate::{
    CountRead, EarlyWrite, Error, EventCommit, EventOutcome, Expect, GroupContent, Kind,
    MetadataStore, Metered, OnlineKey, OnlineRow, OnlineStore, OnlineWrite, Outbox, OutboxContents,
    OutboxEntry, OutboxRow, PutCounts, Result, Upkeep, Versioned,
};

pub use self::overrides::{Overridden, OverriddenCalls};

/// An online and metadata store in memory.
///
/// It keeps the contract of the traits except for durability: its content is gone when it is
/// dropped. With it, the crates that use stores are tested without a folder on disk. A test that
/// wants a call to fail overrides it ([`OverriddenCalls`]).
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Content>);

#[derive(Debug, Default)]
struct Content {
    online: BTreeMap<OnlineKey, OnlineRow>,
    /// Early rows by due time, and by the order in which they came.
    early: BTreeMap<(Timestamp, u64), OnlineWrite>,
    /// Until when the identities of committed events are remembered, by source and identity.
    seen: HashMap<(String, String), Timestamp>,
    outbox: BTreeMap<String, BTreeMap<u64, OutboxRow>>,
    /// Last sequence number of each table's outbox.
    sequences: HashMap<String, u64>,
    /// Number of early rows that were ever stored.
    early_rows: u64,
    metadata: BTreeMap<String, Versioned>,
}

impl MemoryStore {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory")
    }
}

impl Content {
    /// Writes a row by [`combine`], and returns whether that changed anything.
    fn put(&mut self, write: &OnlineWrite) -> Result<bool> {
        let combined = combine(self.online.get(&write.key), &write.row)?;
        let changed = combined.is_some();
        if let Some(row) = combined {
            self.online.insert(write.key.clone(), row);
        }
        Ok(changed)
    }

    fn put_early(&mut self, early: &EarlyWrite) {
        self.early_rows += 1;
        let place = (early.due, self.early_rows);
        self.early.insert(place, early.write.clone());
    }

    /// Returns the row of an entity as it is at `now`, and changes nothing.
    fn row_at(&self, key: &OnlineKey, now: Timestamp) -> Result<Option<OnlineRow>> {
        let mut row = self.online.get(key).cloned();
        let due = self.early.range(..=(now, u64::MAX));
        for (_, early) in due.filter(|(_, early)| early.key == *key) {
            row = combine(row.as_ref(), &early.row)?.or(row);
        }
        Ok(row.filter(|row| !row.is_tombstone()))
    }

    fn apply_due(&mut self, now: Timestamp) -> Result<()> {
        while let Some(first) = self.early.first_entry()
            && first.key().0 <= now
        {
            let write = first.remove();
            self.put(&write)?;
        }
        Ok(())
    }

    fn commit(&mut self, event: &EventCommit) -> Result<EventOutcome> {
        let identity = (event.source.clone(), event.id.clone());
        if self.seen.contains_key(&identity) {
            return Ok(EventOutcome::Duplicate);
        }
        self.seen.insert(identity, event.remember_until);
        let mut older = 0;
        for write in &event.writes {
            older += u32::from(!self.put(write)?);
        }
        event.early.iter().for_each(|early| self.put_early(early));
        for row in &event.outbox {
            let sequence = self.sequences.entry(row.table.clone()).or_default();
            *sequence += 1;
            let rows = self.outbox.entry(row.table.clone()).or_default();
            rows.insert(*sequence, row.clone());
        }
        Ok(EventOutcome::Committed { older })
    }

    /// Returns the sequence number of the last row that has been trimmed from a table's outbox.
    fn trimmed_through(&self, table: &str) -> u64 {
        let first = self.outbox.get(table).and_then(|rows| rows.keys().next());
        match first {
            Some(first) => first - 1,
            None => self.sequences.get(table).copied().unwrap_or_default(),
        }
    }
}

#[async_trait]
impl OnlineStore for MemoryStore {
    async fn get_many_counted(
        &self,
        keys: &[OnlineKey],
        now: Timestamp,
        count: CountRead<'_>,
    ) -> Result<Vec<Option<OnlineRow>>> {
        let content = self.content();
        let mut bytes = 0;
        let mut read = |key: &OnlineKey| {
            let row = content.row_at(key, now)?;
            bytes += row.as_ref().map_or(0, |row| row.values.len() as u64);
            count(bytes).map(|()| row)
        };
        keys.iter().map(&mut read).collect()
    }

    async fn put_many(&self, writes: Vec<OnlineWrite>) -> Result<PutCounts> {
        let mut content = self.content();
        let mut counts = PutCounts::default();
        for write in &writes {
            match content.put(write)? {
                true => counts.applied += 1,
                false => counts.older += 1,
            }
        }
        Ok(counts)
    }

    async fn commit_events(
        &self,
        events: Vec<EventCommit>,
        now: Timestamp,
    ) -> Result<Vec<EventOutcome>> {
        let mut content = self.content();
        content.apply_due(now)?;
        content.seen.retain(|_, until| *until >= now);
        events.iter().map(|event| content.commit(event)).collect()
    }

    async fn replace_group(&self, group: &str, new: GroupContent) -> Result<()> {
        let mut content = self.content();
        if content.trimmed_through(group) > new.outbox_after {
            let message = format!("rows of `{group}` left the outbox meanwhile; try again");
            return Err(Error::new(Kind::Conflict, message));
        }
        let later = content.outbox.get(group).into_iter().flatten();
        let later: Vec<EarlyWrite> = later
            .filter(|(sequence, _)| **sequence > new.outbox_after)
            .map(|(_, row)| (new.from_outbox)(row))
            .collect::<Result<_>>()?;
        let is_kept = |key: &OnlineKey, row: &OnlineRow| key.group != group || row.is_tombstone();
        content.online.retain(|key, row| is_kept(key, row));
        content.early.retain(|_, write| write.key.group != group);
        for write in &new.rows {
            content.put(write)?;
        }
        for early in new.early.iter().chain(&later) {
            match early.due <= new.now {
                true => drop(content.put(&early.write)?),
                false => content.put_early(early),
            }
        }
        Ok(())
    }

    async fn delete(&self, keys: Vec<OnlineKey>, deleted: Timestamp) -> Result<()> {
        let mut content = self.content();
        content
            .early
            .retain(|_, write| !keys.contains(&write.key) || write.row.version.event > deleted);
        for key in keys {
            let stored = content.online.get(&key);
            // A newer row stays. A newer summary does not, because it includes older events as
            // well.
            let stays =
                stored.is_some_and(|row| !is_item(&row.values) && row.version.event > deleted);
            if !stays {
                content.online.insert(key, OnlineRow::tombstone(deleted));
            }
        }
        Ok(())
    }

    async fn count(&self, group: &str) -> Result<u64> {
        let content = self.content();
        let keys = content.online.keys().filter(|key| key.group == group);
        Ok(keys.count() as u64)
    }
}

#[async_trait]
impl Upkeep for MemoryStore {
    async fn apply_due(&self, now: Timestamp) -> Result<()> {
        self.content().apply_due(now)
    }

    async fn check_room(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Outbox for MemoryStore {
    async fn has_rows(&self) -> Result<bool> {
        Ok(self.content().outbox.values().any(|rows| !rows.is_empty()))
    }

    async fn waiting_since(&self) -> Result<Option<Timestamp>> {
        let content = self.content();
        let rows = content.outbox.values().flat_map(BTreeMap::values);
        Ok(rows.map(|row| row.created).min())
    }

    async fn waiting(&self) -> Result<OutboxContents> {
        let content = self.content();
        let last = |(table, rows): (&String, &BTreeMap<u64, OutboxRow>)| {
            Some((table.clone(), *rows.keys().next_back()?))
        };
        Ok(OutboxContents {
            tables: content.outbox.iter().filter_map(last).collect(),
            ..OutboxContents::default()
        })
    }

    async fn read(&self, table: &str, limit: usize) -> Result<Vec<OutboxEntry>> {
        let content = self.content();
        let rows = content.outbox.get(table).into_iter().flatten().take(limit);
        let entry = |(sequence, row): (&u64, &OutboxRow)| OutboxEntry {
            sequence: *sequence,
            row: row.clone(),
        };
        Ok(rows.map(entry).collect())
    }

    async fn trim(&self, table: &str, through: u64) -> Result<()> {
        if let Some(rows) = self.content().outbox.get_mut(table) {
            rows.retain(|sequence, _| *sequence > through);
        }
        Ok(())
    }
}

impl Metered for MemoryStore {}

impl Content {
    /// Checks that an object is in the state that `expect` requires. Returns its version, or 0 if
    /// it does not exist.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when it is in another state.
    fn check_version(&self, name: &str, expect: Expect) -> Result<u64> {
        let version = self.metadata.get(name).map_or(0, |stored| stored.version);
        let holds = match expect {
            Expect::Absent => version == 0,
            Expect::Version(wanted) => version == wanted,
            Expect::Anything => true,
        };
        match holds {
            true => Ok(version),
            false => Err(Error::new(
                Kind::Conflict,
                format!("`{name}` was changed by somebody else"),
            )),
        }
    }
}

#[async_trait]
impl MetadataStore for MemoryStore {
    async fn get(&self, name: &str) -> Result<Option<Versioned>> {
        Ok(self.content().metadata.get(name).cloned())
    }

    async fn put(&self, name: &str, value: Bytes, expect: Expect) -> Result<u64> {
        crate::metadata::check_object(name, &value)?;
        let mut content = self.content();
        let version = content.check_version(name, expect)? + 1;
        let stored = Versioned { version, value };
        content.metadata.insert(name.to_owned(), stored);
        Ok(version)
    }

    async fn delete(&self, name: &str, expect: Expect) -> Result<()> {
        let mut content = self.content();
        content.check_version(name, expect)?;
        content.metadata.remove(name);
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, Versioned)>> {
        let content = self.content();
        let objects = content.metadata.range(prefix.to_owned()..);
        let objects = objects.take_while(|(name, _)| name.starts_with(prefix));
        let objects = objects.map(|(name, stored)| (name.clone(), stored.clone()));
        Ok(objects.collect())
    }
}
