//! The inputs of batch runs.
//!
//! Each [`Source`] has a file in this folder: files, the archive of a stream's raw events, the
//! table of another group, and a Delta table that others write. A run reads one source or several,
//! one after the other. [`Input`] joins them.

mod archive;
pub(crate) mod delta;
mod files;
mod stored;
mod table;

use std::fmt::Debug;

use futures::future::{self, BoxFuture};
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use wafer_catalog::{Context, Definitions, PipelineDef, SourceDef, SourceKind};
use wafer_core::rules::{Interval, MAX_RUN_FILES};
use wafer_core::{Digest, Field, Hasher};
use wafer_store::{DataFile, Result, TableSnapshot};

use self::archive::ArchiveSource;
use self::delta::DeltaSource;
use self::files::FileSource;
use self::table::TableSource;
use crate::source::chunk::Chunk;
use crate::source::files::SourceFile;
use crate::source::read_columns;

/// A source of rows for batch runs.
pub(crate) trait Source: Debug + Send + Sync {
    /// Adds the content of the source to a digest, so that other content gives another digest.
    fn identify(&self, hasher: &mut Hasher);

    /// Returns the number of rows that a run reads, if it is known.
    fn total_rows(&self, selection: &Selection) -> Option<u64>;

    /// Returns the rows, in a fixed order.
    fn chunks(&self, selection: &Selection) -> BoxStream<'static, Result<Chunk>>;

    /// Returns the files if the source consists of files, which means that a run over it can be
    /// divided.
    fn files(&self) -> Option<&[SourceFile]> {
        None
    }

    /// Checks that the columns that are read are in the files of the source. A part of a divided
    /// run cannot tell that from its own files.
    fn check_columns(&self) -> BoxFuture<'static, Result<()>> {
        future::ready(Ok(())).boxed()
    }

    /// Returns the table if the source is one whose log tells what changed, which means that a run
    /// follows the table's changes.
    fn table(&self) -> Option<&TableSnapshot> {
        None
    }
}

/// The rows that a run reads. Of another group's table a run reads some data files; files of a
/// source are always read as a whole.
#[derive(Debug)]
pub(crate) struct Selection {
    /// The data files of the table that are read.
    pub(crate) files: Vec<DataFile>,
    /// The interval that the rows lie in, by their available times if they come from another
    /// group's table, else by their event times.
    pub(crate) arrivals: Interval,
}

/// The greatest number of files of one source whose rows a run can order. A run has two sources at
/// most: files, and the archive of their events.
pub(crate) const MAX_SOURCE_FILES: u64 = MAX_RUN_FILES / 2;

/// The size of a row in a text file, for estimates.
const ROW_BYTES: u64 = 64;

/// Whether a run reads the archive of a stream as well: the raw events that were not written to its
/// group when they came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArchiveRead {
    /// The archive is read after the files of the stream, if it has any.
    Included,
    /// Only the files are read.
    Skipped,
}

/// Everything that a run reads, one source after the other.
#[derive(Debug)]
pub(crate) struct Input {
    sources: Vec<Box<dyn Source>>,
}

impl Input {
    /// Opens the sources that a pipeline reads. `fields` are the columns by their names in the
    /// source.
    pub(crate) async fn open(
        context: &Context,
        definitions: &Definitions,
        pipeline: &PipelineDef,
        fields: Vec<Field>,
        archive: ArchiveRead,
    ) -> Result<Self> {
        let source = &definitions.sources[&pipeline.source];
        let mut sources: Vec<Box<dyn Source>> = Vec::new();
        match &source.kind {
            SourceKind::Table { group } => {
                let group = &definitions.groups[group];
                let table = TableSource::open(context, group, fields).await?;
                sources.push(Box::new(table));
            }
            SourceKind::Delta { version } => {
                let remote = &context.components().remote;
                let delta = DeltaSource::open(source, remote, *version, &fields);
                sources.push(Box::new(delta.await?));
            }
            SourceKind::Files | SourceKind::Stream { .. } => {
                if source.files.is_some() || archive == ArchiveRead::Skipped {
                    let name = &pipeline.source;
                    let files = FileSource::open(context, name, source, fields.clone());
                    sources.push(Box::new(files.await?));
                }
                if archive == ArchiveRead::Included {
                    let table = definitions.groups[&pipeline.group].table();
                    let columns = read_columns(source, &fields);
                    let archive = ArchiveSource::open(context, &pipeline.source, table, columns);
                    sources.extend(archive.await?.map(|archive| Box::new(archive) as _));
                }
            }
        }
        Ok(Self { sources })
    }

    /// Opens files of a pipeline's source that were found earlier, such as those of one
    /// partition of a divided run.
    pub(crate) fn of_files(
        context: &Context,
        files: Vec<SourceFile>,
        source: &SourceDef,
        fields: &[Field],
    ) -> Self {
        Self {
            sources: vec![Box::new(FileSource::of_files(
                context, files, source, fields,
            ))],
        }
    }

    /// Returns the files that are read, if the input consists of files only.
    pub(crate) fn files(&self) -> Option<&[SourceFile]> {
        match &self.sources[..] {
            [source] => source.files(),
            _ => None,
        }
    }

    /// Checks that the columns that are read are in the files of the sources.
    pub(crate) async fn check_columns(&self) -> Result<()> {
        for source in &self.sources {
            source.check_columns().await?;
        }
        Ok(())
    }

    /// Returns the digest of the content of all sources.
    pub(crate) fn digest(&self) -> Digest {
        let mut hasher = Hasher::new();
        for source in &self.sources {
            source.identify(&mut hasher);
        }
        hasher.finish()
    }

    /// Returns the table of the other group that is read, if there is one.
    pub(crate) fn table(&self) -> Option<&TableSnapshot> {
        self.sources.iter().find_map(|source| source.table())
    }

    /// Returns the number of rows, if it is known.
    pub(crate) fn total_rows(&self, selection: &Selection) -> Option<u64> {
        let rows = self.sources.iter();
        rows.map(|source| source.total_rows(selection)).sum()
    }

    /// Returns the number of rows of all sources, or about how many they are by their size, if
    /// anything is known.
    pub(crate) fn estimated_rows(&self) -> Option<u64> {
        let all = Selection {
            files: self
                .table()
                .map_or_else(Vec::new, |table| table.files().to_vec()),
            arrivals: Interval::ALL,
        };
        let by_size = || -> Option<u64> {
            let bytes: u64 = self.files()?.iter().map(|file| file.bytes).sum();
            Some(bytes.div_ceil(ROW_BYTES))
        };
        self.total_rows(&all).or_else(by_size)
    }

    /// Returns the rows of all sources, in a fixed order.
    pub(crate) fn chunks(&self, selection: &Selection) -> BoxStream<'static, Result<Chunk>> {
        let sources = self.sources.iter().zip(0..);
        let chunks = sources.map(|(source, number)| {
            let chunks = source.chunks(selection);
            chunks.map_ok(move |chunk| in_source(chunk, number))
        });
        let chunks: Vec<_> = chunks.collect();
        stream::iter(chunks).flatten().boxed()
    }
}

/// Numbers the file of a chunk, which has a number within its source, among all files of a run.
fn in_source(mut chunk: Chunk, source: u64) -> Chunk {
    chunk.file_number = match chunk.file_number < MAX_SOURCE_FILES {
        true => source * MAX_SOURCE_FILES + chunk.file_number,
        // Refused when its rows are ordered.
        false => u64::MAX,
    };
    chunk
}

/// Returns whether a run reads tables that events are flushed to.
pub(crate) fn reads_tables(
    definitions: &Definitions,
    pipeline: &PipelineDef,
    archive: ArchiveRead,
) -> bool {
    let source = &definitions.sources[&pipeline.source];
    archive == ArchiveRead::Included || source.kind.upstream().is_some()
}
