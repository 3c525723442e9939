//! Numbers about what this process did, in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use wafer_store::Consumed;

use crate::events::IngestReport;
use crate::platform::Platform;

/// Events of each source, by what became of them.
#[derive(Debug, Default)]
pub struct Counters {
    events: Mutex<BTreeMap<String, BTreeMap<&'static str, usize>>>,
}

impl Counters {
    pub(crate) fn add(&self, source: &str, report: &IngestReport) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = events.entry(source.to_owned()).or_default();
        for (outcome, count) in [
            ("accepted", report.accepted),
            ("duplicate", report.duplicate),
            ("rejected", report.rejected),
            ("late", report.late),
            ("too_late", report.too_late),
            ("older", report.older),
            ("early", report.early),
        ] {
            *counts.entry(outcome).or_default() += count;
        }
    }

    fn events_text(&self) -> String {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::from(
            "# HELP wafer_events_total Events that came in, by source and outcome; late, too_late, older and early are also accepted.\n\
             # TYPE wafer_events_total counter\n",
        );
        for (source, counts) in events.iter() {
            for (outcome, count) in counts {
                let _ = writeln!(
                    text,
                    "wafer_events_total{{source=\"{source}\",outcome=\"{outcome}\"}} {count}"
                );
            }
        }
        text
    }
}

impl Platform {
    /// What this process did, in the text format of Prometheus
    /// (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
    pub fn metrics(&self) -> String {
        let mut text = self.counters().events_text();
        text.push_str(&self.request_log().metrics());
        let consumed = self.components().online.consumed();
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
