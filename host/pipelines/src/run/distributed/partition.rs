//! Working on one partition of a run: its files, its result, and its rows online.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wafer_catalog::{Progress, RunRecord};
use wafer_core::expect::RunValues;
use wafer_store::{Error, Expect, Kind, Result, for_work, sharing};

use super::objects::partition_object;
use super::{DistributedRun, DistributedRuns};
use crate::input::Selection;
use crate::run::PlannedRun;
use crate::run::job::Job;
use crate::run::rejects::RowsOfNoInterval;
use crate::run::write::{IntervalFiles, IntervalWork, UnplacedRejects};
use crate::source::files::SourceFile;

/// The result of a partition.
#[derive(Serialize, Deserialize)]
pub(super) struct PartitionResult {
    /// The counts of the partition, with examples of rejected rows.
    pub(super) record: RunRecord,
    /// The values that each expectation about all rows has seen.
    pub(super) seen: Vec<RunValues>,
    /// The files that were written.
    pub(super) written: IntervalFiles,
    /// The files of rejected rows that belong to no interval.
    pub(super) unplaced: Vec<UnplacedRejects>,
    /// The number of rows that belong to no interval.
    #[serde(default)]
    pub(super) rows_of_no_interval: RowsOfNoInterval,
    /// The version of the deletions that were taken into account.
    pub(super) deletions: u64,
}

impl DistributedRuns {
    /// Transforms one partition and records its result, unless it has a result already.
    ///
    /// # Errors
    /// Returns the errors of [`Runs::run`](crate::Runs::run), and [`Kind::Conflict`] when the
    /// definitions changed or the run is over.
    pub async fn run_partition(&self, run: &DistributedRun, number: usize) -> Result<()> {
        let folder = self.folder(run.pipeline(), &run.key());
        let name = format!("{folder}/{}", partition_object("result", number));
        let metadata = &self.context.components().stores.metadata;
        if metadata.get(&name).await?.is_some() {
            return Ok(());
        }
        self.check_time(run)?;
        let files: Option<Vec<SourceFile>> = self
            .read(&folder, &partition_object("input", number))
            .await?;
        let files = files.ok_or_else(|| {
            let message = format!("run {} has no partition {number}", run.key());
            Error::new(Kind::NotFound, message)
        })?;
        let job = self.distributed_job(run, files).await?;
        let planned = PlannedRun {
            record: run.record.clone(),
            is_done: false,
            files: Vec::new(),
            is_behind: false,
        };
        let mut works = [IntervalWork::new(&planned, &job)];
        let result = self.write_partition(&job, &mut works).await;
        for work in &mut works {
            work.abort().await;
        }
        let result = result?;
        match self.write(&name, &result, Expect::Absent).await {
            Err(e) if e.kind() == Kind::Conflict => {
                // Another process recorded a result first.
                self.discard(result).await;
                Ok(())
            }
            other => other,
        }
    }

    /// Writes the files of a partition.
    async fn write_partition(
        &self,
        job: &Job,
        works: &mut [IntervalWork<'_>; 1],
    ) -> Result<PartitionResult> {
        let selection = Selection {
            files: Vec::new(),
            arrivals: works[0].record.interval,
        };
        let progress: Arc<dyn Progress> = Arc::new(());
        let unplaced = self
            .runs
            .writer
            .write_files(job, works, &[0], &selection, &progress)
            .await?;
        let work = &mut works[0];
        let written = self.runs.writer.close(job, work).await?;
        Ok(PartitionResult {
            record: work.record.clone(),
            seen: work
                .checks
                .iter()
                .map(|check| check.values().clone())
                .collect(),
            written,
            unplaced: unplaced.rejects,
            rows_of_no_interval: unplaced.rows,
            deletions: job.deletions.version(),
        })
    }

    /// Removes the files of a result that is not needed.
    async fn discard(&self, result: PartitionResult) {
        let offline = &self.context.components().stores.offline;
        let IntervalFiles { rows, quarantine } = result.written;
        let unplaced = result.unplaced.into_iter().map(|unplaced| unplaced.files);
        for files in [rows, quarantine].into_iter().chain(unplaced) {
            offline.discard(files).await;
        }
    }

    /// Writes the committed rows of one partition to the online store. They are applied once,
    /// even if this is repeated.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when the partition has no result, [`Kind::Conflict`] when the
    /// run was taken over, and the errors of the stores.
    pub async fn put_partition_online(&self, run: &DistributedRun, number: usize) -> Result<()> {
        let folder = self.folder(run.pipeline(), &run.key());
        let job = self.distributed_job(run, Vec::new()).await?;
        let result: Option<PartitionResult> = self
            .read(&folder, &partition_object("result", number))
            .await?;
        let result = result.ok_or_else(|| {
            let message = format!("partition {number} of run {} has no result", run.key());
            Error::new(Kind::NotFound, message)
        })?;
        let files = result.written.rows.data_files();
        let work = format!("pipeline/{}", job.name);
        let added = self.runs.online.add_files(&job, &run.record, number, files);
        let counts = for_work(work, sharing(run.partitions, added)).await?;
        let name = format!("{folder}/{}", partition_object("online", number));
        self.write(&name, &counts, Expect::Anything).await
    }
}
