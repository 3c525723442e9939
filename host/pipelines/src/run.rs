//! Batch runs: read a source's rows over intervals, call the function, commit the output to the
//! group's offline table with one commit per interval, and then update the online store.
//!
//! How a run goes from plan to commit:
//!
//! 1. *Lease.* [`Runs::run`] acquires the lease of the pipeline (`lease.rs`), which it renews
//!    until the end. A holder on this machine that is no longer alive does not count. The
//!    definitions are read then, because a new version of the group is made live under this lease
//!    (`staging.rs`).
//! 2. *Plan.* The input is opened and digested (`job.rs`, `input.rs`), and compared with the
//!    claim of the interval, which is the record of the last run over it. If that run succeeded
//!    with the same inputs, there is nothing to do, unless the limit of rejected rows was lowered
//!    since. If it did not finish, it is taken up again with its own creation time. If its inputs
//!    were others, the generation rises. An interval
//!    that overlaps another one with rows is refused (`plan.rs`). Then the claim is written
//!    (`records.rs`).
//! 3. *Transform.* Chunks are read, transformed by several workers and kept in order. Rows that
//!    cannot be read, that the function refuses or that break an expectation are counted; the
//!    first twenty are kept in the record with file and line, and all of them go to the
//!    quarantine table. The other rows are written to Parquet files below the run's folder
//!    (`write.rs`).
//!    A run that rejected more rows than the pipeline allows fails here (`rejects.rs`).
//! 4. *Commit.* One Delta commit adds these files and removes what the interval had before.
//! 5. *Online.* The files of a first generation, or of a run that only adds rows, are read back,
//!    and the newest row of each entity, or the summary of its events, goes online by commits
//!    that the store knows by name, so that none is applied twice (`online.rs`). For a run that
//!    replaces rows, or that was taken up, the group's online rows are rebuilt from the offline
//!    table instead (`materialize.rs`).
//!
//! A run that is killed at any moment and repeated ends in the same state. A process that lost
//! its lease, for example because it was suspended, finds that another process wrote the claim,
//! and stops. The pushed events of a stream are not compared with its history in files: the
//! interval of a run should end (`--to`) where the pushed events begin.
//!
//! Runs that several processes work on are in `distributed.rs`.

pub(crate) mod distributed;
pub(crate) mod dry;
pub(crate) mod job;
pub(crate) mod lease;
pub(crate) mod online;
pub(crate) mod plan;
pub(crate) mod records;
pub(crate) mod rejects;
pub(crate) mod write;

use std::sync::Arc;

use futures::future::BoxFuture;
use wafer_catalog::{Context, Progress, RunRecord, RunState, get};
use wafer_core::rules::{Interval, available_from_schedule};
use wafer_core::{Duration, Timestamp};
use wafer_store::{DataFile, Error, Kind, Result, for_work};
use wafer_tables::Tables;

use crate::deletion::EntityDeleter;
use crate::input::Selection;
use crate::materialize::Materializer;
use crate::producer::Predictors;
use crate::run::job::{Job, Jobs, OnlineUpdate};
use crate::run::lease::run_lease;
use crate::run::online::OnlineWriter;
use crate::run::plan::Planner;
use crate::run::records::RunRecords;
use crate::run::rejects::check_rejects;
use crate::run::write::{IntervalWork, RunWriter};

/// A request to run a pipeline over an interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRequest {
    /// The name of the pipeline.
    pub pipeline: String,
    /// The event times to cover; for a chained pipeline, the available times.
    pub interval: Interval,
    /// The number of chunks that are transformed concurrently.
    pub workers: usize,
    /// Whether to read the raw events that the source keeps as well, except those that were
    /// written to the group when they came in.
    pub archive: bool,
}

/// The run of an interval that was requested.
#[derive(Clone, Debug)]
pub struct RequestedRun {
    /// The record of the run.
    pub record: RunRecord,
    /// Whether the interval was run now. `false` means that it had been run with the same inputs.
    pub is_new: bool,
}

/// A planned run over an interval, or the finding that there is nothing to do.
pub(crate) struct PlannedRun {
    /// The record of the run.
    pub(crate) record: RunRecord,
    /// Whether there is nothing to do, because the last run succeeded with the same inputs.
    pub(crate) is_done: bool,
    /// The data files to read, for a run over another group's table.
    pub(crate) files: Vec<DataFile>,
    /// Whether the run only finishes an earlier one that is committed, while there are later
    /// changes that another run has to read.
    pub(crate) is_behind: bool,
}

/// Runs pipelines over intervals in this process. The fields are the steps of a run, which divided
/// runs, backfills and triggers take as well.
#[derive(Debug)]
pub struct Runs {
    pub(crate) context: Arc<Context>,
    /// The claims of intervals and the records of runs.
    pub(crate) records: RunRecords,
    pub(crate) jobs: Jobs,
    pub(crate) planner: Planner,
    pub(crate) writer: RunWriter,
    pub(crate) online: OnlineWriter,
    pub(crate) deleter: EntityDeleter,
}

impl Runs {
    pub(crate) fn new(
        context: Arc<Context>,
        tables: Arc<Tables>,
        predictors: Arc<dyn Predictors>,
        materializer: Materializer,
        deleter: EntityDeleter,
    ) -> Self {
        let records = RunRecords::new(Arc::clone(&context));
        Self {
            jobs: Jobs::new(Arc::clone(&context), tables, predictors),
            planner: Planner::new(Arc::clone(&context), records.clone()),
            writer: RunWriter::new(Arc::clone(&context), records.clone()),
            online: OnlineWriter::new(Arc::clone(&context), records.clone(), materializer),
            deleter,
            records,
            context,
        }
    }

    /// Runs a pipeline over an interval. A run with the same inputs as the last one changes
    /// nothing; a run with other inputs replaces what the interval had. A run that was killed is
    /// taken up again.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when another process runs the pipeline or when the interval
    /// overlaps another one that was run. Every other failure of the run is returned as well as
    /// recorded.
    pub async fn run(
        &self,
        request: &RunRequest,
        progress: Arc<dyn Progress>,
    ) -> Result<RequestedRun> {
        progress.stage("reading the source");
        self.check_interval(request)?;
        let lease = run_lease(&self.context, &request.pipeline).await?;
        let definitions = self.context.definitions();
        let work = async {
            let job = self
                .jobs
                .job(&definitions, request, None, OnlineUpdate::AfterRun)
                .await?;
            self.run_pass(&job, &[request.interval], &progress).await
        };
        let mut done = lease.during(work).await?;
        Ok(done.pop().expect("one interval was requested"))
    }

    /// Returns the records of all runs, newest first.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn all(&self) -> Result<Vec<RunRecord>> {
        self.records.all().await
    }

    /// Checks that the interval of a pipeline with a schedule has a start and an end, because
    /// the available times of its rows depend on the end.
    pub(crate) fn check_interval(&self, request: &RunRequest) -> Result<()> {
        let definitions = self.context.definitions();
        let pipeline = get(&definitions.pipelines, &request.pipeline, "pipeline")?;
        let Interval { from, to } = request.interval;
        if pipeline.schedule.is_none() || (from != Timestamp::MIN && to != Timestamp::MAX) {
            return Ok(());
        }
        let message = format!(
            "pipeline `{}` has a schedule: its rows are visible from the end of their interval on. \
             Give both --from and --to, or fill its intervals with `wafer backfill`",
            request.pipeline
        );
        Err(Error::invalid(message))
    }

    /// Runs a pipeline over some intervals in one pass over its source.
    ///
    /// # Errors
    /// Returns the first failure; the intervals that were committed before it stay committed.
    pub(crate) fn run_pass<'a>(
        &'a self,
        job: &'a Job,
        intervals: &'a [Interval],
        progress: &'a Arc<dyn Progress>,
    ) -> BoxFuture<'a, Result<Vec<RequestedRun>>> {
        Box::pin(async move {
            let mut planned = self.planner.plan_runs(job, intervals).await?;
            if job.online == OnlineUpdate::ByCaller && planned.iter().any(|run| !run.is_done) {
                self.records
                    .record_online_rebuild(&job.target.table.name)
                    .await?;
            }
            let mut works: Vec<IntervalWork<'_>> = Vec::new();
            for run in planned.iter_mut().filter(|run| !run.is_done) {
                self.records.insert_record(&mut run.record).await?;
                self.records.save(&mut run.record).await?;
                works.push(IntervalWork::new(run, job));
            }
            let selection = selection(intervals, &mut planned);
            let work = self.execute(job, &mut works, &selection, progress);
            let result = within(job.time_limit, work).await;
            let failed = result.as_ref().err().map(Error::chain);
            for work in works {
                let record = self.conclude(job, work.record, failed.as_deref()).await?;
                let mut planned = planned.iter_mut();
                let run = planned.find(|run| run.record.interval == record.interval);
                run.expect("the interval was planned").record = record;
            }
            result?;
            let behind = planned.iter().filter(|run| run.is_behind);
            let behind: Vec<Interval> = behind.map(|run| run.record.interval).collect();
            let mut runs: Vec<RequestedRun> = planned
                .into_iter()
                .map(|run| RequestedRun {
                    record: run.record,
                    is_new: !run.is_done,
                })
                .collect();
            if !behind.is_empty() {
                let again = Box::pin(self.run_pass(job, &behind, progress)).await?;
                for run in again.into_iter().filter(|run| run.is_new) {
                    let interval = run.record.interval;
                    let slot = runs.iter_mut().find(|run| run.record.interval == interval);
                    *slot.expect("the interval was requested") = run;
                }
            }
            Ok(runs)
        })
    }

    /// Records that the run of an interval has ended, unless it was committed and recorded
    /// already: as failed if there is a reason why the pass stopped.
    async fn conclude(
        &self,
        job: &Job,
        mut record: RunRecord,
        failed: Option<&str>,
    ) -> Result<RunRecord> {
        if record.state != RunState::Running {
            return Ok(record);
        }
        let finished = self.context.machine_now();
        match failed {
            None => {
                record.state = RunState::Succeeded;
                record.finished = Some(finished);
                record.overran = self.overran(job, &record);
            }
            Some(error) => {
                record.fail(error, finished);
                record.overran = false;
            }
        }
        match self.records.save(&mut record).await {
            // The error that stopped the run says more than the error of writing its record.
            Err(unsaved) if failed.is_some() => {
                tracing::warn!("the failed run was not recorded: {}", unsaved.chain());
            }
            other => other?,
        }
        Ok(record)
    }

    /// Returns whether a scheduled run ended after the available time of its rows.
    pub(crate) fn overran(&self, job: &Job, record: &RunRecord) -> bool {
        job.pipeline.schedule.as_ref().is_some_and(|schedule| {
            let visible = available_from_schedule(record.interval, schedule.delay);
            // A run by hand or a backfill says nothing about whether the schedule was in time.
            job.is_scheduled && self.context.now() > visible
        })
    }

    /// Writes the intervals that are not committed yet to the offline table, then updates the
    /// online store.
    async fn execute(
        &self,
        job: &Job,
        works: &mut [IntervalWork<'_>],
        selection: &Selection,
        progress: &Arc<dyn Progress>,
    ) -> Result<()> {
        let mut to_write = Vec::new();
        // The records are copied, because the works hold open files, which cannot be shared
        // between threads.
        let records: Vec<RunRecord> = works.iter().map(|work| work.record.clone()).collect();
        for (index, record) in records.iter().enumerate() {
            if !self.planner.is_committed(record).await? {
                to_write.push(index);
            }
        }
        if !to_write.is_empty() {
            progress.stage("transforming");
            let result = self
                .write_offline(job, works, &to_write, selection, progress)
                .await;
            for work in works.iter_mut() {
                work.abort().await;
            }
            result?;
        }
        // If some of the work was committed earlier, it is not known which deletions it took
        // into account.
        let is_new = to_write.len() == works.len();
        let known = is_new.then_some(job.deletions.version());
        self.deleter
            .delete_rows_of_deleted(&job.target.table, known)
            .await?;
        if job.online == OnlineUpdate::AfterRun {
            progress.stage("updating the online store");
            let work = format!("pipeline/{}", job.name);
            let records = works.iter_mut().map(|work| &mut work.record);
            for_work(work, self.online.write_online(job, records.collect())).await?;
        }
        Ok(())
    }

    /// Writes the files of the intervals and commits them.
    fn write_offline<'a, 'job: 'a>(
        &'a self,
        job: &'a Job,
        works: &'a mut [IntervalWork<'job>],
        to_write: &'a [usize],
        selection: &'a Selection,
        progress: &'a Arc<dyn Progress>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let unplaced = self
                .writer
                .write_files(job, works, to_write, selection, progress)
                .await?;
            // The records are copied, because the works hold open files, which cannot be shared
            // between threads.
            let records: Vec<RunRecord> =
                to_write.iter().map(|i| works[*i].record.clone()).collect();
            let records: Vec<&RunRecord> = records.iter().collect();
            let offline = &self.context.components().stores.offline;
            let checked = check_rejects(offline, job, &records, unplaced.rows).await;
            if let Err(error) = checked {
                self.writer.discard_unplaced(unplaced.rejects).await;
                return Err(error);
            }
            self.writer.commit_unplaced(job, unplaced.rejects).await?;
            for index in to_write {
                let work = &mut works[*index];
                let written = self.writer.close(job, work).await?;
                self.writer
                    .commit_work(job, &mut work.record, &work.checks, written)
                    .await?;
            }
            Ok(())
        })
    }
}

/// Returns what a pass reads for all planned runs together; takes their files.
fn selection(intervals: &[Interval], planned: &mut [PlannedRun]) -> Selection {
    let mut files = Vec::new();
    for run in planned.iter_mut().filter(|run| !run.is_done) {
        files.append(&mut run.files);
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    // A file may be listed twice, once by the table and once by its log.
    files.dedup_by(|a, b| a.path == b.path);
    Selection {
        files,
        arrivals: covering_interval(intervals),
    }
}

/// Waits for work, but not longer than a limit.
async fn within<T>(limit: Option<Duration>, work: impl Future<Output = Result<T>>) -> Result<T> {
    let Some(limit) = limit else {
        return work.await;
    };
    let allowed = u64::try_from(limit.as_micros()).unwrap_or(0);
    let allowed = std::time::Duration::from_micros(allowed);
    tokio::time::timeout(allowed, work)
        .await
        .unwrap_or_else(|_| {
            let message = format!("it took longer than its `time_limit` of {limit}");
            Err(Error::new(Kind::Unavailable, message))
        })
}

/// Returns the smallest interval that contains all of the given ones.
fn covering_interval(intervals: &[Interval]) -> Interval {
    let from = intervals.iter().map(|i| i.from).min();
    let to = intervals.iter().map(|i| i.to).max();
    Interval {
        from: from.unwrap_or(Timestamp::MIN),
        to: to.unwrap_or(Timestamp::MAX),
    }
}

#[cfg(test)]
mod tests {
    use wafer_core::Digest;

    use super::*;

    fn interval(from: i64, to: i64) -> Interval {
        let at = Timestamp::from_micros;
        Interval {
            from: at(from),
            to: at(to),
        }
    }

    /// Returns a planned run over an interval that reads data files of the given paths.
    fn planned_run(interval: Interval, is_done: bool, paths: &[&str]) -> PlannedRun {
        let (inputs, at) = (Digest::of(&[]), interval.to);
        let file = |path: &&str| DataFile {
            path: (*path).to_owned(),
            bytes: 1,
            rows: None,
            events: None,
            available: None,
        };
        PlannedRun {
            record: RunRecord::new("p", "t", interval, inputs, at, at),
            is_done,
            files: paths.iter().map(file).collect(),
            is_behind: false,
        }
    }

    #[tokio::test]
    async fn work_ends_within_its_time_limit_or_fails_with_it() {
        assert_eq!(within(None, async { Ok(1) }).await.unwrap(), 1);
        let hour = Some(Duration::from_hours(1));
        assert_eq!(within(hour, async { Ok(2) }).await.unwrap(), 2);
        let failed = within(hour, async { Err::<u32, _>(Error::invalid("no")) }).await;
        assert_eq!(failed.unwrap_err().to_string(), "no");
        let never = std::future::pending::<Result<u32>>();
        let error = within(Some(Duration::ZERO), never).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(error.to_string().contains("its `time_limit` of"), "{error}");
    }

    #[test]
    fn intervals_are_covered_from_the_first_start_to_the_last_end() {
        for (intervals, wanted) in [
            (&[][..], Interval::ALL),
            (&[interval(5, 9)], interval(5, 9)),
            (
                &[interval(5, 9), interval(1, 2), interval(3, 12)],
                interval(1, 12),
            ),
        ] {
            assert_eq!(covering_interval(intervals), wanted, "{intervals:?}");
        }
    }

    #[test]
    fn pass_reads_each_file_of_its_claims_once_over_all_its_intervals() {
        let (first, second, third) = (interval(0, 10), interval(10, 20), interval(40, 50));
        for (what, claims, paths, arrivals) in [
            ("no run", vec![], vec![], Interval::ALL),
            (
                "files are sorted",
                vec![planned_run(first, false, &["b", "a"])],
                vec!["a", "b"],
                first,
            ),
            (
                "two claims read the same file",
                vec![
                    planned_run(second, false, &["b", "c"]),
                    planned_run(first, false, &["a", "b"]),
                ],
                vec!["a", "b", "c"],
                interval(0, 20),
            ),
            (
                "nothing is read for a run that is done",
                vec![
                    planned_run(first, false, &["a"]),
                    planned_run(third, true, &["z"]),
                ],
                vec!["a"],
                interval(0, 50),
            ),
        ] {
            let mut claims = claims;
            let intervals: Vec<Interval> = claims.iter().map(|c| c.record.interval).collect();
            let found = selection(&intervals, &mut claims);
            let read: Vec<&str> = found.files.iter().map(|file| file.path.as_str()).collect();
            assert_eq!((read, found.arrivals), (paths, arrivals), "{what}");
        }
    }
}
