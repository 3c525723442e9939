//! Triggers: what makes a pipeline run without being asked.
//!
//! The definition of a pipeline decides which triggers it has ([`triggers`]). The background of a
//! server and the ticks of Lambda call [`Triggers::run_due`] (`run.rs`) again and again for each
//! pipeline that has any. It asks the triggers for the intervals that are due, acquires the lease
//! of the pipeline, asks them again, and runs what is due. Every host does so, and the lease lets
//! one of them run an interval, and another one take over if it fails.
//!
//! There are two triggers: the times of a cron expression (`schedule.rs`), and the changes in the
//! table that a chained pipeline reads (`upstream.rs`). What they know from one call to the next
//! is one object in the metadata store (`state.rs`).

mod run;
pub(crate) mod schedule;
pub(crate) mod state;
mod upstream;

use std::sync::Arc;

use async_trait::async_trait;
use wafer_catalog::{Context, Definitions, RunRecord, get};
use wafer_core::Timestamp;
use wafer_core::rules::Interval;
use wafer_store::Result;

use crate::run::Runs;
use crate::run::job::Job;
use crate::trigger::schedule::ScheduleTrigger;
use crate::trigger::state::Schedule;
use crate::trigger::upstream::UpstreamTrigger;

/// Something that makes a pipeline run without being asked.
///
/// A trigger lives for one call of [`Triggers::run_due`]. Whatever it has to know at the next
/// one is in a store, because another process may make that call.
#[async_trait]
pub(crate) trait Trigger: Send + Sync {
    /// Returns the name of the trigger for logs.
    fn name(&self) -> &'static str;

    /// Returns the intervals that are due now, in the order in which they are to be run. Under
    /// the lease, whatever must not be forgotten if this process ends is stored before this
    /// returns.
    async fn due(&mut self, runs: &Runs, check: DueCheck<'_>) -> Result<Vec<Interval>>;

    /// Prepares the run over an interval that [`due`](Self::due) returned under the lease.
    async fn job(&self, runs: &Runs, interval: Interval) -> Result<Arc<Job>>;

    /// Takes note of how a run ended, right after it, and stores what follows from that. Returns
    /// the record of the run. An error ends the call, and nothing else that is due is run in it.
    async fn ended(&mut self, runs: &Runs, run: EndedRun) -> Result<RunRecord>;

    /// Ends the call, once and after the last run of any trigger, while the lease is still held,
    /// even if a trigger returned an error.
    async fn finish(&mut self, _runs: &Runs) -> Result<()> {
        Ok(())
    }
}

/// The moment at which a trigger is asked what is due.
#[derive(Clone, Copy, Debug)]
pub(crate) enum DueCheck<'a> {
    /// The lease of the pipeline is not acquired yet: the answer decides only whether it is worth
    /// acquiring. Another process may be running the pipeline.
    BeforeLease,
    /// This process holds the lease, so a run that is recorded as running must have died.
    WithLease {
        /// The first run that this call has made for the triggers before this one.
        ran: Option<&'a RunRecord>,
    },
}

/// A run over a due interval that has ended.
#[derive(Debug)]
pub(crate) struct EndedRun {
    /// The interval.
    pub(crate) interval: Interval,
    /// When the run began, by the platform's clock.
    pub(crate) began: Timestamp,
    /// When the run began, by the machine's clock.
    pub(crate) machine_began: Timestamp,
    /// The record of the run, or why it failed. A failure may have happened before the run was
    /// claimed, for example because the source is missing.
    pub(crate) result: Result<RunRecord>,
}

/// Runs pipelines when their triggers say so, and keeps their schedules.
#[derive(Debug)]
pub struct Triggers {
    context: Arc<Context>,
    runs: Arc<Runs>,
}

impl Triggers {
    pub(crate) fn new(context: Arc<Context>, runs: Arc<Runs>) -> Self {
        Self { context, runs }
    }

    /// Returns the names of the pipelines that have a trigger, which
    /// [`run_due`](Self::run_due) has to be called for.
    pub fn triggered(&self) -> Vec<String> {
        let definitions = self.context.definitions();
        // A pipeline whose definition is wrong is included, so that its run reports the error.
        let has_triggers = |name: &&String| !matches!(triggers(&definitions, name), Ok(triggers) if triggers.is_empty());
        let names = definitions.pipelines.keys();
        names.filter(has_triggers).cloned().collect()
    }
}

/// Returns the triggers of a pipeline, in the order in which they are asked.
fn triggers(definitions: &Definitions, pipeline: &str) -> Result<Vec<Box<dyn Trigger>>> {
    let definition = get(&definitions.pipelines, pipeline, "pipeline")?;
    let mut triggers: Vec<Box<dyn Trigger>> = Vec::new();
    if let Some(schedule) = &definition.schedule {
        let schedule = Schedule::new(pipeline, schedule)?;
        let table = definitions.groups[&definition.group].table();
        triggers.push(Box::new(ScheduleTrigger::new(schedule.clone(), table)));
        let source = &definitions.sources[&definition.source];
        if source.kind.upstream().is_some() {
            // It repeats intervals only after a run of the schedule, so it comes second.
            triggers.push(Box::new(UpstreamTrigger::new(schedule)));
        }
    }
    Ok(triggers)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    /// Returns definitions with a pipeline `p` over a source of a kind.
    fn definitions(kind: &Json, schedule: &Json) -> Definitions {
        let sources = json!({"s": {
            "kind": kind, "files": null, "format": null, "delay": 0, "skew": 0, "doc": "",
        }});
        let groups = json!({"g": {
            "name": "g", "version": 1, "entity": "e", "keys": [], "event_time": "t",
            "columns": [], "ttl": null, "doc": "",
        }});
        let pipelines = json!({"p": {
            "source": "s", "function": "f", "group": "g", "schedule": schedule, "doc": "",
        }});
        Definitions {
            sources: serde_json::from_value(sources).unwrap(),
            groups: serde_json::from_value(groups).unwrap(),
            pipelines: serde_json::from_value(pipelines).unwrap(),
            ..Definitions::default()
        }
    }

    #[test]
    fn definition_of_a_pipeline_decides_which_triggers_it_has() {
        let schedule = |cron: &str| {
            json!({
                "cron": cron, "timezone": "UTC", "delay": 0, "start_after": 0, "catch_up": 1,
                "overlap": "wait", "retries": 0, "backoff": 0, "time_limit": null,
            })
        };
        let (files, table) = (json!("files"), json!({"table": {"group": "g"}}));
        for (kind, schedule, wanted) in [
            (&files, Json::Null, Some(vec![])),
            (&table, Json::Null, Some(vec![])),
            (&files, schedule("0 * * * *"), Some(vec!["schedule"])),
            (
                &table,
                schedule("0 * * * *"),
                Some(vec!["schedule", "upstream"]),
            ),
            (&files, schedule("never"), None),
        ] {
            let found = triggers(&definitions(kind, &schedule), "p");
            let names = |triggers: Vec<Box<dyn Trigger>>| -> Vec<_> {
                triggers.iter().map(|trigger| trigger.name()).collect()
            };
            assert_eq!(found.ok().map(names), wanted, "{kind} {schedule}");
        }
        let other = triggers(&definitions(&files, &Json::Null), "q");
        assert!(other.is_err_and(|e| e.to_string().contains("`q`")));
    }
}
