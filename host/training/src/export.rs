//! Exports: the rows of an offline table as one file.
//!
//! The file is written on a thread of its own, so that an export can be given up at any time, even
//! while nobody reads the pipe that it writes to. What is there of the file is removed then.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{Field as ArrowField, Schema as ArrowSchema, SchemaRef};
use futures::TryStreamExt as _;
use tokio::sync::mpsc::{Receiver, channel};
use wafer_catalog::{Format, TableDef, blocking, ended, remove_abandoned_folders};
use wafer_core::rules::Interval;
use wafer_core::{Field, Timestamp};
use wafer_store::{AsOf, Error, Kind, Result};
use wafer_tables::stored_column;

use crate::service::Training;
use wafer_files::OutputFile;

/// The number of batches that wait to be written.
const WAITING: usize = 4;

/// The description of an export.
#[derive(Clone, Debug)]
pub struct ExportRequest {
    /// Name of the table.
    pub table: String,
    /// The columns to write; `None` means all.
    pub columns: Option<Vec<String>>,
    /// The time, by the machine's clock, as of which the table is read; `None` means its latest
    /// version.
    pub as_of: Option<Timestamp>,
    /// The greatest number of rows to write; `None` means all.
    pub limit: Option<u64>,
}

/// Where an export is written.
#[derive(Debug)]
pub enum ExportTo {
    /// A file, in the format of its extension. It is there when it is complete.
    Path(PathBuf),
    /// A file that is open already, such as the standard output.
    Opened(File, Format),
}

impl ExportTo {
    fn check(&self) -> Result<()> {
        match self {
            Self::Path(path) => Format::of_output(path).map(drop),
            Self::Opened(..) => Ok(()),
        }
    }

    fn start(self, schema: &SchemaRef) -> Result<OutputFile> {
        match self {
            Self::Path(path) => OutputFile::create(&path, schema),
            Self::Opened(file, format) => {
                OutputFile::opened(file, Path::new("the output"), format, schema)
            }
        }
    }
}

impl Training {
    /// Writes the rows of a table to one file, and returns their number. Rows that are still in the
    /// outbox are not exported. If this is dropped before it is done, the file is not written.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] for an unknown table and [`Kind::Invalid`] for an unknown column
    /// or extension.
    pub async fn export(&self, request: ExportRequest, to: ExportTo) -> Result<u64> {
        let ExportRequest {
            table,
            columns,
            as_of,
            limit,
        } = request;
        let table = table.as_str();
        to.check()?;
        blocking(remove_abandoned_folders).await?;
        let definition = self.tables.table_definition(table).await?;
        let as_of = as_of.map_or(AsOf::Latest, AsOf::Time);
        let snapshot = self
            .context
            .components()
            .stores
            .offline
            .snapshot(table, as_of)
            .await?;
        let fields = wanted_fields(&definition, columns)?;
        let columns = fields.iter().map(|field| field.name.clone()).collect();
        let files = snapshot.files().to_vec();
        let mut batches = snapshot.read_all(files, columns, Interval::ALL);
        let arrow: Vec<ArrowField> = fields.iter().map(Field::to_arrow).collect();
        let arrow = Arc::new(ArrowSchema::new(arrow));
        let output = to.start(&arrow)?;
        let (sender, receiver) = channel(WAITING);
        let writing = tokio::task::spawn_blocking(move || write(output, receiver));
        let reading = async {
            let (mut rows, most) = (0, limit.unwrap_or(u64::MAX));
            while rows < most
                && let Some(batch) = batches.try_next().await?
            {
                let missing = usize::try_from(most - rows).unwrap_or(usize::MAX);
                let batch = batch.slice(0, batch.num_rows().min(missing));
                let batch = exported(&definition, &batch, &fields, &arrow)?;
                rows += batch.num_rows() as u64;
                if sender.send(ExportMessage::Rows(batch)).await.is_err() {
                    // Writing failed, which is found out below.
                    return Ok(rows);
                }
            }
            let _ = sender.send(ExportMessage::End).await;
            Ok::<_, Error>(rows)
        };
        let read = reading.await;
        drop(sender);
        let written = ended(writing).await?;
        // If reading failed, writing ended because of it.
        let rows = read?;
        written?;
        Ok(rows)
    }
}

/// Returns the columns of a table with these names, or all of them.
fn wanted_fields(table: &TableDef, names: Option<Vec<String>>) -> Result<Vec<Field>> {
    let schema = table.schema();
    let Some(names) = names else {
        return Ok(schema.fields().to_vec());
    };
    let field = |name: &String| {
        schema.field(name).cloned().ok_or_else(|| {
            let known = schema.fields().iter().map(|f| f.name.as_str());
            let hint = wafer_catalog::nearest(name, known)
                .map_or_else(String::new, |n| format!("; did you mean `{n}`?"));
            let table = &table.name;
            Error::invalid(format!("table `{table}` has no column `{name}`{hint}"))
        })
    };
    names.iter().map(field).collect()
}

/// Returns the columns of a batch of a table as they are exported.
fn exported(
    table: &TableDef,
    batch: &RecordBatch,
    fields: &[Field],
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let columns = fields.iter();
    let columns = columns.map(|field| stored_column(table, batch, field));
    let columns = columns.collect::<Result<_>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns)
        .map_err(|e| Error::caused(Kind::Internal, "cannot assemble rows to export", e))
}

/// What is written next.
enum ExportMessage {
    Rows(RecordBatch),
    /// Nothing more: the file is complete.
    End,
}

/// Writes rows until the file is complete. If nobody sends any more before that, the file is
/// removed.
fn write(mut output: OutputFile, mut pieces: Receiver<ExportMessage>) -> Result<()> {
    while let Some(piece) = pieces.blocking_recv() {
        match piece {
            ExportMessage::Rows(batch) => output.write(&batch)?,
            ExportMessage::End => return output.close().map(drop),
        }
    }
    let message = "nobody waits for the export any more";
    Err(Error::new(Kind::Unavailable, message))
}
