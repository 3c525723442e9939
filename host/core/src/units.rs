//! Sizes, as they are written in settings.

/// The error for text that is not a duration or a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}; write {example}")]
pub struct ParseUnitError {
    text: String,
    what: &'static str,
    example: &'static str,
}

impl ParseUnitError {
    pub(crate) fn new(text: &str, what: &'static str, example: &'static str) -> Self {
        Self {
            text: text.to_owned(),
            what,
            example,
        }
    }
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
    let error = || {
        let example = "a number and a unit such as 256 MiB, 64 KiB or 2 GiB";
        ParseUnitError::new(text, "size", example)
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
