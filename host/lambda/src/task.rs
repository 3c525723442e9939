//! Tasks that schedules, state machines and operators ask for.

use serde::Deserialize;
use serde_json::{Value as Json, json};
use wafer_core::Timestamp;
use wafer_core::rules::Interval;
use wafer_platform::{DistributedRun, Division, Kind, Platform, RunRecord};

use crate::failure::Failure;

/// Milliseconds before the end of an invocation from which on no run is begun.
const TIME_LEFT: u64 = 60_000;

/// What is asked for: `{"wafer": {"flush": {}}}`.
#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    pub(crate) wafer: Task,
}

/// A task. A run that is worked on by many invocations goes through `plan`,
/// `partition` for each of its partitions, `commit`, `online` for each that this
/// returns, and `finish`; or through `fail`. Each may be repeated.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Task {
    /// Append what is in the outbox to the tables.
    Flush {},
    /// Run what is due of a pipeline's schedule, or of all schedules; and append what is
    /// in the outbox.
    Tick {
        pipeline: Option<String>,
        /// Pipelines of which other invocations take care.
        #[serde(default)]
        except: Vec<String>,
    },
    /// Begin a run over an interval, or over the next one that is due; says into how
    /// many partitions it is divided.
    Plan {
        pipeline: String,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
        /// Source bytes of a partition.
        partition_bytes: Option<u64>,
        /// Names who asks, who may ask again when the answer was lost.
        execution: Option<String>,
    },
    /// Work on a partition.
    Partition { run: RunName, partition: usize },
    /// Make what was written part of the tables; says what is to go online.
    Commit { run: RunName },
    /// Put the rows of a partition online.
    Online { run: RunName, partition: usize },
    /// End a run.
    Finish { run: RunName },
    /// End a run that failed; says why it did, the first time.
    Fail { run: RunName, error: Json },
}

/// A run that was planned.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunName {
    pipeline: String,
    key: String,
}

impl Task {
    /// Performs it, before a time in milliseconds since 1970.
    pub(crate) async fn perform(self, platform: &Platform, deadline: u64) -> Result<Json, Failure> {
        match self {
            Self::Flush {} => {
                let report = platform.tables().flush().await?;
                Ok(json!({"rows": report.rows, "busy": report.busy}))
            }
            Self::Tick { pipeline, except } => {
                let until = deadline.saturating_sub(TIME_LEFT);
                let pipelines = match pipeline {
                    Some(pipeline) => vec![pipeline],
                    None => {
                        platform.tables().flush().await?;
                        platform.pipelines().scheduled()
                    }
                };
                let (mut ran, mut failure) = (Vec::new(), None);
                for pipeline in pipelines.iter().filter(|name| !except.contains(name)) {
                    // One pipeline's trouble does not keep the others waiting.
                    match run_due(platform, pipeline, until).await {
                        Ok(more) => ran.extend(more),
                        Err(error) => drop(failure.get_or_insert(error)),
                    }
                }
                match failure {
                    Some(error) => Err(error),
                    None => Ok(json!({"ran": ran})),
                }
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
                let run = held(platform, &run).await?;
                platform.pipelines().run_partition(&run, partition).await?;
                Ok(json!({"partition": partition}))
            }
            Self::Commit { run } => {
                let run = held(platform, &run).await?;
                let partitions = platform.pipelines().commit_distributed(&run).await?;
                Ok(json!({"partitions": partitions}))
            }
            Self::Online { run, partition } => {
                let run = held(platform, &run).await?;
                platform
                    .pipelines()
                    .put_partition_online(&run, partition)
                    .await?;
                Ok(json!({"partition": partition}))
            }
            Self::Finish { run } => {
                let RunName { pipeline, key } = &run;
                let ran = match platform.pipelines().distributed(pipeline, key).await {
                    Ok(run) => {
                        platform.pipelines().hold(&run).await?;
                        platform.pipelines().finish_distributed(&run).await?
                    }
                    // Asked once more, as the answer was lost.
                    Err(e) if e.kind() == Kind::Conflict => {
                        platform
                            .pipelines()
                            .finished_distributed(pipeline, key)
                            .await?
                    }
                    Err(e) => return Err(e.into()),
                };
                Ok(json!({"ran": ran}))
            }
            Self::Fail { run, error } => {
                let run = platform
                    .pipelines()
                    .distributed(&run.pipeline, &run.key)
                    .await?;
                let error = platform
                    .pipelines()
                    .fail_distributed(&run, &reason(&error))
                    .await?;
                Ok(json!({"failed": run.key(), "error": error}))
            }
        }
    }
}

/// Runs all intervals that are due, but begins none after a time, in milliseconds
/// since 1970: the next tick goes on.
async fn run_due(
    platform: &Platform,
    pipeline: &str,
    until: u64,
) -> Result<Vec<RunRecord>, Failure> {
    let mut ran = Vec::new();
    let is_over = || {
        let now = platform
            .context()
            .components()
            .machine_clock
            .now()
            .as_millis();
        u64::try_from(now).unwrap_or(0) > until
    };
    while !is_over()
        && let Some(record) = platform.pipelines().run_due(pipeline).await?
    {
        ran.push(record);
    }
    Ok(ran)
}

async fn plan(
    platform: &Platform,
    pipeline: &str,
    (from, to): (Option<Timestamp>, Option<Timestamp>),
    division: Division,
    execution: Option<String>,
) -> Result<Json, Failure> {
    let is_due = from.is_none() && to.is_none() && is_scheduled(platform, pipeline);
    let interval = (!is_due).then(|| Interval {
        from: from.unwrap_or(Timestamp::MIN),
        to: to.unwrap_or(Timestamp::MAX),
    });
    if let Some(Interval { from, to }) = interval.filter(|i| i.from >= i.to) {
        return Err(Failure::invalid(format!(
            "from {from} is not before to {to}"
        )));
    }
    let started = platform
        .pipelines()
        .start_distributed(pipeline, interval, division, execution)
        .await;
    let run = match started {
        // Whoever is at it goes on; the next tick looks again.
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

fn is_scheduled(platform: &Platform, pipeline: &str) -> bool {
    platform
        .pipelines()
        .scheduled()
        .iter()
        .any(|name| name == pipeline)
}

/// A run, kept for another while.
async fn held(platform: &Platform, run: &RunName) -> Result<DistributedRun, Failure> {
    let run = platform
        .pipelines()
        .distributed(&run.pipeline, &run.key)
        .await?;
    platform.pipelines().hold(&run).await?;
    Ok(run)
}

/// What Step Functions says of an error: `{"Error": …, "Cause": …}`, the cause being
/// what a function answered, as JSON in a text.
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
    fn reasons_are_what_the_function_said() {
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
