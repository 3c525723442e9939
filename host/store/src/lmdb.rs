//! The embedded online and metadata store: one LMDB environment.
//!
//! LMDB is memory-mapped, crash-safe and shared by processes. Readers never wait; writers take
//! turns. All writes of this process go through one thread, which gathers the waiting writes
//! into one transaction, so that many requests share one `fsync`.

mod encoding;
mod error;
mod file;
mod metadata;
mod online;
mod outbox;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;

use heed::types::Bytes as Raw;
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions, RoTxn, RwTxn, WithoutTls};
use tokio::sync::oneshot;

use self::error::LmdbError;
use self::file::OpenFiles;
use crate::private::make_private_folder;
use crate::{Error, Kind, Metered, Result};

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
    files: Arc<OpenFiles>,
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
    /// Fails when the folder cannot be created, when it holds something other than a whole LMDB
    /// environment, or when this process has already opened it.
    pub fn open(config: &LmdbConfig) -> Result<Self> {
        let path = &config.path;
        // LMDB itself closes its files to others.
        make_private_folder(path).map_err(|e| Error::io("make", path, e))?;
        file::check(path)?;
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
        // store, and LMDB's lock file synchronises processes. No page that it needs is missing,
        // which was checked above.
        let env = unsafe { options.open(path) }
            .map_err(|e| LmdbError::from(e).into_error("open", path))?;
        env.clear_stale_readers()
            .map_err(|e| LmdbError::from(e).into_error("clean", path))?;
        let env: &'static Env<WithoutTls> = Box::leak(Box::new(env));
        let tables = Self::tables(env).map_err(|e| LmdbError::from(e).into_error("open", path))?;

        let files = Arc::new(OpenFiles::of(path)?);
        let (writer, jobs) = mpsc::channel();
        let (thread_path, thread_files) = (path.clone(), Arc::clone(&files));
        thread::Builder::new()
            .name("wafer-writer".to_owned())
            .spawn(move || write_loop(env, &tables, (&thread_path, &thread_files), &jobs))
            .map_err(|e| Error::caused(Kind::Internal, "cannot start the writer thread", e))?;
        Ok(Self {
            path: path.clone(),
            files,
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
        action: impl FnOnce(&RoTxn<'_, WithoutTls>, &Tables) -> error::Result<T>,
    ) -> Result<T> {
        self.files.check_known()?;
        let txn = self.env.read_txn().map_err(LmdbError::from);
        let read = txn.and_then(|txn| action(&txn, &self.tables));
        read.map_err(|e| e.into_error("read", &self.path))
    }

    /// Runs an action in a transaction on the writer thread, and waits until the transaction is
    /// durable. The action may run more than once. A refusal ([`LmdbError::Refused`]) leaves the
    /// transaction to the other writes in it.
    ///
    /// # Errors
    /// Returns [`Kind::Unavailable`] when the transaction went to files that were deleted or
    /// replaced meanwhile, so that nothing is acknowledged that nobody will find.
    async fn write<T: Send + 'static>(
        &self,
        action: impl FnMut(&mut RwTxn<'_>, &Tables) -> error::Result<T> + Send + 'static,
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

/// An embedded store costs nothing that could be counted.
impl Metered for Lmdb {}

/// A write, with the caller that waits for its result.
trait Job: Send {
    /// Executes the write in a transaction.
    fn run(&mut self, txn: &mut RwTxn<'_>, tables: &Tables) -> error::Result<()>;
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
    F: FnMut(&mut RwTxn<'_>, &Tables) -> error::Result<T> + Send,
{
    fn run(&mut self, txn: &mut RwTxn<'_>, tables: &Tables) -> error::Result<()> {
        self.result = Some(match (self.action)(txn, tables) {
            Err(LmdbError::Refused(error)) => Err(error),
            done => Ok(done?),
        });
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
    (path, files): (&Path, &OpenFiles),
    jobs: &mpsc::Receiver<Box<dyn Job>>,
) {
    while let Ok(first) = jobs.recv() {
        let mut group = vec![first];
        group.extend(jobs.try_iter().take(MAX_GROUP - 1));
        if run_group(env, tables, &mut group).is_ok() {
            for job in group {
                job.answer(files.check().err());
            }
            continue;
        }
        // One job failed, and the whole transaction with it. Retry each job in its own
        // transaction, so that only the failing jobs fail.
        for mut job in group {
            let written = run_group(env, tables, std::slice::from_mut(&mut job))
                .map_err(|e| e.into_error("write to", path));
            job.answer(written.and_then(|()| files.check()).err());
        }
    }
}

fn run_group(
    env: &Env<WithoutTls>,
    tables: &Tables,
    group: &mut [Box<dyn Job>],
) -> error::Result<()> {
    let mut txn = env.write_txn()?;
    for job in group {
        // A panic in one job must not end the writer thread, which serves the others.
        let run = AssertUnwindSafe(|| job.run(&mut txn, tables));
        catch_unwind(run).unwrap_or_else(|_| {
            let message = "a write panicked; the log says where";
            Err(Error::new(Kind::Internal, message).into())
        })?;
    }
    Ok(txn.commit()?)
}

/// Returns the last number that a counter assigned, or 0.
fn last_number(txn: &RoTxn<'_>, tables: &Tables, name: &[u8]) -> heed::Result<u64> {
    let last = tables.counters.get(txn, name)?;
    Ok(last
        .and_then(|v| v.try_into().ok())
        .map_or(0, u64::from_le_bytes))
}

/// Assigns the next number of a counter.
fn next_number(txn: &mut RwTxn<'_>, tables: &Tables, name: &[u8]) -> heed::Result<u64> {
    let last = last_number(txn, tables, name)?;
    tables.counters.put(txn, name, &(last + 1).to_le_bytes())?;
    Ok(last + 1)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{Expect, MetadataStore as _};

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
