//! Whether a run rejected too many rows, or would empty an interval, in which case it fails before
//! it commits anything.
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
//! are written together, that of all rows.
//!
//! Rows can also be gone without being rejected: an export was cut to its header, or counts seconds
//! where it counted milliseconds, so that all rows are in another interval. So a run does not leave
//! an interval without rows that had some, unless the pipeline may reject all rows. An interval
//! that had none may stay so. The rows of a chained pipeline are another matter: those of the
//! upstream group were checked when they were written, and when they are gone, as after a deletion,
//! what was made of them must go too.

use serde::{Deserialize, Serialize};
use wafer_catalog::{Reject, RunRecord, SourceKind};
use wafer_store::{AsOf, Error, Kind, OfflineTables, Result};

use crate::run::job::Job;

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

/// Checks that the intervals of a pass, in the order in which they are written, do not have
/// too many rejected rows, and that none of them loses all the rows that it had.
///
/// # Errors
/// Returns [`Kind::Invalid`] otherwise, with the first of the rejected rows.
pub(crate) async fn check_rejects(
    offline: &OfflineTables,
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
        return Err(refused_run(&what, records));
    }
    let is_chained = matches!(job.source.kind, SourceKind::Table { .. });
    if most >= 1.0 || (is_chained && rest.rejected == 0) {
        return Ok(());
    }
    let empty: Vec<&RunRecord> = records.iter().copied().filter(|r| is_empty(r)).collect();
    if empty.is_empty() {
        return Ok(());
    }
    let table = match offline.snapshot(&job.target.table.name, AsOf::Latest).await {
        Ok(table) => table,
        Err(e) if e.kind() == Kind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    let has_rows = |record: &&RunRecord| {
        let files = table.files_below(&record.work_folder());
        // A file whose rows were all deleted is still there.
        files.iter().any(|file| file.rows != Some(0))
    };
    match empty.into_iter().find(has_rows) {
        None => Ok(()),
        Some(record) => Err(refused_run(&emptied(record, rest, &job.name), records)),
    }
}

/// Whether a run would leave its interval without rows. A run that adds rows leaves those that
/// are there.
fn is_empty(record: &RunRecord) -> bool {
    let adds = record.upstream.is_some_and(|read| read.since.is_some());
    !adds && kept(record) == 0
}

/// Says that a run would empty an interval that had rows, and where the rows of its source are.
fn emptied(record: &RunRecord, rest: RowsOfNoInterval, pipeline: &str) -> String {
    format!(
        "no row of {} is left, and there were some before: {} rows were read, of which {} are \
         outside of it, and {} that belong to no interval were rejected (with `max_rejects = 1` \
         pipeline `{pipeline}` may empty an interval)",
        record.interval, record.rows_read, record.rows_outside, rest.rejected
    )
}

/// The error for a run that may not be committed. It names the first rows that were rejected.
fn refused_run(what: &str, records: &[&RunRecord]) -> Error {
    let rejects = records.iter().flat_map(|record| &record.rejects);
    let first: Vec<String> = rejects
        .take(NAMED_REJECTS)
        .map(|Reject { place, message }| format!("{place}: {message}"))
        .collect();
    let named = match first.is_empty() {
        true => String::new(),
        false => format!(". The first rejected rows: {}", first.join("; ")),
    };
    Error::invalid(format!(
        "{what}; nothing was written, and what the group had stays{named}"
    ))
}

#[cfg(test)]
mod tests {
    use wafer_catalog::Upstream;
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
    fn intervals_without_rows_are_empty_unless_a_run_adds_to_them() {
        let upstream = |since| {
            Some(Upstream {
                version: 2,
                changed: 2,
                since,
                base: None,
            })
        };
        for (written, deleted, upstream, wanted) in [
            (0, 0, None, true),
            (1, 0, None, false),
            // The rows are those of deleted entities.
            (0, 1, None, false),
            (0, 0, upstream(None), true),
            (0, 0, upstream(Some(1)), false),
        ] {
            let record = RunRecord {
                rows_deleted: deleted,
                upstream,
                ..record(0, written)
            };
            assert_eq!(is_empty(&record), wanted, "{record:?}");
        }
    }

    #[test]
    fn error_names_the_first_rejected_rows() {
        let mut failed = record(0, 0);
        let error = refused_run("no row is left", &[&failed]).to_string();
        assert!(error.ends_with("what the group had stays"), "{error}");
        for line in 2..9 {
            failed.rejected(Reject::new(format!("a.csv:{line}"), "is bad".to_owned()));
        }
        let error = refused_run("7 of 7 rows were rejected", &[&failed]).to_string();
        assert!(
            error.ends_with("a.csv:2: is bad; a.csv:3: is bad; a.csv:4: is bad"),
            "{error}"
        );
    }
}
