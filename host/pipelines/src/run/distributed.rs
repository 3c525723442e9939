//! Runs that several processes work on. One divides the input into partitions; each
//! partition is transformed and written to files by whoever is given it, as often as
//! it takes; one makes a single commit of what they wrote.
//!
//! What they tell one another is in the metadata store, below
//! `PROJECT/distributed/PIPELINE/RUN.GENERATION/`: `run`, and by number `input/N`,
//! `result/N` and `online/N`. A result is written once: of a partition that was worked
//! on twice, the files of the second are removed.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wafer_catalog::{LEASE, Progress, RunRecord, RunState, read};
use wafer_core::expect::{Rule, RunValues};
use wafer_core::rules::Interval;
use wafer_core::{Digest, Timestamp};
use wafer_store::{Error, Expect, Kind, Lease, Leased, Result, for_work};

use crate::input::Selection;
use crate::run::job::{Job, Online, Part};
use crate::run::online::OnlineCounts;
use crate::run::write::{UnplacedRejects, Work, Written};
use crate::run::{Claim, RunRequest, is_run_by, run_lease_name};
use crate::service::Pipelines;
use crate::source::files::SourceFile;

/// How long a run without a process of its own keeps its pipeline, after the last sign
/// of those who work on it. No invocation of Lambda takes half of it.
const HOLD: i64 = 30 * 60_000_000;

/// Leases of runs that no process stays with begin so.
const HOLDER: &str = "distributed run ";

/// Objects that are written or removed at the same time.
const AT_ONCE: usize = 16;

/// Files of a partition; what is known of it has to fit into a metadata object.
const MOST_FILES: usize = 100;

/// How the input of a run is divided. A file is never split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Division {
    /// Source bytes of a partition, about.
    pub bytes: u64,
    /// Partitions at most; they are larger where there would be more.
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
    fn divide(self, files: &[SourceFile]) -> Vec<&[SourceFile]> {
        let total: u64 = files.iter().map(|file| file.bytes).sum();
        let bytes = self.bytes.max(total.div_ceil(self.most.max(1) as u64));
        let most = MOST_FILES.max(files.len().div_ceil(self.most.max(1)));
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

/// A run that is worked on in partitions: what all who do need to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DistributedRun {
    /// As it was claimed.
    record: RunRecord,
    /// Partitions, numbered from 0.
    pub partitions: usize,
    /// Digest of the function and the settings.
    settings: Digest,
    /// Versions of the tables that features are looked up in.
    #[serde(default, rename = "looked_up")]
    table_versions: BTreeMap<String, u64>,
    /// The present that decides which rows are of the future.
    now: Timestamp,
    is_scheduled: bool,
    time_limit: Option<i64>,
    /// Names who asked for it, who may ask again.
    asked_by: Option<String>,
}

impl DistributedRun {
    /// Name of the pipeline.
    pub fn pipeline(&self) -> &str {
        &self.record.pipeline
    }

    /// Names the run among those of its pipeline.
    pub fn key(&self) -> String {
        key(&self.record)
    }
}

fn key(record: &RunRecord) -> String {
    format!("{}.{}", record.id, record.generation)
}

/// What became of a partition.
#[derive(Serialize, Deserialize)]
struct PartitionResult {
    /// Counts and examples of what was set aside.
    record: RunRecord,
    /// For each expectation about all rows what was seen.
    seen: Vec<RunValues>,
    written: Written,
    unplaced: Vec<UnplacedRejects>,
    /// Version of the deletions that were known.
    deletions: u64,
}

/// What there is to do about a run.
enum Divided {
    /// Nothing: its inputs are those of before.
    Done(RunRecord),
    Run(DistributedRun),
}

impl Pipelines {
    /// Runs a pipeline over an interval as [`run`](Self::run) does, with the same
    /// result, but has the partitions of its input worked on by others: `work` sees to
    /// it that each of them goes through [`run_partition`](Self::run_partition).
    ///
    /// # Errors
    /// Those of [`run`](Self::run), and those of `work`.
    pub async fn run_distributed(
        &self,
        request: &RunRequest,
        division: Division,
        progress: &Arc<dyn Progress>,
        work: impl AsyncFnOnce(&DistributedRun) -> Result<()>,
    ) -> Result<(RunRecord, bool)> {
        progress.stage("reading the source");
        self.check_interval(request)?;
        let lease = self.run_lease(&request.pipeline).await?;
        let result = async {
            let run = match self.divide(request, division, None, None).await? {
                Divided::Done(record) => return Ok((record, false)),
                Divided::Run(run) => run,
            };
            progress.stage("transforming");
            let done = match work(&run).await {
                Ok(()) => self.complete(&run, progress).await,
                Err(error) => Err(error),
            };
            if let Err(error) = &done {
                self.note_failure(&run, &error.chain()).await;
            }
            Ok((done?, true))
        };
        let result = result.await;
        lease.end().await;
        result
    }

    async fn complete(
        &self,
        run: &DistributedRun,
        progress: &Arc<dyn Progress>,
    ) -> Result<RunRecord> {
        let job = self.distributed_job(run, Vec::new()).await?;
        let mut record = self.claimed_as(&run.record).await?;
        self.commit_results(&job, run, &mut record).await?;
        progress.stage("updating the online store");
        let work = format!("pipeline/{}", job.name);
        for_work(work, self.write_online(&job, vec![&mut record])).await?;
        self.end_distributed(&job, run, record).await
    }

    /// Begins a run that no process stays with: over an interval, or over the next one
    /// that is due of the pipeline's schedule. From then on its partitions are to go
    /// through [`run_partition`](Self::run_partition), then
    /// [`commit_distributed`](Self::commit_distributed), what that returns through
    /// [`put_partition_online`](Self::put_partition_online), and the run through
    /// [`finish_distributed`](Self::finish_distributed); or through
    /// [`fail_distributed`](Self::fail_distributed). `None`: there is nothing to do.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn start_distributed(
        &self,
        pipeline: &str,
        interval: Option<Interval>,
        division: Division,
        asked_by: Option<String>,
    ) -> Result<Option<DistributedRun>> {
        let lease = match self.context.lease(&run_lease_name(pipeline), LEASE).await? {
            Leased::Mine(lease) => self.context.renewed(lease),
            // Asked once more, as the answer was lost.
            Leased::HeldBy(holder) => {
                match self.begun_for(pipeline, &holder, asked_by.as_ref()).await? {
                    Some(run) => return Ok(Some(run)),
                    None => return Err(is_run_by(pipeline, &holder)),
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
            let limit = schedule.map(|schedule| schedule.time_limit);
            let started = self.context.machine_now();
            let divided = match self.divide(&request, division, limit, asked_by).await {
                // An attempt all the same, as when the source is missing.
                Err(e) if limit.is_some() => {
                    self.note_attempt(pipeline, interval, started, &e).await?;
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
        let metadata = self.context.components().metadata.as_ref();
        let now = self.context.machine_now();
        if let Some(mut lease) = lease.take().await {
            lease.hand_over(metadata, &holder(&run), now, HOLD).await?;
        }
        Ok(Some(run))
    }

    /// The run that was begun for somebody, if it is the one that holds its pipeline.
    async fn begun_for(
        &self,
        pipeline: &str,
        lease: &str,
        asked_by: Option<&String>,
    ) -> Result<Option<DistributedRun>> {
        let Some((key, _)) = lease.strip_prefix(HOLDER).zip(asked_by) else {
            return Ok(None);
        };
        let run: Option<DistributedRun> = self.read(&self.folder(pipeline, key), "run").await?;
        Ok(run.filter(|run| run.asked_by.as_ref() == asked_by))
    }

    /// A run that was begun, by its pipeline and key.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when it is over, or another one took its place.
    pub async fn distributed(&self, pipeline: &str, key: &str) -> Result<DistributedRun> {
        let found = self.read(&self.folder(pipeline, key), "run").await?;
        found.ok_or_else(|| no_run(pipeline, key))
    }

    /// Keeps the pipeline for a run that no process stays with.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when another run has it by now.
    pub async fn hold(&self, run: &DistributedRun) -> Result<()> {
        // One that failed meanwhile has let its pipeline go.
        self.check_claimed(&run.record).await?;
        let name = format!(
            "{}/{}",
            self.context.project(),
            run_lease_name(run.pipeline())
        );
        let metadata = self.context.components().metadata.as_ref();
        let now = self.context.machine_now();
        if Lease::keep(metadata, &name, &holder(run), now, HOLD).await? {
            return Ok(());
        }
        let message = format!("run {} of `{}` was taken over", run.key(), run.pipeline());
        Err(Error::new(Kind::Conflict, message))
    }

    /// Divides a run's input, or finds how it was divided before it was interrupted.
    async fn divide(
        &self,
        request: &RunRequest,
        division: Division,
        schedule: Option<Option<i64>>,
        asked_by: Option<String>,
    ) -> Result<Divided> {
        let job = self
            .job(&self.context.definitions(), request, None, Online::Each)
            .await?;
        let files = divisible(&job)?;
        let claims = self.claims(&job.target.table.name).await?;
        self.check_overlaps(&job, request.interval, &claims).await?;
        let claim = self.plan_run(&job, request.interval, &claims, None).await?;
        let mut record = claim.record;
        if claim.is_done {
            return Ok(Divided::Done(record));
        }
        self.insert_record(&mut record).await?;
        self.save(&mut record).await?;
        let folder = self.folder(&request.pipeline, &key(&record));
        let before: Option<DistributedRun> = self.read(&folder, "run").await?;
        let run = match before {
            // Taken up: what is done of it is done.
            Some(before) => DistributedRun {
                record,
                asked_by,
                ..before
            },
            None => {
                // Those of earlier runs, all of which are over.
                let earlier = format!(
                    "{}/distributed/{}",
                    self.context.project(),
                    request.pipeline
                );
                self.sweep(&earlier).await?;
                let parts = match self.is_committed(&record).await? {
                    true => Vec::new(),
                    false => division.divide(files),
                };
                let writes = parts.iter().enumerate().map(|(number, files)| {
                    let name = format!("{folder}/{}", numbered("input", number));
                    async move { self.write(&name, files, Expect::Anything).await }
                });
                stream::iter(writes)
                    .buffer_unordered(AT_ONCE)
                    .try_collect::<()>()
                    .await?;
                DistributedRun {
                    record,
                    partitions: parts.len(),
                    settings: job.settings,
                    table_versions: job.table_versions.clone(),
                    now: job.started,
                    is_scheduled: schedule.is_some(),
                    time_limit: schedule.flatten(),
                    asked_by,
                }
            }
        };
        self.write(&format!("{folder}/run"), &run, Expect::Anything)
            .await?;
        Ok(Divided::Run(run))
    }

    /// Works on one partition, if nobody has yet.
    ///
    /// # Errors
    /// Those of [`run`](Self::run); [`Kind::Conflict`] when the definitions changed, or
    /// the run is over.
    pub async fn run_partition(&self, run: &DistributedRun, number: usize) -> Result<()> {
        let folder = self.folder(run.pipeline(), &run.key());
        let name = format!("{folder}/{}", numbered("result", number));
        let metadata = &self.context.components().metadata;
        if metadata.get(&name).await?.is_some() {
            return Ok(());
        }
        self.check_time(run)?;
        let files: Option<Vec<SourceFile>> = self.read(&folder, &numbered("input", number)).await?;
        let files = files.ok_or_else(|| {
            let message = format!("run {} has no partition {number}", run.key());
            Error::new(Kind::NotFound, message)
        })?;
        let job = self.distributed_job(run, files).await?;
        let claim = Claim {
            record: run.record.clone(),
            is_done: false,
            files: Vec::new(),
            is_behind: false,
        };
        let mut works = [Work::new(&claim, &job)];
        let result = self.write_partition(&job, &mut works).await;
        for work in &mut works {
            work.abort().await;
        }
        let result = result?;
        match self.write(&name, &result, Expect::Absent).await {
            Err(e) if e.kind() == Kind::Conflict => {
                // Somebody was faster.
                self.discard(result).await;
                Ok(())
            }
            other => other,
        }
    }

    async fn write_partition(
        &self,
        job: &Job,
        works: &mut [Work<'_>; 1],
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
                .map(|check| check.seen().clone())
                .collect(),
            written,
            unplaced,
            deletions: job.deletions.version(),
        })
    }

    async fn discard(&self, result: PartitionResult) {
        let offline = &self.context.components().offline;
        let Written { rows, quarantine } = result.written;
        let unplaced = result.unplaced.into_iter().map(|unplaced| unplaced.files);
        for files in [rows, quarantine].into_iter().chain(unplaced) {
            offline.discard(files).await;
        }
    }

    /// Commits what was written for all partitions. Returns those whose rows are still
    /// to go online, one by one.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when a partition is missing, or the run was taken over.
    pub async fn commit_distributed(&self, run: &DistributedRun) -> Result<Vec<usize>> {
        self.check_time(run)?;
        let job = self.distributed_job(run, Vec::new()).await?;
        let mut record = self.claimed_as(&run.record).await?;
        self.commit_results(&job, run, &mut record).await?;
        if record.is_new_online() {
            return Ok((0..run.partitions).collect());
        }
        let work = format!("pipeline/{}", job.name);
        for_work(work, self.write_online(&job, vec![&mut record])).await?;
        self.save(&mut record).await?;
        Ok(Vec::new())
    }

    async fn commit_results(
        &self,
        job: &Job,
        run: &DistributedRun,
        record: &mut RunRecord,
    ) -> Result<()> {
        if self.is_committed(record).await? {
            return self.delete_again(&job.target.table, None).await;
        }
        let results = self.results(run).await?;
        record.clear_counts();
        let mut checks = job.target.run_checks();
        let (mut unplaced, mut written) = (Vec::new(), Written::nothing(job));
        let known = results.first().map(|result| result.deletions);
        let known = known.filter(|known| results.iter().all(|r| r.deletions == *known));
        for result in results {
            record.add(result.record);
            for (check, seen) in checks.iter_mut().zip(result.seen) {
                check.append(seen);
            }
            written.append(result.written);
            unplaced.extend(result.unplaced);
        }
        self.commit_unplaced(job, unplaced).await?;
        self.commit_work(job, record, &checks, written).await?;
        self.delete_again(&job.target.table, known).await
    }

    /// What became of the partitions, in order.
    async fn results(&self, run: &DistributedRun) -> Result<Vec<PartitionResult>> {
        let folder = format!("{}/result/", self.folder(run.pipeline(), &run.key()));
        let stored = self.context.components().metadata.list(&folder).await?;
        if stored.len() != run.partitions {
            let message = format!(
                "{} of {} partitions of run {} are worked on; run it again to go on",
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

    /// Writes the committed rows of one partition to the online store, once.
    ///
    /// # Errors
    /// Those of the stores; [`Kind::Conflict`] when the run was taken over.
    pub async fn put_partition_online(&self, run: &DistributedRun, number: usize) -> Result<()> {
        let folder = self.folder(run.pipeline(), &run.key());
        let job = self.distributed_job(run, Vec::new()).await?;
        let result: Option<PartitionResult> =
            self.read(&folder, &numbered("result", number)).await?;
        let result = result.ok_or_else(|| {
            let message = format!("partition {number} of run {} has no result", run.key());
            Error::new(Kind::NotFound, message)
        })?;
        let files = result.written.rows.data_files();
        let work = format!("pipeline/{}", job.name);
        let counts = for_work(work, self.add_files(&job, &run.record, number, files)).await?;
        let name = format!("{folder}/{}", numbered("online", number));
        self.write(&name, &counts, Expect::Anything).await
    }

    /// Ends a run of which everything is written.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when it was taken over.
    pub async fn finish_distributed(&self, run: &DistributedRun) -> Result<RunRecord> {
        let job = self.distributed_job(run, Vec::new()).await?;
        let mut record = self.claimed_as(&run.record).await?;
        if record.is_new_online() {
            let folder = format!("{}/online/", self.folder(run.pipeline(), &run.key()));
            (record.online_applied, record.online_older) = (0, 0);
            for (name, stored) in self.context.components().metadata.list(&folder).await? {
                let counts: OnlineCounts = read(&name, &stored.value)?;
                record.online_applied += counts.applied;
                record.online_older += counts.older;
            }
        }
        let record = self.end_distributed(&job, run, record).await?;
        self.let_go(run).await?;
        Ok(record)
    }

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
        self.sweep(&self.folder(run.pipeline(), &run.key())).await?;
        Ok(record)
    }

    /// The record of a run that was finished, by its key.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when it was not, or another one took its place.
    pub async fn finished_distributed(&self, pipeline: &str, run_key: &str) -> Result<RunRecord> {
        let id = run_key.rsplit_once('.').map_or(run_key, |(id, _)| id);
        let found = self.run_record(id).await?;
        let is_done =
            |found: &RunRecord| key(found) == run_key && found.state == RunState::Succeeded;
        found
            .filter(is_done)
            .ok_or_else(|| no_run(pipeline, run_key))
    }

    /// Records that a run failed; what is done of it is taken up when it is run again.
    /// Returns why it failed: what was recorded first.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when it was taken over.
    pub async fn fail_distributed(&self, run: &DistributedRun, error: &str) -> Result<String> {
        let mut record = self.claim_of(&run.record).await?;
        if record.state == RunState::Failed {
            self.let_go(run).await?;
            return Ok(record.error.unwrap_or_default());
        }
        record.state = RunState::Failed;
        record.error = Some(error.to_owned());
        record.finished = Some(self.context.machine_now());
        self.save(&mut record).await?;
        self.let_go(run).await?;
        Ok(error.to_owned())
    }

    /// Records a failure; the error that stopped the run says more than one of its record.
    async fn note_failure(&self, run: &DistributedRun, error: &str) {
        if let Err(unsaved) = self.fail_distributed(run, error).await {
            tracing::warn!("the failed run was not recorded: {}", unsaved.chain());
        }
    }

    async fn let_go(&self, run: &DistributedRun) -> Result<()> {
        let name = format!(
            "{}/{}",
            self.context.project(),
            run_lease_name(run.pipeline())
        );
        let metadata = self.context.components().metadata.as_ref();
        let now = self.context.machine_now();
        // Claimed in its name for no time at all, it is free; another's is left alone.
        let _ = Lease::acquire(metadata, &name, &holder(run), now, 0).await?;
        Ok(())
    }

    /// What a partition needs, if the definitions are those of the beginning.
    async fn distributed_job(&self, run: &DistributedRun, files: Vec<SourceFile>) -> Result<Job> {
        let request = RunRequest {
            pipeline: run.pipeline().to_owned(),
            interval: run.record.interval,
            workers: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            archive: false,
        };
        let definitions = self.context.definitions();
        let part = Part {
            files,
            table_versions: run.table_versions.clone(),
        };
        let mut job = self
            .job(&definitions, &request, Some(part), Online::Each)
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

    /// The record of a run as it is now, if it is this one's and under way.
    async fn claimed_as(&self, record: &RunRecord) -> Result<RunRecord> {
        let found = self.claim_of(record).await?;
        match found.state {
            RunState::Running => Ok(found),
            _ => Err(is_over(record)),
        }
    }

    /// The record of a run as it is now, if it is this one's.
    async fn claim_of(&self, record: &RunRecord) -> Result<RunRecord> {
        let found = self.claimed(&record.table, record.interval).await?;
        let is_ours =
            |found: &RunRecord| key(found) == key(record) && found.attempts == record.attempts;
        found.filter(is_ours).ok_or_else(|| is_over(record))
    }

    /// Refuses to go on with a run that somebody took over.
    pub(crate) async fn check_claimed(&self, record: &RunRecord) -> Result<()> {
        self.claimed_as(record).await.map(drop)
    }

    fn check_time(&self, run: &DistributedRun) -> Result<()> {
        let end = run
            .time_limit
            .map(|limit| run.record.started.plus_micros(limit));
        if end.is_none_or(|end| self.context.machine_now() <= end) {
            return Ok(());
        }
        let limit = wafer_core::duration_text(run.time_limit.unwrap_or(0));
        let message = format!("it took longer than its `time_limit` of {limit}");
        Err(Error::invalid(message))
    }

    fn folder(&self, pipeline: &str, key: &str) -> String {
        format!("{}/distributed/{pipeline}/{key}", self.context.project())
    }

    /// Removes what is below a folder.
    async fn sweep(&self, folder: &str) -> Result<()> {
        let metadata = &self.context.components().metadata;
        let stored = metadata.list(&format!("{folder}/")).await?;
        let removed = stored
            .iter()
            .map(|(name, _)| metadata.delete(name, Expect::Anything));
        stream::iter(removed)
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        Ok(())
    }

    async fn read<T: DeserializeOwned>(&self, folder: &str, name: &str) -> Result<Option<T>> {
        let name = format!("{folder}/{name}");
        let stored = self.context.components().metadata.get(&name).await?;
        stored.map(|stored| read(&name, &stored.value)).transpose()
    }

    async fn write<T: Serialize>(&self, name: &str, object: &T, expect: Expect) -> Result<()> {
        let json = Bytes::from(serde_json::to_vec(object).expect("it is plain data"));
        let put = self
            .context
            .components()
            .metadata
            .put(name, json, expect)
            .await;
        put.map(drop).map_err(|e| match e.kind() {
            Kind::Conflict => Error::caused(Kind::Conflict, "it is there already", e),
            _ => e,
        })
    }
}

fn no_run(pipeline: &str, key: &str) -> Error {
    let message = format!("run {key} of `{pipeline}` is over, or was taken over; see `wafer runs`");
    Error::new(Kind::Conflict, message)
}

fn is_over(record: &RunRecord) -> Error {
    let message = format!(
        "the run of `{}` over {} is over or was taken over; see `wafer runs`",
        record.pipeline, record.interval
    );
    Error::new(Kind::Conflict, message)
}

/// The files that a job reads, if it can be divided.
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

/// Names of numbers sort as the numbers do.
fn numbered(kind: &str, number: usize) -> String {
    format!("{kind}/{number:06}")
}

fn holder(run: &DistributedRun) -> String {
    format!("{HOLDER}{}", run.key())
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
        // One that is larger than a partition is one by itself.
        assert_eq!(sizes(10, 100, &[3, 40, 3, 3]), [1, 1, 2]);
        assert_eq!(sizes(10, 100, &[0, 0, 0]), [3]);
        // Larger partitions rather than more of them.
        assert_eq!(sizes(1, 2, &[1; 10]), [5, 5]);
        assert_eq!(sizes(1_000_000, 100, &[1; 250]), [100, 100, 50]);
        assert_eq!(sizes(1_000_000, 2, &[1; 250]), [125, 125]);
    }
}
