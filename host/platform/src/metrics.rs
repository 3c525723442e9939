//! The metrics of a process, in the text format of Prometheus.

use std::fmt::Write as _;

use wafer_core::Duration;
use wafer_store::Consumed;

use crate::Platform;

impl Platform {
    /// Returns the metrics of this process in the text format of Prometheus
    /// (<https://prometheus.io/docs/instrumenting/exposition_formats/>): those of the pipelines, of
    /// the request log, and of the calls of the online store; and the age of the project's outbox,
    /// which is left out when it cannot be read.
    pub async fn metrics(&self) -> String {
        let mut text = self.pipelines.events().metrics();
        text.push_str(&self.serving.metrics());
        match self.tables.outbox_age().await {
            Ok(age) => text.push_str(&outbox_age(age)),
            Err(error) => tracing::warn!("the outbox has no age: {}", error.chain()),
        }
        let consumed = self.context.components().stores.metered.consumed();
        if consumed.is_empty() {
            return text;
        }
        text.push_str(
            "# HELP wafer_store_calls_total Calls of the online store's service, by what they were made for.\n\
             # TYPE wafer_store_calls_total counter\n",
        );
        for Consumed {
            work,
            action,
            calls,
            ..
        } in &consumed
        {
            let labels = format!("work=\"{work}\",action=\"{action}\"");
            let _ = writeln!(text, "wafer_store_calls_total{{{labels}}} {calls}");
        }
        text.push_str(
            "# HELP wafer_store_capacity_units_total Capacity units that the service counted for them.\n\
             # TYPE wafer_store_capacity_units_total counter\n",
        );
        for Consumed {
            work,
            action,
            units,
            ..
        } in &consumed
        {
            let labels = format!("work=\"{work}\",action=\"{action}\"");
            let _ = writeln!(text, "wafer_store_capacity_units_total{{{labels}}} {units}");
        }
        text
    }
}

/// Returns the metric of the outbox.
fn outbox_age(age: Duration) -> String {
    let seconds = age.as_micros() as f64 / 1e6;
    format!(
        "# HELP wafer_outbox_age_seconds How long the oldest of what is not in the tables yet has waited in the outbox; 0 if nothing waits.\n\
         # TYPE wafer_outbox_age_seconds gauge\n\
         wafer_outbox_age_seconds {seconds}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_of_the_outbox_is_in_seconds() {
        for (micros, wanted) in [(0, "0"), (1_500_000, "1.5"), (900_000_000, "900")] {
            let text = outbox_age(Duration::from_micros(micros));
            let lines: Vec<&str> = text.lines().collect();
            let [_, "# TYPE wafer_outbox_age_seconds gauge", sample] = lines[..] else {
                panic!("{text}")
            };
            assert_eq!(sample, format!("wafer_outbox_age_seconds {wanted}"));
        }
    }
}
