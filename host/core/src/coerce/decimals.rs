//! Decimals of Arrow columns.
//!
//! A column of the type decimal(4, 2) has numbers up to 99.99, but its values are integers of a
//! fixed width, and nothing holds a file to the declared number of digits. Libraries cut off the
//! digits that are too many when they write such a value as text. So these values are found before
//! anything reads them.

use std::fmt::Display;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DecimalType,
};
use arrow_array::{ArrayRef, Float64Array, Int64Array};
use arrow_schema::DataType as ArrowType;

use super::{Coerced, convert, misfit};
use crate::reading::DecimalReading;
use crate::{DataType, Reading, decimal};

/// Whether an Arrow type is one of decimals.
pub(crate) fn is_decimal(found: &ArrowType) -> bool {
    use ArrowType as A;
    matches!(
        found,
        A::Decimal32(..) | A::Decimal64(..) | A::Decimal128(..) | A::Decimal256(..)
    )
}

/// Returns the values of a column that have more digits than its type declares: their rows, and
/// what is wrong with them. A column of another type than a decimal one has none.
pub fn oversized_decimals(column: &ArrayRef) -> Vec<(usize, String)> {
    match column.data_type() {
        ArrowType::Decimal32(precision, scale) => {
            oversized::<Decimal32Type>(column, *precision, *scale)
        }
        ArrowType::Decimal64(precision, scale) => {
            oversized::<Decimal64Type>(column, *precision, *scale)
        }
        ArrowType::Decimal128(precision, scale) => {
            oversized::<Decimal128Type>(column, *precision, *scale)
        }
        ArrowType::Decimal256(precision, scale) => {
            oversized::<Decimal256Type>(column, *precision, *scale)
        }
        _ => Vec::new(),
    }
}

fn oversized<T: DecimalType>(column: &ArrayRef, precision: u8, scale: i8) -> Vec<(usize, String)>
where
    T::Native: Display,
{
    let mut faults = Vec::new();
    for (row, value) in column.as_primitive::<T>().iter().enumerate() {
        let Some(value) = value else { continue };
        if !T::is_valid_decimal_precision(value, precision) {
            let value = written(&value.to_string(), scale);
            let message = format!(
                "{value} has more digits than its type keeps, which is decimal({precision}, {scale})"
            );
            faults.push((row, message));
        }
    }
    faults
}

/// Writes the number whose last `scale` digits are behind the decimal point, with all digits.
fn written(digits: &str, scale: i8) -> String {
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", digits),
    };
    let places = usize::from(scale.unsigned_abs());
    if scale <= 0 {
        return format!("{sign}{digits}{}", "0".repeat(places));
    }
    let digits = format!("{digits:0>width$}", width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    format!("{sign}{whole}.{fraction}")
}

/// Reads decimals: integers as they are, and others as it is declared. Returns `None` when it is
/// not declared that they are read as the wanted type.
pub(super) fn read_decimals(
    column: &ArrayRef,
    wanted: &DataType,
    reading: &Reading,
) -> Option<Coerced> {
    let Coerced { column, mut faults } =
        Coerced::without(Arc::clone(column), oversized_decimals(column));
    let read = match (wanted, reading.decimal) {
        (DataType::Int64, _) => integers(&column),
        (DataType::Float64, Some(DecimalReading::Float64)) => floats(&column),
        (DataType::Utf8, Some(DecimalReading::Text)) => {
            Coerced::whole(convert(&column, &ArrowType::Utf8))
        }
        _ => return None,
    };
    // A row has only one of these faults, since a value with too many digits is null in `read`.
    faults.extend(read.faults);
    faults.sort_by_key(|(row, _)| *row);
    Some(Coerced {
        column: read.column,
        faults,
    })
}

/// Reads decimals that are integers.
fn integers(column: &ArrayRef) -> Coerced {
    let texts = convert(column, &ArrowType::Utf8);
    let mut faults = Vec::new();
    let texts = texts.as_string::<i32>().iter().enumerate();
    let integers = texts.map(|(row, text)| {
        let text = text?;
        let integer = decimal::int64(text);
        integer
            .map_err(|e| faults.push((row, misfit(text, &DataType::Int64, e))))
            .ok()
    });
    let integers: Int64Array = integers.collect();
    Coerced {
        column: Arc::new(integers),
        faults,
    }
}

/// Reads each decimal as the float64 that is nearest to it, by way of its digits: a division would
/// round twice.
fn floats(column: &ArrayRef) -> Coerced {
    let texts = convert(column, &ArrowType::Utf8);
    let texts = texts.as_string::<i32>().iter();
    let floats =
        texts.map(|text| text.map(|text| text.parse::<f64>().expect("digits are a number")));
    Coerced::whole(Arc::new(floats.collect::<Float64Array>()))
}
