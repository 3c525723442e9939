//! Batch runs: a source's rows over intervals, through the function, into the
//! group's offline table by one commit for each interval, then into the online
//! store.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Map, Value as Json};
use wafer_core::expect::Policy;
use wafer_core::rules::{
    Interval, available_from_event, available_from_file, available_from_schedule,
};
use wafer_core::{Digest, Hasher, Timestamp, cell_to_json};
use wafer_runtime::Function;
use wafer_store::{
    AsOf, DataFile, EventCommit, EventOutcome, Follows, Lease, TableWriter, Txn, for_work,
};

use crate::chain::{Above, Upstream};
use crate::definition::{Definitions, PipelineDef, SourceDef};
use crate::deletion::Deletions;
use crate::error::{Error, Kind, Result};
use crate::group_rows::{Gate, Gathered, GroupRows, RunCheck, StoredRows, Target};
use crate::input::{Input, Only};
use crate::platform::{Components, Platform, get};
use crate::quarantine::{Aside, Quarantined};
use crate::record::{Reject, RunRecord, RunState};
use crate::source::Chunk;

/// How long a run's lease lasts without being renewed.
const LEASE: i64 = 15_000_000;
const RENEWAL: Duration = Duration::from_secs(5);
/// Rejected rows that a run's record keeps as examples.
const KEPT_REJECTS: usize = 20;
/// Batches of a run whose newest rows go online by one commit.
const ONLINE_BATCHES: usize = 32;
/// How long the online store remembers which chunks of a run it has.
const REMEMBER_CHUNKS: i64 = 400 * 86_400_000_000;

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRequest {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Event times to cover.
    pub interval: Interval,
    /// Chunks that are transformed at the same time.
    pub workers: usize,
    /// Whether to read the raw events that its source keeps as well, as far as they
    /// were not written to the group when they came in.
    pub archive: bool,
}

/// Told how a run comes along.
pub trait Progress: Send + Sync {
    /// So many source rows were read, of so many if that is known.
    fn read(&self, rows: u64, total: Option<u64>);
    /// The run enters a stage.
    fn stage(&self, stage: &str);
}

/// Tells nobody.
impl Progress for () {
    fn read(&self, _rows: u64, _total: Option<u64>) {}
    fn stage(&self, _stage: &str) {}
}

/// When runs write to the online store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Online {
    /// Right after the offline table.
    Each,
    /// Not at all: the caller does, for all runs at once.
    Later,
}

/// Everything that runs of a pipeline need, looked up.
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) pipeline: PipelineDef,
    source: SourceDef,
    pub(crate) target: Arc<Target>,
    function: Function,
    /// Digest of the function.
    code: Digest,
    /// When it was made, by the platform's clock.
    started: Timestamp,
    pub(crate) input: Input,
    /// Digest of everything but the interval, and of what changed in another group's
    /// table, that decides what is written.
    inputs: Digest,
    deletions: Arc<Deletions>,
    workers: usize,
    online: Online,
    /// Microseconds that its work may take.
    pub(crate) time_limit: Option<i64>,
    /// Whether a schedule runs it, so that requests see its rows once it is done.
    pub(crate) is_scheduled: bool,
    /// Of another group's table, a version up to which all finished runs have what
    /// there is.
    pub(crate) followed: Option<u64>,
}

/// An interval on its way.
struct Work<'a> {
    record: RunRecord,
    writer: Option<TableWriter>,
    checks: Vec<RunCheck<'a>>,
    aside: Aside,
    /// Of another group's table, the files that are read for it.
    files: BTreeSet<String>,
}

/// What is to be done about an interval.
struct Claim {
    record: RunRecord,
    is_done: bool,
    /// What of another group's table there is to read.
    files: Vec<DataFile>,
    /// Whether it only finishes what is committed, and more came meanwhile.
    is_behind: bool,
}

impl Platform {
    /// Runs a pipeline over an interval. The same inputs again change nothing;
    /// other inputs replace what the interval had. A run that was killed is
    /// taken up again.
    ///
    /// Returns the record, and whether anything was done.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when another process runs it, or the interval overlaps
    /// another that was run. A failed run is an error, and recorded.
    pub async fn run(
        &self,
        request: &RunRequest,
        progress: Arc<dyn Progress>,
    ) -> Result<(RunRecord, bool)> {
        progress.stage("reading the source");
        let definitions = self.definitions();
        let pipeline = get(&definitions.pipelines, &request.pipeline, "pipeline")?;
        let Interval { from, to } = request.interval;
        if pipeline.schedule.is_some() && (from == Timestamp::MIN || to == Timestamp::MAX) {
            let message = format!(
                "pipeline `{}` has a schedule: its rows are visible from the end of their interval on. \
                 Give both --from and --to, or fill its intervals with `wafer backfill`",
                request.pipeline
            );
            return Err(Error::invalid(message));
        }
        let lease = self.run_lease(&request.pipeline).await?;
        let work = async {
            let job = self.job(&definitions, request, Online::Each).await?;
            self.run_pass(&job, &[request.interval], &progress).await
        };
        let result = work.await;
        lease.end(self).await;
        let mut done = result?;
        Ok(done.pop().expect("one interval was asked for"))
    }

    /// Claims a pipeline for runs.
    pub(crate) async fn run_lease(&self, pipeline: &str) -> Result<Kept> {
        let lease = self.lease(&format!("run/{pipeline}"), LEASE).await?;
        let lease = lease.map_err(|holder| {
            let message = format!("pipeline `{pipeline}` is being run by {holder}");
            Error::new(Kind::Conflict, message)
        })?;
        Ok(self.keep(lease))
    }

    /// Looks up what runs of a pipeline need, in some definitions.
    pub(crate) async fn job(
        &self,
        definitions: &Arc<Definitions>,
        request: &RunRequest,
        online: Online,
    ) -> Result<Job> {
        let pipeline = get(&definitions.pipelines, &request.pipeline, "pipeline")?.clone();
        let source = definitions.sources[&pipeline.source].clone();
        let group = definitions.groups[&pipeline.group].clone();
        let function = self.function_of(definitions, &pipeline.function)?;
        let input = self
            .input(definitions, &pipeline, &function, request.archive)
            .await?;
        let code = definitions.functions[&pipeline.function].registered.digest;
        let deletions = self.deletions().await?;
        let mut hasher = Hasher::new();
        let expectations = serde_json::to_vec(&group.expectations).expect("plain data");
        let schedule = serde_json::to_vec(&pipeline.schedule).expect("plain data");
        hasher
            .part(input.digest().as_bytes())
            .part(code.as_bytes())
            .part(group.table().as_bytes())
            .part(source.delay.to_le_bytes().as_slice())
            .part(&expectations)
            .part(&schedule);
        Ok(Job {
            name: request.pipeline.clone(),
            pipeline,
            source,
            target: Arc::new(Target::new(group, &deletions)),
            deletions,
            function,
            code,
            started: self.now(),
            input,
            inputs: hasher.finish(),
            workers: request.workers.max(1),
            online,
            time_limit: None,
            is_scheduled: false,
            followed: None,
        })
    }

    /// Runs a pipeline over some intervals, one after the other, in one pass over its
    /// source. For each the record, and whether anything was done.
    ///
    /// # Errors
    /// The first failure; intervals before it are done.
    pub(crate) async fn run_pass(
        &self,
        job: &Job,
        intervals: &[Interval],
        progress: &Arc<dyn Progress>,
    ) -> Result<Vec<(RunRecord, bool)>> {
        let claims = self.claims(&job.target.table.name).await?;
        // All of them are looked at before any is claimed.
        for interval in intervals {
            self.check_overlaps(job, *interval, &claims).await?;
        }
        let above = self.above_of(job, intervals, &claims).await?;
        let mut planned = Vec::new();
        for interval in intervals {
            planned.push(
                self.plan_run(job, *interval, &claims, above.as_ref())
                    .await?,
            );
        }
        if job.online == Online::Later && planned.iter().any(|claim| !claim.is_done) {
            self.owe(&job.target.table.name).await?;
        }
        let mut works: Vec<Work<'_>> = Vec::new();
        let mut only = Only {
            files: Vec::new(),
            arrivals: hull(intervals),
        };
        for claim in planned.iter_mut().filter(|claim| !claim.is_done) {
            self.insert_record(&mut claim.record).await?;
            self.save(&mut claim.record).await?;
            works.push(Work::new(claim, job));
            only.files.append(&mut claim.files);
        }
        only.files.sort_by(|a, b| a.path.cmp(&b.path));
        // Described by the table or by its log, it is one file.
        only.files.dedup_by(|a, b| a.path == b.path);
        let work = self.execute(job, &mut works, &only, progress);
        let result = match job.time_limit {
            None => work.await,
            Some(limit) => {
                let allowed = Duration::from_micros(u64::try_from(limit).unwrap_or(0));
                tokio::time::timeout(allowed, work)
                    .await
                    .unwrap_or_else(|_| {
                        let limit = wafer_core::duration_text(limit);
                        let message = format!("it took longer than its `time_limit` of {limit}");
                        Err(Error::new(Kind::Unavailable, message))
                    })
            }
        };
        let failed = result.as_ref().err().map(Error::chain);
        for work in works {
            let mut record = work.record;
            if record.state == RunState::Running {
                record.finished = Some(self.components().wall.now());
                match &failed {
                    None => record.state = RunState::Succeeded,
                    Some(error) => {
                        record.state = RunState::Failed;
                        record.error = Some(error.clone());
                    }
                }
                record.overran = record.state == RunState::Succeeded && self.overran(job, &record);
                match self.save(&mut record).await {
                    // The error that stopped the run says more than one of its record.
                    Err(unsaved) if failed.is_some() => {
                        tracing::warn!("the failed run was not recorded: {}", unsaved.chain());
                    }
                    other => other?,
                }
            }
            let place = planned
                .iter_mut()
                .find(|claim| claim.record.interval == record.interval);
            place.expect("it was claimed").record = record;
        }
        result?;
        let behind = planned.iter().filter(|claim| claim.is_behind);
        let behind: Vec<Interval> = behind.map(|claim| claim.record.interval).collect();
        let mut done: Vec<(RunRecord, bool)> = planned
            .into_iter()
            .map(|claim| (claim.record, !claim.is_done))
            .collect();
        if !behind.is_empty() {
            let again = Box::pin(self.run_pass(job, &behind, progress)).await?;
            for (record, fresh) in again.into_iter().filter(|(_, fresh)| *fresh) {
                let place = done.iter_mut().find(|(r, _)| r.interval == record.interval);
                *place.expect("it was asked for") = (record, fresh);
            }
        }
        Ok(done)
    }

    /// The other group's table that a job reads, if it does, with what changed since
    /// the last runs over some intervals.
    async fn above_of(
        &self,
        job: &Job,
        intervals: &[Interval],
        claims: &[RunRecord],
    ) -> Result<Option<Above>> {
        let Some(snapshot) = job.input.table() else {
            return Ok(None);
        };
        let runs = claims
            .iter()
            .filter(|run| intervals.contains(&run.interval));
        let seen = runs.filter_map(|run| run.upstream);
        let oldest = seen.map(Upstream::oldest).min();
        let oldest = oldest.map(|oldest| oldest.max(job.followed.unwrap_or(0)));
        Ok(Some(self.above(snapshot, oldest).await?))
    }

    /// Whether a scheduled run ended later than its rows say they were visible.
    fn overran(&self, job: &Job, record: &RunRecord) -> bool {
        job.pipeline.schedule.as_ref().is_some_and(|schedule| {
            let visible = available_from_schedule(record.interval, schedule.delay);
            // One that is run by hand, as a backfill is, does not say what was.
            job.is_scheduled && self.now() > visible
        })
    }

    /// What is to be done about an interval: nothing if the inputs are those of
    /// before, else a run of a new generation.
    async fn plan_run(
        &self,
        job: &Job,
        interval: Interval,
        claims: &[RunRecord],
        above: Option<&Above>,
    ) -> Result<Claim> {
        let table = &job.target.table.name;
        let before = claims.iter().find(|claim| claim.interval == interval);
        let (upstream, is_behind) = match above {
            Some(above) => {
                let (upstream, is_behind) = self.upstream(job, interval, before, above).await?;
                (Some(upstream), is_behind)
            }
            None => (None, false),
        };
        let inputs = job.inputs_over(interval, upstream);
        if let Some(done) = before
            && done.inputs == inputs
            && done.state == RunState::Succeeded
        {
            return Ok(Claim {
                record: done.clone(),
                is_done: true,
                files: Vec::new(),
                is_behind: false,
            });
        }
        let started = self.components().wall.now();
        let record = match before {
            // The same work, not finished: taken up with its own times.
            Some(before) if before.inputs == inputs => before.clone().restart(started),
            // Attempts go on counting until one succeeds, whatever the inputs become.
            before => {
                let failed = before.filter(|b| b.state != RunState::Succeeded);
                RunRecord {
                    generation: before.map_or(1, |b| b.generation + 1),
                    attempts: 1 + failed.map_or(0, |b| b.attempts),
                    claim: before.map_or(0, |b| b.claim),
                    ..RunRecord::new(&job.name, table, interval, inputs, self.now(), started)
                }
            }
        };
        let files = above.zip(upstream);
        Ok(Claim {
            files: files.map_or_else(Vec::new, |(above, read)| above.files(read, interval)),
            record: RunRecord { upstream, ..record },
            is_done: false,
            is_behind,
        })
    }

    /// What of another group's table a run over an interval reads, and whether more
    /// came that the next run will read.
    async fn upstream(
        &self,
        job: &Job,
        interval: Interval,
        before: Option<&RunRecord>,
        above: &Above,
    ) -> Result<(Upstream, bool)> {
        let is_same = |run: &&RunRecord| run.inputs == job.inputs_over(interval, run.upstream);
        let Some((before, read)) = before
            .filter(is_same)
            .and_then(|run| run.upstream.map(|read| (run, read)))
        else {
            return Ok((above.everything(), false));
        };
        let followed = job.followed.unwrap_or(0);
        let base = self.generation(before).await?;
        // The version up to which the interval has its rows.
        let seen = match before.state {
            RunState::Succeeded => Some(read.version.max(followed)),
            // What it has is to be finished first.
            _ if base >= Some(before.generation) => {
                return Ok((read, above.touches(read.version, interval)));
            }
            // It was to be added to what the interval still has.
            _ => read.since.filter(|_| read.base == base),
        };
        let Some(seen) = seen else {
            return Ok((above.everything(), false));
        };
        // What is expected of all rows of a run cannot be told from some of them.
        let may_add = job.target.run_checks().is_empty();
        let Some(upstream) = above.after(seen, interval, may_add) else {
            return Ok((read, false));
        };
        let base = base.filter(|_| upstream.since.is_some());
        Ok((Upstream { base, ..upstream }, false))
    }

    /// The last generation of a run's interval that the offline table has.
    async fn generation(&self, run: &RunRecord) -> Result<Option<i64>> {
        let offline = &self.components().offline;
        Ok(offline.txn_version(&run.table, &run.app_id()).await?)
    }

    /// Whether the offline table has what a run wrote.
    async fn is_committed(&self, run: &RunRecord) -> Result<bool> {
        Ok(self.generation(run).await? >= Some(run.generation))
    }

    /// Refuses an interval that shares time with another one that has rows.
    async fn check_overlaps(
        &self,
        job: &Job,
        interval: Interval,
        claims: &[RunRecord],
    ) -> Result<()> {
        let others = claims.iter().filter(|claim| claim.interval != interval);
        for claim in others.filter(|claim| claim.interval.overlaps(interval)) {
            if self.has_rows(claim).await? {
                return Err(Error::new(
                    Kind::Conflict,
                    format!(
                        "pipeline `{}` was run over {}, which overlaps {interval}: rows would be there twice. \
                         Run it over {} again to replace those, or give its group a new `version` to \
                         fill it by other intervals",
                        job.name, claim.interval, claim.interval
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Whether the offline table has work of a run's interval.
    async fn has_rows(&self, claim: &RunRecord) -> Result<bool> {
        if claim.state == RunState::Succeeded {
            return Ok(true);
        }
        // It failed, or its process is gone, as the lease is ours: an earlier
        // generation, or its own commit, may be there.
        Ok(self.generation(claim).await?.is_some())
    }

    async fn execute(
        &self,
        job: &Job,
        works: &mut [Work<'_>],
        only: &Only,
        progress: &Arc<dyn Progress>,
    ) -> Result<()> {
        let mut to_write = Vec::new();
        // Copies: files that are being written cannot be shared between threads.
        let records: Vec<RunRecord> = works.iter().map(|work| work.record.clone()).collect();
        for (index, record) in records.iter().enumerate() {
            if !self.is_committed(record).await? {
                to_write.push(index);
            }
        }
        if !to_write.is_empty() {
            progress.stage("transforming");
            let result = self
                .write_offline(job, works, &to_write, only, progress)
                .await;
            for work in works.iter_mut() {
                let writers = [work.writer.take(), work.aside.writer.take()];
                for writer in writers.into_iter().flatten() {
                    // Best effort: what stays is not part of the table.
                    let _ = writer.abort().await;
                }
            }
            result?;
        }
        // Of work that was committed earlier it is not known what it left out.
        let is_new = to_write.len() == works.len();
        let known = is_new.then_some(job.deletions.as_ref());
        self.delete_again(&job.target.table, known).await?;
        if job.online == Online::Each {
            progress.stage("updating the online store");
            let work = format!("pipeline/{}", job.name);
            for_work(work, self.write_online(job, works)).await?;
        }
        Ok(())
    }

    async fn write_offline(
        &self,
        job: &Job,
        works: &mut [Work<'_>],
        to_write: &[usize],
        only: &Only,
        progress: &Arc<dyn Progress>,
    ) -> Result<()> {
        for index in to_write {
            works[*index].record.clear_counts();
        }
        let gate = Gate {
            // Rows of another group were chosen by when they became visible.
            interval: match job.input.table() {
                Some(_) => Interval::ALL,
                None => only.arrivals,
            },
            now: match job.input.table() {
                // They were let in above.
                Some(_) => Timestamp::MAX,
                None => self.now(),
            },
            skew: job.source.skew,
        };
        let total = job.input.total_rows(only);
        let (target, function) = (Arc::clone(&job.target), job.function.clone());
        let mut made =
            Box::pin(
                job.input
                    .chunks(only)
                    .map(|chunk| {
                        let (target, function) = (Arc::clone(&target), function.clone());
                        async move {
                            blocking(move || transform(chunk?, &function, &target, gate)).await?
                        }
                    })
                    .buffered(job.workers),
            );
        let mut read = 0;
        let mut unplaced: Option<Aside> = None;
        while let Some(made) = made.try_next().await? {
            read += made.chunk.seen;
            let folder = job.rejects_of(&made.chunk);
            if unplaced
                .as_ref()
                .is_some_and(|aside| aside.folder != folder)
            {
                self.commit_unplaced(job, unplaced.take()).await?;
            }
            self.keep_rows(job, works, to_write, made, &mut unplaced)
                .await?;
            progress.read(read, total);
        }
        self.commit_unplaced(job, unplaced).await?;
        for index in to_write {
            let work = &mut works[*index];
            work.record.rows_read = read;
            self.commit_work(job, work).await?;
        }
        Ok(())
    }

    /// Shares the rows of a chunk out to the intervals that they belong to.
    async fn keep_rows(
        &self,
        job: &Job,
        works: &mut [Work<'_>],
        to_write: &[usize],
        made: Made,
        unplaced: &mut Option<Aside>,
    ) -> Result<()> {
        let Made {
            chunk,
            rows,
            rejects,
        } = made;
        let first = to_write[0];
        for reject in &chunk.rejects {
            works[first].record.rejected(reject.clone());
            let quarantined = Quarantined {
                reason: reject.message.clone(),
                place: reject.place.clone(),
                row: None,
                event_id: format!("{}:{}", chunk.file_id, reject.place),
            };
            let aside = job.aside_of(&chunk, unplaced);
            self.set_aside(&job.target, aside, quarantined).await?;
        }
        // The interval that a row belongs to, of those that read its file.
        let owner = |works: &[Work<'_>], time: Timestamp| {
            let owns = |index: &&usize| {
                let work = &works[**index];
                work.reads(&chunk) && work.record.interval.contains(time)
            };
            to_write.iter().find(owns).copied()
        };
        for (refused, row) in rows.rejects.iter().zip(rejects) {
            let place = chunk.place(refused.row);
            if refused.fails {
                let message = format!(
                    "{place}: {}: an expectation with policy fail",
                    refused.reason
                );
                return Err(Error::invalid(message));
            }
            let quarantined = Quarantined {
                reason: refused.reason.clone(),
                place: place.clone(),
                row: Some(row),
                event_id: chunk.event_id(refused.row),
            };
            let reject = Reject::new(place, refused.reason.clone());
            let aside = match chunk.placed_at(refused.row, refused.event) {
                Some(time) => match owner(works, time) {
                    Some(index) => {
                        works[index].record.rejected(reject);
                        &mut works[index].aside
                    }
                    // Of an interval that has it already.
                    None => continue,
                },
                None => {
                    works[first].record.rejected(reject);
                    job.aside_of(&chunk, unplaced)
                }
            };
            self.set_aside(&job.target, aside, quarantined).await?;
        }
        let made = rows.len() as u64 + rows.outside;
        works[first].record.rows_warned += rows.warnings;
        works[first].record.rows_deleted += rows.deleted.len() as u64;
        let times: Vec<Timestamp> = (0..rows.len())
            .filter_map(|row| chunk.placed_at(rows.sources[row], Some(rows.events[row])))
            .collect();
        for index in to_write {
            let work = &mut works[*index];
            if !work.reads(&chunk) {
                continue;
            }
            let interval = work.record.interval;
            let own: Vec<usize> = (0..rows.len())
                .filter(|row| interval.contains(times[*row]))
                .collect();
            work.record.rows_outside += made - own.len() as u64;
            if own.is_empty() {
                continue;
            }
            let own = if own.len() == rows.len() {
                None
            } else {
                Some(rows.part(&own))
            };
            self.write_rows(job, work, &chunk, own.as_ref().unwrap_or(&rows))
                .await?;
        }
        Ok(())
    }

    /// Writes rows of an interval to its files, but for those that repeat a value
    /// that is to be unique.
    async fn write_rows(
        &self,
        job: &Job,
        work: &mut Work<'_>,
        chunk: &Chunk,
        rows: &GroupRows,
    ) -> Result<()> {
        let mut kept = None;
        let mut checks = std::mem::take(&mut work.checks);
        for check in &mut checks {
            let rows = kept.as_ref().unwrap_or(rows);
            let repeated = check.add(&job.target, rows);
            if repeated.is_empty() {
                continue;
            }
            let reason = format!("`{}` has a value that was there before", check.column());
            match check.policy() {
                Policy::Fail => {
                    let place = chunk.place(rows.sources[repeated[0]]);
                    return Err(Error::invalid(format!("{place}: {reason}")));
                }
                Policy::Warn => work.record.rows_warned += repeated.len() as u64,
                Policy::Reject => {
                    for row in &repeated {
                        let place = chunk.place(rows.sources[*row]);
                        work.record
                            .rejected(Reject::new(place.clone(), reason.clone()));
                        let quarantined = Quarantined {
                            reason: reason.clone(),
                            place,
                            row: None,
                            event_id: chunk.event_id(rows.sources[*row]),
                        };
                        self.set_aside(&job.target, &mut work.aside, quarantined)
                            .await?;
                    }
                    let rest: Vec<usize> = (0..rows.len())
                        .filter(|row| repeated.binary_search(row).is_err())
                        .collect();
                    kept = Some(rows.part(&rest));
                }
            }
        }
        work.checks = checks;
        let rows = kept.as_ref().unwrap_or(rows);
        let record = &mut work.record;
        record.rows_written += rows.len() as u64;
        let sources = rows.sources.iter();
        let ids = sources.clone().map(|row| chunk.event_id(*row)).collect();
        let available = rows.events.iter().zip(sources).map(|(event, source)| {
            let known = chunk.known.as_ref();
            let seen = known.map(|known| (known.available[*source], known.as_events));
            job.available(record.interval, *event, seen)
        });
        let available = available.collect();
        let batch = rows.offline_batch(&job.target, available, record.created, ids);
        let writer = match &mut work.writer {
            Some(writer) => writer,
            none => none.insert(
                self.components()
                    .offline
                    .writer(&record.table, &record.folder())
                    .await?,
            ),
        };
        writer.write(&batch).await?;
        Ok(())
    }

    /// Makes what was written for an interval part of the table.
    async fn commit_work(&self, job: &Job, work: &mut Work<'_>) -> Result<()> {
        for (policy, reason) in work.checks.iter().filter_map(RunCheck::broken) {
            if policy == Policy::Fail {
                return Err(Error::invalid(format!(
                    "{}: {reason}",
                    work.record.interval
                )));
            }
            work.record.warnings.push(reason);
        }
        let record = &work.record;
        let txn = Txn {
            app_id: record.app_id(),
            version: record.generation,
            follows: match record.upstream {
                // Added to what the interval had when it was looked at.
                Some(Upstream {
                    since: Some(_),
                    base,
                    ..
                }) => Follows::Exactly(base),
                _ => Follows::Anything,
            },
        };
        // What a run adds to its interval replaces nothing.
        let replaces = match txn.follows {
            Follows::Exactly(_) => None,
            Follows::Anything => Some(record.work_folder()),
        };
        self.commit_aside(&job.target, &mut work.aside, &txn, replaces.as_deref())
            .await?;
        // Before the commit, so that a run that is taken up after it knows them, and one
        // that was taken over stops here.
        self.save(&mut work.record).await?;
        let record = &work.record;
        let writer = match work.writer.take() {
            Some(writer) => writer,
            // Nothing to write: what the interval had is removed all the same.
            None => {
                self.components()
                    .offline
                    .writer(&record.table, &record.folder())
                    .await?
            }
        };
        writer.commit(&txn, replaces.as_deref()).await?;
        Ok(())
    }

    /// Commits rows that belong to no interval: a file's are the same whichever
    /// interval is run, and are kept once.
    async fn commit_unplaced(&self, job: &Job, unplaced: Option<Aside>) -> Result<()> {
        let Some(mut aside) = unplaced else {
            return Ok(());
        };
        let txn = Txn {
            app_id: format!("wafer/{}", aside.folder),
            version: 1,
            follows: Follows::Anything,
        };
        self.commit_aside(&job.target, &mut aside, &txn, None).await
    }

    /// Writes the rows of runs to the online store, as they are in their files. For an
    /// interval that had other rows before, or a run that is taken up, the group is
    /// made anew from the offline table.
    async fn write_online(&self, job: &Job, works: &mut [Work<'_>]) -> Result<()> {
        // Of a run that is taken up it is not known what went online before.
        let is_new = |work: &Work<'_>| {
            let adds = work
                .record
                .upstream
                .is_some_and(|read| read.since.is_some());
            (work.record.generation == 1 || adds) && work.record.attempts == 1
        };
        if !works.iter().all(is_new) {
            let counts = self.materialize(&job.target).await?;
            for work in works {
                work.record.online_applied = counts.entities;
            }
            return Ok(());
        }
        for work in works {
            self.add_online(job, &mut work.record).await?;
        }
        Ok(())
    }

    async fn add_online(&self, job: &Job, record: &mut RunRecord) -> Result<()> {
        let Components {
            online, offline, ..
        } = self.components();
        let snapshot = offline.snapshot(&record.table, AsOf::Latest).await?;
        let mut files = snapshot.files_below(&record.folder());
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let mut batches = snapshot.read_all(files, snapshot.columns(), Interval::ALL);
        let now = self.now();
        (record.online_applied, record.online_older) = (0, 0);
        let mut number = 0;
        loop {
            let mut several = Vec::new();
            while several.len() < ONLINE_BATCHES
                && let Some(batch) = batches.try_next().await?
            {
                several.push(batch);
            }
            if several.is_empty() {
                return Ok(());
            }
            number += 1;
            // Who was taken over while he slept stops here: the other made everything anew.
            self.save(record).await?;
            let target = Arc::clone(&job.target);
            let (writes, early) = blocking(move || {
                let mut gathered = Gathered::new(&target, now);
                for batch in several {
                    gathered.add(&StoredRows::new(&target.table, &batch)?)?;
                }
                Ok::<_, Error>(gathered.finish())
            })
            .await??;
            let count = writes.len() as u64;
            // By its name the store knows a chunk that it has, and adds it once.
            let commit = EventCommit {
                source: format!("run/{}", record.pipeline),
                id: format!("{}/{}/{number}", record.id, record.generation),
                remember_until: now.plus_micros(REMEMBER_CHUNKS),
                writes,
                early,
                outbox: Vec::new(),
            };
            let outcomes = online.commit_events(vec![commit], now).await?;
            match outcomes[..] {
                [EventOutcome::Committed { older }] => {
                    record.online_applied += count - u64::from(older);
                    record.online_older += u64::from(older);
                }
                _ => record.online_applied += count,
            }
        }
    }

    /// Renews a lease in the background until it is ended.
    pub(crate) fn keep(&self, lease: Lease) -> Kept {
        let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
        let metadata = Arc::clone(&self.components().metadata);
        let wall = Arc::clone(&self.components().wall);
        let task = tokio::spawn(async move {
            let mut lease = lease;
            while tokio::time::timeout(RENEWAL, &mut stopped).await.is_err() {
                if let Err(error) = lease.renew(metadata.as_ref(), wall.now(), LEASE).await {
                    tracing::warn!("the lease of a run was not renewed: {error}");
                }
            }
            lease
        });
        Kept { stop, task }
    }
}

impl Job {
    /// Where a file's rows that belong to no interval are set aside.
    fn rejects_of(&self, chunk: &Chunk) -> String {
        format!("rejects/{}-{}", chunk.file_id, self.code.short())
    }

    fn aside_of<'a>(&self, chunk: &Chunk, unplaced: &'a mut Option<Aside>) -> &'a mut Aside {
        unplaced.get_or_insert_with(|| Aside::new(self.rejects_of(chunk), self.started))
    }

    /// Digest of everything that decides what a run over an interval writes.
    fn inputs_over(&self, interval: Interval, upstream: Option<Upstream>) -> Digest {
        let mut hasher = Hasher::new();
        hasher
            .part(self.inputs.as_bytes())
            .part(interval.slug().as_bytes());
        if let Some(upstream) = upstream {
            hasher.part(&upstream.changed.to_le_bytes());
        }
        hasher.finish()
    }

    /// When a request could first have seen a row: after a scheduled run, or as
    /// its source says; not before the rows that it was made from.
    fn available(
        &self,
        interval: Interval,
        event: Timestamp,
        seen: Option<(Timestamp, bool)>,
    ) -> Timestamp {
        let available = match (&self.pipeline.schedule, seen) {
            (Some(schedule), _) => available_from_schedule(interval, schedule.delay),
            (None, Some((seen, true))) => return available_from_event(event, seen),
            (None, _) => available_from_file(event, self.source.delay),
        };
        seen.map_or(available, |(seen, _)| seen.max(available))
    }
}

impl<'a> Work<'a> {
    fn new(claim: &Claim, job: &'a Job) -> Self {
        let files = claim.files.iter();
        Self {
            aside: Aside::new(claim.record.folder(), claim.record.created),
            record: claim.record.clone(),
            writer: None,
            checks: job.target.run_checks(),
            files: files.map(|file| file.path.clone()).collect(),
        }
    }

    /// Whether the rows of a chunk are for it: of another group's table only some
    /// files are.
    fn reads(&self, chunk: &Chunk) -> bool {
        self.record.upstream.is_none() || self.files.contains(&chunk.file)
    }
}

impl RunRecord {
    fn rejected(&mut self, reject: Reject) {
        self.rows_rejected += 1;
        if self.rejects.len() < KEPT_REJECTS {
            self.rejects.push(reject);
        }
    }
}

/// A lease that is being renewed.
pub(crate) struct Kept {
    stop: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Lease>,
}

impl Kept {
    pub(crate) async fn end(self, platform: &Platform) {
        let _ = self.stop.send(());
        if let Ok(lease) = self.task.await
            && let Err(error) = lease.release(platform.components().metadata.as_ref()).await
        {
            tracing::warn!("the lease of a run was not released: {error}");
        }
    }
}

/// The span from the first of some intervals to the last.
fn hull(intervals: &[Interval]) -> Interval {
    let from = intervals.iter().map(|i| i.from).min();
    let to = intervals.iter().map(|i| i.to).max();
    Interval {
        from: from.unwrap_or(Timestamp::MIN),
        to: to.unwrap_or(Timestamp::MAX),
    }
}

/// What was made of a chunk.
struct Made {
    chunk: Chunk,
    rows: GroupRows,
    /// Refused source rows as JSON, in the order of the refusals.
    rejects: Vec<String>,
}

fn transform(chunk: Chunk, function: &Function, target: &Target, gate: Gate) -> Result<Made> {
    let rows = target
        .rows(function, &chunk.columns, gate)
        .map_err(|error| {
            let first = chunk.numbers.first().copied().unwrap_or(0);
            let last = chunk.numbers.last().copied().unwrap_or(0);
            Error::caused(
                error.kind(),
                format!("{}, rows {first} to {last}: {error}", chunk.file),
                error,
            )
        })?;
    let fields = function.signature().inputs.fields();
    let row = |row: usize| -> String {
        let cells = fields.iter().zip(&chunk.columns);
        let cells: Map<String, Json> = cells
            .map(|(field, column)| (field.name.clone(), cell_to_json(column, row)))
            .collect();
        Json::Object(cells).to_string()
    };
    let rejects = rows
        .rejects
        .iter()
        .map(|refused| row(refused.row))
        .collect();
    // The inputs are no longer needed; what follows may wait for its turn.
    let chunk = Chunk {
        columns: Vec::new(),
        ..chunk
    };
    Ok(Made {
        chunk,
        rows,
        rejects,
    })
}

/// Runs something that blocks on a thread for it.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    ended(tokio::task::spawn_blocking(work)).await
}

/// What a task ended with.
pub(crate) async fn ended<T>(task: tokio::task::JoinHandle<T>) -> Result<T> {
    match task.await {
        Ok(result) => Ok(result),
        Err(failure) if failure.is_panic() => std::panic::resume_unwind(failure.into_panic()),
        Err(failure) => Err(Error::caused(
            Kind::Unavailable,
            "the process is stopping",
            failure,
        )),
    }
}
