//! Numbers in decimal text, as JSON and CSV write them: read exactly, or refused.
//!
//! What counts is the number that a text denotes, not how it is written: `7`, `7.0`, `70e-1` and
//! `7e0` are the integer 7. An int64 is the number itself. A float is the nearest one to a decimal
//! fraction, as everywhere, but it is never a number of other digits: infinity for a number that is
//! too large, zero for one that is too small, or the integer next to one that the float cannot tell
//! from its neighbours, such as 9007199254740993. An integer is one that a float can tell if the
//! float, written with as many digits or as its shortest text, has the same ones.
//!
//! Text formats, JSON, and integers of columns that are read as floats all come here.

use std::fmt;

/// Why a number is not one of the wanted type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// The text is not a number.
    NotANumber,
    /// The number has a fraction, and an integer is wanted.
    Fraction,
    /// The number lies beyond the range of the type.
    TooLarge,
    /// The number is not zero, and the nearest number of the type is.
    TooSmall,
    /// The number is an integer of more digits than the type keeps.
    Digits,
    /// The number came as a float that may have been another integer before.
    Rounded,
}

impl fmt::Display for Misfit {
    /// Writes what is to be added to "… is not TYPE".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotANumber => "",
            Self::Fraction => ", because it has a fraction",
            Self::TooLarge => ", because it is beyond its range",
            Self::TooSmall => ", because the nearest one is 0",
            Self::Digits => ", because it has more digits than that keeps",
            Self::Rounded => {
                ", because its last digits may have been lost; write integers from 2^53 on \
                 without a decimal point and without an exponent"
            }
        })
    }
}

/// A float type.
pub(crate) trait Float: Copy + std::str::FromStr + fmt::LowerExp {
    /// The number of digits that every number of the type tells apart.
    const DIGITS: usize;
    /// Every integer up to this one is a number of the type.
    const EXACT_INTEGERS: u64;

    /// The integer, which is at most [`EXACT_INTEGERS`](Self::EXACT_INTEGERS).
    fn of_integer(integer: i64) -> Self;

    /// The same number as a float64.
    fn wide(self) -> f64;

    fn is_infinite(self) -> bool {
        self.wide().is_infinite()
    }

    fn is_zero(self) -> bool {
        self.wide() == 0.0
    }

    fn has_fraction(self) -> bool {
        // NaN and infinity have none: the fraction of them is NaN.
        self.wide().fract().abs() > 0.0
    }
}

impl Float for f64 {
    const DIGITS: usize = Self::DIGITS as usize;
    const EXACT_INTEGERS: u64 = 1 << 53;

    fn of_integer(integer: i64) -> Self {
        integer as Self
    }

    fn wide(self) -> f64 {
        self
    }
}

impl Float for f32 {
    const DIGITS: usize = Self::DIGITS as usize;
    const EXACT_INTEGERS: u64 = 1 << 24;

    fn of_integer(integer: i64) -> Self {
        integer as Self
    }

    fn wide(self) -> f64 {
        f64::from(self)
    }
}

/// Reads an int64.
///
/// # Errors
/// Returns a [`Misfit`] when the text denotes no integer of 64 bits.
pub(crate) fn int64(text: &str) -> Result<i64, Misfit> {
    if let Ok(integer) = text.parse() {
        return Ok(integer);
    }
    Decimal::parse(text).ok_or(Misfit::NotANumber)?.int64()
}

/// Reads a float64 or float32. NaN and infinity are written as [`f64::from_str`] reads them.
///
/// [`f64::from_str`]: std::str::FromStr
///
/// # Errors
/// Returns a [`Misfit`] when the text is not a number, or is one that the type does not keep.
pub(crate) fn float<F: Float>(text: &str) -> Result<F, Misfit> {
    let float: F = text.parse().map_err(|_| Misfit::NotANumber)?;
    // A float with a fraction is the nearest one to a number with a fraction, and numbers of few
    // digits are kept unless they are very large or very small.
    let is_short = text.len() <= F::DIGITS && !float.is_infinite() && !float.is_zero();
    if is_short || float.has_fraction() {
        return Ok(float);
    }
    let Some(decimal) = Decimal::parse(text) else {
        // The text spells out infinity or NaN.
        return Ok(float);
    };
    if float.is_infinite() {
        return Err(Misfit::TooLarge);
    }
    match decimal.significant.is_empty() {
        true => Ok(float),
        false if float.is_zero() => Err(Misfit::TooSmall),
        false if decimal.is_integer() && !decimal.has_digits_of(float) => Err(Misfit::Digits),
        false => Ok(float),
    }
}

/// Reads an integer as a float64 or float32.
///
/// # Errors
/// Returns [`Misfit::Digits`] when the float cannot tell the integer from its neighbours.
pub(crate) fn float_of_integer<F: Float>(integer: i64) -> Result<F, Misfit> {
    match integer.unsigned_abs() <= F::EXACT_INTEGERS {
        true => Ok(F::of_integer(integer)),
        false => float(&integer.to_string()),
    }
}

/// Reads a float64 as the integer that it is.
///
/// # Errors
/// Returns a [`Misfit`] when the float is not an integer of 64 bits.
pub(crate) fn int64_of_float(float: f64) -> Result<i64, Misfit> {
    const END: f64 = 9_223_372_036_854_775_808.0;
    if float.is_nan() {
        return Err(Misfit::NotANumber);
    }
    if !(-END..END).contains(&float) {
        return Err(Misfit::TooLarge);
    }
    match float.fract() == 0.0 {
        true => Ok(float as i64),
        false => Err(Misfit::Fraction),
    }
}

/// Reads a float64 that was parsed from a text which is gone, as the integer that the text denoted.
///
/// # Errors
/// Returns a [`Misfit`] when the float is not an integer of 64 bits, and [`Misfit::Rounded`] when
/// several integers have this float.
pub(crate) fn int64_of_parsed_float(float: f64) -> Result<i64, Misfit> {
    let integer = int64_of_float(float)?;
    // 2^53 itself is also what 2^53 + 1 is rounded to.
    match integer.unsigned_abs() < f64::EXACT_INTEGERS {
        true => Ok(integer),
        false => Err(Misfit::Rounded),
    }
}

/// Returns the first number of a JSON text that a parser makes another one of: an integer of a
/// number with a fraction, zero of a number that is not, or an integer of other digits. A parsed
/// value does not tell it from the other one, so that the text is to be refused. A number beyond
/// every float is returned as well, because a parser refuses it without saying which one it is.
pub(crate) fn lost_number(json: &[u8]) -> Option<&str> {
    numbers(json).find(|text| {
        // Numbers of so few digits lie apart.
        let may_be_lost = text.len() > f64::DIGITS as usize || text.contains(['e', 'E']);
        may_be_lost && is_lost(text)
    })
}

fn is_lost(number: &str) -> bool {
    // A parser keeps integers of 64 bits, signed or not.
    if number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok() {
        return false;
    }
    match float::<f64>(number) {
        Err(Misfit::TooSmall | Misfit::TooLarge | Misfit::Digits) => true,
        // It is not a number, and a parser refuses it.
        Err(_) => false,
        Ok(float) if float.has_fraction() => false,
        Ok(_) => Decimal::parse(number).is_some_and(|decimal| !decimal.is_integer()),
    }
}

/// Returns the numbers of a JSON text.
fn numbers(json: &[u8]) -> impl Iterator<Item = &str> {
    let mut rest = json;
    std::iter::from_fn(move || {
        loop {
            match rest.first()? {
                b'"' => rest = after_string(&rest[1..]),
                b'-' | b'0'..=b'9' => {
                    let is_part =
                        |b: &u8| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
                    let length = rest.iter().position(|b| !is_part(b));
                    let (number, after) = rest.split_at(length.unwrap_or(rest.len()));
                    rest = after;
                    return std::str::from_utf8(number).ok();
                }
                _ => rest = &rest[1..],
            }
        }
    })
}

/// Returns what follows the closing quote of a JSON string.
pub(crate) fn after_string(mut rest: &[u8]) -> &[u8] {
    while let Some(end) = rest.iter().position(|b| matches!(b, b'"' | b'\\')) {
        let is_quote = rest[end] == b'"';
        let skipped = if is_quote { end + 1 } else { end + 2 };
        rest = rest.get(skipped..).unwrap_or_default();
        if is_quote {
            return rest;
        }
    }
    &[]
}

/// A number in decimal text, taken apart.
struct Decimal {
    is_negative: bool,
    /// The digits from the first to the last that is not zero; none for zero.
    significant: Vec<u8>,
    /// The power of ten of the last significant digit.
    exponent: i64,
}

impl Decimal {
    /// Takes a text apart, or returns `None` if it is not a number in digits.
    fn parse(text: &str) -> Option<Self> {
        let (is_negative, unsigned) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, power) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, power)) => (mantissa, exponent(power)?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.len() + fraction.len() == 0 || !are_digits(whole) || !are_digits(fraction) {
            return None;
        }
        let digits = [whole, fraction].concat().into_bytes();
        let first = digits.iter().position(|digit| *digit != b'0');
        let last = digits.iter().rposition(|digit| *digit != b'0');
        let (Some(first), Some(last)) = (first, last) else {
            return Some(Self {
                is_negative,
                significant: Vec::new(),
                exponent: 0,
            });
        };
        let zeros = (digits.len() - 1 - last) as i64;
        Some(Self {
            is_negative,
            significant: digits[first..=last].to_vec(),
            exponent: power.saturating_add(zeros - fraction.len() as i64),
        })
    }

    fn is_integer(&self) -> bool {
        self.exponent >= 0
    }

    fn int64(&self) -> Result<i64, Misfit> {
        if !self.is_integer() {
            return Err(Misfit::Fraction);
        }
        // An i64 has at most 19 digits, so neither the digits nor the zeros overflow an i128.
        let digits = self.significant.len() as i64;
        if digits.saturating_add(self.exponent) > 19 {
            return Err(Misfit::TooLarge);
        }
        let number = |number: i128, digit: &u8| number * 10 + i128::from(digit - b'0');
        let magnitude = self.significant.iter().fold(0, number) * 10i128.pow(self.exponent as u32);
        let signed = if self.is_negative {
            -magnitude
        } else {
            magnitude
        };
        i64::try_from(signed).map_err(|_| Misfit::TooLarge)
    }

    /// Whether a float, written with as many digits as the number has, has the same digits. The
    /// number is not zero, and the float is the nearest one to it.
    fn has_digits_of(&self, float: impl Float) -> bool {
        // No float has more digits than this if it is an integer.
        const MOST_DIGITS: usize = 309;
        let digits = self.significant.len();
        if digits > MOST_DIGITS {
            return false;
        }
        // The shortest text of a power of two may differ from its digits in the last one. A float32
        // may have been written as a float64.
        let texts = [
            format!("{float:.*e}", digits - 1),
            format!("{float:e}"),
            format!("{:e}", float.wide()),
        ];
        texts.iter().any(|text| {
            let mantissa = text.split('e').next().unwrap_or_default();
            let found = mantissa.bytes().filter(u8::is_ascii_digit);
            found.eq(self.significant.iter().copied())
        })
    }
}

/// Reads the power of ten after the `e` of a number. One that is beyond 64 bits is as good as the
/// greatest or the least one.
fn exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Half of the range, so that the digits of the number can be added.
    const MOST: i64 = i64::MAX / 2;
    let power = digits.parse().unwrap_or(MOST).min(MOST);
    Some(if text.starts_with('-') { -power } else { power })
}

#[cfg(test)]
mod tests {
    use super::Misfit::{Digits, Fraction, NotANumber, Rounded, TooLarge, TooSmall};
    use super::*;

    #[test]
    fn integers_are_read_from_every_way_to_write_them() {
        for (text, wanted) in [
            ("7", Ok(7)),
            ("+7", Ok(7)),
            ("007", Ok(7)),
            ("7.", Ok(7)),
            ("7.0", Ok(7)),
            ("7.000000000000000000000000", Ok(7)),
            ("7e0", Ok(7)),
            ("70e-1", Ok(7)),
            ("0.007E+3", Ok(7)),
            ("1e3", Ok(1_000)),
            ("-1E+3", Ok(-1_000)),
            ("-0", Ok(0)),
            ("-0.0", Ok(0)),
            ("0e999999999999999999999", Ok(0)),
            ("9007199254740993", Ok(9_007_199_254_740_993)),
            ("9007199254740993.0", Ok(9_007_199_254_740_993)),
            ("9.007199254740993e15", Ok(9_007_199_254_740_993)),
            ("9223372036854775807.0", Ok(i64::MAX)),
            ("9.223372036854775807e18", Ok(i64::MAX)),
            ("-9223372036854775808.00", Ok(i64::MIN)),
            ("9223372036854775808", Err(TooLarge)),
            ("-9223372036854775809.0", Err(TooLarge)),
            ("18446744073709551615", Err(TooLarge)),
            ("12345678901234567890123", Err(TooLarge)),
            ("1e19", Err(TooLarge)),
            ("1e400", Err(TooLarge)),
            ("1e999999999999999999999", Err(TooLarge)),
            ("7.5", Err(Fraction)),
            ("1.0000000000000000001", Err(Fraction)),
            ("9007199254740992.5", Err(Fraction)),
            ("1e-1", Err(Fraction)),
            ("1e-999999999999999999999", Err(Fraction)),
            ("", Err(NotANumber)),
            (".", Err(NotANumber)),
            ("-", Err(NotANumber)),
            ("e3", Err(NotANumber)),
            ("1e", Err(NotANumber)),
            ("1e+", Err(NotANumber)),
            ("1.2.3", Err(NotANumber)),
            (" 7", Err(NotANumber)),
            ("1,000", Err(NotANumber)),
            ("1_000", Err(NotANumber)),
            ("0x7", Err(NotANumber)),
            ("NaN", Err(NotANumber)),
            ("inf", Err(NotANumber)),
            ("٧", Err(NotANumber)),
        ] {
            assert_eq!(int64(text), wanted, "{text}");
        }
    }

    #[test]
    fn floats_are_the_nearest_ones_and_never_other_numbers() {
        for (text, wanted) in [
            ("0.1", Ok(0.1)),
            ("1e-3", Ok(0.001)),
            (".5", Ok(0.5)),
            ("-0", Ok(-0.0)),
            ("0.0e-400", Ok(0.0)),
            ("inf", Ok(f64::INFINITY)),
            ("-Infinity", Ok(f64::NEG_INFINITY)),
            ("5e-324", Ok(5e-324)),
            ("1.7976931348623157e308", Ok(f64::MAX)),
            (
                "3.14159265358979323846264338327950288",
                Ok(std::f64::consts::PI),
            ),
            ("9007199254740992", Ok(9_007_199_254_740_992.0)),
            // The shortest texts of floats, which other programs write.
            ("1e23", Ok(1e23)),
            ("123456789012345680000", Ok(123_456_789_012_345_680_000.0)),
            ("1.152921504606847e18", Ok(1_152_921_504_606_846_976.0)),
            ("1152921504606846976", Ok(1_152_921_504_606_846_976.0)),
            // 2^89 is 618970019642690137449562112.
            (
                "6.189700196426902e26",
                Ok(618_970_019_642_690_137_449_562_112.0),
            ),
            (
                "618970019642690137449562112",
                Ok(618_970_019_642_690_137_449_562_112.0),
            ),
            ("9007199254740993", Err(Digits)),
            ("9007199254740993.0", Err(Digits)),
            ("12345678901234567890", Err(Digits)),
            ("100000000000000000000001", Err(Digits)),
            ("1e309", Err(TooLarge)),
            ("-1e400", Err(TooLarge)),
            ("1e-400", Err(TooSmall)),
            ("", Err(NotANumber)),
            (" 2.5", Err(NotANumber)),
            ("1,234.5", Err(NotANumber)),
            ("NA", Err(NotANumber)),
        ] {
            let found: Result<f64, _> = float(text);
            assert_eq!(found.map(f64::to_bits), wanted.map(f64::to_bits), "{text}");
        }
        assert!(float::<f64>("NaN").is_ok_and(f64::is_nan));
        let long = format!("1{}1", "0".repeat(400_000));
        assert_eq!(float::<f64>(&long), Err(TooLarge));
        let long = format!("1{}1e-400001", "0".repeat(400_000));
        assert_eq!(float::<f64>(&long), Ok(1.0));
    }

    #[test]
    fn narrow_floats_have_their_own_range_and_digits() {
        for (text, wanted) in [
            ("0.1", Ok(0.1f32)),
            ("3.4028235e38", Ok(f32::MAX)),
            ("16777216", Ok(16_777_216.0)),
            ("1e-45", Ok(1e-45)),
            // Rounded once: by way of a float64 it would be 1.0.
            ("1.00000005960464477540", Ok(1.0000001)),
            ("1.00000005960464477530", Ok(1.0)),
            // The texts of 2^89 as a float32 and as a float64.
            ("6.1897002e26", Ok(618_970_019_642_690_137_449_562_112.0)),
            (
                "6.189700196426902e26",
                Ok(618_970_019_642_690_137_449_562_112.0),
            ),
            ("16777217", Err(Digits)),
            ("1e39", Err(TooLarge)),
            ("1e-50", Err(TooSmall)),
        ] {
            let found: Result<f32, _> = float(text);
            assert_eq!(found.map(f32::to_bits), wanted.map(f32::to_bits), "{text}");
        }
    }

    #[test]
    fn numbers_that_parsers_make_others_of_are_found() {
        for (json, wanted) in [
            (
                r#"{"n": 1.0000000000000000001}"#,
                Some("1.0000000000000000001"),
            ),
            (
                r#"[1, -9007199254740991.9999999, 2]"#,
                Some("-9007199254740991.9999999"),
            ),
            (
                r#"{"a": "\\\"1.0000000000000000001", "b": 1e-400}"#,
                Some("1e-400"),
            ),
            ("1E-999999999999999999999", Some("1E-999999999999999999999")),
            (
                r#"{"n": 1.0000000000000000000, "m": 0.0e-400, "k": 7.0}"#,
                None,
            ),
            (
                r#"{"n": 9007199254740993, "m": 9007199254740993.0}"#,
                Some("9007199254740993.0"),
            ),
            (
                r#"[12345678901234567890123]"#,
                Some("12345678901234567890123"),
            ),
            (
                r#"{"n": 18446744073709551615, "m": 1e23, "k": 0.1, "j": -1e400}"#,
                Some("-1e400"),
            ),
            (
                r#"[0.1, -0.0, 1.7976931348623157e308, 5e-324, 0.30000000000000004]"#,
                None,
            ),
            (
                r#"{"n": 9007199254740992.0, "m": 1.152921504606847e18}"#,
                None,
            ),
            (r#"{"n": 3.14159265358979323846}"#, None),
            (r#""1.0000000000000000001"#, None),
            (r#""\"#, None),
            ("-", None),
            ("", None),
        ] {
            assert_eq!(lost_number(json.as_bytes()), wanted, "{json}");
        }
    }

    #[test]
    fn integers_and_floats_become_each_other_exactly() {
        assert_eq!(float_of_integer::<f64>(-7), Ok(-7.0));
        assert_eq!(
            float_of_integer::<f64>(1 << 60),
            Ok(1_152_921_504_606_846_976.0)
        );
        assert_eq!(float_of_integer::<f64>((1 << 53) + 1), Err(Digits));
        assert_eq!(float_of_integer::<f32>((1 << 24) + 1), Err(Digits));
        for (float, exact, parsed) in [
            (7.0, Ok(7), Ok(7)),
            (-0.0, Ok(0), Ok(0)),
            (7.5, Err(Fraction), Err(Fraction)),
            (f64::NAN, Err(NotANumber), Err(NotANumber)),
            (f64::INFINITY, Err(TooLarge), Err(TooLarge)),
            (9_223_372_036_854_775_808.0, Err(TooLarge), Err(TooLarge)),
            (-9_223_372_036_854_775_808.0, Ok(i64::MIN), Err(Rounded)),
            (
                9_007_199_254_740_991.0,
                Ok(9_007_199_254_740_991),
                Ok(9_007_199_254_740_991),
            ),
            (9_007_199_254_740_992.0, Ok(1 << 53), Err(Rounded)),
        ] {
            assert_eq!(int64_of_float(float), exact, "{float}");
            assert_eq!(int64_of_parsed_float(float), parsed, "{float}");
        }
    }
}
