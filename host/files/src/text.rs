//! Rows of text formats, some of which may be invalid.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use arrow_array::{ArrayRef, BooleanArray};
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value as Json;
use serde_json::value::RawValue;
use wafer_catalog::{Cuts, meant};
use wafer_core::{ColumnBuilder, DataType, Field, Reading, bytes_text, cell_to_json};
use wafer_runtime::CHUNK_ROWS;
use wafer_store::Error;

use crate::plain_size::PIECE_BYTES;
use crate::{MAX_COLUMNS, ReadColumn, Rows};

/// The largest number of bytes that a row takes in memory. A larger one has a quote or a bracket
/// that is not closed, or is not a row at all.
pub(crate) const MAX_RECORD_BYTES: usize = 16 << 20;

/// The type of a column in which a file has no value, so that nothing tells its type: the one that
/// every later value has a text for.
pub(crate) const TYPE_OF_NULLS: DataType = DataType::Utf8;

/// The number of values that new columns of a chunk have room for, all together, and that each has
/// room for however many there are.
const FIRST_VALUES: usize = 1 << 18;
const LEAST_ROOM: usize = 16;

/// The columns that are read from a text file.
#[derive(Debug)]
pub(crate) struct TextColumns {
    /// The fields.
    pub(crate) fields: Vec<Field>,
    /// What is declared of each column.
    readings: Vec<Reading>,
    /// Where chunks of rows end.
    cuts: Cuts,
}

impl TextColumns {
    /// Prepares columns to be read from the file at `path`, in chunks that end as `cuts` says.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) when a row would be too large even if
    /// it has no values: a null vector takes as much as any other.
    pub(crate) fn new(
        path: &Path,
        columns: &[ReadColumn],
        cuts: Cuts,
    ) -> wafer_store::Result<Self> {
        let null = columns.iter().map(|column| match column.field.data_type {
            DataType::Vector(n) => 4 * u64::from(n),
            _ => 0,
        });
        let nulls: u64 = null.sum();
        if nulls > MAX_RECORD_BYTES as u64 {
            return Err(Error::invalid(format!(
                "{}: the vectors of a row take {}, and a row may take {}",
                path.display(),
                bytes_text(nulls),
                bytes_text(MAX_RECORD_BYTES as u64)
            )));
        }
        Ok(Self {
            fields: columns.iter().map(|column| column.field.clone()).collect(),
            readings: columns
                .iter()
                .map(|column| column.reading.clone())
                .collect(),
            cuts,
        })
    }
}

/// Collects the rows of a text file, up to a chunk.
pub(crate) struct TextRows {
    builders: Vec<ColumnBuilder>,
    numbers: Vec<u64>,
    is_good: Vec<bool>,
    rejects: Vec<(u64, String)>,
    seen: u64,
    cuts: Cuts,
}

impl TextRows {
    /// Creates an empty collection of rows with these columns.
    pub(crate) fn new(columns: &TextColumns) -> Self {
        // Of many columns, a chunk has fewer rows.
        let room = FIRST_VALUES / columns.fields.len().max(1);
        let room = room.clamp(LEAST_ROOM, CHUNK_ROWS);
        let builder = |(field, reading): (&Field, &Reading)| {
            ColumnBuilder::new(&field.data_type, room).with_reading(reading.clone())
        };
        let fields = columns.fields.iter().zip(&columns.readings);
        Self {
            builders: fields.map(builder).collect(),
            numbers: Vec::new(),
            is_good: Vec::new(),
            rejects: Vec::new(),
            seen: 0,
            cuts: columns.cuts,
        }
    }

    /// Returns whether the chunk is full: it has as many rows as a chunk may have, or they take as
    /// much memory.
    pub(crate) fn is_full(&self) -> bool {
        let bytes = self.builders.iter().map(ColumnBuilder::bytes);
        let most = match self.cuts {
            Cuts::ByBytes => PIECE_BYTES,
            Cuts::ByRows => u64::MAX,
        };
        self.seen >= CHUNK_ROWS as u64 || bytes.sum::<u64>() >= most
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
    /// Returns a message when the text is not JSON, or not an object, or has more than
    /// [`MAX_COLUMNS`] fields.
    pub fn parse(text: &'a [u8]) -> Result<Self, String> {
        serde_json::from_slice(text).map_err(|wrong| match serde_json::from_slice(text) {
            Ok(IgnoredAny) if wrong.to_string().starts_with(TOO_MANY_FIELDS) => {
                format!("{TOO_MANY_FIELDS} {MAX_COLUMNS} fields")
            }
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
        let names = || self.0.keys().map(String::as_str);
        append_fields(fields, builders, |name| self.0.get(name).copied(), names)
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
            if values.len() == MAX_COLUMNS && !values.contains_key(&name) {
                return Err(A::Error::custom(TOO_MANY_FIELDS));
            }
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
    let value = |name: &str| object?.get(name).map(Value::Parsed);
    let names = || {
        object
            .into_iter()
            .flat_map(|object| object.keys().map(String::as_str))
    };
    let appended = append_fields(fields, builders, value, names);
    match object {
        Some(_) => appended,
        None => Err(NOT_AN_OBJECT.to_owned()),
    }
}

const NOT_AN_OBJECT: &str = "is not a JSON object";
/// The start of the message for an object with too many fields.
pub(crate) const TOO_MANY_FIELDS: &str = "is a JSON object with more than";

/// Appends the values of an object, which `value` returns by their names. `names` returns all names
/// of the object, to suggest one for a field that is missing.
fn append_fields<'a, 'n, N: Iterator<Item = &'n str>>(
    fields: &[Field],
    builders: &mut [ColumnBuilder],
    value: impl Fn(&str) -> Option<Value<'a>>,
    names: impl Fn() -> N,
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
            None => {
                let unread = names().filter(|name| fields.iter().all(|field| field.name != *name));
                Err(format!("is missing{}", meant(&field.name, unread)))
            }
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
    use wafer_core::Quoting;

    use super::*;

    fn columns(count: usize, data_type: &DataType) -> Vec<ReadColumn> {
        let name = |index: usize| format!("c{index}");
        let field = |index| Field::new(name(index), data_type.clone(), true);
        (0..count).map(|index| field(index).into()).collect()
    }

    #[test]
    fn a_chunk_is_full_by_its_rows_or_by_its_bytes() {
        use Cuts::{ByBytes, ByRows};
        for (count, bytes_of_text, cuts, wanted) in [
            (1, 1, ByBytes, CHUNK_ROWS),
            (1, 1 << 20, ByBytes, 8),
            (1, 9 << 20, ByBytes, 1),
            (1, 2_000, ByRows, CHUNK_ROWS),
            (MAX_COLUMNS, 0, ByBytes, 256),
        ] {
            let columns = columns(count, &DataType::Utf8);
            let columns = TextColumns::new(Path::new("a"), &columns, cuts).unwrap();
            let mut rows = TextRows::new(&columns);
            let text = "x".repeat(bytes_of_text);
            let mut pushed = 0;
            while !rows.is_full() {
                pushed += 1;
                rows.push(pushed, |builders| {
                    let mut builders = builders.iter_mut();
                    builders.try_for_each(|builder| builder.append_text(&text, Quoting::Quoted))
                });
            }
            assert_eq!(pushed, wanted as u64, "{count} columns");
            assert_eq!(rows.finish().unwrap().columns[0].len(), wanted);
        }
    }

    #[test]
    fn rows_whose_nulls_would_be_too_large_are_refused_before_any_is_read() {
        let path = Path::new("a.csv");
        let vectors = |n| {
            let columns = columns(2, &DataType::Vector(n));
            TextColumns::new(path, &columns, Cuts::ByBytes)
        };
        assert!(vectors(1 << 21).is_ok());
        let refused = vectors(0x7fff_ffff).unwrap_err();
        assert!(
            refused
                .to_string()
                .starts_with("a.csv: the vectors of a row take")
        );
    }

    #[test]
    fn objects_have_at_most_as_many_fields_as_a_file_has_columns() {
        let object = |count: usize| {
            let fields: Vec<String> = (0..count).map(|n| format!("\"{n}\":1")).collect();
            format!("{{{}}}", fields.join(","))
        };
        assert!(RawObject::parse(object(MAX_COLUMNS).as_bytes()).is_ok());
        assert_eq!(
            RawObject::parse(object(MAX_COLUMNS + 1).as_bytes()).unwrap_err(),
            "is a JSON object with more than 4096 fields"
        );
    }

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
            (
                r#"{"v": 1, "N": 1, "other": 1}"#,
                Err("field `n`: is missing; is `N` meant?"),
            ),
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
