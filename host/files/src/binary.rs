//! Reading the binary formats: the rows of a file in chunks of a bounded size.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use wafer_catalog::Format;
use wafer_core::oversized_decimals;
use wafer_runtime::CHUNK_ROWS;
use wafer_store::{Error, Result};

use crate::decode::{Batch, Batches, Decoded, Request};
use crate::plain_size::{batch_bytes, first_rows};
use crate::{ReadColumn, RowReader, Rows};

/// The greatest size of the values of a row that are read.
const ROW_BYTES: u64 = 256 << 20;

/// Returns the columns of a file.
pub(crate) fn schema(format: Format, path: &Path, file: File) -> Result<SchemaRef> {
    Ok(metadata(format, path, file)?.0)
}

/// Returns the number of rows of a file, if the file can be read and records it.
pub(crate) fn count_rows(format: Format, file: File) -> Option<u64> {
    metadata(format, Path::new(""), file).ok()?.1
}

fn metadata(format: Format, path: &Path, file: File) -> Result<(SchemaRef, Option<u64>)> {
    let mut decoded = request(format, path, None).open(file)?;
    // There are no batches. The end is read so that the child process can be used again.
    decoded.batches.next().transpose()?;
    Ok((decoded.schema, decoded.rows))
}

/// Opens a file to read some of its columns.
pub(crate) fn read(
    format: Format,
    path: &Path,
    file: File,
    columns: &[ReadColumn],
) -> Result<Box<dyn RowReader>> {
    let request = request(format, path, Some(columns.to_vec()));
    let Decoded {
        schema, batches, ..
    } = request.open(file)?;
    Ok(Box::new(Reader {
        path: path.to_owned(),
        batches,
        rest: Batch::from(RecordBatch::new_empty(schema)),
        next_row: 0,
    }))
}

fn request(format: Format, path: &Path, columns: Option<Vec<ReadColumn>>) -> Request {
    Request {
        format,
        path: path.display().to_string(),
        columns,
    }
}

struct Reader {
    path: PathBuf,
    batches: Batches,
    /// The rows that were decoded and not returned yet, because batches of a file may be larger
    /// than a chunk.
    rest: Batch,
    next_row: u64,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("Reader");
        debug.field("path", &self.path).finish_non_exhaustive()
    }
}

impl RowReader for Reader {
    fn next(&mut self) -> Result<Option<Rows>> {
        while self.rest.rows.num_rows() == 0 {
            match self.batches.next().transpose()? {
                None => return Ok(None),
                Some(batch) => self.rest = batch,
            }
        }
        let Batch { rows, mut faults } = self.piece()?;
        // Whoever reads such a value, or only copies it, would lose digits.
        for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
            for (row, message) in oversized_decimals(column) {
                let fault = || format!("field `{}`: {message}", field.name());
                faults.entry(row).or_insert_with(fault);
            }
        }
        let first = self.next_row;
        self.next_row += rows.num_rows() as u64;
        let read = Rows {
            columns: rows.columns().to_vec(),
            numbers: (first..self.next_row).collect(),
            rejects: Vec::new(),
            seen: rows.num_rows() as u64,
        };
        Ok(Some(read.reject(faults)))
    }
}

impl Reader {
    /// Takes the next rows, as many as a chunk may have.
    fn piece(&mut self) -> Result<Batch> {
        let first = first_rows(&self.rest.rows, CHUNK_ROWS);
        let (count, bytes) = (first.num_rows(), batch_bytes(&first));
        if count == 1 && bytes > ROW_BYTES {
            return Err(Error::invalid(format!(
                "{}: row {}: its values take {} MiB; at most {} are read",
                self.path.display(),
                self.next_row,
                bytes >> 20,
                ROW_BYTES >> 20
            )));
        }
        Ok(self.rest.take_first(count))
    }
}
