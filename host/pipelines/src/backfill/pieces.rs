//! Combines many intervals with few rows into pieces, each of which is one interval to runs: it has
//! one claim, one commit and as many files as its rows need.
//!
//! A schedule of five minutes over seven months has 60,000 intervals. If each of them were written
//! by itself, the source would be read two thousand times, and the table would have as many commits
//! and tiny files. Rows of a piece keep the available times that their own intervals give them
//! ([`RunRecord::is_combined`](wafer_catalog::RunRecord)).
//!
//! Intervals that have rows already keep the pieces that they were written in, so that a backfill
//! that is repeated finds them as they are.

use std::collections::HashSet;

use wafer_core::rules::Interval;
use wafer_store::Result;

use crate::backfill::Backfills;
use crate::run::job::Job;

/// The greatest number of intervals that are written each by itself.
const INTERVALS_APART: usize = 100;

/// The number of rows, about, that deserve a piece of their own.
const ROWS_OF_A_PIECE: u64 = 262_144;

/// Intervals of a backfill that are claimed, written and committed as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// The interval from the start of the first one to the end of the last one.
    pub(super) interval: Interval,
    /// The number of intervals of the backfill in it.
    pub(super) intervals: usize,
}

impl Backfills {
    /// Returns the pieces that the intervals of a backfill are written in.
    pub(super) async fn pieces(&self, job: &Job, intervals: &[Interval]) -> Result<Vec<Piece>> {
        let table = &job.target.table.name;
        let together = intervals_of_a_piece(intervals.len(), job);
        if together == 1 && !self.runs.records.has_combined(table).await? {
            return Ok(combined(intervals, &[], 1));
        }
        let (Some(first), Some(last)) = (intervals.first(), intervals.last()) else {
            return Ok(Vec::new());
        };
        let span = Interval {
            from: first.from,
            to: last.to,
        };
        let asked: HashSet<Interval> = intervals.iter().copied().collect();
        let mut written = Vec::new();
        for claim in self.runs.records.claims(table).await? {
            let is_combined = claim.is_combined && claim.interval.overlaps(span);
            // Other intervals that overlap those of the backfill are refused when it writes these,
            // because rows would be there twice.
            let is_piece = is_combined || asked.contains(&claim.interval);
            if is_piece && self.runs.planner.may_have_rows(&claim).await? {
                written.push(claim.interval);
            }
        }
        written.sort_by_key(|interval| interval.from);
        Ok(combined(intervals, &written, together))
    }
}

/// Returns how many intervals of a backfill are written together.
fn intervals_of_a_piece(intervals: usize, job: &Job) -> usize {
    // An expectation about all rows of a run holds for each interval by itself.
    if intervals <= INTERVALS_APART || !job.target.run_checks().is_empty() {
        return 1;
    }
    let deserved = match job.input.estimated_rows() {
        Some(rows) => usize::try_from(rows.div_ceil(ROWS_OF_A_PIECE)).unwrap_or(usize::MAX),
        None => INTERVALS_APART,
    };
    intervals.div_ceil(deserved.max(1))
}

/// Combines up to `together` consecutive intervals at a time, except for those in one of the
/// intervals `written`, which are pieces as they are. All are sorted, and those of `written` do not
/// overlap.
fn combined(intervals: &[Interval], written: &[Interval], together: usize) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut written = written.iter().peekable();
    // Whether intervals may be added to the last piece.
    let mut is_open = false;
    for interval in intervals {
        while written.next_if(|done| done.to <= interval.from).is_some() {}
        let has_it = |done: &&&Interval| done.from <= interval.from && interval.to <= done.to;
        let done = written.peek().filter(has_it);
        let done: Option<Interval> = done.map(|done| **done);
        let fits = |last: &&mut Piece| match done {
            Some(done) => last.interval == done,
            None => is_open && last.intervals < together && last.interval.to == interval.from,
        };
        match pieces.last_mut().filter(fits) {
            Some(last) => {
                last.interval.to = last.interval.to.max(interval.to);
                last.intervals += 1;
            }
            None => {
                is_open = done.is_none();
                pieces.push(Piece {
                    interval: done.unwrap_or(*interval),
                    intervals: 1,
                });
            }
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use wafer_core::Timestamp;

    use super::*;

    fn interval((from, to): (i64, i64)) -> Interval {
        Interval {
            from: Timestamp::from_micros(from),
            to: Timestamp::from_micros(to),
        }
    }

    #[test]
    fn consecutive_intervals_are_combined_and_those_with_rows_stay_as_they_are() {
        let tens: Vec<(i64, i64)> = (0..6).map(|n| (n * 10, n * 10 + 10)).collect();
        let gap = [(0, 10), (10, 20), (30, 40), (40, 50)];
        for (what, intervals, written, together, wanted) in [
            (
                "apart",
                &tens[..3],
                &[][..],
                1,
                &[((0, 10), 1), ((10, 20), 1), ((20, 30), 1)][..],
            ),
            ("all", &tens[..], &[], 9, &[((0, 60), 6)]),
            ("by four", &tens[..], &[], 4, &[((0, 40), 4), ((40, 60), 2)]),
            ("a gap", &gap[..], &[], 9, &[((0, 20), 2), ((30, 50), 2)]),
            (
                "one is written",
                &tens[..],
                &[(20, 30)],
                9,
                &[((0, 20), 2), ((20, 30), 1), ((30, 60), 3)],
            ),
            (
                "a piece is written",
                &tens[..],
                &[(0, 40)],
                4,
                &[((0, 40), 4), ((40, 60), 2)],
            ),
            (
                "a piece is written, and the span is shorter",
                &tens[1..3],
                &[(0, 40)],
                1,
                &[((0, 40), 2)],
            ),
            (
                "two pieces are written",
                &tens[..],
                &[(0, 20), (20, 60)],
                9,
                &[((0, 20), 2), ((20, 60), 4)],
            ),
            (
                "other times are written",
                &tens[..],
                &[(-10, 0), (60, 70)],
                9,
                &[((0, 60), 6)],
            ),
        ] {
            let intervals: Vec<Interval> = intervals.iter().copied().map(interval).collect();
            let written: Vec<Interval> = written.iter().copied().map(interval).collect();
            let found: Vec<(Interval, usize)> = combined(&intervals, &written, together)
                .iter()
                .map(|piece| (piece.interval, piece.intervals))
                .collect();
            let wanted: Vec<(Interval, usize)> = wanted
                .iter()
                .map(|(ends, count)| (interval(*ends), *count))
                .collect();
            assert_eq!(found, wanted, "{what}");
        }
    }
}
