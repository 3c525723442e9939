//! What a pipeline reads in batch runs.
//!
//! Each [`Source`] is one file of this folder: files, the archive of a stream's raw events, and
//! another group's table. A run reads one or several of them, one after the other.

mod archive;
mod files;
mod table;

use std::fmt::Debug;
use std::sync::Arc;

use arrow_array::RecordBatch;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use wafer_catalog::{Definitions, PipelineDef, SourceKind};
use wafer_core::rules::Interval;
use wafer_core::{Digest, Hasher, Schema};
use wafer_store::{DataFile, Error, Result, TableSnapshot};

use crate::service::Pipelines;
use crate::source::chunk::Chunk;
use crate::source::files::SourceFile;

/// Where the rows of a batch run come from.
pub(crate) trait Source: Debug + Send + Sync {
    /// Adds what there is to read to a digest: other content gives another digest.
    fn identify(&self, hasher: &mut Hasher);

    /// The number of rows that a run reads, when it is known.
    fn total_rows(&self, selection: &Selection) -> Option<u64>;

    /// The rows in their order.
    fn chunks(&self, selection: &Selection) -> BoxStream<'static, Result<Chunk>>;

    /// The files that are read, if the source is files: a run over them can be divided.
    fn files(&self) -> Option<&[SourceFile]> {
        None
    }

    /// The table that is read, if the source is another group: a run follows its changes.
    fn table(&self) -> Option<&TableSnapshot> {
        None
    }
}

/// What of another group's table is read.
#[derive(Debug)]
pub(crate) struct Selection {
    /// The data files that are read.
    pub(crate) files: Vec<DataFile>,
    /// When the rows that are read became visible.
    pub(crate) arrivals: Interval,
}

/// Everything that a run reads, one source after the other.
#[derive(Debug)]
pub(crate) struct Input {
    sources: Vec<Box<dyn Source>>,
}

impl Pipelines {
    /// Opens what a pipeline reads. With `archive`, raw events that were not written to its
    /// group when they came in are read as well.
    pub(crate) async fn input(
        &self,
        definitions: &Arc<Definitions>,
        pipeline: &PipelineDef,
        inputs: Schema,
        archive: bool,
    ) -> Result<Input> {
        let source = &definitions.sources[&pipeline.source];
        let mut sources: Vec<Box<dyn Source>> = Vec::new();
        match &source.kind {
            SourceKind::Table { group } => {
                let group = &definitions.groups[group];
                sources.push(Box::new(self.table_source(group, inputs).await?));
            }
            SourceKind::Files | SourceKind::Stream { .. } => {
                if source.files.is_some() || !archive {
                    let name = &pipeline.source;
                    let files = self.file_source(name, source, inputs.clone()).await?;
                    sources.push(Box::new(files));
                }
                if archive {
                    let table = definitions.groups[&pipeline.group].table();
                    let archive = self.archive_source(&pipeline.source, table, inputs);
                    sources.extend(archive.await?.map(|archive| Box::new(archive) as _));
                }
            }
        }
        Ok(Input { sources })
    }

    /// Some files of a pipeline's source, as they were when the source was opened.
    pub(crate) fn input_of(&self, files: Vec<SourceFile>, inputs: Schema) -> Input {
        Input {
            sources: vec![Box::new(self.files_of_source(files, inputs))],
        }
    }
}

impl Input {
    /// The files that are read, if it is nothing else.
    pub(crate) fn files(&self) -> Option<&[SourceFile]> {
        match &self.sources[..] {
            [source] => source.files(),
            _ => None,
        }
    }

    /// Says what there is to read: other content gives another digest.
    pub(crate) fn digest(&self) -> Digest {
        let mut hasher = Hasher::new();
        for source in &self.sources {
            source.identify(&mut hasher);
        }
        hasher.finish()
    }

    /// The other group's table that is read, if there is one.
    pub(crate) fn table(&self) -> Option<&TableSnapshot> {
        self.sources.iter().find_map(|source| source.table())
    }

    /// The number of rows, when it is known.
    pub(crate) fn total_rows(&self, selection: &Selection) -> Option<u64> {
        let rows = self.sources.iter();
        rows.map(|source| source.total_rows(selection)).sum()
    }

    /// The rows in their order.
    pub(crate) fn chunks(&self, selection: &Selection) -> BoxStream<'static, Result<Chunk>> {
        let sources = self.sources.iter();
        let chunks: Vec<_> = sources.map(|source| source.chunks(selection)).collect();
        stream::iter(chunks).flatten().boxed()
    }
}

/// The chunks of some files of a table. `chunk` is given each batch with its file and the number
/// of its first row.
fn stored_chunks(
    snapshot: &TableSnapshot,
    mut files: Vec<DataFile>,
    chunk: impl Fn(&RecordBatch, &str, u64) -> Result<Chunk> + Clone + Send + 'static,
) -> BoxStream<'static, Result<Chunk>> {
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let snapshot = snapshot.clone();
    stream::iter(files)
        .then(move |file: DataFile| {
            let (snapshot, chunk) = (snapshot.clone(), chunk.clone());
            async move {
                let columns = snapshot.columns();
                let batches = snapshot.read(&file, &columns, Interval::ALL).await?;
                let mut next = 0;
                let chunks = batches.map(move |batch| {
                    let batch = batch?;
                    let first = next;
                    next += batch.num_rows() as u64;
                    chunk(&batch, &file.path, first)
                });
                Ok::<_, Error>(chunks)
            }
        })
        .try_flatten()
        .boxed()
}
