//! Files as the source of a run.

use std::sync::Arc;

use futures::stream::BoxStream;
use wafer_catalog::{SourceDef, blocking};
use wafer_core::{Hasher, Schema};
use wafer_store::Result;

use super::{Selection, Source};
use crate::service::Pipelines;
use crate::source::chunk::Chunk;
use crate::source::files::SourceFile;
use crate::source::{SourceReader, read_columns};

/// The rows of files.
#[derive(Debug)]
pub(super) struct FileSource(SourceReader);

impl Pipelines {
    /// Finds and digests the files of a source.
    pub(super) async fn file_source(
        &self,
        name: &str,
        source: &SourceDef,
        inputs: Schema,
    ) -> Result<FileSource> {
        let remote = Arc::clone(&self.context.components().remote);
        let (name, source) = (name.to_owned(), source.clone());
        let open = move || SourceReader::open(&source, &name, &inputs, &remote);
        Ok(FileSource(blocking(open).await??))
    }

    /// Reads files of a source that were found earlier.
    pub(super) fn files_of_source(
        &self,
        files: Vec<SourceFile>,
        source: &SourceDef,
        inputs: &Schema,
    ) -> FileSource {
        let remote = Arc::clone(&self.context.components().remote);
        let columns = read_columns(source, inputs);
        FileSource(SourceReader::of_files(files, columns, remote))
    }
}

impl Source for FileSource {
    fn identify(&self, hasher: &mut Hasher) {
        hasher.part(self.0.digest().as_bytes());
    }

    fn total_rows(&self, _selection: &Selection) -> Option<u64> {
        self.0.total_rows()
    }

    fn chunks(&self, _selection: &Selection) -> BoxStream<'static, Result<Chunk>> {
        self.0.chunks().stream()
    }

    fn files(&self) -> Option<&[SourceFile]> {
        Some(self.0.files())
    }
}
