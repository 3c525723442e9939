//! The end of a run: its one commit, and its record.

use wafer_catalog::{RunRecord, RunState, read};
use wafer_store::{Error, Kind, Result, for_work};

use super::partition::PartitionResult;
use super::{DistributedRun, DistributedRuns, run_key_over_error};
use crate::run::job::Job;
use crate::run::online::OnlineCounts;
use crate::run::rejects::{RowsOfNoInterval, check_rejects};
use crate::run::write::IntervalFiles;

impl DistributedRuns {
    /// Commits what was written for all partitions. Returns the numbers of the partitions whose
    /// rows still have to be written to the online store.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when a partition has no result or the run was taken over.
    pub async fn commit_distributed(&self, run: &DistributedRun) -> Result<Vec<usize>> {
        self.check_time(run)?;
        let job = self.distributed_job(run, Vec::new()).await?;
        let mut record = self.runs.records.running_record(&run.record).await?;
        self.commit_results(&job, run, &mut record).await?;
        if record.is_new_online() {
            return Ok((0..run.partitions).collect());
        }
        let work = format!("pipeline/{}", job.name);
        for_work(work, self.runs.online.write_online(&job, vec![&mut record])).await?;
        self.runs.records.save(&mut record).await?;
        Ok(Vec::new())
    }

    /// Commits the results of all partitions, if they are not committed yet.
    pub(super) async fn commit_results(
        &self,
        job: &Job,
        run: &DistributedRun,
        record: &mut RunRecord,
    ) -> Result<()> {
        if self.runs.planner.is_committed(record).await? {
            return self
                .runs
                .deleter
                .delete_rows_of_deleted(&job.target.table, None)
                .await;
        }
        let results = self.results(run).await?;
        record.clear_counts();
        let mut checks = job.target.run_checks();
        let (mut unplaced, mut written) = (Vec::new(), IntervalFiles::nothing(job));
        let mut rest = RowsOfNoInterval::default();
        let known = results.first().map(|result| result.deletions);
        let known = known.filter(|known| results.iter().all(|r| r.deletions == *known));
        for result in results {
            record.add(result.record);
            for (check, seen) in checks.iter_mut().zip(result.seen) {
                check.append(seen);
            }
            written.append(result.written);
            unplaced.extend(result.unplaced);
            rest.add(result.rows_of_no_interval);
        }
        let offline = &self.context.components().stores.offline;
        let checked = check_rejects(offline, job, &[&*record], rest).await;
        if let Err(error) = checked {
            // Whoever records the failure reads the record again, and the rejected rows are in it.
            self.runs.records.save(record).await?;
            return Err(error);
        }
        self.runs.writer.commit_unplaced(job, unplaced).await?;
        self.runs
            .writer
            .commit_work(job, record, &checks, written)
            .await?;
        self.runs
            .deleter
            .delete_rows_of_deleted(&job.target.table, known)
            .await
    }

    /// Returns the results of the partitions, in their order.
    async fn results(&self, run: &DistributedRun) -> Result<Vec<PartitionResult>> {
        let folder = format!("{}/result/", self.folder(run.pipeline(), &run.key()));
        let stored = self
            .context
            .components()
            .stores
            .metadata
            .list(&folder)
            .await?;
        if stored.len() != run.partitions {
            let message = format!(
                "{} of {} partitions of run {} are done; run it again to continue",
                stored.len(),
                run.partitions,
                run.key()
            );
            return Err(Error::new(Kind::Conflict, message));
        }
        let results = stored.iter();
        results
            .map(|(name, stored)| read(name, &stored.value))
            .collect()
    }

    /// Ends a run whose rows are all written, and releases the lease.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when the run was taken over.
    pub async fn finish_distributed(&self, run: &DistributedRun) -> Result<RunRecord> {
        let job = self.distributed_job(run, Vec::new()).await?;
        let mut record = self.runs.records.running_record(&run.record).await?;
        if record.is_new_online() {
            let folder = format!("{}/online/", self.folder(run.pipeline(), &run.key()));
            (record.online_applied, record.online_older) = (0, 0);
            for (name, stored) in self
                .context
                .components()
                .stores
                .metadata
                .list(&folder)
                .await?
            {
                let counts: OnlineCounts = read(&name, &stored.value)?;
                record.online_applied += counts.applied;
                record.online_older += counts.older;
            }
        }
        let record = self.end_distributed(&job, run, record).await?;
        self.release_pipeline(run).await?;
        Ok(record)
    }

    /// Records that the run succeeded, and removes its objects.
    pub(super) async fn end_distributed(
        &self,
        job: &Job,
        run: &DistributedRun,
        mut record: RunRecord,
    ) -> Result<RunRecord> {
        record.state = RunState::Succeeded;
        record.finished = Some(self.context.machine_now());
        record.overran = self.runs.overran(job, &record);
        self.runs.records.save(&mut record).await?;
        self.delete_folder(&self.folder(run.pipeline(), &run.key()))
            .await?;
        Ok(record)
    }

    /// Returns the record of a run that succeeded, by its key.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when the run did not succeed or another one took its place.
    pub async fn finished_distributed(&self, pipeline: &str, run_key: &str) -> Result<RunRecord> {
        let id = run_key.rsplit_once('.').map_or(run_key, |(id, _)| id);
        let found = self.runs.records.run_record(id).await?;
        let is_done =
            |found: &RunRecord| found.key() == run_key && found.state == RunState::Succeeded;
        found
            .filter(is_done)
            .ok_or_else(|| run_key_over_error(pipeline, run_key))
    }

    /// Records that a run failed, and releases the lease; the partitions that are done are kept
    /// for the next attempt. Returns why the run failed, which is the error that was recorded
    /// first.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when the run was taken over.
    pub async fn fail_distributed(&self, run: &DistributedRun, error: &str) -> Result<String> {
        let mut record = self.runs.records.current_record(&run.record).await?;
        if record.state == RunState::Failed {
            self.release_pipeline(run).await?;
            return Ok(record.error.unwrap_or_default());
        }
        record.fail(error, self.context.machine_now());
        self.runs.records.save(&mut record).await?;
        self.release_pipeline(run).await?;
        Ok(error.to_owned())
    }

    /// Records a failure. If that fails too, it is only logged, because the error that stopped
    /// the run says more.
    pub(super) async fn record_failure(&self, run: &DistributedRun, error: &str) {
        if let Err(unsaved) = self.fail_distributed(run, error).await {
            tracing::warn!("the failed run was not recorded: {}", unsaved.chain());
        }
    }
}
