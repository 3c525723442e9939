//! S3: folders of buckets, and the artifact store.

use std::fmt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::aws::{AmazonS3Builder, Checksum};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    ClientOptions, ObjectStore, ObjectStoreExt as _, PutMode, RetryConfig, WriteMultipart,
};
use url::Url;
use wafer_core::{Clock, Hasher};
use wafer_store::{
    ArtifactFolder, ArtifactStore, Error, Expect, Kind, MetadataStore, Result, blob_name,
};

use crate::account::Account;
use crate::call::statement;

/// How long a request is retried.
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);
/// Size of the parts of a multipart upload.
const PART_BYTES: usize = 16 << 20;
/// Maximum number of parts that are uploaded concurrently.
const CONCURRENT_PARTS: usize = 4;

/// A folder of an S3 bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    url: Url,
    /// Object store of the whole bucket.
    root: Arc<dyn ObjectStore>,
    /// Object store of the folder, whose paths are relative to it.
    folder: Arc<dyn ObjectStore>,
}

impl Bucket {
    /// Opens a folder such as `s3://BUCKET/FOLDER`. This makes no request to S3.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when `url` is not an `s3://` URL.
    pub fn open(account: &Account, url: &Url) -> Result<Self> {
        let bucket = url.host_str().filter(|_| url.scheme() == "s3");
        let bucket = bucket.ok_or_else(|| {
            let message = format!("`{url}` is no folder on S3; write s3://BUCKET/FOLDER");
            Error::new(Kind::Invalid, message)
        })?;
        let retries = RetryConfig {
            retry_timeout: RETRY_TIMEOUT,
            ..RetryConfig::default()
        };
        let endpoint = account.endpoint("S3");
        let is_http = endpoint.as_ref().is_some_and(|e| e.starts_with("http://"));
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(&account.region)
            .with_credentials(Arc::new(account.credentials.clone()))
            .with_retry(retries)
            .with_client_options(ClientOptions::new().with_allow_http(is_http))
            // S3 verifies the checksum, and refuses data that was damaged in transit.
            .with_checksum_algorithm(Checksum::SHA256);
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint);
        } else {
            builder = builder.with_virtual_hosted_style_request(true);
        }
        let root = builder
            .build()
            .map_err(|e| failed(&format!("reach {url}"), e))?;
        Ok(Self::on(url, Arc::new(root)))
    }

    /// Uses a folder of an existing object store, which must be that of the bucket of `url`.
    pub fn on(url: &Url, root: Arc<dyn ObjectStore>) -> Self {
        let prefix = url.path().trim_matches('/');
        let folder = Arc::new(PrefixStore::new(Arc::clone(&root), prefix));
        Self {
            url: url.clone(),
            root,
            folder,
        }
    }

    /// Returns the object store of the whole bucket; paths start at the bucket.
    pub fn root(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.root)
    }

    /// Returns the object store of the folder; paths are relative to the folder.
    pub fn folder(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.folder)
    }

    /// Returns the URL of an object or folder within this folder.
    ///
    /// # Panics
    /// Panics when `name` cannot be part of a URL.
    pub fn url(&self, name: &str) -> Url {
        let base = format!("{}/{name}", self.url.as_str().trim_end_matches('/'));
        Url::parse(&base).expect("a name joined to a URL is one")
    }

    /// Runs [`probe`](Self::probe) unless `metadata` records that this folder passed it before,
    /// and records it then.
    pub(crate) async fn check(
        &self,
        metadata: &dyn MetadataStore,
        project: &str,
        clock: &dyn Clock,
    ) -> Result<()> {
        let name = format!("{project}/probed");
        let value = Bytes::from(self.url.to_string());
        let noted = metadata.get(&name).await?;
        if noted.is_some_and(|noted| noted.value == value) {
            return Ok(());
        }
        self.probe(clock).await?;
        metadata.put(&name, value, Expect::Anything).await?;
        Ok(())
    }

    /// Checks that the server honours conditional writes, which commits to tables rely on. Some
    /// servers accept the header `If-None-Match: *` and overwrite the object all the same.
    ///
    /// Also checks the permissions to list, write and delete, by using a temporary object below
    /// `probe/`.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when the server does not honour conditional writes, and the
    /// errors of S3, with the missing permissions.
    pub async fn probe(&self, clock: &dyn Clock) -> Result<()> {
        let path = Path::from(format!("probe/{}", clock.now().as_micros()));
        let put = |value: &'static [u8]| {
            let value = Bytes::from_static(value);
            self.folder
                .put_opts(&path, value.into(), PutMode::Create.into())
        };
        let about = |action: &str| format!("{action} {}", self.url);
        let listed = self.folder.list(Some(&path)).try_next().await;
        listed.map_err(|e| failed(&about("list"), e))?;
        put(b"1").await.map_err(|e| failed(&about("write to"), e))?;
        let second = put(b"2").await;
        let removed = self.folder.delete(&path).await;
        removed.map_err(|e| failed(&about("remove from"), e))?;
        match second {
            Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
            Err(e) => Err(failed(&about("write to"), e)),
            Ok(_) => {
                let message = format!(
                    "{} writes over objects though it was asked not to (If-None-Match: *): two writers of \
                     a table would lose each other's commits. Use a store that honours it: AWS S3 does, \
                     MinIO and Ceph RADOS gateway do",
                    self.url
                );
                Err(Error::new(Kind::Invalid, message))
            }
        }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.url)
    }
}

/// Converts an error of S3, with advice on how to fix it.
pub(crate) fn failed(action: &str, error: object_store::Error) -> Error {
    use object_store::Error as Store;
    let text = error_chain(&error);
    let is_denied =
        matches!(error, Store::PermissionDenied { .. }) || text.contains("AccessDenied");
    let (kind, advice) = match &error {
        _ if text.contains("NoSuchBucket") => (
            Kind::NotFound,
            ": there is no such bucket. Make it by `terraform apply` in infra/, or correct \
             `store.objects` or AWS_REGION"
                .to_owned(),
        ),
        _ if is_denied => (Kind::Internal, format!(": {}", not_allowed(action))),
        Store::NotFound { .. } => (Kind::NotFound, String::new()),
        Store::AlreadyExists { .. } | Store::Precondition { .. } => {
            (Kind::Conflict, String::new())
        }
        Store::Unauthenticated { .. } => (
            Kind::Internal,
            ": AWS does not accept the credentials; look at AWS_PROFILE, AWS_ACCESS_KEY_ID or the role, and \
             at this machine's clock"
                .to_owned(),
        ),
        Store::Generic { .. } => (Kind::Unavailable, String::new()),
        _ => (Kind::Internal, String::new()),
    };
    Error::caused(kind, format!("cannot {action}{advice}"), error)
}

/// Returns the advice for a missing permission: the IAM statements that the role needs for the
/// S3 URL that occurs in `action`.
fn not_allowed(action: &str) -> String {
    let url = action
        .split([' ', ','])
        .find(|word| word.starts_with("s3://"));
    let path = url.map_or("BUCKET/FOLDER", |url| url.trim_start_matches("s3://"));
    let bucket = path.split('/').next().unwrap_or(path);
    let objects = format!("arn:aws:s3:::{path}/*");
    let actions = [
        "s3:GetObject",
        "s3:PutObject",
        "s3:DeleteObject",
        "s3:AbortMultipartUpload",
    ];
    let mut statements = actions.map(|action| statement(action, &objects)).to_vec();
    // Without this permission, S3 answers 403 instead of 404 for objects that do not exist.
    statements.push(statement(
        "s3:ListBucket",
        &format!("arn:aws:s3:::{bucket}"),
    ));
    format!(
        "it is not allowed. The role needs {}",
        statements.join(", ")
    )
}

/// Joins the messages of an error and all of its causes.
fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The artifact store on S3, with a local cache of the files that were read.
///
/// Cached files do not expire, because artifacts are immutable.
#[derive(Debug)]
pub struct Artifacts {
    bucket: Bucket,
    /// The local cache.
    copies: ArtifactFolder,
    /// Artifacts that were shipped with the program, in a read-only folder.
    shipped: Option<ArtifactFolder>,
}

impl Artifacts {
    /// Opens the artifacts below `artifacts/` of a folder on S3. `copies` is the local folder of
    /// the cache; it is created if it does not exist.
    ///
    /// # Errors
    /// Fails when the folder of the cache cannot be created.
    pub fn open(bucket: Bucket, copies: impl Into<PathBuf>) -> Result<Self> {
        Ok(Self {
            bucket,
            copies: ArtifactFolder::open(copies)?,
            shipped: None,
        })
    }

    /// Adds artifacts that were shipped with the program, in a read-only folder.
    /// [`file`](ArtifactStore::file) looks there first.
    #[must_use]
    pub fn with_shipped(self, folder: PathBuf) -> Self {
        Self {
            shipped: Some(ArtifactFolder::of(folder)),
            ..self
        }
    }

    fn path(&self, name: &str) -> Path {
        Path::from(format!("artifacts/{name}"))
    }

    fn failed(&self, action: &str, name: &str, error: object_store::Error) -> Error {
        failed(
            &format!("{action} artifact {name} in {}", self.bucket),
            error,
        )
    }

    async fn write(&self, name: &str, bytes: Bytes, mode: PutMode) -> Result<()> {
        let (folder, path) = (&self.bucket.folder, self.path(name));
        let written = folder.put_opts(&path, bytes.into(), mode.into()).await;
        written.map_err(|e| self.failed("write", name, e))?;
        // The cache may hold the previous content.
        match std::fs::remove_file(self.copies.path(name)?) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(self.copy_failed(name, e)),
        }
    }

    fn copy_failed(&self, name: &str, error: std::io::Error) -> Error {
        let message = format!("a copy of artifact {name} in {}", self.copies);
        Error::caused(Kind::Internal, message, error)
    }

    /// Downloads an artifact into the cache, and returns the path of the file. Verifies the content
    /// of an artifact that is named by its digest.
    async fn download(&self, name: &str) -> Result<Option<PathBuf>> {
        use tokio::io::AsyncWriteExt as _;
        let found = match self.bucket.folder.get(&self.path(name)).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            other => other.map_err(|e| self.failed("read", name, e))?,
        };
        let path = self.copies.path(name)?;
        let folder = path.parent().expect("a path below the root has a parent");
        let copy_failed = |e| self.copy_failed(name, e);
        std::fs::create_dir_all(folder).map_err(copy_failed)?;
        // The temporary file is deleted when it is dropped before it is renamed.
        let beside = tempfile::NamedTempFile::new_in(folder).map_err(copy_failed)?;
        let mut file = tokio::fs::File::from_std(beside.reopen().map_err(copy_failed)?);
        let mut hasher = Hasher::new();
        let mut stream = found.into_stream();
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|e| self.failed("read", name, e))?;
            hasher.piece(&piece);
            file.write_all(&piece).await.map_err(copy_failed)?;
        }
        file.flush().await.map_err(copy_failed)?;
        let digest = hasher.finish();
        if name.starts_with("blobs/") && name != blob_name(digest) {
            let message = format!(
                "artifact {name} in {} is damaged: it is not what its name says. Restore an earlier \
                 version of the object, or change the function and deploy it",
                self.bucket
            );
            return Err(Error::new(Kind::Corrupt, message));
        }
        beside.persist(&path).map_err(|e| copy_failed(e.error))?;
        Ok(Some(path))
    }
}

/// Uploads a local file to S3 in parts, without holding the whole file in memory.
pub(crate) async fn upload(
    store: &dyn ObjectStore,
    to: &Path,
    from: &FilePath,
    action: &str,
) -> Result<()> {
    use tokio::io::AsyncReadExt as _;
    let read = |e| Error::caused(Kind::Internal, format!("cannot read {}", from.display()), e);
    let mut file = tokio::fs::File::open(from).await.map_err(read)?;
    let started = store.put_multipart(to).await;
    let upload = started.map_err(|e| failed(action, e))?;
    let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
    let mut buffer = vec![0; PART_BYTES];
    loop {
        let length = file.read(&mut buffer).await.map_err(read)?;
        if length == 0 {
            break;
        }
        let room = upload.wait_for_capacity(CONCURRENT_PARTS).await;
        room.map_err(|e| failed(action, e))?;
        upload.write(&buffer[..length]);
    }
    upload.finish().await.map_err(|e| failed(action, e))?;
    Ok(())
}

impl fmt::Display for Artifacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.bucket.url("artifacts"))
    }
}

#[async_trait]
impl ArtifactStore for Artifacts {
    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        let found = match self.bucket.folder.get(&self.path(name)).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            other => other.map_err(|e| self.failed("read", name, e))?,
        };
        let mut stream = found.into_stream();
        let mut bytes = Vec::new();
        while let Some(piece) = stream.next().await {
            bytes.extend_from_slice(&piece.map_err(|e| self.failed("read", name, e))?);
        }
        Ok(Some(bytes.into()))
    }

    async fn put(&self, name: &str, bytes: Bytes) -> Result<()> {
        self.write(name, bytes, PutMode::Overwrite).await
    }

    async fn put_new(&self, name: &str, bytes: Bytes) -> Result<()> {
        match self.write(name, bytes, PutMode::Create).await {
            Err(e) if e.kind() == Kind::Conflict => Ok(()),
            other => other,
        }
    }

    async fn put_file(&self, name: &str, path: &FilePath) -> Result<()> {
        if self.contains(name).await? {
            return Ok(());
        }
        let action = format!("write artifact {name} in {}", self.bucket);
        upload(self.bucket.folder.as_ref(), &self.path(name), path, &action).await
    }

    async fn contains(&self, name: &str) -> Result<bool> {
        match self.bucket.folder.head(&self.path(name)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(e) => Err(self.failed("look for", name, e)),
        }
    }

    async fn file(&self, name: &str) -> Result<Option<PathBuf>> {
        for folder in self.shipped.iter().chain([&self.copies]) {
            if let Some(copy) = folder.file(name).await? {
                return Ok(Some(copy));
            }
        }
        self.download(name).await
    }
}
