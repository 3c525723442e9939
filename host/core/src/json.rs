//! Column values as JSON.

use std::fmt;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Float32Type, Float64Type, Int64Type, TimestampMicrosecondType, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType as ArrowType;
use serde::{Serialize, Serializer};
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
        ArrowType::Binary => Hex(column.as_binary::<i32>().value(row)).to_string().into(),
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

/// The value of a row, which serialises as [`cell_to_json`] writes it. Long texts, byte strings and
/// lists are not copied for that.
#[derive(Clone, Copy, Debug)]
pub struct JsonCell<'a> {
    column: &'a ArrayRef,
    row: usize,
}

impl<'a> JsonCell<'a> {
    /// Returns the value of a row of a column, which must have a type that [`cell_to_json`] knows.
    pub fn new(column: &'a ArrayRef, row: usize) -> Self {
        Self { column, row }
    }
}

impl Serialize for JsonCell<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { column, row } = *self;
        if column.is_null(row) {
            return serializer.serialize_unit();
        }
        match column.data_type() {
            ArrowType::Utf8 => serializer.serialize_str(column.as_string::<i32>().value(row)),
            ArrowType::Binary => serializer.collect_str(&Hex(column.as_binary::<i32>().value(row))),
            ArrowType::List(_) => serialize_items(&column.as_list::<i32>().value(row), serializer),
            ArrowType::FixedSizeList(..) => {
                serialize_items(&column.as_fixed_size_list().value(row), serializer)
            }
            _ => cell_to_json(column, row).serialize(serializer),
        }
    }
}

fn serialize_items<S: Serializer>(items: &ArrayRef, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq((0..items.len()).map(|item| JsonCell::new(items, item)))
}

/// Byte strings as hexadecimal digits.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Long byte strings are written in pieces, so that their digits are never there together.
        for piece in self.0.chunks(1_024) {
            let digits = piece.iter().flat_map(|byte| [byte >> 4, byte & 15]);
            let digits = digits.map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]));
            f.write_str(&digits.collect::<String>())?;
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{ColumnBuilder, DataType};

    #[test]
    fn cells_serialise_as_their_json() {
        for (name, value) in [
            ("boolean", json!(true)),
            ("int64", json!(9_007_199_254_740_993_i64)),
            ("float64", json!(0.1)),
            ("float64", json!("NaN")),
            ("float32", json!(0.1)),
            ("utf8", json!("\u{1}\"a\\ä")),
            ("binary", json!("00ff10")),
            ("binary", json!("7a".repeat(3_000))),
            ("timestamp", json!("2020-01-01T00:00:00.000001Z")),
            ("date", json!("2020-01-01")),
            ("vector(2)", json!([0.5, 1.5])),
            ("list<int64>", json!([1, 2])),
            ("list<float64>", json!([])),
            ("list<utf8>", json!(["a", ""])),
        ] {
            let data_type: DataType = name.parse().unwrap();
            let mut builder = ColumnBuilder::new(&data_type, 3);
            builder.append_null();
            builder.append_json(&value).unwrap();
            let column = builder.finish();
            for row in 0..2 {
                let cell = serde_json::to_string(&JsonCell::new(&column, row)).unwrap();
                assert_eq!(cell, cell_to_json(&column, row).to_string(), "{name}");
            }
            assert_eq!(cell_to_json(&column, 1), value, "{name}");
        }
    }
}
