//! The outbox: commits on S3, and the journal that numbers them.
//!
//! A commit is one object, which is written once and holds everything that a batch of events
//! writes. The commit takes effect when the object exists: any process can derive the contents of
//! the DynamoDB table from it. The name of the object says when the commit was begun, by which
//! writer, and its number among the commits of that writer.
//!
//! Commit objects have no order of their own. The flusher, of which only one runs at a time, gives
//! them numbers in the journal. Rows are appended to the offline tables in that order, and
//! identified by it when another flusher takes over from one that died.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use serde::{Deserialize, Serialize};
use wafer_core::Timestamp;
use wafer_store::{Error, EventCommit, Kind, OutboxEntry, OutboxRow, Result};

use crate::item::Mark;
use crate::objects::Deadline;
use crate::table::{
    Condition, Key, Table, WriteOutcome, bytes, bytes_of, number, number_of, run_concurrently,
};

/// Folder of the commit objects.
const FOLDER: &str = "outbox";
/// Maximum number of commits in the journal, which must fit in one item.
const MAX_NUMBERED: usize = 2_000;
/// Maximum number of attempts to write a commit object when S3 reports a conflict.
const WRITE_ATTEMPTS: u32 = 5;
/// Number of low bits of a row's sequence number that hold its index within its commit. The other
/// bits hold the commit's number.
const ROW_BITS: u32 = 20;

/// The name of a commit. Names sort by the time when the commits were begun.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct CommitName {
    /// When the commit was begun, by the clock of the writer's machine.
    pub(crate) begun: Timestamp,
    /// Name of the writer.
    pub(crate) writer: u64,
    /// Number of the commit among those of its writer.
    pub(crate) number: u32,
}

impl CommitName {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let begun = parts.next()?.parse().ok()?;
        let writer = u64::from_str_radix(parts.next()?, 16).ok()?;
        let number = u32::from_str_radix(parts.next()?, 16).ok()?;
        parts.next().is_none().then_some(Self {
            begun: Timestamp::from_micros(begun),
            writer,
            number,
        })
    }

    pub(crate) fn mark(&self, now: Timestamp) -> Mark {
        Mark {
            writer: self.writer,
            number: self.number,
            minute: minute(now),
            alone: false,
        }
    }
}

impl std::fmt::Display for CommitName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let begun = self.begun.as_micros();
        write!(f, "{begun:020}-{:016x}-{:08x}", self.writer, self.number)
    }
}

/// Converts a time to minutes since the Unix epoch.
pub(crate) fn minute(time: Timestamp) -> u32 {
    u32::try_from(time.as_micros().div_euclid(60_000_000)).unwrap_or(0)
}

/// The content of a commit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CommitContent {
    pub(crate) events: Vec<EventCommit>,
    /// The time that the events are committed at; decides which early rows are due.
    pub(crate) now: Timestamp,
}

/// The record of a complete commit, all of whose online rows are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommitRecord {
    /// For each event, whether it belongs to this commit and not to an earlier one.
    pub(crate) won: Vec<bool>,
    /// Number of outbox rows of these events, by table.
    pub(crate) rows: BTreeMap<String, u32>,
}

impl CommitRecord {
    pub(crate) fn new(won: Vec<bool>, commit: &CommitContent) -> Self {
        let mut rows = BTreeMap::new();
        let events = commit.events.iter().zip(&won).filter(|(_, won)| **won);
        for row in events.flat_map(|(event, _)| &event.outbox) {
            *rows.entry(row.table.clone()).or_default() += 1;
        }
        Self { won, rows }
    }

    /// Returns the sequence number of the commit's last row for a table, given the commit's number.
    fn last(&self, table: &str, number: u64) -> Option<u64> {
        let count = *self.rows.get(table)?;
        Some(sequence(number, count.checked_sub(1)? as usize))
    }

    /// Returns the tables for which the commit has rows that are not trimmed yet.
    fn waits_for<'a>(
        &'a self,
        number: u64,
        trimmed: &'a BTreeMap<String, u64>,
    ) -> impl Iterator<Item = &'a str> {
        let waits = move |table: &&String| {
            let trimmed = trimmed.get(*table).copied().unwrap_or(0);
            self.last(table, number).is_some_and(|last| last > trimmed)
        };
        self.rows.keys().filter(waits).map(String::as_str)
    }
}

/// The commit objects on S3.
#[derive(Debug)]
pub(crate) struct CommitObjects {
    objects: Arc<dyn ObjectStore>,
    /// The URL of the folder that they are below, for errors.
    folder: String,
    /// Cache of the rows of numbered commits. A commit has rows of several tables, which are read
    /// one after the other.
    cache: Mutex<HashMap<CommitName, Arc<Rows>>>,
}

/// The rows of a commit, by table.
type Rows = BTreeMap<String, Vec<OutboxRow>>;

/// Approximate maximum number of rows in the cache.
const MAX_CACHED_ROWS: usize = 100_000;

/// The numbered commits, in the order in which their rows are appended to the offline tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Journal {
    /// The last number that was assigned.
    last: u64,
    /// Names of the commits that are still in the outbox, by number.
    commits: BTreeMap<u64, String>,
    /// For each table, the sequence number of the last trimmed row.
    trimmed: BTreeMap<String, u64>,
}

fn path(name: &CommitName) -> Path {
    Path::from(format!("{FOLDER}/{name}"))
}

fn record_key(name: &CommitName) -> Key {
    Key::single(format!("c/{name}"))
}

fn journal_key() -> Key {
    Key::single("j")
}

impl CommitObjects {
    pub(crate) fn new(objects: Arc<dyn ObjectStore>, folder: String) -> Self {
        Self {
            objects,
            folder,
            cache: Mutex::default(),
        }
    }

    fn failed(&self, action: &str, error: object_store::Error) -> Error {
        crate::objects::failed(&format!("{action} the outbox in {}", self.folder), error)
    }

    /// Writes a commit, durably. An attempt that may have succeeded, because its answer was lost,
    /// is not repeated after `deadline`: another process could have finished, flushed and removed
    /// the commit by then, and would find it once more.
    pub(crate) async fn write(
        &self,
        name: &CommitName,
        commit: &CommitContent,
        deadline: Deadline,
    ) -> Result<()> {
        let content = Bytes::from(rmp_serde::to_vec(commit).expect("plain data"));
        let again = deadline.clone().in_doubt().into_options();
        let (path, mut options, mut attempts) = (path(name), deadline.into_options(), 0);
        loop {
            let content = content.clone().into();
            match self.objects.put_opts(&path, content, options.clone()).await {
                Ok(_) => return Ok(()),
                // Names are unique, so an earlier attempt of this call is the cause: either it
                // succeeded and its response was lost, or S3 is still processing it (409 Conflict).
                Err(e @ object_store::Error::AlreadyExists { .. }) => {
                    if self.exists(name).await? {
                        return Ok(());
                    }
                    // If it succeeded, the commit was removed since.
                    options.clone_from(&again);
                    attempts += 1;
                    if attempts == WRITE_ATTEMPTS {
                        return Err(self.failed("write to", e));
                    }
                }
                Err(e) => return Err(self.failed("write to", e)),
            }
        }
    }

    /// Returns whether a commit object exists.
    pub(crate) async fn exists(&self, name: &CommitName) -> Result<bool> {
        match self.objects.head(&path(name)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(e) => Err(self.failed("read", e)),
        }
    }

    /// Reads a commit. Returns `None` if it was removed.
    pub(crate) async fn read(&self, name: &CommitName) -> Result<Option<CommitContent>> {
        let found = match self.objects.get(&path(name)).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            other => other.map_err(|e| self.failed("read", e))?,
        };
        let content = found.bytes().await.map_err(|e| self.failed("read", e))?;
        let commit = rmp_serde::from_slice(&content).map_err(|e| {
            let message = format!("commit {name} of the outbox in {} is damaged", self.folder);
            Error::caused(Kind::Corrupt, message, e)
        })?;
        Ok(Some(commit))
    }

    /// Returns whether there is any commit that was begun at or after `from`.
    pub(crate) async fn has_commits(&self, from: Option<Timestamp>) -> Result<bool> {
        let mut listed = self.list(from);
        let first = listed.try_next().await;
        Ok(first.map_err(|e| self.failed("list", e))?.is_some())
    }

    /// Returns when the oldest of the commits that were begun at or after `from` was begun, whether
    /// it is finished or not. The names of commits sort by that time, and S3 lists names in their
    /// order, so the first page of a listing has the oldest one:
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/ListingKeysUsingAPIs.html>.
    pub(crate) async fn oldest(&self, from: Option<Timestamp>) -> Result<Option<Timestamp>> {
        let failed = |e| self.failed("list", e);
        let mut listed = self.list(from);
        while let Some(object) = listed.try_next().await.map_err(failed)? {
            let name = object.location.filename().and_then(CommitName::parse);
            if let Some(name) = name {
                return Ok(Some(name.begun));
            }
        }
        Ok(None)
    }

    /// Lists the commit objects, starting at those that were begun at `from`. A later start makes
    /// listing faster: in a bucket with versioning, S3 also walks over objects that were deleted
    /// in the last days.
    fn list(
        &self,
        from: Option<Timestamp>,
    ) -> BoxStream<'static, object_store::Result<object_store::ObjectMeta>> {
        let folder = Path::from(FOLDER);
        match from {
            Some(from) => {
                let first = format!("{FOLDER}/{:020}", from.as_micros().max(0));
                self.objects
                    .list_with_offset(Some(&folder), &Path::from(first))
            }
            None => self.objects.list(Some(&folder)),
        }
    }

    /// Returns the names of all commits that were begun at or after `from`, oldest first.
    pub(crate) async fn names(&self, from: Option<Timestamp>) -> Result<Vec<CommitName>> {
        let listed = self.list(from);
        let name = |object: object_store::ObjectMeta| {
            let name = object.location.filename().and_then(CommitName::parse);
            std::future::ready(Ok(name))
        };
        let names = listed.try_filter_map(name).try_collect::<Vec<_>>().await;
        let mut names = names.map_err(|e| self.failed("list", e))?;
        names.sort();
        Ok(names)
    }

    /// Removes a commit object, and then its record.
    pub(crate) async fn remove(&self, table: &Table, name: &CommitName) -> Result<()> {
        match self.objects.delete(&path(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(e) => return Err(self.failed("remove from", e)),
        }
        table.delete(&record_key(name), None).await?;
        self.cache().remove(name);
        Ok(())
    }

    fn cache(&self) -> MutexGuard<'_, HashMap<CommitName, Arc<Rows>>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the rows of a commit. Returns `None` if it was removed.
    async fn rows(&self, table: &Table, name: &CommitName) -> Result<Option<Rows>> {
        let Some(commit) = self.read(name).await? else {
            return Ok(None);
        };
        let record = records(table, std::slice::from_ref(name)).await?;
        let Some(record) = record.get(name) else {
            // The record is removed after the commit object, so the object must be gone as well.
            return match self.exists(name).await? {
                false => Ok(None),
                true => Err(table.corrupt(&format!("no record of commit {name}"))),
            };
        };
        let mut rows = Rows::new();
        let events = commit.events.into_iter().zip(&record.won);
        for (event, _) in events.filter(|(_, won)| **won) {
            for row in event.outbox {
                rows.entry(row.table.clone()).or_default().push(row);
            }
        }
        Ok(Some(rows))
    }

    /// Returns the rows of a numbered commit like [`rows`](Self::rows), from the cache if possible.
    async fn numbered_rows(&self, table: &Table, name: &CommitName) -> Result<Arc<Rows>> {
        if let Some(found) = self.cache().get(name).cloned() {
            return Ok(found);
        }
        let rows = Arc::new(self.rows(table, name).await?.unwrap_or_default());
        let mut known = self.cache();
        let count = |rows: &Arc<Rows>| rows.values().map(Vec::len).sum::<usize>();
        if known.values().map(count).sum::<usize>() + count(&rows) > MAX_CACHED_ROWS {
            known.clear();
        }
        known.insert(name.clone(), Arc::clone(&rows));
        Ok(rows)
    }

    /// Returns all numbered commits, in the order of their numbers. A commit without a record was
    /// removed.
    async fn numbered(
        &self,
        table: &Table,
        journal: &Journal,
    ) -> Result<Vec<(u64, CommitName, Option<CommitRecord>)>> {
        let parse = |name: &String| {
            let name = CommitName::parse(name);
            name.ok_or_else(|| table.corrupt("a journal that cannot be read"))
        };
        let names: Vec<CommitName> = journal.commits.values().map(parse).collect::<Result<_>>()?;
        let there: HashSet<&CommitName> = names.iter().collect();
        self.cache().retain(|name, _| there.contains(name));
        let mut found = records(table, &names).await?;
        let numbers = journal.commits.keys().zip(names);
        let commits = numbers.map(|(number, name)| {
            let record = found.remove(&name);
            (*number, name, record)
        });
        Ok(commits.collect())
    }

    /// Assigns numbers to the complete commits that have none, as far as the journal has room.
    /// Returns the names of those that are left out, because it has none.
    pub(crate) async fn assign_numbers(
        &self,
        table: &Table,
        complete: &[CommitName],
    ) -> Result<Vec<String>> {
        let mut complete = complete.to_vec();
        complete.sort();
        let mut left_out = Vec::new();
        let journal = change_journal(table, |journal| {
            let known: BTreeSet<&String> = journal.commits.values().collect();
            let names = complete.iter().map(ToString::to_string);
            let mut new: Vec<String> = names.filter(|name| !known.contains(name)).collect();
            let room = MAX_NUMBERED.saturating_sub(journal.commits.len());
            left_out = new.split_off(room.min(new.len()));
            let is_changed = !new.is_empty();
            for name in new {
                journal.last += 1;
                journal.commits.insert(journal.last, name);
            }
            is_changed
        })
        .await?;
        if !left_out.is_empty() {
            let count = left_out.len();
            self.log_blocking_tables(table, &journal, count).await?;
        }
        Ok(left_out)
    }

    /// Logs which tables the oldest commit waits for, when the journal is full.
    async fn log_blocking_tables(
        &self,
        table: &Table,
        journal: &Journal,
        left_out: usize,
    ) -> Result<()> {
        let commits = self.numbered(table, journal).await?;
        let oldest = commits
            .iter()
            .find_map(|(number, _, record)| Some((*number, record.as_ref()?)));
        let tables = oldest.map_or_else(Vec::new, |(number, record)| {
            record.waits_for(number, &journal.trimmed).collect()
        });
        tracing::error!(
            "{left_out} commits wait, as {MAX_NUMBERED} others are not appended to the offline tables: \
             {} cannot be written to, or nobody flushes",
            tables.join(", ")
        );
        Ok(())
    }

    /// Returns the names of all commits that have numbers.
    pub(crate) async fn numbered_names(&self, table: &Table) -> Result<BTreeSet<CommitName>> {
        let (journal, _) = read_journal(table).await?;
        let names = journal.commits.values().map(|name| CommitName::parse(name));
        Ok(names.flatten().collect())
    }

    /// Returns the tables that have numbered rows, with the sequence number of the last one.
    pub(crate) async fn waiting(&self, table: &Table) -> Result<Vec<(String, u64)>> {
        let (journal, _) = read_journal(table).await?;
        let mut waiting: BTreeMap<String, u64> = BTreeMap::new();
        for (number, _, record) in self.numbered(table, &journal).await? {
            let Some(record) = record else { continue };
            for name in record.waits_for(number, &journal.trimmed) {
                if let Some(last) = record.last(name, number) {
                    let known = waiting.entry(name.to_owned()).or_default();
                    *known = last.max(*known);
                }
            }
        }
        Ok(waiting.into_iter().collect())
    }

    /// Returns the first numbered rows of a table, at most `limit`.
    pub(crate) async fn first_rows(
        &self,
        table: &Table,
        name: &str,
        limit: usize,
    ) -> Result<Vec<OutboxEntry>> {
        let (journal, _) = read_journal(table).await?;
        let trimmed = journal.trimmed.get(name).copied().unwrap_or(0);
        let (mut calls, mut count) = (Vec::new(), 0);
        for (number, commit, record) in self.numbered(table, &journal).await? {
            let last = record
                .and_then(|record| Some((*record.rows.get(name)?, record.last(name, number)?)));
            let Some((rows, _)) = last.filter(|(_, last)| *last > trimmed) else {
                continue;
            };
            if count >= limit {
                break;
            }
            count += rows as usize;
            let call = async move {
                let rows = self.numbered_rows(table, &commit).await?;
                let rows = rows.get(name).into_iter().flatten().enumerate();
                let entries = rows.map(|(index, row)| OutboxEntry {
                    sequence: sequence(number, index),
                    row: row.clone(),
                });
                Ok(entries.collect::<Vec<_>>())
            };
            calls.push(call.boxed());
        }
        let entries = run_concurrently(calls).await?.into_iter().flatten();
        let entries = entries.filter(|entry| entry.sequence > trimmed);
        Ok(entries.take(limit).collect())
    }

    /// Trims the rows of a table up to and including sequence number `through`, and removes commits
    /// that have no rows left.
    pub(crate) async fn trim(&self, table: &Table, name: &str, through: u64) -> Result<()> {
        let (journal, _) = read_journal(table).await?;
        let all = self.numbered(table, &journal).await?;
        let last = |(number, _, record): &(u64, CommitName, Option<CommitRecord>)| {
            record.as_ref()?.last(name, *number)
        };
        let Some(last) = all.iter().filter_map(last).max() else {
            return Ok(());
        };
        let through = through.min(last);
        let trimmed = change_journal(table, |journal| {
            let trimmed = journal.trimmed.entry(name.to_owned()).or_default();
            let rises = through > *trimmed;
            *trimmed = through.max(*trimmed);
            rises
        })
        .await?
        .trimmed;
        let is_done = |number: u64, record: &CommitRecord| {
            record.waits_for(number, &trimmed).next().is_none()
        };
        let done = all
            .iter()
            .filter(|(number, _, record)| record.as_ref().is_none_or(|r| is_done(*number, r)));
        let done: Vec<(u64, &CommitName)> = done.map(|(number, name, _)| (*number, name)).collect();
        // Remove the object before the number: an object without a number would get a new one.
        let removed = done
            .iter()
            .map(|(_, name)| self.remove(table, name).boxed());
        run_concurrently(removed.collect()).await?;
        change_journal(table, |journal| {
            for (number, _) in &done {
                journal.commits.remove(number);
            }
            !done.is_empty()
        })
        .await?;
        Ok(())
    }

    /// Returns the sequence number of the last trimmed row of a table.
    pub(crate) async fn trimmed(&self, table: &Table, name: &str) -> Result<u64> {
        let (journal, _) = read_journal(table).await?;
        Ok(journal.trimmed.get(name).copied().unwrap_or(0))
    }

    /// Returns the rows of a commit for the table `of`, with their sequence numbers if the commit
    /// has a number.
    pub(crate) async fn rows_of(
        &self,
        table: &Table,
        name: &CommitName,
        of: &str,
    ) -> Result<Vec<(Option<u64>, OutboxRow)>> {
        let (journal, _) = read_journal(table).await?;
        let text = name.to_string();
        let number = journal.commits.iter().find(|(_, name)| **name == text);
        let number = number.map(|(number, _)| *number);
        let Some(mut rows) = self.rows(table, name).await? else {
            return Ok(Vec::new());
        };
        let rows = rows.remove(of).unwrap_or_default().into_iter().enumerate();
        let numbered = rows.map(|(index, row)| (number.map(|n| sequence(n, index)), row));
        Ok(numbered.collect())
    }
}

/// Returns the sequence number of a row, from its commit's number and its index in the commit.
fn sequence(number: u64, index: usize) -> u64 {
    number << ROW_BITS | index as u64
}

/// Maximum number of outbox rows of a commit; see [`ROW_BITS`].
pub(crate) const MAX_ROWS: usize = 1 << ROW_BITS;

/// Records that a commit is complete.
pub(crate) async fn put_record(
    table: &Table,
    name: &CommitName,
    record: &CommitRecord,
) -> Result<()> {
    let mut item = record_key(name).item();
    let won: Vec<u8> = record.won.iter().map(|won| u8::from(*won)).collect();
    item.insert("won".to_owned(), bytes(&won));
    let rows = serde_json::to_vec(&record.rows).expect("plain data");
    item.insert("rows".to_owned(), bytes(&rows));
    table.put(&item, None).await?;
    Ok(())
}

/// Returns the records of those commits that are complete.
pub(crate) async fn records(
    table: &Table,
    names: &[CommitName],
) -> Result<HashMap<CommitName, CommitRecord>> {
    let keys: Vec<Key> = names.iter().map(record_key).collect();
    let mut found = table.get_many(&keys).await?;
    let record = |name: &CommitName| {
        let item = found.remove(&record_key(name))?;
        let won = bytes_of(&item, "won")?.iter().map(|won| *won == 1);
        let record = CommitRecord {
            won: won.collect(),
            rows: serde_json::from_slice(bytes_of(&item, "rows")?).ok()?,
        };
        Some((name.clone(), record))
    };
    Ok(names.iter().filter_map(record).collect())
}

/// Reads the journal, and the version of its item.
async fn read_journal(table: &Table) -> Result<(Journal, Option<u64>)> {
    let Some(item) = table.get(&journal_key()).await? else {
        return Ok((Journal::default(), None));
    };
    let damaged = || table.corrupt("a journal that cannot be read");
    let journal = bytes_of(&item, "d").and_then(|d| serde_json::from_slice(d).ok());
    let version = number_of(&item, "n").ok_or_else(damaged)?;
    Ok((journal.ok_or_else(damaged)?, Some(version)))
}

/// Changes the journal atomically, retrying when other processes change it at the same time.
/// Nothing is written if `change` returns false.
async fn change_journal(
    table: &Table,
    mut change: impl FnMut(&mut Journal) -> bool,
) -> Result<Journal> {
    let mut backoff = table.write_backoff();
    loop {
        let (mut journal, version) = read_journal(table).await?;
        if !change(&mut journal) {
            return Ok(journal);
        }
        let mut item = journal_key().item();
        let data = serde_json::to_vec(&journal).expect("plain data");
        item.insert("n".to_owned(), number(version.unwrap_or(0) + 1));
        item.insert("d".to_owned(), bytes(&data));
        match table.put(&item, Some(&Condition::version(version))).await? {
            WriteOutcome::Done { .. } => return Ok(journal),
            WriteOutcome::ConditionFailed { stored, .. } if stored.as_ref() == Some(&item) => {
                return Ok(journal);
            }
            WriteOutcome::ConditionFailed { .. } => {}
        }
        if !backoff.wait().await {
            let message = "the journal of the outbox is changed by others all the time; try again";
            return Err(Error::new(Kind::Conflict, message));
        }
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;
    use wafer_core::SystemClock;

    use super::*;

    fn name(begun: i64, writer: u64, number: u32) -> CommitName {
        CommitName {
            begun: Timestamp::from_micros(begun),
            writer,
            number,
        }
    }

    #[test]
    fn commit_names_sort_by_time_and_round_trip() {
        let names = [name(5, u64::MAX, 1), name(6, 0, 0), name(6, 0, 16)];
        let texts: Vec<String> = names.iter().map(ToString::to_string).collect();
        assert!(texts.is_sorted());
        for (name, text) in names.iter().zip(&texts) {
            assert_eq!(CommitName::parse(text).as_ref(), Some(name));
        }
        for text in ["", "1-2", "x-1-1", "1-2-3-4"] {
            assert_eq!(CommitName::parse(text), None, "{text}");
        }
    }

    #[test]
    fn errors_name_the_folder_and_what_the_role_needs_in_it() {
        let outbox = CommitObjects::new(Arc::new(InMemory::new()), "s3://b/p".to_owned());
        let denied = object_store::Error::PermissionDenied {
            path: "outbox/1".to_owned(),
            source: "no".into(),
        };
        let error = outbox.failed("write to", denied).to_string();
        for part in [
            "cannot write to the outbox in s3://b/p:",
            "arn:aws:s3:::b/p/*",
        ] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[tokio::test]
    async fn oldest_commit_is_found_although_nobody_finished_it() {
        let outbox = CommitObjects::new(Arc::new(InMemory::new()), "s3://b/p".to_owned());
        assert_eq!(outbox.oldest(None).await.unwrap(), None);
        let commit = CommitContent {
            events: Vec::new(),
            now: Timestamp::from_micros(0),
        };
        let deadline = Deadline::new(Arc::new(SystemClock::new()), Timestamp::MAX);
        for begun in [9, 5, 7] {
            let name = name(begun, 1, 1);
            let written = outbox.write(&name, &commit, deadline.clone()).await;
            written.unwrap();
        }
        // An object whose name is not that of a commit is passed over.
        let foreign = Bytes::from_static(b"x").into();
        let path = Path::from(format!("{FOLDER}/0"));
        outbox.objects.put(&path, foreign).await.unwrap();
        for (from, wanted) in [
            (None, Some(5)),
            (Some(5), Some(5)),
            (Some(6), Some(7)),
            (Some(10), None),
        ] {
            let found = outbox.oldest(from.map(Timestamp::from_micros)).await;
            let wanted = wanted.map(Timestamp::from_micros);
            assert_eq!(found.unwrap(), wanted, "{from:?}");
        }
    }
}
