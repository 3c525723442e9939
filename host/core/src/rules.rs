//! The rules of time that online, offline, batch and stream share. Each is implemented once, here.

use serde::{Deserialize, Serialize};

use crate::{Duration, Timestamp};

/// Orders the rows of one entity: by event time, then by creation time (when the write was
/// claimed), then by the order of arrival within what was written at that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RowVersion {
    /// Event time: when the fact held.
    pub event: Timestamp,
    /// Creation time: when the write was claimed.
    pub created: Timestamp,
    /// The order of arrival among the rows of one creation time; for a row that was stored without
    /// one, the [`identity`] of its event.
    #[serde(rename = "id")]
    pub order: u64,
}

/// When a row came in, which decides between events of one entity and event time in windows: by
/// creation time, then by the order of arrival within what was written at that time.
///
/// Rows that were stored before the order of arrival was kept have no known arrival. They come
/// before all others, and are ordered by the identities of their events alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Arrival {
    /// Creation time, or [`Timestamp::MIN`] if the arrival is not known.
    pub created: Timestamp,
    /// The order of arrival, or the [`identity`] of the event if the arrival is not known.
    pub order: u64,
}

impl Arrival {
    /// The arrival of a row with an order of arrival, or without one.
    pub fn new(created: Timestamp, order: Option<u64>, event_id: &str) -> Self {
        match order {
            Some(order) => Self { created, order },
            None => Self::unknown(identity(event_id)),
        }
    }

    /// The arrival of a row that was stored without an order of arrival. `id` is the [`identity`]
    /// of its event.
    pub fn unknown(id: u64) -> Self {
        Self {
            created: Timestamp::MIN,
            order: id,
        }
    }

    /// Whether the row was stored with an order of arrival.
    pub fn is_known(self) -> bool {
        self.created != Timestamp::MIN
    }
}

/// The number of bits of an order of arrival that number the rows of one file.
const ROW_BITS: u32 = 40;

/// The greatest number of files whose rows a run can order.
pub const MAX_RUN_FILES: u64 = 1 << 22;

/// The order of arrival of a row of a run: `row` rows of the same file came before it, and `file`
/// files were read before. Returns `None` when there are more files or rows than can be ordered.
pub fn order_in_run(file: u64, row: u64) -> Option<u64> {
    let fits = file < MAX_RUN_FILES && row >> ROW_BITS == 0;
    fits.then_some(file << ROW_BITS | row)
}

/// The identity of an event as a number: the XXH64 hash, with seed 0, of its id.
pub fn identity(event_id: &str) -> u64 {
    twox_hash::XxHash64::oneshot(0, event_id.as_bytes())
}

impl RowVersion {
    /// The version of a row with an order of arrival, or without one.
    pub fn new(event: Timestamp, created: Timestamp, order: Option<u64>, event_id: &str) -> Self {
        Self {
            event,
            created,
            order: order.unwrap_or_else(|| identity(event_id)),
        }
    }

    /// Names the row that was read, for the request log and for comparisons with it. Two rows of an
    /// entity with equal names have equal values.
    pub fn identity(self) -> String {
        let Self {
            event,
            created,
            order,
        } = self;
        format!("{}/{}/{order:016x}", event.as_micros(), created.as_micros())
    }
}

/// The online write rule: a row replaces the stored one only if it is newer. Writing the same row
/// twice changes nothing.
pub fn replaces(new: RowVersion, stored: Option<RowVersion>) -> bool {
    stored.is_none_or(|stored| new > stored)
}

/// Whether a row with this event time has outlived its time to live at `now`. Without a
/// `ttl` rows never expire. A row that is exactly `ttl` old has not expired.
pub fn is_expired(event: Timestamp, ttl: Option<Duration>, now: Timestamp) -> bool {
    ttl.is_some_and(|ttl| event < now.minus(ttl))
}

/// How long a row is still answered as expired before a store may delete it.
const EXPIRED_RETENTION: Duration = Duration::from_days(30);

/// The time until which a row is kept online, or `None` to keep it for ever. An expired row is kept
/// for a while, so that requests learn that it has expired rather than that it never existed.
pub fn keep_until(event: Timestamp, ttl: Option<Duration>) -> Option<Timestamp> {
    ttl.map(|ttl| event.plus(ttl).plus(EXPIRED_RETENTION))
}

/// What to do with a row, depending on how far in the future its event time lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Not in the future: apply it now.
    Due,
    /// In the future by no more than the allowed skew: keep it, and apply it online when it is due.
    Early,
    /// Further in the future than the allowed skew: reject it.
    Future,
}

/// Classifies a row by its event time. `skew` is how far in the future that may lie.
pub fn admit(event: Timestamp, now: Timestamp, skew: Duration) -> Admission {
    if event <= now {
        Admission::Due
    } else if event <= now.plus(skew) {
        Admission::Early
    } else {
        Admission::Future
    }
}

/// Whether an event arrived in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lateness {
    /// The event counts.
    InTime,
    /// The event is older than allowed and counts only after it is healed.
    TooLate,
}

/// Classifies an event that arrives at `now` by its age. `allowed` is the greatest accepted
/// age; with `None` no event is too late.
pub fn judge_lateness(event: Timestamp, now: Timestamp, allowed: Option<Duration>) -> Lateness {
    match allowed {
        Some(allowed) if event < now.minus(allowed) => Lateness::TooLate,
        _ => Lateness::InTime,
    }
}

/// The earliest time at which a request could have seen an event that arrived at `ingested`.
pub fn available_from_event(event: Timestamp, ingested: Timestamp) -> Timestamp {
    event.max(ingested)
}

/// The earliest time at which a request could have seen a row of a scheduled run. The run starts
/// `delay` after the end of its interval.
pub fn available_from_schedule(interval: Interval, delay: Duration) -> Timestamp {
    interval.to.plus(delay)
}

/// The earliest time at which a request could have seen a row of an unscheduled file. `delay` is
/// the time between a fact and its arrival that the source declares.
pub fn available_from_file(event: Timestamp, delay: Duration) -> Timestamp {
    event.plus(delay)
}

/// The half-open span of event time that a run covers: `from <= time < to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Interval {
    /// The first instant of the interval.
    pub from: Timestamp,
    /// The first instant after the interval.
    pub to: Timestamp,
}

impl Interval {
    /// The interval of all time.
    pub const ALL: Self = Self {
        from: Timestamp::MIN,
        to: Timestamp::MAX,
    };

    /// Whether a time lies in the interval.
    pub fn contains(self, time: Timestamp) -> bool {
        self.from <= time && time < self.to
    }

    /// Whether two intervals have an instant in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.from < other.to && other.from < self.to
    }

    /// A name for the interval that can be part of a path: `all`, or both ends in UTC.
    pub fn slug(self) -> String {
        if self == Self::ALL {
            return "all".to_owned();
        }
        let end = |time: Timestamp| match time {
            Timestamp::MIN => "start".to_owned(),
            Timestamp::MAX => "end".to_owned(),
            time => time.to_string().replace([':', '-'], ""),
        };
        format!("{}-{}", end(self.from), end(self.to))
    }
}

impl std::fmt::Display for Interval {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = |time: Timestamp| match time {
            Timestamp::MIN | Timestamp::MAX => "…".to_owned(),
            time => time.to_string(),
        };
        if *self == Self::ALL {
            f.write_str("all time")
        } else {
            write!(f, "[{}, {})", end(self.from), end(self.to))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn newest_event_wins_then_newest_write_then_last_arrival() {
        let version = |event, created, order| RowVersion {
            event: at(event),
            created: at(created),
            order,
        };
        for (new, stored, wanted) in [
            (version(1, 1, 1), None, true),
            (version(2, 1, 1), Some(version(1, 9, 9)), true),
            (version(1, 9, 9), Some(version(2, 1, 1)), false),
            (version(1, 2, 1), Some(version(1, 1, 9)), true),
            (version(1, 1, 2), Some(version(1, 1, 1)), true),
            (version(1, 1, 1), Some(version(1, 1, 1)), false),
        ] {
            assert_eq!(replaces(new, stored), wanted, "{new:?} over {stored:?}");
        }
    }

    #[test]
    fn rows_of_a_run_are_ordered_by_file_and_then_by_row() {
        let last_row = (1 << ROW_BITS) - 1;
        let places = [
            (0, 0),
            (0, 1),
            (0, last_row),
            (1, 0),
            (MAX_RUN_FILES - 1, last_row),
        ];
        let orders = places.map(|(file, row)| order_in_run(file, row));
        assert!(orders.iter().all(Option::is_some) && orders.is_sorted());
        // A table holds the order as a signed number.
        assert!(
            orders
                .iter()
                .all(|order| order.is_some_and(|order| i64::try_from(order).is_ok()))
        );
        for (file, row) in [(MAX_RUN_FILES, 0), (0, 1 << ROW_BITS), (u64::MAX, u64::MAX)] {
            assert_eq!(order_in_run(file, row), None);
        }
    }

    #[test]
    fn rows_without_a_known_arrival_come_first_in_the_order_of_identities() {
        let (x, y) = (
            identity("x").min(identity("y")),
            identity("x").max(identity("y")),
        );
        let arrivals = [
            Arrival::unknown(x),
            Arrival::unknown(y),
            Arrival::new(at(-5), Some(9), "x"),
            Arrival::new(at(7), Some(0), "y"),
            Arrival::new(at(7), Some(1), "x"),
        ];
        assert!(arrivals.is_sorted());
        assert_eq!(
            Arrival::new(at(7), None, "x"),
            Arrival::unknown(identity("x"))
        );
    }

    #[test]
    fn rows_expire_after_their_ttl() {
        for (event, ttl, now, wanted) in [
            (100, Some(10), 110, false),
            (100, Some(10), 111, true),
            (100, None, i64::MAX, false),
            (100, Some(i64::MAX), i64::MAX, false),
            (100, Some(0), 100, false),
        ] {
            assert_eq!(
                is_expired(at(event), ttl.map(Duration::from_micros), at(now)),
                wanted
            );
        }
    }

    #[test]
    fn rows_are_rejected_beyond_the_skew() {
        let skew = Duration::from_micros(5);
        for (event, wanted) in [
            (99, Admission::Due),
            (100, Admission::Due),
            (101, Admission::Early),
            (105, Admission::Early),
            (106, Admission::Future),
        ] {
            assert_eq!(admit(at(event), at(100), skew), wanted);
        }
        assert_eq!(admit(Timestamp::MAX, Timestamp::MAX, skew), Admission::Due);
    }

    #[test]
    fn events_are_too_late_beyond_what_is_allowed() {
        for (event, allowed, wanted) in [
            (90, Some(10), Lateness::InTime),
            (89, Some(10), Lateness::TooLate),
            (i64::MIN, None, Lateness::InTime),
            (200, Some(0), Lateness::InTime),
        ] {
            assert_eq!(
                judge_lateness(at(event), at(100), allowed.map(Duration::from_micros)),
                wanted
            );
        }
    }

    #[test]
    fn availability_times() {
        assert_eq!(available_from_event(at(5), at(7)), at(7));
        assert_eq!(available_from_event(at(7), at(5)), at(7));
        assert_eq!(available_from_file(at(5), Duration::from_micros(3)), at(8));
        let hour = Interval {
            from: at(0),
            to: at(60),
        };
        assert_eq!(
            available_from_schedule(hour, Duration::from_micros(5)),
            at(65)
        );
    }

    #[test]
    fn intervals_contain_overlap_and_have_slugs() {
        let interval = |from, to| Interval {
            from: at(from),
            to: at(to),
        };
        assert!(interval(1, 3).contains(at(1)) && !interval(1, 3).contains(at(3)));
        assert!(interval(1, 3).overlaps(interval(2, 9)));
        assert!(!interval(1, 3).overlaps(interval(3, 9)));
        assert!(Interval::ALL.overlaps(interval(1, 3)));
        assert_eq!(Interval::ALL.slug(), "all");
        let day = Interval {
            from: "2013-01-01T00:00:00Z".parse().unwrap(),
            to: "2013-01-02T00:00:00Z".parse().unwrap(),
        };
        assert_eq!(day.slug(), "20130101T000000Z-20130102T000000Z");
        assert_eq!(
            day.to_string(),
            "[2013-01-01T00:00:00Z, 2013-01-02T00:00:00Z)"
        );
    }
}
