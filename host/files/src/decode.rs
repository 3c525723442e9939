//! Decoding of Arrow and Parquet files, whose bytes may be made to do harm.
//!
//! The libraries of these formats trust lengths and offsets that they find in a file: a damaged or
//! hostile file can make them panic, allocate any amount of memory, overflow the stack or never
//! end. So this folder is the only one that gives such files to them. The lengths of an Arrow file
//! are compared with its size before anything is allocated for them, and those of its compressed
//! buffers with the memory that there is for it; panics become errors, and the programs of Wafer do
//! all of it in a child process with limits (`decode/worker.rs`), whose end cannot harm them. See
//! docs/decisions/0019-child-process-decodes.md.

mod arrow;
mod parquet;
mod worker;

use std::collections::BTreeMap;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType as ArrowType, Field as ArrowField, Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use wafer_catalog::Format;
use wafer_core::cut_to;
use wafer_store::{Error, Kind, Result};

use crate::plain_size::total;
use crate::{ReadColumn, check_column_count, column_positions, missing_values, unreadable};

pub use worker::{decode_in_child, decode_worker, this_program};

/// The number of rows that are read from any file, and the number of further ones for each byte of
/// it. Rows of nulls, rows without columns and runs of one value take next to no bytes, so that a
/// small file can have more of them than could ever be worked on.
const ROWS: u64 = 1 << 20;
const ROWS_PER_BYTE: u64 = 1_024;
/// The size of the values that are read from any file, each written out, and the further size for
/// each byte of it. Any number of rows can name one large value of a dictionary, or of a page that
/// is compressed: each chunk of them is small, and all of them together could be of any size, as
/// could be what is written of them. It is as if each of the rows above had 8 KiB, and each of the
/// further ones 64 bytes.
const VALUE_BYTES: u64 = 8 << 30;
const VALUE_BYTES_PER_BYTE: u64 = 64 << 10;

/// What is to be read from a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) format: Format,
    /// The path of the file, for errors. The file itself is open already.
    pub(crate) path: String,
    /// The columns to read, or `None` to read nothing but the metadata of the file.
    pub(crate) columns: Option<Vec<ReadColumn>>,
    /// The size that the values of some rows may have that are handed on together, unless it is a
    /// single row.
    pub(crate) piece_bytes: u64,
    /// The size that the values of a single row may have.
    pub(crate) row_bytes: u64,
}

/// A file whose metadata were read.
pub(crate) struct Decoded {
    /// All columns of the file, or those that were asked for in their order.
    pub(crate) schema: SchemaRef,
    /// The number of rows, if the file records it. A damaged file may record any number.
    pub(crate) rows: Option<u64>,
    /// The rows with the columns that were asked for, in batches of any size.
    pub(crate) batches: Batches,
}

/// The rows of a file. An error is the last item.
pub(crate) type Batches = Box<dyn Iterator<Item = Result<DecodedBatch>> + Send>;

/// Some consecutive rows of a file.
#[derive(Debug)]
pub(crate) struct DecodedBatch {
    /// All rows, those that are to be rejected among them.
    pub(crate) rows: RecordBatch,
    /// What is wrong with the rows that are to be rejected, by their indexes.
    pub(crate) faults: BTreeMap<usize, String>,
}

impl From<RecordBatch> for DecodedBatch {
    fn from(rows: RecordBatch) -> Self {
        Self {
            rows,
            faults: BTreeMap::new(),
        }
    }
}

impl DecodedBatch {
    /// Takes the first rows out of the batch.
    pub(crate) fn take_first(&mut self, count: usize) -> Self {
        let rest = self.faults.split_off(&count);
        let rest = rest.into_iter().map(|(row, fault)| (row - count, fault));
        let first = Self {
            rows: self.rows.slice(0, count),
            faults: std::mem::replace(&mut self.faults, rest.collect()),
        };
        let left = self.rows.num_rows() - count;
        self.rows = self.rows.slice(count, left);
        first
    }
}

impl Request {
    fn path(&self) -> &Path {
        Path::new(&self.path)
    }

    /// Checks the size of the values of rows that are handed on together. `first` is the number of
    /// the first one.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] for a single row that is too large.
    pub(crate) fn check_rows(&self, first: u64, rows: &RecordBatch) -> Result<()> {
        if rows.num_rows() > 1 {
            return Ok(());
        }
        let bytes = total(rows.columns());
        match bytes > self.row_bytes {
            true => Err(Error::invalid(format!(
                "{}: row {first}: its values take {} MiB; at most {} MiB are read",
                self.path,
                bytes >> 20,
                self.row_bytes >> 20
            ))),
            false => Ok(()),
        }
    }

    /// Opens the file and reads its metadata: in a child process, if the program has said how to
    /// start one.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when the file cannot be read or lacks one of the columns.
    pub(crate) fn open(self, file: File) -> Result<Decoded> {
        match worker::program() {
            Some(program) => worker::open(program, &self, &file),
            None => self.open_here(file),
        }
    }

    /// Opens the file in this process. Panics of the libraries become errors.
    fn open_here(self, file: File) -> Result<Decoded> {
        let metadata = file.metadata().map_err(|e| unreadable(self.path(), e))?;
        let bytes = metadata.len();
        let decoded = guarded(&self, || match self.format {
            Format::Parquet => parquet::open(&self, file),
            Format::Arrow | Format::ArrowStream => arrow::open(&self, file),
            Format::Csv | Format::Ndjson => {
                let message = "text is parsed in this process, and not by a library";
                Err(Error::new(Kind::Internal, message))
            }
        })?;
        check_row_count(&self, decoded.rows.unwrap_or(0), bytes)?;
        let mut batches = decoded.batches;
        let (mut rows, mut values, mut is_done) = (0_u64, 0_u64, false);
        let batches = std::iter::from_fn(move || {
            if is_done {
                return None;
            }
            let next = guarded(&self, || {
                let next = batches.next().transpose()?;
                if let Some(DecodedBatch { rows: more, .. }) = &next {
                    rows = rows.saturating_add(more.num_rows() as u64);
                    check_row_count(&self, rows, bytes)?;
                    values = values.saturating_add(total(more.columns()));
                    check_value_bytes(&self, values, bytes)?;
                }
                Ok(next)
            });
            let next = next.transpose();
            is_done = !matches!(next, Some(Ok(_)));
            next
        });
        Ok(Decoded {
            batches: Box::new(batches),
            ..decoded
        })
    }
}

/// Calls a library, and turns a panic into an error. What panicked must not be used again.
fn guarded<T>(request: &Request, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let result = catch_unwind(AssertUnwindSafe(work));
    result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        let text = cut_to(text.unwrap_or("no message"), 256);
        Err(damaged(request, &format!("its reader stopped at: {text}")))
    })
}

/// Checks that a file of so many bytes has no more rows than are read from it.
///
/// # Errors
/// Returns [`Kind::Invalid`] if it has more.
fn check_row_count(request: &Request, rows: u64, bytes: u64) -> Result<()> {
    let most = bytes.saturating_mul(ROWS_PER_BYTE).saturating_add(ROWS);
    if rows <= most {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{} has {rows} rows or more in {bytes} bytes, and at most {most} rows are read from a file \
         of this size: its rows hold next to nothing, or it is damaged",
        request.path
    )))
}

/// Checks that the values of a file of so many bytes have no larger size, each written out, than is
/// read from it.
///
/// # Errors
/// Returns [`Kind::Invalid`] if they have.
fn check_value_bytes(request: &Request, values: u64, bytes: u64) -> Result<()> {
    let most = bytes
        .saturating_mul(VALUE_BYTES_PER_BYTE)
        .saturating_add(VALUE_BYTES);
    if values <= most {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{}: its values take {} MiB or more when each is written out, and at most {} MiB are read from a \
         file of {bytes} bytes: many rows have the same large values, or it is damaged. Write it again \
         without dictionaries and compression, or with a short name in the place of each large value",
        request.path,
        values >> 20,
        most >> 20
    )))
}

/// Creates the error of a file that its reader does not survive.
fn damaged(request: &Request, what: &str) -> Error {
    let path = &request.path;
    let message = format!("{path} cannot be read: it is damaged ({what}); write it again");
    Error::new(Kind::Invalid, message)
}

/// Checks the number of columns of a file, those within columns among them, before anything is made
/// for each.
///
/// # Errors
/// Returns [`Kind::Invalid`] for too many.
fn check_width(request: &Request, schema: &Schema) -> Result<()> {
    check_column_count(request.path(), schema.flattened_fields().len())
}

/// Chooses columns of the batches of a file.
struct Projection {
    schema: SchemaRef,
    /// Where each column is in a batch; `None` for one that the file lacks, which is null.
    positions: Vec<Option<usize>>,
}

impl Projection {
    /// Finds the columns in the schema of a file.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when the file lacks a column that is not nullable, or has several
    /// of its name.
    fn new(request: &Request, file: &Schema, columns: &[ReadColumn]) -> Result<Self> {
        let names: Vec<&str> = file.fields().iter().map(|f| f.name().as_str()).collect();
        let positions = column_positions(request.path(), &names, columns)?;
        let fields = positions.iter().zip(columns);
        let fields = fields.map(|(position, column)| match position {
            // Whether a column may have nulls is judged by those who read it.
            Some(position) => file.field(*position).clone().with_nullable(true),
            None => ArrowField::new(&column.field.name, ArrowType::Null, true),
        });
        Ok(Self {
            schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
            positions,
        })
    }

    /// Returns the chosen columns of a batch.
    fn apply(&self, request: &Request, batch: &RecordBatch) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        let columns = self.positions.iter().map(|position| match position {
            Some(position) => Arc::clone(batch.column(*position)),
            None => missing_values(rows),
        });
        record_batch(request, &self.schema, columns.collect(), rows)
    }
}

/// Makes a batch of columns, of which there may be none.
fn record_batch(
    request: &Request,
    schema: &SchemaRef,
    columns: Vec<ArrayRef>,
    rows: usize,
) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .map_err(|e| unreadable(request.path(), e))
}

/// Returns a file of which only the metadata were asked for.
fn metadata_only(schema: SchemaRef, rows: Option<u64>) -> Decoded {
    Decoded {
        schema,
        rows,
        batches: Box::new(std::iter::empty()),
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::Int64Array;
    use wafer_catalog::MAX_ROW_BYTES;

    use super::*;
    use crate::plain_size::PIECE_BYTES;

    fn request() -> Request {
        Request {
            format: Format::Arrow,
            path: "in.arrow".to_owned(),
            columns: None,
            piece_bytes: PIECE_BYTES,
            row_bytes: MAX_ROW_BYTES,
        }
    }

    #[test]
    fn rows_are_limited_by_the_size_of_their_file() {
        for (rows, bytes, wanted) in [
            (0, 0, true),
            (ROWS, 0, true),
            (ROWS + 1, 0, false),
            (ROWS + 2_048, 2, true),
            (ROWS + 2_049, 2, false),
            (1 << 40, 500, false),
            (u64::MAX, 1 << 30, false),
            (u64::MAX, u64::MAX, true),
        ] {
            let found = check_row_count(&request(), rows, bytes);
            assert_eq!(found.is_ok(), wanted, "{rows} rows of {bytes} bytes");
        }
    }

    #[test]
    fn values_are_limited_together_by_the_size_of_their_file() {
        for (values, bytes, wanted) in [
            (0, 0, true),
            (VALUE_BYTES, 0, true),
            (VALUE_BYTES + 1, 0, false),
            (VALUE_BYTES + (2 << 16), 2, true),
            (VALUE_BYTES + (2 << 16) + 1, 2, false),
            (u64::MAX, 1 << 30, false),
            (u64::MAX, u64::MAX, true),
        ] {
            let found = check_value_bytes(&request(), values, bytes);
            assert_eq!(found.is_ok(), wanted, "{values} of {bytes} bytes");
        }
    }

    #[test]
    fn faults_stay_with_their_rows() {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..10));
        let mut batch = DecodedBatch::from(RecordBatch::try_from_iter([("n", numbers)]).unwrap());
        batch.faults = [0, 3, 4, 9].map(|row| (row, row.to_string())).into();
        for (count, wanted) in [
            (4, vec![(0, "0"), (3, "3")]),
            (1, vec![(0, "4")]),
            (0, vec![]),
            (5, vec![(4, "9")]),
        ] {
            let first = batch.take_first(count);
            assert_eq!(first.rows.num_rows(), count);
            let faults = first.faults.iter();
            let faults: Vec<_> = faults.map(|(row, fault)| (*row, fault.as_str())).collect();
            assert_eq!(faults, wanted);
        }
        assert_eq!(batch.rows.num_rows(), 0);
    }
}
