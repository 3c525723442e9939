//! The format Apache Parquet. Files are written by `parquet_writer.rs`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_schema::{DataType as ArrowType, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use wafer_catalog::Format;
use wafer_core::DataType;
use wafer_runtime::CHUNK_ROWS;
use wafer_store::{Error, Kind, Result};

use crate::parquet_writer::ParquetWriter;
use crate::{
    FileFormat, ReadColumn, RowReader, RowWriter, Rows, Sink, WriteResult, column_positions,
    unreadable,
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
        _declared: &dyn Fn(&str) -> Option<DataType>,
    ) -> Result<SchemaRef> {
        let file = File::open(path).map_err(|e| unreadable(path, e))?;
        Ok(Arc::clone(builder(path, file)?.schema()))
    }

    fn read(&self, path: &Path, file: File, columns: &[ReadColumn]) -> Result<Box<dyn RowReader>> {
        let builder = builder(path, file)?;
        let fields = builder.schema().fields().iter();
        let names: Vec<&str> = fields.map(|field| field.name().as_str()).collect();
        let positions = column_positions(path, &names, columns)?;
        let mask = ProjectionMask::roots(builder.parquet_schema(), positions);
        let builder = builder.with_projection(mask).with_batch_size(CHUNK_ROWS);
        Ok(Box::new(ParquetReader {
            path: path.to_owned(),
            reader: builder.build().map_err(|e| unreadable(path, e))?,
            columns: columns
                .iter()
                .map(|column| column.field.name.clone())
                .collect(),
            next_row: 0,
        }))
    }

    fn count_rows(&self, file: File) -> Option<u64> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).ok()?;
        u64::try_from(builder.metadata().file_metadata().num_rows()).ok()
    }

    fn holds(&self, data_type: &ArrowType) -> bool {
        holds(data_type)
    }

    fn write(&self, sink: Sink, schema: &SchemaRef) -> WriteResult<Box<dyn RowWriter>> {
        Ok(Box::new(ParquetWriter::create(sink, schema)?))
    }
}

/// Returns whether a column of a type is read back with the same type and values. The Arrow schema
/// in the metadata of a file tells types apart that Parquet stores alike.
fn holds(data_type: &ArrowType) -> bool {
    use ArrowType as A;
    match data_type {
        A::FixedSizeBinary(size) => *size > 0,
        A::Dictionary(keys, values) => {
            keys.is_integer()
                && matches!(
                    **values,
                    A::Utf8 | A::LargeUtf8 | A::Binary | A::LargeBinary
                )
        }
        A::Decimal128(_, scale) | A::Decimal256(_, scale) => *scale >= 0,
        A::List(item) | A::LargeList(item) => holds(item.data_type()),
        A::FixedSizeList(item, length) => *length > 0 && holds(item.data_type()),
        A::Struct(fields) => {
            !fields.is_empty() && fields.iter().all(|field| holds(field.data_type()))
        }
        // The key of an entry is never null.
        A::Map(entries, _) => match entries.data_type() {
            A::Struct(fields) => {
                !fields[0].is_nullable() && fields.iter().all(|field| holds(field.data_type()))
            }
            _ => false,
        },
        A::Interval(_)
        | A::Union(..)
        | A::RunEndEncoded(..)
        | A::ListView(_)
        | A::LargeListView(_)
        | A::Decimal32(..)
        | A::Decimal64(..) => false,
        _ => true,
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
    columns: Vec<String>,
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
        let columns = self.columns.iter();
        let columns = columns.map(|name| Arc::clone(&batch[name.as_str()]));
        Ok(Some(Rows {
            columns: columns.collect(),
            numbers: (first..self.next_row).collect(),
            rejects: Vec::new(),
            seen: batch.num_rows() as u64,
        }))
    }
}
