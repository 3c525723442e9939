//! Remote files, such as source files on S3.

use std::fmt::Debug;
use std::path::Path;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{Error, Result};

/// A remote file, as it was when it was listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteFile {
    /// URL of the file.
    pub url: Url,
    /// Size in bytes.
    pub bytes: u64,
    /// Identifies the content, such as an entity tag: it changes when the content changes.
    pub version: String,
}

/// Reads and writes remote files.
#[async_trait]
pub trait RemoteFiles: Debug + Send + Sync + 'static {
    /// Lists the file at `url`, or the files in the folder at `url` and in the folders below it,
    /// sorted by URL.
    async fn list(&self, url: &Url) -> Result<Vec<RemoteFile>>;

    /// Downloads a file to the local path `to`.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`](crate::Kind::Conflict) when the content changed since the
    /// file was listed.
    async fn fetch(&self, file: &RemoteFile, to: &Path) -> Result<()>;

    /// Uploads the local file `from`, replacing any file at `to`.
    async fn put(&self, from: &Path, to: &Url) -> Result<()>;

    /// Deletes a file. It is not an error if the file does not exist.
    async fn remove(&self, url: &Url) -> Result<()>;
}

/// Remote files that this program cannot reach: every request fails, with the reason.
#[derive(Clone, Debug)]
pub struct UnreachableFiles {
    /// Why they cannot be reached, and what to do about it.
    pub reason: String,
}

impl UnreachableFiles {
    fn error(&self, url: &Url) -> Error {
        Error::invalid(format!("{url} cannot be reached: {}", self.reason))
    }
}

#[async_trait]
impl RemoteFiles for UnreachableFiles {
    async fn list(&self, url: &Url) -> Result<Vec<RemoteFile>> {
        Err(self.error(url))
    }

    async fn fetch(&self, file: &RemoteFile, _to: &Path) -> Result<()> {
        Err(self.error(&file.url))
    }

    async fn put(&self, _from: &Path, to: &Url) -> Result<()> {
        Err(self.error(to))
    }

    async fn remove(&self, url: &Url) -> Result<()> {
        Err(self.error(url))
    }
}
