//! The metrics of a process, in the text format of Prometheus.

use std::fmt::Write as _;

use wafer_store::Consumed;

use crate::Platform;

impl Platform {
    /// Returns the metrics of this process in the text format of Prometheus
    /// (<https://prometheus.io/docs/instrumenting/exposition_formats/>): those of the pipelines, of
    /// the request log, and of the calls of the online store.
    pub fn metrics(&self) -> String {
        let mut text = self.pipelines.metrics();
        text.push_str(&self.serving.metrics());
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
