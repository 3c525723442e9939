//! Durations: lengths of time.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ParseUnitError;
use crate::units::Quantity;

/// Durations, in 63 bits of microseconds.
const DURATION: Quantity = Quantity {
    name: "duration",
    example: "a number and a unit such as 30d, 12h, 5m, 60s, 100ms or 50us",
    most: "106751991d",
};

const UNITS: [(&str, i64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

/// A length of time in whole microseconds. Never a float. Serialized as the number of
/// microseconds.
///
/// Unlike [`std::time::Duration`] it has the unit and the range of [`Timestamp`](crate::Timestamp),
/// so that their sum is exact. Sums and products saturate.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Duration(i64);

impl Duration {
    /// No time.
    pub const ZERO: Self = Self(0);
    /// The shortest length of time, which is the step between timestamps.
    pub const MICROSECOND: Self = Self(1);

    /// Creates a duration of so many microseconds.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Creates a duration of so many seconds.
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Creates a duration of so many minutes.
    pub const fn from_mins(minutes: i64) -> Self {
        Self(minutes.saturating_mul(60_000_000))
    }

    /// Creates a duration of so many hours.
    pub const fn from_hours(hours: i64) -> Self {
        Self(hours.saturating_mul(3_600_000_000))
    }

    /// Creates a duration of so many days of 24 hours.
    pub const fn from_days(days: i64) -> Self {
        Self(days.saturating_mul(86_400_000_000))
    }

    /// Returns the number of microseconds.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Returns the duration so many times.
    #[must_use]
    pub const fn times(self, factor: i64) -> Self {
        Self(self.0.saturating_mul(factor))
    }
}

impl fmt::Display for Duration {
    /// Writes the number of the largest unit that divides the duration, such as `90m`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, scale) = UNITS
            .into_iter()
            .find(|(_, scale)| self.0 != 0 && self.0 % scale == 0)
            .unwrap_or(("s", 1_000_000));
        write!(f, "{}{unit}", self.0 / scale)
    }
}

impl FromStr for Duration {
    type Err = ParseUnitError;

    /// Parses a duration such as `30d`, `12h`, `5m`, `60s`, `100ms` or `50us`, or several of them
    /// (`1h30m`).
    ///
    /// # Errors
    /// Returns an error when a number or a unit is missing, the unit is unknown, there is a sign,
    /// or the duration does not fit 64 bits of microseconds.
    fn from_str(text: &str) -> Result<Self, ParseUnitError> {
        let malformed = || DURATION.malformed(text);
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(malformed());
        }
        // `None` once it does not fit. The rest of the text is looked at nevertheless.
        let mut micros = Some(0i64);
        while !rest.is_empty() {
            let digits = rest
                .find(|c: char| !c.is_ascii_digit())
                .filter(|digits| *digits > 0)
                .ok_or_else(malformed)?;
            let (number, tail) = rest.split_at(digits);
            let letters = tail
                .find(|c: char| !c.is_ascii_alphabetic())
                .unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(letters);
            let scale = UNITS
                .iter()
                .find(|(name, _)| *name == unit)
                .ok_or_else(malformed)?
                .1;
            let part = number.parse::<i64>().ok();
            let part = part.and_then(|number| number.checked_mul(scale));
            let sum = micros.zip(part);
            micros = sum.and_then(|(micros, part)| micros.checked_add(part));
            rest = tail.trim_start();
        }
        micros.map(Self).ok_or_else(|| DURATION.too_large(text))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_parse_and_print() {
        for (text, micros, printed) in [
            ("30d", 30 * 86_400_000_000, "30d"),
            ("90m", 5_400_000_000, "90m"),
            ("1h30m", 5_400_000_000, "90m"),
            ("100ms", 100_000, "100ms"),
            ("0s", 0, "0s"),
            ("7us", 7, "7us"),
            ("600000001us", 600_000_001, "600000001us"),
            ("600000000us", 600_000_000, "10m"),
            ("106751991d", 106_751_991 * 86_400_000_000, "106751991d"),
            ("9223372036854775807us", i64::MAX, "9223372036854775807us"),
            ("1s 1us", 1_000_001, "1000001us"),
        ] {
            let duration = Duration::from_micros(micros);
            assert_eq!(text.parse(), Ok(duration), "{text}");
            assert_eq!(duration.to_string(), printed);
        }
        let wrong = "is not a duration; write a number and a unit";
        let long = "is more than 106751991d, the greatest duration";
        for (text, wanted) in [
            ("", wrong),
            ("5", "`5` is not a duration"),
            ("m", wrong),
            ("5 parsecs", wrong),
            ("5 m", wrong),
            ("1.5h", wrong),
            ("+5m", wrong),
            ("1h-5m", wrong),
            ("5M", wrong),
            ("5m;", wrong),
            ("-", wrong),
            ("-5m", "`-5m` is less than zero, which no duration is"),
            ("-1s", "is less than zero"),
            ("9999999999999d", long),
            ("9223372036854775807d", long),
            ("9223372036854775808us", long),
            ("106751991d1d", long),
            ("99999999999999999999999999us", long),
            // A text that is not a duration is not said to be too long.
            ("9999999999999d5", wrong),
        ] {
            let error = text.parse::<Duration>().unwrap_err().to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn durations_are_read_again_as_they_are_printed(
            micros in 0..=i64::MAX,
            shift in 0..63_u32,
            unit in 0..UNITS.len(),
        ) {
            let (name, scale) = UNITS[unit];
            let number = (micros >> shift) / scale;
            let text = format!("{number}{name}");
            let duration: Duration = text.parse().unwrap();
            prop_assert_eq!(duration.as_micros(), number * scale, "{}", text);
            let printed = duration.to_string();
            prop_assert_eq!(printed.parse(), Ok(duration), "{}", printed);
        }
    }

    #[test]
    fn durations_are_stored_as_numbers_of_microseconds() {
        let json = serde_json::to_string(&Some(Duration::from_secs(2))).unwrap();
        assert_eq!(json, "2000000");
        assert_eq!(
            serde_json::from_str::<Duration>("7").unwrap(),
            Duration::from_micros(7)
        );
    }

    #[test]
    fn sums_and_products_saturate() {
        let most = Duration::from_micros(i64::MAX);
        assert_eq!(most.times(2), most);
        assert_eq!(Duration::from_days(i64::MAX), most);
    }
}
