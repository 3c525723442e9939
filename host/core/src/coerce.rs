//! Conversions of columns on their way into functions and models.
//!
//! This is the table for the columns of Parquet and Arrow. JSON and CSV have values without types,
//! which [`ColumnBuilder`](crate::ColumnBuilder) reads by the same rules; `docs/values.md` has one
//! table for all of them, and `tests/pipelines/values.rs` checks it cell by cell.
//!
//! | column of a source | may be read as |
//! | --- | --- |
//! | the same Arrow type | that type |
//! | any integer type | int64, when the value fits |
//! | float16, float32, float64 | int64, when the value is an integer that fits |
//! | float16, float32, float64 | float64 |
//! | any integer type | float64 or float32, when the float tells the value from its neighbours |
//! | float16, float32 | float32 |
//! | utf8, large_utf8, utf8_view | utf8 |
//! | binary, large_binary, binary_view, fixed_size_binary | binary |
//! | timestamp in seconds, milliseconds, microseconds or nanoseconds | timestamp, when the value lies in the years 1 to 9999 and has no digits beyond microseconds, unless it is declared that they are cut off; a time zone only affects display and is dropped; a timestamp without one is read only if its zone is declared |
//! | date32, date64 | date, when the value is a whole number of days in the years 1 to 9999; timestamp, the midnight of the day, if its zone is declared |
//! | any integer or float type, of a column whose unit or format is declared | timestamp or date, by the same rules |
//! | a text, of a column whose format or zone is declared | timestamp or date, as a text of CSV |
//! | a decimal, with no more digits than its type declares | int64, when the value is an integer that fits |
//! | such a decimal, of a column of which it is declared | float64, the nearest one, or utf8, with all digits |
//! | null | any type, as nulls |
//! | a dictionary of values of such a type | what they may be read as |
//! | list, large_list or fixed_size_list of a type that may be read as float32 | vector(n), when every list has n items |
//! | list, large_list or fixed_size_list of a type that may be read as the item | `list<int64>`, `list<float64>`, `list<utf8>` |
//!
//! Anything else is an error. In particular, text is never turned into numbers, nor booleans into
//! integers, nor float64 into float32, nor numbers into times whose unit is not declared. What is
//! declared of a column is its [`Reading`].
//!
//! Models and encoders compute with float64 alone. The columns that they, or other functions of a
//! view, read may therefore also be [widened](widen) to it, in training and serving alike.
//!
//! | column of a view | may be read as |
//! | --- | --- |
//! | boolean | float64, 0 or 1 |
//! | int64 | float64, the nearest one |
//! | float32 | float64 |

mod decimals;

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Float32Type, Float64Type, Int64Type,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, FixedSizeListArray, LargeListArray, ListArray, PrimitiveArray, make_array,
    new_null_array,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType as ArrowType, TimeUnit};

use crate::decimal::{self, Misfit};
use crate::{DataType, EpochUnit, Quoting, Reading, Timestamp, Zone};

pub use self::decimals::oversized_decimals;
use self::decimals::read_decimals;
pub(crate) use self::decimals::{decimal_texts, is_decimal};

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

/// A converted column, and the rows whose values do not fit the wanted type.
#[derive(Clone, Debug)]
pub struct Coerced {
    /// The column. It is null in the rows of `faults`.
    pub column: ArrayRef,
    /// The indexes of the rows whose values do not fit, in order, and what is wrong with them.
    pub faults: Vec<(usize, String)>,
}

impl Coerced {
    /// A column whose values all fit.
    fn whole(column: ArrayRef) -> Self {
        Self {
            column,
            faults: Vec::new(),
        }
    }

    /// A column that is made null in the rows of its faults.
    fn without(column: ArrayRef, faults: Vec<(usize, String)>) -> Self {
        if faults.is_empty() {
            return Self::whole(column);
        }
        let mut is_valid: Vec<bool> = (0..column.len()).map(|row| column.is_valid(row)).collect();
        for (row, _) in &faults {
            is_valid[*row] = false;
        }
        let nulls = Some(NullBuffer::from(is_valid));
        let data = column.to_data().into_builder().nulls(nulls).build();
        Self {
            column: make_array(data.expect("a column with fewer values stays valid")),
            faults,
        }
    }
}

/// Converts a column to the wanted type by the module's first table. A column that already has that
/// type is not copied. It is for columns that Wafer wrote: their times are in UTC, whether or not
/// they say so.
///
/// # Errors
/// Returns [`CoerceError`] when the type or a value does not fit.
pub fn coerce(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, CoerceError> {
    let Coerced { column, faults } = match (column.data_type(), wanted) {
        (ArrowType::Timestamp(unit, None), DataType::Timestamp) => {
            timestamps(column, *unit, &Reading::default())
        }
        _ => coerce_rows(column, wanted, &Reading::default())?,
    };
    match faults.into_iter().next() {
        None => Ok(column),
        Some((row, message)) => Err(CoerceError::Value { row, message }),
    }
}

/// Returns the type that columns of an Arrow type are read as where nothing else is declared: the
/// one that holds the values of the Arrow type. Returns `None` if there is none.
pub fn readable_as(arrow: &ArrowType) -> Option<DataType> {
    nearest_type(arrow, &|_| None).filter(|data_type| is_readable(arrow, data_type))
}

/// Returns the type that is nearest to an Arrow type, whether columns of it can be read so or not.
/// Nulls may be read as any type and are near to none; `decimal` says what decimals of a scale are.
pub fn nearest_type(
    arrow: &ArrowType,
    decimal: &impl Fn(i8) -> Option<DataType>,
) -> Option<DataType> {
    use ArrowType as A;
    Some(match arrow {
        A::Timestamp(..) => DataType::Timestamp,
        A::Date32 | A::Date64 => DataType::Date,
        A::Float16 => DataType::Float32,
        A::LargeUtf8 | A::Utf8View => DataType::Utf8,
        A::LargeBinary | A::BinaryView | A::FixedSizeBinary(_) => DataType::Binary,
        A::Decimal32(_, scale)
        | A::Decimal64(_, scale)
        | A::Decimal128(_, scale)
        | A::Decimal256(_, scale) => decimal(*scale)?,
        A::Dictionary(_, values) => nearest_type(values, decimal)?,
        A::FixedSizeList(item, n)
            if *n > 0 && nearest_type(item.data_type(), decimal) == Some(DataType::Float32) =>
        {
            DataType::Vector(u32::try_from(*n).ok()?)
        }
        A::List(item) | A::LargeList(item) | A::FixedSizeList(item, _) => {
            match nearest_type(item.data_type(), decimal)? {
                DataType::Int64 => DataType::ListInt64,
                DataType::Float32 | DataType::Float64 => DataType::ListFloat64,
                DataType::Utf8 => DataType::ListUtf8,
                _ => return None,
            }
        }
        integer if integer.is_integer() => DataType::Int64,
        other => Some(DataType::from_arrow(other)).filter(DataType::is_storable)?,
    })
}

/// Returns whether columns of an Arrow type may be read as a type. An empty column tells.
fn is_readable(arrow: &ArrowType, data_type: &DataType) -> bool {
    coerce(&arrow_array::new_empty_array(arrow), data_type).is_ok()
}

/// Converts a column to the wanted type by the module's first table, row by row: values that do not
/// fit are reported, and the others are converted. `reading` has what is declared of the column.
///
/// # Errors
/// Returns [`CoerceError::Type`] when the type does not fit.
pub fn coerce_rows(
    column: &ArrayRef,
    wanted: &DataType,
    reading: &Reading,
) -> Result<Coerced, CoerceError> {
    let target = wanted.to_arrow();
    let is_time = matches!(wanted, DataType::Timestamp | DataType::Date);
    // A column of times may have the wanted type and hold values that cannot be stored.
    if *column.data_type() == target && !is_time {
        return Ok(Coerced::whole(Arc::clone(column)));
    }
    let refuse = || CoerceError::Type {
        wanted: wanted.clone(),
        found: column.data_type().clone(),
    };
    match (column.data_type(), wanted) {
        (ArrowType::UInt64, DataType::Int64) => {
            let values = column.as_primitive::<UInt64Type>();
            let read = |value: u64| {
                i64::try_from(value).map_err(|_| misfit(value, wanted, Misfit::TooLarge))
            };
            Ok(values_of::<UInt64Type, Int64Type>(values, &target, read))
        }
        (ArrowType::Null, _) => Ok(Coerced::whole(new_null_array(&target, column.len()))),
        (ArrowType::Timestamp(unit, Some(_)), DataType::Timestamp) => {
            Ok(timestamps(column, *unit, reading))
        }
        (ArrowType::Timestamp(unit, None), DataType::Timestamp) => {
            let zone = reading.zone.ok_or_else(refuse)?;
            Ok(local_timestamps(column, *unit, zone, reading))
        }
        (ArrowType::Date32 | ArrowType::Date64, DataType::Timestamp) => {
            let zone = reading.zone.ok_or_else(refuse)?;
            Ok(midnights(column, zone))
        }
        (ArrowType::Date32, DataType::Date) => {
            let days = column.as_primitive::<Date32Type>();
            let read = |days: i32| EpochUnit::Days.date(days.into());
            Ok(values_of::<Date32Type, Date32Type>(days, &target, read))
        }
        (ArrowType::Date64, DataType::Date) => {
            let millis = column.as_primitive::<Date64Type>();
            let read = |millis| EpochUnit::Milliseconds.date(millis);
            Ok(values_of::<Date64Type, Date32Type>(millis, &target, read))
        }
        (found, DataType::Timestamp | DataType::Date)
            if is_number(found) && reading.reads_integers() =>
        {
            counted(column, wanted, reading)
        }
        (
            ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View,
            DataType::Timestamp | DataType::Date,
        ) if reading.reads_texts() => texts_as_times(column, wanted, reading),
        (found, _) if is_decimal(found) => {
            read_decimals(column, wanted, reading).ok_or_else(refuse)
        }
        (found, DataType::Int64) if found.is_floating() => {
            let floats = convert(column, &ArrowType::Float64);
            let floats = floats.as_primitive::<Float64Type>();
            let read = |value| decimal::int64_of_float(value).map_err(|e| misfit(value, wanted, e));
            Ok(values_of::<Float64Type, Int64Type>(floats, &target, read))
        }
        (ArrowType::UInt64, DataType::Float64) => {
            let read = |value: u64| decimal::float(&value.to_string());
            Ok(floats_of::<UInt64Type, Float64Type>(column, wanted, read))
        }
        (ArrowType::UInt64, DataType::Float32) => {
            let read = |value: u64| decimal::float(&value.to_string());
            Ok(floats_of::<UInt64Type, Float32Type>(column, wanted, read))
        }
        (ArrowType::Int64, DataType::Float64) => {
            let read = decimal::float_of_integer;
            Ok(floats_of::<Int64Type, Float64Type>(column, wanted, read))
        }
        (ArrowType::Int32 | ArrowType::UInt32 | ArrowType::Int64, DataType::Float32) => {
            let integers = convert(column, &ArrowType::Int64);
            let read = decimal::float_of_integer;
            Ok(floats_of::<Int64Type, Float32Type>(&integers, wanted, read))
        }
        (ArrowType::Dictionary(_, values), _) if !values.is_nested() => {
            let plain = convert(column, values);
            coerce_rows(&plain, wanted, reading).map_err(|_| refuse())
        }
        (
            ArrowType::List(_) | ArrowType::LargeList(_) | ArrowType::FixedSizeList(..),
            DataType::Vector(n),
        ) => vectors(column, *n, refuse),
        (
            ArrowType::List(_) | ArrowType::LargeList(_) | ArrowType::FixedSizeList(..),
            DataType::ListInt64 | DataType::ListFloat64 | DataType::ListUtf8,
        ) => lists(column, wanted, refuse),
        (found, wanted) if is_widening(found, wanted) => {
            Ok(Coerced::whole(convert(column, &target)))
        }
        _ => Err(refuse()),
    }
}

fn is_number(found: &ArrowType) -> bool {
    found.is_integer() || found.is_floating()
}

fn misfit(value: impl std::fmt::Display, wanted: &DataType, misfit: Misfit) -> String {
    format!("{value} is not {wanted}{misfit}")
}

/// Reads integers as floats.
fn floats_of<I: ArrowPrimitiveType, F: ArrowPrimitiveType>(
    column: &ArrayRef,
    wanted: &DataType,
    read: impl Fn(I::Native) -> Result<F::Native, Misfit>,
) -> Coerced
where
    I::Native: std::fmt::Display,
{
    let read = |value: I::Native| read(value).map_err(|e| misfit(value, wanted, e));
    values_of::<I, F>(column.as_primitive::<I>(), &wanted.to_arrow(), read)
}

/// Reads integers, or floats that are integers, as times, as it is declared.
fn counted(
    column: &ArrayRef,
    wanted: &DataType,
    reading: &Reading,
) -> Result<Coerced, CoerceError> {
    let integers = coerce_rows(column, &DataType::Int64, &Reading::default())?;
    let values = integers.column.as_primitive::<Int64Type>();
    let target = wanted.to_arrow();
    let times = match wanted {
        DataType::Date => {
            values_of::<Int64Type, Date32Type>(values, &target, |value| reading.integer_date(value))
        }
        _ => {
            let read = |value| reading.integer_timestamp(value).map(Timestamp::as_micros);
            values_of::<Int64Type, TimestampMicrosecondType>(values, &target, read)
        }
    };
    // A row has only one of these faults, since the integer of the one is null in the other.
    let mut faults = integers.faults;
    faults.extend(times.faults);
    faults.sort_by_key(|(row, _)| *row);
    Ok(Coerced {
        column: times.column,
        faults,
    })
}

/// Reads texts as times, as it is declared.
fn texts_as_times(
    column: &ArrayRef,
    wanted: &DataType,
    reading: &Reading,
) -> Result<Coerced, CoerceError> {
    let texts = coerce_rows(column, &DataType::Utf8, &Reading::default())?.column;
    let mut builder = crate::ColumnBuilder::new(wanted, texts.len()).with_reading(reading.clone());
    let mut faults = Vec::new();
    for (row, text) in texts.as_string::<i32>().iter().enumerate() {
        // An empty text is neither a time nor a null: a typed column has nulls of its own.
        let Some(text) = text else {
            builder.append_null();
            continue;
        };
        let appended = match (text, wanted) {
            ("", DataType::Date) => reading.text_date(text).map(|_| ()),
            ("", _) => reading.text_timestamp(text).map(|_| ()),
            _ => builder.append_text(text, Quoting::Quoted),
        };
        if let Err(message) = appended {
            builder.append_null();
            faults.push((row, message));
        }
    }
    Ok(Coerced {
        column: builder.finish(),
        faults,
    })
}

/// Converts the values of a column one by one to those of the type `target`.
fn values_of<F: ArrowPrimitiveType, T: ArrowPrimitiveType>(
    column: &PrimitiveArray<F>,
    target: &ArrowType,
    read: impl Fn(F::Native) -> Result<T::Native, String>,
) -> Coerced {
    let mut faults = Vec::new();
    let value = |(row, value): (usize, &F::Native)| {
        if column.is_null(row) {
            return T::Native::default();
        }
        read(*value).unwrap_or_else(|message| {
            faults.push((row, message));
            T::Native::default()
        })
    };
    let values: Vec<T::Native> = column.values().iter().enumerate().map(value).collect();
    let converted = PrimitiveArray::<T>::new(values.into(), column.nulls().cloned());
    Coerced::without(Arc::new(converted.with_data_type(target.clone())), faults)
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
        DataType::Float32 => matches!(
            found,
            A::Int8 | A::Int16 | A::UInt8 | A::UInt16 | A::Float16
        ),
        DataType::Utf8 => matches!(found, A::LargeUtf8 | A::Utf8View),
        DataType::Binary => {
            matches!(
                found,
                A::LargeBinary | A::BinaryView | A::FixedSizeBinary(_)
            )
        }
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

/// Reads a column of points in time.
fn timestamps(column: &ArrayRef, unit: TimeUnit, reading: &Reading) -> Coerced {
    if unit == TimeUnit::Microsecond {
        let values = column.as_primitive::<TimestampMicrosecondType>();
        // Stored columns come here most often, and are not copied.
        let is_storable = |value: &i64| Timestamp::from_micros(*value).is_storable();
        if values.values().iter().all(is_storable) {
            let target = DataType::Timestamp.to_arrow();
            return Coerced::whole(Arc::new(values.clone().with_data_type(target)));
        }
    }
    let unit = epoch_unit(unit);
    times_of(column, |value| reading.counted(unit, value))
}

/// Reads a column of times without a time zone as those of a zone.
fn local_timestamps(column: &ArrayRef, unit: TimeUnit, zone: Zone, reading: &Reading) -> Coerced {
    if zone.is_utc() {
        return timestamps(column, unit, reading);
    }
    let unit = epoch_unit(unit);
    times_of(column, |value| {
        let time = zone.instant_of(reading.counted(unit, value)?)?;
        match time.is_storable() {
            true => Ok(time),
            false => Err(format!("{time} is outside of the years 1 to 9999")),
        }
    })
}

/// Reads a column of dates as the midnights of a zone.
fn midnights(column: &ArrayRef, zone: Zone) -> Coerced {
    type Micros = TimestampMicrosecondType;
    let target = DataType::Timestamp.to_arrow();
    let micros = |days| zone.midnight(days).map(Timestamp::as_micros);
    match column.data_type() {
        ArrowType::Date32 => {
            let days = column.as_primitive::<Date32Type>();
            values_of::<_, Micros>(days, &target, |days| micros(days.into()))
        }
        _ => {
            let millis = column.as_primitive::<Date64Type>();
            values_of::<_, Micros>(millis, &target, |millis| {
                micros(EpochUnit::Milliseconds.date(millis)?.into())
            })
        }
    }
}

fn epoch_unit(unit: TimeUnit) -> EpochUnit {
    match unit {
        TimeUnit::Second => EpochUnit::Seconds,
        TimeUnit::Millisecond => EpochUnit::Milliseconds,
        TimeUnit::Microsecond => EpochUnit::Microseconds,
        TimeUnit::Nanosecond => EpochUnit::Nanoseconds,
    }
}

/// Reads the values of a column of timestamps of any unit one by one.
fn times_of(column: &ArrayRef, read: impl Fn(i64) -> Result<Timestamp, String>) -> Coerced {
    type Micros = TimestampMicrosecondType;
    let target = DataType::Timestamp.to_arrow();
    let micros = |value| read(value).map(Timestamp::as_micros);
    match column.data_type() {
        ArrowType::Timestamp(TimeUnit::Second, _) => values_of::<_, Micros>(
            column.as_primitive::<TimestampSecondType>(),
            &target,
            micros,
        ),
        ArrowType::Timestamp(TimeUnit::Millisecond, _) => {
            let values = column.as_primitive::<TimestampMillisecondType>();
            values_of::<_, Micros>(values, &target, micros)
        }
        ArrowType::Timestamp(TimeUnit::Microsecond, _) => {
            values_of::<_, Micros>(column.as_primitive::<Micros>(), &target, micros)
        }
        _ => {
            let values = column.as_primitive::<TimestampNanosecondType>();
            values_of::<_, Micros>(values, &target, micros)
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

/// The items of lists, and the lists with an item that does not fit.
struct Items {
    items: ArrayRef,
    faults: Vec<(usize, String)>,
}

/// The items of all lists as the wanted type. A list that is not null has no null items.
fn list_items(
    lists: &ListArray,
    wanted: &DataType,
    refuse: impl Fn() -> CoerceError,
) -> Result<Items, CoerceError> {
    let read = coerce_rows(lists.values(), wanted, &Reading::default()).map_err(|_| refuse())?;
    let items = read.column;
    if items.null_count() == 0 {
        return Ok(Items {
            items,
            faults: Vec::new(),
        });
    }
    let mut faults = Vec::new();
    for row in (0..lists.len()).filter(|row| !lists.is_null(*row)) {
        let mut range = lists.offsets()[row] as usize..lists.offsets()[row + 1] as usize;
        let Some(item) = range.find(|item| items.is_null(*item)) else {
            continue;
        };
        let known = read.faults.binary_search_by_key(&item, |(item, _)| *item);
        faults.push(match known {
            Ok(fault) => (row, format!("an item of a list: {}", read.faults[fault].1)),
            Err(_) => (row, "a list holds a null".to_owned()),
        });
    }
    // Only null rows, and rows that become null, have null items. So the bit map of the items can
    // go.
    let data = items.to_data().into_builder().nulls(None).build();
    Ok(Items {
        items: make_array(data.expect("a column without its bit map stays valid")),
        faults,
    })
}

fn lists(
    column: &ArrayRef,
    wanted: &DataType,
    refuse: impl Fn() -> CoerceError,
) -> Result<Coerced, CoerceError> {
    let item = match wanted {
        DataType::ListInt64 => DataType::Int64,
        DataType::ListFloat64 => DataType::Float64,
        _ => DataType::Utf8,
    };
    let plain = plain_lists(column).ok_or_else(&refuse)?;
    let Items { items, faults } = list_items(&plain, &item, refuse)?;
    let ArrowType::List(field) = wanted.to_arrow() else {
        unreachable!("a list type")
    };
    let lists = ListArray::new(
        field,
        plain.offsets().clone(),
        items,
        plain.nulls().cloned(),
    );
    Ok(Coerced::without(Arc::new(lists), faults))
}

fn vectors(
    column: &ArrayRef,
    n: u32,
    refuse: impl Fn() -> CoerceError,
) -> Result<Coerced, CoerceError> {
    let plain = plain_lists(column).ok_or_else(&refuse)?;
    let Items { items, mut faults } = list_items(&plain, &DataType::Float32, refuse)?;
    let n = n as usize;
    let mut builder = crate::ColumnBuilder::new(&DataType::Vector(n as u32), plain.len());
    let values = items.as_primitive::<Float32Type>();
    for row in 0..plain.len() {
        let start = plain.offsets()[row] as usize;
        let length = plain.offsets()[row + 1] as usize - start;
        if plain.is_valid(row) && length == n {
            let crate::column::Inner::Vector(b) = builder.inner() else {
                unreachable!("built above")
            };
            b.values().append_slice(&values.values()[start..start + n]);
            b.append(true);
            continue;
        }
        builder.append_null();
        if plain.is_valid(row) {
            let message = format!("a list of {length} numbers is not vector({n})");
            faults.push((row, message));
        }
    }
    // A list may have both a null and another length; its first fault is reported.
    faults.sort_by_key(|(row, _)| *row);
    faults.dedup_by_key(|(row, _)| *row);
    Ok(Coerced::without(builder.finish(), faults))
}

#[cfg(test)]
mod tests;
