//! The Arrow IPC formats, file and stream. Both kinds are recognised by their content, whatever
//! the extension of the file is.

use std::fs::File;
use std::io::{BufReader, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_ipc::writer::{FileWriter, StreamWriter};
use arrow_schema::{ArrowError, DataType as ArrowType, SchemaRef};
use wafer_catalog::{FileOptions, Format};
use wafer_core::{DataType, Digest};
use wafer_runtime::CHUNK_ROWS;
use wafer_store::Result;

use crate::{
    FileFormat, ReadColumn, RowReader, RowWriter, Rows, Sink, Statistics, WriteResult,
    column_positions, missing_values, unreadable,
};

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
        Ok(open(path, file)?.0)
    }

    fn read(
        &self,
        path: &Path,
        file: File,
        _options: &FileOptions,
        columns: &[ReadColumn],
    ) -> Result<Box<dyn RowReader>> {
        let (schema, batches) = open(path, file)?;
        let fields = schema.fields().iter();
        let names: Vec<&str> = fields.map(|field| field.name().as_str()).collect();
        Ok(Box::new(Reader {
            path: path.to_owned(),
            positions: column_positions(path, &names, columns)?,
            batches,
            rest: RecordBatch::new_empty(schema),
            next_row: 0,
        }))
    }

    /// Every type of a column is one of Arrow.
    fn holds(&self, _data_type: &ArrowType) -> bool {
        true
    }

    fn write(&self, sink: Sink, schema: &SchemaRef) -> WriteResult<Box<dyn RowWriter>> {
        Ok(Box::new(match self {
            Self::File => Writer::File(FileWriter::try_new(sink, schema)?),
            Self::Stream => Writer::Stream(StreamWriter::try_new(sink, schema)?),
        }))
    }
}

/// The record batches of a file.
type Batches = Box<dyn Iterator<Item = std::result::Result<RecordBatch, ArrowError>> + Send>;

/// Opens a file of either kind and returns its schema and its batches.
fn open(path: &Path, mut file: File) -> Result<(SchemaRef, Batches)> {
    let copy = file.try_clone().map_err(|e| unreadable(path, e))?;
    if let Ok(reader) = FileReader::try_new(BufReader::new(copy), None) {
        return Ok((reader.schema(), Box::new(reader)));
    }
    file.rewind().map_err(|e| unreadable(path, e))?;
    let reader = StreamReader::try_new(BufReader::new(file), None);
    let reader = reader.map_err(|e| unreadable(path, e))?;
    Ok((reader.schema(), Box::new(reader)))
}

struct Reader {
    path: PathBuf,
    batches: Batches,
    positions: Vec<Option<usize>>,
    /// The rows that were read and not returned yet, because batches of a file may be larger than
    /// a chunk.
    rest: RecordBatch,
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
        while self.rest.num_rows() == 0 {
            match self.batches.next() {
                None => return Ok(None),
                Some(batch) => self.rest = batch.map_err(|e| unreadable(&self.path, e))?,
            }
        }
        let count = self.rest.num_rows().min(CHUNK_ROWS);
        let batch = self.rest.slice(0, count);
        self.rest = self.rest.slice(count, self.rest.num_rows() - count);
        let first = self.next_row;
        self.next_row += count as u64;
        let positions = self.positions.iter();
        Ok(Some(Rows {
            columns: positions
                .map(|position| match position {
                    Some(position) => Arc::clone(batch.column(*position)),
                    None => missing_values(count),
                })
                .collect(),
            numbers: (first..self.next_row).collect(),
            rejects: Vec::new(),
            seen: count as u64,
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
            Self::File(writer) => writer.write(batch).map_err(|e| written(&e, batch))?,
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

/// Describes why rows could not be written to a file of Arrow. Such a file has one dictionary for
/// each column, and the values of a column that comes from Parquet may have several.
fn written(error: &ArrowError, batch: &RecordBatch) -> String {
    let schema = batch.schema();
    let fields = schema.fields().iter();
    let fields = fields.filter(|field| has_dictionary(field.data_type()));
    let names: Vec<&str> = fields.map(|field| field.name().as_str()).collect();
    match names[..] {
        [] => error.to_string(),
        _ => format!(
            "{error}; the dictionaries are those of `{}`: write an Arrow stream (.arrows) or \
             Parquet, or convert the column to plain values",
            names.join("`, `")
        ),
    }
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
