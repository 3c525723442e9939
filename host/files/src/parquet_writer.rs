//! Writes Parquet files, encoding their columns in parallel.
//!
//! Rows are kept in memory until a row group is full, by their number or by their size. Then each
//! column of the group is encoded on some thread, and the encoded columns are appended to the file
//! in order. Where a group ends depends on the rows alone, so that the same rows give the same
//! bytes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
};
use parquet::basic::Compression;
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;

use wafer_catalog::Cuts;
use wafer_core::Digest;

use crate::row_size::{batch_bytes, rows_within};
use crate::{RowWriter, Sink, Statistics, WriteResult};

/// The number of rows of a row group: few enough to keep in memory until all columns are encoded,
/// and enough for readers to skip whole groups.
const ROW_GROUP_ROWS: usize = 262_144;

/// The size of the values of a row group, in bytes, unless it has a single row. While it is
/// encoded, the encoded columns are in memory too.
const ROW_GROUP_BYTES: u64 = 16 << 20;

/// The maximum size of a dictionary, in bytes. A column with a larger one is written without it.
const DICTIONARY_BYTES: usize = 64 << 10;

/// Writes a Parquet file whose columns are encoded in parallel.
pub(crate) struct ParquetWriter {
    file: SerializedFileWriter<Sink>,
    factory: ArrowRowGroupWriterFactory,
    schema: SchemaRef,
    /// The rows of the next row group.
    batches: Vec<RecordBatch>,
    rows: usize,
    /// The size of the values of these rows, in bytes.
    bytes: u64,
    /// The size that the values of a row group may have, in bytes, unless it has a single row.
    most_bytes: u64,
    groups: usize,
}

/// A column of a row group, while it is encoded.
struct Column<'a> {
    index: usize,
    /// The writers of the primitive columns that the column consists of.
    writers: Vec<ArrowColumnWriter>,
    statistics: &'a mut Statistics,
}

impl ParquetWriter {
    /// Starts a file with these columns, whose row groups end as `cuts` says.
    pub(crate) fn create(sink: Sink, schema: &SchemaRef, cuts: Cuts) -> Result<Self> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            // Numbers that rarely repeat are smaller and faster without a dictionary.
            .set_dictionary_page_size_limit(DICTIONARY_BYTES)
            .set_created_by(concat!("wafer ", env!("CARGO_PKG_VERSION")).to_owned());
        let writer =
            ArrowWriter::try_new(sink, SchemaRef::clone(schema), Some(properties.build()))?;
        let (file, factory) = writer.into_serialized_writer()?;
        Ok(Self {
            file,
            factory,
            schema: SchemaRef::clone(schema),
            batches: Vec::new(),
            rows: 0,
            bytes: 0,
            most_bytes: match cuts {
                Cuts::ByBytes => ROW_GROUP_BYTES,
                Cuts::ByRows => u64::MAX,
            },
            groups: 0,
        })
    }

    /// Encodes the waiting rows and appends them to the file as a row group.
    fn end_group(&mut self, statistics: &mut [Statistics]) -> Result<()> {
        let batches = std::mem::take(&mut self.batches);
        (self.rows, self.bytes) = (0, 0);
        let mut columns: Vec<Column<'_>> = statistics
            .iter_mut()
            .enumerate()
            .map(|(index, statistics)| Column {
                index,
                writers: Vec::new(),
                statistics,
            })
            .collect();
        let writers = self.factory.create_column_writers(self.groups)?;
        for (leaf, writer) in writers.into_iter().enumerate() {
            let root = self.file.schema_descr().get_column_root_idx(leaf);
            columns[root].writers.push(writer);
        }
        let chunks = encode(columns, &batches, &self.schema)?;
        let mut group = self.file.next_row_group()?;
        for chunk in chunks {
            chunk.append_to_row_group(&mut group)?;
        }
        group.close()?;
        self.groups += 1;
        Ok(())
    }
}

impl ParquetWriter {
    /// Returns how many of some rows belong to the present row group: none if it has rows, and the
    /// first one does not fit.
    fn fitting(&self, rows: &RecordBatch) -> usize {
        let count = rows.num_rows().min(ROW_GROUP_ROWS - self.rows);
        let left = self.most_bytes.saturating_sub(self.bytes);
        let count = rows_within(&rows.slice(0, count), left);
        match self.rows {
            0 => count.max(1),
            _ => count,
        }
    }
}

impl RowWriter for ParquetWriter {
    fn write(&mut self, batch: &RecordBatch, statistics: &mut [Statistics]) -> WriteResult<()> {
        let mut rest = batch.clone();
        while rest.num_rows() > 0 {
            let count = self.fitting(&rest);
            if count > 0 {
                let first = rest.slice(0, count);
                self.rows += count;
                self.bytes += batch_bytes(&first);
                self.batches.push(first);
            }
            rest = rest.slice(count, rest.num_rows() - count);
            let is_full = self.rows == ROW_GROUP_ROWS || self.bytes >= self.most_bytes;
            if is_full || rest.num_rows() > 0 {
                self.end_group(statistics)?;
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, statistics: &mut [Statistics]) -> WriteResult<Digest> {
        if !self.batches.is_empty() {
            self.end_group(statistics)?;
        }
        // All rows are encoded, so that only the system can fail, whatever the error is called.
        let sink = self.file.into_inner().map_err(std::io::Error::from)?;
        Ok(sink.finish()?)
    }
}

/// Encodes the columns of a row group on as many threads as there are processors. Returns the
/// chunks in the order of the columns.
fn encode(
    columns: Vec<Column<'_>>,
    batches: &[RecordBatch],
    schema: &SchemaRef,
) -> Result<Vec<ArrowColumnChunk>> {
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let tasks: Vec<Mutex<Option<Column<'_>>>> =
        columns.into_iter().map(|c| Mutex::new(Some(c))).collect();
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, Vec<ArrowColumnChunk>)>> {
        let mut done = Vec::new();
        while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
            let column = task.lock().unwrap_or_else(PoisonError::into_inner).take();
            let column = column.expect("each number is drawn once");
            done.push((column.index, column.encode(batches, schema)?));
        }
        Ok(done)
    };
    let mut chunks = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers.min(tasks.len()))
            .map(|_| scope.spawn(work))
            .collect();
        let mut chunks = Vec::new();
        for thread in threads {
            let done = thread.join();
            chunks.extend(done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok::<_, ParquetError>(chunks)
    })?;
    chunks.sort_by_key(|(index, _)| *index);
    Ok(chunks.into_iter().flat_map(|(_, chunks)| chunks).collect())
}

impl Column<'_> {
    /// Encodes the values of the column, and adds them to its statistics.
    fn encode(
        mut self,
        batches: &[RecordBatch],
        schema: &SchemaRef,
    ) -> Result<Vec<ArrowColumnChunk>> {
        let field = schema.field(self.index);
        for batch in batches {
            let values = batch.column(self.index);
            self.statistics.add(values);
            let leaves = compute_leaves(field, values)?;
            for (writer, leaf) in self.writers.iter_mut().zip(&leaves) {
                writer.write(leaf)?;
            }
        }
        self.writers
            .into_iter()
            .map(ArrowColumnWriter::close)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::Path;
    use std::sync::Arc;

    use arrow_array::{ArrayRef, StringArray};
    use parquet::file::reader::{FileReader as _, SerializedFileReader};

    use super::*;

    fn texts(rows: usize, bytes: usize) -> RecordBatch {
        let text: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(bytes); rows]));
        RecordBatch::try_from_iter([("x", text)]).unwrap()
    }

    /// Writes batches to a file, and returns the number of rows of each row group.
    fn groups(path: &Path, batches: &[RecordBatch], cuts: Cuts) -> Vec<i64> {
        let schema = batches[0].schema();
        let mut statistics = [Statistics::new("x", schema.field(0).data_type())];
        let sink = Sink::new(File::create(path).unwrap());
        let mut writer = ParquetWriter::create(sink, &schema, cuts).unwrap();
        for batch in batches {
            writer.write(batch, &mut statistics).unwrap();
            assert!(writer.bytes < writer.most_bytes && writer.rows < ROW_GROUP_ROWS);
        }
        Box::new(writer).finish(&mut statistics).unwrap();
        let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
        let groups = reader.metadata().row_groups().iter();
        groups.map(|group| group.num_rows()).collect()
    }

    #[test]
    fn row_groups_end_by_their_rows_or_their_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        let by_bytes = |batches: &[RecordBatch]| groups(&path, batches, Cuts::ByBytes);
        let by_rows = |batches: &[RecordBatch]| groups(&path, batches, Cuts::ByRows);
        let small = vec![texts(200_000, 1); 3];
        let wanted = [262_144, 262_144, 75_712];
        assert_eq!(by_bytes(&small), wanted);
        assert_eq!(by_rows(&small), wanted);
        // Of rows of a megabyte and four bytes, 15 fit.
        let large = texts(40, 1 << 20);
        let parts = [large.slice(0, 7), large.slice(7, 1), large.slice(8, 32)];
        assert_eq!(by_bytes(&[large]), [15, 15, 10]);
        assert_eq!(by_bytes(&parts), [15, 15, 10]);
        assert_eq!(by_rows(&parts), [40]);
        // A row that is larger than a group has a group of its own.
        let huge = texts(1, 17 << 20);
        let batches = [texts(2, 1), huge.clone(), huge, texts(2, 1)];
        assert_eq!(by_bytes(&batches), [2, 1, 1, 2]);
        assert_eq!(by_rows(&batches), [6]);
    }
}
