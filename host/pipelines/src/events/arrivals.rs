//! Numbers rows in the order in which they come in.

use std::sync::atomic::{AtomicU64, Ordering};

use wafer_core::Timestamp;

/// Gives each row of a push, of a direct write and of a heal a number that is greater than those of
/// all rows that came in before, so that rows of one entity, event time and creation time are
/// ordered by their arrival.
///
/// Creation times are compared first, so numbers decide only between rows of one moment of the
/// platform's clock. A push has many rows at one moment, and a clock that is set can stand still,
/// also while the process is started again. Numbers are therefore nanoseconds of the machine's
/// clock, or the next number if that has been given already.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    next: AtomicU64,
}

impl Arrivals {
    /// Begins a push at a time of the machine's clock: the numbers of its rows are not less than
    /// those that the time stands for.
    pub(crate) fn begin(&self, machine_now: Timestamp) {
        let nanos = u64::try_from(machine_now.as_micros()).unwrap_or(0);
        // A table holds the numbers with a sign, so a clock that is far in the future counts less.
        let nanos = nanos.saturating_mul(1_000).min(u64::MAX >> 2);
        self.next.fetch_max(nanos, Ordering::Relaxed);
    }

    /// Returns the number of the first of some rows. The others have the next numbers.
    pub(crate) fn take(&self, rows: usize) -> u64 {
        self.next.fetch_add(rows as u64, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_although_the_clock_stands_still_or_goes_back() {
        let arrivals = Arrivals::default();
        let mut last = 0;
        for (now, rows) in [(7, 1), (7, 3_000), (7, 2), (9, 1), (1, 1), (i64::MAX, 5)] {
            arrivals.begin(Timestamp::from_micros(now));
            let first = arrivals.take(rows);
            assert!(first > last || last == 0, "{now}: {first} after {last}");
            last = first + rows as u64 - 1;
        }
        assert!(i64::try_from(last).is_ok());
        // After a start at a later time the numbers go on from there.
        let started_again = Arrivals::default();
        started_again.begin(Timestamp::from_micros(11));
        assert_eq!(started_again.take(1), 11_000);
        // A time before 1970 stands for none.
        started_again.begin(Timestamp::from_micros(-1));
        assert_eq!(started_again.take(1), 11_001);
    }
}
