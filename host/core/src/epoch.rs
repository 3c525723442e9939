//! Integers that stand for times.
//!
//! Seconds, milliseconds, microseconds and nanoseconds since 1970 look alike, and each of them is
//! common. So an integer is never read as a time unless its unit is known: a typed column of a
//! file has it in its type, and a source declares it for others. A value that is not exactly a
//! storable time is refused; nothing is rounded and nothing wraps.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// The unit of integers that count from 1970-01-01T00:00:00 UTC, which `wafer.toml` and stored
/// definitions write as `d`, `s`, `ms`, `us` or `ns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EpochUnit {
    /// Days.
    #[serde(rename = "d")]
    Days,
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Microseconds.
    #[serde(rename = "us")]
    Microseconds,
    /// Nanoseconds.
    #[serde(rename = "ns")]
    Nanoseconds,
}

impl EpochUnit {
    /// Returns the time that so many units after 1970 are.
    ///
    /// # Errors
    /// Returns a message with the value when it has digits beyond microseconds, or lies outside
    /// of the years 1 to 9999.
    pub fn timestamp(self, count: i64) -> Result<Timestamp, String> {
        let micros = match self {
            Self::Days => count.checked_mul(86_400_000_000),
            Self::Seconds => count.checked_mul(1_000_000),
            Self::Milliseconds => count.checked_mul(1_000),
            Self::Microseconds => Some(count),
            Self::Nanoseconds if count % 1_000 == 0 => Some(count / 1_000),
            Self::Nanoseconds => {
                return Err(format!(
                    "{count} ns since 1970 has digits beyond microseconds, which times do not have"
                ));
            }
        };
        micros
            .map(Timestamp::from_micros)
            .filter(|time| time.is_storable())
            .ok_or_else(|| self.out_of_range(count))
    }

    /// Returns the date, in days after 1970-01-01, that so many units after it are.
    ///
    /// # Errors
    /// Returns a message with the value when it is not a whole number of days, or lies outside of
    /// the years 1 to 9999.
    pub fn date(self, count: i64) -> Result<i32, String> {
        let of_one_day = match self {
            Self::Days => 1,
            Self::Seconds => 86_400,
            Self::Milliseconds => 86_400_000,
            Self::Microseconds => 86_400_000_000,
            Self::Nanoseconds => 86_400_000_000_000,
        };
        if count % of_one_day != 0 {
            return Err(format!(
                "{count} {self} since 1970 is not a whole number of days"
            ));
        }
        i32::try_from(count / of_one_day)
            .ok()
            .filter(|days| is_storable_date(*days))
            .ok_or_else(|| self.out_of_range(count))
    }

    fn out_of_range(self, count: i64) -> String {
        format!("{count} {self} since 1970 is outside of the years 1 to 9999")
    }
}

impl fmt::Display for EpochUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Days => "d",
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
            Self::Microseconds => "us",
            Self::Nanoseconds => "ns",
        })
    }
}

/// Whether a date, in days since 1970-01-01, lies in the years 1 to 9999, as stored times must.
pub fn is_storable_date(days: i32) -> bool {
    (-719_162..=2_932_896).contains(&days)
}

/// The message for an integer where a time is wanted, and no unit is known.
pub(crate) fn no_unit(integer: impl fmt::Display) -> String {
    format!(
        "{integer} is a number, and nothing says in which unit it counts; write RFC 3339 such as \
         2013-01-01T10:15:00Z, or declare the unit of the column under `times` of the source"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_times_exactly_or_not_at_all() {
        use EpochUnit::{Days, Microseconds, Milliseconds, Nanoseconds, Seconds};
        let year = "is outside of the years 1 to 9999";
        for (unit, count, wanted) in [
            (Seconds, 1_704_067_200, Ok("2024-01-01T00:00:00Z")),
            (Milliseconds, 1_704_067_200_000, Ok("2024-01-01T00:00:00Z")),
            (
                Microseconds,
                1_704_067_200_000_000,
                Ok("2024-01-01T00:00:00Z"),
            ),
            (
                Nanoseconds,
                1_704_067_200_000_000_000,
                Ok("2024-01-01T00:00:00Z"),
            ),
            (Days, 19_723, Ok("2024-01-01T00:00:00Z")),
            (Milliseconds, -1, Ok("1969-12-31T23:59:59.999Z")),
            (Nanoseconds, -1_000, Ok("1969-12-31T23:59:59.999999Z")),
            (Nanoseconds, 1, Err("has digits beyond microseconds")),
            (Nanoseconds, -1, Err("has digits beyond microseconds")),
            (Nanoseconds, i64::MAX, Err("has digits beyond microseconds")),
            (Seconds, 253_402_300_799, Ok("9999-12-31T23:59:59Z")),
            (Seconds, 253_402_300_800, Err(year)),
            (Seconds, -62_135_596_800, Ok("0001-01-01T00:00:00Z")),
            (Seconds, -62_135_596_801, Err(year)),
            (Seconds, i64::MAX, Err(year)),
            (Milliseconds, i64::MAX, Err(year)),
            (Milliseconds, i64::MIN, Err(year)),
            (Microseconds, i64::MAX, Err(year)),
            (Days, i64::MIN, Err(year)),
        ] {
            let found = unit.timestamp(count).map(|time| time.to_string());
            match (found, wanted) {
                (Ok(found), Ok(wanted)) => assert_eq!(found, wanted, "{count} {unit}"),
                (Err(found), Err(wanted)) => {
                    assert!(found.starts_with(&format!("{count} {unit} since 1970 {wanted}")));
                }
                (found, wanted) => panic!("{count} {unit}: {found:?}, wanted {wanted:?}"),
            }
        }
    }

    #[test]
    fn integers_are_dates_only_as_whole_days() {
        for (unit, count, wanted) in [
            (EpochUnit::Days, 19_723, Ok(19_723)),
            (EpochUnit::Milliseconds, 86_400_000, Ok(1)),
            (EpochUnit::Milliseconds, -86_400_000, Ok(-1)),
            (
                EpochUnit::Milliseconds,
                86_400_001,
                Err("whole number of days"),
            ),
            (EpochUnit::Days, 2_932_897, Err("years 1 to 9999")),
            (EpochUnit::Days, i64::MAX, Err("years 1 to 9999")),
        ] {
            match (unit.date(count), wanted) {
                (Ok(found), Ok(wanted)) => assert_eq!(found, wanted, "{count} {unit}"),
                (Err(found), Err(part)) => assert!(found.contains(part), "{found}"),
                (found, wanted) => panic!("{count} {unit}: {found:?}, wanted {wanted:?}"),
            }
        }
    }
}
