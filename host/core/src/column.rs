//! Builds columns from single values, which come from JSON, text, packed rows or aggregates.

use std::borrow::Cow;
use std::fmt::{self, Display, Write as _};
use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, FixedSizeListBuilder, Float32Builder, Float64Builder,
    Int64Builder, ListBuilder, PrimitiveBuilder, StringBuilder,
};
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Date32Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, StringArray};
use arrow_schema::DataType as ArrowType;
use serde_json::Value as Json;
use serde_json::value::RawValue;

use crate::aggregate::{AggregateValue, Cell, CellRef};
use crate::decimal::{self, Misfit};
use crate::epoch::no_unit;
use crate::{DataType, Reading, Timestamp};

/// The most numbers of vectors that a new column has room for. More room is made as vectors come.
const VECTOR_ROOM: usize = 1 << 16;

/// Whether a text was in quotes, which tells an empty value from a null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quoting {
    /// The text was in quotes, or is certainly a value.
    Quoted,
    /// The text was not in quotes.
    Unquoted,
}

/// Builds one column of a storable type.
#[derive(Debug)]
pub struct ColumnBuilder {
    data_type: DataType,
    /// How values are read that do not say by themselves what they are.
    reading: Reading,
    inner: Inner,
}

#[derive(Debug)]
pub(crate) enum Inner {
    Boolean(BooleanBuilder),
    Int64(Int64Builder),
    Float64(Float64Builder),
    Float32(Float32Builder),
    Utf8(StringBuilder),
    Binary(BinaryBuilder),
    Timestamp(PrimitiveBuilder<TimestampMicrosecondType>),
    Date(PrimitiveBuilder<Date32Type>),
    Vector(FixedSizeListBuilder<Float32Builder>),
    ListInt64(ListBuilder<Int64Builder>),
    ListFloat64(ListBuilder<Float64Builder>),
    ListUtf8(ListBuilder<StringBuilder>),
}

impl ColumnBuilder {
    /// Creates an empty column with room for `capacity` rows.
    ///
    /// # Panics
    /// Panics when the type [cannot be stored](DataType::is_storable). Callers check this when a
    /// definition is applied.
    pub fn new(data_type: &DataType, capacity: usize) -> Self {
        let item = |arrow: &ArrowType| match arrow {
            ArrowType::List(item) | ArrowType::FixedSizeList(item, _) => Arc::clone(item),
            other => unreachable!("{other} is not a list"),
        };
        let arrow = data_type.to_arrow();
        let inner = match data_type {
            DataType::Boolean => Inner::Boolean(BooleanBuilder::with_capacity(capacity)),
            DataType::Int64 => Inner::Int64(Int64Builder::with_capacity(capacity)),
            DataType::Float64 => Inner::Float64(Float64Builder::with_capacity(capacity)),
            DataType::Float32 => Inner::Float32(Float32Builder::with_capacity(capacity)),
            DataType::Utf8 => Inner::Utf8(StringBuilder::with_capacity(capacity, capacity * 8)),
            DataType::Binary => Inner::Binary(BinaryBuilder::with_capacity(capacity, capacity * 8)),
            DataType::Timestamp => {
                Inner::Timestamp(PrimitiveBuilder::with_capacity(capacity).with_data_type(arrow))
            }
            DataType::Date => Inner::Date(PrimitiveBuilder::with_capacity(capacity)),
            DataType::Vector(n) => Inner::Vector(
                FixedSizeListBuilder::with_capacity(
                    Float32Builder::with_capacity(VECTOR_ROOM.min(capacity * *n as usize)),
                    i32::try_from(*n).expect("a vector's dimension fits 31 bits"),
                    capacity,
                )
                .with_field(item(&arrow)),
            ),
            DataType::ListInt64 => {
                Inner::ListInt64(ListBuilder::new(Int64Builder::new()).with_field(item(&arrow)))
            }
            DataType::ListFloat64 => {
                Inner::ListFloat64(ListBuilder::new(Float64Builder::new()).with_field(item(&arrow)))
            }
            DataType::ListUtf8 => {
                Inner::ListUtf8(ListBuilder::new(StringBuilder::new()).with_field(item(&arrow)))
            }
            DataType::Arrow(arrow) => unreachable!("{arrow} is not storable"),
        };
        Self {
            data_type: data_type.clone(),
            reading: Reading::default(),
            inner,
        }
    }

    /// Reads values as a source declares them. Without a declaration, integers and texts without a
    /// time zone are not read as times.
    #[must_use]
    pub fn with_reading(self, reading: Reading) -> Self {
        Self { reading, ..self }
    }

    pub(crate) fn inner(&mut self) -> &mut Inner {
        &mut self.inner
    }

    /// Returns the size of the values so far, in bytes: eight for each row, beside the bytes of
    /// texts and the items of lists and vectors.
    pub fn bytes(&self) -> u64 {
        use arrow_array::builder::ArrayBuilder as _;
        let (rows, items) = match &self.inner {
            Inner::Boolean(b) => (b.len(), 0),
            Inner::Int64(b) => (b.len(), 0),
            Inner::Float64(b) => (b.len(), 0),
            Inner::Float32(b) => (b.len(), 0),
            Inner::Timestamp(b) => (b.len(), 0),
            Inner::Date(b) => (b.len(), 0),
            Inner::Utf8(b) => (b.len(), b.values_slice().len()),
            Inner::Binary(b) => (b.len(), b.values_slice().len()),
            Inner::Vector(b) => (b.len(), 4 * b.len() * b.value_length() as usize),
            Inner::ListInt64(b) => (b.len(), 8 * b.values_ref().len()),
            Inner::ListFloat64(b) => (b.len(), 8 * b.values_ref().len()),
            Inner::ListUtf8(b) => {
                let texts = b.values_ref();
                (b.len(), 8 * texts.len() + texts.values_slice().len())
            }
        };
        8 * rows as u64 + items as u64
    }

    /// Appends a null, whether or not the column's field is nullable.
    pub fn append_null(&mut self) {
        match &mut self.inner {
            Inner::Boolean(b) => b.append_null(),
            Inner::Int64(b) => b.append_null(),
            Inner::Float64(b) => b.append_null(),
            Inner::Float32(b) => b.append_null(),
            Inner::Utf8(b) => b.append_null(),
            Inner::Binary(b) => b.append_null(),
            Inner::Timestamp(b) => b.append_null(),
            Inner::Date(b) => b.append_null(),
            Inner::Vector(b) => {
                for _ in 0..b.value_length() {
                    b.values().append_value(0.0);
                }
                b.append(false);
            }
            Inner::ListInt64(b) => b.append_null(),
            Inner::ListFloat64(b) => b.append_null(),
            Inner::ListUtf8(b) => b.append_null(),
        }
    }

    /// Appends a JSON value:
    ///
    /// - `null` is a null of any type.
    /// - int64 takes numbers without a fraction, however they are written, if they fit 64 bits.
    /// - float64 and float32 take numbers, and `"NaN"`, `"Infinity"` and `"-Infinity"`. The float
    ///   is the nearest one, and never infinity, zero or an integer of other digits instead of the
    ///   number.
    /// - timestamp takes text that [`Timestamp`] parses, and date an ISO 8601 date, or texts and
    ///   integers as [they are declared](Self::with_reading). They lie in the years 1 to 9999.
    /// - binary takes a string of hexadecimal digits.
    /// - Lists and vectors take arrays without nulls.
    ///
    /// Of a number with a decimal point or an exponent the parsed value has only the nearest
    /// float64. As an int64 such a number is refused from 2^53 on; [`Self::append_raw_json`] reads
    /// it from its text.
    ///
    /// # Errors
    /// Returns a message that says what was found and which type was wanted. Nothing is appended
    /// then.
    pub fn append_json(&mut self, value: &Json) -> Result<(), String> {
        self.append_value(&Value::of_json(value), || cut(value))
    }

    /// Appends a JSON value like [`Self::append_json`], with every number as its text says.
    ///
    /// # Errors
    /// Returns a message that says what was found and which type was wanted. Nothing is appended
    /// then.
    pub fn append_raw_json(&mut self, value: &RawValue) -> Result<(), String> {
        self.append_value(&Value::of_raw(value)?, || cut(value.get()))
    }

    fn append_value(
        &mut self,
        value: &Value<'_>,
        shown: impl Fn() -> String,
    ) -> Result<(), String> {
        if matches!(value, Value::Null) {
            self.append_null();
            return Ok(());
        }
        let data_type = &self.data_type;
        let wrong = |misfit: Misfit| format!("{} is not {data_type}{misfit}", shown());
        let other = || wrong(Misfit::NotANumber);
        match &mut self.inner {
            Inner::Boolean(b) => match value {
                Value::Boolean(value) => b.append_value(*value),
                _ => return Err(other()),
            },
            Inner::Int64(b) => b.append_value(value.int64().map_err(wrong)?),
            Inner::Float64(b) => b.append_value(value.float64().map_err(wrong)?),
            Inner::Float32(b) => b.append_value(value.float32().map_err(wrong)?),
            Inner::Utf8(b) => b.append_value(value.text().ok_or_else(other)?),
            Inner::Binary(b) => {
                b.append_value(value.text().and_then(parse_hex).ok_or_else(other)?);
            }
            Inner::Timestamp(b) => b.append_value(value.timestamp(&self.reading, &shown)?),
            Inner::Date(b) => b.append_value(value.date(&self.reading, &shown)?),
            Inner::Vector(b) => {
                let items = value.items().ok_or_else(other)?;
                if items.len() != b.value_length() as usize {
                    let length = items.len();
                    return Err(format!("a list of {length} numbers is not {data_type}"));
                }
                let items = items.iter().map(Value::float32);
                let items = items.collect::<Result<Vec<f32>, _>>().map_err(wrong)?;
                b.values().append_slice(&items);
                b.append(true);
            }
            Inner::ListInt64(b) => {
                let items = value.items().ok_or_else(other)?.iter().map(Value::int64);
                let items = items.collect::<Result<Vec<i64>, _>>().map_err(wrong)?;
                b.values().append_slice(&items);
                b.append(true);
            }
            Inner::ListFloat64(b) => {
                let items = value.items().ok_or_else(other)?.iter().map(Value::float64);
                let items = items.collect::<Result<Vec<f64>, _>>().map_err(wrong)?;
                b.values().append_slice(&items);
                b.append(true);
            }
            Inner::ListUtf8(b) => {
                let items = value.items().ok_or_else(other)?.iter().map(Value::text);
                let items: Option<Vec<&str>> = items.collect();
                for item in items.ok_or_else(other)? {
                    b.values().append_value(item);
                }
                b.append(true);
            }
        }
        Ok(())
    }

    /// Appends the text of a CSV field. An empty text is a null, except in a utf8 or binary column
    /// when it was in quotes; that is how an empty value is told from a null. Numbers are read like
    /// those of [`Self::append_raw_json`], and NaN and infinity also as `nan` and `inf`. Lists and
    /// vectors are written as JSON arrays. Integers are times only if [their unit is
    /// declared](Self::with_reading).
    ///
    /// # Errors
    /// Returns a message that says what was found and which type was wanted. Nothing is appended
    /// then.
    pub fn append_text(&mut self, text: &str, quoting: Quoting) -> Result<(), String> {
        if text.is_empty() && !(quoting == Quoting::Quoted && self.holds_bytes()) {
            self.append_null();
            return Ok(());
        }
        let data_type = &self.data_type;
        let wrong = |misfit: Misfit| format!("`{}` is not {data_type}{misfit}", cut(text));
        let other = || wrong(Misfit::NotANumber);
        match &mut self.inner {
            Inner::Boolean(b) => b.append_value(match text {
                "true" | "TRUE" | "True" | "t" | "1" => true,
                "false" | "FALSE" | "False" | "f" | "0" => false,
                _ => return Err(other()),
            }),
            Inner::Int64(b) => b.append_value(decimal::int64(text).map_err(wrong)?),
            Inner::Float64(b) => b.append_value(decimal::float(text).map_err(wrong)?),
            Inner::Float32(b) => b.append_value(decimal::float(text).map_err(wrong)?),
            Inner::Utf8(b) => b.append_value(text),
            Inner::Binary(b) => b.append_value(parse_hex(text).ok_or_else(other)?),
            Inner::Timestamp(b) => b.append_value(self.reading.text_timestamp(text)?.as_micros()),
            Inner::Date(b) => b.append_value(self.reading.text_date(text)?),
            Inner::Vector(_) | Inner::ListInt64(_) | Inner::ListFloat64(_) | Inner::ListUtf8(_) => {
                let json: &RawValue = serde_json::from_str(text).map_err(|_| other())?;
                return self.append_raw_json(json);
            }
        }
        Ok(())
    }

    /// Whether values of the column are texts or byte strings, which can be empty.
    fn holds_bytes(&self) -> bool {
        matches!(self.inner, Inner::Utf8(_) | Inner::Binary(_))
    }

    /// Appends the answer of an aggregate.
    ///
    /// # Panics
    /// Panics when the answer is not of the column's type, which must be [the output type of the
    /// function](crate::aggregate::Function::output).
    pub fn append_aggregate(&mut self, answer: &AggregateValue) {
        match answer {
            AggregateValue::Null => self.append_null(),
            AggregateValue::One(cell) => self.append_cell(cell.as_ref()),
            AggregateValue::Many(cells) => self.append_cells(cells),
        }
    }

    fn append_cell(&mut self, cell: CellRef<'_>) {
        match (&mut self.inner, cell) {
            (Inner::Boolean(b), CellRef::Int(value)) => b.append_value(value != 0),
            (Inner::Int64(b), CellRef::Int(value)) => b.append_value(value),
            (Inner::Timestamp(b), CellRef::Int(value)) => b.append_value(value),
            (Inner::Date(b), CellRef::Int(value)) => b.append_value(value as i32),
            (Inner::Float64(b), CellRef::Float(value)) => b.append_value(value),
            (Inner::Float32(b), CellRef::Float(value)) => b.append_value(value as f32),
            (Inner::Utf8(b), CellRef::Bytes(value)) => b.append_value(text(value)),
            (Inner::Binary(b), CellRef::Bytes(value)) => b.append_value(value),
            (_, cell) => unreachable!("{cell:?} is not {}", self.data_type),
        }
    }

    fn append_cells(&mut self, cells: &[Cell]) {
        for cell in cells {
            match (&mut self.inner, cell.as_ref()) {
                (Inner::ListInt64(b), CellRef::Int(value)) => b.values().append_value(value),
                (Inner::ListFloat64(b), CellRef::Float(value)) => b.values().append_value(value),
                (Inner::ListUtf8(b), CellRef::Bytes(value)) => {
                    b.values().append_value(text(value));
                }
                (_, cell) => unreachable!("{cell:?} is not an item of {}", self.data_type),
            }
        }
        match &mut self.inner {
            Inner::ListInt64(b) => b.append(true),
            Inner::ListFloat64(b) => b.append(true),
            Inner::ListUtf8(b) => b.append(true),
            _ => unreachable!("{} is not a list", self.data_type),
        }
    }

    /// Returns the column and leaves the builder empty.
    pub fn finish(&mut self) -> ArrayRef {
        match &mut self.inner {
            Inner::Boolean(b) => Arc::new(b.finish()),
            Inner::Int64(b) => Arc::new(b.finish()),
            Inner::Float64(b) => Arc::new(b.finish()),
            Inner::Float32(b) => Arc::new(b.finish()),
            Inner::Utf8(b) => Arc::new(b.finish()),
            Inner::Binary(b) => Arc::new(b.finish()),
            Inner::Timestamp(b) => Arc::new(b.finish()),
            Inner::Date(b) => Arc::new(b.finish()),
            Inner::Vector(b) => Arc::new(b.finish()),
            Inner::ListInt64(b) => Arc::new(b.finish()),
            Inner::ListFloat64(b) => Arc::new(b.finish()),
            Inner::ListUtf8(b) => Arc::new(b.finish()),
        }
    }

    /// Creates a column of `rows` nulls.
    pub fn nulls(data_type: &DataType, rows: usize) -> ArrayRef {
        let mut builder = Self::new(data_type, rows);
        for _ in 0..rows {
            builder.append_null();
        }
        let column = builder.finish();
        debug_assert_eq!(column.len(), rows);
        column
    }
}

/// What is counted of each value, beside the bytes of texts and the items of lists and vectors.
const EACH: u64 = 8;

/// Returns the size of a value of a stored column, in bytes, as [`ColumnBuilder::bytes`] counts it.
pub fn value_bytes(column: &ArrayRef, row: usize) -> u64 {
    // A null vector takes as much as any other.
    if let Some(vectors) = column.as_fixed_size_list_opt() {
        return EACH + 4 * u64::from(vectors.value_length().unsigned_abs());
    }
    if column.is_null(row) {
        return EACH;
    }
    if let Some(texts) = column.as_string_opt::<i32>() {
        return EACH + u64::from(texts.value_length(row).unsigned_abs());
    }
    if let Some(bytes) = column.as_binary_opt::<i32>() {
        return EACH + u64::from(bytes.value_length(row).unsigned_abs());
    }
    match column.as_list_opt::<i32>() {
        Some(lists) => items_bytes(&lists.value(row)),
        None => EACH,
    }
}

/// Returns at least the size of each value of a stored column, as [`value_bytes`] counts it. Lists
/// are not looked at one by one, and count together.
pub fn widest_value(column: &ArrayRef) -> u64 {
    let longest = |offsets: &[i32]| {
        let lengths = offsets.windows(2).map(|pair| pair[1].abs_diff(pair[0]));
        EACH + u64::from(lengths.max().unwrap_or(0))
    };
    if let Some(vectors) = column.as_fixed_size_list_opt() {
        return EACH + 4 * u64::from(vectors.value_length().unsigned_abs());
    }
    if let Some(texts) = column.as_string_opt::<i32>() {
        return longest(texts.value_offsets());
    }
    if let Some(bytes) = column.as_binary_opt::<i32>() {
        return longest(bytes.value_offsets());
    }
    let Some(lists) = column.as_list_opt::<i32>() else {
        return EACH;
    };
    let offsets = lists.value_offsets();
    let (first, last) = (offsets[0] as usize, offsets[lists.len()] as usize);
    items_bytes(&lists.values().slice(first, last - first))
}

/// Returns the size of a list of these items.
fn items_bytes(items: &ArrayRef) -> u64 {
    let text_bytes = |texts: &StringArray| {
        let offsets = texts.value_offsets();
        u64::from(offsets[texts.len()].abs_diff(offsets[0]))
    };
    let texts = items.as_string_opt::<i32>().map_or(0, text_bytes);
    EACH + EACH * items.len() as u64 + texts
}

/// The text of a utf8 cell, which was valid UTF-8 when it was taken from its column.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// A JSON value that is about to be converted.
enum Value<'a> {
    Null,
    Boolean(bool),
    Number(Number<'a>),
    Text(Cow<'a, str>),
    /// An array. Arrays and objects in it are [`Value::Nested`].
    Items(Vec<Self>),
    /// An array or object inside an array. No column type has such values.
    Nested,
}

/// A number, as far as it is known.
enum Number<'a> {
    /// The text of a number in JSON.
    Text(&'a str),
    Integer(i64),
    /// An integer that does not fit an int64.
    Large(u64),
    /// The nearest float64 of a number with a decimal point or an exponent, or of an integer that
    /// does not fit 64 bits.
    Float(f64),
}

impl<'a> Value<'a> {
    fn of_json(json: &'a Json) -> Self {
        match json {
            Json::Array(items) => Self::Items(items.iter().map(Self::single_of_json).collect()),
            single => Self::single_of_json(single),
        }
    }

    fn single_of_json(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Boolean(*value),
            Json::String(text) => Self::Text(Cow::Borrowed(text)),
            Json::Number(number) => {
                let float = || Number::Float(number.as_f64().unwrap_or(f64::NAN));
                let integer = number.as_i64().map(Number::Integer);
                let integer = integer.or_else(|| number.as_u64().map(Number::Large));
                Self::Number(integer.unwrap_or_else(float))
            }
            Json::Array(_) | Json::Object(_) => Self::Nested,
        }
    }

    fn of_raw(raw: &'a RawValue) -> Result<Self, String> {
        if !raw.get().starts_with('[') {
            return Self::single_of_raw(raw);
        }
        let items: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(|e| not_json(&e))?;
        let items = items.into_iter().map(Self::single_of_raw);
        Ok(Self::Items(items.collect::<Result<_, _>>()?))
    }

    fn single_of_raw(raw: &'a RawValue) -> Result<Self, String> {
        let text = raw.get();
        Ok(match text.as_bytes().first() {
            Some(b'n') => Self::Null,
            Some(b't') => Self::Boolean(true),
            Some(b'f') => Self::Boolean(false),
            Some(b'"') if !text.contains('\\') => {
                Self::Text(Cow::Borrowed(&text[1..text.len() - 1]))
            }
            Some(b'"') => Self::Text(Cow::Owned(
                serde_json::from_str(text).map_err(|e| not_json(&e))?,
            )),
            Some(b'[' | b'{') | None => Self::Nested,
            Some(_) => Self::Number(Number::Text(text)),
        })
    }

    fn int64(&self) -> Result<i64, Misfit> {
        match self {
            Self::Number(Number::Text(text)) => decimal::int64(text),
            Self::Number(Number::Integer(integer)) => Ok(*integer),
            Self::Number(Number::Large(_)) => Err(Misfit::TooLarge),
            Self::Number(Number::Float(float)) => decimal::int64_of_parsed_float(*float),
            _ => Err(Misfit::NotANumber),
        }
    }

    fn float64(&self) -> Result<f64, Misfit> {
        match self {
            Self::Number(Number::Float(float)) => Ok(*float),
            other => other.float(),
        }
    }

    fn float32(&self) -> Result<f32, Misfit> {
        match self {
            Self::Number(Number::Float(float)) if f64::from(*float as f32) == *float => {
                Ok(*float as f32)
            }
            Self::Number(Number::Float(float)) => decimal::float(&format!("{float:e}")),
            other => other.float(),
        }
    }

    fn float<F: decimal::Float>(&self) -> Result<F, Misfit> {
        match self {
            Self::Number(Number::Text(text)) => decimal::float(text),
            Self::Number(Number::Integer(integer)) => decimal::float_of_integer(*integer),
            Self::Number(Number::Large(integer)) => decimal::float(&integer.to_string()),
            Self::Text(text) if matches!(&**text, "NaN" | "Infinity" | "-Infinity") => {
                decimal::float(text)
            }
            _ => Err(Misfit::NotANumber),
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    fn items(&self) -> Option<&[Self]> {
        match self {
            Self::Items(items) => Some(items),
            _ => None,
        }
    }

    /// Returns the microseconds of a time.
    fn timestamp(&self, reading: &Reading, shown: impl Fn() -> String) -> Result<i64, String> {
        let time = match self {
            Self::Text(text) => reading.text_timestamp(text),
            _ => reading.integer_timestamp(self.counted("timestamp", reading, shown)?),
        };
        time.map(Timestamp::as_micros)
    }

    /// Returns the days of a date.
    fn date(&self, reading: &Reading, shown: impl Fn() -> String) -> Result<i32, String> {
        match self {
            Self::Text(text) => reading.text_date(text),
            _ => reading.integer_date(self.counted("date", reading, shown)?),
        }
    }

    /// Returns the integer of a column of times, if it is declared what integers are.
    fn counted(
        &self,
        wanted: &str,
        reading: &Reading,
        shown: impl Fn() -> String,
    ) -> Result<i64, String> {
        if !reading.reads_integers() && matches!(self, Self::Number(_)) {
            return Err(no_unit(shown()));
        }
        self.int64()
            .map_err(|misfit| format!("{} is not {wanted}{misfit}", shown()))
    }
}

/// The message for a part of a document whose form was checked before, such as a text with half a
/// surrogate pair.
fn not_json(error: &serde_json::Error) -> String {
    format!("is not JSON: {error}")
}

fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| (c as char).to_digit(16).and_then(|d| u8::try_from(d).ok());
    text.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

/// The first 60 characters of how a value is written, for messages. No more of it is written, as it
/// may be as large as a request.
fn cut(value: impl Display) -> String {
    let mut start = Start {
        text: String::new(),
        room: 60,
    };
    match write!(start, "{value}") {
        Ok(()) => start.text,
        Err(fmt::Error) => start.text + "…",
    }
}

/// Takes the start of what is written to it, and then fails.
struct Start {
    text: String,
    /// The number of characters that it still takes.
    room: usize,
}

impl fmt::Write for Start {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        match piece.char_indices().nth(self.room) {
            Some((end, _)) => {
                self.text.push_str(&piece[..end]);
                Err(fmt::Error)
            }
            None => {
                self.text.push_str(piece);
                self.room -= piece.chars().count();
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests;
