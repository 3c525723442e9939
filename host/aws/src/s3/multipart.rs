//! Multipart uploads: an object is written in parts, and exists when its upload is completed.

use std::ops::Range;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use wafer_store::{Error, Kind, Result};

use super::content::Content;
use super::upload::{Existing, WriteFailure, failure};
use super::{BucketClient, CONCURRENT_PARTS, PART_BYTES, failed, parts_of};

/// Maximum number of parts of an object, which is a limit of S3.
const MAX_PARTS: u64 = 10_000;
/// Maximum size of a part.
const MAX_PART_BYTES: u64 = 64 << 20;

impl BucketClient {
    /// Writes an object by a multipart upload, which is aborted if it fails.
    ///
    /// # Errors
    /// Returns those of [`write_once`](Self::write_once), and [`Kind::Invalid`] when the content is
    /// too large.
    pub(super) async fn write_in_parts(
        &self,
        key: &Path,
        content: &Content<'_>,
        existing: Existing,
        action: &str,
    ) -> Result<(), WriteFailure> {
        let parts = parts(content.bytes()).ok_or_else(|| too_large(action))?;
        let upload = MultipartUpload::begin(self, key, action).await?;
        let written = upload.write(content, parts, existing).await;
        if written.is_err() {
            upload.abort().await;
        }
        written
    }
}

/// Returns the ranges of the parts of an object, or `None` if there would be too many of them.
fn parts(bytes: u64) -> Option<impl Iterator<Item = Range<u64>>> {
    let part = PART_BYTES.max(bytes.div_ceil(MAX_PARTS));
    (part <= MAX_PART_BYTES).then(|| parts_of(0..bytes, part))
}

fn too_large(action: &str) -> Error {
    Error::invalid(format!(
        "cannot {action}: it is larger than {} GiB, which is the maximum",
        (MAX_PARTS * MAX_PART_BYTES) >> 30
    ))
}

/// A multipart upload that was begun.
struct MultipartUpload<'a> {
    bucket: &'a BucketClient,
    key: &'a Path,
    id: String,
    action: &'a str,
}

impl<'a> MultipartUpload<'a> {
    async fn begin(
        bucket: &'a BucketClient,
        key: &'a Path,
        action: &'a str,
    ) -> Result<Self, WriteFailure> {
        let request = bucket.client.create_multipart_upload();
        let request = request
            .bucket(&bucket.bucket)
            .key(key.as_ref())
            .checksum_algorithm(ChecksumAlgorithm::Sha256);
        let begun = request.send().await.map_err(|e| failure(action, e))?;
        let id = begun.upload_id.filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| {
            let message = format!("cannot {action}: the server gives no id of the upload");
            Error::new(Kind::Internal, message)
        })?;
        Ok(Self {
            bucket,
            key,
            id,
            action,
        })
    }

    /// Writes all parts, and completes the upload.
    async fn write(
        &self,
        content: &Content<'_>,
        parts: impl Iterator<Item = Range<u64>>,
        existing: Existing,
    ) -> Result<(), WriteFailure> {
        let written = futures::stream::iter((1..).zip(parts))
            .map(|(number, range)| self.write_part(number, content, range))
            .buffered(CONCURRENT_PARTS);
        self.complete(written.try_collect().await?, existing).await
    }

    async fn write_part(
        &self,
        number: i32,
        content: &Content<'_>,
        range: Range<u64>,
    ) -> Result<CompletedPart, WriteFailure> {
        let bytes = content.slice(range).await?;
        let request = self.bucket.client.upload_part();
        let request = request
            .bucket(&self.bucket.bucket)
            .key(self.key.as_ref())
            .upload_id(&self.id)
            .part_number(number)
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .body(ByteStream::from(bytes));
        let written = request.send().await;
        let written = written.map_err(|e| failure(self.action, e))?;
        Ok(CompletedPart::builder()
            .part_number(number)
            .set_e_tag(written.e_tag)
            .set_checksum_sha256(written.checksum_sha256)
            .build())
    }

    async fn complete(
        &self,
        parts: Vec<CompletedPart>,
        existing: Existing,
    ) -> Result<(), WriteFailure> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts));
        let request = self.bucket.client.complete_multipart_upload();
        let request = request
            .bucket(&self.bucket.bucket)
            .key(self.key.as_ref())
            .upload_id(&self.id)
            .set_if_none_match(existing.condition())
            .multipart_upload(parts.build());
        let completed = request.send().await;
        completed.map_err(|e| failure(self.action, e))?;
        Ok(())
    }

    /// Removes the parts that were written. If this fails, or if this process ends before, the
    /// bucket's lifecycle rule removes them after some days.
    async fn abort(&self) {
        let request = self.bucket.client.abort_multipart_upload();
        let request = request.bucket(&self.bucket.bucket).key(self.key.as_ref());
        if let Err(error) = request.upload_id(&self.id).send().await {
            let error = failed(self.action, error);
            tracing::warn!(key = %self.key, error = %error.chain(), "an upload was not aborted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_object_within_the_limits_of_s3() {
        for bytes in [
            1,
            PART_BYTES,
            PART_BYTES + 1,
            3 * PART_BYTES,
            200 << 30,
            625 << 30,
        ] {
            let parts: Vec<_> = parts(bytes).unwrap().collect();
            assert!(parts.len() as u64 <= MAX_PARTS, "{bytes}");
            assert_eq!((parts[0].start, parts[parts.len() - 1].end), (0, bytes));
            let size = |range: &Range<u64>| range.end - range.start;
            assert!(parts.iter().all(|range| size(range) <= MAX_PART_BYTES));
            for pair in parts.windows(2) {
                assert_eq!(pair[0].end, pair[1].start);
                assert!(size(&pair[0]) >= PART_BYTES);
            }
        }
        assert!(parts((625 << 30) + 1).is_none());
    }
}
