//! Writing objects: small ones by one request, large ones in parts (`multipart.rs`).
//!
//! Every request has a SHA-256 checksum of its content. S3 verifies it, and refuses what was
//! damaged in transit.

use std::time::Duration;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ChecksumAlgorithm;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use object_store::path::Path;
use wafer_store::{Error, Kind, Result};

use super::content::Content;
use super::error::status;
use super::{BucketClient, failed};
use crate::pauses::Pauses;

/// How often a write is begun if S3 says that another write of the object is in progress.
const ATTEMPTS: u32 = 4;
/// The first pause before a write is begun again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

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
    pub(super) fn condition(self) -> Option<String> {
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
pub(super) fn failure<E>(action: &str, error: SdkError<E, HttpResponse>) -> WriteFailure
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
}
