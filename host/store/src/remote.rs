//! Files that are not on this machine: sources on S3.

use std::fmt::Debug;
use std::path::Path;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::Result;

/// A file elsewhere, as it was when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteFile {
    /// Where it is.
    pub url: Url,
    /// Its size in bytes.
    pub bytes: u64,
    /// Says which content it had; another one has another.
    pub version: String,
}

/// Reads and writes files elsewhere.
#[async_trait]
pub trait RemoteFiles: Debug + Send + Sync + 'static {
    /// The file of a URL, or the files of a folder, in the order of their names;
    /// those of folders within it are not among them.
    async fn list(&self, url: &Url) -> Result<Vec<RemoteFile>>;

    /// Copies a file to this machine.
    ///
    /// # Errors
    /// [`Kind::Conflict`](crate::Kind::Conflict) when its content is no longer the
    /// one that was looked at.
    async fn fetch(&self, file: &RemoteFile, to: &Path) -> Result<()>;

    /// Copies a file of this machine there, over what there is.
    async fn put(&self, from: &Path, to: &Url) -> Result<()>;

    /// Removes a file; one that is not there is no error.
    async fn remove(&self, url: &Url) -> Result<()>;
}
