//! The rules of time that online, offline, batch and stream share; each has its
//! one place here.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// What orders two rows of one entity: the event time, between rows of the same
/// event time the time they were created (claimed for writing), and between those
/// the identity of their event, so that no two orders of arrival differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RowVersion {
    /// When the fact held.
    pub event: Timestamp,
    /// When its writing was claimed.
    pub created: Timestamp,
    /// [`identity`] of its event.
    pub id: u64,
}

/// The identity of an event as a number: XXH64 of its text.
pub fn identity(event_id: &str) -> u64 {
    twox_hash::XxHash64::oneshot(0, event_id.as_bytes())
}

impl RowVersion {
    /// Says which row was read, in the log of requests and in comparisons with it: of two
    /// rows of one identity all values are the same.
    pub fn identity(self) -> String {
        let Self { event, created, id } = self;
        format!("{}/{}/{id:016x}", event.as_micros(), created.as_micros())
    }
}

/// The online write rule: a row replaces the stored one only if it is newer.
/// Writing the same row twice changes nothing.
pub fn replaces(new: RowVersion, stored: Option<RowVersion>) -> bool {
    stored.is_none_or(|stored| new > stored)
}

/// Whether a row of this event time has outlived its time to live at `now`.
/// `ttl` in microseconds; absent means it lives for ever.
pub fn is_expired(event: Timestamp, ttl: Option<i64>, now: Timestamp) -> bool {
    ttl.is_some_and(|ttl| event < now.minus_micros(ttl))
}

/// How long rows are answered as expired, before a store may forget them.
const EXPIRED_FOR: i64 = 30 * 86_400_000_000;

/// Until when a row is to be kept online, so that requests are told that it is
/// expired, and not that there never was one. `None`: for ever.
pub fn keep_until(event: Timestamp, ttl: Option<i64>) -> Option<Timestamp> {
    ttl.map(|ttl| event.plus_micros(ttl).plus_micros(EXPIRED_FOR))
}

/// What to do with a row, by how far in the future its event time lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Not in the future: apply it.
    Due,
    /// Within the allowed skew: keep it, apply it online when it is due.
    Early,
    /// Beyond the allowed skew: refuse it.
    Future,
}

/// Judges a row by its event time. `skew` in microseconds.
pub fn admit(event: Timestamp, now: Timestamp, skew: i64) -> Admission {
    if event <= now {
        Admission::Due
    } else if event <= now.plus_micros(skew) {
        Admission::Early
    } else {
        Admission::Future
    }
}

/// Whether an event comes in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lateness {
    /// It counts.
    InTime,
    /// It is older than allowed, and waits to be healed.
    TooLate,
}

/// Judges an event that comes in at `now` by its age. `allowed` in microseconds,
/// that age included; absent: no event is too late.
pub fn judge_lateness(event: Timestamp, now: Timestamp, allowed: Option<i64>) -> Lateness {
    match allowed {
        Some(allowed) if event < now.minus_micros(allowed) => Lateness::TooLate,
        _ => Lateness::InTime,
    }
}

/// When a request could first have seen an event that came in at `ingested`.
pub fn available_from_event(event: Timestamp, ingested: Timestamp) -> Timestamp {
    event.max(ingested)
}

/// When a request could first have seen a row that a scheduled run makes: the
/// run starts `delay` microseconds after the end of its interval.
pub fn available_from_schedule(interval: Interval, delay: i64) -> Timestamp {
    interval.to.plus_micros(delay)
}

/// When a request could first have seen a row of an unscheduled file, whose
/// source declares `delay` microseconds between a fact and its arrival.
pub fn available_from_file(event: Timestamp, delay: i64) -> Timestamp {
    event.plus_micros(delay)
}

/// A span of event time that a run covers: from `from`, included, to `to`, not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Interval {
    /// First point in time that belongs to it.
    pub from: Timestamp,
    /// First point in time after it.
    pub to: Timestamp,
}

impl Interval {
    /// All of time.
    pub const ALL: Self = Self {
        from: Timestamp::MIN,
        to: Timestamp::MAX,
    };

    /// Whether a point in time belongs to it.
    pub fn contains(self, time: Timestamp) -> bool {
        self.from <= time && time < self.to
    }

    /// Whether two intervals share a point in time.
    pub fn overlaps(self, other: Self) -> bool {
        self.from < other.to && other.from < self.to
    }

    /// A name for it that can be part of a path: `all`, or both ends in UTC.
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
    fn newest_event_wins_then_newest_write_then_identity() {
        let version = |event, created, id| RowVersion {
            event: at(event),
            created: at(created),
            id,
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
    fn a_row_lives_for_its_ttl_and_that_instant_included() {
        for (event, ttl, now, wanted) in [
            (100, Some(10), 110, false),
            (100, Some(10), 111, true),
            (100, None, i64::MAX, false),
            (100, Some(i64::MAX), i64::MAX, false),
            (100, Some(0), 100, false),
        ] {
            assert_eq!(is_expired(at(event), ttl, at(now)), wanted);
        }
    }

    #[test]
    fn the_future_is_refused_beyond_the_skew() {
        for (event, wanted) in [
            (99, Admission::Due),
            (100, Admission::Due),
            (101, Admission::Early),
            (105, Admission::Early),
            (106, Admission::Future),
        ] {
            assert_eq!(admit(at(event), at(100), 5), wanted);
        }
        assert_eq!(admit(Timestamp::MAX, Timestamp::MAX, 5), Admission::Due);
    }

    #[test]
    fn events_are_too_late_beyond_what_is_allowed() {
        for (event, allowed, wanted) in [
            (90, Some(10), Lateness::InTime),
            (89, Some(10), Lateness::TooLate),
            (i64::MIN, None, Lateness::InTime),
            (200, Some(0), Lateness::InTime),
        ] {
            assert_eq!(judge_lateness(at(event), at(100), allowed), wanted);
        }
    }

    #[test]
    fn availability() {
        assert_eq!(available_from_event(at(5), at(7)), at(7));
        assert_eq!(available_from_event(at(7), at(5)), at(7));
        assert_eq!(available_from_file(at(5), 3), at(8));
        let hour = Interval {
            from: at(0),
            to: at(60),
        };
        assert_eq!(available_from_schedule(hour, 5), at(65));
    }

    #[test]
    fn intervals() {
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
            from: "2013-01-01".parse().unwrap(),
            to: "2013-01-02".parse().unwrap(),
        };
        assert_eq!(day.slug(), "20130101T000000Z-20130102T000000Z");
        assert_eq!(
            day.to_string(),
            "[2013-01-01T00:00:00Z, 2013-01-02T00:00:00Z)"
        );
    }
}
