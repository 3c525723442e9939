//! Metrics of the program, as lines of the standard output in CloudWatch's embedded metric format.
//!
//! Lambda sends each line to CloudWatch Logs, which takes metrics out of the lines that have this
//! format, whatever format the other lines have. It takes no call and no permission:
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>.
//!
//! `infra/metrics.csv` has a row for each metric. The alarms and graphs of
//! `infra/modules/observability` are compared with it.

use std::io::Write as _;

use serde_json::json;
use wafer_core::{Duration, Timestamp};
use wafer_platform::Platform;

/// The namespace of the metrics.
const NAMESPACE: &str = "Wafer";
/// The dimension of the metrics: the name of the project.
const PROJECT: &str = "Project";
/// The metric of how long the oldest of what is in the outbox has waited there, in seconds.
const OUTBOX_AGE: &str = "OutboxAge";

/// Writes the metric [`OUTBOX_AGE`]. If the outbox cannot be read, nothing is written but the
/// reason: metrics that are missing raise the alarm as well.
pub(crate) async fn write_outbox_age(platform: &Platform) {
    match platform.tables().outbox_age().await {
        Ok(age) => {
            let context = platform.context();
            let line = outbox_age(context.project(), age, context.machine_now());
            // An error only means that nobody reads the lines.
            let _ = std::io::stdout().lock().write_all(line.as_bytes());
        }
        Err(error) => tracing::warn!("the age of the outbox is not known: {}", error.chain()),
    }
}

/// Returns the line of the metric [`OUTBOX_AGE`] of a project.
fn outbox_age(project: &str, age: Duration, now: Timestamp) -> String {
    let document = json!({
        "_aws": {
            "Timestamp": now.as_millis(),
            "CloudWatchMetrics": [{
                "Namespace": NAMESPACE,
                "Dimensions": [[PROJECT]],
                "Metrics": [{"Name": OUTBOX_AGE, "Unit": "Seconds"}],
            }],
        },
        PROJECT: project,
        OUTBOX_AGE: age.as_micros() as f64 / 1e6,
    });
    format!("{document}\n")
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::*;

    #[test]
    fn age_of_the_outbox_is_one_line_of_the_embedded_metric_format() {
        let age = Duration::from_micros(1_500_000);
        let now = Timestamp::from_micros(1_574_109_732_004_999);
        let line = outbox_age("flights", age, now);
        assert!(line.ends_with("}\n") && line.lines().count() == 1, "{line}");
        let wanted = json!({
            "_aws": {
                "Timestamp": 1_574_109_732_004_i64,
                "CloudWatchMetrics": [{
                    "Namespace": "Wafer",
                    "Dimensions": [["Project"]],
                    "Metrics": [{"Name": "OutboxAge", "Unit": "Seconds"}],
                }],
            },
            "Project": "flights",
            "OutboxAge": 1.5,
        });
        assert_eq!(serde_json::from_str::<Json>(&line).unwrap(), wanted);
    }

    #[test]
    fn the_table_of_metrics_has_the_age_of_the_outbox() {
        let table = include_str!("../../../infra/metrics.csv");
        let row = format!("{NAMESPACE},{OUTBOX_AGE},{PROJECT},host/lambda/src/metrics.rs");
        assert!(table.lines().any(|line| line == row), "{row}");
    }
}
