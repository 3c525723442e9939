//! Column values as JSON.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Float32Type, Float64Type, Int64Type, TimestampMicrosecondType, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType as ArrowType;
use serde_json::{Number, Value as Json};

use crate::Timestamp;

/// The value of a row as JSON: nulls as `null`, int64 as a number with all its digits, floats in
/// the shortest form that reads back exactly (`"NaN"`, `"Infinity"` and `"-Infinity"` as strings,
/// since JSON has no such numbers), timestamps as RFC 3339, dates as ISO 8601, binary as
/// hexadecimal digits, lists and vectors as arrays.
///
/// # Panics
/// Panics when `row` is out of range, or when the column has a type that cannot be stored and is
/// not a [plain one](crate::plain_type).
pub fn cell_to_json(column: &ArrayRef, row: usize) -> Json {
    if column.is_null(row) {
        return Json::Null;
    }
    match column.data_type() {
        ArrowType::Boolean => column.as_boolean().value(row).into(),
        ArrowType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        ArrowType::UInt64 => column.as_primitive::<UInt64Type>().value(row).into(),
        ArrowType::Float64 => float(column.as_primitive::<Float64Type>().value(row)),
        ArrowType::Float32 => float32(column.as_primitive::<Float32Type>().value(row)),
        ArrowType::Utf8 => column.as_string::<i32>().value(row).into(),
        ArrowType::Binary => hex(column.as_binary::<i32>().value(row)).into(),
        ArrowType::Timestamp(..) => {
            let micros = column.as_primitive::<TimestampMicrosecondType>().value(row);
            Timestamp::from_micros(micros).to_string().into()
        }
        ArrowType::Date32 => date(column.as_primitive::<Date32Type>().value(row)),
        ArrowType::List(_) => items(&column.as_list::<i32>().value(row)),
        ArrowType::FixedSizeList(..) => items(&column.as_fixed_size_list().value(row)),
        other => unreachable!("{other} is neither storable nor plain"),
    }
}

fn items(column: &ArrayRef) -> Json {
    (0..column.len())
        .map(|row| cell_to_json(column, row))
        .collect()
}

fn float(value: f64) -> Json {
    Number::from_f64(value).map_or_else(|| not_a_number(value).into(), Json::Number)
}

/// Converts through the float32's own shortest text: 0.1f32 is 0.1, not 0.10000000149011612.
fn float32(value: f32) -> Json {
    if value.is_finite() {
        float(
            value
                .to_string()
                .parse()
                .expect("a float's text is a number"),
        )
    } else {
        not_a_number(f64::from(value)).into()
    }
}

fn not_a_number(value: f64) -> &'static str {
    match value {
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => "NaN",
    }
}

fn date(days: i32) -> Json {
    let date =
        chrono::NaiveDate::default().checked_add_signed(chrono::TimeDelta::days(i64::from(days)));
    date.map_or_else(|| days.into(), |date| date.to_string().into())
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|b| [b >> 4, b & 15])
        .map(|d| char::from(b"0123456789abcdef"[usize::from(d)]))
        .collect()
}
