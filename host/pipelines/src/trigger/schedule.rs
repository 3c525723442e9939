//! The schedule trigger: decides which intervals of a pipeline are due by the clock.
//!
//! The times of a cron expression are the ends of the data intervals of a pipeline with a
//! `schedule`. An interval is due `start_after` after its end. Its rows count as visible from its
//! end plus `delay`, whether the run is scheduled or manual. A scheduled run that succeeds later
//! than that is marked `overran`. A run that fails is retried after a pause, and given up after the
//! last retry.

use std::sync::Arc;

use async_trait::async_trait;
use wafer_catalog::{Overlap, RunRecord, RunState, ScheduleDef, get};
use wafer_core::Timestamp;
use wafer_core::rules::Interval;
use wafer_store::Result;

use crate::run::Runs;
use crate::run::job::Job;
use crate::trigger::state::{Schedule, ScheduleState};
use crate::trigger::{DueCheck, EndedRun, Trigger};

/// The schedule trigger of a pipeline.
pub(super) struct ScheduleTrigger {
    schedule: Schedule,
    /// The table that the pipeline writes.
    table: String,
    /// When the scheduled run of this call began, by the platform's clock, if it succeeded.
    succeeded_run_began: Option<Timestamp>,
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

impl ScheduleTrigger {
    /// Creates the trigger of a pipeline that writes `table`.
    pub(super) fn new(schedule: Schedule, table: String) -> Self {
        Self {
            schedule,
            table,
            succeeded_run_began: None,
        }
    }
}

#[async_trait]
impl Trigger for ScheduleTrigger {
    fn name(&self) -> &'static str {
        "schedule"
    }

    /// Returns at most one interval, and advances the state of the schedule past intervals that
    /// are done, given up or skipped.
    async fn due(&mut self, runs: &Runs, check: DueCheck<'_>) -> Result<Vec<Interval>> {
        let schedule = &self.schedule;
        let holds_lease = matches!(check, DueCheck::WithLease { .. });
        let (mut state, version) = schedule.state(&runs.context).await?;
        let before = state.clone();
        if state.paused {
            return Ok(Vec::new());
        }
        let mut ends = self.pending(runs, &mut state).await?;
        let catch_up = schedule.definition.catch_up as usize;
        skip_missed(&mut ends, catch_up, &mut state);
        let mut due = Vec::new();
        for end in ends {
            let interval = schedule.interval_to(end);
            let record = runs.records.claim_over(&self.table, interval).await?;
            let now = runs.context.machine_now();
            match verdict(record.as_ref(), &schedule.definition, holds_lease, now) {
                Verdict::Done => {}
                Verdict::GivenUp => {
                    state.failed += 1;
                    runs.records.record_death(record).await?;
                }
                Verdict::Run => {
                    due.push(interval);
                    break;
                }
                Verdict::Wait => break,
            }
            state.done = end;
        }
        if state != before {
            schedule.put_state(&runs.context, &state, version).await?;
        }
        Ok(due)
    }

    async fn job(&self, runs: &Runs, interval: Interval) -> Result<Arc<Job>> {
        self.schedule.job(runs, interval).await.map(Arc::new)
    }

    /// Records a failed attempt if the run failed.
    async fn ended(&mut self, runs: &Runs, run: EndedRun) -> Result<RunRecord> {
        let pipeline = &self.schedule.pipeline;
        let record = match run.result {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(
                    "scheduled run of `{pipeline}` over {} failed: {}",
                    run.interval,
                    error.chain()
                );
                runs.records
                    .record_failed_attempt(pipeline, run.interval, run.machine_began, &error)
                    .await?
            }
        };
        self.succeeded_run_began = (record.state == RunState::Succeeded).then_some(run.began);
        Ok(record)
    }

    /// With `overlap = "skip"`, skips the intervals that became due during this call: during the
    /// scheduled run and the runs of the other triggers after it.
    async fn finish(&mut self, runs: &Runs) -> Result<()> {
        let schedule = &self.schedule;
        let began = match (schedule.definition.overlap, self.succeeded_run_began) {
            (Overlap::Skip, Some(began)) => began,
            _ => return Ok(()),
        };
        let (mut state, version) = schedule.state(&runs.context).await?;
        let before = state.clone();
        skip_overlapped(schedule, began, runs.context.now(), &mut state);
        if state != before {
            schedule.put_state(&runs.context, &state, version).await?;
        }
        Ok(())
    }
}

impl ScheduleTrigger {
    /// Returns the ends of the intervals that are due, from the first one that has not succeeded.
    /// Advances the state past the intervals before it, so that they do not count as skipped.
    async fn pending(&self, runs: &Runs, state: &mut ScheduleState) -> Result<Vec<Timestamp>> {
        let schedule = &self.schedule;
        let now = runs.context.now();
        let ready = now.minus(schedule.definition.start_after);
        let mut ends = Vec::new();
        let mut end = schedule.ticks.after(state.done);
        while let Some(time) = end.filter(|time| *time <= ready) {
            ends.push(time);
            end = schedule.ticks.after(time);
        }
        let mut done = 0;
        for end in &ends {
            let interval = schedule.interval_to(*end);
            match runs.records.claim_over(&self.table, interval).await? {
                Some(record) if record.state == RunState::Succeeded => done += 1,
                _ => break,
            }
            state.done = *end;
        }
        ends.drain(..done);
        Ok(ends)
    }
}

/// Returns the next due interval of a pipeline's schedule, with the definition of the schedule.
/// The caller must hold the lease of the pipeline.
pub(crate) async fn next_due(
    runs: &Runs,
    pipeline: &str,
) -> Result<Option<(Interval, ScheduleDef)>> {
    let definitions = runs.context.definitions();
    let schedule = Schedule::of(&definitions, pipeline)?;
    let definition = schedule.definition.clone();
    let group = &get(&definitions.pipelines, pipeline, "pipeline")?.group;
    let table = definitions.groups[group].table();
    let mut trigger = ScheduleTrigger::new(schedule, table);
    let due = trigger.due(runs, DueCheck::WithLease { ran: None }).await?;
    Ok(due.first().map(|interval| (*interval, definition)))
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

/// Skips the intervals that became due between the time at which a run began and the present.
fn skip_overlapped(
    schedule: &Schedule,
    began: Timestamp,
    now: Timestamp,
    state: &mut ScheduleState,
) {
    let start_after = schedule.definition.start_after;
    let ready = now.minus(start_after);
    let mut end = schedule.ticks.after(began.minus(start_after));
    while let Some(time) = end.filter(|time| *time <= ready) {
        if time > state.done {
            state.done = time;
            state.skipped += 1;
        }
        end = schedule.ticks.after(time);
    }
}

/// Decides what to do about an interval from the record of its last run. `holds_lease` is whether
/// this process holds the pipeline's lease, in which case no other process can be running the
/// interval. `now` is the machine's time.
fn verdict(
    record: Option<&RunRecord>,
    schedule: &ScheduleDef,
    holds_lease: bool,
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
        RunState::Running if holds_lease && is_last => Verdict::GivenUp,
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
        for (last, holds_lease, now, wanted) in [
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
            let found = verdict(record.as_ref(), &schedule(), holds_lease, at(now));
            assert_eq!(found, wanted, "{last:?} {holds_lease} at {now}");
        }
    }

    #[test]
    fn oldest_intervals_beyond_the_catch_up_are_skipped() {
        let mut state = ScheduleState {
            skipped: 1,
            ..ScheduleState::done_until(at(0))
        };
        let mut ends = vec![at(1), at(2), at(3)];
        skip_missed(&mut ends, 3, &mut state);
        assert_eq!((ends.len(), state.skipped, state.done), (3, 1, at(0)));
        skip_missed(&mut ends, 1, &mut state);
        assert_eq!((ends, state.skipped, state.done), (vec![at(3)], 3, at(2)));
    }

    #[test]
    fn intervals_that_became_due_during_a_run_are_skipped() {
        let minutes = |minutes: i64| at(minutes * 60_000_000);
        let schedule = Schedule::new(
            "p",
            &ScheduleDef {
                start_after: Duration::from_secs(600),
                ..schedule()
            },
        );
        let schedule = schedule.unwrap();
        // The intervals are due ten minutes after each full hour.
        for (done, began, now, wanted) in [
            (60, 70, 129, (60, 0)),
            (60, 70, 130, (120, 1)),
            (60, 70, 200, (180, 2)),
            // An interval that was due before the run began is not skipped.
            (60, 135, 189, (60, 0)),
            // Another process has done one of them.
            (120, 70, 200, (180, 1)),
        ] {
            let mut state = ScheduleState::done_until(minutes(done));
            skip_overlapped(&schedule, minutes(began), minutes(now), &mut state);
            let wanted = (minutes(wanted.0), wanted.1);
            assert_eq!((state.done, state.skipped), wanted, "{began} to {now}");
        }
    }
}
