//! Batch runs: a source's rows over intervals, through the function, into the
//! group's offline table by one commit for each interval, then into the online
//! store.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Map, Value as Json};
use wafer_core::expect::Policy;
use wafer_core::rules::{
    Interval, available_from_event, available_from_file, available_from_schedule,
};
use wafer_core::{Digest, Hasher, Timestamp, cell_to_json};
use wafer_runtime::Function;
use wafer_store::{
    AsOf, EventCommit, EventOutcome, Follows, Kind as StoreKind, Lease, TableWriter, Txn,
};

use crate::definition::{Definitions, PipelineDef, SourceDef, TableDef};
use crate::error::{Error, Kind, Result};
use crate::group_rows::{Gate, Gathered, GroupRows, RunCheck, StoredRows, Target, timestamps};
use crate::input::Input;
use crate::platform::{Components, Platform, get};
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
    input: Input,
    /// Digest of everything but the interval that decides what is written.
    inputs: Digest,
    workers: usize,
    online: Online,
    /// Microseconds that its work may take.
    pub(crate) time_limit: Option<i64>,
}

/// An interval on its way.
struct Work<'a> {
    record: RunRecord,
    writer: Option<TableWriter>,
    checks: Vec<RunCheck<'a>>,
    /// Rows that were set aside.
    quarantine: Vec<Quarantined>,
}

/// A row for the quarantine table.
struct Quarantined {
    reason: String,
    place: String,
    row: Option<String>,
    event_id: String,
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
        let job = self.job(&definitions, request, Online::Each).await?;
        let lease = self.run_lease(&request.pipeline).await?;
        let result = self.run_pass(&job, &[request.interval], &progress).await;
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
            target: Arc::new(Target::new(group)),
            function,
            code,
            input,
            inputs: hasher.finish(),
            workers: request.workers.max(1),
            online,
            time_limit: None,
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
        let mut records = Vec::new();
        for interval in intervals {
            records.push(self.claim(job, *interval, &claims).await?);
        }
        let fresh = records.iter().filter(|(_, fresh)| *fresh);
        let mut works: Vec<Work<'_>> = fresh.map(|(record, _)| Work::new(record, job)).collect();
        let work = self.execute(job, &mut works, progress);
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
                match self.save(&record).await {
                    // The error that stopped the run says more than one of its record.
                    Err(unsaved) if failed.is_some() => {
                        tracing::warn!("the failed run was not recorded: {}", unsaved.chain());
                    }
                    other => other?,
                }
            }
            let place = records
                .iter_mut()
                .find(|(r, _)| r.interval == record.interval);
            place.expect("it was claimed").0 = record;
        }
        result.map(|()| records)
    }

    /// Whether a scheduled run ended later than its rows say they were visible.
    fn overran(&self, job: &Job, record: &RunRecord) -> bool {
        job.pipeline.schedule.as_ref().is_some_and(|schedule| {
            let visible = available_from_schedule(record.interval, schedule.delay);
            // A run that was started late, as a backfill is, did not overrun.
            record.created <= visible && self.now() > visible
        })
    }

    /// The record of an interval: the one of before if the inputs are the same,
    /// else a new generation. Says whether there is anything to do.
    async fn claim(
        &self,
        job: &Job,
        interval: Interval,
        claims: &[RunRecord],
    ) -> Result<(RunRecord, bool)> {
        let table = &job.target.table.name;
        let inputs = job.inputs_over(interval);
        let before = claims
            .iter()
            .find(|claim| claim.interval == interval)
            .cloned();
        if let Some(done) = &before
            && done.inputs == inputs
            && done.state == RunState::Succeeded
        {
            return Ok((done.clone(), false));
        }
        let started = self.components().wall.now();
        let mut record = match before {
            // The same work, not finished: taken up with its own times.
            Some(before) if before.inputs == inputs => before.restart(started),
            // Attempts go on counting until one succeeds, whatever the inputs become.
            before => {
                let failed = before.as_ref().filter(|b| b.state != RunState::Succeeded);
                RunRecord {
                    generation: before.as_ref().map_or(1, |b| b.generation + 1),
                    attempts: 1 + failed.map_or(0, |b| b.attempts),
                    ..RunRecord::new(&job.name, table, interval, inputs, self.now(), started)
                }
            }
        };
        self.insert_record(&mut record).await?;
        self.save(&record).await?;
        Ok((record, true))
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
            if self.has_rows(&job.target.table.name, claim).await? {
                return Err(Error::new(
                    Kind::Conflict,
                    format!(
                        "pipeline `{}` was run over {}, which overlaps {interval}: rows would be there twice. \
                         Run that interval again to replace it, or choose another",
                        job.name, claim.interval
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Whether runs over all of some intervals would change nothing.
    pub(crate) async fn is_done(&self, job: &Job, intervals: &[Interval]) -> Result<bool> {
        for interval in intervals {
            let claim = self.claimed(&job.target.table.name, *interval).await?;
            let done = claim.is_some_and(|claim| {
                claim.state == RunState::Succeeded && claim.inputs == job.inputs_over(*interval)
            });
            if !done {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the offline table has work of a run's interval.
    async fn has_rows(&self, table: &str, claim: &RunRecord) -> Result<bool> {
        if claim.state == RunState::Succeeded {
            return Ok(true);
        }
        // It failed, or its process is gone, as the lease is ours: an earlier
        // generation, or its own commit, may be there.
        let offline = &self.components().offline;
        Ok(offline.txn_version(table, &claim.app_id()).await?.is_some())
    }

    async fn execute(
        &self,
        job: &Job,
        works: &mut [Work<'_>],
        progress: &Arc<dyn Progress>,
    ) -> Result<()> {
        let offline = &self.components().offline;
        let mut to_write = Vec::new();
        // Copies: files that are being written cannot be shared between threads.
        let records: Vec<RunRecord> = works.iter().map(|work| work.record.clone()).collect();
        for (index, record) in records.iter().enumerate() {
            let committed = offline.txn_version(&record.table, &record.app_id()).await?;
            if committed.is_none_or(|version| version < record.generation) {
                to_write.push(index);
            }
        }
        if !to_write.is_empty() {
            progress.stage("transforming");
            let result = self.write_offline(job, works, &to_write, progress).await;
            for work in works.iter_mut() {
                if let Some(writer) = work.writer.take() {
                    // Best effort: what stays is not part of the table.
                    let _ = writer.abort().await;
                }
            }
            result?;
        }
        if job.online == Online::Each {
            progress.stage("updating the online store");
            self.write_online(job, works).await?;
        }
        Ok(())
    }

    async fn write_offline(
        &self,
        job: &Job,
        works: &mut [Work<'_>],
        to_write: &[usize],
        progress: &Arc<dyn Progress>,
    ) -> Result<()> {
        for index in to_write {
            works[*index].record.clear_counts();
        }
        let intervals: Vec<Interval> = works.iter().map(|work| work.record.interval).collect();
        let gate = Gate {
            interval: hull(&intervals),
            now: self.now(),
            skew: job.source.skew,
        };
        let total = job.input.total_rows();
        let (target, function) = (Arc::clone(&job.target), job.function.clone());
        let mut made =
            Box::pin(
                job.input
                    .chunks()
                    .map(|chunk| {
                        let (target, function) = (Arc::clone(&target), function.clone());
                        async move {
                            blocking(move || transform(chunk?, &function, &target, gate)).await?
                        }
                    })
                    .buffered(job.workers),
            );
        let mut read = 0;
        let mut unplaced = Vec::new();
        while let Some(made) = made.try_next().await? {
            read += made.chunk.seen;
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
        unplaced: &mut Vec<(String, Quarantined)>,
    ) -> Result<()> {
        let Made {
            chunk,
            rows,
            rejects,
        } = made;
        let first = to_write[0];
        for reject in &chunk.rejects {
            works[first].record.rejected(reject.clone());
            let event_id = format!("{}:{}", chunk.file_id, reject.place);
            let quarantined = Quarantined {
                reason: reject.message.clone(),
                place: reject.place.clone(),
                row: None,
                event_id,
            };
            unplaced.push((chunk.file_id.clone(), quarantined));
        }
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
            let owner = refused.event.and_then(|event| {
                let owns = |index: &&usize| works[**index].record.interval.contains(event);
                to_write.iter().find(owns)
            });
            match owner {
                Some(index) => {
                    works[*index].record.rejected(reject);
                    works[*index].quarantine.push(quarantined);
                }
                None => {
                    works[first].record.rejected(reject);
                    unplaced.push((chunk.file_id.clone(), quarantined));
                }
            }
        }
        let made = rows.len() as u64 + rows.outside;
        works[first].record.rows_warned += rows.warnings;
        for index in to_write {
            let work = &mut works[*index];
            let interval = work.record.interval;
            let own: Vec<usize> = (0..rows.len())
                .filter(|row| interval.contains(rows.events[*row]))
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
                        work.quarantine.push(Quarantined {
                            reason: reason.clone(),
                            place,
                            row: None,
                            event_id: chunk.event_id(rows.sources[*row]),
                        });
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
            follows: Follows::Anything,
        };
        let quarantine = std::mem::take(&mut work.quarantine);
        self.quarantine(
            job,
            quarantine,
            &record.folder(),
            &txn,
            Some(&record.work_folder()),
            record.created,
        )
        .await?;
        // Before the commit, so that a run that is taken up after it knows them.
        self.save(record).await?;
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
        writer.commit(&txn, Some(&record.work_folder())).await?;
        Ok(())
    }

    /// Sets rows aside that belong to no interval: a file's are the same whichever
    /// interval is run, and are kept once.
    async fn commit_unplaced(&self, job: &Job, unplaced: Vec<(String, Quarantined)>) -> Result<()> {
        let mut by_file: std::collections::BTreeMap<String, Vec<Quarantined>> = Default::default();
        for (file, row) in unplaced {
            by_file.entry(file).or_default().push(row);
        }
        let function = job.code.short();
        for (file, rows) in by_file {
            let folder = format!("rejects/{file}-{function}");
            let txn = Txn {
                app_id: format!("wafer/{folder}"),
                version: 1,
                follows: Follows::Anything,
            };
            self.quarantine(job, rows, &folder, &txn, None, self.now())
                .await?;
        }
        Ok(())
    }

    async fn quarantine(
        &self,
        job: &Job,
        rows: Vec<Quarantined>,
        folder: &str,
        txn: &Txn,
        replaces: Option<&str>,
        created: Timestamp,
    ) -> Result<()> {
        let table = job.target.group.quarantine_table();
        let offline = &self.components().offline;
        let there = match offline.txn_version(&table.name, &txn.app_id).await {
            Ok(version) => version.is_some(),
            Err(e) if e.kind() == StoreKind::NotFound => false,
            Err(e) => return Err(e.into()),
        };
        if rows.is_empty() && !(there && replaces.is_some()) {
            return Ok(());
        }
        offline
            .ensure(&table.name, &table.schema().to_arrow())
            .await?;
        let mut writer = offline.writer(&table.name, folder).await?;
        writer
            .write(&quarantine_batch(&table, &rows, created))
            .await?;
        writer.commit(txn, replaces).await?;
        Ok(())
    }

    /// Writes the rows of runs to the online store, as they are in their files. For an
    /// interval that had other rows before, or a run that is taken up, the group is
    /// made anew from the offline table.
    async fn write_online(&self, job: &Job, works: &mut [Work<'_>]) -> Result<()> {
        // Of a run that is taken up it is not known what went online before.
        let is_new = |work: &Work<'_>| work.record.generation == 1 && work.record.attempts == 1;
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
    /// Digest of everything that decides what a run over an interval writes.
    fn inputs_over(&self, interval: Interval) -> Digest {
        let mut hasher = Hasher::new();
        hasher
            .part(self.inputs.as_bytes())
            .part(interval.slug().as_bytes());
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
    fn new(record: &RunRecord, job: &'a Job) -> Self {
        Self {
            record: record.clone(),
            writer: None,
            checks: job.target.run_checks(),
            quarantine: Vec::new(),
        }
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

fn quarantine_batch(table: &TableDef, rows: &[Quarantined], created: Timestamp) -> RecordBatch {
    let texts = |value: fn(&Quarantined) -> Option<&str>| -> ArrayRef {
        Arc::new(rows.iter().map(value).collect::<StringArray>())
    };
    let times = || timestamps(&vec![created; rows.len()]);
    let columns = vec![
        times(),
        times(),
        times(),
        texts(|row| Some(&row.event_id)),
        texts(|row| Some(&row.reason)),
        texts(|row| Some(&row.place)),
        texts(|row| row.row.as_deref()),
    ];
    RecordBatch::try_new(table.schema().to_arrow(), columns).expect("the columns are the table's")
}

/// Runs something that blocks on a thread for it.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result),
        Err(failure) if failure.is_panic() => std::panic::resume_unwind(failure.into_panic()),
        Err(failure) => Err(Error::caused(
            Kind::Unavailable,
            "the process is stopping",
            failure,
        )),
    }
}
