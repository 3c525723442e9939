//! How the values of a column are read, where they do not say it themselves.
//!
//! `1704067200000`, `03/04/2024 10:15` and `10.10` mean different things to different people. A
//! source therefore declares what its columns mean, in a [`Reading`], and without a declaration
//! such values are refused: an integer without a unit is not a time, and neither is a text
//! without a time zone. Declared or not, a value is read exactly, or it is refused with the reason.

mod width;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Date32Type, TimestampMicrosecondType};
use arrow_array::{Array as _, ArrayRef};
use arrow_schema::{DataType as ArrowType, TimeUnit};
use chrono::format::{Fixed, Item, Numeric, Parsed, StrftimeItems};
use chrono::{
    DateTime, FixedOffset, MappedLocalTime, NaiveDate, NaiveDateTime, NaiveTime, TimeZone as _,
    Timelike as _, Utc,
};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use crate::decimal::{self, Misfit};
use crate::epoch::no_unit;
use crate::text::shown;
use crate::time::{parse_date, parse_local, parse_rfc3339};
use crate::{EpochUnit, ParseTimestampError, Timestamp, is_storable_date};
use width::ItemText;

/// How the values of a column are read. The default declares nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// The unit of integers that stand for times.
    pub unit: Option<EpochUnit>,
    /// How times are written in texts. The default is RFC 3339.
    pub format: Option<TimeFormat>,
    /// The time zone of times that name none.
    pub zone: Option<Zone>,
    /// Whether digits beyond microseconds are cut off. Without it, such times are refused.
    pub truncate: bool,
    /// What decimals of typed columns become.
    pub decimal: Option<DecimalReading>,
}

/// What a decimal of a typed column is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecimalReading {
    /// The nearest float64.
    Float64,
    /// A text with all digits.
    Text,
}

impl Reading {
    /// Reads integers as times of a unit.
    pub fn of_unit(unit: EpochUnit) -> Self {
        Self {
            unit: Some(unit),
            ..Self::default()
        }
    }

    /// Whether it is declared how integers are times.
    pub(crate) fn reads_integers(&self) -> bool {
        self.unit.is_some() || self.format.is_some()
    }

    /// Whether texts of a typed column may be read as times.
    pub(crate) fn reads_texts(&self) -> bool {
        self.format.is_some() || self.zone.is_some()
    }

    /// Returns the time that an integer stands for.
    pub(crate) fn integer_timestamp(&self, count: i64) -> Result<Timestamp, String> {
        match (&self.format, self.unit) {
            (Some(_), _) => self.text_timestamp(&count.to_string()),
            (None, Some(unit)) => self.counted(unit, count),
            (None, None) => Err(no_unit(count)),
        }
    }

    /// Returns the date, in days after 1970-01-01, that an integer stands for.
    pub(crate) fn integer_date(&self, count: i64) -> Result<i32, String> {
        match (&self.format, self.unit) {
            (Some(_), _) => self.text_date(&count.to_string()),
            (None, Some(unit)) => unit.date(count),
            (None, None) => Err(no_unit(count)),
        }
    }

    /// Returns the time that so many units after 1970 are.
    pub(crate) fn counted(&self, unit: EpochUnit, count: i64) -> Result<Timestamp, String> {
        match unit {
            EpochUnit::Nanoseconds if self.truncate => {
                EpochUnit::Microseconds.timestamp(count.div_euclid(1_000))
            }
            _ => unit.timestamp(count),
        }
    }

    /// Returns the time that a text stands for.
    pub(crate) fn text_timestamp(&self, text: &str) -> Result<Timestamp, String> {
        if let Some(format) = &self.format {
            let (time, is_fine) = format.parse(text)?;
            return self.instant(time, is_fine, text);
        }
        if let Some(unit) = self.unit {
            match decimal::int64(text) {
                Ok(count) => return self.counted(unit, count),
                Err(Misfit::TooLarge) => return Err(outside(text)),
                Err(misfit @ Misfit::Fraction) => {
                    return Err(format!("`{}` is not timestamp{misfit}", shown(text)));
                }
                Err(_) => {}
            }
        }
        let written = parse_rfc3339(text).map(ParsedTime::Instant);
        match written.or_else(|| parse_local(text).map(ParsedTime::Local)) {
            Some(time) => self.instant(time, has_fine_digits(text), text),
            None => Err(not_a_time(text)),
        }
    }

    /// Returns the date, in days after 1970-01-01, that a text stands for.
    pub(crate) fn text_date(&self, text: &str) -> Result<i32, String> {
        let date = match (&self.format, decimal::int64(text)) {
            (None, Ok(count)) => return self.integer_date(count),
            (None, Err(_)) => {
                parse_date(text).ok_or_else(|| format!("`{}` is not date", shown(text)))?
            }
            (Some(format), _) => {
                let (time, is_fine) = format.parse(text)?;
                let day = time.whole_day().filter(|_| !is_fine);
                day.ok_or_else(|| {
                    format!("`{}` is not a whole day, and date has no time", shown(text))
                })?
            }
        };
        let days = date.signed_duration_since(NaiveDate::default()).num_days();
        let days = i32::try_from(days).ok();
        days.filter(|days| is_storable_date(*days))
            .ok_or_else(|| outside(text))
    }

    /// Returns the text by which a time of a column is written in the declared format, so that it
    /// is read again as the same time. `None` if no format is declared, if the value is not a time,
    /// or if the text would be read as another time: a year that `%y` does not stand for, or a
    /// fraction of a second that the format leaves out.
    pub fn written(&self, column: &ArrayRef, row: usize) -> Option<String> {
        let format = self.format.as_ref().filter(|_| column.is_valid(row))?;
        let time = match column.data_type() {
            ArrowType::Timestamp(TimeUnit::Microsecond, _) => {
                let micros = column.as_primitive::<TimestampMicrosecondType>().value(row);
                DateTime::from_timestamp_micros(micros)?
            }
            ArrowType::Date32 => {
                let days = column.as_primitive::<Date32Type>().value(row);
                DateTime::from_timestamp(i64::from(days) * 86_400, 0)?
            }
            _ => return None,
        };
        let is_date = matches!(column.data_type(), ArrowType::Date32);
        let zone = self.zone.filter(|_| !is_date);
        let text = format.written(time, zone.unwrap_or(Zone::UTC));
        let is_same = match is_date {
            true => self
                .text_date(&text)
                .is_ok_and(|days| i64::from(days) * 86_400 == time.timestamp()),
            false => self
                .text_timestamp(&text)
                .is_ok_and(|read| read == Timestamp::from_micros(time.timestamp_micros())),
        };
        is_same.then_some(text)
    }

    /// Returns the point in time of a time whose fields were read from `text`. `is_fine` says
    /// whether the text has digits beyond microseconds, which the fields may lack.
    fn instant(&self, time: ParsedTime, is_fine: bool, text: &str) -> Result<Timestamp, String> {
        if time.is_leap_second() {
            return Err(ParseTimestampError::LeapSecond(shown(text)).to_string());
        }
        if !self.truncate && (is_fine || !time.nanosecond().is_multiple_of(1_000)) {
            return Err(ParseTimestampError::TooFine(shown(text)).to_string());
        }
        let instant = match (time, &self.zone) {
            (ParsedTime::Instant(time), _) => Timestamp::from_micros(time.timestamp_micros()),
            (ParsedTime::Local(time), Some(zone)) => zone.instant(time)?,
            (ParsedTime::Local(_), None) => return Err(no_zone(text)),
        };
        storable(instant, text)
    }
}

/// The message for a text that is not a time. [`Timestamp`] also parses a count of microseconds
/// with its unit, which it writes for years that RFC 3339 does not have; rows have no such values.
fn not_a_time(text: &str) -> String {
    let error = match text.parse::<Timestamp>() {
        Ok(_) => ParseTimestampError::NotATime(shown(text)),
        Err(error) => error,
    };
    error.to_string()
}

/// The message for a time that names no time zone, where none is declared.
fn no_zone(text: &str) -> String {
    let text = shown(text);
    let write = match parse_date(&text) {
        Some(date) => format!("write a time with an offset, such as {date}T00:00:00Z"),
        None => "write an offset after it, such as Z or -05:00".to_owned(),
    };
    format!(
        "`{text}` names no time zone; {write}, or declare the zone of such times, UTC or another \
         name such as Europe/Berlin: `zone = \"UTC\"` in the source, `--zone UTC` for labels"
    )
}

fn outside(text: &str) -> String {
    ParseTimestampError::OutsideOfYears(shown(text)).to_string()
}

fn storable(time: Timestamp, text: &str) -> Result<Timestamp, String> {
    match time.is_storable() {
        true => Ok(time),
        false => Err(outside(text)),
    }
}

/// Whether the fraction of a second in a text has a digit other than 0 after its sixth one. Parsers
/// skip digits beyond the ninth in silence. Nothing else in the text may follow a point.
fn has_fine_digits(text: &str) -> bool {
    text.split(['.', ',']).skip(1).any(|rest| {
        let mut digits = rest.bytes().take_while(u8::is_ascii_digit).skip(6);
        digits.any(|digit| digit != b'0')
    })
}

/// A time as it was written.
#[derive(Clone, Copy, Debug)]
enum ParsedTime {
    /// With the time zone that it is in.
    Instant(DateTime<FixedOffset>),
    /// Without a time zone.
    Local(NaiveDateTime),
}

impl ParsedTime {
    fn local(self) -> NaiveDateTime {
        match self {
            Self::Instant(time) => time.naive_local(),
            Self::Local(time) => time,
        }
    }

    fn nanosecond(self) -> u32 {
        self.local().nanosecond()
    }

    fn is_leap_second(self) -> bool {
        self.nanosecond() >= 1_000_000_000
    }

    /// Returns the date of a time that is the midnight of a day.
    fn whole_day(self) -> Option<NaiveDate> {
        let local = self.local();
        (local.time() == NaiveTime::MIN).then_some(local.date())
    }
}

/// How times are written in texts: a pattern such as `%d/%m/%Y %H:%M:%S`, in the notation of
/// `strftime` as Python, C and chrono know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeFormat {
    text: String,
    items: Vec<Item<'static>>,
}

impl TimeFormat {
    /// Whether texts of the format are points in time: they have an offset, or count seconds.
    pub fn has_zone(&self) -> bool {
        self.has_offset() || self.counts_seconds()
    }

    fn has_offset(&self) -> bool {
        self.items.iter().any(|item| match item {
            Item::Fixed(fixed) => is_offset(fixed),
            _ => false,
        })
    }

    fn counts_seconds(&self) -> bool {
        let mut items = self.items.iter();
        items.any(|item| matches!(item, Item::Numeric(Numeric::Timestamp, _)))
    }

    fn has_time(&self) -> bool {
        self.items.iter().any(|item| match item {
            Item::Numeric(
                Numeric::Hour
                | Numeric::Hour12
                | Numeric::Minute
                | Numeric::Second
                | Numeric::Timestamp,
                _,
            ) => true,
            Item::Fixed(fixed) => matches!(
                fixed,
                Fixed::RFC2822
                    | Fixed::RFC3339
                    | Fixed::LowerAmPm
                    | Fixed::UpperAmPm
                    | Fixed::Nanosecond
                    | Fixed::Nanosecond3
                    | Fixed::Nanosecond6
                    | Fixed::Nanosecond9
            ),
            _ => false,
        })
    }

    /// Reads a text. Returns the time, and whether a fraction of a second in the text has digits
    /// beyond microseconds. An integer with a decimal point or an exponent is read by its digits.
    fn parse(&self, text: &str) -> Result<(ParsedTime, bool), String> {
        self.parse_fields(text).or_else(|error| {
            let digits = integer_digits(text);
            let read = digits.and_then(|digits| self.parse_fields(&digits).ok());
            read.ok_or_else(|| {
                let text = shown(text);
                format!("`{text}` is not of the format `{}`: {error}", self.text)
            })
        })
    }

    fn parse_fields(&self, text: &str) -> Result<(ParsedTime, bool), String> {
        let mut parsed = Parsed::new();
        let is_fine = self.read_items(&mut parsed, text)?;
        let time = self.time(&mut parsed).map_err(|error| error.to_string())?;
        Ok((time, is_fine))
    }

    /// Reads the items of the format one after the other, each with all its digits. Returns whether
    /// a fraction of a second has digits beyond microseconds.
    fn read_items(&self, parsed: &mut Parsed, text: &str) -> Result<bool, String> {
        let mut rest = text;
        let mut is_fine = false;
        let mut follows_number = false;
        let mut items = self.items.iter().peekable();
        while let Some(item) = items.next() {
            let start = rest;
            rest = chrono::format::parse_and_remainder(parsed, start, std::iter::once(item))
                .map_err(|error| error.to_string())?;
            let piece = ItemText {
                before: &text[..text.len() - start.len()],
                taken: &start[..start.len() - rest.len()],
                after: rest,
                follows_number,
                precedes_number: items.peek().is_some_and(|item| width::is_number(item)),
            };
            piece.check(item)?;
            is_fine |= skips_digits(item) && has_fine_digits(piece.taken);
            follows_number = width::is_number(item);
        }
        match rest.is_empty() {
            true => Ok(is_fine),
            false => Err(format!("`{}` is left over at its end", shown(rest))),
        }
    }

    /// Returns the time that the fields say.
    fn time(&self, parsed: &mut Parsed) -> chrono::format::ParseResult<ParsedTime> {
        set_centuries(parsed)?;
        Ok(match (self.has_offset(), self.has_time()) {
            (true, _) => ParsedTime::Instant(parsed.to_datetime()?),
            (false, _) if self.counts_seconds() => {
                let utc = parsed.to_naive_datetime_with_offset(0)?.and_utc();
                ParsedTime::Instant(utc.fixed_offset())
            }
            (false, true) => ParsedTime::Local(parsed.to_naive_datetime_with_offset(0)?),
            (false, false) => ParsedTime::Local(parsed.to_naive_date()?.and_time(NaiveTime::MIN)),
        })
    }
}

/// Sets the century of a year of two digits as POSIX and Python do: 69 to 99 are in the 20th one,
/// and 00 to 68 in the 21st one. Chrono would count 69 to the 21st one.
fn set_centuries(parsed: &mut Parsed) -> chrono::format::ParseResult<()> {
    let century = |year: i32| if year < 69 { 20 } else { 19 };
    if let (None, None, Some(year)) = (parsed.year(), parsed.year_div_100(), parsed.year_mod_100())
    {
        parsed.set_year_div_100(century(year))?;
    }
    if let (None, None, Some(year)) = (
        parsed.isoyear(),
        parsed.isoyear_div_100(),
        parsed.isoyear_mod_100(),
    ) {
        parsed.set_isoyear_div_100(century(year))?;
    }
    Ok(())
}

/// Whether a part of a format has a fraction of a second with any number of digits, of which the
/// parser keeps nine.
fn skips_digits(item: &Item<'_>) -> bool {
    matches!(item, Item::Fixed(Fixed::Nanosecond | Fixed::RFC3339))
}

/// Returns the digits of an integer that is written with a decimal point or an exponent, as
/// programs write integers of columns that have nulls: `20240101` for `20240101.0`. They write no
/// plus and no leading zeros before one, which are not of the format without a point either.
fn integer_digits(text: &str) -> Option<String> {
    let is_plain = !text.contains(['.', 'e', 'E']);
    let digits = text.strip_prefix('-').unwrap_or(text);
    let begins = match digits.as_bytes() {
        [b'0', next, ..] => !next.is_ascii_digit(),
        [first, ..] => first.is_ascii_digit(),
        [] => false,
    };
    let integer = decimal::int64(text).ok().filter(|_| begins && !is_plain)?;
    Some(integer.to_string())
}

/// Whether a part of a format is an offset from UTC.
fn is_offset(fixed: &Fixed) -> bool {
    matches!(
        fixed,
        Fixed::TimezoneOffset
            | Fixed::TimezoneOffsetZ
            | Fixed::TimezoneOffsetColon
            | Fixed::TimezoneOffsetDoubleColon
            | Fixed::TimezoneOffsetTripleColon
            | Fixed::TimezoneOffsetColonZ
            | Fixed::RFC2822
            | Fixed::RFC3339
    ) || *fixed == permissive_offset()
}

/// The part of a format that `%#z` stands for, which has no public name.
fn permissive_offset() -> Fixed {
    match StrftimeItems::new("%#z").next() {
        Some(Item::Fixed(fixed)) => fixed,
        _ => Fixed::TimezoneOffset,
    }
}

impl FromStr for TimeFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| Err(format!("`{}` {what}", shown(text)));
        // In Python, `%f` is the fraction that follows a point; chrono writes both as `%.f`.
        let pattern: Cow<'_, str> = match text.contains(".%f") {
            true => text.replace(".%f", "%.f").into(),
            false => text.into(),
        };
        let items = StrftimeItems::new(&pattern).parse_to_owned();
        let Ok(items) = items else {
            return wrong(
                "is not a format of times; write one such as %d/%m/%Y %H:%M:%S, with %Y for the \
                 year, %m for the month, %d for the day, %H:%M:%S for the time and %z for an offset",
            );
        };
        for item in &items {
            match item {
                Item::Numeric(Numeric::Nanosecond, _) => {
                    return wrong("has %f; write the fraction of a second as `.%f`");
                }
                Item::Fixed(Fixed::TimezoneName) => {
                    return wrong(
                        "has %Z, and names of zones in values are not read; declare the `zone`",
                    );
                }
                _ => {}
            }
        }
        let format = Self {
            text: text.to_owned(),
            items,
        };
        match format.reads_what_it_writes() {
            true => Ok(format),
            false => wrong(
                "does not say a whole time: it needs a year, a month and a day, and an hour with \
                 minutes if it has a time (%I only with %p)",
            ),
        }
    }
}

impl TimeFormat {
    /// Whether a time that is written by the format can be read again.
    fn reads_what_it_writes(&self) -> bool {
        // 2024-11-29T13:45:21Z
        let sample = DateTime::from_timestamp(1_732_887_921, 0).unwrap_or_default();
        self.parse(&self.written(sample, Zone::UTC)).is_ok()
    }

    /// Writes a time by the clocks of a zone.
    fn written(&self, time: DateTime<Utc>, zone: Zone) -> String {
        let items = self.items.iter();
        match zone {
            Zone::Named(zone) => time
                .with_timezone(&zone)
                .format_with_items(items)
                .to_string(),
            Zone::Offset(zone) => time
                .with_timezone(&zone)
                .format_with_items(items)
                .to_string(),
        }
    }
}

impl TryFrom<String> for TimeFormat {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<TimeFormat> for String {
    fn from(format: TimeFormat) -> Self {
        format.text
    }
}

impl fmt::Display for TimeFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A time zone: a name of the IANA database such as `Europe/Berlin`, or an offset such as `+01:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Zone {
    /// A zone of the IANA database.
    Named(Tz),
    /// A fixed offset from UTC.
    Offset(FixedOffset),
}

/// The first year whose changes of clocks the table of zones does not know.
const FIRST_UNKNOWN_YEAR: i32 = 2_100;

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Self = Self::Named(Tz::UTC);

    /// Whether local times are those of UTC.
    pub(crate) fn is_utc(self) -> bool {
        match self {
            Self::Named(zone) => matches!(zone, Tz::UTC | Tz::Etc__UTC),
            Self::Offset(offset) => offset.local_minus_utc() == 0,
        }
    }

    /// Returns the point in time at which the clocks of the zone show `local`.
    ///
    /// # Errors
    /// Returns a message when they never do, or do so twice.
    pub(crate) fn instant(self, local: NaiveDateTime) -> Result<Timestamp, String> {
        use chrono::Datelike as _;
        let micros = |micros: i64| Timestamp::from_micros(micros);
        let (found, name) = match self {
            zone if zone.is_utc() => return Ok(micros(local.and_utc().timestamp_micros())),
            Self::Offset(offset) => {
                let found = offset.from_local_datetime(&local);
                (found.map(|time| time.timestamp_micros()), self.to_string())
            }
            Self::Named(zone) if local.year() >= FIRST_UNKNOWN_YEAR => {
                return Err(format!(
                    "{local} is after 2099, and nobody knows when clocks of {zone} are set then; \
                     write times with an offset"
                ));
            }
            Self::Named(zone) => {
                let found = zone.from_local_datetime(&local);
                (found.map(|time| time.timestamp_micros()), self.to_string())
            }
        };
        match found {
            MappedLocalTime::Single(time) => Ok(micros(time)),
            MappedLocalTime::None => Err(format!(
                "{local} does not exist in {name}, because clocks were set forward"
            )),
            MappedLocalTime::Ambiguous(first, second) => Err(format!(
                "{local} came twice in {name}, because clocks were set back: it is {} or {}; write \
                 times with an offset, or in UTC",
                micros(first.min(second)),
                micros(first.max(second))
            )),
        }
    }

    /// Returns the midnight of a day in the zone, given the days after 1970-01-01.
    ///
    /// # Errors
    /// Returns a message when the day lies outside of the years 1 to 9999, or when the clocks of
    /// the zone do not show midnight then, or show it twice.
    pub(crate) fn midnight(self, days: i64) -> Result<Timestamp, String> {
        let days = EpochUnit::Days.date(days)?;
        let time = self.instant_of(EpochUnit::Days.timestamp(days.into())?)?;
        match time.is_storable() {
            true => Ok(time),
            false => Err(outside(&time.to_string())),
        }
    }

    /// Returns the point in time at which the clocks of the zone show the time that is so many
    /// microseconds after 1970-01-01T00:00:00.
    pub(crate) fn instant_of(self, local: Timestamp) -> Result<Timestamp, String> {
        if self.is_utc() {
            return Ok(local);
        }
        match DateTime::from_timestamp_micros(local.as_micros()) {
            Some(time) => self.instant(time.naive_utc()),
            None => Err(outside(&local.to_string())),
        }
    }
}

impl FromStr for Zone {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(zone) = text.parse() {
            return Ok(Self::Named(zone));
        }
        // The parser takes texts that only begin with an offset.
        let offset = text.parse().ok();
        let offset = offset.filter(|offset: &FixedOffset| offset.to_string() == text);
        offset.map(Self::Offset).ok_or_else(|| {
            format!(
                "`{}` is not a time zone; write a name of the IANA database such as UTC or \
                 Europe/Berlin, or an offset such as +01:00",
                shown(text)
            )
        })
    }
}

impl TryFrom<String> for Zone {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.to_string()
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(zone) => f.write_str(zone.name()),
            Self::Offset(offset) => write!(f, "{offset}"),
        }
    }
}

#[cfg(test)]
mod tests;
