//! Writing objects: small ones by one request, large ones in parts.
//!
//! Every request has a SHA-256 checksum of its content. S3 verifies it, and refuses what was
//! damaged in transit.

use std::io::SeekFrom;
use std::ops::Range;
use std::path::Path as FilePath;
use std::time::Duration;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use wafer_store::{Error, Kind, Result};

use super::error::status;
use super::{BucketClient, CONCURRENT_PARTS, PART_BYTES, failed, parts_of};
use crate::pauses::Pauses;

/// Maximum number of parts of an object, which is a limit of S3.
const MAX_PARTS: u64 = 10_000;
/// Maximum size of a part.
const MAX_PART_BYTES: u64 = 64 << 20;
/// How often a write is begun if S3 says that another write of the object is in progress.
const ATTEMPTS: u32 = 4;
/// The first pause before a write is begun again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The content of an object that is to be written.
#[derive(Debug)]
pub(crate) enum Content<'a> {
    /// Bytes in memory.
    Memory(Bytes),
    /// A local file and its size.
    File(&'a FilePath, u64),
}

impl<'a> Content<'a> {
    /// Takes the content from a local file, which must not change until it is written.
    pub(crate) async fn of_file(path: &'a FilePath) -> Result<Self> {
        let metadata = tokio::fs::metadata(path).await;
        Ok(Self::File(path, metadata.map_err(unreadable(path))?.len()))
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(_, bytes) => *bytes,
        }
    }

    /// Returns whether the content is written in parts.
    pub(crate) fn is_large(&self) -> bool {
        self.bytes() > PART_BYTES
    }

    async fn slice(&self, range: Range<u64>) -> Result<Bytes> {
        match self {
            Self::Memory(bytes) => Ok(bytes.slice(range.start as usize..range.end as usize)),
            Self::File(path, _) => read(path, range).await.map_err(unreadable(path)),
        }
    }
}

fn unreadable(path: &FilePath) -> impl FnOnce(std::io::Error) -> Error {
    move |e| Error::caused(Kind::Internal, format!("cannot read {}", path.display()), e)
}

async fn read(path: &FilePath, range: Range<u64>) -> std::io::Result<Bytes> {
    let mut file = tokio::fs::File::open(path).await?;
    file.seek(SeekFrom::Start(range.start)).await?;
    let mut bytes = vec![0; (range.end - range.start) as usize];
    file.read_exact(&mut bytes).await?;
    Ok(bytes.into())
}

/// What happens to an object that has the key already.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Existing {
    /// It is replaced.
    Replace,
    /// It stays, and the write fails with [`Kind::Conflict`].
    Keep,
}

impl Existing {
    /// Value of the header `If-None-Match`.
    fn condition(self) -> Option<String> {
        (self == Self::Keep).then(|| "*".to_owned())
    }
}

/// Why a write failed.
#[derive(Debug)]
pub(crate) enum WriteFailure {
    /// The write has to be begun again. What S3 was asked before may have written the object.
    Interrupted(Error),
    Failed(Error),
}

impl WriteFailure {
    /// Returns the error of a write that is not begun again.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Failed(error) => error,
            Self::Interrupted(error) => {
                let message = format!("{error}: others write the same object; try again");
                Error::caused(Kind::Unavailable, message, error)
            }
        }
    }
}

/// Returns the pauses after which a write is begun again.
pub(crate) const fn write_pauses() -> Pauses {
    Pauses::new(ATTEMPTS, FIRST_PAUSE)
}

impl From<Error> for WriteFailure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Converts an error of S3. S3 answers 409 if another write of the same object is in progress, and
/// then wants a new upload of all parts:
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>. An upload that
/// is gone was completed by an attempt whose answer was lost, or was aborted by somebody else.
fn failure<E>(action: &str, error: SdkError<E, HttpResponse>) -> WriteFailure
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let is_interrupted = status(&error) == Some(409) || error.code() == Some("NoSuchUpload");
    let error = failed(action, error);
    match is_interrupted {
        true => WriteFailure::Interrupted(error),
        false => WriteFailure::Failed(error),
    }
}

impl BucketClient {
    /// Writes an object. Readers see all of it or nothing.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when there is an object of that key that is to be kept, and
    /// [`Kind::Unavailable`] when other writes of the same object are in progress all the time.
    pub(crate) async fn write(
        &self,
        key: &Path,
        content: &Content<'_>,
        existing: Existing,
        action: &str,
    ) -> Result<()> {
        let mut pauses = write_pauses();
        loop {
            let Err(failure) = self.write_once(key, content, existing, action).await else {
                return Ok(());
            };
            let may_help = matches!(failure, WriteFailure::Interrupted(_));
            if !may_help || !pauses.pause().await {
                return Err(failure.into_error());
            }
        }
    }

    /// Writes an object like [`write`](Self::write), but does not begin again. Requests that
    /// fail are attempted again nevertheless; all of them are about one upload, which S3 completes
    /// once at most.
    ///
    /// # Errors
    /// Returns [`WriteFailure::Interrupted`] when the write has to be begun again, and otherwise
    /// the errors of [`write`](Self::write).
    pub(crate) async fn write_once(
        &self,
        key: &Path,
        content: &Content<'_>,
        existing: Existing,
        action: &str,
    ) -> Result<(), WriteFailure> {
        match content.is_large() {
            true => self.write_in_parts(key, content, existing, action).await,
            false => self.write_at_once(key, content, existing, action).await,
        }
    }

    async fn write_at_once(
        &self,
        key: &Path,
        content: &Content<'_>,
        existing: Existing,
        action: &str,
    ) -> Result<(), WriteFailure> {
        let bytes = content.slice(0..content.bytes()).await?;
        let request = self.client.put_object().bucket(&self.bucket);
        let request = request
            .key(key.as_ref())
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .set_if_none_match(existing.condition())
            .body(ByteStream::from(bytes));
        request.send().await.map_err(|e| failure(action, e))?;
        Ok(())
    }

    async fn write_in_parts(
        &self,
        key: &Path,
        content: &Content<'_>,
        existing: Existing,
        action: &str,
    ) -> Result<(), WriteFailure> {
        let parts = parts(content.bytes()).ok_or_else(|| {
            let message = format!(
                "cannot {action}: it is larger than {} GiB, which is the maximum",
                (MAX_PARTS * MAX_PART_BYTES) >> 30
            );
            Error::invalid(message)
        })?;
        let request = self.client.create_multipart_upload().bucket(&self.bucket);
        let request = request.checksum_algorithm(ChecksumAlgorithm::Sha256);
        let begun = request.key(key.as_ref()).send().await;
        let begun = begun.map_err(|e| failure(action, e))?;
        let upload = Upload {
            to: self,
            key,
            id: begun.upload_id.unwrap_or_default(),
            action,
        };
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

/// An upload of an object in parts. The object exists when the upload is completed.
struct Upload<'a> {
    to: &'a BucketClient,
    key: &'a Path,
    id: String,
    action: &'a str,
}

impl Upload<'_> {
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
        let request = self.to.client.upload_part().bucket(&self.to.bucket);
        let request = request
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
        let request = self.to.client.complete_multipart_upload();
        let request = request
            .bucket(&self.to.bucket)
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
        let request = self.to.client.abort_multipart_upload();
        let request = request.bucket(&self.to.bucket).key(self.key.as_ref());
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
