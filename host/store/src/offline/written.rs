//! Data files that have been written but not committed to their table yet.

use deltalake::DeltaTable;
use deltalake::kernel::{Action, Add};
use deltalake::protocol::{DeltaOperation, SaveMode};
use object_store::ObjectStoreExt as _;
use serde::{Deserialize, Serialize};

use super::{Commit, DataFile, Follows, OfflineTables, Txn, commit_actions, failed, txn_version};
use crate::{Error, Kind, Result};

/// Maximum number of attempts of a commit that conflicts with other commits.
const ATTEMPTS: usize = 100;

const OVERTAKEN: &str = "work on a table was overtaken by another process";

/// The table no longer has the version of the work that a commit builds on, so that retrying
/// the commit is pointless.
#[derive(Debug, thiserror::Error)]
#[error("another process has committed to table `{0}` meanwhile")]
struct Overtaken(String);

fn is_overtaken(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|cause| cause.is::<Overtaken>())
}

/// Closed data files of one table that are not committed yet. They can be serialised, so that
/// another process can commit the files of several writers at once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WrittenFiles {
    table: String,
    files: Vec<Add>,
}

impl WrittenFiles {
    /// Describes files whose paths are relative to `folder` within the table.
    pub(super) fn new(table: String, folder: &str, files: Vec<Add>) -> Self {
        let below = |add: Add| Add {
            path: format!("{folder}/{}", add.path),
            ..add
        };
        Self {
            table,
            files: files.into_iter().map(below).collect(),
        }
    }

    /// No files. Committing them still removes the files of the folder that they replace.
    pub fn none(table: &str) -> Self {
        Self::new(table.to_owned(), "", Vec::new())
    }

    /// Returns whether there are no files.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Adds more files, which must be of the same table.
    pub fn append(&mut self, more: Self) {
        debug_assert_eq!(self.table, more.table);
        self.files.extend(more.files);
    }

    /// Returns the files as readers of the table will see them.
    pub fn data_files(&self) -> Vec<DataFile> {
        let file = |add: &Add| {
            let stats = add.stats.as_deref();
            DataFile::new(add.path.clone(), add.size, None, stats)
        };
        self.files.iter().map(file).collect()
    }

    pub(super) fn into_actions(self) -> Vec<Action> {
        self.files.into_iter().map(Action::Add).collect()
    }

    pub(super) async fn commit(
        self,
        mut delta: DeltaTable,
        txn: &Txn,
        replaces: Option<&str>,
    ) -> Result<Commit> {
        let Self { table, files } = &self;
        for _ in 0..ATTEMPTS {
            match try_commit(table, &mut delta, files, txn, replaces).await {
                // Another process committed first. Try again on the new version, because the
                // files to replace may have changed.
                Err(e) if e.kind() == Kind::Conflict && !is_overtaken(&e) => {}
                done => return done,
            }
        }
        let message = format!("table `{table}` is written to by others all the time; try again");
        Err(Error::new(Kind::Conflict, message))
    }
}

impl OfflineTables {
    /// Commits files of one or several writers atomically, as one new version of their table
    /// that carries the identity `txn`. `replaces` names a folder whose files are removed in
    /// the same version.
    ///
    /// # Errors
    /// Returns the errors of [`TableWriter::commit`](super::TableWriter::commit).
    pub async fn commit(
        &self,
        files: WrittenFiles,
        txn: &Txn,
        replaces: Option<&str>,
    ) -> Result<Commit> {
        let delta = self.load(&files.table).await?;
        files.commit(delta, txn, replaces).await
    }

    /// Deletes files that will not be committed. Best effort: a file that cannot be deleted is
    /// not part of the table, and [`vacuum`](Self::vacuum) deletes it later.
    pub async fn discard(&self, files: WrittenFiles) {
        let Ok(delta) = self.load(&files.table).await else {
            return;
        };
        let store = delta.log_store().object_store(None);
        for file in files.files {
            if let Err(error) = store.delete(&file.path.as_str().into()).await {
                tracing::debug!("{} was not removed: {error}", file.path);
            }
        }
    }
}

/// Commits files. Returns [`Kind::Conflict`] if another process commits at the same time.
async fn try_commit(
    table: &str,
    delta: &mut DeltaTable,
    files: &[Add],
    txn: &Txn,
    replaces: Option<&str>,
) -> Result<Commit> {
    // Another process may have committed this work in the meantime.
    delta
        .update_state()
        .await
        .map_err(|e| failed("read", table, e))?;
    let last = txn_version(table, delta, &txn.app_id).await?;
    if last.is_some_and(|v| v >= txn.version) {
        return Ok(Commit::Already);
    }
    if let Follows::Exactly(expected) = txn.follows
        && last != expected
    {
        return Err(Error::caused(
            Kind::Conflict,
            OVERTAKEN,
            Overtaken(table.to_owned()),
        ));
    }
    let state = delta.snapshot().map_err(|e| failed("read", table, e))?;
    let mut actions: Vec<Action> = files.iter().cloned().map(Action::Add).collect();
    if let Some(replaced) = replaces {
        let prefix = format!("{replaced}/");
        let old = state.log_data();
        let old = old.iter().filter(|file| file.path().starts_with(&prefix));
        actions.extend(old.map(|file| Action::Remove(file.remove_action(true))));
    }
    let operation = DeltaOperation::Write {
        mode: SaveMode::Append,
        partition_by: None,
        predicate: None,
    };
    commit_actions(table, delta, actions, Some(txn), operation).await?;
    Ok(Commit::Committed)
}
