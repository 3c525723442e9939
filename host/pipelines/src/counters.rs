//! Counters of the events that this process ingested, for the metrics endpoint.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use crate::events::event::IngestReport;

/// The number of events of each source, by outcome.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    events: Mutex<BTreeMap<String, BTreeMap<&'static str, usize>>>,
}

impl Counters {
    /// Adds the counts of one push to those of its source.
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

    /// Returns the counts in the text format of Prometheus.
    pub(crate) fn text(&self) -> String {
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
