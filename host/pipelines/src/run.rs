//! Batch runs: a source's rows over intervals, through the function, into the
//! group's offline table by one commit for each interval, then into the online
//! store.

pub(crate) mod distributed;
pub(crate) mod job;
pub(crate) mod online;
pub(crate) mod records;
pub(crate) mod write;

use std::sync::Arc;
use std::time::Duration;

use wafer_catalog::{LEASE, Progress, RenewedLease, RunRecord, RunState, Upstream, get};
use wafer_core::Timestamp;
use wafer_core::rules::{Interval, available_from_schedule};
use wafer_store::{DataFile, Error, Kind, Leased, Result, for_work};

use crate::chain::UpstreamChanges;
use crate::input::Selection;
use crate::run::job::{Job, Online};
use crate::run::write::Work;
use crate::service::Pipelines;

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

/// What is to be done about an interval.
pub(crate) struct Claim {
    pub(crate) record: RunRecord,
    pub(crate) is_done: bool,
    /// What of another group's table there is to read.
    pub(crate) files: Vec<DataFile>,
    /// Whether it only finishes what is committed, and more came meanwhile.
    pub(crate) is_behind: bool,
}

impl Pipelines {
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
        self.check_interval(request)?;
        let definitions = self.context.definitions();
        let lease = self.run_lease(&request.pipeline).await?;
        let work = async {
            let job = self.job(&definitions, request, None, Online::Each).await?;
            self.run_pass(&job, &[request.interval], &progress).await
        };
        let result = work.await;
        lease.end().await;
        let mut done = result?;
        Ok(done.pop().expect("one interval was asked for"))
    }

    /// Refuses an open interval of a pipeline whose rows are visible from its end on.
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

    /// Claims a pipeline for runs.
    pub(crate) async fn run_lease(&self, pipeline: &str) -> Result<RenewedLease> {
        match self.context.lease(&run_lease_name(pipeline), LEASE).await? {
            Leased::Mine(lease) => Ok(self.context.renewed(lease)),
            Leased::HeldBy(holder) => Err(is_run_by(pipeline, &holder)),
        }
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
        let changes = self.upstream_changes_of(job, intervals, &claims).await?;
        let mut planned = Vec::new();
        for interval in intervals {
            planned.push(
                self.plan_run(job, *interval, &claims, changes.as_ref())
                    .await?,
            );
        }
        if job.online == Online::Later && planned.iter().any(|claim| !claim.is_done) {
            self.note_online_rebuild(&job.target.table.name).await?;
        }
        let mut works: Vec<Work<'_>> = Vec::new();
        let mut selection = Selection {
            files: Vec::new(),
            arrivals: hull(intervals),
        };
        for claim in planned.iter_mut().filter(|claim| !claim.is_done) {
            self.insert_record(&mut claim.record).await?;
            self.save(&mut claim.record).await?;
            works.push(Work::new(claim, job));
            selection.files.append(&mut claim.files);
        }
        selection.files.sort_by(|a, b| a.path.cmp(&b.path));
        // Described by the table or by its log, it is one file.
        selection.files.dedup_by(|a, b| a.path == b.path);
        let work = self.execute(job, &mut works, &selection, progress);
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
                record.finished = Some(self.context.machine_now());
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
    async fn upstream_changes_of(
        &self,
        job: &Job,
        intervals: &[Interval],
        claims: &[RunRecord],
    ) -> Result<Option<UpstreamChanges>> {
        let Some(snapshot) = job.input.table() else {
            return Ok(None);
        };
        let runs = claims
            .iter()
            .filter(|run| intervals.contains(&run.interval));
        let seen = runs.filter_map(|run| run.upstream);
        let oldest = seen.map(Upstream::oldest).min();
        let oldest = oldest.map(|oldest| oldest.max(job.followed.unwrap_or(0)));
        Ok(Some(self.upstream_changes(snapshot, oldest).await?))
    }

    /// Whether a scheduled run ended later than its rows say they were visible.
    pub(crate) fn overran(&self, job: &Job, record: &RunRecord) -> bool {
        job.pipeline.schedule.as_ref().is_some_and(|schedule| {
            let visible = available_from_schedule(record.interval, schedule.delay);
            // One that is run by hand, as a backfill is, does not say what was.
            job.is_scheduled && self.context.now() > visible
        })
    }

    /// What is to be done about an interval: nothing if the inputs are those of
    /// before, else a run of a new generation.
    pub(crate) async fn plan_run(
        &self,
        job: &Job,
        interval: Interval,
        claims: &[RunRecord],
        changes: Option<&UpstreamChanges>,
    ) -> Result<Claim> {
        let table = &job.target.table.name;
        let before = claims.iter().find(|claim| claim.interval == interval);
        let (upstream, is_behind) = match changes {
            Some(changes) => {
                let (upstream, is_behind) = self.upstream(job, interval, before, changes).await?;
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
        let started = self.context.machine_now();
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
                    ..RunRecord::new(
                        &job.name,
                        table,
                        interval,
                        inputs,
                        self.context.now(),
                        started,
                    )
                }
            }
        };
        let files = changes.zip(upstream);
        Ok(Claim {
            files: files.map_or_else(Vec::new, |(changes, read)| changes.files(read, interval)),
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
        changes: &UpstreamChanges,
    ) -> Result<(Upstream, bool)> {
        let is_same = |run: &&RunRecord| run.inputs == job.inputs_over(interval, run.upstream);
        let Some((before, read)) = before
            .filter(is_same)
            .and_then(|run| run.upstream.map(|read| (run, read)))
        else {
            return Ok((changes.everything(), false));
        };
        let followed = job.followed.unwrap_or(0);
        let base = self.generation(before).await?;
        // The version up to which the interval has its rows.
        let seen = match before.state {
            RunState::Succeeded => Some(read.version.max(followed)),
            // What it has is to be finished first.
            _ if base >= Some(before.generation) => {
                return Ok((read, changes.touches(read.version, interval)));
            }
            // It was to be added to what the interval still has.
            _ => read.since.filter(|_| read.base == base),
        };
        let Some(seen) = seen else {
            return Ok((changes.everything(), false));
        };
        // What is expected of all rows of a run cannot be told from some of them.
        let may_add = job.target.run_checks().is_empty();
        let Some(upstream) = changes.after(seen, interval, may_add) else {
            return Ok((read, false));
        };
        let base = base.filter(|_| upstream.since.is_some());
        Ok((Upstream { base, ..upstream }, false))
    }

    /// The last generation of a run's interval that the offline table has.
    async fn generation(&self, run: &RunRecord) -> Result<Option<i64>> {
        let offline = &self.context.components().offline;
        offline.txn_version(&run.table, &run.app_id()).await
    }

    /// Whether the offline table has what a run wrote.
    pub(crate) async fn is_committed(&self, run: &RunRecord) -> Result<bool> {
        Ok(self.generation(run).await? >= Some(run.generation))
    }

    /// Refuses an interval that shares time with another one that has rows.
    pub(crate) async fn check_overlaps(
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
        selection: &Selection,
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
                .write_offline(job, works, &to_write, selection, progress)
                .await;
            for work in works.iter_mut() {
                work.abort().await;
            }
            result?;
        }
        // Of work that was committed earlier it is not known what it left out.
        let is_new = to_write.len() == works.len();
        let known = is_new.then_some(job.deletions.version());
        self.delete_again(&job.target.table, known).await?;
        if job.online == Online::Each {
            progress.stage("updating the online store");
            let work = format!("pipeline/{}", job.name);
            let records = works.iter_mut().map(|work| &mut work.record);
            for_work(work, self.write_online(job, records.collect())).await?;
        }
        Ok(())
    }

    async fn write_offline(
        &self,
        job: &Job,
        works: &mut [Work<'_>],
        to_write: &[usize],
        selection: &Selection,
        progress: &Arc<dyn Progress>,
    ) -> Result<()> {
        let unplaced = self
            .write_files(job, works, to_write, selection, progress)
            .await?;
        self.commit_unplaced(job, unplaced).await?;
        for index in to_write {
            let work = &mut works[*index];
            let written = self.close(job, work).await?;
            self.commit_work(job, &mut work.record, &work.checks, written)
                .await?;
        }
        Ok(())
    }
}

pub(crate) fn run_lease_name(pipeline: &str) -> String {
    format!("run/{pipeline}")
}

pub(crate) fn is_run_by(pipeline: &str, holder: &str) -> Error {
    let message = format!("pipeline `{pipeline}` is being run by {holder}");
    Error::new(Kind::Conflict, message)
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
