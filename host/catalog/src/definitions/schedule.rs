//! Schedules: when a pipeline runs by itself, and over which data intervals.
//!
//! The times of a cron expression in a time zone are the ticks of a schedule. Each tick ends one
//! data interval and begins the next.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use serde::{Deserialize, Serialize};
use wafer_core::rules::Interval;
use wafer_core::{Duration, Timestamp};
use wafer_store::Result;

/// When a pipeline runs by itself, and what happens when it cannot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleDef {
    /// The ticks, as the five fields of a cron expression. Each tick ends one data interval and
    /// begins the next.
    pub cron: String,
    /// The IANA name of the time zone of `cron`.
    pub timezone: String,
    /// The time from the end of an interval until requests see its rows. It
    /// leaves time for the interval's data to arrive and for the run.
    pub delay: Duration,
    /// The time from the end of an interval until its run starts. It leaves time
    /// for the interval's data to arrive.
    pub start_after: Duration,
    /// The maximum number of missed intervals that are run after a pause. Older ones are skipped.
    pub catch_up: u32,
    /// What happens when an interval is due while the run of another one is still going on.
    pub overlap: Overlap,
    /// How often a failed run is repeated.
    pub retries: u32,
    /// The time until the first repetition. It doubles with each further one.
    pub backoff: Duration,
    /// The maximum duration of a run. `None` means no limit.
    pub time_limit: Option<Duration>,
}

/// What happens when an interval is due while the run of another one is still going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// The interval is run afterwards.
    Wait,
    /// The interval is skipped.
    Skip,
}

/// The ticks of a schedule: the points in time at which its data intervals end.
#[derive(Clone, Debug)]
pub struct Ticks {
    pub(crate) cron: Cron,
    zone: Tz,
}

/// A second in microseconds.
const SECOND: i64 = 1_000_000;

impl Ticks {
    /// Creates the ticks of a schedule.
    ///
    /// # Errors
    /// Returns a message that names the key that is wrong, and what is wrong with it.
    pub fn new(schedule: &ScheduleDef) -> Result<Self, String> {
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let cron = parser.parse(&schedule.cron).map_err(|e| {
            format!(
                "cron: `{}` is not a cron expression: {e}; write minute, hour, day, month and \
                 weekday such as `0 * * * *`",
                schedule.cron
            )
        })?;
        let zone: Tz = schedule.timezone.parse().map_err(|_| {
            format!(
                "timezone: `{}` is not a time zone; write its IANA name such as America/New_York",
                schedule.timezone
            )
        })?;
        Ok(Self { cron, zone })
    }

    /// Returns whether there are ticks that begin and end an interval.
    pub fn occur(&self) -> bool {
        // Every expression that occurs at all occurs twice within some decades.
        let first = self.after(Timestamp::from_micros(0));
        first.and_then(|first| self.after(first)).is_some()
    }

    /// Returns the parsed cron expression.
    pub fn cron(&self) -> &Cron {
        &self.cron
    }

    /// Converts a time to the schedule's time zone, or returns `None` when it is out of range.
    fn local(&self, time: Timestamp) -> Option<DateTime<Tz>> {
        let utc = DateTime::<Utc>::from_timestamp_micros(time.as_micros())?;
        Some(utc.with_timezone(&self.zone))
    }

    /// Returns the first tick after a time.
    pub fn after(&self, time: Timestamp) -> Option<Timestamp> {
        let next = self
            .cron
            .find_next_occurrence(&self.local(time)?, false)
            .ok()?;
        Some(Timestamp::from_micros(next.timestamp_micros()))
    }

    /// Returns the last tick before a time.
    pub fn before(&self, time: Timestamp) -> Option<Timestamp> {
        // The search leaves out the whole second that it begins in. If some of that second is over,
        // it may have begun with a tick.
        let started = time.as_micros().checked_add(SECOND - 1)?;
        let end = Timestamp::from_micros(started.div_euclid(SECOND) * SECOND);
        let last = self
            .cron
            .find_previous_occurrence(&self.local(end)?, false)
            .ok()?;
        Some(Timestamp::from_micros(last.timestamp_micros()))
    }

    /// Returns the data intervals that lie within `from..=to`.
    pub fn intervals(&self, from: Timestamp, to: Timestamp) -> Vec<Interval> {
        let mut intervals = Vec::new();
        let first = self.after(from.minus(Duration::MICROSECOND));
        let mut start = first.filter(|first| *first < to);
        while let Some(from) = start {
            start = self.after(from).filter(|end| *end <= to);
            intervals.extend(start.map(|to| Interval { from, to }));
        }
        intervals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(cron: &str, timezone: &str) -> Result<Ticks, String> {
        Ticks::new(&ScheduleDef {
            cron: cron.to_owned(),
            timezone: timezone.to_owned(),
            delay: Duration::ZERO,
            start_after: Duration::ZERO,
            catch_up: 1,
            overlap: Overlap::Wait,
            retries: 0,
            backoff: Duration::ZERO,
            time_limit: None,
        })
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_argument(text).unwrap()
    }

    #[test]
    fn intervals_follow_daylight_saving_time() {
        // New York switched to daylight saving time on 2013-03-10, so that day has 23 hours.
        let ticks = ticks("0 0 * * *", "America/New_York").unwrap();
        let found = ticks.intervals(at("2013-03-09T05:00:00Z"), at("2013-03-12T04:00:00Z"));
        let ends: Vec<String> = found.iter().map(|i| i.to.to_string()).collect();
        assert_eq!(
            ends,
            [
                "2013-03-10T05:00:00Z",
                "2013-03-11T04:00:00Z",
                "2013-03-12T04:00:00Z"
            ]
        );
        assert!(found.windows(2).all(|pair| pair[0].to == pair[1].from));
        assert_eq!(
            ticks.before(at("2013-03-11T04:00:00Z")),
            Some(at("2013-03-10T05:00:00Z"))
        );
        assert!(
            ticks
                .intervals(at("2013-03-09"), at("2013-03-09T06:00:00Z"))
                .is_empty()
        );
    }

    #[test]
    fn a_tick_is_before_the_rest_of_its_second() {
        let ticks = ticks("* * * * *", "UTC").unwrap();
        for (time, wanted) in [
            ("2020-01-01T12:00:00Z", "2020-01-01T11:59:00Z"),
            ("2020-01-01T12:00:00.000001Z", "2020-01-01T12:00:00Z"),
            ("2020-01-01T12:00:00.999999Z", "2020-01-01T12:00:00Z"),
            ("2020-01-01T12:00:01Z", "2020-01-01T12:00:00Z"),
            ("2020-01-01T11:59:59.999999Z", "2020-01-01T11:59:00Z"),
            ("1969-12-31T23:58:00.5Z", "1969-12-31T23:58:00Z"),
        ] {
            assert_eq!(ticks.before(at(time)), Some(at(wanted)), "{time}");
        }
        assert_eq!(ticks.before(Timestamp::MAX), None);
    }

    #[test]
    fn dates_that_no_year_has_do_not_occur() {
        for (cron, wanted) in [
            ("0 0 29 2 *", true),
            ("0 0 30 2 *", false),
            ("0 0 31 4,6,9,11 *", false),
            ("0 0 31 2-4 *", true),
            ("*/5 * 30,31 2 *", false),
            ("*/5 * * * *", true),
        ] {
            for zone in ["UTC", "America/New_York"] {
                assert_eq!(ticks(cron, zone).unwrap().occur(), wanted, "{cron} {zone}");
            }
        }
    }

    #[test]
    fn an_invalid_schedule_names_the_wrong_key() {
        let message = |cron, zone| ticks(cron, zone).unwrap_err();
        assert!(message("every day", "UTC").starts_with("cron: `every day` is not a cron"));
        assert!(message("0 * * * * *", "UTC").starts_with("cron: "));
        assert!(message("0 * * * *", "New York").starts_with("timezone: `New York` is not"));
    }
}
