//! The objects of a bucket, by the AWS SDK: artifacts and source files, which can be large.
//!
//! A small object is written and read by one request. A large one is written and read in parts,
//! some of them at the same time. Each part has a timeout and retries of its own, so that a
//! connection that breaks costs a part and not the whole transfer, and only a few parts are in
//! memory at once. No transfer has a timeout as a whole.
//!
//! The tables and the outbox use `object_store` instead, through [`Bucket`](crate::Bucket), which
//! reads and writes their large objects here as well.

mod content;
mod download;
mod error;
mod multipart;
#[cfg(test)]
mod tests;
mod upload;

use std::ops::Range;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{EncodingType, Object};
use object_store::path::Path;
use url::{Url, form_urlencoded};
use wafer_store::{Error, Kind, Result};

use crate::account::{Account, S3_ATTEMPT_TIMEOUT};

use self::error::{is_missing, unless_missing};

pub(crate) use self::content::Content;
pub(crate) use self::download::Version;
pub(crate) use self::error::{BAD_CREDENTIALS, NO_BUCKET, OTHER_REGION, failed, not_allowed};
pub(crate) use self::upload::{Existing, WriteFailure, write_pauses};

/// Size of the parts of large objects, and of the largest object that is written by one request.
pub(crate) const PART_BYTES: u64 = 8 << 20;
/// Maximum number of parts of an object that are transferred concurrently.
pub(crate) const CONCURRENT_PARTS: usize = 4;
/// The largest number of objects that a folder may have to be listed.
const MAX_LISTED: usize = 1_000_000;

/// Reads and writes the objects of a bucket.
///
/// Each method takes the action, such as `read s3://BUCKET/KEY`, for error messages.
#[derive(Clone, Debug)]
pub(crate) struct BucketClient {
    client: Client,
    bucket: String,
    /// Timeout of an attempt to read the content of a part, which the SDK's own timeout does not
    /// include.
    part_timeout: Duration,
}

/// What S3 says about an object.
#[derive(Debug)]
pub(crate) struct ObjectInfo {
    pub(crate) key: Path,
    pub(crate) bytes: u64,
    /// Identifies the content.
    pub(crate) entity_tag: String,
}

/// The objects in a folder and in the folders below it.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) objects: Vec<ObjectInfo>,
    /// The keys that cannot be paths, such as `a//b`, or one with a line break.
    pub(crate) odd: Vec<String>,
}

impl BucketClient {
    /// Opens the bucket of an `s3://` URL. This makes no request to S3.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when `url` is not an `s3://` URL.
    pub(crate) fn open(account: &Account, url: &Url) -> Result<Self> {
        let bucket = url.host_str().filter(|_| url.scheme() == "s3");
        let bucket = bucket.ok_or_else(|| {
            let message = format!("`{url}` is not a folder on S3; write s3://BUCKET/FOLDER");
            Error::new(Kind::Invalid, message)
        })?;
        Ok(Self {
            client: account.s3(),
            bucket: bucket.to_owned(),
            part_timeout: S3_ATTEMPT_TIMEOUT,
        })
    }

    /// Returns the same bucket, with another timeout for the content of a part that is read.
    #[cfg(test)]
    pub(crate) fn with_part_timeout(self, part_timeout: Duration) -> Self {
        Self {
            part_timeout,
            ..self
        }
    }

    /// Name of the bucket.
    pub(crate) fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Returns what S3 says about an object, or `None` if there is no object of that key.
    pub(crate) async fn head(&self, key: &Path, action: &str) -> Result<Option<ObjectInfo>> {
        let request = self.client.head_object().bucket(&self.bucket);
        let found = request.key(key.as_ref()).send().await;
        let Some(found) = unless_missing(found, action)? else {
            return Ok(None);
        };
        let (bytes, tag) = (found.content_length, found.e_tag);
        Ok(Some(info(key.clone(), bytes, tag, action)?))
    }

    /// Lists the objects in a folder and in the folders below it, without the empty objects by
    /// which consoles show folders.
    ///
    /// Keys are asked for in the encoding of URLs, as XML has no form for most control characters.
    pub(crate) async fn list(&self, folder: &Path, action: &str) -> Result<Listing> {
        let prefix = match folder.as_ref() {
            "" => None,
            folder => Some(format!("{folder}/")),
        };
        let request = self.client.list_objects_v2().bucket(&self.bucket);
        let request = request.set_prefix(prefix).encoding_type(EncodingType::Url);
        let mut pages = request.into_paginator().send();
        let mut listing = Listing::default();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|e| failed(action, e))?;
            // A server that does not know the encoding does not name it.
            let is_encoded = page.encoding_type == Some(EncodingType::Url);
            for object in page.contents.unwrap_or_default() {
                listing.add(object, is_encoded, action)?;
            }
            if listing.objects.len() + listing.odd.len() > MAX_LISTED {
                let message = format!("cannot {action}: there are more than {MAX_LISTED} objects");
                return Err(Error::invalid(message));
            }
        }
        Ok(listing)
    }

    /// Deletes an object. It is not an error if the object does not exist.
    pub(crate) async fn delete(&self, key: &Path, action: &str) -> Result<()> {
        let request = self.client.delete_object().bucket(&self.bucket);
        match request.key(key.as_ref()).send().await {
            Ok(_) => Ok(()),
            Err(e) if is_missing(&e) => Ok(()),
            Err(e) => Err(failed(action, e)),
        }
    }
}

/// Cuts a range into parts of `part` bytes, of which the last may be smaller.
pub(crate) fn parts_of(range: Range<u64>, part: u64) -> impl Iterator<Item = Range<u64>> {
    let Range { start, end } = range;
    let count = end.saturating_sub(start).div_ceil(part);
    (0..count).map(move |number| {
        let start = start + number * part;
        start..end.min(start + part)
    })
}

impl Listing {
    fn add(&mut self, object: Object, is_encoded: bool, action: &str) -> Result<()> {
        let key = object.key.unwrap_or_default();
        let key = match is_encoded {
            true => form_decoded(&key),
            false => key,
        };
        if key.ends_with('/') && object.size == Some(0) {
            return Ok(());
        }
        // A path loses a slash at its beginning or its end.
        match Path::parse(&key)
            .ok()
            .filter(|path| path.as_ref() == key.as_str())
        {
            Some(path) => self
                .objects
                .push(info(path, object.size, object.e_tag, action)?),
            None => self.odd.push(key),
        }
        Ok(())
    }
}

/// Decodes a key from the encoding of HTML forms, in which S3 has it in lists and in notifications.
pub(crate) fn form_decoded(key: &str) -> String {
    let form = format!("key={}", key.replace('&', "%26"));
    let mut pairs = form_urlencoded::parse(form.as_bytes());
    pairs
        .next()
        .map_or_else(String::new, |(_, key)| key.into_owned())
}

fn info(
    key: Path,
    bytes: Option<i64>,
    entity_tag: Option<String>,
    action: &str,
) -> Result<ObjectInfo> {
    let bytes = bytes.and_then(|bytes| u64::try_from(bytes).ok());
    match (bytes, entity_tag) {
        (Some(bytes), Some(entity_tag)) => Ok(ObjectInfo {
            key,
            bytes,
            entity_tag,
        }),
        _ => {
            let message =
                format!("cannot {action}: the server gives no size or entity tag of {key}");
            Err(Error::new(Kind::Internal, message))
        }
    }
}
