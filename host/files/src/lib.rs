//! File formats: how rows are read from files and written to them.
//!
//! The same formats serve sources, labels, training sets and exports. Each [`FileFormat`] is one
//! file of this crate and one entry of `FORMATS`. A [`RowReader`] returns rows in chunks of
//! columns, with the number of each row and the rows that could not be read; the caller decides
//! what happens to those. An [`OutputFile`] writes a file under a temporary name, gathers
//! statistics of its columns, and renames the file when it is complete.
//!
//! Arrow and Parquet files may be damaged or made to do harm: `decode.rs` alone reads them.
//!
//! Deliberately absent: where files come from, and what their rows mean.
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests make temporary folders of their own"
    )
)]

mod arrow;
#[cfg(test)]
mod arrow_types;
mod binary;
mod csv;
mod decode;
mod input;
mod lines;
mod ndjson;
mod output;
mod parquet;
mod parquet_writer;
mod plain_size;
mod row_size;
mod sink;
mod statistics;
mod table_format;
mod text;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, NullArray, RecordBatch};
use arrow_schema::{DataType as ArrowType, SchemaRef};
use serde::{Deserialize, Serialize};
use wafer_catalog::{Cuts, FileOptions, Format};
use wafer_core::{DataType, Digest, Field, Reading};
use wafer_store::{Error, Kind, Result};

pub use decode::{decode_in_child, decode_worker, this_program};
pub use lines::TextLines;
pub use output::{OutputFile, check_columns};
pub use plain_size::plain_bytes;
pub use row_size::{batch_bytes, rows_within, widest_row};
pub use sink::Sink;
pub use statistics::Statistics;
pub use table_format::{TableFormat, check_files_of_no_table, check_no_table, here_if_empty};
pub use text::{RawObject, append_object, cell_text};

/// All formats. A new one is a file of this crate, a variant of [`Format`] and an entry here.
const FORMATS: [&dyn FileFormat; 5] = [
    &parquet::Parquet,
    &csv::Csv,
    &ndjson::Ndjson,
    &arrow::ArrowIpc::File,
    &arrow::ArrowIpc::Stream,
];

/// Returns the implementation of a format.
pub fn file_format(format: Format) -> &'static dyn FileFormat {
    let mut formats = FORMATS.into_iter();
    let found = formats.find(|other| other.format() == format);
    found.expect("every format has its row")
}

/// A file format: how the rows of a file are read and written.
pub trait FileFormat: Debug + Send + Sync + 'static {
    /// Returns which format this is.
    fn format(&self) -> Format;

    /// Returns the columns of a file, with their types. `options` say how a text file is written;
    /// other formats need none.
    ///
    /// A text format has no types of its own. `declared` returns the types of the columns that are
    /// read, and the types of other columns are inferred from the whole file, so that their values
    /// are written as the same texts, or from as many rows of it as the options say.
    ///
    /// # Errors
    /// Returns an error when the file cannot be read.
    fn schema(
        &self,
        path: &Path,
        file: File,
        options: &FileOptions,
        declared: &dyn Fn(&str) -> Option<DataType>,
    ) -> Result<SchemaRef>;

    /// Returns the names of the columns of a file, or `None` if each row has names of its own.
    ///
    /// # Errors
    /// Returns an error when the file cannot be read.
    fn column_names(
        &self,
        path: &Path,
        file: File,
        options: &FileOptions,
    ) -> Result<Option<Vec<String>>> {
        let any_type = |_: &str| Some(DataType::Utf8);
        let schema = self.schema(path, file, options, &any_type)?;
        let fields = schema.fields().iter();
        Ok(Some(fields.map(|field| field.name().clone()).collect()))
    }

    /// Opens a file to read some of its columns. A binary format returns them with the types that
    /// the file has, which the caller converts; a text format parses them as the types of
    /// `columns`.
    ///
    /// A nullable column that the file lacks is null in all its rows, and a binary format returns
    /// it with Arrow's type of nulls.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when the file cannot be read, lacks a column that is not nullable,
    /// or has two of the name of a column. Rows of NDJSON each name their columns, so a missing
    /// column is found when a row is read, and the row is rejected unless the column is nullable.
    fn read(
        &self,
        path: &Path,
        file: File,
        options: &FileOptions,
        columns: &[ReadColumn],
    ) -> Result<Box<dyn RowReader>>;

    /// Returns the number of rows of a file, or `None` if the file does not record it.
    fn count_rows(&self, _file: File) -> Option<u64> {
        None
    }

    /// Returns whether a file of the format can hold a column of a type as it is: with all its
    /// values, and with its type if the format has types.
    fn holds(&self, data_type: &ArrowType) -> bool;

    /// Starts a file of rows with these columns, which [it can hold](Self::holds). A format whose
    /// bytes depend on which rows are written together ends these as `cuts` says.
    ///
    /// # Errors
    /// Returns an error when the file cannot be written.
    fn write(&self, sink: Sink, schema: &SchemaRef, cuts: Cuts) -> WriteResult<Box<dyn RowWriter>>;
}

/// A column to read from a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadColumn {
    /// The name, type and nullability of the column.
    pub field: Field,
    /// What is declared of the column. Text formats use it; the columns of binary formats are
    /// converted by the caller.
    pub reading: Reading,
}

impl From<Field> for ReadColumn {
    fn from(field: Field) -> Self {
        Self {
            field,
            reading: Reading::default(),
        }
    }
}

/// The result of writing. The error does not name the file; the caller adds the name.
pub type WriteResult<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Reads the rows of one file in their order. Calls block.
pub trait RowReader: Debug + Send {
    /// Returns the next rows, at most [`CHUNK_ROWS`](wafer_runtime::CHUNK_ROWS) of them, or `None`
    /// at the end of the file.
    ///
    /// # Errors
    /// Returns an error when the rest of the file cannot be read.
    fn next(&mut self) -> Result<Option<Rows>>;
}

/// Some consecutive rows of a file.
#[derive(Debug)]
pub struct Rows {
    /// The requested columns in the requested order, with a value for each readable row.
    pub columns: Vec<ArrayRef>,
    /// The number of each readable row: from 0 in binary formats, the line in text formats.
    pub numbers: Vec<u64>,
    /// The rows that could not be read: their numbers, and why.
    pub rejects: Vec<(u64, String)>,
    /// The number of rows that were read, including those that could not be parsed.
    pub seen: u64,
}

impl Rows {
    /// Rejects rows: `faults` has what is wrong with them, by their indexes among the readable
    /// rows.
    #[must_use]
    pub fn reject(self, faults: BTreeMap<usize, String>) -> Self {
        if faults.is_empty() {
            return self;
        }
        let rows = self.numbers.len();
        let is_good: Vec<bool> = (0..rows).map(|row| !faults.contains_key(&row)).collect();
        let mask = BooleanArray::from(is_good.clone());
        let filtered = |column: &ArrayRef| {
            arrow_select::filter::filter(column, &mask).expect("as many bits as rows")
        };
        let mut rejects = self.rejects;
        let faults = faults.into_iter();
        rejects.extend(faults.map(|(row, message)| (self.numbers[row], message)));
        rejects.sort_by_key(|(number, _)| *number);
        let numbers = self.numbers.iter().zip(is_good);
        let numbers = numbers.filter_map(|(number, is_good)| is_good.then_some(*number));
        Self {
            columns: self.columns.iter().map(filtered).collect(),
            numbers: numbers.collect(),
            rejects,
            seen: self.seen,
        }
    }
}

/// Writes the rows of one file. Calls block.
pub trait RowWriter: Send {
    /// Writes rows. They are added to the statistics of their columns now or when the file is
    /// finished.
    ///
    /// # Errors
    /// Returns an error when the file cannot be written.
    fn write(&mut self, batch: &RecordBatch, statistics: &mut [Statistics]) -> WriteResult<()>;

    /// Writes the end of the file and returns the digest of all its bytes.
    ///
    /// # Errors
    /// Returns an error when the file cannot be written.
    fn finish(self: Box<Self>, statistics: &mut [Statistics]) -> WriteResult<Digest>;
}

/// Creates the error of a file that cannot be read: [`Kind::NotFound`] if it does not exist, else
/// [`Kind::Invalid`].
pub fn unreadable(path: &Path, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    let mut io = Some(&cause as &dyn std::error::Error);
    let mut kind = Kind::Invalid;
    while let Some(error) = io {
        if let Some(error) = error.downcast_ref::<std::io::Error>()
            && error.kind() == std::io::ErrorKind::NotFound
        {
            kind = Kind::NotFound;
        }
        io = error.source();
    }
    Error::caused(kind, format!("{} cannot be read", path.display()), cause)
}

/// The most columns that a file may have, those within columns among them. Many short names would
/// take much memory for each row. It is four times what a table may have, because files also have
/// columns that nobody reads.
pub const MAX_COLUMNS: usize = 4_096;

/// Checks the number of columns of a file, before anything is made for each of them.
///
/// # Errors
/// Returns [`Kind::Invalid`] for more than [`MAX_COLUMNS`].
pub fn check_column_count(path: &Path, count: usize) -> Result<()> {
    match count > MAX_COLUMNS {
        true => Err(Error::invalid(format!(
            "{} has more than {MAX_COLUMNS} columns, which is the most for a file; leave out those that \
             nobody reads",
            path.display()
        ))),
        false => Ok(()),
    }
}

/// Returns the positions of the wanted columns among the names in a file: `None` for a nullable
/// column that the file lacks.
fn column_positions(
    path: &Path,
    names: &[&str],
    columns: &[ReadColumn],
) -> Result<Vec<Option<usize>>> {
    let position = |ReadColumn { field, .. }: &ReadColumn| {
        let mut found = (0..names.len()).filter(|index| names[*index] == field.name);
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => Err(Error::invalid(format!(
                "{} has two columns `{}`; rename one, so that it is clear which one is read",
                path.display(),
                field.name
            ))),
            (None, _) if !field.nullable => Err(missing_column(path, field, names)),
            (position, _) => Ok(position),
        }
    };
    columns.iter().map(position).collect()
}

/// A column of nulls, for one that a file lacks.
fn missing_values(rows: usize) -> ArrayRef {
    Arc::new(NullArray::new(rows))
}

/// Creates the error of a file that lacks a column. It suggests the most similar name.
pub fn missing_column(path: &Path, field: &Field, names: &[&str]) -> Error {
    let hint = match wafer_catalog::nearest(&field.name, names.iter().copied()) {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None => columns_it_has(names),
    };
    Error::invalid(format!(
        "{} has no column `{}` ({}), which the function reads{hint}",
        path.display(),
        field.name,
        field.data_type
    ))
}

/// Returns the end of a message about a column that a file lacks: the columns that it has.
pub fn columns_it_has(names: &[&str]) -> String {
    match names {
        [] => "; it has no columns: it is empty, or its rows have no fields".to_owned(),
        _ => format!("; it has {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use arrow_array::Int64Array;
    use arrow_schema::{Field as ArrowField, Schema as ArrowSchema};

    use super::*;

    /// Writes a file of one row with columns of these names, whose values are 1, 2 and so on.
    fn written(path: &Path, format: Format, names: &[&str]) {
        let fields = names.iter();
        let fields = fields.map(|name| ArrowField::new(*name, ArrowType::Int64, true));
        let schema = Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>()));
        let columns = (1..).zip(names).map(|(value, _)| -> ArrayRef {
            let value: i64 = value;
            Arc::new(Int64Array::from(vec![value]))
        });
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap();
        let file = File::create(path).unwrap();
        match format {
            Format::Parquet => {
                let mut writer =
                    ::parquet::arrow::ArrowWriter::try_new(file, schema, None).unwrap();
                writer.write(&batch).unwrap();
                writer.close().unwrap();
            }
            _ => {
                let mut writer = arrow_ipc::writer::StreamWriter::try_new(file, &schema).unwrap();
                writer.write(&batch).unwrap();
                writer.finish().unwrap();
            }
        }
    }

    #[test]
    fn names_that_occur_twice_are_refused_where_they_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["a", "b", "a"];
        let read = |format: Format, header: Option<&[&str]>, name: &str| -> Result<String> {
            let path = folder.path().join("in");
            let header: Option<Vec<String>> =
                header.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
            match (format, &header) {
                (Format::Csv, None) => std::fs::write(&path, "a,b,a\n1,2,3\n").unwrap(),
                (Format::Csv, Some(_)) => std::fs::write(&path, "1,2,3\n").unwrap(),
                (Format::Ndjson, _) => {
                    std::fs::write(&path, r#"{"a":1,"b":2,"a":3}"#).unwrap();
                }
                _ => written(&path, format, &names),
            }
            let options = FileOptions {
                header,
                ..FileOptions::default()
            };
            let columns = [ReadColumn::from(Field::new(name, DataType::Int64, true))];
            let file = File::open(&path).unwrap();
            let mut reader = file_format(format).read(&path, file, &options, &columns)?;
            let rows = reader.next()?.unwrap();
            match rows.rejects.into_iter().next() {
                None => Ok(wafer_core::cell_to_json(&rows.columns[0], 0).to_string()),
                Some((_, message)) => Err(Error::invalid(message)),
            }
        };
        for (format, header, wanted) in [
            (Format::Csv, None, "has two columns `a`"),
            (Format::Csv, Some(&names[..]), "has two columns `a`"),
            (Format::Ndjson, None, "field `a`: is there twice"),
            (Format::Parquet, None, "has two columns `a`"),
            (Format::ArrowStream, None, "has two columns `a`"),
        ] {
            let error = read(format, header, "a").unwrap_err().to_string();
            assert!(error.contains(wanted), "{format:?}: {error}");
            assert_eq!(read(format, header, "b").unwrap(), "2", "{format:?}");
        }
    }

    #[test]
    fn a_name_that_always_occurs_twice_is_a_column_that_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in.ndjson");
        std::fs::write(&path, r#"{"a":1,"b":2,"a":3}"#).unwrap();
        let file = File::open(&path).unwrap();
        let options = FileOptions::default();
        let ndjson = file_format(Format::Ndjson);
        let schema = ndjson.schema(&path, file, &options, &|_| None).unwrap();
        let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn types_are_guessed_from_as_many_rows_as_are_wanted() {
        let folder = tempfile::tempdir().unwrap();
        for (name, format, content) in [
            ("in.csv", Format::Csv, "a\n1\n2\nx\n"),
            (
                "in.ndjson",
                Format::Ndjson,
                "{\"a\":1}\n{\"a\":2}\n{\"a\":2.5}\n",
            ),
        ] {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            let guessed = |guessed_from: Option<u64>| {
                let options = FileOptions {
                    guessed_from,
                    ..FileOptions::default()
                };
                let file = File::open(&path).unwrap();
                let schema = file_format(format).schema(&path, file, &options, &|_| None);
                let schema = schema.unwrap();
                let first = schema.fields().first();
                first.map(|field| field.data_type().clone())
            };
            assert_eq!(guessed(Some(2)), Some(ArrowType::Int64), "{name}");
            let all = guessed(None);
            assert_ne!(all, Some(ArrowType::Int64), "{name}");
            assert_eq!(guessed(Some(3)), all, "{name}");
        }
    }

    #[test]
    fn a_missing_column_is_told_with_those_that_are_there() {
        let wanted = Field::new("price", DataType::Int64, false);
        for (names, hint) in [
            (&["pride", "id"][..], "; did you mean `pride`?"),
            (&["id", "at"], "; it has id, at"),
            (
                &[],
                "; it has no columns: it is empty, or its rows have no fields",
            ),
        ] {
            let error = missing_column(Path::new("a.csv"), &wanted, names).to_string();
            assert!(error.ends_with(hint), "{error}");
        }
    }

    #[test]
    fn a_file_of_json_without_any_object_says_what_is_wrong_with_its_first_value() {
        let folder = tempfile::tempdir().unwrap();
        for (name, content, wanted) in [
            (
                "in.ndjson",
                "\n{\"a\":NaN}\n",
                Err("in.ndjson:2: is not JSON: "),
            ),
            (
                "in.ndjson",
                "7\n8\n",
                Err("in.ndjson:1: is not a JSON object"),
            ),
            (
                "in.json",
                "[\n7]",
                Err("in.json:1: (line 2) is not a JSON object"),
            ),
            // Reading the rows reports the others.
            ("in.ndjson", "7\n{\"a\":1}\n", Ok(1)),
            ("in.ndjson", "{}\n", Ok(0)),
            ("in.ndjson", "", Ok(0)),
        ] {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            let file = File::open(&path).unwrap();
            let format = file_format(Format::Ndjson);
            let found = format.schema(&path, file, &FileOptions::default(), &|_| None);
            match (found, wanted) {
                (Ok(schema), Ok(wanted)) => {
                    assert_eq!(schema.fields().len(), wanted, "{content}");
                }
                (Err(error), Err(wanted)) => {
                    let error = error.to_string();
                    assert!(error.contains(wanted), "{content}: {error}");
                }
                (found, wanted) => panic!("{content}: {found:?}, wanted {wanted:?}"),
            }
        }
    }

    /// Writes a file with a row of so many columns.
    fn wide_file(folder: &Path, format: Format, columns: usize) -> PathBuf {
        let number: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let columns = (0..columns).map(|index| (index.to_string(), Arc::clone(&number)));
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let path = folder.join(format!("wide.{}", format.extension()));
        let mut output = OutputFile::create(&path, &batch.schema()).unwrap();
        output.write(&batch).unwrap();
        output.close().unwrap();
        path
    }

    #[test]
    fn files_of_every_format_have_a_limited_number_of_columns() {
        let folder = tempfile::tempdir().unwrap();
        for format in FORMATS {
            for (columns, is_read) in [(MAX_COLUMNS, true), (MAX_COLUMNS + 1, false)] {
                let path = wide_file(folder.path(), format.format(), columns);
                let file = File::open(&path).unwrap();
                let options = FileOptions::default();
                let schema = format.schema(&path, file, &options, &|_| None);
                match is_read {
                    true => assert_eq!(schema.unwrap().fields().len(), columns),
                    false => {
                        let refused = schema.unwrap_err().to_string();
                        let wanted = "has more than 4096 columns";
                        assert!(refused.contains(wanted), "{format:?}: {refused}");
                    }
                }
            }
        }
    }

    /// Each object has few names, and others than the ones before.
    #[test]
    fn objects_of_a_file_have_a_limited_number_of_names_together() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("names.ndjson");
        let lines: Vec<String> = (0..=MAX_COLUMNS)
            .map(|name| format!("{{\"{name}\":1}}\n"))
            .collect();
        std::fs::write(&path, lines.concat()).unwrap();
        let file = File::open(&path).unwrap();
        let format = file_format(Format::Ndjson);
        let schema = format.schema(&path, file, &FileOptions::default(), &|_| None);
        assert_eq!(schema.unwrap_err().kind(), Kind::Invalid);
    }
}
