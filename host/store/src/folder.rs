//! The embedded artifact store: a local folder.

use std::fmt;
use std::io;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{ArtifactStore, Error, Kind, Result};

/// An [`ArtifactStore`] with one file per artifact in a local folder.
///
/// Each file is written under a temporary name beside its final place and then renamed, so
/// that writes are atomic.
#[derive(Debug)]
pub struct ArtifactFolder {
    root: PathBuf,
    /// Number of files written so far; makes temporary names unique.
    written: AtomicU64,
}

impl ArtifactFolder {
    /// Opens a folder, creating it if it does not exist.
    ///
    /// # Errors
    /// Fails when the folder cannot be created.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        std::fs::create_dir_all(&root).map_err(|e| Error::io("make", &root, e))?;
        Ok(Self::of(root))
    }

    /// Uses an existing folder, which may be read-only.
    pub fn of(root: PathBuf) -> Self {
        Self {
            root,
            written: AtomicU64::new(0),
        }
    }

    /// Returns the path of the file that holds, or would hold, an artifact.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when `name` is not a valid artifact name.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_part =
            |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(allowed);
        if name.split('/').all(is_part) {
            Ok(self.root.join(name))
        } else {
            Err(Error::new(
                Kind::Invalid,
                format!("`{name}` is not the name of an artifact"),
            ))
        }
    }

    fn write(&self, path: &Path, content: &mut dyn io::Read) -> Result<()> {
        let folder = path.parent().expect("a path below the root has a parent");
        std::fs::create_dir_all(folder).map_err(|e| Error::io("make", folder, e))?;
        // The temporary name is unique among processes and within this process.
        let count = self.written.fetch_add(1, Ordering::Relaxed);
        let beside = path.with_extension(format!("{}-{count}.part", std::process::id()));
        let written = std::fs::File::create(&beside)
            .and_then(|mut file| io::copy(content, &mut file).and_then(|_| file.sync_all()))
            .and_then(|()| std::fs::rename(&beside, path))
            .and_then(|()| std::fs::File::open(folder)?.sync_all());
        written.map_err(|e| {
            // Best effort: a leftover temporary file does no harm.
            let _ = std::fs::remove_file(&beside);
            Error::io("write", path, e)
        })
    }
}

impl fmt::Display for ArtifactFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "folder {}", self.root.display())
    }
}

#[async_trait]
impl ArtifactStore for ArtifactFolder {
    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        let path = self.path(name)?;
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("read", &path, e)),
        }
    }

    async fn put(&self, name: &str, bytes: Bytes) -> Result<()> {
        self.write(&self.path(name)?, &mut &bytes[..])
    }

    async fn put_file(&self, name: &str, path: &Path) -> Result<()> {
        let to = self.path(name)?;
        if to.is_file() {
            return Ok(());
        }
        let mut file = std::fs::File::open(path).map_err(|e| Error::io("read", path, e))?;
        self.write(&to, &mut file)
    }

    async fn contains(&self, name: &str) -> Result<bool> {
        Ok(self.path(name)?.is_file())
    }

    async fn file(&self, name: &str) -> Result<Option<PathBuf>> {
        Ok(Some(self.path(name)?).filter(|path| path.is_file()))
    }

    async fn check_room(&self) -> Result<()> {
        check_room(&self.root)
    }
}

/// The bytes that a disk must have room for to count as one that is not full.
const ROOM: usize = 64 << 10;

/// Checks that files can be written in a folder, by writing one that has no name, so that nothing
/// is left of it whatever happens.
///
/// # Errors
/// Returns [`Kind::Unavailable`] when the folder is gone, or the disk is full or can only be read.
pub(crate) fn check_room(folder: &Path) -> Result<()> {
    let written = tempfile::tempfile_in(folder).and_then(|mut file| file.write_all(&[0; ROOM]));
    written.map_err(|e| {
        let message = format!("nothing can be written in {}", folder.display());
        Error::caused(Kind::Unavailable, message, e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_that_leave_the_folder_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = ArtifactFolder::open(folder.path().join("a")).unwrap();
        for name in [
            "../b",
            "a/../../b",
            "/etc/passwd",
            "",
            "a//b",
            ".hidden",
            "a b",
        ] {
            let error = store.put(name, Bytes::new()).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid, "{name}");
        }
    }
}
