//! Entity keys: the join keys of a row, encoded so that the bytes compare as the values do,
//! component by component.

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType as ArrowType;
use serde::{Deserialize, Serialize};

/// Maximum length of an encoded key, in bytes. LMDB takes keys of 511 bytes, of which the store
/// needs some for the table.
pub const MAX_KEY_BYTES: usize = 440;

/// The encoded join keys of one entity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntityKey(Box<[u8]>);

impl EntityKey {
    /// The encoded bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The error for a row without a valid entity key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A key column is null. Holds the index of the column.
    #[error("key column {0} is null")]
    Null(usize),
    /// The encoded key would be longer than [`MAX_KEY_BYTES`]. Holds its length.
    #[error("entity key of {0} bytes; at most {MAX_KEY_BYTES} fit")]
    TooLong(usize),
}

/// Encodes the key columns of a row in their declared order. Integers, timestamps and dates are 8
/// bytes, big endian, with the sign bit flipped. Strings and byte strings have each zero byte
/// written as `00 ff` and end in `00 00`, so that no value is a prefix of another. Booleans are one
/// byte.
///
/// # Errors
/// Returns [`KeyError`] when a key column is null or the key is too long.
///
/// # Panics
/// Panics when a column's type is [not a key type](crate::DataType::is_key), or `row` is out of
/// range.
pub fn entity_key(columns: &[ArrayRef], row: usize) -> Result<EntityKey, KeyError> {
    let mut bytes = Vec::with_capacity(32);
    encode_key(columns, row, &mut bytes)?;
    Ok(EntityKey(bytes.into()))
}

/// Appends the encoded key of a row; see [`entity_key`].
pub(crate) fn encode_key(
    columns: &[ArrayRef],
    row: usize,
    bytes: &mut Vec<u8>,
) -> Result<(), KeyError> {
    for (index, column) in columns.iter().enumerate() {
        if column.is_null(row) {
            return Err(KeyError::Null(index));
        }
        match column.data_type() {
            ArrowType::Boolean => bytes.push(u8::from(column.as_boolean().value(row))),
            ArrowType::Int64 => ordered(column.as_primitive::<Int64Type>().value(row), bytes),
            ArrowType::Timestamp(..) => {
                ordered(
                    column.as_primitive::<TimestampMicrosecondType>().value(row),
                    bytes,
                );
            }
            ArrowType::Date32 => {
                ordered(
                    i64::from(column.as_primitive::<Date32Type>().value(row)),
                    bytes,
                );
            }
            ArrowType::Utf8 => terminated(column.as_string::<i32>().value(row).as_bytes(), bytes),
            ArrowType::Binary => terminated(column.as_binary::<i32>().value(row), bytes),
            other => unreachable!("{other} is not the type of a key"),
        }
    }
    if bytes.len() > MAX_KEY_BYTES {
        return Err(KeyError::TooLong(bytes.len()));
    }
    Ok(())
}

fn ordered(value: i64, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&(value ^ i64::MIN).to_be_bytes());
}

fn terminated(value: &[u8], bytes: &mut Vec<u8>) {
    for byte in value {
        bytes.push(*byte);
        if *byte == 0 {
            bytes.push(0xff);
        }
    }
    bytes.extend_from_slice(&[0, 0]);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int64Array, StringArray};
    use proptest::prelude::*;

    use super::*;

    fn key(text: &str, number: i64) -> EntityKey {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![text])),
            Arc::new(Int64Array::from(vec![number])),
        ];
        entity_key(&columns, 0).unwrap()
    }

    #[test]
    fn null_and_long_keys_are_rejected() {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![1])),
            Arc::new(StringArray::from(vec![None::<&str>])),
        ];
        assert_eq!(entity_key(&columns, 0), Err(KeyError::Null(1)));
        let long: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(439)]));
        assert_eq!(entity_key(&[long], 0), Err(KeyError::TooLong(441)));
    }

    proptest! {
        #[test]
        fn keys_compare_as_their_values(a in "[\\x00-\\x02a]{0,4}", b in "[\\x00-\\x02a]{0,4}", m: i64, n: i64) {
            prop_assert_eq!(key(&a, m).cmp(&key(&b, n)), (a, m).cmp(&(b, n)));
        }
    }
}
