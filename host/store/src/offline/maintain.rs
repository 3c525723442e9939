//! Upkeep of tables: merging small files, removing old ones, deleting rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{BooleanArray, RecordBatch};
use arrow_ord::sort::{SortColumn, lexsort_to_indices};
use arrow_select::concat::concat_batches;
use arrow_select::filter::filter_record_batch;
use arrow_select::take::take_record_batch;
use deltalake::kernel::Action;
use deltalake::operations::vacuum::VacuumMode;
use deltalake::protocol::DeltaOperation;
use futures::TryStreamExt as _;
use wafer_core::rules::Interval;

use super::snapshot::{AsOf, DataFile, TableSnapshot};
use super::{OfflineTables, WrittenFiles, commit_actions, failed};
use crate::{Error, Kind, Result};

/// Files below this size are merged, up to this size.
const SMALL_FILE_BYTES: u64 = 64 << 20;
/// Files that no version names may be of a writer at work, until they are so old.
const ORPHAN_AGE: i64 = 86_400_000_000;

/// What compacting a table did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compaction {
    /// Files that were merged.
    pub merged: usize,
    /// Files that they were merged into.
    pub written: usize,
}

impl OfflineTables {
    /// Merges small files of the same piece of work, their rows sorted by some
    /// columns. Never merges pieces that can be replaced by themselves. Safe
    /// beside writers: who was slower gives up, and nothing is lost.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] names a file that cannot be read.
    pub async fn compact(&self, table: &str, sort_by: &[String]) -> Result<Compaction> {
        let mut done = Compaction::default();
        let snapshot = self.snapshot(table, AsOf::Latest).await?;
        for (folder, files) in small_files(&snapshot) {
            match self
                .merge_files(table, &snapshot, &folder, &files, sort_by)
                .await
            {
                Ok(written) => {
                    done.merged += files.len();
                    done.written += written;
                }
                // The files were replaced meanwhile: what replaced them is newer.
                Err(e) if e.kind() == Kind::Conflict => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    async fn merge_files(
        &self,
        table: &str,
        snapshot: &TableSnapshot,
        folder: &str,
        files: &[DataFile],
        sort_by: &[String],
    ) -> Result<usize> {
        let batches: Vec<RecordBatch> = snapshot
            .read_all(files.to_vec(), snapshot.columns(), Interval::ALL)
            .try_collect()
            .await?;
        let sorted = sorted(table, &batches, sort_by)?;
        let mut actions = self
            .write_files(table, folder, &[sorted])
            .await?
            .into_actions();
        let written = actions.len();
        let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        // The same rows in other files: readers of changes see none.
        for action in &mut actions {
            if let Action::Add(add) = action {
                add.data_change = false;
            }
        }
        let operation = DeltaOperation::Optimize {
            predicate: None,
            target_size: SMALL_FILE_BYTES as i64,
        };
        self.swap(table, &paths, actions, false, operation).await?;
        Ok(written)
    }

    /// Writes batches to new files below a folder that nothing names yet.
    async fn write_files(
        &self,
        table: &str,
        folder: &str,
        batches: &[RecordBatch],
    ) -> Result<WrittenFiles> {
        let mut writer = self.writer(table, folder).await?;
        for batch in batches {
            writer.write(batch).await?;
        }
        writer.finish().await
    }

    /// One commit that removes files and adds others in their place, if all of
    /// them are still there.
    async fn swap(
        &self,
        table: &str,
        paths: &[&str],
        mut actions: Vec<Action>,
        data_change: bool,
        operation: DeltaOperation,
    ) -> Result<()> {
        let delta = self.load(table).await?;
        let state = delta.snapshot().map_err(|e| failed("read", table, e))?;
        let removed: Vec<Action> = state
            .log_data()
            .iter()
            .filter(|file| paths.contains(&file.path().as_ref()))
            .map(|file| Action::Remove(file.remove_action(data_change)))
            .collect();
        if removed.len() != paths.len() {
            let message = format!("files of table `{table}` were replaced by another process");
            return Err(Error::new(Kind::Conflict, message));
        }
        actions.extend(removed);
        commit_actions(table, &delta, actions, None, operation).await?;
        Ok(())
    }

    /// Removes files from the store that no version of the last `horizon`
    /// microseconds needs, nor any of the `pinned` versions; says how many.
    ///
    /// # Errors
    /// Those of the object store.
    pub async fn vacuum(&self, table: &str, horizon: i64, pinned: &[u64]) -> Result<usize> {
        let delta = self.load(table).await?;
        let mode = if horizon >= ORPHAN_AGE {
            VacuumMode::Full
        } else {
            VacuumMode::Lite
        };
        let kept: Vec<_> = pinned.to_vec();
        let (_, metrics) = delta
            .vacuum()
            .with_retention_period(chrono::Duration::microseconds(horizon))
            .with_enforce_retention_duration(false)
            .with_keep_versions(&kept)
            .with_mode(mode)
            .await
            .map_err(|e| failed("clean", table, e))?;
        Ok(metrics.files_deleted.len())
    }

    /// Deletes the rows that `keep` does not mark, in one commit; says how many.
    /// Older versions still have them until they are vacuumed.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when the files were replaced meanwhile: try again.
    pub async fn delete_rows(
        &self,
        table: &str,
        keep: impl Fn(&RecordBatch) -> BooleanArray,
    ) -> Result<u64> {
        let snapshot = self.snapshot(table, AsOf::Latest).await?;
        let (mut paths, mut actions, mut deleted) = (Vec::new(), Vec::new(), 0);
        for file in snapshot.files() {
            let mut batches = snapshot
                .read(file, &snapshot.columns(), Interval::ALL)
                .await?;
            let (mut kept, mut gone) = (Vec::new(), 0);
            while let Some(batch) = batches.try_next().await? {
                let rest = filter_record_batch(&batch, &keep(&batch)).map_err(|e| {
                    Error::caused(Kind::Internal, format!("rows of table `{table}`"), e)
                })?;
                gone += (batch.num_rows() - rest.num_rows()) as u64;
                kept.push(rest);
            }
            if gone == 0 {
                continue;
            }
            deleted += gone;
            paths.push(file.path.as_str());
            let folder = folder_of(&file.path);
            let written = self.write_files(table, folder, &kept).await?;
            actions.extend(written.into_actions());
        }
        if !paths.is_empty() {
            let operation = DeltaOperation::Delete { predicate: None };
            self.swap(table, &paths, actions, true, operation).await?;
        }
        Ok(deleted)
    }

    /// Removes whole files from a table, in one commit.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when they are not all there.
    pub async fn remove_files(&self, table: &str, files: &[DataFile]) -> Result<()> {
        let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        let operation = DeltaOperation::Delete { predicate: None };
        self.swap(table, &paths, Vec::new(), true, operation).await
    }
}

/// The folder of a file.
fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Small files that may become one, by the folder that they go to.
fn small_files(snapshot: &TableSnapshot) -> Vec<(String, Vec<DataFile>)> {
    let mut newest: BTreeMap<&str, i64> = BTreeMap::new();
    for (interval, generation) in snapshot.files().iter().filter_map(|f| of_run(&f.path)) {
        let known = newest.entry(interval).or_default();
        *known = generation.max(*known);
    }
    let mut pieces: BTreeMap<&str, Vec<&DataFile>> = BTreeMap::new();
    let small = |file: &&DataFile| file.bytes < SMALL_FILE_BYTES / 2;
    for file in snapshot.files().iter().filter(small) {
        let piece = match of_run(&file.path) {
            // Generations that were added to others are replaced with them; the
            // newest one may still be on its way to the online store, by its folder.
            Some((interval, generation)) if generation < newest[interval] => interval,
            Some(_) => folder_of(&file.path),
            // Events are never replaced, so all of them are one piece.
            None if file.path.starts_with("events/") => "events",
            None => folder_of(&file.path),
        };
        pieces.entry(piece).or_default().push(file);
    }
    let mut groups: Vec<(String, Vec<DataFile>)> = Vec::new();
    for mut files in pieces.into_values() {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let mut bytes = SMALL_FILE_BYTES;
        for file in files {
            if bytes + file.bytes > SMALL_FILE_BYTES {
                groups.push((folder_of(&file.path).to_owned(), Vec::new()));
                bytes = 0;
            }
            bytes += file.bytes;
            let (_, group) = groups.last_mut().expect("one was begun");
            group.push(file.clone());
        }
    }
    groups.retain(|(_, files)| files.len() > 1);
    groups
}

/// Folder of the interval, and the generation, that a file of a run belongs to.
fn of_run(path: &str) -> Option<(&str, i64)> {
    let (interval, generation) = folder_of(path).rsplit_once('/')?;
    let generation = generation.parse().ok()?;
    interval
        .starts_with("runs/")
        .then_some((interval, generation))
}

fn sorted(table: &str, batches: &[RecordBatch], sort_by: &[String]) -> Result<RecordBatch> {
    let wrong = |e| {
        Error::caused(
            Kind::Internal,
            format!("rows of table `{table}` to be sorted"),
            e,
        )
    };
    let schema = match batches.first() {
        Some(batch) => batch.schema(),
        None => {
            return Ok(RecordBatch::new_empty(Arc::new(
                arrow_schema::Schema::empty(),
            )));
        }
    };
    let all = concat_batches(&schema, batches).map_err(wrong)?;
    let columns: Vec<SortColumn> = sort_by
        .iter()
        .filter_map(|name| all.column_by_name(name))
        .map(|values| SortColumn {
            values: Arc::clone(values),
            options: None,
        })
        .collect();
    if columns.is_empty() {
        return Ok(all);
    }
    let order = lexsort_to_indices(&columns, None).map_err(wrong)?;
    take_record_batch(&all, &order).map_err(wrong)
}
