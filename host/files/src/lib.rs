//! File formats: how rows are read from files and written to them.
//!
//! The same formats serve sources, labels, training sets and exports. Each [`FileFormat`] is one
//! file of this crate and one entry of `FORMATS`. A [`RowReader`] returns rows in chunks of
//! columns, with the number of each row and the rows that could not be read; the caller decides
//! what happens to those. An [`Output`] writes a file under a temporary name, gathers statistics
//! of its columns, and renames the file when it is complete.
//!
//! What is deliberately absent: where files come from, and what their rows mean.

mod arrow;
mod csv;
mod ndjson;
mod output;
mod parquet;
mod parquet_writer;
mod sink;
mod statistics;
mod table_format;
mod text;

use std::fmt::Debug;
use std::fs::File;
use std::path::Path;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;
use wafer_catalog::Format;
use wafer_core::{DataType, Digest, EpochUnit, Field};
use wafer_store::{Error, Kind, Result};

pub use output::{Output, cell_text};
pub use sink::Sink;
pub use statistics::Statistics;
pub use table_format::{TableFormat, check_no_table};
pub use text::append_object;

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

    /// Returns the columns of a file, with their types.
    ///
    /// A text format has no types of its own. `declared` returns the types of the columns that are
    /// read, and the types of other columns are inferred from the whole file.
    ///
    /// # Errors
    /// Returns an error when the file cannot be read.
    fn schema(&self, path: &Path, declared: &dyn Fn(&str) -> Option<DataType>)
    -> Result<SchemaRef>;

    /// Opens a file to read some of its columns. A binary format returns them with the types that
    /// the file has, which the caller converts; a text format parses them as the types of
    /// `columns`.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when the file cannot be read or lacks one of the columns. Rows of
    /// NDJSON each name their columns, so a missing column is found when a row is read, and the
    /// row is rejected unless the column is nullable.
    fn read(&self, path: &Path, file: File, columns: &[ReadColumn]) -> Result<Box<dyn RowReader>>;

    /// Returns the number of rows of a file, or `None` if the file does not record it.
    fn count_rows(&self, _file: File) -> Option<u64> {
        None
    }

    /// Starts a file of rows with these columns.
    ///
    /// # Errors
    /// Returns an error when the format does not support a column, or the file cannot be written.
    fn write(&self, sink: Sink, schema: &SchemaRef) -> WriteResult<Box<dyn RowWriter>>;
}

/// A column to read from a file.
#[derive(Clone, Debug)]
pub struct ReadColumn {
    /// The name, type and nullability of the column.
    pub field: Field,
    /// The unit of integers that stand for times, if it is declared. Text formats use it; the
    /// columns of binary formats are converted by the caller.
    pub unit: Option<EpochUnit>,
}

impl From<Field> for ReadColumn {
    fn from(field: Field) -> Self {
        Self { field, unit: None }
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

/// Returns the positions of the wanted columns among the names in a file.
fn column_positions(path: &Path, names: &[&str], columns: &[ReadColumn]) -> Result<Vec<usize>> {
    let position = |ReadColumn { field, .. }: &ReadColumn| {
        let position = names.iter().position(|name| *name == field.name);
        position.ok_or_else(|| missing_column(path, field, names))
    };
    columns.iter().map(position).collect()
}

/// Creates the error of a file that lacks a column. It suggests the most similar name.
pub fn missing_column(path: &Path, field: &Field, names: &[&str]) -> Error {
    let hint = match wafer_catalog::nearest(&field.name, names.iter().copied()) {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None => format!("; it has {}", names.join(", ")),
    };
    Error::invalid(format!(
        "{} has no column `{}` ({}), which the function reads{hint}",
        path.display(),
        field.name,
        field.data_type
    ))
}
