//! Conversions of columns on their way into functions and models.
//!
//! | column of a source | may be read as |
//! | --- | --- |
//! | the same Arrow type | that type |
//! | int8, int16, int32, uint8, uint16, uint32 | int64 |
//! | uint64 | int64, when every value fits |
//! | int8 to int32, uint8 to uint32, float16, float32 | float64 |
//! | float16 | float32 |
//! | large_utf8, utf8_view, a dictionary of utf8 | utf8 |
//! | large_binary, binary_view, fixed_size_binary, a dictionary of binary | binary |
//! | timestamp in seconds, milliseconds, microseconds or nanoseconds | timestamp; a time zone only affects display and is dropped, a timestamp without one is taken as UTC, nanoseconds are rounded towards the past |
//! | date64 | date |
//! | list, large_list or fixed_size_list of float16, float32 | vector(n), when every list has n items |
//! | list, large_list or fixed_size_list of a type that may be read as the item | `list<int64>`, `list<float64>`, `list<utf8>` |
//!
//! Anything else is an error. In particular, text is never turned into numbers, nor
//! int64 into float64, which would lose digits beyond 2^53.
//!
//! Models and encoders compute with float64 alone. The columns that they, or other functions of a
//! view, read may therefore also be [widened](widen) to it, in training and serving alike.
//!
//! | column of a view | may be read as |
//! | --- | --- |
//! | boolean | float64, 0 or 1 |
//! | int64 | float64, the nearest one |
//! | float32 | float64 |

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampMicrosecondType, TimestampNanosecondType, UInt64Type};
use arrow_array::{
    Array, ArrayRef, FixedSizeListArray, LargeListArray, ListArray, TimestampMicrosecondArray,
};
use arrow_buffer::OffsetBuffer;
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType as ArrowType, TimeUnit};

use crate::DataType;

/// The error for a column that cannot be read as the wanted type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoerceError {
    /// The types do not match, whatever the values.
    #[error("wanted {wanted}, found {found}")]
    Type {
        /// The type that the function reads.
        wanted: DataType,
        /// The type of the source's column.
        found: ArrowType,
    },
    /// The types match, but a value does not fit.
    #[error("row {row}: {message}")]
    Value {
        /// Index of the row in the column.
        row: usize,
        /// What is wrong with the value.
        message: String,
    },
}

/// Converts a column to the wanted type by the module's first table. A column that already has that
/// type is not copied.
///
/// # Errors
/// Returns [`CoerceError`] when the type or a value does not fit.
pub fn coerce(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, CoerceError> {
    let target = wanted.to_arrow();
    if *column.data_type() == target {
        return Ok(Arc::clone(column));
    }
    let refuse = || CoerceError::Type {
        wanted: wanted.clone(),
        found: column.data_type().clone(),
    };
    match (column.data_type(), wanted) {
        (ArrowType::UInt64, DataType::Int64) => {
            let values = column.as_primitive::<UInt64Type>();
            let too_large = (0..values.len())
                .find(|row| !values.is_null(*row) && i64::try_from(values.value(*row)).is_err());
            match too_large {
                None => Ok(convert(column, &target)),
                Some(row) => {
                    let message = format!("{} does not fit int64", values.value(row));
                    Err(CoerceError::Value { row, message })
                }
            }
        }
        (ArrowType::Timestamp(unit, _), DataType::Timestamp) => Ok(micros(column, *unit, &target)),
        (ArrowType::Dictionary(_, values), DataType::Utf8 | DataType::Binary) => {
            let plain = convert(column, values);
            coerce(&plain, wanted).map_err(|_| refuse())
        }
        (
            ArrowType::List(_) | ArrowType::LargeList(_) | ArrowType::FixedSizeList(..),
            DataType::Vector(n),
        ) => vectors(column, *n, refuse),
        (
            ArrowType::List(_) | ArrowType::LargeList(_) | ArrowType::FixedSizeList(..),
            DataType::ListInt64 | DataType::ListFloat64 | DataType::ListUtf8,
        ) => lists(column, wanted, refuse),
        (found, wanted) if is_widening(found, wanted) => Ok(convert(column, &target)),
        _ => Err(refuse()),
    }
}

/// Whether a model may read a column of type `found` as `wanted`, by the module's second table.
pub fn can_widen(found: &DataType, wanted: &DataType) -> bool {
    use DataType as D;
    found == wanted
        || matches!(
            (found, wanted),
            (D::Boolean | D::Int64 | D::Float32, D::Float64)
        )
}

/// Converts a column to the type as which a model, or a function of a view, reads it. A column that
/// already has that type is not copied.
///
/// # Panics
/// Panics when [`can_widen`] is false for the two types.
pub fn widen(column: &ArrayRef, wanted: &DataType) -> ArrayRef {
    let target = wanted.to_arrow();
    if *column.data_type() == target {
        return Arc::clone(column);
    }
    convert(column, &target)
}

/// Whether a conversion keeps every value exactly.
fn is_widening(found: &ArrowType, wanted: &DataType) -> bool {
    use ArrowType as A;
    let small_integer = matches!(
        found,
        A::Int8 | A::Int16 | A::Int32 | A::UInt8 | A::UInt16 | A::UInt32
    );
    match wanted {
        DataType::Int64 => small_integer,
        DataType::Float64 => small_integer || matches!(found, A::Float16 | A::Float32),
        DataType::Float32 => matches!(found, A::Float16),
        DataType::Utf8 => matches!(found, A::LargeUtf8 | A::Utf8View),
        DataType::Binary => {
            matches!(
                found,
                A::LargeBinary | A::BinaryView | A::FixedSizeBinary(_)
            )
        }
        DataType::Date => matches!(found, A::Date64),
        _ => false,
    }
}

fn convert(column: &ArrayRef, target: &ArrowType) -> ArrayRef {
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(column, target, &options)
        .expect("the table lists only conversions that keep every value")
}

fn micros(column: &ArrayRef, unit: TimeUnit, target: &ArrowType) -> ArrayRef {
    match unit {
        // A cast would round towards zero, which would move times before 1970 into the future.
        TimeUnit::Nanosecond => {
            let nanos = column.as_primitive::<TimestampNanosecondType>();
            let micros: TimestampMicrosecondArray = nanos.unary(|n| n.div_euclid(1_000));
            Arc::new(micros.with_data_type(target.clone()))
        }
        TimeUnit::Microsecond => {
            let micros = column.as_primitive::<TimestampMicrosecondType>().clone();
            Arc::new(micros.with_data_type(target.clone()))
        }
        TimeUnit::Second | TimeUnit::Millisecond => {
            let plain = convert(column, &ArrowType::Timestamp(TimeUnit::Microsecond, None));
            Arc::new(
                plain
                    .as_primitive::<TimestampMicrosecondType>()
                    .clone()
                    .with_data_type(target.clone()),
            )
        }
    }
}

/// A list column of any kind as one with 32-bit offsets, or `None` if that is not possible.
fn plain_lists(column: &ArrayRef) -> Option<ListArray> {
    match column.data_type() {
        ArrowType::List(_) => Some(column.as_list::<i32>().clone()),
        ArrowType::LargeList(item) => {
            let large: &LargeListArray = column.as_list::<i64>();
            let offsets: Option<Vec<i32>> = large
                .offsets()
                .iter()
                .map(|o| i32::try_from(*o).ok())
                .collect();
            Some(ListArray::new(
                Arc::clone(item),
                OffsetBuffer::new(offsets?.into()),
                Arc::clone(large.values()),
                large.nulls().cloned(),
            ))
        }
        ArrowType::FixedSizeList(item, n) => {
            let fixed: &FixedSizeListArray = column.as_fixed_size_list();
            let offsets =
                OffsetBuffer::from_repeated_length(usize::try_from(*n).ok()?, fixed.len());
            let values = Arc::clone(fixed.values());
            Some(ListArray::new(
                Arc::clone(item),
                offsets,
                values,
                fixed.nulls().cloned(),
            ))
        }
        _ => None,
    }
}

/// The items of all lists as the wanted type. A null item is an error unless its list is null.
fn list_items(
    lists: &ListArray,
    wanted: &DataType,
    refuse: impl Fn() -> CoerceError,
) -> Result<ArrayRef, CoerceError> {
    let items = coerce(lists.values(), wanted).map_err(|_| refuse())?;
    if items.null_count() == 0 {
        return Ok(items);
    }
    for row in 0..lists.len() {
        let range = lists.offsets()[row] as usize..lists.offsets()[row + 1] as usize;
        if !lists.is_null(row) && range.clone().any(|item| items.is_null(item)) {
            return Err(CoerceError::Value {
                row,
                message: "a list holds a null".to_owned(),
            });
        }
    }
    // Only null rows have null items, so the bit map of the items can go.
    let data = items.to_data().into_builder().nulls(None).build();
    Ok(arrow_array::make_array(
        data.expect("a column without its bit map stays valid"),
    ))
}

fn lists(
    column: &ArrayRef,
    wanted: &DataType,
    refuse: impl Fn() -> CoerceError,
) -> Result<ArrayRef, CoerceError> {
    let item = match wanted {
        DataType::ListInt64 => DataType::Int64,
        DataType::ListFloat64 => DataType::Float64,
        _ => DataType::Utf8,
    };
    let plain = plain_lists(column).ok_or_else(&refuse)?;
    let items = list_items(&plain, &item, refuse)?;
    let ArrowType::List(field) = wanted.to_arrow() else {
        unreachable!("a list type")
    };
    Ok(Arc::new(ListArray::new(
        field,
        plain.offsets().clone(),
        items,
        plain.nulls().cloned(),
    )))
}

fn vectors(
    column: &ArrayRef,
    n: u32,
    refuse: impl Fn() -> CoerceError,
) -> Result<ArrayRef, CoerceError> {
    let plain = plain_lists(column).ok_or_else(&refuse)?;
    let items = list_items(&plain, &DataType::Float32, refuse)?;
    let n = n as usize;
    let mut builder = crate::ColumnBuilder::new(&DataType::Vector(n as u32), plain.len());
    let values = items.as_primitive::<arrow_array::types::Float32Type>();
    for row in 0..plain.len() {
        let start = plain.offsets()[row] as usize;
        let length = plain.offsets()[row + 1] as usize - start;
        if plain.is_null(row) {
            builder.append_null();
        } else if length == n {
            let crate::column::Inner::Vector(b) = builder.inner() else {
                unreachable!("built above")
            };
            b.values().append_slice(&values.values()[start..start + n]);
            b.append(true);
        } else {
            let message = format!("a list of {length} numbers is not vector({n})");
            return Err(CoerceError::Value { row, message });
        }
    }
    Ok(builder.finish())
}

#[cfg(test)]
mod tests;
