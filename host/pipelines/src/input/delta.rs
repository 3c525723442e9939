//! A Delta table that others write, as the source of a run.

use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::RecordBatch;
use futures::stream::BoxStream;
use wafer_catalog::{Location, SourceDef};
use wafer_core::{Digest, Field, Hasher};
use wafer_files::{ReadColumn, Rows, missing_column};
use wafer_store::{Error, OfflineTables, Result, TableSnapshot};

use super::{Selection, Source, stored_chunks};
use crate::source::chunk::Chunk;
use crate::source::{converted, read_columns, rejects};

/// The rows of a Delta table at one version of it.
#[derive(Debug)]
pub(super) struct DeltaSource {
    snapshot: TableSnapshot,
    /// The folder of the table.
    folder: PathBuf,
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
        let Some(Location::Here(folder)) = &source.files else {
            return Err(Error::invalid(
                "a source of type `delta` reads a table in a folder on this machine; its `path` is \
                 none",
            ));
        };
        let snapshot = OfflineTables::open_outside(folder, version).await?;
        let schema = snapshot.schema();
        let names = schema.fields().iter().map(|field| field.name().as_str());
        let names: Vec<&str> = names.collect();
        let columns = read_columns(source, fields);
        let lacking = columns
            .iter()
            .find(|column| !names.contains(&column.field.name.as_str()));
        if let Some(column) = lacking {
            return Err(missing_column(folder, &column.field, &names));
        }
        Ok(Self {
            folder: folder.clone(),
            columns,
            is_pinned: version.is_some(),
            snapshot,
        })
    }
}

impl Source for DeltaSource {
    /// Adds which table it is, and its version if that is pinned. Other changes in the table are
    /// found in its log.
    fn identify(&self, hasher: &mut Hasher) {
        hasher.part(self.snapshot.outside_id().unwrap_or_default().as_bytes());
        if self.is_pinned {
            hasher.part(&self.snapshot.version().to_le_bytes());
        }
    }

    fn total_rows(&self, selection: &Selection) -> Option<u64> {
        let files = self.files_of(selection);
        files.iter().map(|file| file.rows).sum()
    }

    fn chunks(&self, selection: &Selection) -> BoxStream<'static, Result<Chunk>> {
        let columns: Arc<[ReadColumn]> = self.columns.clone().into();
        let folder = self.folder.clone();
        stored_chunks(
            &self.snapshot,
            self.files_of(selection),
            Some(self.names()),
            move |batch, file, first| {
                outside_chunk(batch, (folder.join(file).as_path(), file, first), &columns)
            },
        )
    }

    fn table(&self) -> Option<&TableSnapshot> {
        (!self.is_pinned).then_some(&self.snapshot)
    }
}

impl DeltaSource {
    /// The files that a run reads: of a pinned version all of them.
    fn files_of(&self, selection: &Selection) -> Vec<wafer_store::DataFile> {
        match self.is_pinned {
            true => self.snapshot.files().to_vec(),
            false => selection.files.clone(),
        }
    }

    /// The names of the columns that are read.
    fn names(&self) -> Vec<String> {
        let columns = self.columns.iter();
        columns.map(|column| column.field.name.clone()).collect()
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
