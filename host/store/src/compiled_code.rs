//! Compiled code in an artifact store, which is checked before it is used.
//!
//! Native code cannot be verified, and whoever maps it runs it. So its digest is kept in the
//! metadata store when it is written, and code that has another one, or none, is as good as absent:
//! it is compiled again. A file is digested once by each process, and again if it was changed.

use std::collections::HashMap;
use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use wafer_core::Digest;

use crate::{ArtifactStore, Error, Expect, MetadataStore, Result, digest_file};

/// What the names of artifacts that are compiled code begin with.
pub const COMPILED: &str = "compiled/";

/// An [`ArtifactStore`] whose compiled code has a digest in the metadata store.
#[derive(Debug)]
pub struct CheckedCode {
    artifacts: Arc<dyn ArtifactStore>,
    metadata: Arc<dyn MetadataStore>,
    project: String,
    /// The files that were digested and are as they should be.
    checked: Mutex<HashMap<PathBuf, FileState>>,
}

/// What changes when a file is written or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileState {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl FileState {
    fn of(path: &Path) -> std::io::Result<Self> {
        let file = path.metadata()?;
        Ok(Self {
            device: file.dev(),
            inode: file.ino(),
            bytes: file.len(),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    }
}

impl CheckedCode {
    /// Wraps the artifact store of a project. Names in the metadata store begin with the name of
    /// the project.
    pub fn new(
        artifacts: Arc<dyn ArtifactStore>,
        metadata: Arc<dyn MetadataStore>,
        project: &str,
    ) -> Self {
        Self {
            artifacts,
            metadata,
            project: project.to_owned(),
            checked: Mutex::default(),
        }
    }

    /// Returns the name of the object that holds the digest of compiled code.
    fn object(&self, name: &str) -> String {
        format!("{}/{name}", self.project)
    }

    /// Returns the digest that compiled code must have, or `None` if it is not known.
    async fn digest(&self, name: &str) -> Result<Option<Digest>> {
        let stored = self.metadata.get(&self.object(name)).await?;
        Ok(stored.and_then(|stored| serde_json::from_slice(&stored.value).ok()))
    }

    async fn keep_digest(&self, name: &str, digest: Digest) -> Result<()> {
        let json = serde_json::to_vec(&digest).expect("a digest is plain data");
        let object = self.object(name);
        let kept = self.metadata.put(&object, json.into(), Expect::Anything);
        kept.await.map(drop)
    }

    fn checked(&self) -> MutexGuard<'_, HashMap<PathBuf, FileState>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether a file has a digest. It is read only if it was not, or was changed since.
    fn has_digest(&self, path: &Path, digest: Digest) -> std::io::Result<bool> {
        let before = FileState::of(path)?;
        if self.checked().get(path) == Some(&before) {
            return Ok(true);
        }
        let is_right = digest_file(path)? == digest && FileState::of(path)? == before;
        if is_right {
            self.checked().insert(path.to_owned(), before);
        }
        Ok(is_right)
    }

    /// Returns the file of compiled code if it is what was compiled.
    async fn code(&self, name: &str) -> Result<Option<PathBuf>> {
        let Some(digest) = self.digest(name).await? else {
            return Ok(None);
        };
        let Some(path) = self.artifacts.file(name).await? else {
            return Ok(None);
        };
        let is_right = self.has_digest(&path, digest);
        if is_right.map_err(|e| Error::io("read", &path, e))? {
            return Ok(Some(path));
        }
        warn(name, self);
        Ok(None)
    }
}

fn warn(name: &str, store: &CheckedCode) {
    tracing::warn!(
        "artifact {name} in {store} is damaged or was not compiled by this project: it is not used"
    );
}

fn is_code(name: &str) -> bool {
    name.starts_with(COMPILED)
}

impl fmt::Display for CheckedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.artifacts, f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ArtifactStore for CheckedCode {
    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        self.get_at_most(name, u64::MAX).await
    }

    async fn get_at_most(&self, name: &str, most: u64) -> Result<Option<Bytes>> {
        let found = self.artifacts.get_at_most(name, most).await?;
        if !is_code(name) {
            return Ok(found);
        }
        let digest = self.digest(name).await?;
        let right = found.filter(|bytes| digest == Some(Digest::of(bytes)));
        if right.is_none() && digest.is_some() {
            warn(name, self);
        }
        Ok(right)
    }

    async fn put(&self, name: &str, bytes: Bytes) -> Result<()> {
        let digest = is_code(name).then(|| Digest::of(&bytes));
        self.artifacts.put(name, bytes).await?;
        match digest {
            Some(digest) => self.keep_digest(name, digest).await,
            None => Ok(()),
        }
    }

    async fn put_new(&self, name: &str, bytes: Bytes) -> Result<()> {
        if !is_code(name) {
            return self.artifacts.put_new(name, bytes).await;
        }
        match self.contains(name).await? {
            true => Ok(()),
            false => self.put(name, bytes).await,
        }
    }

    async fn put_file(&self, name: &str, path: &Path) -> Result<()> {
        if !is_code(name) {
            return self.artifacts.put_file(name, path).await;
        }
        let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, e))?;
        self.put_new(name, bytes.into()).await
    }

    /// Compiled code that cannot be used is not there, so that it is written again.
    async fn contains(&self, name: &str) -> Result<bool> {
        let is_there = self.artifacts.contains(name).await?;
        Ok(is_there && (!is_code(name) || self.code(name).await?.is_some()))
    }

    async fn file(&self, name: &str) -> Result<Option<PathBuf>> {
        match is_code(name) {
            true => self.code(name).await,
            false => self.artifacts.file(name).await,
        }
    }

    async fn check_room(&self) -> Result<()> {
        self.artifacts.check_room().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ArtifactFolder, MemoryStore};

    const NAME: &str = "compiled/x86_64-v3-wasmtime48-1/ab.cwasm";

    fn stores(folder: &Path) -> (Arc<ArtifactFolder>, CheckedCode) {
        let artifacts = Arc::new(ArtifactFolder::open(folder).unwrap());
        let metadata = Arc::new(MemoryStore::default());
        let checked = CheckedCode::new(Arc::clone(&artifacts) as _, metadata, "p");
        (artifacts, checked)
    }

    async fn is_found(store: &CheckedCode) -> bool {
        let file = store.file(NAME).await.unwrap().is_some();
        assert_eq!(store.get(NAME).await.unwrap().is_some(), file);
        file
    }

    #[tokio::test]
    async fn code_is_found_only_as_it_was_compiled() {
        let folder = tempfile::tempdir().unwrap();
        let (artifacts, store) = stores(folder.path());
        let code = Bytes::from(vec![7; 10_000]);
        assert!(!is_found(&store).await);

        // Code that somebody else put there has no digest.
        artifacts.put(NAME, code.clone()).await.unwrap();
        assert!(!is_found(&store).await);
        assert!(!store.contains(NAME).await.unwrap());

        store.put(NAME, code.clone()).await.unwrap();
        assert!(is_found(&store).await);
        assert!(store.contains(NAME).await.unwrap());

        // A byte is changed in place, after the file was checked once.
        let path = artifacts.path(NAME).unwrap();
        for place in [0, 5_000, 9_999] {
            let mut changed = code.to_vec();
            changed[place] ^= 1;
            std::fs::write(&path, changed).unwrap();
            assert!(!is_found(&store).await, "{place}");
        }
        std::fs::write(&path, &code[..9_999]).unwrap();
        assert!(!is_found(&store).await);
        // The code of another function is put in its place.
        artifacts
            .put(NAME, Bytes::from_static(b"other"))
            .await
            .unwrap();
        assert!(!is_found(&store).await);

        // What cannot be used is replaced.
        store.put_new(NAME, code).await.unwrap();
        assert!(is_found(&store).await);
    }

    #[tokio::test]
    async fn other_artifacts_pass_through() {
        let folder = tempfile::tempdir().unwrap();
        let (artifacts, store) = stores(folder.path());
        let bytes = Bytes::from_static(b"model");
        store.put_new("blobs/aa/bb", bytes.clone()).await.unwrap();
        assert_eq!(artifacts.get("blobs/aa/bb").await.unwrap(), Some(bytes));
        assert!(store.file("blobs/aa/bb").await.unwrap().is_some());
        assert!(store.contains("blobs/aa/bb").await.unwrap());
    }
}
