//! The embedded online and metadata store: one LMDB environment.
//!
//! LMDB is memory-mapped, crash-safe and shared by processes. Readers never wait; writers take
//! turns. All writes of this process go through one thread, which gathers the waiting writes
//! into one transaction, so that many requests share one `fsync`.

use std::fmt;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use async_trait::async_trait;
use bytes::Bytes;
use heed::types::Bytes as Raw;
use heed::{
    CommitOrAbort, Database, Env, EnvOpenOptions, MdbError, PutFlags, RoTxn, RwTxn, WithoutTls,
};
use tokio::sync::oneshot;
use wafer_core::Timestamp;
use wafer_core::aggregate::is_item;
use wafer_core::rules::RowVersion;

use crate::online::combine;
use crate::{
    EarlyWrite, Error, EventCommit, EventOutcome, Expect, GroupContent, Kind, MetadataStore,
    OnlineKey, OnlineRow, OnlineStore, OnlineWrite, OutboxEntry, OutboxRow, PutCounts, Result,
    Versioned, Waiting,
};

/// Settings of the embedded store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LmdbConfig {
    /// Folder of the environment; created if it does not exist.
    pub path: PathBuf,
    /// Maximum size in bytes (setting `store.map_size`). It reserves address space, not disk
    /// space: the file is only as long as its content.
    pub map_size: u64,
}

/// Maximum number of concurrent read transactions, over all processes.
const MAX_READERS: u32 = 1_024;
/// Maximum number of jobs in one transaction, so that jobs are answered in time even under a
/// continuous stream of writes.
const MAX_GROUP: usize = 1_024;
/// Maximum number of expired event identities that one commit removes, to keep it short.
const MAX_FORGOTTEN: usize = 1_000;
const MAX_OBJECT_BYTES: usize = 256 * 1_024;
const MAX_NAME_BYTES: usize = 400;

type Table = Database<'static, Raw, Raw>;

/// The named databases of the environment, with the layout of their keys and values.
#[derive(Clone, Copy, Debug)]
struct Tables {
    /// Online rows: group, 0, entity → event time, created time, event identity, fingerprint,
    /// values.
    online: Table,
    /// Early rows, sorted by due time: due time, counter → length of the online key, online
    /// key, online value.
    early: Table,
    /// Identities of committed events: source, 0, digest of the event id → expiry time.
    seen: Table,
    /// Identities sorted by expiry: expiry time, key of `seen` → nothing.
    forget: Table,
    /// The outbox: table, 0, sequence number → outbox row.
    outbox: Table,
    /// Sequence counters: name → last number assigned.
    counters: Table,
    /// Metadata objects: name → version, value.
    metadata: Table,
}

/// The embedded online and metadata store: one LMDB environment.
pub struct Lmdb {
    path: PathBuf,
    env: &'static Env<WithoutTls>,
    tables: Tables,
    writer: mpsc::Sender<Box<dyn Job>>,
}

impl Lmdb {
    /// Opens the store, creating it if it does not exist, and starts its writer thread, which
    /// ends when the store is dropped.
    ///
    /// The environment stays open until the process ends, because a process must not open an
    /// LMDB environment twice, and the handles of its databases borrow from it.
    ///
    /// # Errors
    /// Fails when the folder cannot be created, when it holds something other than an LMDB
    /// environment, or when this process has already opened it.
    pub fn open(config: &LmdbConfig) -> Result<Self> {
        let path = &config.path;
        std::fs::create_dir_all(path).map_err(|e| Error::io("make", path, e))?;
        let map_size = usize::try_from(config.map_size).map_err(|_| {
            Error::new(
                Kind::Invalid,
                "store.map_size does not fit this machine's addresses",
            )
        })?;
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options
            .map_size(map_size)
            .max_readers(MAX_READERS)
            .max_dbs(16);
        #[allow(
            unsafe_code,
            reason = "heed cannot know what else is done with a file it maps"
        )]
        // SAFETY: only LMDB changes the files of the environment: the folder belongs to the
        // store, and LMDB's lock file synchronises processes.
        let env = unsafe { options.open(path) }.map_err(|e| failed("open", path, e))?;
        env.clear_stale_readers()
            .map_err(|e| failed("clean", path, e))?;
        let env: &'static Env<WithoutTls> = Box::leak(Box::new(env));
        let tables = Self::tables(env).map_err(|e| failed("open", path, e))?;

        let (writer, jobs) = mpsc::channel();
        let thread_path = path.clone();
        thread::Builder::new()
            .name("wafer-writer".to_owned())
            .spawn(move || write_loop(env, &tables, &thread_path, &jobs))
            .map_err(|e| Error::caused(Kind::Internal, "cannot start the writer thread", e))?;
        Ok(Self {
            path: path.clone(),
            env,
            tables,
            writer,
        })
    }

    fn tables(env: &'static Env<WithoutTls>) -> heed::Result<Tables> {
        let opened = env.create_databases_and_commit(env.write_txn()?, |opener, txn| {
            let mut table = |name| opener.create_database(txn, Some(name));
            Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit([
                table("online")?,
                table("early")?,
                table("seen")?,
                table("forget")?,
                table("outbox")?,
                table("counters")?,
                table("metadata")?,
            ]))
        })?;
        let [online, early, seen, forget, outbox, counters, metadata] = opened.unwrap_commit();
        Ok(Tables {
            online,
            early,
            seen,
            forget,
            outbox,
            counters,
            metadata,
        })
    }

    fn read<T>(
        &self,
        action: impl FnOnce(&RoTxn<'_, WithoutTls>, &Tables) -> heed::Result<T>,
    ) -> Result<T> {
        let txn = self
            .env
            .read_txn()
            .map_err(|e| failed("read", &self.path, e))?;
        action(&txn, &self.tables).map_err(|e| failed("read", &self.path, e))
    }

    /// Runs an action in a transaction on the writer thread, and waits until the transaction is
    /// durable. The action may run more than once.
    async fn write<T: Send + 'static>(
        &self,
        action: impl FnMut(&mut RwTxn<'_>, &Tables) -> heed::Result<Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let job = Write {
            action,
            result: None,
            reply,
        };
        let gone = || Error::new(Kind::Internal, "the writer thread has ended");
        self.writer.send(Box::new(job)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl fmt::Debug for Lmdb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lmdb")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Lmdb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LMDB {}", self.path.display())
    }
}

/// A write, with the caller that waits for its result.
trait Job: Send {
    /// Executes the write in a transaction.
    fn run(&mut self, txn: &mut RwTxn<'_>, tables: &Tables) -> heed::Result<()>;
    /// Sends the result to the caller, once the transaction has been committed or has failed.
    fn answer(self: Box<Self>, failure: Option<Error>);
}

struct Write<T, F> {
    action: F,
    result: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Job for Write<T, F>
where
    T: Send,
    F: FnMut(&mut RwTxn<'_>, &Tables) -> heed::Result<Result<T>> + Send,
{
    fn run(&mut self, txn: &mut RwTxn<'_>, tables: &Tables) -> heed::Result<()> {
        self.result = Some((self.action)(txn, tables)?);
        Ok(())
    }

    fn answer(self: Box<Self>, failure: Option<Error>) {
        let result = match (failure, self.result) {
            (Some(error), _) => Err(error),
            (None, Some(result)) => result,
            (None, None) => Err(Error::new(
                Kind::Internal,
                "a write was answered before it ran",
            )),
        };
        // The receiver is gone if the caller no longer waits.
        let _ = self.reply.send(result);
    }
}

fn write_loop(
    env: &Env<WithoutTls>,
    tables: &Tables,
    path: &Path,
    jobs: &mpsc::Receiver<Box<dyn Job>>,
) {
    while let Ok(first) = jobs.recv() {
        let mut group = vec![first];
        group.extend(jobs.try_iter().take(MAX_GROUP - 1));
        if run_group(env, tables, &mut group).is_ok() {
            group.into_iter().for_each(|job| job.answer(None));
            continue;
        }
        // One job failed, and the whole transaction with it. Retry each job in its own
        // transaction, so that only the failing jobs fail.
        for mut job in group {
            let failure = run_group(env, tables, std::slice::from_mut(&mut job))
                .err()
                .map(|e| failed("write to", path, e));
            job.answer(failure);
        }
    }
}

fn run_group(
    env: &Env<WithoutTls>,
    tables: &Tables,
    group: &mut [Box<dyn Job>],
) -> heed::Result<()> {
    let mut txn = env.write_txn()?;
    for job in group {
        // A panic in one job must not end the writer thread, which serves the others.
        let run = AssertUnwindSafe(|| job.run(&mut txn, tables));
        catch_unwind(run).unwrap_or_else(|_| {
            let message = "a write panicked; the log says where";
            Err(refused(Error::new(Kind::Internal, message)))
        })?;
    }
    txn.commit()
}

fn failed(action: &str, path: &Path, error: heed::Error) -> Error {
    if let heed::Error::Encoding(own) = error {
        return match own.downcast::<Error>() {
            Ok(own) => *own,
            Err(other) => Error::caused(
                Kind::Internal,
                format!("cannot {action} the store {}", path.display()),
                heed::Error::Encoding(other),
            ),
        };
    }
    let (kind, advice) = match &error {
        heed::Error::Mdb(MdbError::MapFull) => (
            Kind::Unavailable,
            ": it is full; raise the setting `store.map_size`",
        ),
        heed::Error::Mdb(MdbError::ReadersFull) => {
            (Kind::Unavailable, ": too many readers at once")
        }
        heed::Error::Mdb(MdbError::BadValSize) => (Kind::Invalid, ": a key is too long"),
        heed::Error::Mdb(
            MdbError::Corrupted
            | MdbError::PageNotFound
            | MdbError::Invalid
            | MdbError::VersionMismatch,
        ) => (
            Kind::Corrupt,
            ": its files are damaged or of another program",
        ),
        heed::Error::EnvAlreadyOpened => (Kind::Conflict, ": this process has it open already"),
        heed::Error::Io(e) if e.kind() == std::io::ErrorKind::StorageFull => {
            (Kind::Unavailable, ": the disk is full")
        }
        _ => (Kind::Internal, ""),
    };
    Error::caused(
        kind,
        format!("cannot {action} the store {}{advice}", path.display()),
        error,
    )
}

// Encodings. Numbers in keys are big endian, and times have their sign bit flipped, so that
// keys sort by value. Numbers in values are little endian.

fn sortable(time: Timestamp) -> [u8; 8] {
    (time.as_micros() ^ i64::MIN).to_be_bytes()
}

fn from_sortable(bytes: &[u8]) -> Option<Timestamp> {
    let bytes: [u8; 8] = bytes.get(..8)?.try_into().ok()?;
    Some(Timestamp::from_micros(i64::from_be_bytes(bytes) ^ i64::MIN))
}

fn prefixed(name: &str, rest: &[u8]) -> Vec<u8> {
    [name.as_bytes(), &[0], rest].concat()
}

fn online_key(key: &OnlineKey) -> Vec<u8> {
    prefixed(&key.group, key.entity.as_bytes())
}

fn online_value(row: &OnlineRow) -> Vec<u8> {
    let mut value = Vec::with_capacity(32 + row.values.len());
    value.extend_from_slice(&row.version.event.as_micros().to_le_bytes());
    value.extend_from_slice(&row.version.created.as_micros().to_le_bytes());
    value.extend_from_slice(&row.version.id.to_le_bytes());
    value.extend_from_slice(&row.fingerprint.to_le_bytes());
    value.extend_from_slice(&row.values);
    value
}

fn take_i64(bytes: &[u8], at: usize) -> Option<i64> {
    Some(i64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn row_version(value: &[u8]) -> Option<RowVersion> {
    Some(RowVersion {
        event: Timestamp::from_micros(take_i64(value, 0)?),
        created: Timestamp::from_micros(take_i64(value, 8)?),
        id: take_i64(value, 16)? as u64,
    })
}

fn online_row(value: &[u8]) -> Option<OnlineRow> {
    Some(OnlineRow {
        version: row_version(value)?,
        fingerprint: take_i64(value, 24)? as u64,
        values: Bytes::copy_from_slice(value.get(32..)?),
    })
}

fn outbox_value(row: &OutboxRow) -> Vec<u8> {
    let id = row.event_id.as_bytes();
    let mut value = Vec::with_capacity(28 + id.len() + row.values.len());
    value.extend_from_slice(&row.event.as_micros().to_le_bytes());
    value.extend_from_slice(&row.available.as_micros().to_le_bytes());
    value.extend_from_slice(&row.created.as_micros().to_le_bytes());
    value.extend_from_slice(&(id.len() as u32).to_le_bytes());
    value.extend_from_slice(id);
    value.extend_from_slice(&row.values);
    value
}

fn outbox_row(table: &str, value: &[u8]) -> Option<OutboxRow> {
    let time = |at| take_i64(value, at).map(Timestamp::from_micros);
    let length = u32::from_le_bytes(value.get(24..28)?.try_into().ok()?) as usize;
    Some(OutboxRow {
        table: table.to_owned(),
        event: time(0)?,
        available: time(8)?,
        created: time(16)?,
        event_id: String::from_utf8(value.get(28..28 + length)?.to_vec()).ok()?,
        values: Bytes::copy_from_slice(value.get(28 + length..)?),
    })
}

fn damaged(what: &str) -> Error {
    Error::new(Kind::Corrupt, format!("a stored {what} is damaged"))
}

// Actions within a transaction.

fn last_number(txn: &RoTxn<'_>, tables: &Tables, name: &[u8]) -> heed::Result<u64> {
    let last = tables.counters.get(txn, name)?;
    Ok(last
        .and_then(|v| v.try_into().ok())
        .map_or(0, u64::from_le_bytes))
}

fn next_number(txn: &mut RwTxn<'_>, tables: &Tables, name: &[u8]) -> heed::Result<u64> {
    let last = last_number(txn, tables, name)?;
    tables.counters.put(txn, name, &(last + 1).to_le_bytes())?;
    Ok(last + 1)
}

/// Writes a row by [`combine`], and returns whether that changed anything. A damaged stored row
/// is returned as a `heed` error, so that it aborts the transaction.
fn put_row(
    txn: &mut RwTxn<'_>,
    tables: &Tables,
    key: &[u8],
    row: &OnlineRow,
) -> heed::Result<bool> {
    let stored = match tables.online.get(txn, key)? {
        None => None,
        Some(value) => Some(online_row(value).ok_or_else(|| refused(damaged("row")))?),
    };
    let combined = combine(stored.as_ref(), row).map_err(refused)?;
    if let Some(row) = &combined {
        tables.online.put(txn, key, &online_value(row))?;
    }
    Ok(combined.is_some())
}

/// Wraps an error of this crate in a `heed` error, so that it aborts the transaction. [`failed`]
/// unwraps it.
fn refused(error: Error) -> heed::Error {
    heed::Error::Encoding(Box::new(error))
}

fn put_early(txn: &mut RwTxn<'_>, tables: &Tables, early: &EarlyWrite) -> heed::Result<()> {
    let key = online_key(&early.write.key);
    let length = (key.len() as u32).to_le_bytes();
    let number = next_number(txn, tables, b"early")?.to_be_bytes();
    let place = [sortable(early.due), number].concat();
    let entry = [&length[..], &key, &online_value(&early.write.row)].concat();
    tables.early.put(txn, &place, &entry)
}

/// Splits an entry of `early` into the online key and the online value.
fn early_entry(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = entry.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

/// Removes the early rows whose online key and value match `matches`.
fn forget_early(
    txn: &mut RwTxn<'_>,
    tables: &Tables,
    matches: impl Fn(&[u8], &[u8]) -> bool,
) -> heed::Result<()> {
    let mut places = Vec::new();
    for entry in tables.early.iter(txn)? {
        let (place, entry) = entry?;
        if early_entry(entry).is_some_and(|(key, value)| matches(key, value)) {
            places.push(place.to_vec());
        }
    }
    for place in places {
        tables.early.delete(txn, &place)?;
    }
    Ok(())
}

/// Returns the sequence number of the last row that has been trimmed from a table's outbox.
fn trimmed_through(txn: &RoTxn<'_>, tables: &Tables, table: &str) -> heed::Result<u64> {
    let prefix = prefixed(table, &[]);
    let first = tables
        .outbox
        .prefix_iter(txn, &prefix)?
        .next()
        .transpose()?;
    let number = first.and_then(|(place, _)| place.get(prefix.len()..)?.try_into().ok());
    match number.map(u64::from_be_bytes) {
        Some(first) => Ok(first.saturating_sub(1)),
        None => last_number(txn, tables, &prefixed("outbox", table.as_bytes())),
    }
}

fn replace_group(
    txn: &mut RwTxn<'_>,
    tables: &Tables,
    group: &str,
    content: &GroupContent,
) -> heed::Result<()> {
    let prefix = prefixed(group, &[]);
    let mut tombstones = Vec::new();
    let mut end = prefix.clone();
    for entry in tables.online.prefix_iter(txn, &prefix)? {
        let (key, value) = entry?;
        end = key.to_vec();
        if online_row(value).is_some_and(|row| row.is_tombstone()) {
            tombstones.push((key.to_vec(), value.to_vec()));
        }
    }
    let range = (
        Bound::Included(prefix.as_slice()),
        Bound::Included(end.as_slice()),
    );
    tables.online.delete_range(txn, &range)?;
    forget_early(txn, tables, |key, _| key.starts_with(&prefix))?;
    for (key, value) in &tombstones {
        tables.online.put(txn, key, value)?;
    }
    for write in &content.rows {
        put_row(txn, tables, &online_key(&write.key), &write.row)?;
    }
    for early in &content.early {
        put_early(txn, tables, early)?;
    }
    let first = prefixed(
        group,
        &(content.outbox_after.saturating_add(1)).to_be_bytes(),
    );
    let last = prefixed(group, &u64::MAX.to_be_bytes());
    let mut waiting = Vec::new();
    let range = (
        Bound::Included(first.as_slice()),
        Bound::Included(last.as_slice()),
    );
    for entry in tables.outbox.range(txn, &range)? {
        let (_, value) = entry?;
        let row = outbox_row(group, value).ok_or_else(|| refused(damaged("outbox row")))?;
        waiting.push((content.from_outbox)(&row).map_err(refused)?);
    }
    for early in &waiting {
        if early.due <= content.now {
            put_row(txn, tables, &online_key(&early.write.key), &early.write.row)?;
        } else {
            put_early(txn, tables, early)?;
        }
    }
    Ok(())
}

fn apply_due(txn: &mut RwTxn<'_>, tables: &Tables, now: Timestamp) -> heed::Result<()> {
    while let Some((place, entry)) = tables.early.first(txn)? {
        if from_sortable(place).is_some_and(|due| due > now) {
            break;
        }
        let (place, entry) = (place.to_vec(), entry.to_vec());
        let (key, value) =
            early_entry(&entry).ok_or_else(|| refused(damaged("row that is not due")))?;
        let row = online_row(value).ok_or_else(|| refused(damaged("row that is not due")))?;
        put_row(txn, tables, key, &row)?;
        tables.early.delete(txn, &place)?;
    }
    Ok(())
}

fn forget_expired(txn: &mut RwTxn<'_>, tables: &Tables, now: Timestamp) -> heed::Result<()> {
    let expired: Vec<Vec<u8>> = tables
        .forget
        .iter(txn)?
        .take(MAX_FORGOTTEN)
        .map(|entry| entry.map(|(key, _)| key.to_vec()))
        .take_while(|key| {
            key.as_ref()
                .map_or(true, |k| from_sortable(k).is_some_and(|t| t < now))
        })
        .collect::<heed::Result<_>>()?;
    for key in expired {
        tables.seen.delete(txn, &key[8..])?;
        tables.forget.delete(txn, &key)?;
    }
    Ok(())
}

fn commit_event(
    txn: &mut RwTxn<'_>,
    tables: &Tables,
    event: &EventCommit,
) -> heed::Result<EventOutcome> {
    let digest = wafer_core::Digest::of(event.id.as_bytes());
    let seen = prefixed(&event.source, digest.as_bytes());
    if tables.seen.get(txn, &seen)?.is_some() {
        return Ok(EventOutcome::Duplicate);
    }
    let until = sortable(event.remember_until);
    tables.seen.put(txn, &seen, &until)?;
    tables.forget.put(txn, &[&until[..], &seen].concat(), &[])?;
    let mut older = 0;
    for write in &event.writes {
        let applied = put_row(txn, tables, &online_key(&write.key), &write.row)?;
        older += u32::from(!applied);
    }
    for early in &event.early {
        put_early(txn, tables, early)?;
    }
    for row in &event.outbox {
        let sequence = next_number(txn, tables, &prefixed("outbox", row.table.as_bytes()))?;
        let place = prefixed(&row.table, &sequence.to_be_bytes());
        tables
            .outbox
            .put_with_flags(txn, PutFlags::NO_OVERWRITE, &place, &outbox_value(row))?;
    }
    Ok(EventOutcome::Committed { older })
}

#[async_trait]
impl OnlineStore for Lmdb {
    async fn get_many(&self, keys: &[OnlineKey], now: Timestamp) -> Result<Vec<Option<OnlineRow>>> {
        self.apply_due(now).await?;
        let values = self.read(|txn, tables| {
            keys.iter()
                .map(|key| Ok(tables.online.get(txn, &online_key(key))?.map(online_row)))
                .collect::<heed::Result<Vec<_>>>()
        })?;
        values
            .into_iter()
            .map(|value| {
                let row = value.map(|row| row.ok_or_else(|| damaged("row")));
                Ok(row.transpose()?.filter(|row| !row.is_tombstone()))
            })
            .collect()
    }

    async fn put_many(&self, writes: Vec<OnlineWrite>) -> Result<PutCounts> {
        self.write(move |txn, tables| {
            let mut counts = PutCounts::default();
            for OnlineWrite { key, row, .. } in &writes {
                if put_row(txn, tables, &online_key(key), row)? {
                    counts.applied += 1;
                } else {
                    counts.older += 1;
                }
            }
            Ok(Ok(counts))
        })
        .await
    }

    async fn commit_events(
        &self,
        events: Vec<EventCommit>,
        now: Timestamp,
    ) -> Result<Vec<EventOutcome>> {
        let events = Arc::new(events);
        self.write(move |txn, tables| {
            apply_due(txn, tables, now)?;
            forget_expired(txn, tables, now)?;
            let outcomes: heed::Result<Vec<_>> = events
                .iter()
                .map(|event| commit_event(txn, tables, event))
                .collect();
            Ok(Ok(outcomes?))
        })
        .await
    }

    async fn apply_due(&self, now: Timestamp) -> Result<()> {
        let first = self.read(|txn, tables| {
            Ok(tables
                .early
                .first(txn)?
                .and_then(|(place, _)| from_sortable(place)))
        })?;
        match first {
            Some(due) if due <= now => {
                self.write(move |txn, tables| Ok(Ok(apply_due(txn, tables, now)?)))
                    .await
            }
            _ => Ok(()),
        }
    }

    async fn has_outbox(&self) -> Result<bool> {
        self.read(|txn, tables| Ok(tables.outbox.first(txn)?.is_some()))
    }

    async fn waiting(&self) -> Result<Waiting> {
        self.read(|txn, tables| {
            let mut found: Vec<(String, u64)> = Vec::new();
            for entry in tables.outbox.iter(txn)? {
                let (place, _) = entry?;
                let name = place.len().checked_sub(9).map(|end| &place[..end]);
                let name = String::from_utf8_lossy(name.unwrap_or_default());
                match found.last_mut() {
                    Some((last, rows)) if *last == name => *rows += 1,
                    _ => found.push((name.into_owned(), 1)),
                }
            }
            Ok(Waiting {
                tables: found,
                unfinished: Vec::new(),
            })
        })
    }

    async fn read_outbox(&self, table: &str, limit: usize) -> Result<Vec<OutboxEntry>> {
        let prefix = prefixed(table, &[]);
        let entries = self.read(|txn, tables| {
            tables
                .outbox
                .prefix_iter(txn, &prefix)?
                .take(limit)
                .map(|entry| {
                    let (place, value) = entry?;
                    let sequence = place.get(prefix.len()..).and_then(|s| s.try_into().ok());
                    Ok(sequence
                        .map(u64::from_be_bytes)
                        .zip(outbox_row(table, value)))
                })
                .collect::<heed::Result<Vec<_>>>()
        })?;
        entries
            .into_iter()
            .map(|entry| {
                let (sequence, row) = entry.ok_or_else(|| damaged("outbox row"))?;
                Ok(OutboxEntry { sequence, row })
            })
            .collect()
    }

    async fn trim_outbox(&self, table: &str, through: u64) -> Result<()> {
        let first = prefixed(table, &0u64.to_be_bytes());
        let last = prefixed(table, &through.to_be_bytes());
        self.write(move |txn, tables| {
            let range = (
                Bound::Included(first.as_slice()),
                Bound::Included(last.as_slice()),
            );
            tables.outbox.delete_range(txn, &range)?;
            Ok(Ok(()))
        })
        .await
    }

    async fn replace_group(&self, group: &str, content: GroupContent) -> Result<()> {
        let group = group.to_owned();
        self.write(move |txn, tables| {
            if trimmed_through(txn, tables, &group)? > content.outbox_after {
                let message = format!(
                    "rows of `{group}` left the outbox for its table while its online rows were rebuilt \
                     from an older version of the table; try again"
                );
                return Ok(Err(Error::new(Kind::Conflict, message)));
            }
            Ok(Ok(replace_group(txn, tables, &group, &content)?))
        })
        .await
    }

    async fn delete(&self, keys: Vec<OnlineKey>, deleted: Timestamp) -> Result<()> {
        let keys: Vec<_> = keys.iter().map(online_key).collect();
        let tombstone = OnlineRow::tombstone(deleted);
        self.write(move |txn, tables| {
            let is_before =
                |value: &[u8]| online_row(value).is_none_or(|row| row.version.event <= deleted);
            forget_early(txn, tables, |key, value| {
                keys.iter().any(|k| k == key) && is_before(value)
            })?;
            for key in &keys {
                let stored = tables.online.get(txn, key)?.and_then(online_row);
                // A newer row stays. A newer summary does not, because it includes older
                // events as well.
                let stays =
                    stored.is_some_and(|row| !is_item(&row.values) && row.version.event > deleted);
                if !stays {
                    tables.online.put(txn, key, &online_value(&tombstone))?;
                }
            }
            Ok(Ok(()))
        })
        .await
    }

    async fn count(&self, group: &str) -> Result<u64> {
        let prefix = prefixed(group, &[]);
        self.read(|txn, tables| {
            tables
                .online
                .prefix_iter(txn, &prefix)?
                .try_fold(0, |count, entry| {
                    entry?;
                    Ok(count + 1)
                })
        })
    }
}

fn versioned(stored: &[u8]) -> Option<Versioned> {
    let (version, value) = stored.split_first_chunk::<8>()?;
    Some(Versioned {
        version: u64::from_le_bytes(*version),
        value: Bytes::copy_from_slice(value),
    })
}

/// Returns the version of an object, or 0 if it does not exist. Returns an inner
/// [`Kind::Conflict`] error if `expect` does not hold.
fn expected(
    txn: &RwTxn<'_>,
    tables: &Tables,
    name: &str,
    expect: Expect,
) -> heed::Result<Result<u64>> {
    let stored = tables
        .metadata
        .get(txn, name.as_bytes())?
        .and_then(versioned);
    let version = stored.map_or(0, |stored| stored.version);
    let holds = match expect {
        Expect::Absent => version == 0,
        Expect::Version(wanted) => version == wanted,
        Expect::Anything => true,
    };
    let conflict = || {
        Error::new(
            Kind::Conflict,
            format!("`{name}` was changed by somebody else"),
        )
    };
    Ok(holds.then_some(version).ok_or_else(conflict))
}

#[async_trait]
impl MetadataStore for Lmdb {
    async fn get(&self, name: &str) -> Result<Option<Versioned>> {
        let stored =
            self.read(|txn, tables| Ok(tables.metadata.get(txn, name.as_bytes())?.map(versioned)))?;
        stored
            .map(|object| object.ok_or_else(|| damaged("object")))
            .transpose()
    }

    async fn put(&self, name: &str, value: Bytes, expect: Expect) -> Result<u64> {
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            let message = format!("a name has 1 to {MAX_NAME_BYTES} bytes, not {}", name.len());
            return Err(Error::new(Kind::Invalid, message));
        }
        if value.len() > MAX_OBJECT_BYTES {
            let message = format!(
                "`{name}` has {} bytes; an object has at most {MAX_OBJECT_BYTES}",
                value.len()
            );
            return Err(Error::new(Kind::Invalid, message));
        }
        let name = name.to_owned();
        self.write(move |txn, tables| {
            let version = match expected(txn, tables, &name, expect)? {
                Ok(version) => version + 1,
                Err(conflict) => return Ok(Err(conflict)),
            };
            let stored = [&version.to_le_bytes()[..], &value].concat();
            tables.metadata.put(txn, name.as_bytes(), &stored)?;
            Ok(Ok(version))
        })
        .await
    }

    async fn delete(&self, name: &str, expect: Expect) -> Result<()> {
        let name = name.to_owned();
        self.write(move |txn, tables| {
            if let Err(conflict) = expected(txn, tables, &name, expect)? {
                return Ok(Err(conflict));
            }
            tables.metadata.delete(txn, name.as_bytes())?;
            Ok(Ok(()))
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, Versioned)>> {
        let found = self.read(|txn, tables| {
            tables
                .metadata
                .prefix_iter(txn, prefix.as_bytes())?
                .map(|entry| {
                    let (name, stored) = entry?;
                    Ok((
                        String::from_utf8_lossy(name).into_owned(),
                        versioned(stored),
                    ))
                })
                .collect::<heed::Result<Vec<_>>>()
        })?;
        found
            .into_iter()
            .map(|(name, object)| Ok((name, object.ok_or_else(|| damaged("object"))?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract;

    fn open(folder: &Path) -> Lmdb {
        Lmdb::open(&LmdbConfig {
            path: folder.to_owned(),
            map_size: 1 << 30,
        })
        .unwrap()
    }

    #[tokio::test]
    async fn online_contract() {
        let folder = tempfile::tempdir().unwrap();
        contract::online(&open(folder.path())).await;
    }

    #[tokio::test]
    async fn metadata_contract() {
        let folder = tempfile::tempdir().unwrap();
        contract::metadata(&open(folder.path())).await;
    }

    #[tokio::test]
    async fn full_store_names_map_size_setting_and_keeps_its_data() {
        let folder = tempfile::tempdir().unwrap();
        let config = LmdbConfig {
            path: folder.path().to_owned(),
            map_size: 1 << 20,
        };
        let store = Lmdb::open(&config).unwrap();
        let value = Bytes::from(vec![7u8; 100_000]);
        let mut kept = 0;
        let error = loop {
            match store
                .put(&format!("object/{kept:03}"), value.clone(), Expect::Absent)
                .await
            {
                Ok(_) => kept += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(error.to_string().contains("store.map_size"), "{error}");
        assert!(kept > 0);
        assert_eq!(store.list("object/").await.unwrap().len(), kept);
    }

    #[tokio::test]
    async fn opening_a_non_lmdb_file_is_corrupt() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("data.mdb"), vec![9u8; 8192]).unwrap();
        let config = LmdbConfig {
            path: folder.path().to_owned(),
            map_size: 1 << 20,
        };
        assert_eq!(Lmdb::open(&config).unwrap_err().kind(), Kind::Corrupt);
    }
}
