//! Multipart uploads, as the writer of a table's data files makes them.

use std::sync::Arc;

use async_trait::async_trait;
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{
    Error, MultipartUpload, ObjectStoreExt as _, PutPayload, PutResult, Result, UploadPart,
};
use tokio::sync::Semaphore;

/// How much of all uploads of a bucket may be on its way at the same time, in MiB: four parts of
/// 8 MiB, for which the timeout of a request suffices on a line with 5 Mbit/s. `deltalake` sends
/// ten parts of 5 MiB of each file at once; on such a line, each would exceed its timeout, over and
/// over.
pub(super) const UPLOADED_MEBIBYTES: u32 = 32;

/// An upload whose parts wait for their share of the line, and whose completion may be repeated.
#[derive(Debug)]
pub(super) struct ResilientUpload {
    inner: Box<dyn MultipartUpload>,
    store: Arc<AmazonS3>,
    location: Path,
    line: Arc<Semaphore>,
    /// Size of all parts.
    bytes: u64,
}

impl ResilientUpload {
    pub(super) fn new(
        inner: Box<dyn MultipartUpload>,
        store: Arc<AmazonS3>,
        location: Path,
        line: Arc<Semaphore>,
    ) -> Self {
        Self {
            inner,
            store,
            location,
            line,
            bytes: 0,
        }
    }
}

#[async_trait]
impl MultipartUpload for ResilientUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let bytes = data.content_length();
        self.bytes += bytes as u64;
        let share = u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(UPLOADED_MEBIBYTES);
        let (part, line) = (self.inner.put_part(data), Arc::clone(&self.line));
        Box::pin(async move {
            let share = line.acquire_many(share.min(UPLOADED_MEBIBYTES));
            let _share = share.await.expect("the semaphore is never closed");
            part.await
        })
    }

    /// Completes the upload. An upload that is gone was completed by an attempt whose answer was
    /// lost, or was aborted by somebody else. Of the object, S3 tells only the size: that suffices,
    /// because data files have random names, and checkpoints of one version have the same content.
    async fn complete(&mut self) -> Result<PutResult> {
        let gone = match self.inner.complete().await {
            Err(e @ Error::NotFound { .. }) => e,
            done => return done,
        };
        match self.store.head(&self.location).await {
            Ok(meta) if meta.size == self.bytes => Ok(PutResult {
                e_tag: meta.e_tag,
                version: meta.version,
            }),
            _ => Err(gone),
        }
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
