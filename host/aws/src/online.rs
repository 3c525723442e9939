//! The online store: one item for each entity of a group, and the outbox.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use tokio::time::Instant;
use wafer_core::Timestamp;
use wafer_store::{
    Consumed, CountRead, EarlyWrite, Error, EventCommit, EventOutcome, GroupContent, Kind, Metered,
    OnlineKey, OnlineRow, OnlineStore, OnlineWrite, OutboxContents, OutboxEntry, PutCounts, Result,
    Upkeep,
};

use crate::Dynamo;
use crate::bulk::in_bulk;
use crate::commit::{by_entity, is_permanent};
use crate::item::{MAX_ROW_BYTES, Mark, Parts, StoredItem};
use crate::layout::{BUCKETS, Epochs, TableEpochs, group_of, missing_layout, partition, place};
use crate::outbox::{CommitName, minute, records};
use crate::table::{
    Condition, Consistency, CountItem, Item, Key, bytes_of, number, number_of, run_concurrently,
};

/// Upper bound on the difference between the clocks of writers.
const MAX_CLOCK_SKEW: wafer_core::Duration = wafer_core::Duration::from_hours(1);
/// Interval at which unfinished commits are checked again.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

impl Dynamo {
    /// Joins the content of an item's parts. Returns `None` if a part is missing.
    pub(crate) fn payload(&self, parts: &Parts, found: &HashMap<Key, Item>) -> Option<Vec<u8>> {
        let mut payload = Vec::new();
        for key in parts.keys() {
            payload.extend_from_slice(bytes_of(found.get(&key)?, "d")?);
        }
        Some(payload)
    }

    /// Returns the rows of the items `found` at `places`, as they are at `now`. Reads the parts of
    /// large items. Returns `None` if an item was rewritten while its parts were read.
    async fn rows_at(
        &self,
        places: &[Key],
        found: &HashMap<Key, Item>,
        now: Timestamp,
        count: CountItem<'_>,
    ) -> Result<Option<Vec<Option<OnlineRow>>>> {
        let damaged = || self.table.corrupt("an entity's row that cannot be read");
        let read = |place| match found.get(place) {
            Some(item) => StoredItem::read(item, None).ok_or_else(damaged).map(Some),
            None => Ok(None),
        };
        let mut all: Vec<Option<StoredItem>> = places.iter().map(read).collect::<Result<_>>()?;
        let parts = all.iter().flatten().flat_map(|stored| &stored.parts);
        let mut parts: Vec<Key> = parts.flat_map(Parts::keys).collect();
        if !parts.is_empty() {
            parts.sort();
            parts.dedup();
            let pieces = self
                .table
                .get_all(&parts, Consistency::Strong, count)
                .await?;
            for (place, stored) in places.iter().zip(&mut all) {
                let Some(parts) = stored.as_ref().and_then(|stored| stored.parts.as_ref()) else {
                    continue;
                };
                *stored = match self.payload(parts, &pieces) {
                    Some(payload) => {
                        let whole = StoredItem::read(&found[place], Some(&payload));
                        Some(whole.ok_or_else(damaged)?)
                    }
                    None if stored.as_ref().is_some_and(|s| self.is_expired(s)) => None,
                    None => return Ok(None),
                };
            }
        }
        let mut rows = Vec::with_capacity(places.len());
        for (place, stored) in places.iter().zip(all) {
            // What an expired item lacks has expired as well.
            let stored = stored.filter(|stored| stored.is_whole() || !self.is_expired(stored));
            let row = stored.map(|stored| stored.into_row_at(group_of(place), now));
            let row = row.transpose()?;
            rows.push(row.flatten().filter(|row| !row.is_tombstone()));
        }
        Ok(Some(rows))
    }

    /// Finishes abandoned commits, and assigns numbers to complete commits that have none. Returns
    /// the names of commits that are still unfinished, and of those for which there is no number.
    async fn number_commits(&self) -> Result<(Vec<String>, Vec<String>)> {
        let names = self.outbox.names(self.listed_from()).await?;
        let taken = self.outbox.numbered_names(&self.table).await?;
        let new: Vec<CommitName> = names
            .iter()
            .filter(|name| !taken.contains(name))
            .cloned()
            .collect();
        let now = self.machine_clock.now();
        self.note_settled(names.first(), now).await?;
        let done = records(&self.table, &new).await?;
        let mut complete: Vec<CommitName> = done.into_keys().collect();
        let (mut unfinished, mut failure) = (Vec::new(), None);
        for name in new {
            if complete.contains(&name) {
                continue;
            }
            if name.begun.plus(self.grace) > now {
                unfinished.push(name.to_string());
                continue;
            }
            // A commit that cannot be finished now must not block the others.
            if let Err(error) = self.finish(&name).await {
                failure.get_or_insert(error);
                unfinished.push(name.to_string());
                continue;
            }
            if !records(&self.table, std::slice::from_ref(&name))
                .await?
                .is_empty()
            {
                complete.push(name);
            }
        }
        let left_out = self.outbox.assign_numbers(&self.table, &complete).await?;
        if let Some(error) = failure {
            tracing::warn!("a commit that nobody finished is tried again: {error}");
        }
        Ok((unfinished, left_out))
    }

    /// Returns the time from which on commits may exist; earlier ones are all removed. Allows for
    /// [`MAX_CLOCK_SKEW`].
    fn listed_from(&self) -> Option<Timestamp> {
        let settled = self.layouts.known().0.settled?;
        Some(settled.minus(MAX_CLOCK_SKEW))
    }

    /// Updates [`TableEpochs::settled`], at most once a minute.
    async fn note_settled(&self, oldest: Option<&CommitName>, now: Timestamp) -> Result<()> {
        let settled = now.minus(self.grace);
        let settled = oldest.map_or(settled, |oldest| oldest.begun.min(settled));
        let known = self.layouts.known().0.settled;
        if known.is_some_and(|known| minute(known) >= minute(settled)) {
            return Ok(());
        }
        let note = |layout: &mut TableEpochs| layout.settled = layout.settled.max(Some(settled));
        self.layouts.change(&self.table, note).await
    }

    /// Waits until every operation that begins uses the current layout or a newer one. The factor
    /// of 3/2 allows for clocks that run at different speeds.
    async fn wait_for_layout_refresh(&self) {
        tokio::time::sleep(self.layouts.age() * 3 / 2).await;
    }

    /// Waits until reads that began with an older layout have finished, or look at the layout again
    /// ([`are_live`](Self::are_live)) because they take longer.
    async fn wait_for_readers(&self) {
        tokio::time::sleep(self.table.longest_read()).await;
    }

    /// Returns whether rows that were read with a layout, in a read that began then, are of epochs
    /// that nobody has cleared meanwhile. A read of many calls may take longer than others wait for
    /// readers.
    async fn are_live(
        &self,
        keys: &[OnlineKey],
        layout: &TableEpochs,
        began: Instant,
    ) -> Result<bool> {
        if began.elapsed() <= self.table.longest_read() {
            return Ok(true);
        }
        let present = self.layouts.fresh(&self.table).await?;
        let mut groups = keys.iter().map(|key| &key.group);
        Ok(groups.all(|group| present.live(group) == layout.live(group)))
    }

    /// Waits until all current commits are complete, finishing abandoned ones, and returns their
    /// names.
    async fn complete_commits(&self) -> Result<Vec<CommitName>> {
        let names = self.outbox.names(self.listed_from()).await?;
        let mut waiting = names.clone();
        loop {
            let done = records(&self.table, &waiting).await?;
            waiting.retain(|name| !done.contains_key(name));
            let now = self.machine_clock.now();
            let mut rest = Vec::new();
            for name in waiting {
                if name.begun.plus(self.grace) > now {
                    rest.push(name);
                } else {
                    self.finish(&name).await?;
                }
            }
            // A commit without rows for the offline tables is removed when it is complete.
            let there = self.outbox.names(self.listed_from()).await?;
            rest.retain(|name| there.binary_search(name).is_ok());
            if rest.is_empty() {
                return Ok(names);
            }
            waiting = rest;
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Writes the new content of a group under an epoch that no other process uses yet.
    async fn load(&self, epoch: u64, content: &GroupContent) -> Result<()> {
        let now = content.now;
        let present = self.machine_clock.now();
        let mut entities: BTreeMap<OnlineKey, StoredItem> = BTreeMap::new();
        for OnlineWrite {
            key,
            row,
            keep_until,
        } in &content.rows
        {
            let expires = self.forget_at(*keep_until, now);
            if expires.is_some_and(|expires| expires.has_passed(present)) {
                continue;
            }
            let stored = entities.entry(key.clone()).or_default();
            stored.add(row, expires)?;
        }
        for EarlyWrite { due, write } in &content.early {
            let stored = entities.entry(write.key.clone()).or_default();
            let expires = self.forget_at(write.keep_until, now);
            stored.add_early(*due, write.row.clone(), expires);
        }
        let mut items = Vec::with_capacity(entities.len());
        for (key, mut stored) in entities {
            let key = place(&key, epoch);
            let parts = match self.put_parts(&key, &stored).await {
                // As with events, an entity that is too large is not answered, and the others are
                // written.
                Err(e) if is_permanent(&e) => {
                    tracing::error!("an entity is not answered online: {e}");
                    stored.lose(None, stored.ttl);
                    None
                }
                other => other?,
            };
            items.push(stored.write(&key, parts.as_ref()));
        }
        self.table.put_all(items).await
    }

    /// Adds the rows of commits that the loaded content does not include to an epoch.
    ///
    /// Other processes already write new commits to the epoch, too; marks ensure that each commit
    /// counts once.
    async fn catch_up(&self, group: &str, epoch: u64, content: &GroupContent) -> Result<()> {
        let names = self.complete_commits().await?;
        let settled = self.layouts.known().0.settled.map_or(0, minute);
        for name in names {
            let rows = self.outbox.rows_of(&self.table, &name, group).await?;
            let rows = rows
                .into_iter()
                .filter(|(number, _)| number.is_none_or(|number| number > content.outbox_after));
            let mut due = Vec::new();
            let mut early = Vec::new();
            for (_, row) in rows {
                let write = (content.from_outbox)(&row)?;
                match write.due <= content.now {
                    true => due.push(write.write),
                    false => early.push(write),
                }
            }
            let mut changes = by_entity(due, |until| self.forget_at(until, content.now));
            for EarlyWrite { due, write } in early {
                let expires = self.forget_at(write.keep_until, content.now);
                let changes = changes.entry(write.key).or_default();
                changes.add_early(due, write.row, expires);
            }
            let mark = Mark {
                alone: true,
                ..name.mark(self.machine_clock.now().max(name.begun))
            };
            let mut calls = Vec::with_capacity(changes.len());
            for (key, changes) in &changes {
                let place = place(key, epoch);
                let change = async move {
                    self.change_or_lose(&place, changes, mark, settled, content.now)
                        .await
                };
                calls.push(change.boxed());
            }
            run_concurrently(calls).await?;
        }
        Ok(())
    }

    /// Applies all recorded deletions of a group's entities to an epoch.
    async fn repeat_deletions(&self, group: &str, epoch: u64) -> Result<()> {
        for item in self.table.query(&format!("t/{group}"), &[]).await? {
            let damaged = || self.table.corrupt("a deletion that cannot be read");
            let deleted = number_of(&item, "d").map(Timestamp::from_micros);
            let entity = bytes_of(&item, "sk").ok_or_else(damaged)?;
            let bucket = wafer_core::Digest::of(entity).as_bytes()[0] % BUCKETS;
            let place = Key::new(partition(group, epoch, bucket), entity);
            let deleted = deleted.ok_or_else(damaged)?;
            self.modify(&place, &mut |stored: &mut StoredItem| {
                stored.add_tombstone(deleted);
                Ok(Some(()))
            })
            .await?;
        }
        Ok(())
    }

    /// Deletes all items of an epoch.
    async fn clear(&self, group: &str, epoch: u64) -> Result<()> {
        let clear = |bucket| async move {
            let partition = partition(group, epoch, bucket);
            loop {
                let items = self.table.first_page(&partition, "pk, sk, parts").await?;
                if items.is_empty() {
                    return Ok(());
                }
                let mut keys = Vec::new();
                for item in items {
                    keys.extend(Parts::of(&item).iter().flat_map(Parts::keys));
                    keys.extend(bytes_of(&item, "sk").map(|sk| Key::new(&partition, sk)));
                }
                self.table.delete_all(&keys).await?;
            }
        };
        run_concurrently((0..BUCKETS).map(|bucket| clear(bucket).boxed()).collect()).await?;
        Ok(())
    }

    /// Changes the epochs of a group in the layout.
    async fn change_epochs<T>(&self, group: &str, change: impl Fn(&mut Epochs) -> T) -> Result<T> {
        let change = |layout: &mut TableEpochs| {
            let mut epochs = layout.epochs(group);
            let result = change(&mut epochs);
            layout.set(group, epochs);
            result
        };
        self.layouts.change(&self.table, change).await
    }

    /// Returns [`Kind::Conflict`] if rows after sequence number `after` have left the outbox.
    async fn check_outbox(&self, group: &str, after: u64) -> Result<()> {
        if self.outbox.trimmed(&self.table, group).await? <= after {
            return Ok(());
        }
        let message = format!(
            "rows of `{group}` left the outbox for its table while its online rows were rebuilt \
             from an older version of the table; try again"
        );
        Err(Error::new(Kind::Conflict, message))
    }
}

#[async_trait]
impl OnlineStore for Dynamo {
    async fn get_many_counted(
        &self,
        keys: &[OnlineKey],
        now: Timestamp,
        count: CountRead<'_>,
    ) -> Result<Vec<Option<OnlineRow>>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut backoff = self.table.read_backoff();
        loop {
            let began = Instant::now();
            let (layout, due) = self.layouts.known();
            let place = |key: &OnlineKey| place(key, layout.live(&key.group));
            let places: Vec<Key> = keys.iter().map(place).collect();
            let mut wanted = places.clone();
            wanted.sort();
            wanted.dedup();
            wanted.extend(due.clone());
            // The layout must be read with strong consistency.
            let consistency = match due {
                Some(_) => Consistency::Strong,
                None => self.table.consistency,
            };
            let asked = self.machine_clock.now();
            // What an earlier attempt has read is gone.
            let read = AtomicU64::new(0);
            let count = |bytes| count(read.fetch_add(bytes, Ordering::Relaxed) + bytes);
            let found = self.table.get_all(&wanted, consistency, &count).await?;
            if let Some(due) = due {
                let Some(item) = found.get(&due) else {
                    return Err(missing_layout(&self.table).await);
                };
                let present = self.layouts.learn(&self.table, item, asked)?;
                if keys
                    .iter()
                    .any(|key| present.live(&key.group) != layout.live(&key.group))
                {
                    continue;
                }
            }
            let rows = self.rows_at(&places, &found, now, &count).await?;
            if !self.are_live(keys, &layout, began).await? {
                continue;
            }
            if let Some(rows) = rows {
                return Ok(rows);
            }
            if !backoff.wait().await {
                let message = "an entity's row is written anew all the time; try again";
                return Err(Error::new(Kind::Unavailable, message));
            }
        }
    }

    async fn put_many(&self, writes: Vec<OnlineWrite>) -> Result<PutCounts> {
        let now = self.machine_clock.now();
        let count = writes.len() as u64;
        let changes = by_entity(writes, |until| self.forget_at(until, now));
        let writer = self.writer();
        let mark = writer.mark(now);
        let layout = self.layouts.fresh(&self.table).await?;
        let settled = layout.settled.map_or(0, minute);
        let mut counts = PutCounts::default();
        for (key, changes) in &changes {
            let epochs = layout.epochs(&key.group);
            for epoch in epochs.written() {
                let place = place(key, epoch);
                let alone = epochs.filling == Some(epoch);
                let mark = Mark { alone, ..mark };
                let older = self
                    .change(&place, changes, mark, settled, Timestamp::MIN)
                    .await?;
                if epoch == epochs.live {
                    counts.older += older.len() as u64;
                }
            }
        }
        self.release(writer);
        counts.applied = count - counts.older;
        Ok(counts)
    }

    async fn commit_events(
        &self,
        events: Vec<EventCommit>,
        now: Timestamp,
    ) -> Result<Vec<EventOutcome>> {
        self.commit(events, now).await
    }

    fn commits_within(&self) -> wafer_core::Duration {
        self.events_within()
    }

    fn max_row_bytes(&self) -> u64 {
        MAX_ROW_BYTES
    }

    async fn replace_group(&self, group: &str, content: GroupContent) -> Result<()> {
        self.check_outbox(group, content.outbox_after).await?;
        let table = &self.table;
        // Runs commit without outbox rows, so `catch_up` could not tell whether the content
        // includes an unfinished commit of a run. Finish those commits in the old epoch.
        self.complete_commits().await?;
        let begin = |layout: &mut TableEpochs| layout.begin(group);
        let epoch = self.layouts.change(table, begin).await?;
        in_bulk(self.load(epoch, &content)).await?;
        // From here on, all processes write to the new epoch as well.
        self.change_epochs(group, |epochs| epochs.filling = Some(epoch))
            .await?;
        self.wait_for_layout_refresh().await;
        self.catch_up(group, epoch, &content).await?;
        self.repeat_deletions(group, epoch).await?;
        self.check_outbox(group, content.outbox_after).await?;
        let is_ours = self
            .change_epochs(group, |epochs| {
                // Another process may have begun another epoch if this one was suspended.
                let is_ours = epochs.filling == Some(epoch);
                if is_ours {
                    epochs.obsolete.retain(|begun| *begun != epoch);
                    epochs.obsolete.extend(epochs.retiring);
                    (epochs.filling, epochs.retiring) = (None, Some(epochs.live));
                    epochs.live = epoch;
                }
                is_ours
            })
            .await?;
        if !is_ours {
            let message = format!("online rows of `{group}` are being rebuilt by another process");
            return Err(Error::new(Kind::Conflict, message));
        }
        // Processes with an older layout still read the old epoch, which therefore receives
        // writes until none of them does.
        self.wait_for_layout_refresh().await;
        self.wait_for_readers().await;
        let obsolete = self
            .change_epochs(group, |epochs| {
                // Leave epochs alone that another process has begun or made live since.
                if epochs.live == epoch {
                    epochs.obsolete.extend(epochs.retiring.take());
                }
                let before = epochs.obsolete.iter().filter(|old| **old < epoch);
                before.copied().collect::<Vec<u64>>()
            })
            .await?;
        self.wait_for_layout_refresh().await;
        // This includes epochs of replacements that were not completed.
        for old in &obsolete {
            in_bulk(self.clear(group, *old)).await?;
        }
        self.change_epochs(group, |epochs| {
            epochs.obsolete.retain(|old| !obsolete.contains(old));
        })
        .await
    }

    async fn delete(&self, keys: Vec<OnlineKey>, deleted: Timestamp) -> Result<()> {
        let layout = self.layouts.fresh(&self.table).await?;
        for key in keys {
            let deletion = Key::new(format!("t/{}", key.group), key.entity.as_bytes());
            let mut item = deletion.item();
            item.insert("d".to_owned(), number(deleted.as_micros()));
            let condition = Condition {
                expression: "attribute_not_exists(pk) OR d < :d",
                values: vec![(":d", number(deleted.as_micros()))],
            };
            self.table.put(&item, Some(&condition)).await?;
            let epochs = layout.epochs(&key.group);
            for epoch in epochs.written() {
                self.modify(&place(&key, epoch), &mut |stored: &mut StoredItem| {
                    stored.delete_up_to(deleted);
                    Ok(Some(()))
                })
                .await?;
            }
        }
        Ok(())
    }

    async fn count(&self, group: &str) -> Result<u64> {
        let layout = self.layouts.fresh(&self.table).await?;
        let epoch = layout.live(group);
        let count = |bucket| async move {
            let partition = partition(group, epoch, bucket);
            self.table.count(&partition).await
        };
        let counts = (0..BUCKETS).map(|bucket| count(bucket).boxed());
        Ok(run_concurrently(counts.collect()).await?.into_iter().sum())
    }
}

#[async_trait]
impl Upkeep for Dynamo {
    /// Does nothing: early rows are in their entity's item, and are applied when it is read or
    /// written.
    async fn apply_due(&self, _now: Timestamp) -> Result<()> {
        Ok(())
    }

    /// Does nothing: a table on DynamoDB has no end.
    async fn check_room(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl wafer_store::Outbox for Dynamo {
    async fn has_rows(&self) -> Result<bool> {
        self.outbox.has_commits(self.listed_from()).await
    }

    async fn waiting_since(&self) -> Result<Option<Timestamp>> {
        self.outbox.oldest(self.listed_from()).await
    }

    async fn waiting(&self) -> Result<OutboxContents> {
        let (unfinished, left_out) = self.number_commits().await?;
        Ok(OutboxContents {
            tables: self.outbox.waiting(&self.table).await?,
            unfinished,
            left_out,
        })
    }

    async fn read(&self, table: &str, limit: usize) -> Result<Vec<OutboxEntry>> {
        self.number_commits().await?;
        self.outbox.first_rows(&self.table, table, limit).await
    }

    async fn trim(&self, table: &str, through: u64) -> Result<()> {
        self.outbox.trim(&self.table, table, through).await
    }
}

impl Metered for Dynamo {
    fn is_charged(&self) -> bool {
        true
    }

    fn consumed(&self) -> Vec<Consumed> {
        self.table.usage.counts()
    }
}
