//! Reading objects: small ones by one request, large ones in parts.

use std::ops::Range;
use std::time::Duration;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use wafer_store::{Error, Kind, Result};

use super::error::{status, unless_missing};
use super::{BucketClient, CONCURRENT_PARTS, PART_BYTES};

/// Maximum number of attempts to read a part whose content did not arrive. The SDK retries
/// requests, but not after the content has begun.
const ATTEMPTS: u32 = 5;
/// How long to wait before a part is read again. The wait doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// An object that is being read, with its first part in memory.
#[derive(Debug)]
pub(crate) struct Download<'a> {
    from: &'a BucketClient,
    key: &'a Path,
    action: &'a str,
    first: Part,
}

/// A part of an object.
#[derive(Debug)]
struct Part {
    content: Bytes,
    /// Size of the whole object.
    total: u64,
    /// Identifies the content of the whole object.
    entity_tag: Option<String>,
}

impl BucketClient {
    /// Begins to read an object. Returns `None` if there is no object of that key. With `version`,
    /// the object must have this entity tag.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when the object has another entity tag.
    pub(crate) async fn open_object<'a>(
        &'a self,
        key: &'a Path,
        version: Option<&str>,
        action: &'a str,
    ) -> Result<Option<Download<'a>>> {
        let first = self.read_part(key, 0..PART_BYTES, version, action).await?;
        Ok(first.map(|first| Download {
            from: self,
            key,
            action,
            first,
        }))
    }

    /// Reads a part, again if its content does not arrive in time.
    async fn read_part(
        &self,
        key: &Path,
        range: Range<u64>,
        version: Option<&str>,
        action: &str,
    ) -> Result<Option<Part>> {
        let (mut attempts, mut wait) = (0, FIRST_WAIT);
        loop {
            let answer = self.request(key, &range, version, action).await?;
            let Some(answer) = answer else {
                return Ok(None);
            };
            let part = tokio::time::timeout(self.part_timeout, collect(answer, action)).await;
            let part = part.unwrap_or_else(|_| {
                let message = format!("cannot {action}: S3 does not send it in time");
                Err(Error::new(Kind::Unavailable, message))
            });
            attempts += 1;
            match part {
                Err(e) if e.kind() == Kind::Unavailable && attempts < ATTEMPTS => {
                    tracing::debug!(error = %e.chain(), "a part is read again");
                }
                other => return other.map(Some),
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
    }

    /// Requests a range of an object, which may end behind the object.
    async fn request(
        &self,
        key: &Path,
        range: &Range<u64>,
        version: Option<&str>,
        action: &str,
    ) -> Result<Option<GetObjectOutput>> {
        let request = self.client.get_object().bucket(&self.bucket);
        let request = request
            .key(key.as_ref())
            .set_if_match(version.map(ToOwned::to_owned));
        let part = request.clone();
        let part = part.range(format!("bytes={}-{}", range.start, range.end - 1));
        let mut answer = part.send().await;
        // An empty object has no range of bytes.
        if answer.as_ref().err().and_then(status) == Some(416) && range.start == 0 {
            answer = request.send().await;
        }
        unless_missing(answer, action)
    }
}

async fn collect(answer: GetObjectOutput, action: &str) -> Result<Part> {
    // `bytes 0-99/1234`; it is absent if the answer is the whole object.
    let total = answer.content_range.as_deref().and_then(|range| {
        let (_, total) = range.rsplit_once('/')?;
        total.parse().ok()
    });
    let content = answer.body.collect().await.map_err(|e| {
        let message = format!("cannot {action}: the connection was lost");
        Error::caused(Kind::Unavailable, message, e)
    })?;
    let content = content.into_bytes();
    Ok(Part {
        total: total.unwrap_or(content.len() as u64),
        content,
        entity_tag: answer.e_tag,
    })
}

impl Download<'_> {
    /// Returns the content, piece by piece. At most [`CONCURRENT_PARTS`] parts are in memory.
    ///
    /// The pieces fail with [`Kind::Conflict`] if the object was replaced since it was opened.
    pub(crate) fn pieces(&self) -> impl Stream<Item = Result<Bytes>> {
        let first = futures::stream::iter([Ok(self.first.content.clone())]);
        let start = self.first.content.len() as u64;
        let starts = (start..self.first.total).step_by(PART_BYTES as usize);
        let rest = futures::stream::iter(starts)
            .map(|start| self.part(start..self.first.total.min(start + PART_BYTES)))
            .buffered(CONCURRENT_PARTS);
        first.chain(rest)
    }

    /// Reads the whole object into memory.
    pub(crate) async fn content(&self) -> Result<Bytes> {
        if self.first.content.len() as u64 == self.first.total {
            return Ok(self.first.content.clone());
        }
        let all = Vec::with_capacity(self.first.total as usize);
        let all = self.pieces().try_fold(all, |mut all, piece| {
            all.extend_from_slice(&piece);
            std::future::ready(Ok(all))
        });
        Ok(all.await?.into())
    }

    async fn part(&self, range: Range<u64>) -> Result<Bytes> {
        let (key, action, bytes) = (self.key, self.action, range.end - range.start);
        let part = self.from.read_part(key, range, None, action).await?;
        // Every answer names the version that it is of. This is compared, and not required by
        // `If-Match`, because not all servers understand a quoted entity tag there.
        let is_same = |part: &Part| {
            part.entity_tag.is_some()
                && part.entity_tag == self.first.entity_tag
                && part.total == self.first.total
        };
        let part = part.filter(is_same).ok_or_else(|| {
            let message = format!("cannot {action}: it was replaced while it was read; try again");
            Error::new(Kind::Conflict, message)
        })?;
        if part.content.len() as u64 == bytes {
            return Ok(part.content);
        }
        let message = format!(
            "cannot {action}: the server does not answer with the range that was asked for"
        );
        Err(Error::new(Kind::Internal, message))
    }
}
