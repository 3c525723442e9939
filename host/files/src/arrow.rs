//! The Arrow IPC formats, file and stream. `decode/arrow.rs` reads them, and recognises both by
//! their content, whatever the extension of the file is.

use std::fs::File;
use std::path::Path;

use arrow_array::RecordBatch;
use arrow_ipc::writer::{FileWriter, StreamWriter};
use arrow_schema::{ArrowError, DataType as ArrowType, SchemaRef};
use wafer_catalog::{Cuts, FileOptions, Format};
use wafer_core::{DataType, Digest};
use wafer_store::Result;

use crate::{FileFormat, ReadColumn, RowReader, RowWriter, Sink, Statistics, WriteResult, binary};

/// One of the two Arrow IPC formats, which differ only in how they are written.
#[derive(Debug)]
pub(crate) enum ArrowIpc {
    /// The format of files.
    File,
    /// The format of streams.
    Stream,
}

impl FileFormat for ArrowIpc {
    fn format(&self) -> Format {
        match self {
            Self::File => Format::Arrow,
            Self::Stream => Format::ArrowStream,
        }
    }

    fn schema(
        &self,
        path: &Path,
        file: File,
        _options: &FileOptions,
        _declared: &dyn Fn(&str) -> Option<DataType>,
    ) -> Result<SchemaRef> {
        binary::schema(self.format(), path, file)
    }

    fn read(
        &self,
        path: &Path,
        file: File,
        options: &FileOptions,
        columns: &[ReadColumn],
    ) -> Result<Box<dyn RowReader>> {
        binary::read(self.format(), path, file, options, columns)
    }

    /// Every type of a column is one of Arrow.
    fn holds(&self, _data_type: &ArrowType) -> bool {
        true
    }

    fn write(
        &self,
        sink: Sink,
        schema: &SchemaRef,
        _cuts: Cuts,
    ) -> WriteResult<Box<dyn RowWriter>> {
        Ok(Box::new(match self {
            Self::File => Writer::File(FileWriter::try_new(sink, schema)?),
            Self::Stream => Writer::Stream(StreamWriter::try_new(sink, schema)?),
        }))
    }
}

enum Writer {
    File(FileWriter<Sink>),
    Stream(StreamWriter<Sink>),
}

impl RowWriter for Writer {
    fn write(&mut self, batch: &RecordBatch, statistics: &mut [Statistics]) -> WriteResult<()> {
        Statistics::add_all(statistics, batch);
        match self {
            Self::File(writer) => writer.write(batch).map_err(|e| unwritten(e, batch))?,
            Self::Stream(writer) => writer.write(batch)?,
        }
        Ok(())
    }

    fn finish(self: Box<Self>, _statistics: &mut [Statistics]) -> WriteResult<Digest> {
        let sink = match *self {
            Self::File(writer) => writer.into_inner()?,
            Self::Stream(writer) => writer.into_inner()?,
        };
        Ok(sink.finish()?)
    }
}

/// Returns the error for rows that could not be written to a file of Arrow. Such a file has one
/// dictionary for each column, and the values of a column that comes from Parquet may have several.
fn unwritten(error: ArrowError, batch: &RecordBatch) -> Box<dyn std::error::Error + Send + Sync> {
    let schema = batch.schema();
    let fields = schema.fields().iter();
    let fields = fields.filter(|field| has_dictionary(field.data_type()));
    let names: Vec<&str> = fields.map(|field| field.name().as_str()).collect();
    if names.is_empty() || matches!(error, ArrowError::IoError(..)) {
        return error.into();
    }
    let message = format!(
        "{error}; the dictionaries are those of `{}`: write an Arrow stream (.arrows) or Parquet, \
         or convert the column to plain values",
        names.join("`, `")
    );
    message.into()
}

fn has_dictionary(data_type: &ArrowType) -> bool {
    use ArrowType as A;
    match data_type {
        A::Dictionary(..) => true,
        A::List(item)
        | A::LargeList(item)
        | A::FixedSizeList(item, _)
        | A::ListView(item)
        | A::LargeListView(item)
        | A::Map(item, _) => has_dictionary(item.data_type()),
        A::Struct(fields) => fields.iter().any(|field| has_dictionary(field.data_type())),
        _ => false,
    }
}
