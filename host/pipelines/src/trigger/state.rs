//! The schedules of pipelines, and the state that is stored of each: what the triggers of the
//! pipeline know from one call to the next.
//!
//! The state of a schedule is one object in the metadata store, written under its version.

use serde::{Deserialize, Serialize};
use wafer_catalog::{Context, Definitions, ScheduleDef, Ticks, get};
use wafer_core::rules::Interval;
use wafer_core::{Duration, Timestamp};
use wafer_store::{Error, Expect, Kind, Result};

use crate::run::job::{Job, OnlineUpdate};
use crate::run::{RunRequest, Runs};
use crate::trigger::Triggers;

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

impl ScheduleState {
    /// Returns the state of a schedule whose intervals are done up to a time.
    pub(super) fn done_until(done: Timestamp) -> Self {
        Self {
            done,
            paused: false,
            skipped: 0,
            failed: 0,
            upstream: None,
            again: Vec::new(),
        }
    }
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

/// The schedule of a pipeline, with the times of its cron expression.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    /// The name of the pipeline.
    pub(super) pipeline: String,
    /// The definition of the schedule.
    pub(super) definition: ScheduleDef,
    /// The times of the cron expression.
    pub(super) ticks: Ticks,
}

impl Schedule {
    /// Reads the cron expression of a pipeline's schedule.
    pub(super) fn new(pipeline: &str, definition: &ScheduleDef) -> Result<Self> {
        Ok(Self {
            pipeline: pipeline.to_owned(),
            ticks: Ticks::new(definition).map_err(Error::invalid)?,
            definition: definition.clone(),
        })
    }

    /// Returns the schedule of a pipeline.
    pub(super) fn of(definitions: &Definitions, pipeline: &str) -> Result<Self> {
        let definition = get(&definitions.pipelines, pipeline, "pipeline")?;
        let schedule = definition.schedule.as_ref();
        let schedule = schedule
            .ok_or_else(|| Error::invalid(format!("pipeline `{pipeline}` has no `schedule`")))?;
        Self::new(pipeline, schedule)
    }

    /// Returns the interval that ends at a time.
    pub(super) fn interval_to(&self, end: Timestamp) -> Interval {
        Interval {
            from: self.ticks.before(end).unwrap_or(end),
            to: end,
        }
    }

    /// Prepares a run by the schedule.
    pub(super) async fn job(&self, runs: &Runs, interval: Interval) -> Result<Job> {
        let request = RunRequest {
            pipeline: self.pipeline.clone(),
            interval,
            workers: 1,
            archive: false,
        };
        let definitions = runs.context.definitions();
        let job = runs
            .jobs
            .job(&definitions, &request, None, OnlineUpdate::AfterRun);
        let mut job = job.await?;
        job.time_limit = self.definition.time_limit;
        job.is_scheduled = true;
        Ok(job)
    }

    /// Returns the name of the object that holds the state.
    fn object(&self) -> String {
        format!("schedule/{}", self.pipeline)
    }

    /// Reads the state, with the condition for writing it. A schedule without a state begins
    /// now.
    pub(super) async fn state(&self, context: &Context) -> Result<(ScheduleState, Expect)> {
        if let Some((state, version)) = context.object(&self.object()).await? {
            return Ok((state, Expect::Version(version)));
        }
        let now = context.now();
        let last = self.ticks.before(now.plus(Duration::MICROSECOND));
        let state = ScheduleState::done_until(last.unwrap_or(now));
        self.put_state(context, &state, Expect::Absent).await?;
        Ok((state, Expect::Version(1)))
    }

    /// Writes the state. If another process wrote it in the meantime, this state is dropped, and
    /// the next call for the schedule continues from the other one.
    pub(super) async fn put_state(
        &self,
        context: &Context,
        state: &ScheduleState,
        expect: Expect,
    ) -> Result<()> {
        let name = self.object();
        match context.put_object(&name, state, expect).await {
            Err(e) if e.kind() == Kind::Conflict => Ok(()),
            other => other.map(drop),
        }
    }

    /// Makes the status from the state.
    fn status(self, state: ScheduleState) -> ScheduleStatus {
        let next = self.ticks.after(state.done).filter(|_| !state.paused);
        ScheduleStatus {
            pipeline: self.pipeline,
            next: next.map(|end| end.plus(self.definition.start_after)),
            schedule: self.definition,
            state,
        }
    }
}

impl Triggers {
    /// Returns the names of the pipelines that have a schedule.
    pub fn scheduled(&self) -> Vec<String> {
        let definitions = self.context.definitions();
        let pipelines = definitions.pipelines.iter();
        pipelines
            .filter(|(_, pipeline)| pipeline.schedule.is_some())
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Returns all schedules with their states.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn schedules(&self) -> Result<Vec<ScheduleStatus>> {
        let mut all = Vec::new();
        let definitions = self.context.definitions();
        for pipeline in self.scheduled() {
            let schedule = Schedule::of(&definitions, &pipeline)?;
            let (state, _) = schedule.state(&self.context).await?;
            all.push(schedule.status(state));
        }
        Ok(all)
    }

    /// Pauses a schedule: none of its intervals is run until it is resumed.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] for an unknown pipeline, [`Kind::Invalid`] for a pipeline
    /// without a schedule, and the errors of the metadata store.
    pub async fn pause_schedule(&self, pipeline: &str) -> Result<ScheduleStatus> {
        self.set_paused(pipeline, true).await
    }

    /// Resumes a paused schedule.
    ///
    /// # Errors
    /// Returns the errors of [`pause_schedule`](Self::pause_schedule).
    pub async fn resume_schedule(&self, pipeline: &str) -> Result<ScheduleStatus> {
        self.set_paused(pipeline, false).await
    }

    async fn set_paused(&self, pipeline: &str, paused: bool) -> Result<ScheduleStatus> {
        let schedule = Schedule::of(&self.context.definitions(), pipeline)?;
        loop {
            let (mut state, version) = schedule.state(&self.context).await?;
            if state.paused == paused {
                return Ok(schedule.status(state));
            }
            state.paused = paused;
            schedule.put_state(&self.context, &state, version).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The object is in stores on disk.
    #[test]
    fn stored_state_keeps_its_bytes() {
        let stored = r#"{"done":"2020-01-03T00:00:00Z","paused":false,"skipped":2,"failed":1,"upstream":7,"again":[{"from":"2020-01-01T00:00:00Z","to":"2020-01-02T00:00:00Z"}]}"#;
        let day = |day: &str| Timestamp::parse_argument(day).unwrap();
        let state = ScheduleState {
            done: day("2020-01-03"),
            paused: false,
            skipped: 2,
            failed: 1,
            upstream: Some(7),
            again: vec![Interval {
                from: day("2020-01-01"),
                to: day("2020-01-02"),
            }],
        };
        assert_eq!(serde_json::to_string(&state).unwrap(), stored);
        let read: ScheduleState = serde_json::from_str(stored).unwrap();
        assert_eq!(read, state);
    }
}
