//! Columns of Arrow's other types, as columns that text formats can write.
//!
//! Labels may have columns of any Arrow type, and a training set passes them through. Parquet and
//! Arrow hold them as they are. CSV and NDJSON write what has one exact text: numbers, texts, byte
//! strings as hexadecimal digits, decimals with all their digits, dates, times of day, timestamps
//! with the digits of their unit (and `Z` if they have a time zone), and lists of these. Structs,
//! maps, unions, durations and intervals have no such text.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow_array::{Array as _, ArrayRef, ListArray, StringArray, new_null_array};
use arrow_buffer::OffsetBuffer;
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType as ArrowType, Field as ArrowField, TimeUnit};
use chrono::{DateTime, NaiveDate, NaiveTime, SecondsFormat, TimeDelta};

use crate::coerce::{decimal_texts, is_decimal, oversized_decimals};

/// Returns the type that [`plain_column`] converts columns of a type to, which
/// [`cell_to_json`](crate::cell_to_json) writes exactly, or `None` if there is none.
pub fn plain_type(found: &ArrowType) -> Option<ArrowType> {
    use ArrowType as A;
    Some(match found {
        A::Boolean | A::Int64 | A::UInt64 | A::Float32 | A::Float64 | A::Utf8 | A::Binary => {
            found.clone()
        }
        A::Timestamp(TimeUnit::Microsecond, Some(_)) => found.clone(),
        A::Int8 | A::Int16 | A::Int32 | A::UInt8 | A::UInt16 | A::UInt32 => A::Int64,
        A::Float16 => A::Float32,
        A::LargeUtf8 | A::Utf8View => A::Utf8,
        A::LargeBinary | A::BinaryView | A::FixedSizeBinary(_) => A::Binary,
        A::Null
        | A::Timestamp(..)
        | A::Date32
        | A::Date64
        | A::Time32(_)
        | A::Time64(_)
        | A::Decimal32(..)
        | A::Decimal64(..)
        | A::Decimal128(..)
        | A::Decimal256(..) => A::Utf8,
        A::Dictionary(_, values) if !values.is_nested() => plain_type(values)?,
        A::List(item) | A::LargeList(item) | A::FixedSizeList(item, _) => {
            let item_type = plain_type(item.data_type())?;
            match found {
                A::List(_) | A::FixedSizeList(..) if item_type == *item.data_type() => {
                    found.clone()
                }
                _ => A::List(Arc::new(ArrowField::new("element", item_type, true))),
            }
        }
        _ => return None,
    })
}

/// The error for a value that has no exact text, or for a column whose values have none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainError {
    /// The index of the row in the column; `None` if the column as a whole is wrong.
    pub row: Option<usize>,
    /// What is wrong with the value or the column.
    pub message: String,
}

impl std::fmt::Display for PlainError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(row) = self.row {
            write!(f, "row {row}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for PlainError {}

impl PlainError {
    fn of_row(row: usize, message: String) -> Self {
        let row = Some(row);
        Self { row, message }
    }

    fn of_column(message: String) -> Self {
        Self { row: None, message }
    }
}

/// Converts a column to its [`plain_type`]. A column that has it already is not copied.
///
/// # Errors
/// Returns a [`PlainError`] for a date or time that is out of the range that texts have, for a
/// decimal with more digits than its type declares, and for a column whose type has no plain type.
pub fn plain_column(column: &ArrayRef) -> Result<ArrayRef, PlainError> {
    use ArrowType as A;
    let found = column.data_type();
    let none = || PlainError::of_column(format!("values of type {found} have no text"));
    let plain = plain_type(found).ok_or_else(none)?;
    if plain == *found {
        return Ok(Arc::clone(column));
    }
    if let Some((row, message)) = oversized_decimals(column).into_iter().next() {
        return Err(PlainError::of_row(row, message));
    }
    match found {
        A::Null => Ok(new_null_array(&plain, column.len())),
        A::Date32 => texts::<Date32Type>(column, |days| date(i64::from(days))),
        A::Date64 => texts::<Date64Type>(column, |millis| {
            let days = millis / 86_400_000;
            (millis % 86_400_000 == 0).then(|| date(days)).flatten()
        }),
        A::Time32(TimeUnit::Second) => {
            texts::<Time32SecondType>(column, |count| time(count.into(), 1))
        }
        A::Time32(_) => texts::<Time32MillisecondType>(column, |count| time(count.into(), 1_000)),
        A::Time64(TimeUnit::Microsecond) => {
            texts::<Time64MicrosecondType>(column, |count| time(count, 1_000_000))
        }
        A::Time64(_) => texts::<Time64NanosecondType>(column, |count| time(count, 1_000_000_000)),
        A::Timestamp(unit, zone) => timestamps(column, *unit, zone.is_some()),
        A::Dictionary(_, values) => plain_column(&convert(column, values)?),
        A::List(_) | A::LargeList(_) | A::FixedSizeList(..) => lists(column, &plain),
        found if is_decimal(found) => Ok(decimal_texts(column)),
        _ => convert(column, &plain),
    }
}

fn convert(column: &ArrayRef, target: &ArrowType) -> Result<ArrayRef, PlainError> {
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(column, target, &options).map_err(|error| {
        let message = format!("values of type {}: {error}", column.data_type());
        PlainError::of_column(message)
    })
}

/// Converts the values of a column to texts; `text` returns `None` for a value that has none.
fn texts<T: ArrowPrimitiveType>(
    column: &ArrayRef,
    text: impl Fn(T::Native) -> Option<String>,
) -> Result<ArrayRef, PlainError> {
    let values = column.as_primitive::<T>();
    let cell = |(row, value): (usize, Option<T::Native>)| -> Result<Option<String>, PlainError> {
        let Some(value) = value else {
            return Ok(None);
        };
        let wrong = || {
            let message = format!("{value:?} of type {} has no text", column.data_type());
            PlainError::of_row(row, message)
        };
        Ok(Some(text(value).ok_or_else(wrong)?))
    };
    let cells = values.iter().enumerate().map(cell);
    Ok(Arc::new(
        cells.collect::<Result<StringArray, PlainError>>()?,
    ))
}

fn timestamps(column: &ArrayRef, unit: TimeUnit, has_zone: bool) -> Result<ArrayRef, PlainError> {
    let text = |per_second: i64| move |count| timestamp(count, per_second, has_zone);
    match unit {
        TimeUnit::Second => texts::<TimestampSecondType>(column, text(1)),
        TimeUnit::Millisecond => texts::<TimestampMillisecondType>(column, text(1_000)),
        TimeUnit::Microsecond => texts::<TimestampMicrosecondType>(column, text(1_000_000)),
        TimeUnit::Nanosecond => texts::<TimestampNanosecondType>(column, text(1_000_000_000)),
    }
}

/// Splits a count of parts of a second into seconds and nanoseconds.
fn split(count: i64, per_second: i64) -> (i64, u32) {
    let nanos = count.rem_euclid(per_second) * (1_000_000_000 / per_second);
    // Less than a second.
    (count.div_euclid(per_second), nanos as u32)
}

fn timestamp(count: i64, per_second: i64, has_zone: bool) -> Option<String> {
    let (seconds, nanos) = split(count, per_second);
    let time = DateTime::from_timestamp(seconds, nanos)?;
    Some(match has_zone {
        true => time.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        // A time without a zone does not get one by being written.
        false => time.naive_utc().format("%Y-%m-%dT%H:%M:%S%.f").to_string(),
    })
}

fn time(count: i64, per_second: i64) -> Option<String> {
    let (seconds, nanos) = split(count, per_second);
    let time = NaiveTime::from_num_seconds_from_midnight_opt(seconds.try_into().ok()?, nanos)?;
    Some(time.format("%H:%M:%S%.f").to_string())
}

fn date(days: i64) -> Option<String> {
    let date = NaiveDate::default().checked_add_signed(TimeDelta::try_days(days)?)?;
    Some(date.to_string())
}

/// Converts lists, whose items are converted like columns.
fn lists(column: &ArrayRef, plain: &ArrowType) -> Result<ArrayRef, PlainError> {
    let (offsets, items): (Vec<usize>, ArrayRef) = match column.data_type() {
        ArrowType::List(_) => {
            let lists = column.as_list::<i32>();
            let offsets = lists.offsets().iter().map(|offset| *offset as usize);
            (offsets.collect(), Arc::clone(lists.values()))
        }
        ArrowType::LargeList(_) => {
            let lists = column.as_list::<i64>();
            let offsets = lists.offsets().iter().map(|offset| *offset as usize);
            (offsets.collect(), Arc::clone(lists.values()))
        }
        _ => {
            let lists = column.as_fixed_size_list();
            let length = lists.value_length() as usize;
            let offsets = (0..=lists.len()).map(|row| row * length);
            (offsets.collect(), Arc::clone(lists.values()))
        }
    };
    let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else {
        return Ok(new_null_array(plain, 0));
    };
    // A slice of a column has the items of the whole column.
    let items = plain_column(&items.slice(*first, last - first)).map_err(|error| PlainError {
        row: error
            .row
            .map(|item| offsets.partition_point(|offset| *offset <= first + item) - 1),
        ..error
    })?;
    let too_long = || PlainError::of_column("the lists have too many items".to_owned());
    let offset = |offset: &usize| i32::try_from(offset - first).map_err(|_| too_long());
    let offsets: Vec<i32> = offsets.iter().map(offset).collect::<Result<_, _>>()?;
    let item = Arc::new(ArrowField::new("element", items.data_type().clone(), true));
    let offsets = OffsetBuffer::new(offsets.into());
    Ok(Arc::new(ListArray::new(
        item,
        offsets,
        items,
        column.nulls().cloned(),
    )))
}

#[cfg(test)]
mod tests {
    use arrow_array::builder::{Int16Builder, LargeListBuilder, ListBuilder, StringBuilder};
    use arrow_array::types::Int32Type;
    use arrow_array::{
        BinaryArray, BinaryViewArray, BooleanArray, Date32Array, Date64Array, Decimal128Array,
        Decimal256Array, DictionaryArray, DurationSecondArray, FixedSizeBinaryArray,
        FixedSizeListArray, Float32Array, Int8Array, Int64Array, LargeStringArray, NullArray,
        StringViewArray, StructArray, Time32SecondArray, Time64MicrosecondArray,
        Time64NanosecondArray, TimestampMicrosecondArray, TimestampMillisecondArray,
        TimestampNanosecondArray, UInt64Array,
    };
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::cell_to_json;

    fn check(column: impl arrow_array::Array + 'static, wanted: Json) {
        let column: ArrayRef = Arc::new(column);
        let plain = plain_column(&column).unwrap();
        assert_eq!(
            Some(plain.data_type().clone()),
            plain_type(column.data_type())
        );
        let cells: Json = (0..plain.len())
            .map(|row| cell_to_json(&plain, row))
            .collect();
        assert_eq!(cells, wanted, "{}", column.data_type());
        // A slice is converted alike.
        if column.len() > 1 {
            let plain = plain_column(&column.slice(1, 1)).unwrap();
            assert_eq!(cell_to_json(&plain, 0), wanted[1], "{}", column.data_type());
        }
    }

    #[test]
    fn values_of_every_type_with_a_text_are_written_exactly() {
        check(NullArray::new(2), json!([null, null]));
        check(
            BooleanArray::from(vec![Some(true), None]),
            json!([true, null]),
        );
        check(Int8Array::from(vec![Some(-1), None]), json!([-1, null]));
        check(
            UInt64Array::from(vec![Some(u64::MAX), None]),
            json!([u64::MAX, null]),
        );
        check(Float32Array::from(vec![0.1]), json!([0.1]));
        check(
            LargeStringArray::from(vec![Some(""), None]),
            json!(["", null]),
        );
        check(StringViewArray::from(vec!["x", "y"]), json!(["x", "y"]));
        check(
            BinaryArray::from(vec![&b"\x00\xff"[..], b""]),
            json!(["00ff", ""]),
        );
        check(BinaryViewArray::from(vec![&b"\x01"[..]]), json!(["01"]));
        let fixed = FixedSizeBinaryArray::try_from_iter([b"ab", b"cd"].into_iter()).unwrap();
        check(fixed, json!(["6162", "6364"]));
        let words: DictionaryArray<Int32Type> =
            vec![Some("b"), None, Some("b")].into_iter().collect();
        check(words, json!(["b", null, "b"]));
        let keys = arrow_array::Int32Array::from(vec![Some(0), None]);
        let numbers = DictionaryArray::new(keys, Arc::new(Int64Array::from(vec![5])) as ArrayRef);
        check(numbers, json!([5, null]));
        let decimals = Decimal128Array::from(vec![Some(110), None, Some(-333)]);
        let decimals = decimals.with_precision_and_scale(10, 2).unwrap();
        check(decimals, json!(["1.10", null, "-3.33"]));
        let hundreds = Decimal128Array::from(vec![Some(0), Some(-7), None, Some(120)]);
        let hundreds = hundreds.with_precision_and_scale(4, -2).unwrap();
        check(hundreds, json!(["0", "-700", null, "12000"]));
        let wide = Decimal256Array::from(vec![Some(arrow_buffer::i256::from_i128(i128::MAX))]);
        let wide = wide.with_precision_and_scale(76, 0).unwrap();
        check(wide, json!([i128::MAX.to_string()]));
    }

    #[test]
    fn times_are_written_with_the_digits_of_their_unit_and_no_other_zone() {
        check(
            Date32Array::from(vec![19_723, 2_932_897]),
            json!(["2024-01-01", "+10000-01-01"]),
        );
        check(Date64Array::from(vec![86_400_000]), json!(["1970-01-02"]));
        check(Time32SecondArray::from(vec![3_723]), json!(["01:02:03"]));
        check(
            Time64MicrosecondArray::from(vec![1]),
            json!(["00:00:00.000001"]),
        );
        check(
            Time64NanosecondArray::from(vec![1]),
            json!(["00:00:00.000000001"]),
        );
        let nanos = 1_704_067_200_000_000_001;
        check(
            TimestampNanosecondArray::from(vec![Some(nanos), None]),
            json!(["2024-01-01T00:00:00.000000001", null]),
        );
        check(
            TimestampNanosecondArray::from(vec![nanos, -1]).with_timezone("Europe/Oslo"),
            json!([
                "2024-01-01T00:00:00.000000001Z",
                "1969-12-31T23:59:59.999999999Z"
            ]),
        );
        check(
            TimestampMillisecondArray::from(vec![1]),
            json!(["1970-01-01T00:00:00.001"]),
        );
        check(
            TimestampMicrosecondArray::from(vec![1_000_000]),
            json!(["1970-01-01T00:00:01"]),
        );
        check(
            TimestampMicrosecondArray::from(vec![1_000_000]).with_timezone("UTC"),
            json!(["1970-01-01T00:00:01Z"]),
        );
    }

    #[test]
    fn lists_are_written_item_by_item() {
        let mut large = LargeListBuilder::new(Int16Builder::new());
        large.append_value([Some(1), None]);
        large.append_value([Some(2)]);
        large.append_null();
        check(large.finish(), json!([[1, null], [2], null]));
        let mut texts = ListBuilder::new(StringBuilder::new());
        texts.append_value([Some("a")]);
        texts.append_value([Some(""), None]);
        check(texts.finish(), json!([["a"], ["", null]]));
        let dates = Arc::new(Date32Array::from(vec![0, 1, 2, 3]));
        let item = Arc::new(ArrowField::new("item", ArrowType::Date32, true));
        check(
            FixedSizeListArray::new(item, 2, dates, None),
            json!([["1970-01-01", "1970-01-02"], ["1970-01-03", "1970-01-04"]]),
        );
    }

    #[test]
    fn values_without_an_exact_text_are_errors() {
        let error = |column: ArrayRef| plain_column(&column).unwrap_err();
        let found = error(Arc::new(Date32Array::from(vec![0, i32::MAX])));
        assert_eq!(
            found.to_string(),
            "row 1: 2147483647 of type Date32 has no text"
        );
        let found = error(Arc::new(Date64Array::from(vec![86_400_001])));
        assert!(found.message.contains("86400001"), "{found}");
        let found = error(Arc::new(Time32SecondArray::from(vec![0, 1, 86_400])));
        assert_eq!(found.row, Some(2));
        let found = error(Arc::new(TimestampMillisecondArray::from(vec![i64::MAX])));
        assert!(found.message.contains("9223372036854775807"), "{found}");
        let decimals = Decimal128Array::from(vec![9_999, 10_000]);
        let decimals = decimals.with_precision_and_scale(4, 2).unwrap();
        let found = error(Arc::new(decimals));
        assert!(
            found
                .to_string()
                .starts_with("row 1: 100.00 has more digits"),
            "{found}"
        );
        let dates = Arc::new(Date32Array::from(vec![0, 1, 2, i32::MAX]));
        let item = Arc::new(ArrowField::new("item", ArrowType::Date32, true));
        assert_eq!(
            error(Arc::new(FixedSizeListArray::new(item, 2, dates, None))).row,
            Some(1)
        );
        assert!(
            error(Arc::new(DurationSecondArray::from(vec![1])))
                .message
                .contains("Duration")
        );
        let fields = StructArray::from(vec![(
            Arc::new(ArrowField::new("x", ArrowType::Int64, true)),
            Arc::new(Int64Array::from(vec![1])) as ArrayRef,
        )]);
        // The column is wrong as a whole, and no row of it.
        let found = error(Arc::new(fields));
        assert_eq!(found.row, None);
        assert!(
            found.to_string().starts_with("values of type Struct"),
            "{found}"
        );
    }
}
