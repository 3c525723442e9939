//! Timestamps, and the clocks that tell the current one.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, FixedOffset, NaiveDateTime, NaiveTime, SecondsFormat, Utc};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Duration;
use crate::text::shown;

/// A point in time: microseconds since the Unix epoch, 1970-01-01T00:00:00 UTC. Never a float and
/// never local time. Serialized as RFC 3339 text, or in binary formats as an integer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The earliest point in time.
    pub const MIN: Self = Self(i64::MIN);
    /// The latest point in time.
    pub const MAX: Self = Self(i64::MAX);

    /// Whether the year is between 1 and 9999, as it must be for every stored time: table readers
    /// and text formats support no other years.
    pub const fn is_storable(self) -> bool {
        -62_135_596_800_000_000 <= self.0 && self.0 <= 253_402_300_799_999_999
    }

    /// Parses the time of an argument or a setting: one that [`FromStr`] parses, or a date, which
    /// stands for its midnight in UTC. It is not for values of rows, which are read as it is
    /// [declared](crate::Reading) of them.
    ///
    /// # Errors
    /// Returns an error when the text is neither, and when it lies outside of the years 1 to 9999.
    pub fn parse_argument(text: &str) -> Result<Self, ParseTimestampError> {
        let time = Self::parse_setting(text)?;
        match time.is_storable() {
            true => Ok(time),
            false => Err(ParseTimestampError::OutsideOfYears(shown(text))),
        }
    }

    /// Parses a time like [`Self::parse_argument`], of any year: records have the ends of intervals
    /// without a start or an end.
    fn parse_setting(text: &str) -> Result<Self, ParseTimestampError> {
        match parse_date(text) {
            Some(date) => {
                let midnight = date.and_time(NaiveTime::MIN).and_utc();
                Ok(Self(midnight.timestamp_micros()))
            }
            None => text.parse(),
        }
    }

    /// Creates a timestamp from microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// The microseconds since the Unix epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Creates a timestamp from milliseconds since the Unix epoch; saturates.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// The milliseconds since the Unix epoch, rounded towards the past.
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// The time so much later; saturates.
    #[must_use]
    pub const fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_micros()))
    }

    /// The time so much earlier; saturates.
    #[must_use]
    pub const fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration.as_micros()))
    }

    /// How much later this time is than another one; saturates, and is negative if it is earlier.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    /// Writes RFC 3339 in UTC with as few decimals as the value needs, or microseconds since the
    /// epoch with the suffix `us` when the year does not fit that format.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::<Utc>::from_timestamp_micros(self.0) {
            Some(time) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            None => write!(f, "{}us", self.0),
        }
    }
}

/// The error for text that is not a timestamp. It shows the first 60 characters of the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseTimestampError {
    /// The text is an integer, whose unit is not known.
    #[error("{}", crate::epoch::no_unit(.0))]
    Integer(String),
    /// The text has a time that is finer than microseconds.
    #[error("`{0}` has digits beyond microseconds, which times do not have; write at most six")]
    TooFine(String),
    /// The text has the second 60.
    #[error("`{0}` is a leap second, which times do not have")]
    LeapSecond(String),
    /// The text is a date or a time that names no time zone, and so another point in time in each.
    #[error(
        "`{0}` names no time zone; write RFC 3339 such as 2013-01-01T10:15:00Z or 2013-01-01T05:15:00-05:00"
    )]
    NoZone(String),
    /// The text is a time that tables and texts of other programs cannot have.
    #[error("`{0}` is outside of the years 1 to 9999")]
    OutsideOfYears(String),
    /// The text is not a time at all.
    #[error(
        "`{0}` is not a time; write RFC 3339 such as 2013-01-01T10:15:00Z or 2013-01-01T05:15:00-05:00"
    )]
    NotATime(String),
}

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    /// Parses RFC 3339 with an offset, or microseconds since the Unix epoch with the suffix `us`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(time) = parse_rfc3339(text) {
            return match time.timestamp_subsec_nanos() {
                1_000_000_000.. => Err(ParseTimestampError::LeapSecond(shown(text))),
                nanos if nanos % 1_000 != 0 => Err(ParseTimestampError::TooFine(shown(text))),
                _ => Ok(Self(time.timestamp_micros())),
            };
        }
        if parse_local(text).is_some() {
            return Err(ParseTimestampError::NoZone(shown(text)));
        }
        let micros = text.strip_suffix("us").and_then(|t| t.parse().ok());
        micros.map(Self).ok_or_else(|| {
            let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
            match !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
                true => ParseTimestampError::Integer(shown(text)),
                false => ParseTimestampError::NotATime(shown(text)),
            }
        })
    }
}

/// The length of an ISO 8601 date.
const DATE_LENGTH: usize = "2013-01-01".len();

/// Parses a date, which stands for its midnight, or a date and a time without an offset:
/// `2013-01-01 10:15:00.5`, with a blank or a `T`, and with or without the seconds. Each field has
/// all its digits, as in RFC 3339.
pub(crate) fn parse_local(text: &str) -> Option<NaiveDateTime> {
    if let Some(date) = parse_date(text) {
        return Some(date.and_time(NaiveTime::MIN));
    }
    let date = parse_date(text.get(..DATE_LENGTH)?)?;
    let time = text[DATE_LENGTH..].strip_prefix(['T', 't', ' '])?;
    Some(date.and_time(parse_time_of_day(time)?))
}

/// Parses an ISO 8601 date such as 2013-01-01, with all its digits: a text such as `01-02-03` could
/// be any of several dates.
pub(crate) fn parse_date(text: &str) -> Option<chrono::NaiveDate> {
    let is_dash = |place: usize| place == 4 || place == 7;
    let is_right = |(place, byte): (usize, u8)| match is_dash(place) {
        true => byte == b'-',
        false => byte.is_ascii_digit(),
    };
    let has_all_digits = text.len() == 10 && text.bytes().enumerate().all(is_right);
    has_all_digits.then(|| text.parse().ok())?
}

/// Parses a time of RFC 3339 with its offset. The parser of chrono takes a minus sign beyond ASCII
/// as well, which the standard does not have.
pub(crate) fn parse_rfc3339(text: &str) -> Option<DateTime<FixedOffset>> {
    match text.is_ascii() {
        true => DateTime::parse_from_rfc3339(text).ok(),
        false => None,
    }
}

/// Parses a time of the day such as `10:15:00`, `10:15:00.5` or `10:15`, with two digits in each
/// field. The parser of chrono takes fewer of them and blanks before them, so that `1:5` could be
/// five past one or ten to two.
fn parse_time_of_day(text: &str) -> Option<NaiveTime> {
    let is_digits = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    let format = match (whole.len(), fraction) {
        (8, Some("")) => return None,
        (8, _) => "%H:%M:%S%.f",
        (5, None) => "%H:%M",
        _ => return None,
    };
    let mut fields = whole.split(':').chain(fraction);
    let has_all_digits = whole.split(':').all(|field| field.len() == 2) && fields.all(is_digits);
    has_all_digits.then(|| NaiveTime::parse_from_str(text, format).ok())?
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_i64(self.0)
        }
    }
}

/// Text is read as that of a setting or a record. Rows are not deserialized.
impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            Self::parse_setting(&text).map_err(D::Error::custom)
        } else {
            i64::deserialize(deserializer).map(Self)
        }
    }
}

/// The source of the current time. Everything that needs the time is given a clock, so that history
/// and tests can be replayed.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The current time.
    fn now(&self) -> Timestamp;

    /// Sets the clock and returns the time that it then shows, or `None` if this clock cannot be
    /// set.
    fn set(&self, _now: Timestamp) -> Option<Timestamp> {
        None
    }
}

/// A clock that starts at a given time and runs at a given speed relative to another clock. At
/// speed 0 it stands still until it is set.
#[derive(Debug)]
pub struct SettableClock {
    base: Arc<dyn Clock>,
    speed: f64,
    /// The base clock's time at the last setting, and the time that this clock showed then.
    anchor: Mutex<(Timestamp, Timestamp)>,
}

impl SettableClock {
    /// Creates a clock that shows `start` now and runs `speed` times as fast as `base`.
    pub fn new(base: Arc<dyn Clock>, start: Timestamp, speed: f64) -> Self {
        let anchor = Mutex::new((base.now(), start));
        Self {
            base,
            speed,
            anchor,
        }
    }

    /// Creates a clock that shows `start` until it is set.
    pub fn stopped_at(start: Timestamp) -> Self {
        Self::new(Arc::new(Stopped), start, 0.0)
    }
}

/// What a clock that stands still is relative to.
#[derive(Debug)]
struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        Timestamp::default()
    }
}

impl Clock for SettableClock {
    fn now(&self) -> Timestamp {
        let (base, shown) = *self.anchor.lock().unwrap_or_else(|e| e.into_inner());
        let elapsed = self.base.now().since(base).as_micros();
        // Only the elapsed difference is computed in floats; timestamps stay integers.
        shown.plus(Duration::from_micros((elapsed as f64 * self.speed) as i64))
    }

    /// Sets the clock, which never goes back: if `now` is earlier than the time it shows, it keeps
    /// that time and returns it.
    fn set(&self, now: Timestamp) -> Option<Timestamp> {
        let now = now.max(self.now());
        *self.anchor.lock().unwrap_or_else(|e| e.into_inner()) = (self.base.now(), now);
        Some(now)
    }
}

/// The machine's clock, for the place where a program is put together; everything else is given a
/// [`Clock`]. When the machine's clock is set back, this one stands still until the machine has
/// caught up, so that time never decreases.
#[derive(Debug)]
pub struct SystemClock {
    latest: AtomicI64,
}

impl SystemClock {
    /// Creates the clock of this process.
    pub fn new() -> Self {
        Self {
            latest: AtomicI64::new(i64::MIN),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that reads the machine's clock"
    )]
    fn now(&self) -> Timestamp {
        let micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
        };
        let before = self.latest.fetch_max(micros, Ordering::Relaxed);
        Timestamp::from_micros(micros.max(before))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    #[test]
    fn timestamps_are_made_of_milliseconds_and_saturate() {
        for (millis, micros) in [
            (0, 0),
            (1_574_109_732_004, 1_574_109_732_004_000),
            (-1, -1_000),
            (i64::MAX, i64::MAX),
            (i64::MIN, i64::MIN),
        ] {
            let time = Timestamp::from_millis(millis);
            assert_eq!(time.as_micros(), micros, "{millis}");
        }
        assert_eq!(Timestamp::from_millis(-7).as_millis(), -7);
    }

    #[test]
    fn timestamps_parse_and_print() {
        for (text, micros, printed) in [
            ("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z"),
            (
                "2013-01-01T05:15:00-05:00",
                1_357_035_300_000_000,
                "2013-01-01T10:15:00Z",
            ),
            (
                "1969-12-31T23:59:59.999999Z",
                -1,
                "1969-12-31T23:59:59.999999Z",
            ),
            (
                "2013-01-01T00:00:00.123999000Z",
                1_356_998_400_123_999,
                "2013-01-01T00:00:00.123999Z",
            ),
            ("9223372036854775807us", i64::MAX, "9223372036854775807us"),
        ] {
            let time: Timestamp = text.parse().unwrap();
            assert_eq!(time.as_micros(), micros, "{text}");
            assert_eq!(time.to_string(), printed);
            assert_eq!(printed.parse::<Timestamp>().unwrap(), time);
        }
        for (text, wanted) in [
            ("", "is not a time"),
            ("now", "is not a time"),
            ("2013-13-01", "is not a time;"),
            (
                "2013-01-01",
                "`2013-01-01` names no time zone; write RFC 3339 such as 2013-01-01T10:15:00Z",
            ),
            ("2013-01-01T10:15:00", "names no time zone"),
            ("2013-01-01 10:15", "names no time zone"),
            ("2013-01-01 1:5", "is not a time;"),
            ("10:15", "is not a time"),
            ("01-02-03", "is not a time"),
            ("2013-1-1", "is not a time;"),
            ("2013-01-01 ", "is not a time;"),
            ("2016-12-31T23:59:60Z", "is a leap second"),
            ("2016-12-31T18:59:60.5-05:00", "is a leap second"),
            ("+12013-01-01", "is not a time"),
            ("-", "is not a time"),
            ("2013-01-01T1:5:0Z", "is not a time"),
            ("2013-01-01T10:15Z", "is not a time"),
            ("2013-01-01T10:15:00 Z", "is not a time"),
            ("2013-01-01T10:15:00.Z", "is not a time"),
            ("2013-01-01T10:15:00-5:00", "is not a time"),
            ("2013-01-01T10:15:00-0500", "is not a time"),
            ("2013-01-01T10:15:00\u{2212}05:00", "is not a time"),
            (" 2013-01-01T10:15:00Z", "is not a time"),
            ("1357035300", "1357035300 is a number"),
            ("-1", "-1 is a number"),
            ("99999999999999999999", "is a number"),
            (
                "2013-01-01T00:00:00.1239999Z",
                "has digits beyond microseconds",
            ),
        ] {
            let error = text.parse::<Timestamp>().unwrap_err().to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    #[test]
    fn times_of_the_day_have_two_digits_in_each_field() {
        for (text, (hour, minute, second, nanos)) in [
            ("00:00", (0, 0, 0, 0)),
            ("10:15", (10, 15, 0, 0)),
            ("10:15:09", (10, 15, 9, 0)),
            ("23:59:59.5", (23, 59, 59, 500_000_000)),
            ("10:15:09.123456789", (10, 15, 9, 123_456_789)),
            // A leap second, which is refused by its name later.
            ("23:59:60", (23, 59, 59, 1_000_000_000)),
        ] {
            let wanted = NaiveTime::from_hms_nano_opt(hour, minute, second, nanos);
            assert_eq!(parse_time_of_day(text), wanted, "{text}");
        }
        for text in [
            "",
            "1",
            "10",
            "1:5",
            "1:05",
            "01:5",
            "001:05",
            "10:15:9",
            "10:15:009",
            " 1:05",
            "1 :05",
            "10: 5",
            "10:15 ",
            "10:15.5",
            "10:15:09.",
            "10:15:09.x",
            "10:15:09,5",
            "10:15:09.5.5",
            "+1:05",
            "-1:05",
            "1:0:05",
            "10:15:",
            ":10:15",
            "24:00",
            "10:60",
            "10:15:61",
            "１0:15",
            "10:15:00Z",
            "10 15",
            "10:15:0",
            "1015",
            "101500",
        ] {
            assert_eq!(parse_time_of_day(text), None, "{text}");
        }
    }

    #[test]
    fn arguments_may_be_dates_in_utc() {
        let of = |text: &str| Timestamp::parse_argument(text);
        let json = |text: &str| serde_json::from_value::<Timestamp>(text.into());
        for text in ["2013-01-01", "2013-01-01T00:00:00Z"] {
            assert_eq!(of(text).unwrap().as_micros(), 1_356_998_400_000_000);
            assert_eq!(json(text).unwrap(), of(text).unwrap());
        }
        for text in ["", "01-02-03", "2013-13-01", "2013-01-01T00:00:00"] {
            assert!(of(text).is_err() && json(text).is_err(), "{text}");
        }
    }

    #[test]
    fn arguments_have_the_years_1_to_9999_and_records_any() {
        for (text, is_taken) in [
            ("0001-01-01", true),
            ("9999-12-31T23:59:59.999999Z", true),
            ("0000-01-01", false),
            ("0000-12-31T23:59:59Z", false),
            // A year before its offset is subtracted, and a year after.
            ("0001-01-01T00:00:00+01:00", false),
            ("9999-12-31T23:59:59-01:00", false),
            ("253402300800000000us", false),
        ] {
            let found = Timestamp::parse_argument(text);
            let wanted = format!("`{text}` is outside of the years 1 to 9999");
            let said = found.as_ref().map_err(ToString::to_string).err();
            assert_eq!(said, (!is_taken).then_some(wanted));
            let record = serde_json::from_value::<Timestamp>(text.into());
            assert!(record.is_ok(), "{text}");
        }
        for time in [Timestamp::MIN, Timestamp::MAX] {
            let record = serde_json::to_value(time).unwrap();
            assert_eq!(serde_json::from_value::<Timestamp>(record).unwrap(), time);
        }
    }

    #[derive(Debug)]
    struct ManualClock(AtomicI64);
    impl Clock for ManualClock {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros(self.0.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn storable_timestamps_have_years_1_to_9999() {
        for (text, wanted) in [
            ("0001-01-01T00:00:00Z", true),
            ("9999-12-31T23:59:59.999999Z", true),
            ("253402300800000000us", false),
            ("-62135596800000001us", false),
        ] {
            assert_eq!(
                text.parse::<Timestamp>().unwrap().is_storable(),
                wanted,
                "{text}"
            );
        }
    }

    #[test]
    fn a_settable_clock_scales_and_never_goes_back() {
        let base = Arc::new(ManualClock(AtomicI64::new(1_000)));
        let clock = SettableClock::new(Arc::clone(&base) as _, Timestamp::from_micros(50), 10.0);
        assert_eq!(clock.now().as_micros(), 50);
        base.0.store(1_007, Ordering::Relaxed);
        assert_eq!(clock.now().as_micros(), 120);
        assert_eq!(
            clock.set(Timestamp::from_micros(500)).unwrap().as_micros(),
            500
        );
        assert_eq!(
            clock.set(Timestamp::from_micros(400)).unwrap().as_micros(),
            500
        );
        base.0.store(1_008, Ordering::Relaxed);
        assert_eq!(clock.now().as_micros(), 510);
    }

    #[test]
    fn a_stopped_clock_shows_what_it_was_set_to() {
        let at = Timestamp::from_micros;
        let clock = SettableClock::stopped_at(at(50));
        assert_eq!(clock.now(), at(50));
        assert_eq!(clock.set(at(500)), Some(at(500)));
        assert_eq!(clock.now(), at(500));
    }
}
