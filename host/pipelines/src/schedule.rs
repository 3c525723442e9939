//! Schedules: decide which intervals of a pipeline are due, and run them on whichever host comes
//! first.
//!
//! The times of a cron expression end the data intervals of a pipeline with a `schedule`. An
//! interval is due `start_after` after its end, and its rows count as visible from the end plus
//! `delay`, whoever runs it and when. A run that ends later than that is marked `overran`. Every
//! host looks at the schedules, and a run takes the same lease as any other run of the pipeline,
//! so that one host runs an interval and another one takes over if it fails. The state of a
//! schedule is one object in the metadata store, written under its version.
//!
//! For a chained pipeline, finished intervals are run again when the table that they read
//! changed in them (`chain.rs`).

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wafer_catalog::{Overlap, PipelineDef, RunRecord, RunState, ScheduleDef, Ticks, get, read};
use wafer_core::rules::Interval;
use wafer_core::{Duration, Timestamp};
use wafer_store::{Error, Expect, Kind, Result};

use crate::run::RunRequest;
use crate::run::job::{Job, OnlineUpdate};
use crate::service::Pipelines;

/// The state of a pipeline's schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleState {
    /// The end of the last interval that is done, given up or was skipped.
    pub done: Timestamp,
    /// Whether the schedule is paused.
    pub paused: bool,
    /// The number of intervals that were skipped, because there were too many after a pause or
    /// because of `overlap`.
    pub skipped: u64,
    /// The number of intervals that were given up after all retries.
    pub failed: u64,
    /// For a pipeline that reads another group's table: the version of the table up to which all
    /// changes in finished intervals are known.
    pub upstream: Option<u64>,
    /// The finished intervals in which that table changed after they were run. They are run
    /// again after the next interval.
    pub again: Vec<Interval>,
}

/// A schedule and its state, as shown to users.
#[derive(Clone, Debug, Serialize)]
pub struct ScheduleStatus {
    /// The name of the pipeline.
    pub pipeline: String,
    /// The schedule.
    pub schedule: ScheduleDef,
    /// The state of the schedule.
    pub state: ScheduleState,
    /// When the next interval is due; `None` while the schedule is paused or if it has no
    /// further interval.
    pub next: Option<Timestamp>,
}

/// What is to be done about an interval whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The interval is done.
    Done,
    /// All attempts failed.
    GivenUp,
    /// The interval is to be run.
    Run,
    /// The interval is to be run again, but not yet.
    Wait,
}

/// Whether an interval of a schedule is due.
enum Due {
    /// This interval is due.
    Now(Interval),
    /// No interval is due yet.
    Later,
}

impl Pipelines {
    /// Returns the names of the pipelines that have a schedule.
    pub fn scheduled(&self) -> Vec<String> {
        let definitions = self.context.definitions();
        let pipelines = definitions.pipelines.iter();
        pipelines
            .filter(|(_, pipeline)| pipeline.schedule.is_some())
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Runs the next interval of a pipeline that is due, unless none is due or another host runs
    /// the pipeline. A run that fails is recorded, and repeated later.
    ///
    /// # Errors
    /// Returns the errors of the stores. Errors of the run itself are in its record only.
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
        // The schedule is looked at again, because another host may have run the interval before
        // the lease was acquired.
        let due = self
            .due(pipeline, &definition, schedule, &ticks, true)
            .await;
        let result = match due {
            Ok(Due::Now(interval)) => {
                let started = self.context.now();
                let run = self.run_interval(pipeline, schedule, interval).await;
                match &run {
                    Ok(Some(record)) if record.state == RunState::Succeeded => {
                        let again = self.rerun_changed(pipeline, schedule, &ticks).await;
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

    /// Returns the next interval of a pipeline's schedule that is due. The caller must hold the
    /// lease of the pipeline.
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

    /// Prepares a run by the schedule.
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
            .job(
                &self.context.definitions(),
                &request,
                None,
                OnlineUpdate::AfterRun,
            )
            .await?;
        job.time_limit = schedule.time_limit;
        job.is_scheduled = true;
        Ok(job)
    }

    /// Runs finished intervals of a chained pipeline again in which the upstream table gained or
    /// lost rows since the last look, for example because of a backfill of that group.
    async fn rerun_changed(
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
        // Failed runs are included, because they have not read the later changes either.
        let runs = self.claims(&job.target.table.name).await?;
        let seen = runs.iter().filter_map(|run| {
            let read = run.upstream?;
            Some((run.interval, read.version.max(state.upstream.unwrap_or(0))))
        });
        let seen: Vec<(Interval, u64)> = seen.collect();
        let oldest = seen.iter().map(|(_, seen)| *seen).min();
        let changes = self.upstream_changes(snapshot, oldest).await?;
        for (interval, seen) in seen {
            if changes.has_changes(seen, interval) && !state.again.contains(&interval) {
                state.again.push(interval);
            }
        }
        job.caught_up_to = state.upstream;
        // The intervals are recorded before they are run, so that they are run even if this
        // process is interrupted.
        let previous = state.upstream.replace(changes.version());
        if state.again.is_empty() && previous == state.upstream {
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

    /// Runs an interval, and records a failed attempt if it fails.
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
            Ok(mut runs) => return Ok(runs.pop().map(|run| run.record)),
            Err(error) => error,
        };
        tracing::warn!(
            "scheduled run of `{pipeline}` over {interval} failed: {}",
            error.chain()
        );
        self.record_failed_attempt(pipeline, interval, started, &error)
            .await
            .map(Some)
    }

    /// Records a failed attempt that began at `started`, even if it failed before the interval
    /// was claimed, for example because the source is missing.
    pub(crate) async fn record_failed_attempt(
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

    /// Returns the interval that is due, and advances the state of the schedule past intervals
    /// that are done, given up or skipped. `is_claimed` says that this process holds the lease
    /// of the pipeline, so that a run that is recorded as running must have died.
    async fn due(
        &self,
        pipeline: &str,
        definition: &PipelineDef,
        schedule: &ScheduleDef,
        ticks: &Ticks,
        is_claimed: bool,
    ) -> Result<Due> {
        let (mut state, version) = self.schedule_state(pipeline, ticks).await?;
        let before = state.clone();
        if state.paused {
            return Ok(Due::Later);
        }
        let table = self.context.definitions().groups[&definition.group].table();
        let ready = self.context.now().minus(schedule.start_after);
        let mut ends = self.pending(&table, ticks, ready, &mut state).await?;
        skip_missed(&mut ends, schedule.catch_up as usize, &mut state);
        let mut due = Due::Later;
        for end in ends {
            let interval = interval_to(end, ticks);
            let record = self.claimed(&table, interval).await?;
            let now = self.context.machine_now();
            match verdict(record.as_ref(), schedule, is_claimed, now) {
                Verdict::Done => {}
                Verdict::GivenUp => {
                    state.failed += 1;
                    self.record_death(record).await?;
                }
                Verdict::Run => {
                    due = Due::Now(interval);
                    break;
                }
                Verdict::Wait => break,
            }
            state.done = end;
        }
        if state != before {
            self.put_schedule_state(pipeline, &state, version).await?;
        }
        Ok(due)
    }

    /// Returns the ends of the intervals up to `ready` that are not done, and advances the state
    /// past the first ones that are: these do not count as skipped.
    async fn pending(
        &self,
        table: &str,
        ticks: &Ticks,
        ready: Timestamp,
        state: &mut ScheduleState,
    ) -> Result<Vec<Timestamp>> {
        let mut ends = Vec::new();
        let mut end = ticks.after(state.done);
        while let Some(time) = end.filter(|time| *time <= ready) {
            ends.push(time);
            end = ticks.after(time);
        }
        let mut done = 0;
        for end in &ends {
            match self.claimed(table, interval_to(*end, ticks)).await? {
                Some(record) if record.state == RunState::Succeeded => done += 1,
                _ => break,
            }
            state.done = *end;
        }
        ends.drain(..done);
        Ok(ends)
    }

    /// Records a run that is given up as failed, if every process that ran it died.
    async fn record_death(&self, record: Option<RunRecord>) -> Result<()> {
        let Some(record) = record.filter(|record| record.state == RunState::Running) else {
            return Ok(());
        };
        let error = "every process that ran it ended before the run was finished".to_owned();
        let mut record = RunRecord {
            state: RunState::Failed,
            error: Some(error),
            finished: Some(self.context.machine_now()),
            ..record
        };
        self.save(&mut record).await
    }

    /// With `overlap = "skip"`, skips the intervals that became due while the run that began at
    /// `started` was under way.
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
        let ready = self.context.now().minus(schedule.start_after);
        let mut end = ticks.after(started.minus(schedule.start_after));
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

    /// Returns the name of the object that holds the state of a schedule.
    fn schedule_name(&self, pipeline: &str) -> String {
        format!("{}/schedule/{pipeline}", self.context.project())
    }

    /// Reads the state of a schedule, with the condition for writing it. A schedule without a
    /// state begins now.
    async fn schedule_state(
        &self,
        pipeline: &str,
        ticks: &Ticks,
    ) -> Result<(ScheduleState, Expect)> {
        let name = self.schedule_name(pipeline);
        let Some(stored) = self.context.components().stores.metadata.get(&name).await? else {
            let now = self.context.now();
            let state = ScheduleState {
                done: ticks.before(now.plus(Duration::MICROSECOND)).unwrap_or(now),
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
        let state = read(&name, &stored.value)?;
        Ok((state, Expect::Version(stored.version)))
    }

    /// Writes the state of a schedule. If another process wrote it in the meantime, this state
    /// is dropped, and the next look at the schedule continues from the other one.
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
            .stores
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
    /// Returns [`Kind::NotFound`] for an unknown pipeline, [`Kind::Invalid`] for a pipeline
    /// without a schedule, and the errors of the metadata store.
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

    /// Returns the schedule of a pipeline and the times of its cron expression.
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

    /// Returns all schedules with their states.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
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

/// Returns the interval of a schedule that ends at a time.
fn interval_to(end: Timestamp, ticks: &Ticks) -> Interval {
    Interval {
        from: ticks.before(end).unwrap_or(end),
        to: end,
    }
}

/// Skips the oldest intervals beyond the number that a schedule catches up on.
fn skip_missed(ends: &mut Vec<Timestamp>, catch_up: usize, state: &mut ScheduleState) {
    let missed = ends.len().saturating_sub(catch_up);
    if missed > 0 {
        state.skipped += missed as u64;
        state.done = ends[missed - 1];
        ends.drain(..missed);
    }
}

/// Returns what is to be done about an interval, by the record of its last run. `is_claimed` says
/// that nobody runs it, whatever the record says; `now` is the machine's time.
fn verdict(
    record: Option<&RunRecord>,
    schedule: &ScheduleDef,
    is_claimed: bool,
    now: Timestamp,
) -> Verdict {
    let Some(record) = record else {
        return Verdict::Run;
    };
    let is_last = record.attempts > schedule.retries;
    match record.state {
        RunState::Succeeded => Verdict::Done,
        RunState::Failed if is_last => Verdict::GivenUp,
        RunState::Failed if now < retry_time(record, schedule) => Verdict::Wait,
        // Every process that ran the interval died.
        RunState::Running if is_claimed && is_last => Verdict::GivenUp,
        RunState::Failed | RunState::Running => Verdict::Run,
    }
}

/// Returns when a failed run may be retried, by the machine's clock: the pause after its last
/// attempt doubles with each attempt.
fn retry_time(record: &RunRecord, schedule: &ScheduleDef) -> Timestamp {
    let doubled = 1i64 << record.attempts.saturating_sub(1).min(20);
    let failed = record.finished.unwrap_or(record.started);
    failed.plus(schedule.backoff.times(doubled))
}

/// Makes the status of a schedule from its state.
fn status(
    pipeline: &str,
    schedule: ScheduleDef,
    state: ScheduleState,
    ticks: &Ticks,
) -> ScheduleStatus {
    let next = ticks.after(state.done).filter(|_| !state.paused);
    ScheduleStatus {
        pipeline: pipeline.to_owned(),
        next: next.map(|end| end.plus(schedule.start_after)),
        schedule,
        state,
    }
}

#[cfg(test)]
mod tests {
    use wafer_core::{Digest, Duration};

    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    /// Returns a schedule with two retries, and pauses of 10, 20, … microseconds before them.
    fn schedule() -> ScheduleDef {
        ScheduleDef {
            cron: "0 * * * *".to_owned(),
            timezone: "UTC".to_owned(),
            delay: Duration::ZERO,
            start_after: Duration::ZERO,
            catch_up: 10,
            overlap: Overlap::Wait,
            retries: 2,
            backoff: Duration::from_micros(10),
            time_limit: None,
        }
    }

    fn record(state: RunState, attempts: u32) -> RunRecord {
        let interval = Interval {
            from: at(0),
            to: at(1),
        };
        RunRecord {
            state,
            attempts,
            finished: (state != RunState::Running).then(|| at(100)),
            ..RunRecord::new("p", "t", interval, Digest::of(&[]), at(50), at(50))
        }
    }

    #[test]
    fn interval_is_run_retried_after_a_pause_and_given_up() {
        use RunState::{Failed, Running, Succeeded};
        for (last, is_claimed, now, wanted) in [
            (None, false, 0, Verdict::Run),
            (Some((Succeeded, 1)), false, 100, Verdict::Done),
            (Some((Failed, 1)), false, 109, Verdict::Wait),
            (Some((Failed, 1)), false, 110, Verdict::Run),
            // The pause doubles.
            (Some((Failed, 2)), false, 119, Verdict::Wait),
            (Some((Failed, 2)), false, 120, Verdict::Run),
            (Some((Failed, 3)), false, 1_000, Verdict::GivenUp),
            // Another process may still run it.
            (Some((Running, 3)), false, 1_000, Verdict::Run),
            (Some((Running, 2)), true, 1_000, Verdict::Run),
            (Some((Running, 3)), true, 1_000, Verdict::GivenUp),
        ] {
            let record = last.map(|(state, attempts)| record(state, attempts));
            let found = verdict(record.as_ref(), &schedule(), is_claimed, at(now));
            assert_eq!(found, wanted, "{last:?} {is_claimed} at {now}");
        }
    }

    #[test]
    fn oldest_intervals_beyond_the_catch_up_are_skipped() {
        let mut state = ScheduleState {
            done: at(0),
            paused: false,
            skipped: 1,
            failed: 0,
            upstream: None,
            again: Vec::new(),
        };
        let mut ends = vec![at(1), at(2), at(3)];
        skip_missed(&mut ends, 3, &mut state);
        assert_eq!((ends.len(), state.skipped, state.done), (3, 1, at(0)));
        skip_missed(&mut ends, 1, &mut state);
        assert_eq!((ends, state.skipped, state.done), (vec![at(3)], 3, at(2)));
    }
}
