//! The format Apache Parquet. Files are written by `parquet_writer.rs`, and the old type of times,
//! INT96, is read by `parquet/int96.rs`.

mod int96;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_schema::SchemaRef;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use wafer_catalog::{FileOptions, Format};
use wafer_core::DataType;
use wafer_runtime::CHUNK_ROWS;
use wafer_store::{Error, Kind, Result};

use crate::parquet::int96::{Int96Columns, Int96Times};
use crate::parquet_writer::ParquetWriter;
use crate::{
    FileFormat, ReadColumn, RowReader, RowWriter, Rows, Sink, WriteResult, column_positions,
    missing_values, unreadable,
};

/// The format Apache Parquet.
#[derive(Debug)]
pub(crate) struct Parquet;

impl FileFormat for Parquet {
    fn format(&self) -> Format {
        Format::Parquet
    }

    fn schema(
        &self,
        path: &Path,
        file: File,
        _options: &FileOptions,
        _declared: &dyn Fn(&str) -> Option<DataType>,
    ) -> Result<SchemaRef> {
        Ok(Arc::clone(builder(path, file)?.schema()))
    }

    fn read(
        &self,
        path: &Path,
        file: File,
        _options: &FileOptions,
        columns: &[ReadColumn],
    ) -> Result<Box<dyn RowReader>> {
        let copy = file.try_clone().map_err(|e| unreadable(path, e))?;
        let builder = builder(path, file)?;
        let fields = builder.schema().fields().iter();
        let names: Vec<&str> = fields.map(|field| field.name().as_str()).collect();
        let positions = column_positions(path, &names, columns)?;
        let positions: Vec<usize> = positions.into_iter().flatten().collect();
        let int96 = Int96Columns::open(path, copy, &builder, &positions)?;
        let mask = ProjectionMask::roots(builder.parquet_schema(), positions);
        let builder = builder.with_projection(mask).with_batch_size(CHUNK_ROWS);
        Ok(Box::new(ParquetReader {
            path: path.to_owned(),
            reader: builder.build().map_err(|e| unreadable(path, e))?,
            int96,
            columns: columns.to_vec(),
            next_row: 0,
        }))
    }

    fn count_rows(&self, file: File) -> Option<u64> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).ok()?;
        u64::try_from(builder.metadata().file_metadata().num_rows()).ok()
    }

    fn write(&self, sink: Sink, schema: &SchemaRef) -> WriteResult<Box<dyn RowWriter>> {
        Ok(Box::new(ParquetWriter::create(sink, schema)?))
    }
}

/// Opens a Parquet file and reads its metadata.
fn builder(path: &Path, file: File) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| unreadable(path, e))
}

#[derive(Debug)]
struct ParquetReader {
    path: PathBuf,
    reader: ParquetRecordBatchReader,
    int96: Option<Int96Columns>,
    columns: Vec<ReadColumn>,
    next_row: u64,
}

impl RowReader for ParquetReader {
    fn next(&mut self) -> Result<Option<Rows>> {
        let Some(batch) = self.reader.next() else {
            return Ok(None);
        };
        let first = self.next_row;
        let batch = batch.map_err(|e| {
            let path = self.path.display();
            let message = format!("{path} cannot be read after row {first}");
            Error::caused(Kind::Invalid, message, e)
        })?;
        self.next_row += batch.num_rows() as u64;
        let exact = match &mut self.int96 {
            None => Int96Times::default(),
            Some(int96) => int96.next(&self.path, batch.num_rows(), &self.columns)?,
        };
        let columns = self.columns.iter().map(|ReadColumn { field, .. }| {
            let exact = exact.columns.get(&field.name);
            let column = exact.or_else(|| batch.column_by_name(&field.name));
            column.map_or_else(|| missing_values(batch.num_rows()), Arc::clone)
        });
        let columns: Vec<ArrayRef> = columns.collect();
        Ok(Some(exact.reject(Rows {
            columns,
            numbers: (first..self.next_row).collect(),
            rejects: Vec::new(),
            seen: batch.num_rows() as u64,
        })))
    }
}
