//! How many digits the fields of a declared format have.
//!
//! The parser takes a field of fewer digits than it is wide, wherever it stands, and would so read
//! `03/04/24` by `%d/%m/%Y` as a day of the year 24, and `50101` by `%y%m%d` as a day of October.
//! Here a year has all its digits, and other fields may lack their leading zeros only where no
//! number adjoins them, as in `3/4/2024`.

use chrono::format::{Fixed, Item, Numeric, Pad};

/// What an item of a format took of a text, and what is around it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ItemText<'a> {
    pub(super) before: &'a str,
    pub(super) taken: &'a str,
    pub(super) after: &'a str,
    /// Whether the item before is a number as well.
    pub(super) follows_number: bool,
    /// Whether the item after is a number as well.
    pub(super) precedes_number: bool,
}

/// Whether an item of a format is a number.
pub(super) fn is_number(item: &Item<'_>) -> bool {
    matches!(item, Item::Numeric(..))
}

impl ItemText<'_> {
    /// Checks that the item has as many digits as it needs.
    pub(super) fn check(self, item: &Item<'_>) -> Result<(), String> {
        match item {
            Item::Numeric(number, pad) => self.check_number(number, *pad),
            // The parser reads the year of `%+` like any other one.
            Item::Fixed(Fixed::RFC3339) if self.digits() != 4 => {
                Err(needs("the year", 4, self.digits()))
            }
            Item::Space(_) | Item::OwnedSpace(_) if self.is_missing_between_digits() => {
                Err("two numbers adjoin where the format has a blank".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn check_number(self, number: &Numeric, pad: Pad) -> Result<(), String> {
        let Some((name, width)) = field(number) else {
            return Ok(());
        };
        let (blanks, digits) = (self.blanks(), self.digits());
        if pad == Pad::Space && blanks + digits == width {
            return Ok(());
        }
        if blanks > 0 && self.follows_number {
            return Err(format!("there is a blank before {name}"));
        }
        if digits == width {
            return Ok(());
        }
        match is_exact(number, pad) {
            true => Err(needs(name, width, digits)),
            false if self.adjoins_number() => Err(format!(
                "{}, because another number adjoins it",
                needs(name, width, digits)
            )),
            false => Ok(()),
        }
    }

    /// The number of blanks before the number.
    fn blanks(self) -> usize {
        let blanks = self.taken.chars();
        blanks.take_while(|char| char.is_whitespace()).count()
    }

    /// The number of digits that the item begins with, after blanks and a sign.
    fn digits(self) -> usize {
        let number = self.taken.trim_start();
        let number = number.strip_prefix(['+', '-']).unwrap_or(number);
        number.bytes().take_while(u8::is_ascii_digit).count()
    }

    fn adjoins_number(self) -> bool {
        let follows_digit = self.blanks() == 0 && ends_with_digit(self.before);
        self.follows_number
            || self.precedes_number
            || follows_digit
            || begins_with_digit(self.after)
    }

    fn is_missing_between_digits(self) -> bool {
        self.taken.is_empty() && ends_with_digit(self.before) && begins_with_digit(self.after)
    }
}

fn begins_with_digit(text: &str) -> bool {
    text.starts_with(|char: char| char.is_ascii_digit())
}

fn ends_with_digit(text: &str) -> bool {
    text.ends_with(|char: char| char.is_ascii_digit())
}

fn needs(name: &str, width: usize, digits: usize) -> String {
    format!("{name} needs {width} digits and has {digits}")
}

/// The name and the width of a field of more than one digit. Seconds since 1970 have no width.
fn field(number: &Numeric) -> Option<(&'static str, usize)> {
    Some(match number {
        Numeric::Year | Numeric::IsoYear => ("the year", 4),
        Numeric::YearDiv100 | Numeric::IsoYearDiv100 => ("the century", 2),
        Numeric::YearMod100 | Numeric::IsoYearMod100 => ("the year", 2),
        Numeric::Month => ("the month", 2),
        Numeric::Day => ("the day", 2),
        Numeric::WeekFromSun | Numeric::WeekFromMon | Numeric::IsoWeek => ("the week", 2),
        Numeric::Ordinal => ("the day of the year", 3),
        Numeric::Hour | Numeric::Hour12 => ("the hour", 2),
        Numeric::Minute => ("the minute", 2),
        Numeric::Second => ("the second", 2),
        _ => return None,
    })
}

/// Whether a field has all its digits even where no number adjoins it. `%-y` and `%-j` declare that
/// leading zeros are left out.
fn is_exact(number: &Numeric, pad: Pad) -> bool {
    match number {
        Numeric::Year | Numeric::IsoYear => true,
        Numeric::YearDiv100
        | Numeric::IsoYearDiv100
        | Numeric::YearMod100
        | Numeric::IsoYearMod100
        | Numeric::Ordinal => pad != Pad::None,
        _ => false,
    }
}
