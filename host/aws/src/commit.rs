//! Commits of events.
//!
//! A batch of events is committed in these steps, each of which may be repeated:
//!
//! 1. Everything that the batch writes is put into one object on S3. From then on the commit
//!    counts.
//! 2. Each event is claimed for the commit by a conditional put under its identity. An event that
//!    another commit has claimed is a duplicate.
//! 3. The rows are written to their items: the newest row by one conditional update, a summary by
//!    a write under the version of its item, which has marks of the commits that were added to it.
//! 4. A small record says that the commit is complete. Then the push is answered.
//!
//! If the process dies, the next process that finds a commit without a record does the remaining
//! steps: a flusher after the grace period
//! ([`DynamoConfig::grace`](crate::DynamoConfig::grace)), or a writer whose event belongs to the
//! commit. The grace period of a commit of a run begins when it is expected to be complete, because
//! its writes wait for their turns (`bulk.rs`). After the grace period, the owner also checks
//! before it writes an item whether the commit still has to be finished. An item that cannot be
//! written, because it is damaged or would be too large, stops neither the other items nor the
//! offline tables, and is not read any more: what it holds is not what was acknowledged.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt as _;
use wafer_core::aggregate::is_item;
use wafer_core::rules::RowVersion;
use wafer_core::{Duration, Timestamp};
use wafer_store::{
    EarlyWrite, Error, EventCommit, EventOutcome, Kind, OnlineKey, OnlineRow, OnlineWrite, Result,
};

use crate::Dynamo;
use crate::bulk::{in_bulk, is_bulk};
use crate::item::{
    Expiry, MAX_STATE, Mark, StoredItem, too_large, value_bytes, version_bytes, version_of,
};
use crate::layout::{group_of, place};
use crate::objects::Deadline;
use crate::outbox::{
    CommitContent, CommitName, CommitRecord, MAX_ROWS, minute, put_record, records,
};
use crate::table::{
    Condition, Item, Key, MAX_VALUE, WriteOutcome, bytes, bytes_of, number, run_concurrently, text,
    text_of, write_units,
};

/// Approximate maximum number of online rows of one commit, as many as can be written within a
/// few seconds.
const MAX_COMMIT_WRITES: usize = 5_000;
/// Maximum time that a commit of a run is expected to take. An invocation of Lambda takes no
/// longer.
const MAX_EXPECTED: Duration = Duration::from_mins(15);
/// Maximum time within which a commit of events is written. Whoever fills a new version of a group
/// waits for that long.
const EVENTS_WITHIN: Duration = Duration::from_secs(20);
/// How much longer the parts of an item live than the item. DynamoDB deletes expired
/// items within a few days, in any order
/// (<https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/TTL.html>).
const FORGET_PARTS_AFTER: Duration = Duration::from_days(7);
/// How long after its expiry DynamoDB may delete an event identity.
const FORGET_AFTER: Duration = Duration::from_hours(1);

/// A pool of idle writers. Each writer makes one commit after the other, so that an item needs to
/// remember only the last commit of each writer.
#[derive(Debug, Default)]
pub(crate) struct Writers(Mutex<Vec<Writer>>);

/// Gives names to commits: its own name, and a number that rises with each commit.
#[derive(Debug)]
pub(crate) struct Writer {
    name: u64,
    /// Number of the current commit.
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

/// A change to one item.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Add(OnlineRow),
    Early(Timestamp, OnlineRow),
}

/// All changes of a commit to one entity's item.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// The changes in order, each with the time when DynamoDB may delete the row and the index of
    /// the event or write that it belongs to.
    list: Vec<(Change, Option<Expiry>, Option<usize>)>,
}

impl Dynamo {
    /// Takes an idle writer, or creates one, for its next commit.
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

    /// Returns a writer to the pool after its commit succeeded.
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
        for events in split_commits(events) {
            let committed = match is_of_run(&events) {
                true => in_bulk(self.commit_some(events, now)).await,
                false => self.commit_some(events, now).await,
            };
            outcomes.extend(committed?);
        }
        Ok(outcomes)
    }

    async fn commit_some(
        &self,
        events: Vec<EventCommit>,
        now: Timestamp,
    ) -> Result<Vec<EventOutcome>> {
        let commit = CommitContent { events, now };
        let writer = self.writer();
        let name = CommitName {
            // To other processes, a commit that takes long is that of a writer whose clock is
            // ahead.
            begun: self.machine_clock.now().plus(self.expected_time(&commit)),
            writer: writer.name,
            number: writer.number,
        };
        let end = name.begun.plus(self.write_within());
        let deadline = Deadline::new(Arc::clone(&self.machine_clock), end);
        let deadline = match is_of_run(&commit.events) {
            true => deadline,
            // Others wait for events, and no longer than for that time.
            false => deadline.with_first(name.begun.plus(self.events_within())),
        };
        self.outbox.write(&name, &commit, deadline).await?;
        let (record, owners) = self.claim(&name, &commit).await?;
        // After an error, the next process that finds the commit finishes it.
        let older = match self.apply(&name, &commit, &record).await? {
            Some(older) => {
                self.mark_complete(&name, &record).await?;
                older
            }
            // This process was so slow that another one finished the commit.
            None => vec![0; commit.events.len()],
        };
        self.release(writer);
        // Duplicates are acknowledged only when the commit that has the event is readable.
        for owner in owners {
            self.finish(&owner).await?;
        }
        let outcome = |(won, older): (&bool, u32)| match won {
            true => EventOutcome::Committed { older },
            false => EventOutcome::Duplicate,
        };
        Ok(record.won.iter().zip(older).map(outcome).collect())
    }

    /// Returns the time within which the object of a commit of events is written, or never will be.
    pub(crate) fn events_within(&self) -> Duration {
        EVENTS_WITHIN.max(self.write_within())
    }

    /// Returns the time within which an attempt to write the object of a commit is repeated. Before
    /// the grace period is over, nobody else finishes and removes the commit.
    fn write_within(&self) -> Duration {
        Duration::from_micros(self.grace.as_micros() / 3 * 2)
    }

    /// Returns the time that a commit of a run is expected to take at the pace of bulk loads, or
    /// no time for other commits.
    fn expected_time(&self, commit: &CommitContent) -> Duration {
        if !is_bulk() {
            return Duration::ZERO;
        }
        let writes = commit.events.iter().flat_map(|event| {
            let early = event.early.iter().map(|early| &early.write);
            event.writes.iter().chain(early)
        });
        let units = writes.map(|write| write_units(write.row.values.len()));
        let time = self.table.pacer.time_for(units.sum());
        let time = i64::try_from(time.as_micros()).map_or(MAX_EXPECTED, Duration::from_micros);
        time.min(MAX_EXPECTED)
    }

    /// Claims the events of a commit by their identities. Returns a record of the events that
    /// belong to this commit, and the commits that the others belong to.
    async fn claim(
        &self,
        name: &CommitName,
        commit: &CommitContent,
    ) -> Result<(CommitRecord, HashSet<CommitName>)> {
        let mut seen = HashSet::new();
        let mut claims = Vec::with_capacity(commit.events.len());
        for event in &commit.events {
            // An identity may occur twice in one batch; the first event counts.
            let is_first = seen.insert((&event.source, &event.id));
            let owner = async move {
                match is_first {
                    true => self.owner(name, event, commit.now).await,
                    false => Ok(None),
                }
            };
            claims.push(owner.boxed());
        }
        let owners = run_concurrently(claims).await?;
        let won = owners.iter().map(|owner| owner.as_ref() == Some(name));
        let record = CommitRecord::new(won.collect(), commit);
        let others = owners.into_iter().flatten().filter(|owner| owner != name);
        Ok((record, others.collect()))
    }

    /// Claims one event. Returns the commit that it belongs to: this one, unless an earlier commit
    /// claimed it.
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
        if let Some(expiry) = self.forget_at(Some(event.remember_until), now) {
            item.insert("expires".to_owned(), expiry.plus(FORGET_AFTER).value());
        }
        let condition = Condition {
            expression: "attribute_not_exists(pk) OR upto < :now",
            values: vec![(":now", number(now.as_micros()))],
        };
        match self.table.put(&item, Some(&condition)).await? {
            WriteOutcome::Done { .. } => Ok(Some(name.clone())),
            WriteOutcome::ConditionFailed { stored, .. } => {
                let owner = stored.as_ref().and_then(|stored| text_of(stored, "c"));
                let owner = owner.and_then(CommitName::parse);
                owner
                    .map(Some)
                    .ok_or_else(|| self.table.corrupt("an identity that cannot be read"))
            }
        }
    }

    /// Applies the online writes of a commit, each exactly once. Returns for each event how many of
    /// its rows were older than the stored ones, or `None` if another process has finished the
    /// commit in the meantime.
    async fn apply(
        &self,
        name: &CommitName,
        commit: &CommitContent,
        record: &CommitRecord,
    ) -> Result<Option<Vec<u32>>> {
        let changes = self.changes_of(commit, record);
        let layout = self.layouts.fresh(&self.table).await?;
        let settled = layout.settled.map_or(0, minute);
        let mut calls = Vec::new();
        for (key, changes) in &changes {
            let epochs = layout.epochs(&key.group);
            for epoch in epochs.written() {
                let (place, counts) = (place(key, epoch), epoch == epochs.live);
                let alone = epochs.filling == Some(epoch);
                let call = async move {
                    let times = (settled, commit.now);
                    let older = self.apply_to(name, &place, changes, alone, times);
                    let older = older.await?;
                    Ok(older.map(|older| if counts { older } else { Vec::new() }))
                };
                calls.push(call.boxed());
            }
        }
        let mut older = vec![0; commit.events.len()];
        for indexes in run_concurrently(calls).await? {
            let Some(indexes) = indexes else {
                return Ok(None);
            };
            for index in indexes {
                older[index] += 1;
            }
        }
        Ok(Some(older))
    }

    /// Returns the changes that the events of a commit make, if they are not duplicates.
    fn changes_of(
        &self,
        commit: &CommitContent,
        record: &CommitRecord,
    ) -> BTreeMap<OnlineKey, Changes> {
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
        changes
    }

    /// Applies the changes that a commit makes to the item of an entity of a group. Returns the
    /// index of the event of each row that was older than the stored one, or `None` if another
    /// process has finished the commit in the meantime.
    async fn apply_to(
        &self,
        name: &CommitName,
        place: &Key,
        changes: &Changes,
        alone: bool,
        (settled, now): (u32, Timestamp),
    ) -> Result<Option<Vec<usize>>> {
        // After the grace period, another process may have finished the commit, and a group may
        // have been rebuilt from content that includes its rows.
        if self.is_past_grace(name) && !self.is_unfinished(name).await? {
            return Ok(None);
        }
        // The mark must stay until the commit is known to be removed, which goes by its name.
        let mark = Mark {
            alone,
            ..name.mark(self.machine_clock.now().max(name.begun))
        };
        let older = self.change_or_lose(place, changes, mark, settled, now);
        older.await.map(Some)
    }

    /// Returns whether other processes may finish a commit by now.
    fn is_past_grace(&self, name: &CommitName) -> bool {
        self.machine_clock.now() > name.begun.plus(self.grace)
    }

    /// Returns whether a commit still has to be finished.
    async fn is_unfinished(&self, name: &CommitName) -> Result<bool> {
        let done = records(&self.table, std::slice::from_ref(name)).await?;
        Ok(done.is_empty() && self.outbox.exists(name).await?)
    }

    /// Applies changes to one item like [`change`](Self::change). If the item has no room for them,
    /// it is not read from then on, as it lacks them; a damaged one cannot be read anyway. Retrying
    /// could not help, and the rest of the commit still counts, whose rows still go to the offline
    /// tables.
    pub(crate) async fn change_or_lose(
        &self,
        key: &Key,
        changes: &Changes,
        mark: Mark,
        settled: u32,
        now: Timestamp,
    ) -> Result<Vec<usize>> {
        let error = match self.change(key, changes, mark, settled, now).await {
            Err(e) if is_permanent(&e) => e,
            other => return other,
        };
        tracing::error!(
            "an entity of `{}` is not answered online from now on: {error}",
            group_of(key)
        );
        if error.kind() == Kind::Corrupt {
            return Ok(Vec::new());
        }
        let lost = self
            .modify(key, &mut |stored: &mut StoredItem| {
                stored.lose(changes.newest(), changes.ttl());
                Ok(Some(()))
            })
            .await;
        match lost {
            // An item that was damaged in the meantime cannot be read anyway.
            Err(e) if is_permanent(&e) => {
                tracing::error!("an entity of `{}` cannot say so: {e}", group_of(key));
                Ok(Vec::new())
            }
            other => other.map(|_| Vec::new()),
        }
    }

    /// Applies changes to one item. Returns the index of the event or write of each row that was
    /// older than the stored one.
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
            .modify(key, &mut |stored: &mut StoredItem| {
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

    /// Writes the newest of some rows by one conditional update. Repeating it changes nothing, so
    /// no mark is needed.
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
        let mut values = vec![
            (":ver", bytes(&version_bytes(newest.version))),
            (":val", bytes(&value_bytes(newest))),
            (":one", number(1)),
        ];
        let update = match changes.ttl() {
            Some(expiry) => {
                values.push((":expires", expiry.value()));
                "SET ver = :ver, val = :val, expires = :expires ADD n :one"
            }
            None => "SET ver = :ver, val = :val REMOVE expires ADD n :one",
        };
        if newest.values.len() > MAX_VALUE {
            return self.replace_large_row(key, changes, now).await;
        }
        let condition = Condition {
            expression: "attribute_not_exists(parts) AND attribute_not_exists(due) \
                         AND attribute_not_exists(lost) \
                         AND (attribute_not_exists(ver) OR ver < :ver)",
            values: Vec::new(),
        };
        let written = self.table.update(key, update, &condition, &values).await?;
        let stored_version = |item: &Item| version_of(bytes_of(item, "ver")?);
        let mut latest = match &written {
            WriteOutcome::Done { before } => before.as_ref().and_then(stored_version),
            WriteOutcome::ConditionFailed { stored, attempts } => {
                let stored = stored.as_ref();
                let has_more = |stored: &Item| {
                    let mut names = ["parts", "due", "lost"].iter();
                    names.any(|name| stored.contains_key(*name))
                };
                if stored.is_some_and(has_more) {
                    return self.replace_large_row(key, changes, now).await;
                }
                let stored = stored.and_then(stored_version);
                // After a retry, the stored row may be the one that this call wrote.
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

    /// Writes rows to an item that has parts or early rows, needs parts, or lacks rows, by reading
    /// and rewriting the item.
    async fn replace_large_row(
        &self,
        key: &Key,
        changes: &Changes,
        now: Timestamp,
    ) -> Result<Vec<usize>> {
        let older = self
            .modify(key, &mut |stored: &mut StoredItem| {
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

    /// Reads an item, changes it and writes it back, and retries when another process wrote it in
    /// between. If `change` returns `None`, the item stays as it is.
    pub(crate) async fn modify<T: Send>(
        &self,
        key: &Key,
        change: &mut (dyn FnMut(&mut StoredItem) -> Result<Option<T>> + Send),
    ) -> Result<Option<T>> {
        let mut backoff = self.table.write_backoff();
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
                WriteOutcome::Done { .. } => true,
                WriteOutcome::ConditionFailed { stored, attempts } => {
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
            if !backoff.wait().await {
                let message = format!(
                    "an entity in DynamoDB table `{}` is written to by others all the time; try again",
                    self.table.name
                );
                return Err(Error::new(Kind::Unavailable, message));
            }
        }
    }

    /// Reads an item with its parts.
    async fn stored(&self, key: &Key) -> Result<StoredItem> {
        let damaged = || self.table.corrupt("an entity's row that cannot be read");
        let mut backoff = self.table.read_backoff();
        loop {
            let Some(item) = self.table.get(key).await? else {
                return Ok(StoredItem::default());
            };
            let stored = StoredItem::read(&item, None).ok_or_else(damaged)?;
            let Some(parts) = &stored.parts else {
                return Ok(stored);
            };
            let found = self.table.get_many(&parts.keys()).await?;
            if let Some(payload) = self.payload(parts, &found) {
                return StoredItem::read(&item, Some(&payload)).ok_or_else(damaged);
            }
            if self.is_expired(&stored) {
                return Ok(stored);
            }
            // The item was rewritten while its parts were read.
            if !backoff.wait().await {
                let message = "an entity's row is written anew all the time; try again";
                return Err(Error::new(Kind::Unavailable, message));
            }
        }
    }

    /// Returns whether an item has expired, so that DynamoDB may already have deleted some of its
    /// parts.
    pub(crate) fn is_expired(&self, stored: &StoredItem) -> bool {
        let now = self.machine_clock.now();
        stored.ttl.is_some_and(|ttl| ttl.has_begun(now))
    }

    /// Writes the content of an item that is too large for one DynamoDB item as parts. Returns
    /// `None` if the item needs no parts.
    pub(crate) async fn put_parts(
        &self,
        key: &Key,
        stored: &StoredItem,
    ) -> Result<Option<crate::item::Parts>> {
        let size = stored.size();
        if size <= MAX_VALUE {
            return Ok(None);
        }
        if size > MAX_STATE {
            return Err(too_large(group_of(key), size));
        }
        let payload = stored.payload();
        let pieces: Vec<&[u8]> = payload.chunks(MAX_VALUE).collect();
        let parts = crate::item::Parts::new(self.table.random.next(), pieces.len());
        let items = parts.keys().into_iter().zip(pieces).map(|(key, piece)| {
            let mut item = key.item();
            item.insert("d".to_owned(), bytes(piece));
            if let Some(ttl) = stored.ttl {
                // The parts must not expire before their item.
                item.insert("expires".to_owned(), ttl.plus(FORGET_PARTS_AFTER).value());
            }
            item
        });
        self.table.put_all(items.collect()).await?;
        Ok(Some(parts))
    }

    /// Records that a commit is complete. A commit without rows for the offline tables is removed
    /// instead, because it is not needed any longer.
    async fn mark_complete(&self, name: &CommitName, record: &CommitRecord) -> Result<()> {
        if record.rows.is_empty() {
            return self.outbox.remove(&self.table, name).await;
        }
        put_record(&self.table, name, record).await?;
        // Another process may have finished, flushed and removed the commit already. Nothing
        // would remove the new record then.
        if self.is_past_grace(name) && !self.outbox.exists(name).await? {
            self.outbox.remove(&self.table, name).await?;
        }
        Ok(())
    }

    /// Finishes a commit that its writer did not finish.
    pub(crate) async fn finish(&self, name: &CommitName) -> Result<()> {
        if !self.is_unfinished(name).await? {
            return Ok(());
        }
        let Some(commit) = self.outbox.read(name).await? else {
            return Ok(());
        };
        let (record, _) = self.claim(name, &commit).await?;
        if self.apply(name, &commit, &record).await?.is_some() {
            self.mark_complete(name, &record).await?;
        }
        Ok(())
    }

    /// Returns when DynamoDB may delete an item that is kept until `until`.
    ///
    /// `until` is relative to `now`, the time that the rows are written at, which can differ from
    /// the machine's clock. DynamoDB uses the real time.
    pub(crate) fn forget_at(&self, until: Option<Timestamp>, now: Timestamp) -> Option<Expiry> {
        let until = until.filter(|until| *until != Timestamp::MAX)?;
        let at = self.machine_clock.now().plus(until.since(now));
        Some(Expiry::after(at))
    }
}

/// Returns whether events are rows that a run writes online. They are in the offline tables
/// already, while an event that writes something online has rows for these as well.
fn is_of_run(events: &[EventCommit]) -> bool {
    let has_writes = |event: &EventCommit| !event.writes.is_empty() || !event.early.is_empty();
    events.iter().all(|event| event.outbox.is_empty()) && events.iter().any(has_writes)
}

/// Returns whether an error is permanent, so that a retry cannot succeed.
pub(crate) fn is_permanent(error: &Error) -> bool {
    matches!(error.kind(), Kind::Invalid | Kind::Corrupt)
}

/// Splits events into commits, in order, of about [`MAX_COMMIT_WRITES`] online rows at most.
fn split_commits(events: Vec<EventCommit>) -> Vec<Vec<EventCommit>> {
    let (mut turns, mut writes) = (Vec::new(), usize::MAX);
    for event in events {
        let more = event.writes.len() + event.early.len();
        if writes.saturating_add(more) > MAX_COMMIT_WRITES {
            turns.push(Vec::new());
            writes = 0;
        }
        writes += more;
        turns.last_mut().expect("one was begun").push(event);
    }
    turns
}

impl Changes {
    pub(crate) fn add_early(&mut self, due: Timestamp, row: OnlineRow, ttl: Option<Expiry>) {
        self.list.push((Change::Early(due, row), ttl, None));
    }

    /// Returns the version of the newest row.
    fn newest(&self) -> Option<RowVersion> {
        let rows = self.list.iter().map(|(change, ..)| match change {
            Change::Add(row) | Change::Early(_, row) => row.version,
        });
        rows.max()
    }

    /// Returns when DynamoDB may delete the longest-lived row; `None` means never.
    fn ttl(&self) -> Option<Expiry> {
        let ttl = self.list.iter().map(|(_, ttl, _)| *ttl);
        ttl.reduce(|a, b| Some(a?.max(b?))).flatten()
    }

    /// Returns the rows if all changes are plain rows: no summaries and no early rows.
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

/// Groups writes by entity. The index of each write is kept.
pub(crate) fn by_entity(
    writes: Vec<OnlineWrite>,
    forget_at: impl Fn(Option<Timestamp>) -> Option<Expiry>,
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
