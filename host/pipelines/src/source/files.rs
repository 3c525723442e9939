//! The files of a source, on this machine or elsewhere, and how they are opened.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use url::Url;
use wafer_catalog::{Format, TemporaryFolder, temporary_folder};
use wafer_core::{Digest, Hasher};
use wafer_files::unreadable;
use wafer_store::{RemoteFile, RemoteFiles, Result};

use super::find::parts;
use super::partition::{Partition, partitions_of};
use crate::source::digest_file;

/// A file of a source.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SourceFile {
    /// The path of a local file, or the URL of a remote one.
    pub(crate) path: PathBuf,
    /// The format of the file.
    pub(crate) format: Format,
    /// The digest of the content of a local file, or of the version and size of a remote one.
    pub(crate) digest: Digest,
    /// The size of the file in bytes.
    pub(crate) bytes: u64,
    /// The remote file; `None` for a file on this machine.
    pub(crate) remote: Option<RemoteFile>,
    /// The partitions that the file is in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) partitions: Vec<Partition>,
    /// The position of the file among the files of its source. Runs that were divided before it was
    /// kept have none.
    #[serde(default)]
    pub(crate) number: u64,
}

impl SourceFile {
    #[cfg(test)]
    pub(crate) fn sized(bytes: u64) -> Self {
        Self {
            path: PathBuf::from("x.csv"),
            format: Format::Csv,
            digest: Digest::of(&[]),
            bytes,
            remote: None,
            partitions: Vec::new(),
            number: 0,
        }
    }

    /// Describes a file on this machine and digests its content. Without `format`, the file's
    /// name decides its format.
    pub(crate) fn from_local(path: PathBuf, format: Option<Format>) -> Result<Self> {
        let file = Self::undigested(path, format)?;
        Ok(Self {
            digest: identity(digest_file(&file.path)?, &file.partitions),
            ..file
        })
    }

    /// Describes a file on this machine like [`from_local`](Self::from_local), for somebody who
    /// only looks at it: its content is not digested.
    pub(crate) fn undigested(path: PathBuf, format: Option<Format>) -> Result<Self> {
        let bytes = std::fs::metadata(&path).map_err(|e| unreadable(&path, e))?;
        let folders = path.parent().into_iter().flat_map(Path::components);
        let folders = folders.filter_map(|folder| folder.as_os_str().to_str());
        let partitions = partitions_of(&path, folders)?;
        Ok(Self {
            format: format.map_or_else(|| Format::of_source(&path), Ok)?,
            digest: Digest::of(&[]),
            bytes: bytes.len(),
            path,
            remote: None,
            partitions,
            number: 0,
        })
    }

    /// Describes a remote file, without reading it. Without `format`, the file's name decides
    /// its format.
    pub(crate) fn from_remote(file: RemoteFile, format: Option<Format>) -> Result<Self> {
        let path = PathBuf::from(file.url.as_str());
        let mut hasher = Hasher::new();
        hasher
            .part(file.version.as_bytes())
            .part(&file.bytes.to_le_bytes());
        let names = parts(&file.url);
        let folders = names.iter().rev().skip(1).rev().map(String::as_str);
        let partitions = partitions_of(&path, folders)?;
        Ok(Self {
            format: format.map_or_else(|| Format::of_source(&path), Ok)?,
            digest: identity(hasher.finish(), &partitions),
            bytes: file.bytes,
            path,
            remote: Some(file),
            partitions,
            number: 0,
        })
    }

    /// Opens the file. A remote file is copied to a temporary file first, which is removed when
    /// the returned file is closed.
    pub(crate) fn open(&self, remote: &Arc<dyn RemoteFiles>) -> Result<File> {
        let Some(file) = &self.remote else {
            return File::open(&self.path).map_err(|e| unreadable(&self.path, e));
        };
        LocalCopy::of(file, remote.as_ref())?.open(&self.path)
    }
}

/// A copy of a remote file on this machine, which is removed when this is dropped. What opened it
/// can still be read then.
#[derive(Debug)]
pub(crate) struct LocalCopy(TemporaryFolder);

impl LocalCopy {
    /// Copies a file. Blocks the thread.
    pub(crate) fn of(file: &RemoteFile, remote: &dyn RemoteFiles) -> Result<Self> {
        let copy = Self(temporary_folder()?);
        block_on(remote.fetch(file, &copy.path()))?;
        Ok(copy)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("copy")
    }

    /// Opens the copy of the file at `path`, which is its URL.
    pub(crate) fn open(&self, path: &Path) -> Result<File> {
        File::open(self.path()).map_err(|e| unreadable(path, e))
    }
}

/// Returns what a remote file is now, or `None` if there is none at the URL. Blocks the thread.
pub(crate) fn find_file(url: &Url, remote: &dyn RemoteFiles) -> Result<Option<RemoteFile>> {
    let listed = block_on(remote.list(url))?;
    Ok(listed.files.into_iter().find(|file| file.url == *url))
}

/// Returns the identity of a file: rows of files with equal content are the same rows, unless the
/// files are in different partitions.
fn identity(content: Digest, partitions: &[Partition]) -> Digest {
    if partitions.is_empty() {
        return content;
    }
    let mut hasher = Hasher::new();
    hasher.part(content.as_bytes());
    hasher.part(&serde_json::to_vec(partitions).expect("names and values are plain data"));
    hasher.finish()
}

/// Waits for a future on a thread that may block.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(future))
}
