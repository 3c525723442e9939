//! Durations and sizes, as they are written in settings.

/// The error for text that is not a duration or a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}; write {example}")]
pub struct ParseUnitError {
    text: String,
    what: &'static str,
    example: &'static str,
}

const DURATION_UNITS: [(&str, i64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

/// Parses a duration such as `30d`, `12h`, `5m`, `60s`, `100ms` or `50us`, or several of them
/// (`1h30m`), into microseconds.
///
/// # Errors
/// Returns an error when a number or a unit is missing, the unit is unknown, or the duration does
/// not fit 64 bits.
pub fn parse_duration(text: &str) -> Result<i64, ParseUnitError> {
    let error = || ParseUnitError {
        text: text.to_owned(),
        what: "duration",
        example: "a number and a unit such as 30d, 12h, 5m, 60s, 100ms or 50us",
    };
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(error());
    }
    let mut micros = 0i64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let scale = DURATION_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(error)?
            .1;
        let number: i64 = number.parse().map_err(|_| error())?;
        let part = number.checked_mul(scale).ok_or_else(error)?;
        micros = micros.checked_add(part).ok_or_else(error)?;
        rest = tail.trim_start();
    }
    Ok(micros)
}

/// Formats a duration in microseconds with the largest unit that divides it.
pub fn duration_text(micros: i64) -> String {
    let (unit, scale) = DURATION_UNITS
        .into_iter()
        .find(|(_, scale)| micros != 0 && micros % scale == 0)
        .unwrap_or(("s", 1_000_000));
    format!("{}{unit}", micros / scale)
}

const BYTE_UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// Parses a size such as `256 MiB`, `64KiB`, `2GiB` or `100 B` into bytes.
///
/// # Errors
/// Returns an error when the number or the unit is missing, the unit is unknown, or the size does
/// not fit 64 bits.
pub fn parse_bytes(text: &str) -> Result<u64, ParseUnitError> {
    let error = || ParseUnitError {
        text: text.to_owned(),
        what: "size",
        example: "a number and a unit such as 256 MiB, 64 KiB or 2 GiB",
    };
    let trimmed = text.trim();
    let digits = trimmed
        .find(|c: char| !c.is_ascii_digit())
        .ok_or_else(error)?;
    let (number, unit) = trimmed.split_at(digits);
    let unit = unit.trim_start();
    let scale = BYTE_UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(error)?
        .1;
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(scale))
        .ok_or_else(error)
}

/// Formats a size in bytes with the largest unit that divides it.
pub fn bytes_text(bytes: u64) -> String {
    let (unit, scale) = BYTE_UNITS
        .into_iter()
        .find(|(_, scale)| bytes != 0 && bytes.is_multiple_of(*scale))
        .unwrap_or(("B", 1));
    format!("{} {unit}", bytes / scale)
}

#[cfg(test)]
mod tests {
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
            ("1s 1us", 1_000_001, "1000001us"),
        ] {
            assert_eq!(parse_duration(text), Ok(micros), "{text}");
            assert_eq!(duration_text(micros), printed);
        }
        for text in [
            "",
            "5",
            "m",
            "5 parsecs",
            "-5m",
            "1.5h",
            "9223372036854775807d",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_parse_and_print() {
        for (text, bytes, printed) in [
            ("256 MiB", 256 << 20, "256 MiB"),
            ("64KiB", 64 << 10, "64 KiB"),
            ("1024 MiB", 1 << 30, "1 GiB"),
            ("100 B", 100, "100 B"),
            ("0 B", 0, "0 B"),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
            assert_eq!(bytes_text(bytes), printed);
        }
        for text in ["", "5", "MiB", "5 MB", "5 mib", "-1 B", "99999999999 GiB"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}
