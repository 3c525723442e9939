//! Looks at the files of a source to find out which columns they have, and of which types.
//!
//! Files of Parquet and Arrow say it. In text files, a column has the first type, of a short list,
//! that reads every value and loses nothing that is written: `007` stays a text.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::{Array as _, new_empty_array};
use arrow_schema::{DataType as ArrowType, SchemaRef};
use wafer_catalog::{FoundColumn, Location, SourceDef};
use wafer_core::{
    ColumnBuilder, DataType, DecimalReading, Field, Quoting, Reading, Zone, coerce_rows,
    nearest_type,
};
use wafer_files::{ReadColumn, check_column_count, file_format};
use wafer_store::{Error, RemoteFiles, Result};

use super::files::SourceFile;
use super::{hint, source_files};

/// The largest number of rows of a text file that are looked at.
const MAX_ROWS: u64 = 1_000_000;

/// The columns of the files of a source.
#[derive(Debug)]
pub struct Inspected {
    /// The columns, in the order of the files.
    pub columns: Vec<FoundColumn>,
    /// The number of rows whose values were looked at. It is 0 if the files have types.
    pub rows: u64,
}

/// Returns the columns of typed files of a source, which are those of all its files together.
/// Blocks the thread.
///
/// # Errors
/// Returns [`Kind::NotFound`](wafer_store::Kind::NotFound) when there is no file, and
/// [`Kind::Invalid`](wafer_store::Kind::Invalid) when one cannot be read or has no types.
pub fn typed_columns(
    source: &SourceDef,
    name: &str,
    remote: &Arc<dyn RemoteFiles>,
) -> Result<Vec<FoundColumn>> {
    let files = source_files(location(source, name)?, source.format, remote).map_err(|error| {
        let message = format!("sources.{name}.path: its columns cannot be looked up");
        Error::caused(error.kind(), message, error)
    })?;
    let mut columns: Vec<FoundColumn> = Vec::new();
    for (index, file) in files.iter().enumerate() {
        if !file.format.has_types() {
            return Err(Error::invalid(format!(
                "sources.{name}: {} is text, whose columns have no types; declare them: columns = \
                 {{ id = \"int64\", note = \"utf8?\" }} (`wafer new NAME --from FILE` writes them)",
                file.path.display()
            )));
        }
        let opened = file.open(remote)?;
        let format = file_format(file.format);
        let schema = format.schema(&file.path, opened, &source.options, &|_| None)?;
        let found = columns_of_file(source, file, &schema);
        columns = match index {
            0 => found,
            _ => joined(columns, found),
        };
        // Files may have few columns each, and others in each.
        check_column_count(&file.path, columns.len())?;
    }
    Ok(columns)
}

fn location<'a>(source: &'a SourceDef, name: &str) -> Result<&'a Location> {
    let is_read = source.kind.reads_files_one_by_one();
    source.files.as_ref().filter(|_| is_read).ok_or_else(|| {
        Error::invalid(format!(
            "sources.{name}: its columns are not looked up in files; declare them: columns = {{ id \
             = \"int64\", note = \"utf8?\" }}"
        ))
    })
}

/// Returns the columns of a typed file, and those of its partitions.
fn columns_of_file(source: &SourceDef, file: &SourceFile, schema: &SchemaRef) -> Vec<FoundColumn> {
    let of_file = schema.fields().iter().map(|field| {
        let (name, found) = (field.name(), field.data_type());
        let reading = source.reading_of(name);
        let data_type = match found {
            // Other files may say which type it is.
            ArrowType::Null => Ok(None),
            _ => readable_as(name, found, &reading).map(Some),
        };
        FoundColumn {
            name: name.clone(),
            data_type,
            nullable: field.is_nullable(),
        }
    });
    let of_partitions = file.partitions.iter().map(|partition| FoundColumn {
        name: partition.column.clone(),
        data_type: Ok(Some(DataType::Utf8)),
        nullable: partition.value.is_none(),
    });
    let mut columns: Vec<FoundColumn> = of_file.collect();
    for column in of_partitions {
        if columns.iter().all(|other| other.name != column.name) {
            columns.push(column);
        }
    }
    columns
}

/// Returns the type that a column is read as, which is that of the file if Wafer has it.
pub(super) fn readable_as(
    name: &str,
    found: &ArrowType,
    reading: &Reading,
) -> std::result::Result<DataType, String> {
    let wanted = nearest_type(found, &|scale| decimal_type(scale, reading));
    let read = wanted.clone();
    read.filter(|wanted| is_readable(found, wanted, reading))
        .ok_or_else(|| {
            let wanted = wanted.unwrap_or(DataType::Float64);
            let hint = hint(name, &wanted, found);
            let hint = hint.unwrap_or_else(|| "no type of Wafer reads it".to_owned());
            format!("column `{name}` is {found}; {hint}")
        })
}

/// Returns whether columns of an Arrow type may be read as a type. An empty column tells.
pub(super) fn is_readable(found: &ArrowType, wanted: &DataType, reading: &Reading) -> bool {
    coerce_rows(&new_empty_array(found), wanted, reading).is_ok()
}

/// Returns what decimals of a scale are read as: what is declared, or else integers, if they are
/// that.
fn decimal_type(scale: i8, reading: &Reading) -> Option<DataType> {
    match reading.decimal {
        Some(DecimalReading::Float64) => Some(DataType::Float64),
        Some(DecimalReading::Text) => Some(DataType::Utf8),
        None => (scale == 0).then_some(DataType::Int64),
    }
}

/// Joins the columns of two files. A column that one of them lacks may be null.
fn joined(before: Vec<FoundColumn>, next: Vec<FoundColumn>) -> Vec<FoundColumn> {
    let find = |columns: &[FoundColumn], name: &str| {
        columns.iter().find(|column| column.name == name).cloned()
    };
    let mut columns: Vec<FoundColumn> = before
        .iter()
        .map(|column| match find(&next, &column.name) {
            Some(other) => of_both(column, &other),
            None => FoundColumn {
                nullable: true,
                ..column.clone()
            },
        })
        .collect();
    for column in next {
        if find(&before, &column.name).is_none() {
            columns.push(FoundColumn {
                nullable: true,
                ..column
            });
        }
    }
    columns
}

fn of_both(one: &FoundColumn, other: &FoundColumn) -> FoundColumn {
    let data_type = match (&one.data_type, &other.data_type) {
        (Ok(Some(first)), Ok(Some(second))) if first != second => Err(format!(
            "column `{}` is {first} in one file, and {second} in another",
            one.name
        )),
        (Ok(first), Ok(second)) => Ok(first.clone().or_else(|| second.clone())),
        (Err(message), _) | (_, Err(message)) => Err(message.clone()),
    };
    FoundColumn {
        data_type,
        nullable: one.nullable || other.nullable,
        name: one.name.clone(),
    }
}

/// Looks at the columns of a source, of which nothing is declared but how its files are written.
/// Blocks the thread.
///
/// # Errors
/// Returns the errors of [`typed_columns`].
pub fn inspect(source: &SourceDef, name: &str, remote: &Arc<dyn RemoteFiles>) -> Result<Inspected> {
    let files = source_files(location(source, name)?, source.format, remote)?;
    match files.last() {
        Some(file) if !file.format.has_types() => inspect_text(source, file, remote),
        _ => Ok(Inspected {
            columns: typed_columns(source, name, remote)?,
            rows: 0,
        }),
    }
}

/// Looks at the values of a text file.
fn inspect_text(
    source: &SourceDef,
    file: &SourceFile,
    remote: &Arc<dyn RemoteFiles>,
) -> Result<Inspected> {
    let format = file_format(file.format);
    let is_bare = file.format.has_bare_values();
    let declared = |_: &str| is_bare.then_some(DataType::Utf8);
    let opened = file.open(remote)?;
    let schema = format.schema(&file.path, opened, &source.options, &declared)?;
    let columns: Vec<ReadColumn> = schema
        .fields()
        .iter()
        .map(|field| {
            let data_type = DataType::from_arrow(field.data_type());
            ReadColumn::from(Field::new(field.name(), data_type, true))
        })
        .collect();
    let mut guesses: Vec<Guess> = columns
        .iter()
        .map(|column| Guess::new(&column.field, source.zone, is_bare))
        .collect();
    let opened = file.open(remote)?;
    let mut reader = format.read(&file.path, opened, &source.options, &columns)?;
    let mut rows = 0;
    while rows < MAX_ROWS
        && let Some(chunk) = reader.next()?
    {
        rows += chunk.seen;
        for (guess, column) in guesses.iter_mut().zip(&chunk.columns) {
            if let Some(texts) = column.as_string_opt::<i32>() {
                texts.iter().flatten().for_each(|text| guess.observe(text));
            }
            guess.has_nulls |= column.null_count() > 0;
        }
    }
    Ok(Inspected {
        columns: guesses.into_iter().map(Guess::finish).collect(),
        rows,
    })
}

/// The types that a column of texts may have, by the values so far.
struct Guess {
    field: Field,
    candidates: Vec<Candidate>,
    is_seen: bool,
    has_nulls: bool,
}

struct Candidate {
    data_type: DataType,
    builder: ColumnBuilder,
    /// Whether the times are read only because a zone is assumed for them.
    is_local: bool,
}

impl Guess {
    fn new(field: &Field, zone: Option<Zone>, is_bare: bool) -> Self {
        use DataType as D;
        let candidate = |data_type: &DataType, zone: Option<Zone>, is_local| Candidate {
            data_type: data_type.clone(),
            builder: ColumnBuilder::new(data_type, 1).with_reading(Reading {
                zone,
                ..Reading::default()
            }),
            is_local,
        };
        let mut candidates = Vec::new();
        if field.data_type == D::Utf8 {
            if is_bare {
                let types = [D::Int64, D::Float64, D::Boolean];
                candidates.extend(
                    types
                        .iter()
                        .map(|data_type| candidate(data_type, None, false)),
                );
            }
            candidates.push(candidate(&D::Date, None, false));
            candidates.push(candidate(&D::Timestamp, zone, false));
            candidates.push(candidate(&D::Timestamp, Some(Zone::UTC), true));
        }
        Self {
            field: field.clone(),
            candidates,
            is_seen: false,
            has_nulls: false,
        }
    }

    fn observe(&mut self, text: &str) {
        self.is_seen = true;
        self.candidates
            .retain_mut(|candidate| candidate.reads(text));
    }

    fn finish(self) -> FoundColumn {
        let first = self.candidates.into_iter().next();
        let data_type = match first {
            // Nothing but nulls.
            _ if self.field.data_type == DataType::Utf8 && !self.is_seen => Ok(None),
            None => Ok(Some(self.field.data_type)),
            Some(candidate) if candidate.is_local => Err(format!(
                "the times in column `{}` name no time zone; say which one they are in, such as UTC \
                 or Europe/Berlin",
                self.field.name
            )),
            Some(candidate) => Ok(Some(candidate.data_type)),
        };
        FoundColumn {
            name: self.field.name,
            data_type,
            nullable: self.has_nulls,
        }
    }
}

impl Candidate {
    fn reads(&mut self, text: &str) -> bool {
        let is_kept = match self.data_type {
            DataType::Int64 => is_plain_number(text) && !text.contains(['.', 'e', 'E']),
            DataType::Float64 => is_plain_number(text),
            DataType::Boolean => text.len() >= "true".len(),
            _ => true,
        };
        let is_read = is_kept && self.builder.append_text(text, Quoting::Quoted).is_ok();
        self.builder.finish();
        is_read
    }
}

/// Whether a number loses nothing of how it is written: it has no sign or zero in front of it that
/// may be a part of a code, such as a postal code or a number of a telephone.
fn is_plain_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_code = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
    digits.starts_with(|first: char| first.is_ascii_digit()) && !is_code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guessed(texts: &[&str], zone: Option<Zone>) -> std::result::Result<String, String> {
        let mut guess = Guess::new(&Field::new("c", DataType::Utf8, true), zone, true);
        texts.iter().for_each(|text| guess.observe(text));
        let found = guess.finish().data_type?;
        Ok(found.map_or_else(String::new, |data_type| data_type.to_string()))
    }

    #[test]
    fn columns_of_text_have_the_first_type_that_reads_all_values() {
        for (texts, wanted) in [
            (&["1", "-20"][..], "int64"),
            (&["1", "2.5", "-0.5", "1e3"], "float64"),
            (&["9223372036854775808"], "float64"),
            (&["02134", "10001"], "utf8"),
            (&["+4712345"], "utf8"),
            (&["true", "FALSE"], "boolean"),
            (&["t", "f"], "utf8"),
            (&["2024-01-01"], "date"),
            (
                &["2024-01-01T00:00:00Z", "2024-01-01T00:00:00.5Z"],
                "timestamp",
            ),
            (&["1", "x"], "utf8"),
            // Without values, it is told that nothing says the type.
            (&[], ""),
        ] {
            assert_eq!(guessed(texts, None).as_deref(), Ok(wanted), "{texts:?}");
        }
        for local in [
            &["2024-01-01 10:15:00"][..],
            &["2024-01-01T00:00:00Z", "2024-01-01"],
        ] {
            let error = guessed(local, None).unwrap_err();
            assert!(
                error.contains("the times in column `c` name no time zone"),
                "{error}"
            );
            assert_eq!(guessed(local, Some(Zone::UTC)).as_deref(), Ok("timestamp"));
        }
    }

    #[test]
    fn columns_of_several_files_are_those_of_all_of_them() {
        let column = |name: &str, data_type: Option<DataType>, nullable| FoundColumn {
            name: name.to_owned(),
            data_type: Ok(data_type),
            nullable,
        };
        let before = vec![
            column("id", Some(DataType::Int64), false),
            column("note", None, true),
            column("v", Some(DataType::Int64), false),
        ];
        let next = vec![
            column("id", Some(DataType::Int64), false),
            column("note", Some(DataType::Utf8), true),
            column("new", Some(DataType::Utf8), false),
        ];
        assert_eq!(
            joined(before.clone(), next),
            [
                column("id", Some(DataType::Int64), false),
                column("note", Some(DataType::Utf8), true),
                column("v", Some(DataType::Int64), true),
                column("new", Some(DataType::Utf8), true),
            ]
        );
        let other = vec![column("v", Some(DataType::Utf8), false)];
        let v = joined(before, other).remove(2).data_type.unwrap_err();
        assert_eq!(v, "column `v` is int64 in one file, and utf8 in another");
    }
}
