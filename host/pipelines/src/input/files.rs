//! Files as the source of a run.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use wafer_catalog::{Context, SourceDef, blocking};
use wafer_core::{Field, Hasher};
use wafer_store::Result;

use super::{Selection, Source};
use crate::source::SourceReader;
use crate::source::chunk::Chunk;
use crate::source::files::SourceFile;

/// The rows of files.
#[derive(Debug)]
pub(super) struct FileSource(SourceReader);

impl FileSource {
    /// Finds and digests the files of a source.
    pub(super) async fn open(
        context: &Context,
        name: &str,
        source: &SourceDef,
        fields: Vec<Field>,
    ) -> Result<Self> {
        let remote = Arc::clone(&context.components().remote);
        let (name, source) = (name.to_owned(), source.clone());
        let open = move || SourceReader::open(&source, &name, &fields, &remote);
        Ok(Self(blocking(open).await??))
    }

    /// Reads files of a source that were found earlier.
    pub(super) fn of_files(
        context: &Context,
        files: Vec<SourceFile>,
        source: &SourceDef,
        fields: &[Field],
    ) -> Self {
        let remote = Arc::clone(&context.components().remote);
        Self(SourceReader::of_files(files, source, fields, remote))
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

    fn check_columns(&self) -> BoxFuture<'static, Result<()>> {
        let reader = self.0.clone();
        async move { blocking(move || reader.check_columns()).await? }.boxed()
    }
}
