//! Timestamps and dates.

use std::fmt;

/// A point in time: microseconds since the Unix epoch, 1970-01-01T00:00:00 UTC, without leap
/// seconds. It is a type of its own so that it cannot be confused with other integers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Creates a timestamp from microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Creates a timestamp from whole seconds since the Unix epoch. Saturates at the ends of the
    /// range (about the years -290,308 and 294,247).
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// The microseconds since the Unix epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// The whole seconds since the Unix epoch, rounded towards the past.
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// The time `micros` microseconds later (earlier, if negative). Saturates at the ends of the
    /// range.
    #[must_use]
    pub const fn plus_micros(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// The calendar day in UTC.
    pub const fn date(self) -> Date {
        Date(self.0.div_euclid(86_400_000_000) as i32)
    }
}

impl fmt::Display for Timestamp {
    /// Writes RFC 3339 in UTC with microseconds, such as `2013-01-01T10:15:00.000000Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.rem_euclid(86_400_000_000);
        let seconds = micros / 1_000_000;
        write!(
            f,
            "{}T{:02}:{:02}:{:02}.{:06}Z",
            self.date(),
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60,
            micros % 1_000_000
        )
    }
}

/// A calendar day: days since 1970-01-01 in the proleptic Gregorian calendar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(i32);

impl Date {
    /// Creates a date from days since 1970-01-01.
    pub const fn from_days(days: i32) -> Self {
        Self(days)
    }

    /// The days since 1970-01-01.
    pub const fn as_days(self) -> i32 {
        self.0
    }

    /// Creates a date from year (1 to 9999), month (1 to 12) and day (1 to 31), or returns `None`
    /// when there is no such day.
    pub const fn from_ymd(year: i32, month: u32, day: u32) -> Option<Self> {
        if year < 1 || year > 9999 || month < 1 || month > 12 || day < 1 || day > 31 {
            return None;
        }
        let date = Self::from_ymd_unchecked(year, month, day);
        let (_, m, d) = date.ymd();
        if m == month && d == day {
            Some(date)
        } else {
            None
        }
    }

    // The algorithm `days_from_civil`, which shifts the year to start in March so that the leap day
    // comes last: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms",
    // https://howardhinnant.github.io/date_algorithms.html
    const fn from_ymd_unchecked(year: i32, month: u32, day: u32) -> Self {
        let year = year as i64 - (month <= 2) as i64;
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let month_from_march = (month as i64 + 9) % 12;
        let day_of_year = (153 * month_from_march + 2) / 5 + day as i64 - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        Self((era * 146_097 + day_of_era - 719_468) as i32)
    }

    /// The year, month (1 to 12) and day (1 to 31).
    pub const fn ymd(self) -> (i32, u32, u32) {
        let days = self.0 as i64 + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u32;
        let month = if month_from_march < 10 {
            month_from_march + 3
        } else {
            month_from_march - 9
        };
        let year = year_of_era + era * 400 + (month <= 2) as i64;
        (year as i32, month as u32, day)
    }

    /// The day of the week: 1 = Monday to 7 = Sunday (ISO 8601).
    pub const fn weekday(self) -> u32 {
        // 1970-01-01 was a Thursday.
        (self.0 as i64 + 3).rem_euclid(7) as u32 + 1
    }
}

impl fmt::Display for Date {
    /// Writes ISO 8601, such as `2013-01-01`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.ymd();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_round_trip() {
        for (year, month, day, days) in [
            (1970, 1, 1, 0),
            (1969, 12, 31, -1),
            (2000, 2, 29, 11_016),
            (2013, 3, 10, 15_774),
            (1900, 3, 1, -25_508),
        ] {
            let date = Date::from_ymd(year, month, day).unwrap();
            assert_eq!(date.as_days(), days);
            assert_eq!(date.ymd(), (year, month, day));
        }
        for days in (-800_000..800_000).step_by(37) {
            let (y, m, d) = Date::from_days(days).ymd();
            if let Some(date) = Date::from_ymd(y, m, d) {
                assert_eq!(date.as_days(), days);
            }
        }
    }

    #[test]
    fn impossible_dates_are_none() {
        for (year, month, day) in [
            (2013, 2, 29),
            (1900, 2, 29),
            (2013, 4, 31),
            (2013, 13, 1),
            (2013, 0, 1),
            (0, 1, 1),
        ] {
            assert_eq!(Date::from_ymd(year, month, day), None);
        }
    }

    #[test]
    fn weekdays_are_iso() {
        assert_eq!(Date::from_ymd(2013, 1, 1).unwrap().weekday(), 2);
        assert_eq!(Date::from_ymd(1970, 1, 1).unwrap().weekday(), 4);
        assert_eq!(Date::from_ymd(1969, 12, 28).unwrap().weekday(), 7);
    }

    #[test]
    fn timestamps_print_as_rfc_3339() {
        assert_eq!(
            Timestamp::from_seconds(1_357_035_300).to_string(),
            "2013-01-01T10:15:00.000000Z"
        );
        assert_eq!(
            Timestamp::from_micros(-1).to_string(),
            "1969-12-31T23:59:59.999999Z"
        );
    }
}
