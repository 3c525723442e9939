//! The format Apache Parquet. `decode/parquet.rs` reads files, and `parquet_writer.rs` writes them.

use std::fs::File;
use std::path::Path;

use arrow_schema::SchemaRef;
use wafer_catalog::Format;
use wafer_core::DataType;
use wafer_store::Result;

use crate::parquet_writer::ParquetWriter;
use crate::{FileFormat, ReadColumn, RowReader, RowWriter, Sink, WriteResult, binary};

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
        binary::schema(self.format(), path)
    }

    fn read(&self, path: &Path, file: File, columns: &[ReadColumn]) -> Result<Box<dyn RowReader>> {
        binary::read(self.format(), path, file, columns)
    }

    fn count_rows(&self, file: File) -> Option<u64> {
        binary::count_rows(self.format(), file)
    }

    fn write(&self, sink: Sink, schema: &SchemaRef) -> WriteResult<Box<dyn RowWriter>> {
        Ok(Box::new(ParquetWriter::create(sink, schema)?))
    }
}
