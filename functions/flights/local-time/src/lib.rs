//! Local time at airports of the United States.
//!
//! The data gives hours and minutes on the wall clock of an airport; a model needs instants. Two
//! values determine what a wall clock shows: the standard offset from UTC, and whether daylight
//! saving time is observed. Since 2007 that lasts from 2:00 on the second Sunday of March to 2:00
//! on the first Sunday of November (Energy Policy Act of 2005, section 110).

use std::collections::HashMap;

use wafer::{Date, Timestamp};

const MINUTE: i64 = 60_000_000;

/// The difference between an airport's wall clock and UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Standard time minus UTC, minutes; negative in the Americas.
    pub utc_offset_minutes: i64,
    /// Whether clocks are put forward in summer.
    pub observes_dst: bool,
}

impl Zone {
    /// The minutes by which the wall clock is ahead of UTC at an instant; negative if it is behind.
    pub fn offset_at(self, time: Timestamp) -> i64 {
        let (year, ..) = time
            .plus_micros(self.utc_offset_minutes * MINUTE)
            .date()
            .ymd();
        let summer = self.observes_dst
            && sunday(year, 3, 2)
                .zip(sunday(year, 11, 1))
                .is_some_and(|(start, end)| {
                    let standard = self.utc_offset_minutes;
                    let start = instant(start, 120, standard);
                    let end = instant(end, 120, standard + 60);
                    start <= time && time < end
                });
        self.utc_offset_minutes + if summer { 60 } else { 0 }
    }

    /// The instants at which the wall clock shows `minutes` after midnight of a day, in order: none
    /// in the hour that is skipped in spring, two in the hour that is repeated in autumn.
    pub fn instants(self, day: Date, minutes: i64) -> impl Iterator<Item = Timestamp> {
        [self.utc_offset_minutes + 60, self.utc_offset_minutes]
            .into_iter()
            .filter_map(move |offset| {
                let candidate = instant(day, minutes, offset);
                (self.offset_at(candidate) == offset).then_some(candidate)
            })
    }

    /// The first instant after `time` at which the wall clock shows `hhmm`. Flights take less than
    /// a day, so this is the instant of their arrival.
    ///
    /// # Errors
    /// Returns an error when `hhmm` is not a time of day, or does not occur within a day.
    pub fn first_after(self, time: Timestamp, hhmm: i64) -> Result<Timestamp, String> {
        let (hour, minute) = (hhmm / 100, hhmm % 100);
        if !(0..=2400).contains(&hhmm) || minute > 59 {
            return Err(format!("{hhmm} is not a time of day as hhmm"));
        }
        let (day, _) = self.wall_clock(time);
        let days = (0..=2).map(|later| Date::from_days(day.as_days() + later));
        days.flat_map(|day| self.instants(day, hour * 60 + minute))
            .find(|instant| *instant > time)
            .ok_or_else(|| format!("{hhmm} does not come within a day of departure"))
    }

    /// The day and the minutes after midnight that the wall clock shows.
    pub fn wall_clock(self, time: Timestamp) -> (Date, i64) {
        let local = time.plus_micros(self.offset_at(time) * MINUTE);
        (
            local.date(),
            local.as_micros().rem_euclid(1_440 * MINUTE) / MINUTE,
        )
    }
}

/// Reads the zones of airports, by code, from CSV with the columns `faa`, `utc_offset_minutes` and
/// `observes_dst`.
///
/// # Errors
/// Returns an error that names the first invalid line.
pub fn read_zones(text: &str) -> Result<HashMap<String, Zone>, String> {
    let lines = text.lines().enumerate().skip(1);
    lines
        .map(|(index, line)| {
            let wrong = || {
                format!(
                    "asset `zones`, line {}: `{line}` is not faa,minutes,true|false",
                    index + 1
                )
            };
            let [faa, offset, dst]: [&str; 3] = line
                .split(',')
                .collect::<Vec<_>>()
                .try_into()
                .map_err(|_| wrong())?;
            let zone = Zone {
                utc_offset_minutes: offset.parse().map_err(|_| wrong())?,
                observes_dst: dst.parse().map_err(|_| wrong())?,
            };
            Ok((faa.to_owned(), zone))
        })
        .collect()
}

/// The instant that is `minutes` after midnight of a day, at an offset from UTC.
fn instant(day: Date, minutes: i64, offset_minutes: i64) -> Timestamp {
    Timestamp::from_micros((i64::from(day.as_days()) * 1_440 + minutes - offset_minutes) * MINUTE)
}

/// The `nth` Sunday of a month, counted from 1.
fn sunday(year: i32, month: u32, nth: i32) -> Option<Date> {
    let first = Date::from_ymd(year, month, 1)?;
    let to_sunday = 7 - first.weekday() as i32;
    Some(Date::from_days(first.as_days() + to_sunday + (nth - 1) * 7))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW_YORK: Zone = Zone {
        utc_offset_minutes: -300,
        observes_dst: true,
    };
    const PHOENIX: Zone = Zone {
        utc_offset_minutes: -420,
        observes_dst: false,
    };

    fn texts(zone: Zone, month: u32, day: u32, minutes: i64) -> Vec<String> {
        let day = Date::from_ymd(2013, month, day).unwrap();
        zone.instants(day, minutes)
            .map(|t| t.to_string()[..16].to_owned())
            .collect()
    }

    #[test]
    fn wall_clocks_become_instants() {
        // Daylight saving time of 2013 in the United States: 10 March to 3 November.
        for (zone, month, day, hour, minute, wanted) in [
            (NEW_YORK, 1, 1, 5, 15, vec!["2013-01-01T10:15"]),
            (NEW_YORK, 7, 1, 5, 15, vec!["2013-07-01T09:15"]),
            (NEW_YORK, 12, 31, 23, 59, vec!["2014-01-01T04:59"]),
            (NEW_YORK, 3, 10, 1, 59, vec!["2013-03-10T06:59"]),
            (NEW_YORK, 3, 10, 2, 30, vec![]),
            (NEW_YORK, 3, 10, 3, 0, vec!["2013-03-10T07:00"]),
            (
                NEW_YORK,
                11,
                3,
                1,
                30,
                vec!["2013-11-03T05:30", "2013-11-03T06:30"],
            ),
            (NEW_YORK, 11, 3, 2, 0, vec!["2013-11-03T07:00"]),
            (PHOENIX, 7, 1, 5, 15, vec!["2013-07-01T12:15"]),
            (NEW_YORK, 6, 1, 24, 0, vec!["2013-06-02T04:00"]),
        ] {
            assert_eq!(
                texts(zone, month, day, hour * 60 + minute),
                wanted,
                "{month}-{day} {hour}:{minute}"
            );
        }
    }

    #[test]
    fn instants_become_wall_clocks() {
        for hours in 0..24 * 400 {
            let time = Timestamp::from_seconds(1_356_998_400 + hours * 3_600 + 17 * 60);
            let (day, minutes) = NEW_YORK.wall_clock(time);
            assert!(NEW_YORK.instants(day, minutes).any(|t| t == time), "{time}");
        }
    }
}
