//! Sizes, as they are written in settings, and what is wrong with texts of sizes and durations.

use crate::text::shown;

/// The error for text that is not a duration or a size. It shows the first 60 characters of the
/// text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` {fault}")]
pub struct ParseUnitError {
    text: String,
    fault: String,
}

/// What is written as a number and a unit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quantity {
    pub(crate) name: &'static str,
    /// What to write, with examples.
    pub(crate) example: &'static str,
    /// The greatest one, in its greatest unit.
    pub(crate) most: &'static str,
}

impl Quantity {
    /// The error for a text that does not denote such a quantity.
    pub(crate) fn malformed(self, text: &str) -> ParseUnitError {
        let Self { name, example, .. } = self;
        let unsigned = text.trim_start().strip_prefix('-').map(str::trim_start);
        let is_negative =
            unsigned.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        let what = match is_negative {
            true => format!("is less than zero, which no {name} is"),
            false => format!("is not a {name}"),
        };
        ParseUnitError {
            text: shown(text),
            fault: format!("{what}; write {example}"),
        }
    }

    /// The error for text whose number does not fit.
    pub(crate) fn too_large(self, text: &str) -> ParseUnitError {
        let Self { name, most, .. } = self;
        ParseUnitError {
            text: shown(text),
            fault: format!("is more than {most}, the greatest {name}; write a lesser one"),
        }
    }
}

/// Sizes, in 64 bits of bytes.
const SIZE: Quantity = Quantity {
    name: "size",
    example: "a number and a unit such as 256 MiB, 64 KiB or 2 GiB",
    most: "17179869183 GiB",
};

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
    let malformed = || SIZE.malformed(text);
    let trimmed = text.trim();
    let digits = trimmed
        .find(|c: char| !c.is_ascii_digit())
        .filter(|digits| *digits > 0)
        .ok_or_else(malformed)?;
    let (number, unit) = trimmed.split_at(digits);
    let unit = unit.trim_start();
    let scale = BYTE_UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(malformed)?
        .1;
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(scale))
        .ok_or_else(|| SIZE.too_large(text))
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
    use proptest::prelude::*;

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
        for (text, wanted) in [
            ("", "is not a size; write a number and a unit"),
            ("5", "`5` is not a size"),
            ("MiB", "is not a size"),
            ("5 MB", "is not a size"),
            ("5 mib", "is not a size"),
            ("+5 MiB", "is not a size"),
            ("- MiB", "is not a size"),
            ("-1 B", "`-1 B` is less than zero, which no size is"),
            ("99999999999 GiB", "is more than 17179869183 GiB"),
            ("17179869184 GiB", "is more than 17179869183 GiB"),
            ("18446744073709551616 B", "the greatest size"),
        ] {
            let error = parse_bytes(text).unwrap_err().to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
        assert_eq!(parse_bytes("17179869183 GiB"), Ok(17_179_869_183 << 30));
        assert_eq!(parse_bytes("18446744073709551615B"), Ok(u64::MAX));
    }

    proptest! {
        #[test]
        fn sizes_are_read_again_as_they_are_printed(bytes in any::<u64>(), shift in 0..64_u32) {
            let bytes = bytes >> shift;
            prop_assert_eq!(parse_bytes(&bytes_text(bytes)), Ok(bytes));
        }
    }
}
