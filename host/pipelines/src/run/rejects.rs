//! Whether a run rejected too many rows, in which case it fails before it commits anything.
//!
//! A few bad rows go to the quarantine table, and the others are written. When most rows are bad,
//! it is the format of the source that changed, and a commit would replace rows that are served by
//! nothing. The setting `max_rejects` of a pipeline says where the line is. Every way of running a
//! pipeline comes here between the last row and the first commit: runs, backfills, schedules,
//! chained runs, and runs that several processes work on.
//!
//! The fraction is one of the rows that a run would have written: rows that the function leaves
//! out do not count. Rows that could not be read belong to no interval. So two fractions are
//! compared with the limit: for each interval, that of its own rows; and for all intervals that
//! are written together, that of all rows. And rows that could not be read never empty an interval
//! that had rows.

use serde::{Deserialize, Serialize};
use wafer_catalog::{Reject, RunRecord};
use wafer_store::{AsOf, Error, Kind, Result};

use crate::run::job::Job;
use crate::service::Pipelines;

/// The number of rejected rows that the error of a run names.
const NAMED_REJECTS: usize = 3;

/// The rows of a pass over a source that no interval counts as its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RowsOfNoInterval {
    /// The number of rejected rows that have no time. The first interval of the pass counts them
    /// among its rejected rows.
    pub(crate) rejected: u64,
    /// The number of rows that were not rejected and lie outside of all intervals of the pass.
    pub(crate) outside: u64,
}

impl RowsOfNoInterval {
    /// Adds the rows of another part of the run.
    pub(crate) fn add(&mut self, part: Self) {
        self.rejected += part.rejected;
        self.outside += part.outside;
    }
}

/// Rows that were rejected, among all rows that they were among.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rejected {
    rejected: u64,
    all: u64,
}

impl Rejected {
    fn exceeds(self, max_rejects: f64) -> bool {
        self.rejected as f64 > max_rejects * self.all as f64
    }
}

/// Returns the first fraction of rejected rows that exceeds the limit: of the rows of one of the
/// intervals, which are in the order of `records`, or of all rows.
fn first_excess(
    records: &[&RunRecord],
    rest: RowsOfNoInterval,
    max_rejects: f64,
) -> Option<Rejected> {
    let of_intervals = records.iter().enumerate().map(|(index, record)| {
        let elsewhere = if index == 0 { rest.rejected } else { 0 };
        let rejected = record.rows_rejected.saturating_sub(elsewhere);
        Rejected {
            rejected,
            all: rejected + kept(record),
        }
    });
    let rejected = records.iter().map(|record| record.rows_rejected).sum();
    let kept: u64 = records.iter().map(|record| kept(record)).sum();
    let of_all = Rejected {
        rejected,
        all: rejected + kept + rest.outside,
    };
    // The fraction of all rows says most, so it is the one that is reported.
    std::iter::once(of_all)
        .chain(of_intervals)
        .find(|rejected| rejected.exceeds(max_rejects))
}

/// The number of rows of an interval that were not rejected.
fn kept(record: &RunRecord) -> u64 {
    record.rows_written + record.rows_deleted
}

impl Pipelines {
    /// Checks that the intervals of a pass, in the order in which they are written, do not have
    /// too many rejected rows.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when they have, with the first of the rejected rows.
    pub(crate) async fn check_rejects(
        &self,
        job: &Job,
        records: &[&RunRecord],
        rest: RowsOfNoInterval,
    ) -> Result<()> {
        let most = job.pipeline.max_rejects;
        if let Some(Rejected { rejected, all }) = first_excess(records, rest, most) {
            let what = format!(
                "{rejected} of {all} rows were rejected, more than the fraction {most} that \
                 pipeline `{}` allows (setting `max_rejects`)",
                job.name
            );
            return Err(too_many_rejects_error(&what, records));
        }
        if rest.rejected == 0 || most >= 1.0 {
            return Ok(());
        }
        for record in records.iter().filter(|record| is_empty(record)) {
            if self.table_has_rows(record).await? {
                let what = format!(
                    "no row of {} is left, and {} rows that belong to no interval were rejected \
                     (with `max_rejects = 1` pipeline `{}` may empty an interval)",
                    record.interval, rest.rejected, job.name
                );
                return Err(too_many_rejects_error(&what, records));
            }
        }
        Ok(())
    }

    /// Returns whether the offline table has rows of a run's interval.
    async fn table_has_rows(&self, record: &RunRecord) -> Result<bool> {
        let offline = &self.context.components().stores.offline;
        match offline.snapshot(&record.table, AsOf::Latest).await {
            Ok(snapshot) => Ok(!snapshot.files_below(&record.work_folder()).is_empty()),
            Err(e) if e.kind() == Kind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// Whether a run would leave its interval without rows. A run that adds rows leaves those that
/// are there.
fn is_empty(record: &RunRecord) -> bool {
    let adds = record.upstream.is_some_and(|read| read.since.is_some());
    !adds && kept(record) == 0
}

/// The error for a run that rejected too many rows. It names the first of them.
fn too_many_rejects_error(what: &str, records: &[&RunRecord]) -> Error {
    let rejects = records.iter().flat_map(|record| &record.rejects);
    let first: Vec<String> = rejects
        .take(NAMED_REJECTS)
        .map(|Reject { place, message }| format!("{place}: {message}"))
        .collect();
    Error::invalid(format!(
        "{what}; nothing was written, and what the group had stays. The first rejected rows: {}",
        first.join("; ")
    ))
}

#[cfg(test)]
mod tests {
    use wafer_core::rules::Interval;
    use wafer_core::{Digest, Timestamp};

    use super::*;

    fn record(rejected: u64, written: u64) -> RunRecord {
        let at = Timestamp::from_micros(0);
        RunRecord {
            rows_rejected: rejected,
            rows_written: written,
            ..RunRecord::new("p", "t", Interval::ALL, Digest::of(b""), at, at)
        }
    }

    #[test]
    fn fractions_of_intervals_and_of_all_rows_are_compared_with_the_limit() {
        // The rejected and written rows of each interval, the rejected rows without a time, the
        // rows outside, the limit, and the fraction that exceeds it.
        for (what, intervals, rejected, outside, most, wanted) in [
            ("no rows", vec![(0, 0)], 0, 0, 0.0, None),
            ("no rejects", vec![(0, 9)], 0, 0, 0.0, None),
            ("one of ten", vec![(1, 9)], 0, 0, 0.1, None),
            ("one of nine", vec![(1, 8)], 0, 0, 0.1, Some((1, 9))),
            ("half of the rows", vec![(1, 1)], 0, 0, 0.5, None),
            ("all rows", vec![(3, 0)], 3, 0, 0.5, Some((3, 3))),
            ("all rows, allowed", vec![(3, 0)], 3, 0, 1.0, None),
            (
                "one row, and none allowed",
                vec![(1, 999)],
                1,
                0,
                0.0,
                Some((1, 1_000)),
            ),
            // Rows of other intervals show that the source can be read.
            (
                "unread rows of a long source",
                vec![(5, 1)],
                5,
                94,
                0.5,
                None,
            ),
            // They do not hide that an interval lost its own rows.
            (
                "all rows of the interval",
                vec![(5, 0)],
                0,
                95,
                0.5,
                Some((5, 5)),
            ),
            // The first interval counts the rows without a time, which are not its own.
            (
                "the first of two intervals",
                vec![(5, 4), (0, 6)],
                5,
                0,
                0.5,
                None,
            ),
            (
                "the second of two intervals",
                vec![(0, 9), (2, 1)],
                0,
                0,
                0.5,
                Some((2, 3)),
            ),
        ] {
            let records: Vec<RunRecord> = intervals.iter().map(|(r, w)| record(*r, *w)).collect();
            let records: Vec<&RunRecord> = records.iter().collect();
            let rest = RowsOfNoInterval { rejected, outside };
            let found = first_excess(&records, rest, most);
            let wanted = wanted.map(|(rejected, all)| Rejected { rejected, all });
            assert_eq!(found, wanted, "{what}");
        }
    }

    #[test]
    fn error_names_the_first_rejected_rows() {
        let mut failed = record(0, 0);
        for line in 2..9 {
            failed.rejected(Reject::new(format!("a.csv:{line}"), "is bad".to_owned()));
        }
        let error = too_many_rejects_error("7 of 7 rows were rejected", &[&failed]).to_string();
        assert!(
            error.ends_with("a.csv:2: is bad; a.csv:3: is bad; a.csv:4: is bad"),
            "{error}"
        );
    }
}
