//! The first rows of a source as a pipeline reads them, by which a project is checked.

use std::sync::Arc;

use arrow_array::ArrayRef;
use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use wafer_catalog::{Definitions, PipelineDef, Reject, SourceKind, blocking, get};
use wafer_store::{Kind, Result};

use crate::input::delta::DeltaTable;
use crate::source::chunk::{Chunk, rows_among};
use crate::source::{SourceReader, Sources};

/// The first rows of a source.
#[derive(Clone, Debug, Default)]
pub struct FirstRows {
    /// The columns of the rows. `None` when there are no rows that can be read.
    pub columns: Option<Vec<ArrayRef>>,
    /// The number of the rows.
    pub rows: usize,
    /// The number of rows before and among them that cannot be read.
    pub unreadable: u64,
    /// The first of these rows.
    pub reject: Option<Reject>,
    /// Why no row was looked at, although there should be some.
    pub unread: Option<String>,
    /// Why only a run reads the source, if that is so.
    pub left_to_runs: Option<&'static str>,
}

/// What can be read of a source before its pipeline is run.
enum Opened {
    Chunks(BoxStream<'static, Result<Chunk>>),
    /// Nothing, for this reason.
    ByRunsAlone(&'static str),
}

impl Sources {
    /// Returns the first rows of a pipeline's source that the pipeline can read, at most `limit` of
    /// them, and says which rows before and among them cannot be read, or why there are none.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] for an unknown pipeline, and the errors of reading the source.
    pub async fn first_rows(&self, pipeline: &str, limit: usize) -> Result<FirstRows> {
        let definitions = self.context.definitions();
        let pipeline = get(&definitions.pipelines, pipeline, "pipeline")?;
        let mut first = FirstRows::default();
        let mut chunks = match self.chunks_of(&definitions, pipeline).await {
            Ok(Opened::Chunks(chunks)) => chunks,
            Ok(Opened::ByRunsAlone(why)) => {
                first.left_to_runs = Some(why);
                return Ok(first);
            }
            Err(e) if e.kind() == Kind::NotFound => {
                first.unread = Some(e.chain());
                return Ok(first);
            }
            Err(e) => return Err(e),
        };
        while let Some(chunk) = chunks.try_next().await? {
            if first.add(chunk, limit) {
                return Ok(first);
            }
        }
        if first.unreadable == 0 {
            first.unread = Some("it has no rows".to_owned());
        }
        Ok(first)
    }

    /// Opens the source of a pipeline.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when the files or the table are not there, and the errors of
    /// opening the source.
    async fn chunks_of(&self, definitions: &Definitions, pipeline: &PipelineDef) -> Result<Opened> {
        let Some(fields) = definitions.source_fields(&pipeline.made_by) else {
            let why = "a model reads it, whose version says which columns";
            return Ok(Opened::ByRunsAlone(why));
        };
        let source = definitions.sources[&pipeline.source].clone();
        match source.kind {
            SourceKind::Delta { version } => {
                let remote = &self.context.components().remote;
                let table = DeltaTable::open(&source, remote, version, None).await?;
                let pieces = table.pieces(&table.columns(&source, &fields)?);
                Ok(Opened::Chunks(rows_among(pieces)))
            }
            SourceKind::Table { .. } => Ok(Opened::ByRunsAlone("it is the table of a group")),
            SourceKind::Files | SourceKind::Stream { .. } if source.files.is_none() => {
                Ok(Opened::ByRunsAlone("it has no files"))
            }
            SourceKind::Files | SourceKind::Stream { .. } => {
                let remote = Arc::clone(&self.context.components().remote);
                let name = pipeline.source.clone();
                let open = move || SourceReader::open(&source, &name, &fields, &remote);
                Ok(Opened::Chunks(blocking(open).await??.chunks().stream()))
            }
        }
    }
}

impl FirstRows {
    /// Adds the rows of a chunk, and returns whether there were some.
    fn add(&mut self, chunk: Chunk, limit: usize) -> bool {
        self.unreadable += chunk.rejects.len() as u64;
        self.rows = chunk.rows().min(limit);
        let reject = chunk.rejects.into_iter().next();
        self.reject = self.reject.take().or(reject);
        if self.rows == 0 {
            return false;
        }
        let columns = chunk.columns.iter();
        self.columns = Some(columns.map(|column| column.slice(0, self.rows)).collect());
        true
    }
}
