//! The artifact store: components, compiled code, assets and definitions, as immutable bytes that
//! are named by their content.

use std::fmt::{Debug, Display};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use wafer_core::{Digest, Hasher};

use crate::{Error, Kind, Result};

/// A map from names to bytes.
///
/// Names are relative paths of ASCII letters, digits, `-`, `_`, `.` and `/`.
#[async_trait]
pub trait ArtifactStore: Debug + Display + Send + Sync + 'static {
    /// Returns an artifact, or `None` if there is no artifact of that name.
    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        self.get_at_most(name, u64::MAX).await
    }

    /// Returns an artifact like [`get`](Self::get), if it has at most so many bytes.
    ///
    /// # Errors
    /// Returns [`Kind::Corrupt`] when it has more, before memory is taken for them.
    async fn get_at_most(&self, name: &str, most: u64) -> Result<Option<Bytes>>;

    /// Writes an artifact, replacing any artifact of that name. The write is atomic: readers
    /// see the old bytes or the new bytes, also after a crash.
    async fn put(&self, name: &str, bytes: Bytes) -> Result<()>;

    /// Writes an artifact unless there is already one of that name.
    async fn put_new(&self, name: &str, bytes: Bytes) -> Result<()> {
        if self.contains(name).await? {
            return Ok(());
        }
        self.put(name, bytes).await
    }

    /// Writes the content of a local file as an artifact, unless there is already one of that
    /// name. The file is streamed and never held in memory as a whole.
    async fn put_file(&self, name: &str, path: &Path) -> Result<()>;

    /// Returns whether there is an artifact of that name.
    async fn contains(&self, name: &str) -> Result<bool>;

    /// Returns a local file that holds the artifact, so that compiled code can be mapped into
    /// memory instead of read. `None` if there is no artifact of that name.
    async fn file(&self, name: &str) -> Result<Option<PathBuf>>;

    /// Checks that there is room for more artifacts, without storing one. A store whose disk is
    /// not this machine's answers at once.
    ///
    /// # Errors
    /// Returns [`Kind::Unavailable`] when writes would fail.
    async fn check_room(&self) -> Result<()>;
}

/// Computes the digest of a file's content without holding the whole file in memory.
///
/// # Errors
/// Fails when the file cannot be read.
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

/// Returns the name under which bytes with this digest are stored.
pub fn blob_name(digest: Digest) -> String {
    let hex = digest.hex();
    format!("blobs/{}/{hex}", &hex[..2])
}

/// Makes the error for an artifact that has the digest `found`, and another one in its name.
pub fn damaged_artifact(store: &(impl Display + ?Sized), wanted: Digest, found: Digest) -> Error {
    let name = blob_name(wanted);
    let message = format!(
        "artifact {name} in {store} is damaged: it is not what its name says, {wanted}, but {found}"
    );
    Error::new(Kind::Corrupt, message)
}

/// Makes the error for an artifact that has more bytes than its reader takes. For backends.
pub fn large_artifact(
    store: &(impl Display + ?Sized),
    name: &str,
    (bytes, most): (u64, u64),
) -> Error {
    let message = format!("artifact {name} in {store} has {bytes} bytes, and may have {most}");
    Error::new(Kind::Corrupt, message)
}

/// Content-addressed access to any [`ArtifactStore`].
#[async_trait]
pub trait ArtifactStoreExt: ArtifactStore {
    /// Stores bytes under their digest, unless they are already stored, and returns the
    /// digest.
    async fn put_blob(&self, bytes: Bytes) -> Result<Digest> {
        let digest = Digest::of(&bytes);
        self.put_new(&blob_name(digest), bytes).await?;
        Ok(digest)
    }

    /// Returns the bytes with this digest.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when the bytes are not stored, and [`Kind::Corrupt`] when
    /// the stored bytes do not have this digest.
    async fn get_blob(&self, digest: Digest) -> Result<Bytes> {
        self.get_blob_at_most(digest, u64::MAX).await
    }

    /// Returns the bytes with this digest like [`get_blob`](Self::get_blob), if they are at most
    /// so many.
    ///
    /// # Errors
    /// Returns [`Kind::Corrupt`] when there are more, before memory is taken for them.
    async fn get_blob_at_most(&self, digest: Digest, most: u64) -> Result<Bytes> {
        let stored = self.get_at_most(&blob_name(digest), most).await?;
        let bytes = stored.ok_or_else(|| {
            Error::new(Kind::NotFound, format!("{self} has no artifact {digest}"))
        })?;
        let found = Digest::of(&bytes);
        if found == digest {
            return Ok(bytes);
        }
        let damaged = damaged_artifact(self, digest, found);
        let message = format!("{damaged}. Restore it, or change the function and apply it again");
        Err(Error::new(Kind::Corrupt, message))
    }
}

impl<S: ArtifactStore + ?Sized> ArtifactStoreExt for S {}
