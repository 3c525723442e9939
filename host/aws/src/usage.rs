//! Counts calls to DynamoDB and their cost, by the work that they were made for.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use wafer_store::{Consumed, work_label};

/// The work that a call was made for, and its action.
type CallKind = (String, &'static str);

/// Number of calls and of capacity units, by kind.
#[derive(Debug, Default)]
pub(crate) struct Usage(Mutex<BTreeMap<CallKind, (u64, f64)>>);

impl Usage {
    pub(crate) fn add(&self, action: &'static str, units: f64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry((work_label(), action)).or_default();
        count.0 += 1;
        count.1 += units;
    }

    pub(crate) fn counts(&self) -> Vec<Consumed> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let consumed = |((work, action), (calls, units)): (&CallKind, &(u64, f64))| Consumed {
            work: work.clone(),
            action: (*action).to_owned(),
            calls: *calls,
            units: *units,
        };
        counts.iter().map(consumed).collect()
    }
}
