//! Builds columns from single values, which come from JSON, text, packed rows or aggregates.

use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, FixedSizeListBuilder, Float32Builder, Float64Builder,
    Int64Builder, ListBuilder, PrimitiveBuilder, StringBuilder,
};
use arrow_array::types::{Date32Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType as ArrowType;
use serde_json::Value as Json;

use crate::aggregate::{Answer, Cell, CellRef};
use crate::epoch::no_unit;
use crate::{DataType, Reading, Timestamp};

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
            other => unreachable!("{other} is no list"),
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
                    Float32Builder::with_capacity(capacity * *n as usize),
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

    /// Reads values as a source declares them. Without a declaration, integers are no times, and
    /// neither are times without a time zone.
    #[must_use]
    pub fn with_reading(self, reading: Reading) -> Self {
        Self { reading, ..self }
    }

    pub(crate) fn inner(&mut self) -> &mut Inner {
        &mut self.inner
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
    /// - int64 takes integers, and floats without a fraction if they identify one integer.
    /// - float64 and float32 take any number, and `"NaN"`, `"Infinity"` and `"-Infinity"`.
    /// - timestamp takes text that [`Timestamp`] parses, and date an ISO 8601 date, or texts and
    ///   integers as [they are declared](Self::with_reading). They lie in the years 1 to 9999.
    /// - binary takes a string of hexadecimal digits.
    /// - Lists and vectors take arrays without nulls.
    ///
    /// # Errors
    /// Returns a message that says what was found and which type was wanted. Nothing is appended
    /// then.
    pub fn append_json(&mut self, value: &Json) -> Result<(), String> {
        if value.is_null() {
            self.append_null();
            return Ok(());
        }
        let wrong = || format!("{} is not {}", json_text(value), self.data_type);
        match &mut self.inner {
            Inner::Boolean(b) => b.append_value(value.as_bool().ok_or_else(wrong)?),
            Inner::Int64(b) => b.append_value(json_int64(value).ok_or_else(wrong)?),
            Inner::Float64(b) => b.append_value(json_float64(value).ok_or_else(wrong)?),
            Inner::Float32(b) => b.append_value(json_float64(value).ok_or_else(wrong)? as f32),
            Inner::Utf8(b) => b.append_value(value.as_str().ok_or_else(wrong)?),
            Inner::Binary(b) => {
                b.append_value(value.as_str().and_then(parse_hex).ok_or_else(wrong)?);
            }
            Inner::Timestamp(b) => b.append_value(json_timestamp(value, &self.reading)?),
            Inner::Date(b) => b.append_value(json_date(value, &self.reading)?),
            Inner::Vector(b) => {
                let items = json_items(value, json_float64).ok_or_else(wrong)?;
                if items.len() != b.value_length() as usize {
                    return Err(format!(
                        "a list of {} numbers is not {}",
                        items.len(),
                        self.data_type
                    ));
                }
                for item in items {
                    b.values().append_value(item as f32);
                }
                b.append(true);
            }
            Inner::ListInt64(b) => {
                b.values()
                    .append_slice(&json_items(value, json_int64).ok_or_else(wrong)?);
                b.append(true);
            }
            Inner::ListFloat64(b) => {
                b.values()
                    .append_slice(&json_items(value, json_float64).ok_or_else(wrong)?);
                b.append(true);
            }
            Inner::ListUtf8(b) => {
                for item in
                    json_items(value, |v| v.as_str().map(str::to_owned)).ok_or_else(wrong)?
                {
                    b.values().append_value(item);
                }
                b.append(true);
            }
        }
        Ok(())
    }

    /// Appends the text of a CSV field. An empty text is a null unless it was `quoted`; that is how
    /// an empty utf8 or binary value is told from a null. Lists and vectors are written as JSON
    /// arrays. Integers are times only if [their unit is declared](Self::with_reading).
    ///
    /// # Errors
    /// Returns a message that says what was found and which type was wanted. Nothing is appended
    /// then.
    pub fn append_text(&mut self, text: &str, quoted: bool) -> Result<(), String> {
        if text.is_empty() && !quoted {
            self.append_null();
            return Ok(());
        }
        let wrong = || format!("`{}` is not {}", cut(text), self.data_type);
        match &mut self.inner {
            Inner::Boolean(b) => b.append_value(match text {
                "true" | "TRUE" | "True" | "t" | "1" => true,
                "false" | "FALSE" | "False" | "f" | "0" => false,
                _ => return Err(wrong()),
            }),
            Inner::Int64(b) => b.append_value(text.parse().map_err(|_| wrong())?),
            Inner::Float64(b) => b.append_value(text.parse().map_err(|_| wrong())?),
            Inner::Float32(b) => b.append_value(text.parse().map_err(|_| wrong())?),
            Inner::Utf8(b) => b.append_value(text),
            Inner::Binary(b) => b.append_value(parse_hex(text).ok_or_else(wrong)?),
            Inner::Timestamp(b) => b.append_value(self.reading.text_timestamp(text)?.as_micros()),
            Inner::Date(b) => b.append_value(self.reading.text_date(text)?),
            Inner::Vector(_) | Inner::ListInt64(_) | Inner::ListFloat64(_) | Inner::ListUtf8(_) => {
                let json: Json = serde_json::from_str(text).map_err(|_| wrong())?;
                return self.append_json(&json);
            }
        }
        Ok(())
    }

    /// Appends the answer of an aggregate.
    ///
    /// # Panics
    /// Panics when the answer is not of the column's type, which must be [the output type of the
    /// function](crate::aggregate::Function::output).
    pub fn append_answer(&mut self, answer: &Answer) {
        match answer {
            Answer::Null => self.append_null(),
            Answer::One(cell) => self.append_cell(cell.as_ref()),
            Answer::Many(cells) => self.append_cells(cells),
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
                (_, cell) => unreachable!("{cell:?} is no item of {}", self.data_type),
            }
        }
        match &mut self.inner {
            Inner::ListInt64(b) => b.append(true),
            Inner::ListFloat64(b) => b.append(true),
            Inner::ListUtf8(b) => b.append(true),
            _ => unreachable!("{} is no list", self.data_type),
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

/// The text of a utf8 cell, which was valid UTF-8 when it was taken from its column.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

fn json_int64(value: &Json) -> Option<i64> {
    value.as_i64().or_else(|| {
        // JSON does not distinguish 3.0 from 3. Beyond 2^53 a float does not identify one integer.
        let float = value.as_f64().filter(|_| value.is_f64())?;
        (float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0).then_some(float as i64)
    })
}

fn json_float64(value: &Json) -> Option<f64> {
    value.as_f64().or_else(|| match value.as_str()? {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    })
}

/// Returns the microseconds of a time in JSON.
fn json_timestamp(value: &Json, reading: &Reading) -> Result<i64, String> {
    let time = match value {
        Json::String(text) => reading.text_timestamp(text),
        _ => reading.integer_timestamp(json_integer(value, "timestamp", reading)?),
    };
    time.map(Timestamp::as_micros)
}

/// Returns the days of a date in JSON.
fn json_date(value: &Json, reading: &Reading) -> Result<i32, String> {
    match value {
        Json::String(text) => reading.text_date(text),
        _ => reading.integer_date(json_integer(value, "date", reading)?),
    }
}

/// Returns the integer of a column of times, if it is declared what integers are.
fn json_integer(value: &Json, wanted: &str, reading: &Reading) -> Result<i64, String> {
    if !reading.reads_integers() && value.is_number() {
        return Err(no_unit(json_text(value)));
    }
    json_int64(value).ok_or_else(|| format!("{} is not {wanted}", json_text(value)))
}

fn json_items<T>(value: &Json, item: impl Fn(&Json) -> Option<T>) -> Option<Vec<T>> {
    value.as_array()?.iter().map(item).collect()
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

fn json_text(value: &Json) -> String {
    cut(&value.to_string())
}

/// The first 60 characters of a text, for messages.
fn cut(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{EpochUnit, cell_to_json};

    fn check_json(data_type: &str, value: Json, wanted: Result<Json, &str>) {
        let data_type: DataType = data_type.parse().unwrap();
        let mut builder = ColumnBuilder::new(&data_type, 1);
        match (builder.append_json(&value), wanted) {
            (Ok(()), Ok(wanted)) => {
                let column = builder.finish();
                assert_eq!(*column.data_type(), data_type.to_arrow());
                assert_eq!(cell_to_json(&column, 0), wanted, "{data_type} from {value}");
            }
            (Err(message), Err(part)) => assert!(message.contains(part), "{message}"),
            (got, wanted) => panic!("{data_type} from {value}: {got:?}, wanted {wanted:?}"),
        }
    }

    #[test]
    fn json_values_become_columns() {
        let same = |data_type, value: Json| check_json(data_type, value.clone(), Ok(value));
        same("boolean", json!(true));
        same("int64", json!(9_007_199_254_740_993_i64));
        same("int64", json!(i64::MIN));
        same("float64", json!(0.1));
        same("float64", json!("NaN"));
        same("float64", json!("-Infinity"));
        same("float32", json!(0.5));
        same("utf8", json!(""));
        same("utf8", json!("ä\u{0}"));
        same("binary", json!("00ff"));
        same("timestamp", json!("2013-01-01T10:15:00.000001Z"));
        same("date", json!("2013-03-10"));
        same("vector(2)", json!([1.0, 2.5]));
        same("list<int64>", json!([1, 9_007_199_254_740_993_i64]));
        same("list<float64>", json!([]));
        same("list<utf8>", json!(["a", ""]));
        for data_type in [
            "boolean",
            "int64",
            "utf8",
            "vector(2)",
            "list<utf8>",
            "timestamp",
        ] {
            same(data_type, Json::Null);
        }
        check_json("int64", json!(3.0), Ok(json!(3)));
        check_json("float64", json!(3), Ok(json!(3.0)));
    }

    #[test]
    fn invalid_json_values_are_rejected() {
        check_json("int64", json!(0.5), Err("0.5 is not int64"));
        check_json("int64", json!(u64::MAX), Err("is not int64"));
        check_json("int64", json!(1e300), Err("is not int64"));
        check_json("int64", json!("1"), Err("\"1\" is not int64"));
        check_json("boolean", json!(1), Err("1 is not boolean"));
        check_json("utf8", json!(1), Err("1 is not utf8"));
        check_json("binary", json!("0"), Err("is not binary"));
        check_json("timestamp", json!("today"), Err("`today` is not a time"));
        check_json("timestamp", json!(true), Err("true is not timestamp"));
        check_json(
            "timestamp",
            json!("0000-01-01"),
            Err("outside of the years 1 to 9999"),
        );
        check_json(
            "timestamp",
            json!(0),
            Err("0 is a number, and nothing says"),
        );
        check_json(
            "timestamp",
            json!(i64::MAX),
            Err("is a number, and nothing says"),
        );
        check_json("timestamp", json!(1.5), Err("nothing says in which unit"));
        check_json(
            "date",
            json!(2_024),
            Err("2024 is a number, and nothing says"),
        );
        check_json("date", json!("01-02-03"), Err("`01-02-03` is not date"));
        check_json(
            "vector(2)",
            json!([1.0]),
            Err("a list of 1 numbers is not vector(2)"),
        );
        check_json(
            "list<int64>",
            json!([null]),
            Err("[null] is not list<int64>"),
        );
        check_json("utf8", json!(vec![1; 100]), Err("…"));
    }

    #[test]
    fn csv_texts_become_columns() {
        let check = |data_type: &str, text: &str, quoted: bool, wanted: Result<Json, &str>| {
            let mut builder = ColumnBuilder::new(&data_type.parse().unwrap(), 1);
            match (builder.append_text(text, quoted), wanted) {
                (Ok(()), Ok(wanted)) => assert_eq!(cell_to_json(&builder.finish(), 0), wanted),
                (Err(message), Err(part)) => assert!(message.contains(part), "{message}"),
                (got, wanted) => panic!("{data_type} from {text}: {got:?}, wanted {wanted:?}"),
            }
        };
        check(
            "int64",
            "9007199254740993",
            false,
            Ok(json!(9_007_199_254_740_993_i64)),
        );
        check("int64", "", false, Ok(Json::Null));
        check("utf8", "", false, Ok(Json::Null));
        check("utf8", "", true, Ok(json!("")));
        check("float64", "1e-3", false, Ok(json!(0.001)));
        check("boolean", "TRUE", false, Ok(json!(true)));
        check(
            "timestamp",
            "2013-01-01T00:00:00Z",
            false,
            Ok(json!("2013-01-01T00:00:00Z")),
        );
        check("date", "2013-01-01", false, Ok(json!("2013-01-01")));
        check("list<int64>", "[1, 2]", false, Ok(json!([1, 2])));
        check("int64", "x", false, Err("`x` is not int64"));
        check("date", "2013-02-30", false, Err("is not date"));
        check("timestamp", "noon", false, Err("is not a time"));
        check(
            "timestamp",
            "1704067200000",
            false,
            Err("is a number, and nothing says"),
        );
        check("date", "19723", false, Err("is a number, and nothing says"));
        check(
            "timestamp",
            "0000-12-31",
            false,
            Err("outside of the years 1 to 9999"),
        );
    }

    #[test]
    fn integers_of_a_known_unit_become_times() {
        use EpochUnit::{Days, Milliseconds, Nanoseconds, Seconds};
        let day = "2024-01-01T00:00:00Z";
        // The type, the unit, the JSON value, the same value in CSV, and what becomes of both.
        for (data_type, unit, json, text, wanted) in [
            (
                "timestamp",
                Seconds,
                json!(1_704_067_200),
                "1704067200",
                Ok(day),
            ),
            (
                "timestamp",
                Seconds,
                json!(1_704_067_200.0),
                "1704067200.0",
                Ok(day),
            ),
            (
                "timestamp",
                Milliseconds,
                json!(1_704_067_200_000_i64),
                "1704067200000",
                Ok(day),
            ),
            // A text that says what it means needs no unit.
            ("timestamp", Seconds, json!(day), day, Ok(day)),
            ("timestamp", Seconds, json!(0.5), "0.5", Err("0.5")),
            (
                "timestamp",
                Seconds,
                json!(i64::MAX),
                "9223372036854775807",
                Err("years 1 to 9999"),
            ),
            (
                "timestamp",
                Seconds,
                json!(u64::MAX),
                "18446744073709551615",
                Err("18446744073709551615"),
            ),
            (
                "timestamp",
                Nanoseconds,
                json!(1_001),
                "1001",
                Err("beyond microseconds"),
            ),
            ("date", Days, json!(19_723), "19723", Ok("2024-01-01")),
            (
                "date",
                Days,
                json!("2024-01-01"),
                "2024-01-01",
                Ok("2024-01-01"),
            ),
            (
                "date",
                Seconds,
                json!(1),
                "1",
                Err("not a whole number of days"),
            ),
        ] {
            let data_type: DataType = data_type.parse().unwrap();
            let builder = || ColumnBuilder::new(&data_type, 1).with_reading(Reading::of_unit(unit));
            let (mut from_json, mut from_text) = (builder(), builder());
            let results = [
                (from_json.append_json(&json), &mut from_json),
                (from_text.append_text(text, false), &mut from_text),
            ];
            for (result, builder) in results {
                match (result, wanted) {
                    (Ok(()), Ok(wanted)) => assert_eq!(cell_to_json(&builder.finish(), 0), wanted),
                    (Err(message), Err(part)) => assert!(message.contains(part), "{message}"),
                    (got, wanted) => panic!("{text} {unit}: {got:?}, wanted {wanted:?}"),
                }
            }
        }
    }
}
