//! The artifact store on S3.

use std::fmt;
use std::path::{Path as FilePath, PathBuf};
use std::pin::pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::path::Path;
use wafer_core::Hasher;
use wafer_store::{ArtifactFolder, ArtifactStore, Error, Kind, Result, blob_name, large_artifact};

use crate::objects::Bucket;
use crate::s3::{Content, Existing};

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

    /// Returns the key of an artifact in the bucket.
    fn key(&self, name: &str) -> Path {
        self.bucket.key(&Path::from(format!("artifacts/{name}")))
    }

    /// Describes an action on an artifact, for error messages.
    fn about(&self, action: &str, name: &str) -> String {
        format!("{action} artifact {name} in {}", self.bucket)
    }

    async fn write(&self, name: &str, content: &Content<'_>, existing: Existing) -> Result<()> {
        let (key, about) = (self.key(name), self.about("write", name));
        let client = self.bucket.client();
        client.write(&key, content, existing, &about).await
    }

    /// Writes an artifact unless there is already one of that name.
    async fn create(&self, name: &str, content: &Content<'_>) -> Result<()> {
        match self.write(name, content, Existing::Keep).await {
            Err(e) if e.kind() == Kind::Conflict => Ok(()),
            Err(e) => Err(e),
            Ok(()) => self.forget(name),
        }
    }

    /// Removes the copy of an artifact from the cache, which may have the previous content.
    fn forget(&self, name: &str) -> Result<()> {
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
        let (key, about) = (self.key(name), self.about("read", name));
        let found = self.bucket.client().open_object(&key, None, &about).await?;
        let Some(found) = found else {
            return Ok(None);
        };
        let copy_failed = |e| self.copy_failed(name, e);
        let copy = self.copies.start(name)?;
        let file = copy.file().try_clone().map_err(copy_failed)?;
        let mut file = tokio::fs::File::from_std(file);
        let mut hasher = Hasher::new();
        let mut pieces = pin!(found.pieces());
        while let Some(piece) = pieces.try_next().await? {
            hasher.piece(&piece);
            file.write_all(&piece).await.map_err(copy_failed)?;
        }
        file.flush().await.map_err(copy_failed)?;
        let digest = hasher.finish();
        if name.starts_with("blobs/") && name != blob_name(digest) {
            let message = format!(
                "artifact {name} in {self} is damaged: it is not what its name says, but {digest}. Restore \
                 an earlier version of the object; if it belongs to a function, that can be changed and \
                 deployed instead"
            );
            return Err(Error::new(Kind::Corrupt, message));
        }
        copy.complete().map(Some)
    }
}

impl fmt::Display for Artifacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.bucket.url("artifacts"))
    }
}

#[async_trait]
impl ArtifactStore for Artifacts {
    /// Does nothing: a bucket on S3 has no end.
    async fn check_room(&self) -> Result<()> {
        Ok(())
    }

    async fn get_at_most(&self, name: &str, most: u64) -> Result<Option<Bytes>> {
        let (key, about) = (self.key(name), self.about("read", name));
        match self.bucket.client().open_object(&key, None, &about).await? {
            Some(found) if found.total() > most => {
                Err(large_artifact(self, name, (found.total(), most)))
            }
            Some(found) => found.content().await.map(Some),
            None => Ok(None),
        }
    }

    async fn put(&self, name: &str, bytes: Bytes) -> Result<()> {
        let content = Content::Memory(bytes);
        self.write(name, &content, Existing::Replace).await?;
        self.forget(name)
    }

    async fn put_new(&self, name: &str, bytes: Bytes) -> Result<()> {
        let content = Content::Memory(bytes);
        // A small one is not looked for, because its write finds out.
        if content.is_large() && self.contains(name).await? {
            return Ok(());
        }
        self.create(name, &content).await
    }

    async fn put_file(&self, name: &str, path: &FilePath) -> Result<()> {
        if self.contains(name).await? {
            return Ok(());
        }
        self.create(name, &Content::of_file(path).await?).await
    }

    async fn contains(&self, name: &str) -> Result<bool> {
        let (key, about) = (self.key(name), self.about("look for", name));
        Ok(self.bucket.client().head(&key, &about).await?.is_some())
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
