//! Distributed runs: runs that several processes work on.
//!
//! One process claims the run and divides the files of the source into partitions
//! ([`DistributedRuns::start_distributed`]). Each partition is transformed and written to files
//! below the run's folder by any process, as often as needed ([`DistributedRuns::run_partition`]);
//! its result is recorded once, so that a second attempt or a slow first one changes nothing. One
//! process gathers the results into the same single commit that an undivided run makes
//! ([`DistributedRuns::commit_distributed`]). Then the rows of each partition go online, and the
//! run is finished. Expectations about all rows of a run are summed up from the partitions
//! (fractions of nulls), or prevent the run from being divided (uniqueness). A run that was
//! interrupted continues with the missing partitions.
//!
//! The processes share state in the metadata store, below
//! `PROJECT/distributed/PIPELINE/RUN.GENERATION/`: the object `run`, and for each partition
//! number N the objects `input/N`, `result/N` and `online/N`. A result is written only if there
//! is none; if a partition was worked on twice, the files of the second attempt are removed.
//!
//! This file begins runs and holds their leases. `divide.rs` makes the partitions, `partition.rs`
//! works on one, `finish.rs` commits and ends a run, and `objects.rs` has what the processes share.
//!
//! [`DistributedRuns::run_distributed`] drives all of this from one process, which holds the lease
//! of the pipeline. A state machine on AWS has no process that stays with the run; the lease is
//! then held in the run's own name, by whoever works on it.

mod divide;
mod finish;
mod objects;
mod partition;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wafer_catalog::{Context, LEASE, Progress, RunRecord};
use wafer_core::rules::Interval;
use wafer_core::{Digest, Duration, Timestamp};
use wafer_store::{Error, Kind, Lease, Leased, Result, for_work};

use self::divide::Divided;
use crate::run::job::{Job, OnlineUpdate, PartitionInput};
use crate::run::lease::{pipeline_busy_error, run_lease, run_lease_name};
use crate::run::{RequestedRun, RunRequest, Runs};
use crate::source::files::SourceFile;
use crate::trigger::schedule::next_due;

pub use self::divide::Division;

/// How long a run without a process of its own keeps the lease of its pipeline
/// after the last sign of its workers. An invocation of Lambda takes less than half of this.
const HOLD_DURATION: Duration = Duration::from_mins(30);

/// The prefix of the lease holder's name for runs without a process of their own.
const HOLDER_PREFIX: &str = "distributed run ";

/// A run that is worked on in partitions: what all processes that work on it need to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DistributedRun {
    /// The record of the run when it was claimed.
    record: RunRecord,
    /// The number of partitions; they are numbered from 0.
    pub partitions: usize,
    /// The digest of the function and of the settings of the pipeline.
    settings: Digest,
    /// The versions of the tables that features are looked up in.
    #[serde(default, rename = "looked_up")]
    table_versions: BTreeMap<String, u64>,
    /// The present, by which rows of the future are refused.
    now: Timestamp,
    /// Whether the schedule of the pipeline runs it.
    is_scheduled: bool,
    /// How long the run may take.
    time_limit: Option<Duration>,
    /// The name of the request that started the run, which may be repeated.
    asked_by: Option<String>,
}

impl DistributedRun {
    /// Returns the name of the pipeline.
    pub fn pipeline(&self) -> &str {
        &self.record.pipeline
    }

    /// Returns the key of the run, which is unique among the runs of its pipeline.
    pub fn key(&self) -> String {
        self.record.key()
    }
}

/// Runs pipelines over intervals with the work of several processes.
#[derive(Debug)]
pub struct DistributedRuns {
    context: Arc<Context>,
    runs: Arc<Runs>,
}

impl DistributedRuns {
    pub(crate) fn new(context: Arc<Context>, runs: Arc<Runs>) -> Self {
        Self { context, runs }
    }

    /// Runs a pipeline over an interval with the same result as [`Runs::run`], but has
    /// other processes work on the partitions of its input: `work` makes sure that each of them
    /// goes through [`run_partition`](Self::run_partition).
    ///
    /// # Errors
    /// Returns the errors of [`Runs::run`], and those of `work`.
    pub async fn run_distributed(
        &self,
        request: &RunRequest,
        division: Division,
        progress: &Arc<dyn Progress>,
        work: impl AsyncFnOnce(&DistributedRun) -> Result<()>,
    ) -> Result<RequestedRun> {
        progress.stage("reading the source");
        self.runs.check_interval(request)?;
        let lease = run_lease(&self.context, &request.pipeline).await?;
        let whole = async {
            let run = match self.divide(request, division, None, None).await? {
                Divided::Done(record) => {
                    return Ok(RequestedRun {
                        record,
                        is_new: false,
                    });
                }
                Divided::Run(run) => run,
            };
            progress.stage("transforming");
            let done = match work(&run).await {
                Ok(()) => self.complete(&run, progress).await,
                Err(error) => Err(error),
            };
            if let Err(error) = &done {
                self.record_failure(&run, &error.chain()).await;
            }
            Ok(RequestedRun {
                record: done?,
                is_new: true,
            })
        };
        lease.during(whole).await
    }

    /// Commits the results of all partitions, updates the online store and ends the run.
    async fn complete(
        &self,
        run: &DistributedRun,
        progress: &Arc<dyn Progress>,
    ) -> Result<RunRecord> {
        let job = self.distributed_job(run, Vec::new()).await?;
        let mut record = self.runs.records.running_record(&run.record).await?;
        self.commit_results(&job, run, &mut record).await?;
        progress.stage("updating the online store");
        let work = format!("pipeline/{}", job.name);
        for_work(work, self.runs.online.write_online(&job, vec![&mut record])).await?;
        self.end_distributed(&job, run, record).await
    }

    /// Begins a run without a process of its own: over `interval`, or over the next interval of
    /// the pipeline's schedule that is due. Returns `None` if there is nothing to do.
    ///
    /// The caller then passes each partition to [`run_partition`](Self::run_partition), calls
    /// [`commit_distributed`](Self::commit_distributed), passes the partitions that it returns
    /// to [`put_partition_online`](Self::put_partition_online), and ends the run with
    /// [`finish_distributed`](Self::finish_distributed), or with
    /// [`fail_distributed`](Self::fail_distributed) if one of these steps failed. A caller that
    /// repeats the request with the same `asked_by` gets the same run.
    ///
    /// # Errors
    /// Returns the errors of [`Runs::run`].
    pub async fn start_distributed(
        &self,
        pipeline: &str,
        interval: Option<Interval>,
        division: Division,
        asked_by: Option<String>,
    ) -> Result<Option<DistributedRun>> {
        let lease = match self.context.lease(&run_lease_name(pipeline), LEASE).await? {
            Leased::Mine(lease) => self.context.renewed(lease),
            // The request may be a repetition, because its first answer was lost.
            Leased::HeldBy(holder) => {
                match self
                    .find_begun(pipeline, &holder, asked_by.as_ref())
                    .await?
                {
                    Some(run) => return Ok(Some(run)),
                    None => return Err(pipeline_busy_error(pipeline, &holder)),
                }
            }
        };
        let begun = self
            .begin_distributed(pipeline, interval, division, asked_by)
            .await;
        let Ok(Some(run)) = begun else {
            lease.end().await;
            return begun;
        };
        let metadata = self.context.components().stores.metadata.as_ref();
        let now = self.context.machine_now();
        if let Some(mut lease) = lease.take().await {
            lease
                .hand_over(metadata, &lease_holder(&run), now, HOLD_DURATION)
                .await?;
        }
        Ok(Some(run))
    }

    /// Begins a run under the lease of its pipeline, as
    /// [`start_distributed`](Self::start_distributed) does.
    async fn begin_distributed(
        &self,
        pipeline: &str,
        interval: Option<Interval>,
        division: Division,
        asked_by: Option<String>,
    ) -> Result<Option<DistributedRun>> {
        // As with `run_lease`.
        self.context.refresh().await?;
        let (interval, schedule) = match interval {
            Some(interval) => (interval, None),
            None => match next_due(&self.runs, pipeline).await? {
                Some((interval, schedule)) => (interval, Some(schedule)),
                None => return Ok(None),
            },
        };
        let request = RunRequest {
            pipeline: pipeline.to_owned(),
            interval,
            workers: 1,
            archive: false,
        };
        self.runs.check_interval(&request)?;
        let started = self.context.machine_now();
        let divided = self
            .divide(&request, division, schedule.as_ref(), asked_by)
            .await;
        match divided {
            Ok(Divided::Done(_)) => Ok(None),
            Ok(Divided::Run(run)) => Ok(Some(run)),
            // A failure before the run began, such as a missing source, counts as an attempt.
            Err(e) if schedule.is_some() => {
                self.runs
                    .records
                    .record_failed_attempt(pipeline, interval, started, &e)
                    .await?;
                Err(e)
            }
            Err(e) => Err(e),
        }
    }

    /// Returns the run that was begun for the same request, if it holds the lease of its
    /// pipeline.
    async fn find_begun(
        &self,
        pipeline: &str,
        lease: &str,
        asked_by: Option<&String>,
    ) -> Result<Option<DistributedRun>> {
        let Some((key, _)) = lease.strip_prefix(HOLDER_PREFIX).zip(asked_by) else {
            return Ok(None);
        };
        let run: Option<DistributedRun> = self.read(&self.folder(pipeline, key), "run").await?;
        Ok(run.filter(|run| run.asked_by.as_ref() == asked_by))
    }

    /// Returns a run that was begun, by its pipeline and key.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when the run is over or another one took its place.
    pub async fn distributed(&self, pipeline: &str, key: &str) -> Result<DistributedRun> {
        let found = self.read(&self.folder(pipeline, key), "run").await?;
        found.ok_or_else(|| run_key_over_error(pipeline, key))
    }

    /// Renews the lease of a run without a process of its own.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when the run is over or another one has the lease.
    pub async fn hold(&self, run: &DistributedRun) -> Result<()> {
        // A run that failed in the meantime has released the lease, and must not acquire it
        // again.
        self.runs.records.check_running(&run.record).await?;
        let name = self.lease_of(run);
        let metadata = self.context.components().stores.metadata.as_ref();
        let now = self.context.machine_now();
        if Lease::keep(metadata, &name, &lease_holder(run), now, HOLD_DURATION).await? {
            return Ok(());
        }
        let message = format!("run {} of `{}` was taken over", run.key(), run.pipeline());
        Err(Error::new(Kind::Conflict, message))
    }

    /// Returns the name of the lease of a run's pipeline, with which it is acquired and kept from
    /// any process.
    fn lease_of(&self, run: &DistributedRun) -> String {
        let name = run_lease_name(run.pipeline());
        format!("{}/{name}", self.context.project())
    }

    /// Releases the lease of a run without a process of its own.
    async fn release_pipeline(&self, run: &DistributedRun) -> Result<()> {
        let name = self.lease_of(run);
        let metadata = self.context.components().stores.metadata.as_ref();
        let now = self.context.machine_now();
        // Acquired in the run's name for no time at all, the lease is free; the lease of another
        // holder is left alone.
        let _ = Lease::acquire(metadata, &name, &lease_holder(run), now, Duration::ZERO).await?;
        Ok(())
    }

    /// Prepares the job of a partition.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when the definitions changed since the run began.
    async fn distributed_job(&self, run: &DistributedRun, files: Vec<SourceFile>) -> Result<Job> {
        let request = RunRequest {
            pipeline: run.pipeline().to_owned(),
            interval: run.record.interval,
            workers: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            archive: false,
        };
        let definitions = self.context.definitions();
        let part = PartitionInput {
            files,
            table_versions: run.table_versions.clone(),
        };
        let mut job = self
            .runs
            .jobs
            .job(&definitions, &request, Some(part), OnlineUpdate::AfterRun)
            .await?;
        if job.settings != run.settings {
            let message = format!(
                "the definitions of pipeline `{}` changed since its run began; run it again",
                run.pipeline()
            );
            return Err(Error::new(Kind::Conflict, message));
        }
        (job.started, job.is_scheduled) = (run.now, run.is_scheduled);
        Ok(job)
    }

    /// Checks that a run has not exceeded its time limit.
    fn check_time(&self, run: &DistributedRun) -> Result<()> {
        let end = run.time_limit.map(|limit| run.record.started.plus(limit));
        if end.is_none_or(|end| self.context.machine_now() <= end) {
            return Ok(());
        }
        let limit = run.time_limit.unwrap_or_default();
        let message = format!("it took longer than its `time_limit` of {limit}");
        Err(Error::invalid(message))
    }
}

/// The error for a run that is not under way any more, by its key.
fn run_key_over_error(pipeline: &str, key: &str) -> Error {
    let message = format!("run {key} of `{pipeline}` is over, or was taken over; see `wafer runs`");
    Error::new(Kind::Conflict, message)
}

/// Returns the name under which a run without a process of its own holds its lease.
fn lease_holder(run: &DistributedRun) -> String {
    format!("{HOLDER_PREFIX}{}", run.key())
}
