//! Distributed runs: runs that several processes work on.
//!
//! One process claims the run and divides the files of the source into partitions
//! ([`Pipelines::start_distributed`]). Each partition is transformed and written to files below
//! the run's folder by any process, as often as needed ([`Pipelines::run_partition`]); its
//! result is recorded once, so that a second attempt or a slow first one changes nothing. One
//! process gathers the results into the same single commit that an undivided run makes
//! ([`Pipelines::commit_distributed`]). Then the rows of each partition go online, and the run
//! is finished. Expectations about all rows of a run are summed up from the partitions
//! (fractions of nulls), or prevent the run from being divided (uniqueness). A run that was
//! interrupted continues with the missing partitions.
//!
//! The processes share state in the metadata store, below
//! `PROJECT/distributed/PIPELINE/RUN.GENERATION/`: the object `run`, and for each partition
//! number N the objects `input/N`, `result/N` and `online/N`. A result is written only if there
//! is none; if a partition was worked on twice, the files of the second attempt are removed.
//!
//! [`Pipelines::run_distributed`] drives all of this from one process, which holds the lease of
//! the pipeline. A state machine on AWS has no process that stays with the run; the lease is
//! then held in the run's own name, by whoever works on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wafer_catalog::{LEASE, Progress, RunRecord, RunState, ScheduleDef, read};
use wafer_core::expect::{Rule, RunValues};
use wafer_core::rules::Interval;
use wafer_core::{Digest, Duration, Timestamp};
use wafer_store::{Error, Expect, Kind, Lease, Leased, Result, for_work};

use crate::input::Selection;
use crate::run::job::{Job, OnlineUpdate, PartitionInput};
use crate::run::online::OnlineCounts;
use crate::run::rejects::RowsOfNoInterval;
use crate::run::write::{IntervalWork, UnplacedRejects, Written};
use crate::run::{PlannedRun, RequestedRun, RunRequest, pipeline_busy_error, run_lease_name};
use crate::service::Pipelines;
use crate::source::files::SourceFile;

/// How long a run without a process of its own keeps the lease of its pipeline
/// after the last sign of its workers. An invocation of Lambda takes less than half of this.
const HOLD_DURATION: Duration = Duration::from_mins(30);

/// The prefix of the lease holder's name for runs without a process of their own.
const HOLDER_PREFIX: &str = "distributed run ";

/// The number of objects that are written or removed concurrently.
const CONCURRENT_WRITES: usize = 16;

/// The largest number of files in a partition: their descriptions have to fit into one metadata
/// object. The number is exceeded only where there would be too many partitions.
const MAX_FILES_PER_PARTITION: usize = 100;

/// How the input of a run is divided into partitions. A file is never split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Division {
    /// The approximate size of a partition in bytes of source files; 256 MiB by default.
    pub bytes: u64,
    /// The largest number of partitions, 10,000 by default. Partitions are made larger if there
    /// would be more.
    pub most: usize,
}

impl Default for Division {
    fn default() -> Self {
        Self {
            bytes: 256 << 20,
            most: 10_000,
        }
    }
}

impl Division {
    /// Divides files into partitions of consecutive files.
    fn divide(self, files: &[SourceFile]) -> Vec<&[SourceFile]> {
        let total: u64 = files.iter().map(|file| file.bytes).sum();
        let bytes = self.bytes.max(total.div_ceil(self.most.max(1) as u64));
        let most = MAX_FILES_PER_PARTITION.max(files.len().div_ceil(self.most.max(1)));
        let (mut parts, mut start, mut size) = (Vec::new(), 0, 0);
        for (index, file) in files.iter().enumerate() {
            let is_full = size > 0 && size + file.bytes > bytes;
            if is_full || index - start == most {
                parts.push(&files[start..index]);
                (start, size) = (index, 0);
            }
            size += file.bytes;
        }
        if start < files.len() {
            parts.push(&files[start..]);
        }
        parts
    }
}

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
        key(&self.record)
    }
}

/// Returns the key of a run: its id and generation.
fn key(record: &RunRecord) -> String {
    format!("{}.{}", record.id, record.generation)
}

/// The result of a partition.
#[derive(Serialize, Deserialize)]
struct PartitionResult {
    /// The counts of the partition, with examples of rejected rows.
    record: RunRecord,
    /// The values that each expectation about all rows has seen.
    seen: Vec<RunValues>,
    /// The files that were written.
    written: Written,
    /// The files of rejected rows that belong to no interval.
    unplaced: Vec<UnplacedRejects>,
    /// The number of rows that belong to no interval.
    #[serde(default)]
    rows_of_no_interval: RowsOfNoInterval,
    /// The version of the deletions that were taken into account.
    deletions: u64,
}

/// Whether there is anything to run.
enum Divided {
    /// There is nothing to do: the last run over the interval had the same inputs.
    Done(RunRecord),
    /// The run was claimed and divided.
    Run(DistributedRun),
}

impl Pipelines {
    /// Runs a pipeline over an interval with the same result as [`run`](Self::run), but has
    /// other processes work on the partitions of its input: `work` makes sure that each of them
    /// goes through [`run_partition`](Self::run_partition).
    ///
    /// # Errors
    /// Returns the errors of [`run`](Self::run), and those of `work`.
    pub async fn run_distributed(
        &self,
        request: &RunRequest,
        division: Division,
        progress: &Arc<dyn Progress>,
        work: impl AsyncFnOnce(&DistributedRun) -> Result<()>,
    ) -> Result<RequestedRun> {
        progress.stage("reading the source");
        self.check_interval(request)?;
        let lease = self.run_lease(&request.pipeline).await?;
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
        let mut record = self.running_record(&run.record).await?;
        self.commit_results(&job, run, &mut record).await?;
        progress.stage("updating the online store");
        let work = format!("pipeline/{}", job.name);
        for_work(work, self.write_online(&job, vec![&mut record])).await?;
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
    /// Returns the errors of [`run`](Self::run).
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
        let begun = async {
            let (interval, schedule) = match interval {
                Some(interval) => (interval, None),
                None => match self.next_due(pipeline).await? {
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
            self.check_interval(&request)?;
            let started = self.context.machine_now();
            let divided = match self
                .divide(&request, division, schedule.as_ref(), asked_by)
                .await
            {
                // A failure before the run began, such as a missing source, counts as an
                // attempt.
                Err(e) if schedule.is_some() => {
                    self.record_failed_attempt(pipeline, interval, started, &e)
                        .await?;
                    return Err(e);
                }
                other => other?,
            };
            match divided {
                Divided::Done(_) => Ok(None),
                Divided::Run(run) => Ok(Some(run)),
            }
        };
        let begun = begun.await;
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
        self.check_running(&run.record).await?;
        let name = format!(
            "{}/{}",
            self.context.project(),
            run_lease_name(run.pipeline())
        );
        let metadata = self.context.components().stores.metadata.as_ref();
        let now = self.context.machine_now();
        if Lease::keep(metadata, &name, &lease_holder(run), now, HOLD_DURATION).await? {
            return Ok(());
        }
        let message = format!("run {} of `{}` was taken over", run.key(), run.pipeline());
        Err(Error::new(Kind::Conflict, message))
    }

    /// Plans and claims a run, and divides its input. A run that was interrupted keeps its
    /// partitions.
    async fn divide(
        &self,
        request: &RunRequest,
        division: Division,
        schedule: Option<&ScheduleDef>,
        asked_by: Option<String>,
    ) -> Result<Divided> {
        let job = self
            .job(
                &self.context.definitions(),
                request,
                None,
                OnlineUpdate::AfterRun,
            )
            .await?;
        let files = divisible(&job)?;
        let claims = self.claims(&job.target.table.name).await?;
        self.check_overlaps(&job, request.interval, &claims).await?;
        let planned = self.plan_run(&job, request.interval, &claims, None).await?;
        let mut record = planned.record;
        if planned.is_done {
            return Ok(Divided::Done(record));
        }
        job.input.check_columns().await?;
        self.insert_record(&mut record).await?;
        self.save(&mut record).await?;
        let folder = self.folder(&request.pipeline, &key(&record));
        let before: Option<DistributedRun> = self.read(&folder, "run").await?;
        let run = match before {
            // The run is taken up; the results of its partitions stay.
            Some(before) => DistributedRun {
                record,
                asked_by,
                ..before
            },
            None => {
                // All earlier runs of the pipeline are over.
                let earlier = format!(
                    "{}/distributed/{}",
                    self.context.project(),
                    request.pipeline
                );
                self.delete_folder(&earlier).await?;
                let parts = match self.is_committed(&record).await? {
                    true => Vec::new(),
                    false => division.divide(files),
                };
                let writes = parts.iter().enumerate().map(|(number, files)| {
                    let name = format!("{folder}/{}", partition_object("input", number));
                    async move { self.write(&name, files, Expect::Anything).await }
                });
                stream::iter(writes)
                    .buffer_unordered(CONCURRENT_WRITES)
                    .try_collect::<()>()
                    .await?;
                DistributedRun {
                    record,
                    partitions: parts.len(),
                    settings: job.settings,
                    table_versions: job.table_versions.clone(),
                    now: job.started,
                    is_scheduled: schedule.is_some(),
                    time_limit: schedule.and_then(|schedule| schedule.time_limit),
                    asked_by,
                }
            }
        };
        self.write(&format!("{folder}/run"), &run, Expect::Anything)
            .await?;
        Ok(Divided::Run(run))
    }

    /// Transforms one partition and records its result, unless it has a result already.
    ///
    /// # Errors
    /// Returns the errors of [`run`](Self::run), and [`Kind::Conflict`] when the definitions
    /// changed or the run is over.
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
            .write_files(job, works, &[0], &selection, &progress)
            .await?;
        let work = &mut works[0];
        let written = self.close(job, work).await?;
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
        let Written { rows, quarantine } = result.written;
        let unplaced = result.unplaced.into_iter().map(|unplaced| unplaced.files);
        for files in [rows, quarantine].into_iter().chain(unplaced) {
            offline.discard(files).await;
        }
    }

    /// Commits what was written for all partitions. Returns the numbers of the partitions whose
    /// rows still have to be written to the online store.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when a partition has no result or the run was taken over.
    pub async fn commit_distributed(&self, run: &DistributedRun) -> Result<Vec<usize>> {
        self.check_time(run)?;
        let job = self.distributed_job(run, Vec::new()).await?;
        let mut record = self.running_record(&run.record).await?;
        self.commit_results(&job, run, &mut record).await?;
        if record.is_new_online() {
            return Ok((0..run.partitions).collect());
        }
        let work = format!("pipeline/{}", job.name);
        for_work(work, self.write_online(&job, vec![&mut record])).await?;
        self.save(&mut record).await?;
        Ok(Vec::new())
    }

    /// Commits the results of all partitions, if they are not committed yet.
    async fn commit_results(
        &self,
        job: &Job,
        run: &DistributedRun,
        record: &mut RunRecord,
    ) -> Result<()> {
        if self.is_committed(record).await? {
            return self.delete_rows_of_deleted(&job.target.table, None).await;
        }
        let results = self.results(run).await?;
        record.clear_counts();
        let mut checks = job.target.run_checks();
        let (mut unplaced, mut written) = (Vec::new(), Written::nothing(job));
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
        let checked = self.check_rejects(job, &[&*record], rest).await;
        if let Err(error) = checked {
            // Whoever records the failure reads the record again, and the rejected rows are in it.
            self.save(record).await?;
            return Err(error);
        }
        self.commit_unplaced(job, unplaced).await?;
        self.commit_work(job, record, &checks, written).await?;
        self.delete_rows_of_deleted(&job.target.table, known).await
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
        let counts = for_work(work, self.add_files(&job, &run.record, number, files)).await?;
        let name = format!("{folder}/{}", partition_object("online", number));
        self.write(&name, &counts, Expect::Anything).await
    }

    /// Ends a run whose rows are all written, and releases the lease.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when the run was taken over.
    pub async fn finish_distributed(&self, run: &DistributedRun) -> Result<RunRecord> {
        let job = self.distributed_job(run, Vec::new()).await?;
        let mut record = self.running_record(&run.record).await?;
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
    async fn end_distributed(
        &self,
        job: &Job,
        run: &DistributedRun,
        mut record: RunRecord,
    ) -> Result<RunRecord> {
        record.state = RunState::Succeeded;
        record.finished = Some(self.context.machine_now());
        record.overran = self.overran(job, &record);
        self.save(&mut record).await?;
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
        let found = self.run_record(id).await?;
        let is_done =
            |found: &RunRecord| key(found) == run_key && found.state == RunState::Succeeded;
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
        let mut record = self.current_record(&run.record).await?;
        if record.state == RunState::Failed {
            self.release_pipeline(run).await?;
            return Ok(record.error.unwrap_or_default());
        }
        record.fail(error, self.context.machine_now());
        self.save(&mut record).await?;
        self.release_pipeline(run).await?;
        Ok(error.to_owned())
    }

    /// Records a failure. If that fails too, it is only logged, because the error that stopped
    /// the run says more.
    async fn record_failure(&self, run: &DistributedRun, error: &str) {
        if let Err(unsaved) = self.fail_distributed(run, error).await {
            tracing::warn!("the failed run was not recorded: {}", unsaved.chain());
        }
    }

    /// Releases the lease of a run without a process of its own.
    async fn release_pipeline(&self, run: &DistributedRun) -> Result<()> {
        let name = format!(
            "{}/{}",
            self.context.project(),
            run_lease_name(run.pipeline())
        );
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

    /// Returns the current record of a run that is under way.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when the run is over or was taken over.
    async fn running_record(&self, record: &RunRecord) -> Result<RunRecord> {
        let found = self.current_record(record).await?;
        match found.state {
            RunState::Running => Ok(found),
            _ => Err(run_over_error(record)),
        }
    }

    /// Returns the current record of a run.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when the run was taken over.
    async fn current_record(&self, record: &RunRecord) -> Result<RunRecord> {
        let found = self.claimed(&record.table, record.interval).await?;
        let is_ours =
            |found: &RunRecord| key(found) == key(record) && found.attempts == record.attempts;
        found.filter(is_ours).ok_or_else(|| run_over_error(record))
    }

    /// Checks that a run is under way and was not taken over.
    pub(crate) async fn check_running(&self, record: &RunRecord) -> Result<()> {
        self.running_record(record).await.map(drop)
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

    /// Returns the folder of a run's objects in the metadata store.
    fn folder(&self, pipeline: &str, key: &str) -> String {
        format!("{}/distributed/{pipeline}/{key}", self.context.project())
    }

    /// Removes all objects in a folder of the metadata store.
    async fn delete_folder(&self, folder: &str) -> Result<()> {
        let metadata = &self.context.components().stores.metadata;
        let stored = metadata.list(&format!("{folder}/")).await?;
        let removed = stored
            .iter()
            .map(|(name, _)| metadata.delete(name, Expect::Anything));
        stream::iter(removed)
            .buffer_unordered(CONCURRENT_WRITES)
            .try_collect::<()>()
            .await?;
        Ok(())
    }

    /// Reads an object of a run; returns `None` if there is none.
    async fn read<T: DeserializeOwned>(&self, folder: &str, name: &str) -> Result<Option<T>> {
        let name = format!("{folder}/{name}");
        let stored = self.context.components().stores.metadata.get(&name).await?;
        stored.map(|stored| read(&name, &stored.value)).transpose()
    }

    /// Writes an object of a run.
    async fn write<T: Serialize>(&self, name: &str, object: &T, expect: Expect) -> Result<()> {
        let json =
            Bytes::from(serde_json::to_vec(object).expect("the objects of a run are plain data"));
        let put = self
            .context
            .components()
            .stores
            .metadata
            .put(name, json, expect)
            .await;
        put.map(drop).map_err(|e| match e.kind() {
            Kind::Conflict => Error::caused(Kind::Conflict, "the object exists already", e),
            _ => e,
        })
    }
}

/// The error for a run that is not under way any more, by its key.
fn run_key_over_error(pipeline: &str, key: &str) -> Error {
    let message = format!("run {key} of `{pipeline}` is over, or was taken over; see `wafer runs`");
    Error::new(Kind::Conflict, message)
}

/// The error for a run that is not under way any more, by its record.
fn run_over_error(record: &RunRecord) -> Error {
    let message = format!(
        "the run of `{}` over {} is over or was taken over; see `wafer runs`",
        record.pipeline, record.interval
    );
    Error::new(Kind::Conflict, message)
}

/// Returns the files that a job reads.
///
/// # Errors
/// Returns [`Kind::Invalid`] when the run cannot be divided.
fn divisible(job: &Job) -> Result<&[SourceFile]> {
    let mut expectations = job.target.group.expectations.iter();
    if let Some(unique) = expectations.find(|e| e.rule == Rule::Unique) {
        let message = format!(
            "pipeline `{}` expects values of `{}` to be unique among all rows of a run: it cannot be \
             divided; run it in one piece",
            job.name, unique.column
        );
        return Err(Error::invalid(message));
    }
    job.input.files().ok_or_else(|| {
        let message = format!(
            "pipeline `{}` does not read files: it cannot be divided; run it in one piece",
            job.name
        );
        Error::invalid(message)
    })
}

/// Returns the name of a partition's object. The names sort in the order of the numbers.
fn partition_object(kind: &str, number: usize) -> String {
    format!("{kind}/{number:06}")
}

/// Returns the name under which a run without a process of its own holds its lease.
fn lease_holder(run: &DistributedRun) -> String {
    format!("{HOLDER_PREFIX}{}", run.key())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(bytes: u64, most: usize, files: &[u64]) -> Vec<usize> {
        let files: Vec<SourceFile> = files
            .iter()
            .map(|bytes| SourceFile::sized(*bytes))
            .collect();
        let parts = Division { bytes, most }.divide(&files);
        parts.iter().map(|part| part.len()).collect()
    }

    #[test]
    fn files_are_divided_by_their_size() {
        assert_eq!(sizes(10, 100, &[]), [0; 0]);
        assert_eq!(sizes(10, 100, &[4, 4, 4, 4]), [2, 2]);
        // A file that is larger than a partition is a partition by itself.
        assert_eq!(sizes(10, 100, &[3, 40, 3, 3]), [1, 1, 2]);
        assert_eq!(sizes(10, 100, &[0, 0, 0]), [3]);
        // Partitions are made larger if there would be too many.
        assert_eq!(sizes(1, 2, &[1; 10]), [5, 5]);
        assert_eq!(sizes(1_000_000, 100, &[1; 250]), [100, 100, 50]);
        assert_eq!(sizes(1_000_000, 2, &[1; 250]), [125, 125]);
    }
}
