//! Commits on S3, and the journal that gives them numbers.
//!
//! A commit is one object, written once: everything that a batch of events writes.
//! It counts from then on; what is in the table follows from it, and can be made
//! again by anybody who reads it. Its name says when it was begun, by which writer,
//! and the how manieth commit of that writer it is.
//!
//! Objects come in no order. The one flusher takes them into the journal, which
//! numbers them; rows of a table are appended to it in that order, and known by
//! it when a flusher dies and another one goes on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::{FutureExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode};
use serde::{Deserialize, Serialize};
use wafer_core::Timestamp;
use wafer_store::{Error, EventCommit, Kind, OutboxEntry, OutboxRow, Result};

use crate::item::Mark;
use crate::table::{
    Condition, Key, Table, Written, bytes, bytes_of, number, number_of, side_by_side,
};

/// Folder of commits.
const FOLDER: &str = "outbox";
/// Commits that have a number at the same time, at most: the journal is one item.
const MAX_NUMBERED: usize = 2_000;
/// A row's number is its commit's, and its place in it in so many bits.
const ROW_BITS: u32 = 20;

/// What a commit is known by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct CommitName {
    /// By the machine's clock of the writer.
    pub(crate) begun: Timestamp,
    pub(crate) writer: u64,
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

/// A point in time in minutes since 1970.
pub(crate) fn minute(time: Timestamp) -> u32 {
    u32::try_from(time.as_micros().div_euclid(60_000_000)).unwrap_or(0)
}

/// The content of a commit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Commit {
    pub(crate) events: Vec<EventCommit>,
    /// The present for its rows.
    pub(crate) now: Timestamp,
}

/// What became of a commit, once everything of it is in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Of its events, those that nobody else had committed before.
    pub(crate) won: Vec<bool>,
}

/// Commits on S3.
#[derive(Debug)]
pub(crate) struct Outbox {
    objects: Arc<dyn ObjectStore>,
    /// Commits that have numbers, as they were read.
    read: Mutex<HashMap<CommitName, Arc<Numbered>>>,
}

/// A commit in the journal: its rows of each table.
#[derive(Debug)]
pub(crate) struct Numbered {
    rows: BTreeMap<String, Vec<OutboxRow>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Journal {
    /// The last number that was given.
    last: u64,
    commits: BTreeMap<u64, String>,
    /// Of each table, the last row that is no longer in the outbox.
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

impl Outbox {
    pub(crate) fn new(objects: Arc<dyn ObjectStore>) -> Self {
        Self {
            objects,
            read: Mutex::default(),
        }
    }

    fn failed(&self, action: &str, error: object_store::Error) -> Error {
        crate::objects::failed(&format!("{action} the outbox in {}", self.objects), error)
    }

    /// Writes a commit, durably.
    pub(crate) async fn write(&self, name: &CommitName, commit: &Commit) -> Result<()> {
        let content = rmp_serde::to_vec(commit).expect("plain data");
        let written = self
            .objects
            .put_opts(
                &path(name),
                Bytes::from(content).into(),
                PutMode::Create.into(),
            )
            .await;
        match written {
            Ok(_) => Ok(()),
            // Nobody else has this name: an answer was lost.
            Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
            Err(e) => Err(self.failed("write to", e)),
        }
    }

    /// A commit, unless it is gone.
    pub(crate) async fn read(&self, name: &CommitName) -> Result<Option<Commit>> {
        let found = match self.objects.get(&path(name)).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            other => other.map_err(|e| self.failed("read", e))?,
        };
        let content = found.bytes().await.map_err(|e| self.failed("read", e))?;
        let commit = rmp_serde::from_slice(&content).map_err(|e| {
            let message = format!("commit {name} of the outbox in {} is damaged", self.objects);
            Error::caused(Kind::Corrupt, message, e)
        })?;
        Ok(Some(commit))
    }

    /// Names of all commits that are there, the oldest first.
    pub(crate) async fn names(&self) -> Result<Vec<CommitName>> {
        let prefix = Path::from(FOLDER);
        let listed = self.objects.list(Some(&prefix));
        let name = |object: object_store::ObjectMeta| {
            let name = object.location.filename().and_then(CommitName::parse);
            std::future::ready(Ok(name))
        };
        let names = listed.try_filter_map(name).try_collect::<Vec<_>>().await;
        let mut names = names.map_err(|e| self.failed("list", e))?;
        names.sort();
        Ok(names)
    }

    /// Removes a commit; its record after it.
    pub(crate) async fn remove(&self, table: &Table, name: &CommitName) -> Result<()> {
        match self.objects.delete(&path(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(e) => return Err(self.failed("remove from", e)),
        }
        table.delete(&record_key(name), None).await?;
        self.known().remove(name);
        Ok(())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<CommitName, Arc<Numbered>>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a numbered commit has for each table. `None`: it is gone.
    async fn numbered(&self, table: &Table, name: &CommitName) -> Result<Option<Arc<Numbered>>> {
        if let Some(found) = self.known().get(name).cloned() {
            return Ok(Some(found));
        }
        let Some(commit) = self.read(name).await? else {
            return Ok(None);
        };
        let record = records(table, std::slice::from_ref(name)).await?;
        let Some(record) = record.get(name) else {
            return Err(table.foreign(&format!("no record of commit {name}")));
        };
        let mut rows: BTreeMap<String, Vec<OutboxRow>> = BTreeMap::new();
        let events = commit.events.into_iter().zip(&record.won);
        for (event, _) in events.filter(|(_, won)| **won) {
            for row in event.outbox {
                rows.entry(row.table.clone()).or_default().push(row);
            }
        }
        let numbered = Arc::new(Numbered { rows });
        self.known().insert(name.clone(), Arc::clone(&numbered));
        Ok(Some(numbered))
    }

    /// All numbered commits with their rows, in the order of their numbers.
    async fn all(
        &self,
        table: &Table,
        journal: &Journal,
    ) -> Result<Vec<(u64, CommitName, Option<Arc<Numbered>>)>> {
        let mut commits = Vec::with_capacity(journal.commits.len());
        for (number, name) in &journal.commits {
            let name = CommitName::parse(name)
                .ok_or_else(|| table.foreign("a journal that cannot be read"))?;
            let commit = async move {
                let rows = self.numbered(table, &name).await?;
                Ok((*number, name, rows))
            };
            commits.push(commit.boxed());
        }
        side_by_side(commits).await
    }

    /// Gives numbers to commits that are complete and have none.
    pub(crate) async fn take(&self, table: &Table, complete: &[CommitName]) -> Result<()> {
        let mut complete = complete.to_vec();
        complete.sort();
        change_journal(table, |journal| {
            let known: BTreeSet<&String> = journal.commits.values().collect();
            let names = complete.iter().map(ToString::to_string);
            let new: Vec<String> = names.filter(|name| !known.contains(name)).collect();
            let room = MAX_NUMBERED.saturating_sub(journal.commits.len());
            let is_changed = !new.is_empty() && room > 0;
            for name in new.into_iter().take(room) {
                journal.last += 1;
                journal.commits.insert(journal.last, name);
            }
            is_changed
        })
        .await?;
        Ok(())
    }

    /// Names of commits that have numbers.
    pub(crate) async fn taken(&self, table: &Table) -> Result<BTreeSet<CommitName>> {
        let (journal, _) = read_journal(table).await?;
        let names = journal.commits.values().map(|name| CommitName::parse(name));
        Ok(names.flatten().collect())
    }

    /// Numbered rows of each table that wait.
    pub(crate) async fn rows(&self, table: &Table) -> Result<BTreeMap<String, Vec<OutboxEntry>>> {
        let (journal, _) = read_journal(table).await?;
        let mut waiting: BTreeMap<String, Vec<OutboxEntry>> = BTreeMap::new();
        for (number, _, commit) in self.all(table, &journal).await? {
            let Some(commit) = commit else { continue };
            for (name, rows) in &commit.rows {
                let trimmed = journal.trimmed.get(name).copied().unwrap_or(0);
                let entries = rows.iter().enumerate().map(|(index, row)| OutboxEntry {
                    sequence: sequence(number, index),
                    row: row.clone(),
                });
                let entries = entries.filter(|entry| entry.sequence > trimmed);
                waiting.entry(name.clone()).or_default().extend(entries);
            }
        }
        waiting.retain(|_, entries| !entries.is_empty());
        Ok(waiting)
    }

    /// Forgets rows of a table; removes commits of which nothing is left.
    pub(crate) async fn trim(&self, table: &Table, name: &str, through: u64) -> Result<()> {
        let (journal, _) = read_journal(table).await?;
        let all = self.all(table, &journal).await?;
        let last = |commit: &(u64, CommitName, Option<Arc<Numbered>>)| {
            let rows = commit.2.as_ref()?.rows.get(name)?;
            Some(sequence(commit.0, rows.len().checked_sub(1)?))
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
        let is_done = |number: u64, commit: &Numbered| {
            commit.rows.iter().all(|(name, rows)| {
                let trimmed = trimmed.get(name).copied().unwrap_or(0);
                rows.is_empty() || sequence(number, rows.len() - 1) <= trimmed
            })
        };
        let done = all
            .iter()
            .filter(|(number, _, commit)| commit.as_ref().is_none_or(|c| is_done(*number, c)));
        let done: Vec<(u64, &CommitName)> = done.map(|(number, name, _)| (*number, name)).collect();
        // The object first: one that is left without a number would get another.
        let removed = done
            .iter()
            .map(|(_, name)| self.remove(table, name).boxed());
        side_by_side(removed.collect()).await?;
        change_journal(table, |journal| {
            for (number, _) in &done {
                journal.commits.remove(number);
            }
            !done.is_empty()
        })
        .await?;
        Ok(())
    }

    /// The last row of a table that is no longer in the outbox.
    pub(crate) async fn trimmed(&self, table: &Table, name: &str) -> Result<u64> {
        let (journal, _) = read_journal(table).await?;
        Ok(journal.trimmed.get(name).copied().unwrap_or(0))
    }

    /// Rows of a table in a commit, with their numbers if it has one.
    pub(crate) async fn rows_of(
        &self,
        table: &Table,
        name: &CommitName,
        of: &str,
    ) -> Result<Vec<(Option<u64>, OutboxRow)>> {
        let (journal, _) = read_journal(table).await?;
        let text = name.to_string();
        let number = journal.commits.iter().find(|(_, name)| **name == text);
        let Some(commit) = self.numbered(table, name).await? else {
            return Ok(Vec::new());
        };
        let rows = commit.rows.get(of).into_iter().flatten().enumerate();
        let row = |(index, row): (usize, &OutboxRow)| {
            (number.map(|(n, _)| sequence(*n, index)), row.clone())
        };
        Ok(rows.map(row).collect())
    }
}

fn sequence(number: u64, index: usize) -> u64 {
    number << ROW_BITS | index as u64
}

/// Most rows of a commit: their places have so many bits.
pub(crate) const MAX_ROWS: usize = 1 << ROW_BITS;

/// Notes that everything of a commit is in the table.
pub(crate) async fn put_record(table: &Table, name: &CommitName, record: &Record) -> Result<()> {
    let mut item = record_key(name).item();
    let won: Vec<u8> = record.won.iter().map(|won| u8::from(*won)).collect();
    item.insert("won".to_owned(), bytes(&won));
    table.put(&item, None).await?;
    Ok(())
}

/// Which of some commits are complete.
pub(crate) async fn records(
    table: &Table,
    names: &[CommitName],
) -> Result<HashMap<CommitName, Record>> {
    let keys: Vec<Key> = names.iter().map(record_key).collect();
    let mut found = table.get_many(&keys).await?;
    let record = |name: &CommitName| {
        let item = found.remove(&record_key(name))?;
        let won = bytes_of(&item, "won")?.iter().map(|won| *won == 1);
        Some((name.clone(), Record { won: won.collect() }))
    };
    Ok(names.iter().filter_map(record).collect())
}

async fn read_journal(table: &Table) -> Result<(Journal, Option<u64>)> {
    let Some(item) = table.get(&journal_key()).await? else {
        return Ok((Journal::default(), None));
    };
    let damaged = || table.foreign("a journal that cannot be read");
    let journal = bytes_of(&item, "d").and_then(|d| serde_json::from_slice(d).ok());
    let version = number_of(&item, "n").ok_or_else(damaged)?;
    Ok((journal.ok_or_else(damaged)?, Some(version)))
}

/// Changes the journal, whoever else does; not at all when `change` says no.
async fn change_journal(table: &Table, change: impl Fn(&mut Journal) -> bool) -> Result<Journal> {
    let mut patience = table.writing();
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
            Written::Done { .. } => return Ok(journal),
            Written::Held { stored, .. } if stored.as_ref() == Some(&item) => return Ok(journal),
            Written::Held { .. } => {}
        }
        if !patience.wait().await {
            let message = "the journal of the outbox is changed by others all the time; try again";
            return Err(Error::new(Kind::Conflict, message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_time_and_are_read_back() {
        let name = |begun, writer, number| CommitName {
            begun: Timestamp::from_micros(begun),
            writer,
            number,
        };
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
}
