//! Maintenance of tables: compacting small files, vacuuming old files and deleting rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow_row::{RowConverter, SortField};
use arrow_schema::{ArrowError, Schema};
use arrow_select::concat::concat_batches;
use arrow_select::filter::filter_record_batch;
use arrow_select::take::take_record_batch;
use deltalake::kernel::Action;
use deltalake::operations::vacuum::VacuumMode;
use deltalake::protocol::DeltaOperation;
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use wafer_core::Duration;
use wafer_core::rules::Interval;

use super::library::LibraryError;
use super::snapshot::{AsOf, DataFile, TableSnapshot};
use super::{OfflineTables, WrittenFiles, commit_actions, failed};
use crate::{Error, Kind, Result};

/// Maximum size of a merged file. Files smaller than half of this are merged.
const SMALL_FILE_BYTES: u64 = 64 << 20;
/// Age below which a file that no version names may belong to a running writer,
/// and is not deleted.
const ORPHAN_AGE: Duration = Duration::from_days(1);

/// The result of compacting a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compaction {
    /// Number of files that were merged.
    pub merged: usize,
    /// Number of files that were written in their place.
    pub written: usize,
}

impl OfflineTables {
    /// Merges small files of the same piece of work, and sorts their rows by the columns
    /// `sort_by`.
    ///
    /// Pieces of work that can be replaced separately are never merged with each other. Other
    /// processes can write to the table at the same time: a merge whose files were replaced
    /// in the meantime is skipped, and no rows are lost.
    ///
    /// # Errors
    /// Returns [`Kind::Corrupt`] when a file cannot be read; the message names it.
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
                // Another process replaced the files in the meantime; skip them.
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
        // The rows do not change, so the change feed must not report these files.
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

    /// Writes batches to new files below a folder, without committing them.
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

    /// Removes the files `paths` and adds others in one commit, if all of `paths` are still live.
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

    /// Deletes files from the object store that neither a version of the last `horizon`
    /// nor one of the `pinned` versions needs, and returns their number.
    ///
    /// Files that were never committed are only deleted if `horizon` is at least a day, because
    /// a running writer may still commit newer ones.
    ///
    /// # Errors
    /// Returns the errors of the object store.
    pub async fn vacuum(&self, table: &str, horizon: Duration, pinned: &[u64]) -> Result<usize> {
        let delta = self.load(table).await?;
        let mode = if horizon >= ORPHAN_AGE {
            VacuumMode::Full
        } else {
            VacuumMode::Lite
        };
        let kept: Vec<_> = pinned.to_vec();
        let (_, metrics) = delta
            .vacuum()
            .with_retention_period(chrono::Duration::microseconds(horizon.as_micros()))
            .with_enforce_retention_duration(false)
            .with_keep_versions(&kept)
            .with_mode(mode)
            .await
            .map_err(|e| failed("clean", table, e))?;
        Ok(metrics.files_deleted.len())
    }

    /// Deletes the rows for which `keep` is not true, in one commit, and returns their number.
    ///
    /// Older versions of the table keep the rows until [`vacuum`](Self::vacuum) deletes their
    /// files.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when another process replaced the files in the meantime; try
    /// again.
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

    /// Removes a table with its history and all its files. Does nothing if there is no such table.
    ///
    /// The log goes first, so that nobody finds a table without its files. A removal that was
    /// interrupted can be repeated.
    ///
    /// # Errors
    /// Returns the errors of the object store.
    pub async fn remove(&self, table: &str) -> Result<()> {
        self.seen().remove(table);
        match &self.bucket {
            None => self.remove_folder(table).await,
            Some(bucket) => self.remove_objects(table, bucket.as_ref()).await,
        }
    }

    async fn remove_folder(&self, table: &str) -> Result<()> {
        let location = self.location(table);
        let folder = location
            .to_file_path()
            .map_err(|()| Error::invalid(format!("{location} is not a folder")))?;
        let removal = tokio::task::spawn_blocking(move || {
            for folder in [folder.join("_delta_log"), folder] {
                match std::fs::remove_dir_all(&folder) {
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                    removed => removed.map_err(|e| Error::io("remove", &folder, e))?,
                }
            }
            Ok::<_, Error>(())
        });
        let stopped = |e| Error::caused(Kind::Unavailable, "the process is stopping", e);
        removal.await.map_err(stopped)?
    }

    async fn remove_objects(&self, table: &str, bucket: &dyn ObjectStore) -> Result<()> {
        let failure = |e: object_store::Error| {
            let message = format!("the files of table `{table}` cannot be removed");
            Error::caused(Kind::Unavailable, message, LibraryError::new(&e))
        };
        let root = self.location(table);
        let root = root.path().trim_end_matches('/');
        for folder in [format!("{root}/_delta_log"), root.to_owned()] {
            let mut found = bucket.list(Some(&Path::from(folder)));
            while let Some(object) = found.try_next().await.map_err(failure)? {
                bucket.delete(&object.location).await.map_err(failure)?;
            }
        }
        Ok(())
    }

    /// Removes whole files from a table in one commit.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when not all of the files are live.
    pub async fn remove_files(&self, table: &str, files: &[DataFile]) -> Result<()> {
        let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        let operation = DeltaOperation::Delete { predicate: None };
        self.swap(table, &paths, Vec::new(), true, operation).await
    }
}

/// Returns the folder part of a file's path.
fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Groups the small files that can be merged into one, each group with the folder that the merged
/// file is written to.
fn small_files(snapshot: &TableSnapshot) -> Vec<(String, Vec<DataFile>)> {
    let mut newest: BTreeMap<&str, i64> = BTreeMap::new();
    for (interval, generation) in snapshot.files().iter().filter_map(|f| of_run(&f.path)) {
        let known = newest.entry(interval).or_default();
        *known = generation.max(*known);
    }
    let mut pieces: BTreeMap<&str, Vec<&DataFile>> = BTreeMap::new();
    let is_small = |file: &DataFile| file.bytes < SMALL_FILE_BYTES / 2;
    for file in snapshot.files() {
        let piece = match of_run(&file.path) {
            // All generations of an interval are replaced together, so they can be merged,
            // except for the newest: a run may still be copying it to the online store, and
            // finds its files by their folder.
            Some((interval, generation)) if generation < newest[interval] => interval,
            Some(_) => folder_of(&file.path),
            // Event files are never replaced, so all of them can be merged.
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
            // The paths of event files are in the order in which the events came in, and so only
            // neighbours are merged.
            if !is_small(file) {
                bytes = SMALL_FILE_BYTES;
                continue;
            }
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

/// Splits the path of a file of a run, `runs/INTERVAL/GENERATION/…`, into the interval's folder
/// and the generation.
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
            return Ok(RecordBatch::new_empty(Arc::new(Schema::empty())));
        }
    };
    let all = concat_batches(&schema, batches).map_err(wrong)?;
    let columns: Vec<ArrayRef> = sort_by
        .iter()
        .filter_map(|name| all.column_by_name(name).cloned())
        .collect();
    if columns.is_empty() {
        return Ok(all);
    }
    let order = sorted_rows(&columns).map_err(wrong)?;
    take_record_batch(&all, &order).map_err(wrong)
}

/// Returns the numbers of the rows in ascending order of their values in these columns, the first
/// column first. Nulls come first. Rows of equal values keep their order.
fn sorted_rows(columns: &[ArrayRef]) -> std::result::Result<UInt32Array, ArrowError> {
    let fields = columns
        .iter()
        .map(|c| SortField::new(c.data_type().clone()));
    let rows = RowConverter::new(fields.collect())?.convert_columns(columns)?;
    let count = u32::try_from(rows.num_rows());
    let count = count.map_err(|e| ArrowError::ExternalError(Box::new(e)))?;
    let mut order: Vec<u32> = (0..count).collect();
    order.sort_by(|a, b| rows.row(*a as usize).cmp(&rows.row(*b as usize)));
    Ok(order.into())
}

#[cfg(test)]
mod tests {
    use arrow_array::{Float64Array, Int64Array, StringArray};

    use super::*;

    #[test]
    fn rows_are_sorted_by_all_columns_and_equal_ones_keep_their_order() {
        let texts = StringArray::from(vec![
            Some("b"),
            Some("a"),
            None,
            Some("b"),
            Some("a"),
            Some(""),
            Some("b"),
        ]);
        let numbers = Int64Array::from(vec![2, -1, 7, -3, -1, 0, 2]);
        let columns: [ArrayRef; 2] = [Arc::new(texts), Arc::new(numbers)];
        for (columns, wanted) in [
            (&columns[..], [2, 5, 1, 4, 3, 0, 6]),
            (&columns[..1], [2, 5, 1, 4, 0, 3, 6]),
            (&columns[1..], [3, 1, 4, 5, 0, 6, 2]),
        ] {
            assert_eq!(sorted_rows(columns).unwrap().values().to_vec(), wanted);
        }
        let floats = Float64Array::from(vec![Some(f64::NAN), Some(0.5), None, Some(-1e300)]);
        let order = sorted_rows(&[Arc::new(floats)]).unwrap();
        assert_eq!(order.values().to_vec(), [2, 3, 1, 0]);
    }
}
