//! File formats: how rows are read from files and written to them.
//!
//! One world for sources, labels, training sets and exports: each [`FileFormat`] is one file of
//! this crate and one row of [`FORMATS`]. A reader gives rows in chunks of columns, with the
//! place of each row and those that could not be read; what becomes of them is the caller's.
//! [`Output`] writes a file beside its place, and gathers statistics of its columns on the way.
//!
//! What is deliberately absent: where files are, and what their rows mean.

mod arrow;
mod csv;
mod ndjson;
mod output;
mod parquet;
mod parquet_writer;
mod sink;
mod statistics;
mod text;

use std::fmt::Debug;
use std::fs::File;
use std::path::Path;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;
use wafer_catalog::Format;
use wafer_core::{DataType, Digest, Field};
use wafer_store::{Error, Kind, Result};

pub use output::{Output, cell_text};
pub use sink::Sink;
pub use statistics::Statistics;
pub use text::append_object;

/// All formats. A new one is a file of this crate, a variant of [`Format`] and a row here.
const FORMATS: [&dyn FileFormat; 5] = [
    &parquet::Parquet,
    &csv::Csv,
    &ndjson::Ndjson,
    &arrow::ArrowFile,
    &arrow::ArrowStream,
];

/// Returns the implementation of a format.
pub fn file_format(format: Format) -> &'static dyn FileFormat {
    let mut formats = FORMATS.into_iter();
    let found = formats.find(|other| other.format() == format);
    found.expect("every format has its row")
}

/// A file format: how the rows of a file are read, and written.
pub trait FileFormat: Debug + Send + Sync + 'static {
    /// Which format this is.
    fn format(&self) -> Format;

    /// The columns of a file, with their types.
    ///
    /// A text format has no types of its own: `declared` gives those of columns that somebody
    /// reads, and the whole file says what other columns are.
    ///
    /// # Errors
    /// Returns an error when the file cannot be read.
    fn schema(&self, path: &Path, declared: &dyn Fn(&str) -> Option<DataType>)
    -> Result<SchemaRef>;

    /// Opens a file to read some of its columns. A binary format gives them with the types that
    /// the file has, which the caller converts; a text format parses them as `columns` says.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when the file cannot be read or lacks one of the columns. A
    /// format whose rows each name their columns rejects such rows one by one instead.
    fn read(&self, path: &Path, file: File, columns: &[Field]) -> Result<Box<dyn RowReader>>;

    /// The number of rows of a file, where the file says it.
    fn count_rows(&self, _file: File) -> Option<u64> {
        None
    }

    /// Starts a file of rows with these columns.
    ///
    /// # Errors
    /// Returns an error when the format cannot have a column, or the file cannot be written.
    fn write(&self, sink: Sink, schema: &SchemaRef) -> WriteResult<Box<dyn RowWriter>>;
}

/// The result of writing; the error names no file, which the caller does.
pub type WriteResult<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Reads the rows of one file in their order. Blocks.
pub trait RowReader: Debug + Send {
    /// The next rows, at most [`CHUNK_ROWS`](wafer_runtime::CHUNK_ROWS) of them; `None` at the
    /// end.
    ///
    /// # Errors
    /// Returns an error when the file cannot be read any further.
    fn next(&mut self) -> Result<Option<Rows>>;
}

/// Some rows of a file.
#[derive(Debug)]
pub struct Rows {
    /// The columns that were asked for, in that order, with a value for each readable row.
    pub columns: Vec<ArrayRef>,
    /// For each readable row its number: from 0 in binary formats, its line in text formats.
    pub numbers: Vec<u64>,
    /// The rows that could not be read: their numbers, and why.
    pub rejects: Vec<(u64, String)>,
    /// The number of rows that were looked at, readable or not.
    pub seen: u64,
}

/// Writes the rows of one file. Blocks.
pub trait RowWriter: Send {
    /// Writes rows, and adds them to the statistics of their columns, at the latest when the
    /// file is finished.
    ///
    /// # Errors
    /// Returns an error when the file cannot be written.
    fn write(&mut self, batch: &RecordBatch, statistics: &mut [Statistics]) -> WriteResult<()>;

    /// Writes the end of the file; returns the digest of all its bytes.
    ///
    /// # Errors
    /// Returns an error when the file cannot be written.
    fn finish(self: Box<Self>, statistics: &mut [Statistics]) -> WriteResult<Digest>;
}

/// Creates the error of a file that cannot be read.
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

/// The columns of a text file by the names in it, in the order in which they are wanted.
fn places(path: &Path, names: &[&str], columns: &[Field]) -> Result<Vec<usize>> {
    let place = |field: &Field| {
        let place = names.iter().position(|name| *name == field.name);
        place.ok_or_else(|| missing_column(path, field, names))
    };
    columns.iter().map(place).collect()
}

/// Creates the error of a file that lacks a column.
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
