//! Components, compiled code, assets: immutable bytes named by their content.

use std::fmt::{Debug, Display};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use wafer_core::{Digest, Hasher};

use crate::{Error, Kind, Result};

/// A map from names to bytes. Names are relative paths of letters, digits,
/// `-`, `_`, `.` and `/`.
#[async_trait]
pub trait ArtifactStore: Debug + Display + Send + Sync + 'static {
    /// The bytes of a name, or `None`.
    async fn get(&self, name: &str) -> Result<Option<Bytes>>;

    /// Writes a name, replacing what it had; readers see the old bytes or the
    /// new ones, never a mixture, and after a crash too.
    async fn put(&self, name: &str, bytes: Bytes) -> Result<()>;

    /// Writes a name, unless there is such a name.
    async fn put_new(&self, name: &str, bytes: Bytes) -> Result<()> {
        if self.contains(name).await? {
            return Ok(());
        }
        self.put(name, bytes).await
    }

    /// Writes a name with the content of a file, which is never read whole, unless there is
    /// such a name.
    async fn put_file(&self, name: &str, path: &Path) -> Result<()>;

    /// Whether there is such a name.
    async fn contains(&self, name: &str) -> Result<bool>;

    /// A file of this machine that holds the bytes of a name, so that code can be
    /// mapped instead of read; `None` when there is no such name.
    async fn file(&self, name: &str) -> Result<Option<PathBuf>>;
}

/// Digest of a file's content, without reading it whole.
///
/// # Errors
/// When it cannot be read.
pub fn digest_file(path: &Path) -> std::io::Result<Digest> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(hasher.finish());
        }
        hasher.piece(&buffer[..length]);
    }
}

/// Where bytes of this digest are kept.
pub fn blob_name(digest: Digest) -> String {
    let hex = digest.hex();
    format!("blobs/{}/{hex}", &hex[..2])
}

/// What every artifact store can do.
#[async_trait]
pub trait ArtifactStoreExt: ArtifactStore {
    /// Keeps some bytes under their digest. Keeping them twice costs a look.
    async fn put_blob(&self, bytes: Bytes) -> Result<Digest> {
        let digest = Digest::of(&bytes);
        self.put_new(&blob_name(digest), bytes).await?;
        Ok(digest)
    }

    /// The bytes of a digest, verified.
    async fn get_blob(&self, digest: Digest) -> Result<Bytes> {
        let bytes = self.get(&blob_name(digest)).await?.ok_or_else(|| {
            Error::new(Kind::NotFound, format!("{self} has no artifact {digest}"))
        })?;
        if Digest::of(&bytes) == digest {
            Ok(bytes)
        } else {
            Err(Error::new(
                Kind::Corrupt,
                format!(
                    "artifact {digest} in {self} is damaged: it is not what its name says. Restore it, \
                     or change the function and apply it again"
                ),
            ))
        }
    }
}

impl<S: ArtifactStore + ?Sized> ArtifactStoreExt for S {}
