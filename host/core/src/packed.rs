//! Rows packed into bytes, as the online store and the outbox hold them.
//!
//! Format, version 1, with all numbers little endian:
//!
//! - the version, one byte;
//! - the number of columns, 2 bytes;
//! - a bit map of `ceil(columns / 8)` bytes, least significant bit first, where 1 means present;
//! - each present value in column order: a boolean in 1 byte; int64, float64 and timestamp in 8
//!   bytes; float32 and date in 4 bytes; utf8 and binary as a length of 4 bytes and the bytes; a
//!   vector as its numbers, 4 bytes each; a list as a count of 4 bytes and its items, each encoded
//!   as above.
//!
//! The columns are not described: the reader must know the schema, which stores check by its
//! fingerprint. In a row that was packed before columns were added to the end of the schema, those
//! columns are null.

use std::fmt::Display;
use std::io::Write as _;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Float32Type, Float64Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType as ArrowType;

use crate::ColumnBuilder;
use crate::bytes::{DamagedError, Reader};
use crate::column::Inner;

const VERSION: u8 = 1;

/// Packs one row of `columns`, appending to `out`.
///
/// # Panics
/// Panics when a column's type cannot be stored, or `row` is out of range.
pub fn encode_row(columns: &[ArrayRef], row: usize, out: &mut Vec<u8>) {
    out.push(VERSION);
    // A schema has at most 1,024 fields.
    out.extend_from_slice(&(columns.len() as u16).to_le_bytes());
    let bits = out.len();
    out.resize(bits + columns.len().div_ceil(8), 0);
    for (index, column) in columns.iter().enumerate() {
        if !column.is_null(row) {
            out[bits + index / 8] |= 1 << (index % 8);
            encode_value(column, row, out);
        }
    }
}

/// Packs a row of text columns, each of which has a value, appending to `out`. The texts are
/// written as they are formatted, so that a large one is not in memory a second time.
pub fn encode_texts(texts: &[&dyn Display], out: &mut Vec<u8>) {
    out.push(VERSION);
    // A schema has at most 1,024 fields.
    out.extend_from_slice(&(texts.len() as u16).to_le_bytes());
    let bits = out.len();
    out.resize(bits + texts.len().div_ceil(8), 0);
    for (index, text) in texts.iter().enumerate() {
        out[bits + index / 8] |= 1 << (index % 8);
        let start = out.len();
        encode_length(0, out);
        // Writing to memory cannot fail.
        let _ = write!(out, "{text}");
        let length = (out.len() - start - size_of::<u32>()) as u32;
        out[start..start + size_of::<u32>()].copy_from_slice(&length.to_le_bytes());
    }
}

fn encode_value(column: &ArrayRef, row: usize, out: &mut Vec<u8>) {
    match column.data_type() {
        ArrowType::Boolean => out.push(u8::from(column.as_boolean().value(row))),
        ArrowType::Int64 => {
            out.extend_from_slice(&column.as_primitive::<Int64Type>().value(row).to_le_bytes());
        }
        ArrowType::Float64 => {
            out.extend_from_slice(
                &column
                    .as_primitive::<Float64Type>()
                    .value(row)
                    .to_le_bytes(),
            );
        }
        ArrowType::Float32 => {
            out.extend_from_slice(
                &column
                    .as_primitive::<Float32Type>()
                    .value(row)
                    .to_le_bytes(),
            );
        }
        ArrowType::Timestamp(..) => {
            let micros = column.as_primitive::<TimestampMicrosecondType>().value(row);
            out.extend_from_slice(&micros.to_le_bytes());
        }
        ArrowType::Date32 => {
            out.extend_from_slice(&column.as_primitive::<Date32Type>().value(row).to_le_bytes());
        }
        ArrowType::Utf8 => encode_bytes(column.as_string::<i32>().value(row).as_bytes(), out),
        ArrowType::Binary => encode_bytes(column.as_binary::<i32>().value(row), out),
        ArrowType::FixedSizeList(..) => {
            encode_items(&column.as_fixed_size_list().value(row), out);
        }
        ArrowType::List(_) => {
            let items = column.as_list::<i32>().value(row);
            encode_length(items.len(), out);
            encode_items(&items, out);
        }
        other => unreachable!("{other} is not storable"),
    }
}

fn encode_items(items: &ArrayRef, out: &mut Vec<u8>) {
    for row in 0..items.len() {
        encode_value(items, row, out);
    }
}

fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    encode_length(bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn encode_length(length: usize, out: &mut Vec<u8>) {
    // Arrow offsets have 31 bits, so every length fits.
    out.extend_from_slice(&(length as u32).to_le_bytes());
}

/// The number of columns that a row was packed with.
///
/// # Errors
/// Returns [`DamagedError`] when the header cannot be read.
pub fn packed_columns(bytes: &[u8]) -> Result<usize, DamagedError> {
    header(&mut Reader::new(bytes))
}

fn header(reader: &mut Reader<'_>) -> Result<usize, DamagedError> {
    if reader.byte()? != VERSION {
        return Err(DamagedError(0));
    }
    Ok(u16::from_le_bytes(reader.array()?).into())
}

/// Unpacks one row, appending one value to each column. Columns beyond those that the row was
/// packed with get a null.
///
/// # Errors
/// Returns [`DamagedError`] when the bytes do not fit the columns. Some columns may then have one
/// value more than others, and all must be discarded.
pub fn decode_row(bytes: &[u8], columns: &mut [ColumnBuilder]) -> Result<(), DamagedError> {
    let rest = decode(bytes, columns)?;
    match rest.0.rest() {
        0 if packed_columns(bytes)? <= columns.len() => Ok(()),
        _ => Err(rest.0.damaged()),
    }
}

/// Like [`decode_row`], but the row may have been packed with further columns after these, which
/// are skipped.
///
/// # Errors
/// Returns the errors of [`decode_row`].
pub fn decode_leading(bytes: &[u8], columns: &mut [ColumnBuilder]) -> Result<(), DamagedError> {
    match packed_columns(bytes)? <= columns.len() {
        true => decode_row(bytes, columns),
        false => decode(bytes, columns).map(drop),
    }
}

/// Unpacks the values of `columns`, and returns a reader of the bytes after them.
fn decode<'a>(
    bytes: &'a [u8],
    columns: &mut [ColumnBuilder],
) -> Result<RowReader<'a>, DamagedError> {
    let mut reader = RowReader(Reader::new(bytes));
    let count = header(&mut reader.0)?;
    let bits = reader.0.take(count.div_ceil(8))?;
    for (index, column) in columns.iter_mut().enumerate() {
        if index < count && bits[index / 8] >> (index % 8) & 1 == 1 {
            reader.value(column.inner())?;
        } else {
            column.append_null();
        }
    }
    Ok(reader)
}

struct RowReader<'a>(Reader<'a>);

impl<'a> RowReader<'a> {
    fn length(&mut self) -> Result<usize, DamagedError> {
        Ok(u32::from_le_bytes(self.0.array()?) as usize)
    }

    fn text(&mut self) -> Result<&'a str, DamagedError> {
        let length = self.length()?;
        let error = self.0.damaged();
        std::str::from_utf8(self.0.take(length)?).map_err(|_| error)
    }

    fn value(&mut self, column: &mut Inner) -> Result<(), DamagedError> {
        match column {
            Inner::Boolean(b) => b.append_value(self.0.array::<1>()? == [1]),
            Inner::Int64(b) => b.append_value(i64::from_le_bytes(self.0.array()?)),
            Inner::Float64(b) => b.append_value(f64::from_le_bytes(self.0.array()?)),
            Inner::Float32(b) => b.append_value(f32::from_le_bytes(self.0.array()?)),
            Inner::Utf8(b) => b.append_value(self.text()?),
            Inner::Binary(b) => {
                let length = self.length()?;
                b.append_value(self.0.take(length)?);
            }
            Inner::Timestamp(b) => b.append_value(i64::from_le_bytes(self.0.array()?)),
            Inner::Date(b) => b.append_value(i32::from_le_bytes(self.0.array()?)),
            Inner::Vector(b) => {
                for _ in 0..b.value_length() {
                    b.values().append_value(f32::from_le_bytes(self.0.array()?));
                }
                b.append(true);
            }
            Inner::ListInt64(b) => {
                for _ in 0..self.length()? {
                    b.values().append_value(i64::from_le_bytes(self.0.array()?));
                }
                b.append(true);
            }
            Inner::ListFloat64(b) => {
                for _ in 0..self.length()? {
                    b.values().append_value(f64::from_le_bytes(self.0.array()?));
                }
                b.append(true);
            }
            Inner::ListUtf8(b) => {
                for _ in 0..self.length()? {
                    b.values().append_value(self.text()?);
                }
                b.append(true);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::{DataType, cell_to_json};

    const TYPES: [&str; 12] = [
        "boolean",
        "int64",
        "float64",
        "float32",
        "utf8",
        "binary",
        "timestamp",
        "date",
        "vector(2)",
        "list<int64>",
        "list<float64>",
        "list<utf8>",
    ];

    fn types() -> Vec<DataType> {
        TYPES.iter().map(|t| t.parse().unwrap()).collect()
    }

    fn builders() -> Vec<ColumnBuilder> {
        types().iter().map(|t| ColumnBuilder::new(t, 1)).collect()
    }

    #[test]
    fn texts_are_packed_like_a_row_of_text_columns() {
        let event = json!({"a": "é", "b": [1, null]});
        let texts: [&dyn Display; 9] = [&event, &"", &"é", &4, &5, &6, &7, &8, &"nine"];
        let columns = texts.map(|text| {
            let mut column = ColumnBuilder::new(&DataType::Utf8, 1);
            column.append_json(&Json::String(text.to_string())).unwrap();
            column.finish()
        });
        for count in 0..=texts.len() {
            let (mut wanted, mut found) = (vec![7], vec![7]);
            encode_row(&columns[..count], 0, &mut wanted);
            encode_texts(&texts[..count], &mut found);
            assert_eq!(found, wanted, "{count}");
        }
    }

    fn packed(values: &[Json]) -> Vec<u8> {
        let mut builders = builders();
        for (builder, value) in builders.iter_mut().zip(values) {
            builder.append_json(value).unwrap();
        }
        let columns: Vec<_> = builders.iter_mut().map(ColumnBuilder::finish).collect();
        let mut bytes = Vec::new();
        encode_row(&columns, 0, &mut bytes);
        bytes
    }

    fn full_row() -> Vec<Json> {
        vec![
            json!(true),
            json!(9_007_199_254_740_993_i64),
            json!(0.1),
            json!("NaN"),
            json!("ä"),
            json!("00ff"),
            json!("2013-01-01T00:00:00.000001Z"),
            json!("2013-03-10"),
            json!([1.0, 2.0]),
            json!([1, -1]),
            json!([]),
            json!(["", "x"]),
        ]
    }

    #[test]
    fn decode_leading_skips_columns_added_later() {
        let bytes = packed(&full_row());
        for count in 0..=TYPES.len() {
            let mut columns = builders();
            columns.truncate(count);
            decode_leading(&bytes, &mut columns).unwrap();
            for (column, wanted) in columns.iter_mut().zip(full_row()) {
                assert_eq!(cell_to_json(&column.finish(), 0), wanted);
            }
            if count < TYPES.len() {
                let mut columns = builders();
                columns.truncate(count);
                assert!(decode_row(&bytes, &mut columns).is_err(), "{count}");
            }
        }
        let mut longer = bytes;
        longer.push(0);
        assert!(decode_leading(&longer, &mut builders()).is_err());
    }

    #[test]
    fn packed_rows_round_trip_with_every_mix_of_nulls() {
        let full = full_row();
        for mask in 0..1 << full.len() {
            let row: Vec<Json> = (0..full.len())
                .map(|i| {
                    if mask >> i & 1 == 1 {
                        full[i].clone()
                    } else {
                        Json::Null
                    }
                })
                .collect();
            let mut columns = builders();
            decode_row(&packed(&row), &mut columns).unwrap();
            let back: Vec<Json> = columns
                .iter_mut()
                .map(|c| cell_to_json(&c.finish(), 0))
                .collect();
            assert_eq!(back, row);
        }
    }

    #[test]
    fn truncated_packed_rows_are_errors() {
        let bytes = packed(&full_row());
        for length in 0..bytes.len() {
            assert!(
                decode_row(&bytes[..length], &mut builders()).is_err(),
                "cut at {length}"
            );
        }
        let mut longer = bytes;
        longer.push(0);
        assert!(decode_row(&longer, &mut builders()).is_err());
    }

    proptest! {
        #[test]
        fn damaged_packed_rows_never_panic(mut bytes in Just(packed(&full_row())), at in 0usize..80, to: u8) {
            let at = at % bytes.len();
            bytes[at] = to;
            let _ = decode_row(&bytes, &mut builders());
        }
    }
}
