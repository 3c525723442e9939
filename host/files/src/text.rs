//! Rows of text formats, some of which may be invalid.

use std::collections::BTreeMap;
use std::fmt;

use arrow_array::{ArrayRef, BooleanArray};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value as Json;
use serde_json::value::RawValue;
use wafer_core::{ColumnBuilder, Field, Reading, cell_to_json};
use wafer_runtime::CHUNK_ROWS;

use crate::{ReadColumn, Rows};

/// The largest number of bytes that a row takes in memory. One that is larger has a quote or a
/// bracket that is not closed, or is no row at all.
pub(crate) const MAX_RECORD_BYTES: usize = 16 << 20;

/// The columns that are read from a text file.
#[derive(Debug)]
pub(crate) struct TextColumns {
    /// The fields.
    pub(crate) fields: Vec<Field>,
    /// What is declared of each column.
    readings: Vec<Reading>,
}

impl TextColumns {
    pub(crate) fn new(columns: &[ReadColumn]) -> Self {
        Self {
            fields: columns.iter().map(|column| column.field.clone()).collect(),
            readings: columns
                .iter()
                .map(|column| column.reading.clone())
                .collect(),
        }
    }
}

/// Collects the rows of a text file, up to a chunk.
pub(crate) struct TextRows {
    builders: Vec<ColumnBuilder>,
    numbers: Vec<u64>,
    is_good: Vec<bool>,
    rejects: Vec<(u64, String)>,
    seen: u64,
}

impl TextRows {
    /// Creates an empty collection of rows with these columns.
    pub(crate) fn new(columns: &TextColumns) -> Self {
        let builder = |(field, reading): (&Field, &Reading)| {
            ColumnBuilder::new(&field.data_type, CHUNK_ROWS).with_reading(reading.clone())
        };
        let columns = columns.fields.iter().zip(&columns.readings);
        Self {
            builders: columns.map(builder).collect(),
            numbers: Vec::new(),
            is_good: Vec::new(),
            rejects: Vec::new(),
            seen: 0,
        }
    }

    /// Returns whether the chunk is full.
    pub(crate) fn is_full(&self) -> bool {
        self.seen >= CHUNK_ROWS as u64
    }

    /// Adds a row. `row` must append exactly one value to every column, even if it returns an
    /// error.
    pub(crate) fn push(
        &mut self,
        line: u64,
        row: impl FnOnce(&mut [ColumnBuilder]) -> Result<(), String>,
    ) {
        self.seen += 1;
        let result = row(&mut self.builders);
        self.is_good.push(result.is_ok());
        match result {
            Ok(()) => self.numbers.push(line),
            Err(message) => self.rejects.push((line, message)),
        }
    }

    /// Rejects a row that cannot be split into fields.
    pub(crate) fn reject(&mut self, line: u64, message: String) {
        self.push(line, |builders| {
            builders.iter_mut().for_each(ColumnBuilder::append_null);
            Err(message)
        });
    }

    /// Returns the collected rows, or `None` if there are none. The values of rejected rows are
    /// removed.
    pub(crate) fn finish(mut self) -> Option<Rows> {
        if self.seen == 0 {
            return None;
        }
        let is_good = BooleanArray::from(self.is_good);
        let columns = self.builders.iter_mut().map(|builder| {
            let column = builder.finish();
            arrow_select::filter::filter(&column, &is_good).expect("as many bits as rows")
        });
        Some(Rows {
            columns: columns.collect(),
            numbers: self.numbers,
            rejects: self.rejects,
            seen: self.seen,
        })
    }
}

/// Appends one value to every column, and nulls after the first failure. The row is removed later.
pub(crate) fn append_all(
    fields: &[Field],
    builders: &mut [ColumnBuilder],
    mut append: impl FnMut(usize, &Field, &mut ColumnBuilder) -> Result<(), String>,
) -> Result<(), String> {
    let mut failure = None;
    for (index, (field, builder)) in fields.iter().zip(builders).enumerate() {
        let result = match failure {
            None => append(index, field, builder),
            Some(_) => Err(String::new()),
        };
        if let Err(message) = result {
            builder.append_null();
            failure.get_or_insert_with(|| format!("field `{}`: {message}", field.name));
        }
    }
    failure.map_or(Ok(()), Err)
}

/// A JSON object, whose values keep the text that they were written as. So their numbers are exact.
#[derive(Debug)]
pub struct RawObject<'a>(BTreeMap<String, Value<'a>>);

/// The value of a name in an object.
#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Raw(&'a RawValue),
    Parsed(&'a Json),
    /// The object has the name more than once, so that its value is anybody's guess.
    Repeated,
}

impl<'a> RawObject<'a> {
    /// Parses the text of an object.
    ///
    /// # Errors
    /// Returns a message when the text is not JSON, or not an object.
    pub fn parse(text: &'a [u8]) -> Result<Self, String> {
        serde_json::from_slice(text).map_err(|_| match serde_json::from_slice(text) {
            Ok(IgnoredAny) => NOT_AN_OBJECT.to_owned(),
            Err(error) => format!("is not JSON: {error}"),
        })
    }

    /// Returns the names of the fields and the texts of their values. A name that occurs more than
    /// once has none.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, Option<&'a RawValue>)> {
        self.0.iter().map(|(name, value)| match value {
            Value::Raw(raw) => (name.as_str(), Some(*raw)),
            Value::Parsed(_) | Value::Repeated => (name.as_str(), None),
        })
    }

    /// Appends the fields of the object to the columns of the same names. Every column gets a
    /// value, even if an error is returned.
    ///
    /// # Errors
    /// Returns a message that names the field that is missing, occurs twice, or does not have the
    /// type of its column.
    pub fn append(&self, fields: &[Field], builders: &mut [ColumnBuilder]) -> Result<(), String> {
        append_fields(fields, builders, |name| self.0.get(name).copied())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for RawObject<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = RawObject<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = BTreeMap::new();
        while let Some((name, raw)) = map.next_entry::<String, &RawValue>()? {
            let value = values.entry(name);
            value
                .and_modify(|value| *value = Value::Repeated)
                .or_insert(Value::Raw(raw));
        }
        Ok(RawObject(values))
    }
}

/// Appends the fields of a parsed JSON object to the columns of the same names. Every column gets a
/// value, even if an error is returned. A number with a decimal point or an exponent is refused as
/// an int64 from 2^53 on, because its digits are gone; [`RawObject`] has them.
///
/// # Errors
/// Returns a message that names the field that is missing or does not have the type of its column.
pub fn append_object(
    json: &Json,
    fields: &[Field],
    builders: &mut [ColumnBuilder],
) -> Result<(), String> {
    let object = json.as_object();
    let appended = append_fields(fields, builders, |name| {
        object?.get(name).map(Value::Parsed)
    });
    match object {
        Some(_) => appended,
        None => Err(NOT_AN_OBJECT.to_owned()),
    }
}

const NOT_AN_OBJECT: &str = "is not a JSON object";

fn append_fields<'a>(
    fields: &[Field],
    builders: &mut [ColumnBuilder],
    value: impl Fn(&str) -> Option<Value<'a>>,
) -> Result<(), String> {
    append_all(fields, builders, |_, field, builder| {
        match value(&field.name) {
            Some(value) if value.is_null() && !field.nullable => Err("is null".to_owned()),
            Some(Value::Raw(raw)) => builder.append_raw_json(raw),
            Some(Value::Parsed(json)) => builder.append_json(json),
            Some(Value::Repeated) => Err("is there twice".to_owned()),
            None if field.nullable => {
                builder.append_null();
                Ok(())
            }
            None => Err("is missing".to_owned()),
        }
    })
}

impl Value<'_> {
    fn is_null(self) -> bool {
        match self {
            Self::Raw(raw) => raw.get() == "null",
            Self::Parsed(json) => json.is_null(),
            Self::Repeated => false,
        }
    }
}

/// Formats a value as text: a string as it is, any other value as JSON.
///
/// # Panics
/// Panics like [`cell_to_json`].
pub fn cell_text(values: &ArrayRef, row: usize) -> String {
    match cell_to_json(values, row) {
        Json::String(text) => text,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use wafer_core::{DataType, cell_to_json};

    use super::*;

    #[test]
    fn objects_are_read_by_their_text() {
        let fields = [
            Field::new("n", DataType::Int64, false),
            Field::new("v", DataType::Float32, true),
        ];
        for (text, wanted) in [
            (r#"{"n": 9007199254740993.0}"#, Ok("9007199254740993 null")),
            (r#"{"n": 1, "v": 0.5, "other": 1e400}"#, Ok("1 0.5")),
            (r#"{"n": 1, "v": null}"#, Ok("1 null")),
            (r#"{"\u006e": 1}"#, Ok("1 null")),
            (r#"{"n": null}"#, Err("field `n`: is null")),
            (r#"{"v": 1}"#, Err("field `n`: is missing")),
            (r#"{"n": 1, "n": 1}"#, Err("field `n`: is there twice")),
            (r#"{"n": 1, "m": 1, "m": 2}"#, Ok("1 null")),
            (
                r#"{"n": 1.5}"#,
                Err("field `n`: 1.5 is not int64, because it has a fraction"),
            ),
            (
                r#"{"n": 1, "v": 1e39}"#,
                Err("field `v`: 1e39 is not float32, because it is beyond its range"),
            ),
            ("[1]", Err("is not a JSON object")),
            ("7", Err("is not a JSON object")),
            (
                "{",
                Err("is not JSON: EOF while parsing an object at line 1 column 1"),
            ),
            (
                "{} {}",
                Err("is not JSON: trailing characters at line 1 column 4"),
            ),
        ] {
            let mut builders = fields
                .each_ref()
                .map(|f| ColumnBuilder::new(&f.data_type, 1));
            let read = RawObject::parse(text.as_bytes());
            let read = read.and_then(|object| object.append(&fields, &mut builders));
            let cells = builders.each_mut().map(|builder| {
                let column = builder.finish();
                (column.len() == 1).then(|| cell_to_json(&column, 0).to_string())
            });
            match (read, wanted) {
                (Ok(()), Ok(wanted)) => {
                    assert_eq!(cells.map(Option::unwrap).join(" "), wanted, "{text}");
                }
                (Err(message), Err(wanted)) => assert_eq!(message, wanted, "{text}"),
                (read, wanted) => panic!("{text}: {read:?}, wanted {wanted:?}"),
            }
        }
    }
}
