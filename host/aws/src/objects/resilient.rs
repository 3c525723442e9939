//! The object store of a bucket, by `object_store`, made to get over slow lines and broken
//! connections.
//!
//! `object_store` reads and writes an object by one request. Its timeout includes the content, and
//! it does not resume an answer for longer than it retries requests: an object that takes longer
//! can never be transferred. So what is larger than [`PART_BYTES`] is read and written in parts by
//! the AWS SDK ([`BucketClient`]), as artifacts are: each part has a timeout and attempts of its
//! own, and parts of different versions are never joined. The timeout of a request of
//! `object_store` is then one of a part as well.
//!
//! Parts of uploads share a line (`multipart.rs`). Requests that create (`create.rs`) or delete
//! objects are attempted again if their connection breaks, though `object_store` takes them for
//! requests that may not be repeated.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum};
use object_store::client::{HttpClient, HttpConnector};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, CopyOptions, GetOptions, GetRange, GetResult, GetResultPayload,
    ListResult, MultipartUpload, OBJECT_STORE_COALESCE_DEFAULT, ObjectMeta, ObjectStore,
    ObjectStoreExt as _, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    RenameOptions, Result, RetryConfig, TagSet, coalesce_ranges,
};
use tokio::sync::Semaphore;
use wafer_store::Kind;

use super::create::Deadline;
use super::is_transient;
use super::multipart::{ResilientUpload, UPLOADED_MEBIBYTES};
use crate::account::{Account, BucketEndpoint, bucket_endpoint};
use crate::connections::{self, Encryption};
use crate::pauses::Pauses;
use crate::s3::{BucketClient, CONCURRENT_PARTS, Content, Existing, PART_BYTES, Version, parts_of};

/// How long a request is retried. It has a part of an object as its content, or less, so this does
/// not limit how long an object may take. All attempts have one signature, which S3 accepts for 15
/// minutes: <https://docs.aws.amazon.com/AmazonS3/latest/API/RESTAuthentication.html>.
pub(super) const RETRY_TIMEOUT: Duration = Duration::from_secs(180);
/// Maximum number of retries of a request.
const RETRIES: usize = 20;
/// The first pause before a retry. It grows up to the longest one. It is short because the cause
/// may be a connection that was idle and is gone.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Maximum number of attempts of a request that `object_store` does not retry.
pub(super) const ATTEMPTS: u32 = 16;
/// Maximum number of objects that S3 deletes by one request.
const DELETED_AT_ONCE: usize = 1_000;
/// How many of these requests are made concurrently.
const CONCURRENT_DELETES: usize = 4;

/// The objects of a whole bucket; see the module's documentation.
#[derive(Debug)]
pub(super) struct ResilientStore {
    /// Retries what `object_store` takes for repeatable.
    pub(super) retrying: Arc<AmazonS3>,
    /// Makes one attempt, on the same connections.
    pub(super) single: AmazonS3,
    /// Reads and writes large objects.
    pub(super) client: BucketClient,
    /// Mebibytes of parts that may be uploaded at the moment.
    line: Arc<Semaphore>,
    /// Whether the server looks at `If-None-Match` when an upload in parts is completed. S3 does:
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>. Ceph RADOS
    /// gateway 16 does not. There, a large object is created by one request.
    pub(super) creates_in_parts: bool,
}

/// Opens no connections, but gives those of another client.
#[derive(Debug)]
struct SharedConnections(HttpClient);

impl HttpConnector for SharedConnections {
    fn connect(&self, _options: &ClientOptions) -> Result<HttpClient> {
        Ok(self.0.clone())
    }
}

impl ResilientStore {
    /// Opens the bucket of `client`. `timeout` is that of an attempt of a request. This makes no
    /// request to S3.
    pub(super) fn open(account: &Account, client: BucketClient, timeout: Duration) -> Result<Self> {
        let endpoint = account.endpoint("S3");
        let is_http = endpoint.as_ref().is_some_and(|e| e.starts_with("http://"));
        let options = ClientOptions::new().with_allow_http(is_http);
        let encryption = match is_http {
            true => Encryption::Optional,
            false => Encryption::Required,
        };
        let connections = connections::client(encryption, timeout);
        let connections = connections.map_err(|e| object_store::Error::Generic {
            store: "S3",
            source: Box::new(e),
        })?;
        let store = |max_retries| {
            let retries = RetryConfig {
                backoff: BackoffConfig {
                    init_backoff: FIRST_PAUSE,
                    max_backoff: LONGEST_PAUSE,
                    ..BackoffConfig::default()
                },
                max_retries,
                retry_timeout: RETRY_TIMEOUT,
            };
            let builder = AmazonS3Builder::new()
                .with_bucket_name(client.bucket())
                .with_region(account.region())
                .with_credentials(Arc::new(account.credentials.clone()))
                .with_retry(retries)
                .with_client_options(options.clone())
                .with_http_connector(SharedConnections(connections.clone()))
                // S3 verifies the checksum, and refuses data that was damaged in transit.
                .with_checksum_algorithm(Checksum::SHA256);
            let builder = match &endpoint {
                Some(endpoint) => builder.with_endpoint(endpoint),
                None => {
                    let endpoint = bucket_endpoint(account.region(), client.bucket());
                    let is_in_host = matches!(endpoint, BucketEndpoint::VirtualHosted(_));
                    builder
                        .with_endpoint(endpoint.into_url())
                        .with_virtual_hosted_style_request(is_in_host)
                }
            };
            builder.build()
        };
        Ok(Self {
            retrying: Arc::new(store(RETRIES)?),
            single: store(0)?,
            line: Arc::new(Semaphore::new(UPLOADED_MEBIBYTES as usize)),
            creates_in_parts: endpoint.is_none(),
            client,
        })
    }

    /// Describes an action on an object, for error messages.
    pub(super) fn about(&self, action: &str, location: &Path) -> String {
        format!("{action} s3://{}/{location}", self.client.bucket())
    }

    /// Returns a range of an object in parts. `found` is the answer to a request for all of the
    /// range, or for its first part.
    fn in_parts(&self, location: &Path, found: GetResult, range: Range<u64>) -> GetResult {
        let (meta, attributes) = (found.meta.clone(), found.attributes.clone());
        let (start, sent) = (range.start, found.range.end);
        // An answer that is the whole range is dropped before its content comes.
        let first = (sent < range.end).then(|| found.into_stream());
        let start = if first.is_some() { sent } else { start };
        let version = Version {
            entity_tag: meta.e_tag.clone(),
            total: meta.size,
        };
        let rest = self.parts(location, start..range.end, version);
        let stream = futures::stream::iter(first).flatten().chain(rest);
        GetResult {
            payload: GetResultPayload::Stream(stream.boxed()),
            meta,
            range,
            attributes,
        }
    }

    /// Reads a range of one version of an object in parts, of which [`CONCURRENT_PARTS`] are in
    /// memory at most.
    fn parts(
        &self,
        location: &Path,
        range: Range<u64>,
        version: Version,
    ) -> BoxStream<'static, Result<Bytes>> {
        let (client, location) = (self.client.clone(), location.clone());
        let about = self.about("read", &location);
        let read = move |part: Range<u64>| {
            let (client, location) = (client.clone(), location.clone());
            let (version, about) = (version.clone(), about.clone());
            async move {
                let content = client.read_version(&location, part, &version, &about);
                content.await.map_err(|e| library_error(&location, e))
            }
        };
        futures::stream::iter(parts_of(range, PART_BYTES))
            .map(read)
            .buffered(CONCURRENT_PARTS)
            .boxed()
    }

    /// Writes an object in parts, in place of the one that has its name.
    async fn replace_in_parts(&self, location: &Path, payload: PutPayload) -> Result<PutResult> {
        let about = self.about("write", location);
        let content = Content::Memory(payload.into());
        let written = self
            .client
            .write(location, &content, Existing::Replace, &about);
        written.await.map_err(|e| library_error(location, e))?;
        Ok(WRITTEN_IN_PARTS)
    }
}

/// What is returned of an object that was written in parts. Those who write tables and the outbox
/// do not ask for the entity tag.
pub(super) const WRITTEN_IN_PARTS: PutResult = PutResult {
    e_tag: None,
    version: None,
};

/// Returns the range that is asked for, if it is known to be large.
fn large_range(options: &GetOptions) -> Option<Range<u64>> {
    match &options.range {
        Some(GetRange::Bounded(range)) if range.end.saturating_sub(range.start) > PART_BYTES => {
            Some(range.clone())
        }
        _ => None,
    }
}

/// Returns an error of the AWS SDK as one of `object_store`.
pub(super) fn library_error(location: &Path, error: wafer_store::Error) -> object_store::Error {
    let path = location.to_string();
    match error.kind() {
        Kind::NotFound => object_store::Error::NotFound {
            path,
            source: Box::new(error),
        },
        Kind::Conflict => object_store::Error::Precondition {
            path,
            source: Box::new(error),
        },
        _ => object_store::Error::Generic {
            store: "S3",
            source: Box::new(error),
        },
    }
}

/// Deletes objects by one request, again if it fails. An object that is gone is not an error.
async fn delete_all(store: &AmazonS3, locations: Vec<Path>) -> Vec<Result<Path>> {
    let mut pauses = Pauses::new(ATTEMPTS, FIRST_PAUSE);
    loop {
        let wanted = futures::stream::iter(locations.clone()).map(Ok).boxed();
        let deleted: Vec<Result<Path>> = store.delete_stream(wanted).collect().await;
        let mut failures = deleted.iter().filter_map(|deleted| deleted.as_ref().err());
        let may_pass = failures.any(is_transient);
        if !may_pass || !pauses.pause().await {
            return deleted;
        }
    }
}

impl fmt::Display for ResilientStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.retrying, f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for ResilientStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        // Tags and attributes are left to `object_store`.
        let is_large = payload.content_length() as u64 > PART_BYTES
            && options.attributes.is_empty()
            && options.tags == TagSet::default();
        match options.mode {
            PutMode::Overwrite if is_large => self.replace_in_parts(location, payload).await,
            PutMode::Create if is_large && self.creates_in_parts => {
                let deadline = options.extensions.get::<Deadline>();
                self.create_in_parts(location, payload, deadline).await
            }
            PutMode::Create => self.create(location, payload, options).await,
            PutMode::Overwrite | PutMode::Update(_) => {
                self.retrying.put_opts(location, payload, options).await
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.retrying.put_multipart_opts(location, options).await?;
        let (store, line) = (Arc::clone(&self.retrying), Arc::clone(&self.line));
        let upload = ResilientUpload::new(upload, store, location.clone(), line);
        Ok(Box::new(upload))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if options.head || options.version.is_some() {
            return self.retrying.get_opts(location, options).await;
        }
        let large = large_range(&options);
        let first = match &large {
            Some(range) => {
                let first = range.start..range.start + PART_BYTES;
                options.clone().with_range(Some(first))
            }
            None => options.clone(),
        };
        let found = self.retrying.get_opts(location, first).await?;
        let range = match large {
            Some(large) => large.start..large.end.min(found.meta.size),
            None => found.range.clone(),
        };
        if range.end - range.start <= PART_BYTES {
            return Ok(found);
        }
        // Without an entity tag, nobody would know of what a part is.
        if found.meta.e_tag.is_none() {
            return self.retrying.get_opts(location, options).await;
        }
        Ok(self.in_parts(location, found, range))
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let read = |range| self.get_range(location, range);
        coalesce_ranges(ranges, read, OBJECT_STORE_COALESCE_DEFAULT).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let store = Arc::clone(&self.retrying);
        let delete = move |locations: Result<Vec<Path>, _>| {
            let store = Arc::clone(&store);
            async move {
                let deleted = match locations {
                    Ok(locations) => delete_all(&store, locations).await,
                    Err(futures::stream::TryChunksError(_, e)) => vec![Err(e)],
                };
                futures::stream::iter(deleted)
            }
        };
        locations
            .try_chunks(DELETED_AT_ONCE)
            .map(delete)
            .buffered(CONCURRENT_DELETES)
            .flatten()
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.retrying.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.retrying.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.retrying.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.retrying.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.retrying.rename_opts(from, to, options).await
    }
}
