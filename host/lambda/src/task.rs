//! Tasks, which schedules, state machines and operators send.
//!
//! A run that many invocations work on goes through these tasks: `plan`, then `partition` for each
//! partition, then `commit`, then `online` for each partition that `commit` returns, then `finish`.
//! If one of them fails for good, `fail` ends the run. Each task may be sent again, because an
//! answer can get lost. Between the tasks no process stays with the run: its lease is held in the
//! run's own name, and each task renews it.

use serde::Deserialize;
use serde_json::{Value as Json, json};
use wafer_core::rules::Interval;
use wafer_core::{Duration, Timestamp};
use wafer_platform::{Background, DistributedRun, Division, Kind, Platform, RunRecord};

use crate::failure::InvocationFailure;
use crate::metrics::write_outbox_age;

/// The time that must be left of an invocation to look for another due run.
const TIME_LEFT: Duration = Duration::from_mins(1);

/// The event of a task, such as `{"wafer": {"flush": {}}}`.
#[derive(Debug, Deserialize)]
pub(crate) struct TaskEvent {
    pub(crate) wafer: WaferTask,
}

/// A task.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum WaferTask {
    /// Flush the outbox. The flush ends after a commit if others begin to wait for it, so that the
    /// answer may have both rows and `busy`.
    Flush {},
    /// Run what is due by the triggers of a pipeline. Without a pipeline, flush the outbox, tell
    /// its age, and then run what is due by the triggers of all pipelines.
    Tick {
        pipeline: Option<String>,
        /// Pipelines to skip, because other invocations run them.
        #[serde(default)]
        except: Vec<String>,
    },
    /// Start a run over an interval, or over the next interval that is due, and return its
    /// partitions.
    Plan {
        pipeline: String,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
        /// Size of the source files in a partition, in bytes.
        partition_bytes: Option<u64>,
        /// Name of the execution that sends the task. If it sends the task again, because the
        /// answer was lost, it gets the same run.
        execution: Option<String>,
    },
    /// Transform a partition and write its files.
    Partition { run: RunName, partition: usize },
    /// Commit the files of all partitions to the table, and return the partitions with rows for the
    /// online store.
    Commit { run: RunName },
    /// Write the rows of a partition to the online store.
    Online { run: RunName, partition: usize },
    /// End a run, and return its record.
    Finish { run: RunName },
    /// End a run that failed, and return its first error.
    Fail { run: RunName, error: Json },
}

/// Identifies a run that `plan` returned.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunName {
    pipeline: String,
    key: String,
}

impl WaferTask {
    /// Performs the task, and returns its answer. `deadline` is the end of the invocation.
    ///
    /// # Errors
    /// Returns an error when the task fails; its kind decides whether a state machine tries again.
    pub(crate) async fn perform(
        self,
        platform: &Platform,
        background: &Background,
        deadline: Timestamp,
    ) -> Result<Json, InvocationFailure> {
        match self {
            Self::Flush {} => {
                let report = platform.tables().flush().await?;
                Ok(json!({"rows": report.rows, "busy": report.busy}))
            }
            Self::Tick { pipeline, except } => {
                let mut pipelines = pipelines_of_tick(platform, pipeline).await?;
                pipelines.retain(|pipeline| !except.contains(pipeline));
                let until = deadline.minus(TIME_LEFT);
                let ran = background.run_due(&pipelines, until).await?;
                Ok(json!({"ran": ran}))
            }
            Self::Plan {
                pipeline,
                from,
                to,
                partition_bytes,
                execution,
            } => {
                let division = Division {
                    bytes: partition_bytes.unwrap_or(Division::default().bytes),
                    ..Division::default()
                };
                plan(platform, &pipeline, (from, to), division, execution).await
            }
            Self::Partition { run, partition } => {
                let run = open_and_renew(platform, &run).await?;
                platform
                    .pipelines()
                    .distributed_runs()
                    .run_partition(&run, partition)
                    .await?;
                Ok(json!({"partition": partition}))
            }
            Self::Commit { run } => {
                let run = open_and_renew(platform, &run).await?;
                let partitions = platform
                    .pipelines()
                    .distributed_runs()
                    .commit_distributed(&run)
                    .await?;
                Ok(json!({"partitions": partitions}))
            }
            Self::Online { run, partition } => {
                let run = open_and_renew(platform, &run).await?;
                platform
                    .pipelines()
                    .distributed_runs()
                    .put_partition_online(&run, partition)
                    .await?;
                Ok(json!({"partition": partition}))
            }
            Self::Finish { run } => {
                let ran = finish(platform, &run).await?;
                Ok(json!({"ran": ran}))
            }
            Self::Fail { run, error } => {
                let runs = platform.pipelines().distributed_runs();
                let run = runs.distributed(&run.pipeline, &run.key).await?;
                let error = runs.fail_distributed(&run, &reason(&error)).await?;
                Ok(json!({"failed": run.key(), "error": error}))
            }
        }
    }
}

/// Returns the pipelines whose triggers a tick asks. Without a pipeline, flushes the outbox and
/// tells its age before, and returns all that have triggers.
async fn pipelines_of_tick(
    platform: &Platform,
    pipeline: Option<String>,
) -> Result<Vec<String>, InvocationFailure> {
    if let Some(pipeline) = pipeline {
        return Ok(vec![pipeline]);
    }
    let flushed = platform.tables().flush().await;
    write_outbox_age(platform).await;
    flushed?;
    Ok(platform.pipelines().triggers().triggered())
}

/// Starts a run, and returns its name and its partitions.
async fn plan(
    platform: &Platform,
    pipeline: &str,
    (from, to): (Option<Timestamp>, Option<Timestamp>),
    division: Division,
    execution: Option<String>,
) -> Result<Json, InvocationFailure> {
    let is_due = from.is_none() && to.is_none() && is_scheduled(platform, pipeline);
    let interval = (!is_due).then(|| Interval {
        from: from.unwrap_or(Timestamp::MIN),
        to: to.unwrap_or(Timestamp::MAX),
    });
    if let Some(Interval { from, to }) = interval.filter(|i| i.from >= i.to) {
        return Err(InvocationFailure::invalid(format!(
            "from {from} is not before to {to}"
        )));
    }
    let started = platform
        .pipelines()
        .distributed_runs()
        .start_distributed(pipeline, interval, division, execution)
        .await;
    let run = match started {
        // Another process is running the pipeline. The next tick looks again.
        Err(e) if is_due && e.kind() == Kind::Conflict => None,
        other => other?,
    };
    Ok(match run {
        Some(run) => json!({
            "run": {"pipeline": pipeline, "key": run.key()},
            "partitions": (0..run.partitions).collect::<Vec<_>>(),
        }),
        None => json!({"run": null, "partitions": []}),
    })
}

/// Returns whether a pipeline has a schedule.
fn is_scheduled(platform: &Platform, pipeline: &str) -> bool {
    platform
        .pipelines()
        .triggers()
        .scheduled()
        .iter()
        .any(|name| name == pipeline)
}

/// Opens a run, and renews its lease.
async fn open_and_renew(
    platform: &Platform,
    run: &RunName,
) -> Result<DistributedRun, InvocationFailure> {
    let runs = platform.pipelines().distributed_runs();
    let run = runs.distributed(&run.pipeline, &run.key).await?;
    runs.hold(&run).await?;
    Ok(run)
}

/// Ends a run, and returns its record. If it is finished already, the first answer was lost, and is
/// given again.
async fn finish(platform: &Platform, run: &RunName) -> Result<RunRecord, InvocationFailure> {
    let RunName { pipeline, key } = run;
    let runs = platform.pipelines().distributed_runs();
    let run = match runs.distributed(pipeline, key).await {
        Err(e) if e.kind() == Kind::Conflict => {
            return Ok(runs.finished_distributed(pipeline, key).await?);
        }
        other => other?,
    };
    runs.hold(&run).await?;
    Ok(runs.finish_distributed(&run).await?)
}

/// Returns the message of an error that Step Functions reports, `{"Error": …, "Cause": …}`. If a
/// Lambda function failed, the cause is its answer, as JSON in a string.
fn reason(error: &Json) -> String {
    let cause = error["Cause"].as_str().unwrap_or_default();
    let answered: Option<Json> = serde_json::from_str(cause).ok();
    let message = answered.and_then(|answered| Some(answered["errorMessage"].as_str()?.to_owned()));
    match message {
        Some(message) => message,
        None if cause.is_empty() => error.to_string(),
        None => cause.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_is_the_message_of_the_function() {
        let cause = r#"{"errorType": "Wafer.Invalid", "errorMessage": "a.csv:3: no"}"#;
        for (error, wanted) in [
            (
                json!({"Error": "Wafer.Invalid", "Cause": cause}),
                "a.csv:3: no",
            ),
            (
                json!({"Error": "States.Timeout", "Cause": "15 minutes"}),
                "15 minutes",
            ),
            (
                json!({"Error": "States.Timeout"}),
                r#"{"Error":"States.Timeout"}"#,
            ),
        ] {
            assert_eq!(reason(&error), wanted);
        }
    }
}
