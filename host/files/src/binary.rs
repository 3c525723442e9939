//! Reading the binary formats: the rows of a file in chunks of a bounded size.

use std::fs::File;
use std::path::Path;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use wafer_catalog::{Cuts, FileOptions, Format};
use wafer_core::oversized_decimals;
use wafer_runtime::CHUNK_ROWS;
use wafer_store::Result;

use crate::decode::{Batches, Decoded, DecodedBatch, Request};
use crate::plain_size::{FORMER_PIECE_BYTES, PIECE_BYTES, first_rows};
use crate::{ReadColumn, RowReader, Rows};

/// Returns the columns of a file.
pub(crate) fn schema(format: Format, path: &Path, file: File) -> Result<SchemaRef> {
    Ok(metadata(format, path, file)?.0)
}

/// Returns the number of rows of a file, if the file can be read and records it.
pub(crate) fn count_rows(format: Format, file: File) -> Option<u64> {
    metadata(format, Path::new(""), file).ok()?.1
}

fn metadata(format: Format, path: &Path, file: File) -> Result<(SchemaRef, Option<u64>)> {
    let options = FileOptions::default();
    let mut decoded = request(format, path, &options, None).open(file)?;
    // There are no batches. The end is read so that the child process can be used again.
    decoded.batches.next().transpose()?;
    Ok((decoded.schema, decoded.rows))
}

/// Opens a file to read some of its columns.
pub(crate) fn read(
    format: Format,
    path: &Path,
    file: File,
    options: &FileOptions,
    columns: &[ReadColumn],
) -> Result<Box<dyn RowReader>> {
    let request = request(format, path, options, Some(columns.to_vec()));
    let Decoded {
        schema, batches, ..
    } = request.clone().open(file)?;
    Ok(Box::new(Reader {
        request,
        batches,
        rest: DecodedBatch::from(RecordBatch::new_empty(schema)),
        next_row: 0,
    }))
}

fn request(
    format: Format,
    path: &Path,
    options: &FileOptions,
    columns: Option<Vec<ReadColumn>>,
) -> Request {
    Request {
        format,
        path: path.display().to_string(),
        columns,
        piece_bytes: match options.cuts {
            Cuts::ByBytes => PIECE_BYTES,
            Cuts::ByRows => FORMER_PIECE_BYTES,
        },
        row_bytes: options.most_row_bytes(),
    }
}

struct Reader {
    request: Request,
    batches: Batches,
    /// The rows that were decoded and not returned yet, because batches of a file may be larger
    /// than a chunk.
    rest: DecodedBatch,
    next_row: u64,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("Reader");
        debug
            .field("request", &self.request)
            .finish_non_exhaustive()
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
        let DecodedBatch { rows, mut faults } = self.piece()?;
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
    fn piece(&mut self) -> Result<DecodedBatch> {
        let first = first_rows(&self.rest.rows, CHUNK_ROWS, self.request.piece_bytes);
        self.request.check_rows(self.next_row, &first)?;
        Ok(self.rest.take_first(first.num_rows()))
    }
}
