//! Rows packed into bytes, as the online store and the outbox hold them.
//!
//! Format, version 1: one byte 1; a bit map of `ceil(columns / 8)` bytes, least
//! significant bit first, 1 = present; then for each present value in column
//! order: boolean 1 byte; int64, float64 and timestamp 8 bytes; float32 and date
//! 4 bytes; utf8 and binary a length of 4 bytes and the bytes; vector its
//! numbers, 4 bytes each; lists a count of 4 bytes and the items, each as above.
//! All little endian. The columns are not described: who reads must know the
//! schema, which stores check by its fingerprint.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Float32Type, Float64Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType as ArrowType;

use crate::ColumnBuilder;
use crate::column::Inner;

const VERSION: u8 = 1;

/// Packed bytes that do not fit their schema: they were damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("packed row is damaged at byte {0}")]
pub struct PackedError(usize);

/// Packs one row of some columns, appending to `out`.
///
/// # Panics
/// When a column's type is not storable, or `row` is out of range.
pub fn encode_row(columns: &[ArrayRef], row: usize, out: &mut Vec<u8>) {
    out.push(VERSION);
    let bits = out.len();
    out.resize(bits + columns.len().div_ceil(8), 0);
    for (index, column) in columns.iter().enumerate() {
        if !column.is_null(row) {
            out[bits + index / 8] |= 1 << (index % 8);
            encode_value(column, row, out);
        }
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
    // An Arrow value's length fits its 31-bit offsets.
    out.extend_from_slice(&(length as u32).to_le_bytes());
}

/// Unpacks one row, appending one value to each column.
///
/// # Errors
/// [`PackedError`] when the bytes do not fit the columns; some columns may have
/// one value more than others then, and must be thrown away.
pub fn decode_row(bytes: &[u8], columns: &mut [ColumnBuilder]) -> Result<(), PackedError> {
    let mut reader = Reader { bytes, position: 0 };
    if reader.array::<1>()? != [VERSION] {
        return Err(PackedError(0));
    }
    let bits = reader.take(columns.len().div_ceil(8))?;
    for (index, column) in columns.iter_mut().enumerate() {
        if bits[index / 8] >> (index % 8) & 1 == 1 {
            reader.value(column.inner())?;
        } else {
            column.append_null();
        }
    }
    if reader.position == bytes.len() {
        Ok(())
    } else {
        Err(PackedError(reader.position))
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], PackedError> {
        let error = PackedError(self.position);
        let rest = &self.bytes[self.position..];
        let taken = rest.get(..length).ok_or(error)?;
        self.position += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PackedError> {
        Ok(self.take(N)?.try_into().expect("N bytes were taken"))
    }

    fn length(&mut self) -> Result<usize, PackedError> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    fn text(&mut self) -> Result<&'a str, PackedError> {
        let length = self.length()?;
        let error = PackedError(self.position);
        std::str::from_utf8(self.take(length)?).map_err(|_| error)
    }

    fn value(&mut self, column: &mut Inner) -> Result<(), PackedError> {
        match column {
            Inner::Boolean(b) => b.append_value(self.array::<1>()? == [1]),
            Inner::Int64(b) => b.append_value(i64::from_le_bytes(self.array()?)),
            Inner::Float64(b) => b.append_value(f64::from_le_bytes(self.array()?)),
            Inner::Float32(b) => b.append_value(f32::from_le_bytes(self.array()?)),
            Inner::Utf8(b) => b.append_value(self.text()?),
            Inner::Binary(b) => {
                let length = self.length()?;
                b.append_value(self.take(length)?);
            }
            Inner::Timestamp(b) => b.append_value(i64::from_le_bytes(self.array()?)),
            Inner::Date(b) => b.append_value(i32::from_le_bytes(self.array()?)),
            Inner::Vector(b) => {
                for _ in 0..b.value_length() {
                    b.values().append_value(f32::from_le_bytes(self.array()?));
                }
                b.append(true);
            }
            Inner::ListInt64(b) => {
                for _ in 0..self.length()? {
                    b.values().append_value(i64::from_le_bytes(self.array()?));
                }
                b.append(true);
            }
            Inner::ListFloat64(b) => {
                for _ in 0..self.length()? {
                    b.values().append_value(f64::from_le_bytes(self.array()?));
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
    fn rows_round_trip_with_every_mix_of_nulls() {
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
    fn every_cut_is_noticed() {
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
        fn damage_never_panics(mut bytes in Just(packed(&full_row())), at in 0usize..80, to: u8) {
            let at = at % bytes.len();
            bytes[at] = to;
            let _ = decode_row(&bytes, &mut builders());
        }
    }
}
