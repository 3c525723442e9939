//! The Arrow IPC formats, file and stream. `decode/arrow.rs` reads them, and recognises both by
//! their content, whatever the extension of the file is.

use std::fs::File;
use std::path::Path;

use arrow_array::RecordBatch;
use arrow_ipc::writer::{FileWriter, StreamWriter};
use arrow_schema::SchemaRef;
use wafer_catalog::Format;
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
        _declared: &dyn Fn(&str) -> Option<DataType>,
    ) -> Result<SchemaRef> {
        binary::schema(self.format(), path)
    }

    fn read(&self, path: &Path, file: File, columns: &[ReadColumn]) -> Result<Box<dyn RowReader>> {
        binary::read(self.format(), path, file, columns)
    }

    fn write(&self, sink: Sink, schema: &SchemaRef) -> WriteResult<Box<dyn RowWriter>> {
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
            Self::File(writer) => writer.write(batch)?,
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
