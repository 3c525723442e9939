//! A Delta table that others write, as the source of a run.

use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures::stream::BoxStream;
use wafer_catalog::{Location, SourceDef};
use wafer_core::{Digest, Field, Hasher};
use wafer_files::{ReadColumn, Rows, missing_column};
use wafer_store::{DataFile, Error, OfflineTables, Result, TableSnapshot};

use super::{Selection, Source, stored_chunks};
use crate::source::chunk::Chunk;
use crate::source::{converted, read_columns, rejects};

/// A Delta table that others write, opened at one version of it.
#[derive(Clone, Debug)]
pub(crate) struct DeltaTable {
    snapshot: TableSnapshot,
    /// The folder of the table.
    folder: PathBuf,
}

impl DeltaTable {
    /// Opens the table of a source, at a version or at the newest one.
    pub(crate) async fn open(source: &SourceDef, version: Option<u64>) -> Result<Self> {
        let Some(Location::Here(folder)) = &source.files else {
            return Err(Error::invalid(
                "a source of type `delta` reads a table in a folder on this machine; its `path` is \
                 none",
            ));
        };
        Ok(Self {
            snapshot: OfflineTables::open_outside(folder, version).await?,
            folder: folder.clone(),
        })
    }

    /// Returns the columns of the table.
    pub(crate) fn schema(&self) -> &SchemaRef {
        self.snapshot.schema()
    }

    /// Reads some columns of all rows.
    pub(crate) fn rows(&self, columns: &[ReadColumn]) -> BoxStream<'static, Result<Chunk>> {
        self.rows_of(self.snapshot.files().to_vec(), columns)
    }

    /// Reads some columns of the rows of some files.
    fn rows_of(
        &self,
        files: Vec<DataFile>,
        columns: &[ReadColumn],
    ) -> BoxStream<'static, Result<Chunk>> {
        let names = columns.iter().map(|column| column.field.name.clone());
        let names: Vec<String> = names.collect();
        let columns: Arc<[ReadColumn]> = columns.into();
        let folder = self.folder.clone();
        stored_chunks(
            &self.snapshot,
            files,
            Some(names),
            move |batch, file, first| {
                outside_chunk(batch, (folder.join(file).as_path(), file, first), &columns)
            },
        )
    }
}

/// The rows of a Delta table at one version of it.
#[derive(Debug)]
pub(super) struct DeltaSource {
    delta: DeltaTable,
    columns: Vec<ReadColumn>,
    /// Whether the project names the version, so that the rows are always the same.
    is_pinned: bool,
}

impl DeltaSource {
    /// Opens the table of a source, at a version or at the newest one.
    pub(super) async fn open(
        source: &SourceDef,
        version: Option<u64>,
        fields: &[Field],
    ) -> Result<Self> {
        let delta = DeltaTable::open(source, version).await?;
        let names = delta
            .schema()
            .fields()
            .iter()
            .map(|field| field.name().as_str());
        let names: Vec<&str> = names.collect();
        let columns = read_columns(source, fields);
        let lacking = columns
            .iter()
            .find(|column| !names.contains(&column.field.name.as_str()));
        if let Some(column) = lacking {
            return Err(missing_column(&delta.folder, &column.field, &names));
        }
        Ok(Self {
            columns,
            is_pinned: version.is_some(),
            delta,
        })
    }
}

impl Source for DeltaSource {
    /// Adds which table it is, and its version if that is pinned. Other changes in the table are
    /// found in its log.
    fn identify(&self, hasher: &mut Hasher) {
        let snapshot = &self.delta.snapshot;
        hasher.part(snapshot.outside_id().unwrap_or_default().as_bytes());
        if self.is_pinned {
            hasher.part(&snapshot.version().to_le_bytes());
        }
    }

    fn total_rows(&self, selection: &Selection) -> Option<u64> {
        let files = self.files_of(selection);
        files.iter().map(|file| file.rows).sum()
    }

    fn chunks(&self, selection: &Selection) -> BoxStream<'static, Result<Chunk>> {
        self.delta.rows_of(self.files_of(selection), &self.columns)
    }

    fn table(&self) -> Option<&TableSnapshot> {
        (!self.is_pinned).then_some(&self.delta.snapshot)
    }
}

impl DeltaSource {
    /// The files that a run reads: of a pinned version all of them.
    fn files_of(&self, selection: &Selection) -> Vec<DataFile> {
        match self.is_pinned {
            true => self.delta.snapshot.files().to_vec(),
            false => selection.files.clone(),
        }
    }
}

/// Makes a chunk of rows of a Delta table. `path` is where the file is, and `file` its path in the
/// table, which tells the files of a run apart.
fn outside_chunk(
    batch: &RecordBatch,
    (path, file, first): (&std::path::Path, &str, u64),
    columns: &[ReadColumn],
) -> Result<Chunk> {
    let rows = batch.num_rows() as u64;
    let read = Rows {
        columns: batch.columns().to_vec(),
        numbers: (first..first + rows).collect(),
        rejects: Vec::new(),
        seen: rows,
    };
    let read = converted(path, columns, read)?;
    Ok(Chunk {
        columns: read.columns,
        file_id: Digest::of(file.as_bytes()).short(),
        file_number: 0,
        rejects: rejects(&path.display().to_string(), read.rejects),
        file: file.to_owned(),
        numbers: read.numbers,
        stored: None,
        seen: read.seen,
    })
}
