//! Schedules: which intervals are due, and running them, whichever host comes first.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wafer_catalog::{Overlap, PipelineDef, RunRecord, RunState, ScheduleDef, Ticks, get};
use wafer_core::Timestamp;
use wafer_core::rules::Interval;
use wafer_store::{Error, Expect, Kind, Result};

use crate::run::RunRequest;
use crate::run::job::{Job, Online};
use crate::service::Pipelines;

/// How a pipeline's schedule stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleState {
    /// Intervals up to here are done, or were left out.
    pub done: Timestamp,
    /// Whether it waits to be resumed.
    pub paused: bool,
    /// Intervals that were left out: too many after a pause, or by overlap.
    pub skipped: u64,
    /// Intervals that were given up after all retries.
    pub failed: u64,
    /// Of a pipeline that reads another group's table: the version of it that all
    /// finished intervals have.
    pub upstream: Option<u64>,
    /// Finished intervals of which that table changed after they were run: they are run
    /// again after the next one.
    pub again: Vec<Interval>,
}

/// A schedule and how it stands, for people.
#[derive(Clone, Debug, Serialize)]
pub struct ScheduleStatus {
    /// The pipeline.
    pub pipeline: String,
    /// When it runs.
    pub schedule: ScheduleDef,
    /// How it stands.
    pub state: ScheduleState,
    /// When its next interval is due.
    pub next: Option<Timestamp>,
}

/// What a look at a schedule says.
enum Due {
    /// Run this interval.
    Now(Interval),
    /// Nothing to do yet.
    Later,
}

impl Pipelines {
    /// Names of the pipelines that run by themselves.
    pub fn scheduled(&self) -> Vec<String> {
        let definitions = self.context.definitions();
        let pipelines = definitions.pipelines.iter();
        pipelines
            .filter(|(_, pipeline)| pipeline.schedule.is_some())
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Runs the next interval of a pipeline that is due, if there is one and no
    /// other host is at it. A failed run is recorded, and repeated later.
    ///
    /// # Errors
    /// Those of the stores; not those of the run, which are in its record.
    pub async fn run_due(&self, pipeline: &str) -> Result<Option<RunRecord>> {
        let definitions = self.context.definitions();
        let definition = get(&definitions.pipelines, pipeline, "pipeline")?.clone();
        let Some(schedule) = &definition.schedule else {
            return Ok(None);
        };
        let ticks = Ticks::new(schedule).map_err(Error::invalid)?;
        if let Due::Later = self
            .due(pipeline, &definition, schedule, &ticks, false)
            .await?
        {
            return Ok(None);
        }
        let lease = match self.run_lease(pipeline).await {
            Err(e) if e.kind() == Kind::Conflict => return Ok(None),
            other => other?,
        };
        // Looked at again: another host may have run it before the lease was ours.
        let due = self
            .due(pipeline, &definition, schedule, &ticks, true)
            .await;
        let result = match due {
            Ok(Due::Now(interval)) => {
                let started = self.context.now();
                let run = self.run_interval(pipeline, schedule, interval).await;
                match &run {
                    Ok(Some(record)) if record.state == RunState::Succeeded => {
                        let again = self.run_touched(pipeline, schedule, &ticks).await;
                        let skipped = self
                            .skip_overlapped(pipeline, schedule, &ticks, started)
                            .await;
                        again.and(skipped).and(run)
                    }
                    _ => run,
                }
            }
            Ok(Due::Later) => Ok(None),
            Err(e) => Err(e),
        };
        lease.end().await;
        result
    }

    /// The next interval of a pipeline's schedule that is due, for who has its lease.
    pub(crate) async fn next_due(&self, pipeline: &str) -> Result<Option<(Interval, ScheduleDef)>> {
        let (schedule, ticks) = self.ticks(pipeline)?;
        let definitions = self.context.definitions();
        let definition = get(&definitions.pipelines, pipeline, "pipeline")?;
        let due = self.due(pipeline, definition, &schedule, &ticks, true);
        Ok(match due.await? {
            Due::Now(interval) => Some((interval, schedule)),
            Due::Later => None,
        })
    }

    async fn scheduled_job(
        &self,
        pipeline: &str,
        schedule: &ScheduleDef,
        interval: Interval,
    ) -> Result<Job> {
        let request = RunRequest {
            pipeline: pipeline.to_owned(),
            interval,
            workers: 1,
            archive: false,
        };
        let mut job = self
            .job(&self.context.definitions(), &request, None, Online::Each)
            .await?;
        job.time_limit = schedule.time_limit;
        job.is_scheduled = true;
        Ok(job)
    }

    /// Runs finished intervals of a pipeline over another group's table again, of which
    /// rows came or went since the last look, as by a backfill of that group.
    async fn run_touched(
        &self,
        pipeline: &str,
        schedule: &ScheduleDef,
        ticks: &Ticks,
    ) -> Result<()> {
        let mut job = self
            .scheduled_job(pipeline, schedule, Interval::ALL)
            .await?;
        let Some(snapshot) = job.input.table() else {
            return Ok(());
        };
        let (mut state, version) = self.schedule_state(pipeline, ticks).await?;
        // Whatever became of them: one that failed has not read what came since either.
        let runs = self.claims(&job.target.table.name).await?;
        let seen = runs.iter().filter_map(|run| {
            let read = run.upstream?;
            Some((run.interval, read.version.max(state.upstream.unwrap_or(0))))
        });
        let seen: Vec<(Interval, u64)> = seen.collect();
        let oldest = seen.iter().map(|(_, seen)| *seen).min();
        let changes = self.upstream_changes(snapshot, oldest).await?;
        for (interval, seen) in seen {
            if changes.touches(seen, interval) && !state.again.contains(&interval) {
                state.again.push(interval);
            }
        }
        job.followed = state.upstream;
        // Noted before they are run: whatever happens to them, they are run again.
        let followed = state.upstream.replace(changes.version());
        if state.again.is_empty() && followed == state.upstream {
            return Ok(());
        }
        self.put_schedule_state(pipeline, &state, version).await?;
        for interval in state.again {
            self.run_pass(&job, &[interval], &(Arc::new(()) as _))
                .await?;
            let (mut state, version) = self.schedule_state(pipeline, ticks).await?;
            state.again.retain(|other| *other != interval);
            self.put_schedule_state(pipeline, &state, version).await?;
        }
        Ok(())
    }

    async fn run_interval(
        &self,
        pipeline: &str,
        schedule: &ScheduleDef,
        interval: Interval,
    ) -> Result<Option<RunRecord>> {
        let started = self.context.machine_now();
        let run = async {
            let job = self.scheduled_job(pipeline, schedule, interval).await?;
            self.run_pass(&job, &[interval], &(Arc::new(()) as _)).await
        };
        let outcome = run.await;
        let error = match outcome {
            Ok(mut done) => return Ok(done.pop().map(|(record, _)| record)),
            Err(error) => error,
        };
        tracing::warn!(
            "scheduled run of `{pipeline}` over {interval} failed: {}",
            error.chain()
        );
        self.note_attempt(pipeline, interval, started, &error)
            .await
            .map(Some)
    }

    /// Records that a run failed that was begun at some time, also when that was before
    /// it was claimed, as when its source is missing: an attempt all the same.
    pub(crate) async fn note_attempt(
        &self,
        pipeline: &str,
        interval: Interval,
        started: Timestamp,
        error: &Error,
    ) -> Result<RunRecord> {
        let definitions = self.context.definitions();
        let table = definitions.groups[&definitions.pipelines[pipeline].group].table();
        let now = self.context.machine_now();
        let mut record = match self.claimed(&table, interval).await? {
            Some(record)
                if record.state == RunState::Running || record.finished >= Some(started) =>
            {
                record
            }
            Some(record) => record.restart(now),
            None => RunRecord::unclaimed(pipeline, &table, interval, self.context.now(), now),
        };
        if record.state == RunState::Running {
            record.state = RunState::Failed;
            record.error = Some(error.chain());
            record.finished = Some(now);
            self.insert_record(&mut record).await?;
            self.save(&mut record).await?;
        }
        Ok(record)
    }

    /// What is due of a schedule; moves on over what is done. `is_claimed` says that
    /// nobody else runs the pipeline: a run that is under way has died.
    async fn due(
        &self,
        pipeline: &str,
        definition: &PipelineDef,
        schedule: &ScheduleDef,
        ticks: &Ticks,
        is_claimed: bool,
    ) -> Result<Due> {
        let now = self.context.now();
        let (mut state, version) = self.schedule_state(pipeline, ticks).await?;
        let before = state.clone();
        if state.paused {
            return Ok(Due::Later);
        }
        let ready = now.minus_micros(schedule.start_after);
        let mut ends = Vec::new();
        let mut end = ticks.after(state.done);
        while let Some(time) = end.filter(|time| *time <= ready) {
            ends.push(time);
            end = ticks.after(time);
        }
        let table = self.context.definitions().groups[&definition.group].table();
        let interval = |end: Timestamp| Interval {
            from: ticks.before(end).unwrap_or(end),
            to: end,
        };
        // What is done at the beginning is not left out.
        let mut done = 0;
        for end in &ends {
            match self.claimed(&table, interval(*end)).await? {
                Some(record) if record.state == RunState::Succeeded => done += 1,
                _ => break,
            }
            state.done = *end;
        }
        ends.drain(..done);
        let most = schedule.catch_up as usize;
        if ends.len() > most {
            let left_out = ends.len() - most;
            state.skipped += left_out as u64;
            state.done = ends[left_out - 1];
            ends.drain(..left_out);
        }
        let mut due = Due::Later;
        for end in ends {
            let interval = interval(end);
            match self.claimed(&table, interval).await? {
                Some(record) if record.state == RunState::Succeeded => state.done = end,
                Some(record) if record.state == RunState::Failed => {
                    if record.attempts > schedule.retries {
                        state.failed += 1;
                        state.done = end;
                        continue;
                    }
                    if self.may_retry(&record, schedule) {
                        due = Due::Now(interval);
                    }
                    break;
                }
                Some(record) if is_claimed && record.attempts > schedule.retries => {
                    // Whoever runs it dies of it.
                    let error = "its process ended before it did, again and again".to_owned();
                    let finished = Some(self.context.machine_now());
                    let mut record = RunRecord {
                        state: RunState::Failed,
                        error: Some(error),
                        finished,
                        ..record
                    };
                    self.save(&mut record).await?;
                    state.failed += 1;
                    state.done = end;
                }
                _ => {
                    due = Due::Now(interval);
                    break;
                }
            }
        }
        if state != before {
            self.put_schedule_state(pipeline, &state, version).await?;
        }
        Ok(due)
    }

    /// Whether a failed run has waited long enough, by the machine's clock.
    fn may_retry(&self, record: &RunRecord, schedule: &ScheduleDef) -> bool {
        let doubled = 1i64 << record.attempts.saturating_sub(1).min(20);
        let wait = schedule.backoff.saturating_mul(doubled);
        let failed = record.finished.unwrap_or(record.started);
        failed.plus_micros(wait) <= self.context.machine_now()
    }

    /// With `overlap = "skip"`, leaves out what became due while a run was under way
    /// that started then.
    async fn skip_overlapped(
        &self,
        pipeline: &str,
        schedule: &ScheduleDef,
        ticks: &Ticks,
        started: Timestamp,
    ) -> Result<()> {
        if schedule.overlap == Overlap::Wait {
            return Ok(());
        }
        let (mut state, version) = self.schedule_state(pipeline, ticks).await?;
        let before = state.clone();
        let ready = self.context.now().minus_micros(schedule.start_after);
        let mut end = ticks.after(started.minus_micros(schedule.start_after));
        while let Some(time) = end.filter(|time| *time <= ready) {
            if time > state.done {
                state.done = time;
                state.skipped += 1;
            }
            end = ticks.after(time);
        }
        if state != before {
            self.put_schedule_state(pipeline, &state, version).await?;
        }
        Ok(())
    }

    fn schedule_name(&self, pipeline: &str) -> String {
        format!("{}/schedule/{pipeline}", self.context.project())
    }

    /// How a schedule stands; one that was never looked at begins now.
    async fn schedule_state(
        &self,
        pipeline: &str,
        ticks: &Ticks,
    ) -> Result<(ScheduleState, Expect)> {
        let name = self.schedule_name(pipeline);
        let Some(stored) = self.context.components().metadata.get(&name).await? else {
            let now = self.context.now();
            let state = ScheduleState {
                done: ticks.before(now.plus_micros(1)).unwrap_or(now),
                paused: false,
                skipped: 0,
                failed: 0,
                upstream: None,
                again: Vec::new(),
            };
            self.put_schedule_state(pipeline, &state, Expect::Absent)
                .await?;
            return Ok((state, Expect::Version(1)));
        };
        let state = serde_json::from_slice(&stored.value).map_err(|e| {
            let message = format!("stored object `{name}` cannot be read");
            Error::caused(Kind::Internal, message, e)
        })?;
        Ok((state, Expect::Version(stored.version)))
    }

    /// Writes how a schedule stands, unless somebody else did meanwhile: then that
    /// counts, and the next look goes on from there.
    async fn put_schedule_state(
        &self,
        pipeline: &str,
        state: &ScheduleState,
        expect: Expect,
    ) -> Result<()> {
        let json = serde_json::to_vec(state).expect("numbers are plain data");
        let name = self.schedule_name(pipeline);
        match self
            .context
            .components()
            .metadata
            .put(&name, Bytes::from(json), expect)
            .await
        {
            Err(e) if e.kind() == Kind::Conflict => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }

    /// Pauses or resumes a schedule.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for an unknown pipeline, [`Kind::Invalid`] for one
    /// without a schedule.
    pub async fn pause_schedule(&self, pipeline: &str, paused: bool) -> Result<ScheduleStatus> {
        let (schedule, ticks) = self.ticks(pipeline)?;
        loop {
            let (mut state, version) = self.schedule_state(pipeline, &ticks).await?;
            if state.paused == paused {
                return Ok(status(pipeline, schedule, state, &ticks));
            }
            state.paused = paused;
            self.put_schedule_state(pipeline, &state, version).await?;
        }
    }

    fn ticks(&self, pipeline: &str) -> Result<(ScheduleDef, Ticks)> {
        let definitions = self.context.definitions();
        let definition = get(&definitions.pipelines, pipeline, "pipeline")?;
        let schedule = definition
            .schedule
            .clone()
            .ok_or_else(|| Error::invalid(format!("pipeline `{pipeline}` has no `schedule`")))?;
        let ticks = Ticks::new(&schedule).map_err(Error::invalid)?;
        Ok((schedule, ticks))
    }

    /// All schedules and how they stand.
    ///
    /// # Errors
    /// Those of the metadata store.
    pub async fn schedules(&self) -> Result<Vec<ScheduleStatus>> {
        let mut all = Vec::new();
        for pipeline in self.scheduled() {
            let (schedule, ticks) = self.ticks(&pipeline)?;
            let (state, _) = self.schedule_state(&pipeline, &ticks).await?;
            all.push(status(&pipeline, schedule, state, &ticks));
        }
        Ok(all)
    }
}

fn status(
    pipeline: &str,
    schedule: ScheduleDef,
    state: ScheduleState,
    ticks: &Ticks,
) -> ScheduleStatus {
    let next = ticks.after(state.done).filter(|_| !state.paused);
    ScheduleStatus {
        pipeline: pipeline.to_owned(),
        next: next.map(|end| end.plus_micros(schedule.start_after)),
        schedule,
        state,
    }
}
