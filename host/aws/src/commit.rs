//! How events are committed: all that a batch of them writes is one object on S3;
//! then each event is claimed for it by its identity; then the rows go into their
//! items. Whatever of this is not done when a process dies is done by whoever
//! comes across the object next. Each step can be done any number of times.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};

use futures::FutureExt as _;
use wafer_core::Timestamp;
use wafer_core::aggregate::is_item;
use wafer_store::{
    EarlyWrite, Error, EventCommit, EventOutcome, Kind, OnlineKey, OnlineRow, OnlineWrite, Result,
};

use crate::Dynamo;
use crate::item::{Mark, Stored, too_large, value_bytes, version_bytes, version_of};
use crate::layout::place;
use crate::outbox::{Commit, CommitName, MAX_ROWS, Record, minute, put_record, records};
use crate::table::{
    Condition, Item, Key, MAX_VALUE, Written, bytes, bytes_of, number, side_by_side, text, text_of,
};

/// Rows that one commit writes online, about: what is written within a few seconds.
const MAX_WRITES: usize = 5_000;
/// Parts of what an entity has, at most.
const MAX_PARTS: usize = 16;
/// Parts of an item stay so much longer than it, in seconds: DynamoDB removes what
/// expired within a few days, in any order
/// (<https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/TTL.html>).
const FORGET_PARTS_AFTER: i64 = 7 * 86_400;
/// DynamoDB may forget an identity so long after its time, in seconds.
const FORGET_AFTER: i64 = 3_600;

/// Names for commits. A name is used by one commit after the other, so that items
/// need to remember only the last one of each name.
#[derive(Debug, Default)]
pub(crate) struct Writers(Mutex<Vec<Writer>>);

#[derive(Debug)]
pub(crate) struct Writer {
    name: u64,
    number: u32,
}

impl Writer {
    pub(crate) fn mark(&self, now: Timestamp) -> Mark {
        Mark {
            writer: self.name,
            number: self.number,
            minute: minute(now),
            alone: false,
        }
    }
}

/// What is to be done to one item.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Add(OnlineRow),
    Early(Timestamp, OnlineRow),
}

/// Everything that a commit does to one entity's item, in order: with when it may
/// be forgotten, and the event that it counts for.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    list: Vec<(Change, Option<i64>, Option<usize>)>,
}

impl Dynamo {
    pub(crate) fn writer(&self) -> Writer {
        let free = self
            .writers
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let mut writer = free.unwrap_or_else(|| Writer {
            name: self.table.random.next(),
            number: 0,
        });
        writer.number += 1;
        writer
    }

    pub(crate) fn release(&self, writer: Writer) {
        if writer.number < u32::MAX {
            let mut free = self
                .writers
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            free.push(writer);
        }
    }

    /// Commits events; see [`OnlineStore::commit_events`](wafer_store::OnlineStore).
    pub(crate) async fn commit(
        &self,
        events: Vec<EventCommit>,
        now: Timestamp,
    ) -> Result<Vec<EventOutcome>> {
        let rows: usize = events.iter().map(|event| event.outbox.len()).sum();
        if rows >= MAX_ROWS {
            let message =
                format!("{rows} rows in one commit; at most {MAX_ROWS} fit: push fewer at once");
            return Err(Error::new(Kind::Invalid, message));
        }
        let mut outcomes = Vec::with_capacity(events.len());
        for events in in_turns(events) {
            outcomes.extend(self.commit_some(events, now).await?);
        }
        Ok(outcomes)
    }

    async fn commit_some(
        &self,
        events: Vec<EventCommit>,
        now: Timestamp,
    ) -> Result<Vec<EventOutcome>> {
        let commit = Commit { events, now };
        let writer = self.writer();
        let name = CommitName {
            begun: self.wall.now(),
            writer: writer.name,
            number: writer.number,
        };
        self.outbox.write(&name, &commit).await?;
        let (record, owners) = self.claim(&name, &commit).await?;
        // An error leaves the rest to whoever comes across the commit.
        let older = match self.apply(&name, &commit, &record).await? {
            Some(older) => {
                self.settle(&name, &record).await?;
                older
            }
            // So late that others did it.
            None => vec![0; commit.events.len()],
        };
        self.release(writer);
        // What was known before is answered when it can be read.
        for owner in owners {
            self.finish(&owner).await?;
        }
        let outcome = |(won, older): (&bool, u32)| match won {
            true => EventOutcome::Committed { older },
            false => EventOutcome::Duplicate,
        };
        Ok(record.won.iter().zip(older).map(outcome).collect())
    }

    /// Claims the events of a commit for it, by their identities. Returns which it
    /// has, and the commits that have the others.
    async fn claim(
        &self,
        name: &CommitName,
        commit: &Commit,
    ) -> Result<(Record, HashSet<CommitName>)> {
        let mut seen = HashSet::new();
        let mut claims = Vec::with_capacity(commit.events.len());
        for event in &commit.events {
            // Twice in one batch: the first one counts.
            let is_first = seen.insert((&event.source, &event.id));
            let owner = async move {
                match is_first {
                    true => self.owner(name, event, commit.now).await,
                    false => Ok(None),
                }
            };
            claims.push(owner.boxed());
        }
        let owners = side_by_side(claims).await?;
        let won = owners.iter().map(|owner| owner.as_ref() == Some(name));
        let record = Record::new(won.collect(), commit);
        let others = owners.into_iter().flatten().filter(|owner| owner != name);
        Ok((record, others.collect()))
    }

    /// The commit that an event belongs to: this one, if none had it.
    async fn owner(
        &self,
        name: &CommitName,
        event: &EventCommit,
        now: Timestamp,
    ) -> Result<Option<CommitName>> {
        let digest = wafer_core::Digest::of(event.id.as_bytes());
        let key = Key::single(format!("s/{}/{}", event.source, digest.hex()));
        let mut item = key.item();
        item.insert("c".to_owned(), text(&name.to_string()));
        item.insert("upto".to_owned(), number(event.remember_until.as_micros()));
        if let Some(seconds) = self.forget_at(Some(event.remember_until), now) {
            item.insert("expires".to_owned(), number(seconds + FORGET_AFTER));
        }
        let condition = Condition {
            expression: "attribute_not_exists(pk) OR upto < :now",
            values: vec![(":now", number(now.as_micros()))],
        };
        match self.table.put(&item, Some(&condition)).await? {
            Written::Done { .. } => Ok(Some(name.clone())),
            Written::Held { stored, .. } => {
                let owner = stored.as_ref().and_then(|stored| text_of(stored, "c"));
                let owner = owner.and_then(CommitName::parse);
                owner
                    .map(Some)
                    .ok_or_else(|| self.table.foreign("an identity that cannot be read"))
            }
        }
    }

    /// Does what a commit writes online, once. For each event: how many of its rows
    /// were older than what was there. `None`: others have done it meanwhile.
    async fn apply(
        &self,
        name: &CommitName,
        commit: &Commit,
        record: &Record,
    ) -> Result<Option<Vec<u32>>> {
        let mut changes: BTreeMap<OnlineKey, Changes> = BTreeMap::new();
        for (index, event) in commit.events.iter().enumerate() {
            if !record.won[index] {
                continue;
            }
            let mut add = |key: &OnlineKey, change, keep_until| {
                let ttl = self.forget_at(keep_until, commit.now);
                let changes = changes.entry(key.clone()).or_default();
                changes.list.push((change, ttl, Some(index)));
            };
            for write in &event.writes {
                add(&write.key, Change::Add(write.row.clone()), write.keep_until);
            }
            for EarlyWrite { due, write } in &event.early {
                add(
                    &write.key,
                    Change::Early(*due, write.row.clone()),
                    write.keep_until,
                );
            }
        }
        let layout = self.layouts.fresh(&self.table).await?;
        let settled = layout.settled.map_or(0, minute);
        let mut calls = Vec::new();
        for (key, changes) in &changes {
            let epochs = layout.epochs(&key.group);
            for epoch in epochs.written() {
                let (place, counts) = (place(key, epoch), epoch == epochs.live);
                let alone = epochs.filling == Some(epoch);
                let call = async move {
                    // By now others may have finished it, and what it writes may be in what
                    // a group was made anew from.
                    if self.is_late(name) && !self.is_open(name).await? {
                        return Ok(None);
                    }
                    let mark = Mark {
                        alone,
                        ..name.mark(self.wall.now())
                    };
                    let older = match self
                        .change(&place, changes, mark, settled, commit.now)
                        .await
                    {
                        // No attempt will do it. The commit counts, with all the rest of it;
                        // its rows go to the tables.
                        Err(e) if is_permanent(&e) => {
                            tracing::error!(
                                "an entity of `{}` stays as it is online: {e}",
                                key.group
                            );
                            Vec::new()
                        }
                        other => other?,
                    };
                    Ok(Some(if counts { older } else { Vec::new() }))
                };
                calls.push(call.boxed());
            }
        }
        let mut older = vec![0; commit.events.len()];
        for indexes in side_by_side(calls).await? {
            let Some(indexes) = indexes else {
                return Ok(None);
            };
            for index in indexes {
                older[index] += 1;
            }
        }
        Ok(Some(older))
    }

    /// Whether others may finish a commit by now.
    fn is_late(&self, name: &CommitName) -> bool {
        self.wall.now() > name.begun.plus_micros(self.grace)
    }

    /// Whether a commit is still to be finished.
    async fn is_open(&self, name: &CommitName) -> Result<bool> {
        let done = records(&self.table, std::slice::from_ref(name)).await?;
        Ok(done.is_empty() && self.outbox.is_there(name).await?)
    }

    /// Changes one item. Returns the events of which a row was older than what was
    /// there, once for each row.
    pub(crate) async fn change(
        &self,
        key: &Key,
        changes: &Changes,
        mark: Mark,
        settled: u32,
        now: Timestamp,
    ) -> Result<Vec<usize>> {
        if let Some(rows) = changes.plain_rows() {
            return self.replace_row(key, changes, &rows, now).await;
        }
        let older = self
            .modify(key, &mut |stored: &mut Stored| {
                if stored.has(mark) {
                    return Ok(None);
                }
                stored.take_due(now)?;
                let mut older = Vec::new();
                for (change, ttl, event) in &changes.list {
                    match change {
                        Change::Add(row) => {
                            if !stored.add(row, *ttl)? {
                                older.extend(*event);
                            }
                        }
                        Change::Early(due, row) => stored.add_early(*due, row.clone(), *ttl),
                    }
                }
                stored.mark(mark, settled);
                Ok(Some(older))
            })
            .await?;
        Ok(older.unwrap_or_default())
    }

    /// Rows of which the newest stays, by one conditional write: doing it again
    /// changes nothing, so nobody needs to remember who did it.
    async fn replace_row(
        &self,
        key: &Key,
        changes: &Changes,
        rows: &[&OnlineRow],
        now: Timestamp,
    ) -> Result<Vec<usize>> {
        let newest = rows.iter().max_by_key(|row| row.version);
        let Some(newest) = newest else {
            return Ok(Vec::new());
        };
        let ttl = changes.list.iter().map(|(_, ttl, _)| *ttl);
        let ttl = ttl.reduce(|a, b| Some(a?.max(b?))).flatten();
        let mut values = vec![
            (":ver", bytes(&version_bytes(newest.version))),
            (":val", bytes(&value_bytes(newest))),
            (":one", number(1)),
        ];
        let update = match ttl {
            Some(seconds) => {
                values.push((":expires", number(seconds)));
                "SET ver = :ver, val = :val, expires = :expires ADD n :one"
            }
            None => "SET ver = :ver, val = :val REMOVE expires ADD n :one",
        };
        if newest.values.len() > MAX_VALUE {
            return self.replace_large_row(key, changes, now).await;
        }
        let condition = Condition {
            expression: "attribute_not_exists(parts) AND attribute_not_exists(due) \
                         AND (attribute_not_exists(ver) OR ver < :ver)",
            values: Vec::new(),
        };
        let written = self.table.update(key, update, &condition, &values).await?;
        let stored_version = |item: &Item| version_of(bytes_of(item, "ver")?);
        let mut latest = match &written {
            Written::Done { before } => before.as_ref().and_then(stored_version),
            Written::Held { stored, attempts } => {
                let stored = stored.as_ref();
                let has_more =
                    |stored: &Item| ["parts", "due"].iter().any(|n| stored.contains_key(*n));
                if stored.is_some_and(has_more) {
                    return self.replace_large_row(key, changes, now).await;
                }
                let stored = stored.and_then(stored_version);
                // An answer was lost: it is what this call wrote.
                stored.filter(|stored| *stored != newest.version || *attempts == 1)
            }
        };
        let mut older = Vec::new();
        for (row, (_, _, event)) in rows.iter().zip(&changes.list) {
            if latest.is_some_and(|latest| row.version <= latest) {
                older.extend(*event);
            } else {
                latest = Some(row.version);
            }
        }
        Ok(older)
    }

    async fn replace_large_row(
        &self,
        key: &Key,
        changes: &Changes,
        now: Timestamp,
    ) -> Result<Vec<usize>> {
        let older = self
            .modify(key, &mut |stored: &mut Stored| {
                stored.take_due(now)?;
                let mut older = Vec::new();
                for (change, ttl, event) in &changes.list {
                    if let Change::Add(row) = change
                        && !stored.add(row, *ttl)?
                    {
                        older.extend(*event);
                    }
                }
                Ok(Some(older))
            })
            .await?;
        Ok(older.unwrap_or_default())
    }

    /// Reads an item, changes it and writes it, until nobody came between. `None`
    /// from `change`: it stays as it is.
    pub(crate) async fn modify<T: Send>(
        &self,
        key: &Key,
        change: &mut (dyn FnMut(&mut Stored) -> Result<Option<T>> + Send),
    ) -> Result<Option<T>> {
        let mut patience = self.table.writing();
        loop {
            let mut stored = self.stored(key).await?;
            let old_parts = stored.parts.take();
            let Some(result) = change(&mut stored)? else {
                return Ok(None);
            };
            let parts = self.put_parts(key, &stored).await?;
            let item = stored.write(key, parts.as_ref());
            let condition = Condition::version(stored.version);
            let written = self.table.put(&item, Some(&condition)).await?;
            let is_ours = match &written {
                Written::Done { .. } => true,
                Written::Held { stored, attempts } => {
                    *attempts > 1 && stored.as_ref() == Some(&item)
                }
            };
            let garbage = if is_ours { old_parts } else { parts };
            if let Some(garbage) = garbage {
                self.table.delete_all(&garbage.keys()).await?;
            }
            if is_ours {
                return Ok(Some(result));
            }
            if !patience.wait().await {
                let message = format!(
                    "an entity in DynamoDB table `{}` is written to by others all the time; try again",
                    self.table.name
                );
                return Err(Error::new(Kind::Unavailable, message));
            }
        }
    }

    /// An item as it is now, its parts included.
    async fn stored(&self, key: &Key) -> Result<Stored> {
        let damaged = || self.table.foreign("an entity's row that cannot be read");
        let mut patience = self.table.reading();
        loop {
            let Some(item) = self.table.get(key).await? else {
                return Ok(Stored::default());
            };
            let stored = Stored::read(&item, None).ok_or_else(damaged)?;
            let Some(parts) = &stored.parts else {
                return Ok(stored);
            };
            let found = self.table.get_many(&parts.keys()).await?;
            if let Some(payload) = self.payload(parts, &found) {
                return Stored::read(&item, Some(&payload)).ok_or_else(damaged);
            }
            if self.is_expired(&stored) {
                return Ok(stored);
            }
            // It was written anew in between.
            if !patience.wait().await {
                let message = "an entity's row is written anew all the time; try again";
                return Err(Error::new(Kind::Unavailable, message));
            }
        }
    }

    /// Whether DynamoDB may have begun to remove an item: its parts may go before it.
    pub(crate) fn is_expired(&self, stored: &Stored) -> bool {
        let now = self.wall.now().as_micros().div_euclid(1_000_000);
        stored.ttl.is_some_and(|ttl| ttl <= now)
    }

    /// Writes what does not fit one item into several others.
    pub(crate) async fn put_parts(
        &self,
        key: &Key,
        stored: &Stored,
    ) -> Result<Option<crate::item::Parts>> {
        let size = stored.size();
        if size <= MAX_VALUE {
            return Ok(None);
        }
        if size > MAX_VALUE * MAX_PARTS {
            let group = key.partition.split('/').nth(1).unwrap_or_default();
            return Err(too_large(group, size, MAX_VALUE * MAX_PARTS));
        }
        let payload = stored.payload();
        let pieces: Vec<&[u8]> = payload.chunks(MAX_VALUE).collect();
        let parts = crate::item::Parts::new(self.table.random.next(), pieces.len());
        let items = parts.keys().into_iter().zip(pieces).map(|(key, piece)| {
            let mut item = key.item();
            item.insert("d".to_owned(), bytes(piece));
            if let Some(ttl) = stored.ttl {
                // Rather later than the item that they belong to.
                item.insert("expires".to_owned(), number(ttl + FORGET_PARTS_AFTER));
            }
            item
        });
        self.table.put_all(items.collect()).await?;
        Ok(Some(parts))
    }

    /// Notes that a commit is complete; one that has nothing for the offline tables
    /// is not needed any longer.
    async fn settle(&self, name: &CommitName, record: &Record) -> Result<()> {
        if record.rows.is_empty() {
            return self.outbox.remove(&self.table, name).await;
        }
        put_record(&self.table, name, record).await?;
        // Others may have finished and flushed it: then nobody would remove the record.
        if self.is_late(name) && !self.outbox.is_there(name).await? {
            self.outbox.remove(&self.table, name).await?;
        }
        Ok(())
    }

    /// Does what is left to do of a commit, if anything is.
    pub(crate) async fn finish(&self, name: &CommitName) -> Result<()> {
        if !self.is_open(name).await? {
            return Ok(());
        }
        let Some(commit) = self.outbox.read(name).await? else {
            return Ok(());
        };
        let (record, _) = self.claim(name, &commit).await?;
        if self.apply(name, &commit, &record).await?.is_some() {
            self.settle(name, &record).await?;
        }
        Ok(())
    }

    /// When DynamoDB may remove what is kept until a time, in seconds since 1970 by
    /// the machine's clock, whatever the present of the rows is.
    pub(crate) fn forget_at(&self, until: Option<Timestamp>, now: Timestamp) -> Option<i64> {
        let until = until.filter(|until| *until != Timestamp::MAX)?;
        let left = until.as_micros().saturating_sub(now.as_micros());
        let at = self.wall.now().plus_micros(left);
        Some(at.as_micros().div_euclid(1_000_000) + 1)
    }
}

/// Whether nothing but another item or another program changes what failed.
pub(crate) fn is_permanent(error: &Error) -> bool {
    matches!(error.kind(), Kind::Invalid | Kind::Corrupt)
}

/// Events in several commits, in order: none writes much more than [`MAX_WRITES`].
fn in_turns(events: Vec<EventCommit>) -> Vec<Vec<EventCommit>> {
    let (mut turns, mut writes) = (Vec::new(), usize::MAX);
    for event in events {
        let more = event.writes.len() + event.early.len();
        if writes.saturating_add(more) > MAX_WRITES {
            turns.push(Vec::new());
            writes = 0;
        }
        writes += more;
        turns.last_mut().expect("one was begun").push(event);
    }
    turns
}

impl Changes {
    pub(crate) fn add_early(&mut self, due: Timestamp, row: OnlineRow, ttl: Option<i64>) {
        self.list.push((Change::Early(due, row), ttl, None));
    }

    /// The rows, when there is nothing else: no summaries, nothing early.
    fn plain_rows(&self) -> Option<Vec<&OnlineRow>> {
        let mut rows = Vec::with_capacity(self.list.len());
        for (change, ..) in &self.list {
            match change {
                Change::Add(row) if !is_item(&row.values) => rows.push(row),
                _ => return None,
            }
        }
        Some(rows)
    }
}

/// What writes do to each entity; each counts by its place among them.
pub(crate) fn by_entity(
    writes: Vec<OnlineWrite>,
    forget_at: impl Fn(Option<Timestamp>) -> Option<i64>,
) -> BTreeMap<OnlineKey, Changes> {
    let mut changes: BTreeMap<OnlineKey, Changes> = BTreeMap::new();
    for (index, write) in writes.into_iter().enumerate() {
        let ttl = forget_at(write.keep_until);
        let changes = changes.entry(write.key).or_default();
        changes
            .list
            .push((Change::Add(write.row), ttl, Some(index)));
    }
    changes
}
