//! Reading objects: small ones by one request, large ones in parts.

use std::ops::Range;
use std::time::Duration;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use wafer_store::{Error, Kind, Result};

use super::error::{status, unless_missing};
use super::{BucketClient, CONCURRENT_PARTS, PART_BYTES, parts_of};
use crate::pauses::Pauses;

/// Maximum number of attempts in a row to read a part of which hardly anything arrives. The SDK
/// retries requests, but not after the content has begun.
const ATTEMPTS: u32 = 5;
/// How much an attempt has to bring to count as a success. A line that is so slow that a part does
/// not arrive within one timeout brings it in several, and at most in 128.
const PROGRESS_BYTES: u64 = 64 << 10;
/// The first pause before the rest of a part is read again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Which content of an object is meant. Every answer names the one that it is of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Version {
    /// Identifies the content.
    pub(crate) entity_tag: Option<String>,
    /// Size of the whole object.
    pub(crate) total: u64,
}

impl Version {
    /// Returns what an answer is of, which must begin where `range` does.
    fn of(answer: &GetObjectOutput, range: &Range<u64>, action: &str) -> Result<Self> {
        let place = match &answer.content_range {
            Some(text) => content_range(text),
            // The answer is the whole object.
            None => answer
                .content_length
                .and_then(|bytes| Some((0, u64::try_from(bytes).ok()?))),
        };
        let place = place.filter(|(start, _)| *start == range.start);
        let (_, total) = place.ok_or_else(|| other_range(action))?;
        Ok(Self {
            entity_tag: answer.e_tag.clone(),
            total,
        })
    }
}

/// Returns the start of a range, and the size of the object, of a header such as
/// `bytes 0-99/1234`.
fn content_range(text: &str) -> Option<(u64, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.parse().ok()?, total.parse().ok()?))
}

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
    version: Version,
}

impl BucketClient {
    /// Begins to read an object. Returns `None` if there is no object of that key. With
    /// `entity_tag`, the object must have it.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when the object has another entity tag.
    pub(crate) async fn open_object<'a>(
        &'a self,
        key: &'a Path,
        entity_tag: Option<&str>,
        action: &'a str,
    ) -> Result<Option<Download<'a>>> {
        let first = self.read_part(key, 0..PART_BYTES, entity_tag, action);
        Ok(first.await?.map(|first| Download {
            from: self,
            key,
            action,
            first,
        }))
    }

    /// Reads a range of an object, of [`PART_BYTES`] at most, as it is in one version.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when the object has another version by now, or is gone.
    pub(crate) async fn read_version(
        &self,
        key: &Path,
        range: Range<u64>,
        version: &Version,
        action: &str,
    ) -> Result<Bytes> {
        let part = self.read_part(key, range, None, action).await?;
        // This is compared, and not required by `If-Match`, because not all servers understand a
        // quoted entity tag there.
        let part = part.filter(|p| p.version == *version && version.entity_tag.is_some());
        part.map(|part| part.content)
            .ok_or_else(|| replaced(action))
    }

    /// Reads a part. If its content breaks off, or does not arrive in time, the rest of it is
    /// requested again; if it was damaged on its way, all of it.
    async fn read_part(
        &self,
        key: &Path,
        range: Range<u64>,
        entity_tag: Option<&str>,
        action: &str,
    ) -> Result<Option<Part>> {
        let mut content = Vec::new();
        let mut known: Option<Version> = None;
        let mut pauses = Pauses::new(ATTEMPTS, FIRST_PAUSE);
        loop {
            let before = content.len() as u64;
            let rest = range.start + before..range.end;
            let answer = self.request(key, &rest, entity_tag, action).await?;
            let Some(answer) = answer else {
                return match known {
                    None => Ok(None),
                    Some(_) => Err(replaced(action)),
                };
            };
            let version = Version::of(&answer, &rest, action)?;
            if known.is_some_and(|known| known != version) {
                return Err(replaced(action));
            }
            let wanted = range.end.min(version.total).saturating_sub(range.start);
            let arriving = append(answer.body, &mut content, wanted, action);
            let arrived = tokio::time::timeout(self.part_timeout, arriving).await;
            let bytes = content.len() as u64;
            let error = match arrived {
                Ok(Ok(())) if bytes == wanted => {
                    let content = content.into();
                    return Ok(Some(Part { content, version }));
                }
                Ok(Ok(())) => return Err(other_range(action)),
                Ok(Err(e)) => e,
                Err(_) => late(action),
            };
            tracing::debug!(error = %error.chain(), "the rest of a part is read again");
            if bytes == wanted {
                // The SDK compares the checksum of an answer when all of it has arrived, and says
                // then that it was damaged.
                content.clear();
            } else if bytes - before >= PROGRESS_BYTES {
                pauses = Pauses::new(ATTEMPTS, FIRST_PAUSE);
            }
            if !pauses.pause().await {
                return Err(error);
            }
            known = Some(version);
        }
    }

    /// Requests a range of an object, which may end behind the object.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when the range begins behind the object.
    async fn request(
        &self,
        key: &Path,
        range: &Range<u64>,
        entity_tag: Option<&str>,
        action: &str,
    ) -> Result<Option<GetObjectOutput>> {
        let request = self.client.get_object().bucket(&self.bucket);
        let request = request
            .key(key.as_ref())
            .set_if_match(entity_tag.map(ToOwned::to_owned));
        let part = request.clone();
        let part = part.range(format!("bytes={}-{}", range.start, range.end - 1));
        let mut answer = part.send().await;
        if answer.as_ref().err().and_then(status) == Some(416) {
            // The object was longer when its beginning was read.
            if range.start > 0 {
                return Err(replaced(action));
            }
            // An empty object has no range of bytes.
            answer = request.send().await;
        }
        unless_missing(answer, action)
    }
}

/// Appends a body to what has arrived of a part, piece by piece, so that nothing is lost of a body
/// that breaks off. Stops at more than `wanted` bytes.
async fn append(
    mut body: ByteStream,
    content: &mut Vec<u8>,
    wanted: u64,
    action: &str,
) -> Result<()> {
    let lost = |e| {
        let message = format!("cannot {action}: its content did not arrive whole");
        Error::caused(Kind::Unavailable, message, e)
    };
    while let Some(piece) = body.try_next().await.map_err(lost)? {
        content.extend_from_slice(&piece);
        if content.len() as u64 > wanted {
            break;
        }
    }
    Ok(())
}

fn late(action: &str) -> Error {
    let message = format!("cannot {action}: S3 does not send it in time");
    Error::new(Kind::Unavailable, message)
}

fn replaced(action: &str) -> Error {
    let message = format!("cannot {action}: it was replaced while it was read; try again");
    Error::new(Kind::Conflict, message)
}

fn other_range(action: &str) -> Error {
    let message =
        format!("cannot {action}: the server does not answer with the range that was asked for");
    Error::new(Kind::Internal, message)
}

impl Download<'_> {
    /// Returns the size of the whole object in bytes.
    pub(crate) fn total(&self) -> u64 {
        self.first.version.total
    }

    /// Returns the content, piece by piece. At most [`CONCURRENT_PARTS`] parts are in memory.
    ///
    /// The pieces fail with [`Kind::Conflict`] if the object was replaced since it was opened.
    pub(crate) fn pieces(&self) -> impl Stream<Item = Result<Bytes>> {
        let first = futures::stream::iter([Ok(self.first.content.clone())]);
        let start = self.first.content.len() as u64;
        let rest = parts_of(start..self.first.version.total, PART_BYTES);
        let rest = futures::stream::iter(rest)
            .map(|range| self.part(range))
            .buffered(CONCURRENT_PARTS);
        first.chain(rest)
    }

    /// Reads the whole object into memory.
    pub(crate) async fn content(&self) -> Result<Bytes> {
        let total = self.first.version.total;
        if self.first.content.len() as u64 == total {
            return Ok(self.first.content.clone());
        }
        let all = Vec::with_capacity(total as usize);
        let all = self.pieces().try_fold(all, |mut all, piece| {
            all.extend_from_slice(&piece);
            std::future::ready(Ok(all))
        });
        Ok(all.await?.into())
    }

    async fn part(&self, range: Range<u64>) -> Result<Bytes> {
        let (key, version) = (self.key, &self.first.version);
        self.from
            .read_version(key, range, version, self.action)
            .await
    }
}
