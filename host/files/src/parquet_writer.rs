//! Writes Parquet files, encoding their columns in parallel.
//!
//! Rows are kept in memory until a row group is full. Then each column of the group is encoded on
//! some thread, and the encoded columns are appended to the file in order.

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

use wafer_core::Digest;

use crate::{RowWriter, Sink, Statistics, WriteResult};

/// The number of rows of a row group: few enough to keep in memory until all columns are encoded,
/// and enough for readers to skip whole groups.
const ROW_GROUP_ROWS: usize = 262_144;

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
    /// Starts a file with these columns.
    pub(crate) fn create(sink: Sink, schema: &SchemaRef) -> Result<Self> {
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
            groups: 0,
        })
    }

    /// Encodes the waiting rows and appends them to the file as a row group.
    fn end_group(&mut self, statistics: &mut [Statistics]) -> Result<()> {
        let batches = std::mem::take(&mut self.batches);
        self.rows = 0;
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

impl RowWriter for ParquetWriter {
    fn write(&mut self, batch: &RecordBatch, statistics: &mut [Statistics]) -> WriteResult<()> {
        let mut rest = batch.clone();
        while self.rows + rest.num_rows() >= ROW_GROUP_ROWS {
            let room = ROW_GROUP_ROWS - self.rows;
            self.batches.push(rest.slice(0, room));
            rest = rest.slice(room, rest.num_rows() - room);
            self.end_group(statistics)?;
        }
        if rest.num_rows() > 0 {
            self.rows += rest.num_rows();
            self.batches.push(rest);
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, statistics: &mut [Statistics]) -> WriteResult<Digest> {
        if !self.batches.is_empty() {
            self.end_group(statistics)?;
        }
        Ok(self.file.into_inner()?.finish()?)
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
