//! The embedded artifact store: a local folder.

use std::fmt;
use std::fs::File;
use std::io;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;

use crate::private::{create_private_file, make_private_folder, open_stored_file};
use crate::{ArtifactStore, Error, Kind, Result, large_artifact};

/// How the names of temporary files end, after the number of the process and of the file.
const PART: &str = "part";

/// An [`ArtifactStore`] with one file per artifact in a local folder.
///
/// Each file is written under a temporary name beside its final place and then renamed, so
/// that writes are atomic. Whoever writes it holds a lock on it, so that the files of processes
/// that were killed are found, and removed, when the folder is opened the next time.
#[derive(Debug)]
pub struct ArtifactFolder {
    root: PathBuf,
    /// Number of files written so far; makes temporary names unique.
    written: AtomicU64,
}

impl ArtifactFolder {
    /// Opens a folder, creating it if it does not exist. Files that processes were writing when
    /// they were killed are removed.
    ///
    /// # Errors
    /// Fails when the folder cannot be created.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        make_private_folder(&root).map_err(|e| Error::io("make", &root, e))?;
        remove_left_overs(&root);
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

    /// Starts to write an artifact under a temporary name.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when `name` is not a valid artifact name, and
    /// [`Kind::Unavailable`] when the disk is full.
    pub fn start(&self, name: &str) -> Result<PartialArtifact> {
        let path = self.path(name)?;
        let folder = path.parent().expect("a path below the root has a parent");
        make_private_folder(folder).map_err(|e| Error::io("make", folder, e))?;
        let created = self.create_beside(&path);
        let (file, temporary) = created.map_err(|e| Error::io("write", &path, e))?;
        Ok(PartialArtifact {
            file,
            temporary,
            path,
            is_complete: false,
        })
    }

    /// Creates the temporary file of an artifact, and locks it. Returns it with its path.
    fn create_beside(&self, path: &Path) -> io::Result<(File, PathBuf)> {
        loop {
            let count = self.written.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}-{count}.{PART}", std::process::id());
            let temporary = path.with_extension(name);
            let file = match create_private_file(&temporary) {
                // A process of the same number has left it, or writes it on another machine.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                created => created?,
            };
            // On a file system without locks, nobody finds out that the file was left.
            let _ = file.lock();
            // It may have been taken for one that was left, before it was locked.
            if file.metadata()?.nlink() > 0 {
                return Ok((file, temporary));
            }
        }
    }

    fn write(&self, name: &str, content: &mut dyn io::Read) -> Result<()> {
        let partial = self.start(name)?;
        let mut file = partial.file();
        let copied = io::copy(content, &mut file).and_then(|_| file.sync_all());
        copied.map_err(|e| Error::io("write", &partial.path, e))?;
        let path = partial.complete()?;
        let folder = path.parent().expect("a path below the root has a parent");
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|e| Error::io("write", &path, e))
    }
}

/// An artifact that is being written, under a temporary name beside its final place. If this is
/// dropped before the artifact is complete, the file is removed.
#[derive(Debug)]
pub struct PartialArtifact {
    /// The temporary file, with a lock on it.
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    is_complete: bool,
}

impl PartialArtifact {
    /// Returns the file that the content is written to.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives the artifact its name, and returns the path of its file. Its content is durable only
    /// if it was synced before.
    ///
    /// # Errors
    /// Fails when the file cannot be renamed.
    pub fn complete(mut self) -> Result<PathBuf> {
        let renamed = std::fs::rename(&self.temporary, &self.path);
        renamed.map_err(|e| match e.kind() {
            io::ErrorKind::IsADirectory => {
                let message = format!(
                    "cannot write {}: a folder is in its place. Remove it, and run the command again",
                    self.path.display()
                );
                Error::caused(Kind::Corrupt, message, e)
            }
            _ => Error::io("write", &self.path, e),
        })?;
        self.is_complete = true;
        Ok(std::mem::take(&mut self.path))
    }
}

impl Drop for PartialArtifact {
    fn drop(&mut self) {
        if !self.is_complete {
            // What is left is removed when the folder is opened the next time.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// Removes the temporary files in a folder, and in those below it, that no process has locked. What
/// cannot be removed stays.
fn remove_left_overs(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(found) if found.is_dir() => remove_left_overs(&path),
            Ok(found) if found.is_file() && is_temporary(&path) => remove_left_over(&path),
            _ => {}
        }
    }
}

/// Returns whether a file has the name of a temporary one: `NAME.PROCESS-NUMBER.part`.
fn is_temporary(path: &Path) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let name = path.file_name().and_then(|name| name.to_str());
    let mut parts = name.unwrap_or_default().rsplit('.');
    parts.next() == Some(PART)
        && parts
            .next()
            .and_then(|numbers| numbers.split_once('-'))
            .is_some_and(|(process, number)| is_number(process) && is_number(number))
        && parts.next().is_some()
}

/// Removes a temporary file that no process has locked. It is locked meanwhile, so that a process
/// that has just created it finds out.
fn remove_left_over(path: &Path) {
    if let Ok(file) = File::open(path)
        && file.try_lock().is_ok()
    {
        let _ = std::fs::remove_file(path);
    }
}

impl fmt::Display for ArtifactFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "folder {}", self.root.display())
    }
}

#[async_trait]
impl ArtifactStore for ArtifactFolder {
    async fn get_at_most(&self, name: &str, most: u64) -> Result<Option<Bytes>> {
        let path = self.path(name)?;
        let read = || -> io::Result<(u64, Vec<u8>)> {
            let file = open_stored_file(&path)?;
            let bytes = file.metadata()?.len();
            let mut content = Vec::new();
            if bytes <= most {
                file.take(bytes).read_to_end(&mut content)?;
            }
            Ok((bytes, content))
        };
        match read() {
            Ok((bytes, _)) if bytes > most => Err(large_artifact(self, name, (bytes, most))),
            Ok((_, content)) => Ok(Some(content.into())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                let message = format!("cannot read {}", path.display());
                Err(Error::caused(Kind::Corrupt, message, e))
            }
            Err(e) => Err(Error::io("read", &path, e)),
        }
    }

    async fn put(&self, name: &str, bytes: Bytes) -> Result<()> {
        self.write(name, &mut &bytes[..])
    }

    async fn put_file(&self, name: &str, path: &Path) -> Result<()> {
        if self.path(name)?.is_file() {
            return Ok(());
        }
        let mut file = File::open(path).map_err(|e| Error::io("read", path, e))?;
        self.write(name, &mut file)
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

    #[tokio::test]
    async fn files_of_killed_processes_are_removed_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let store = ArtifactFolder::open(folder.path()).unwrap();
        let blob = folder.path().join("blobs/ab/abcd");
        std::fs::create_dir_all(blob.parent().unwrap()).unwrap();
        // What a killed process leaves: a file that nobody has locked.
        let left = blob.with_extension("4194303-7.part");
        std::fs::write(&left, "half of").unwrap();
        // What another process writes now.
        let (file, written) = store.create_beside(&blob).unwrap();
        store.put("model.part", Bytes::from("whole")).await.unwrap();
        store.put("a.1-x.part", Bytes::from("whole")).await.unwrap();
        drop(ArtifactFolder::open(folder.path()).unwrap());
        assert!(!left.exists());
        assert!(written.exists());
        assert!(store.contains("model.part").await.unwrap());
        assert!(store.contains("a.1-x.part").await.unwrap());
        drop(file);
        drop(ArtifactFolder::open(folder.path()).unwrap());
        assert!(!written.exists());
    }

    /// It is damaged, so that it may be written again.
    #[tokio::test]
    async fn artifacts_replaced_by_pipes_or_folders_are_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let store = ArtifactFolder::open(folder.path()).unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        for name in ["pipe", "folder"] {
            let error = store.get(name).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Corrupt, "{name}");
            assert!(
                error.chain().contains("in the place of the file"),
                "{error}"
            );
            assert!(!store.contains(name).await.unwrap());
        }
        store.put("pipe", Bytes::from("content")).await.unwrap();
        let stored = store.get("pipe").await.unwrap();
        assert_eq!(stored, Some(Bytes::from("content")));
        let error = store.put("folder", Bytes::new()).await.unwrap_err();
        let path = folder.path().join("folder").display().to_string();
        for part in [&*path, "a folder is in its place. Remove it"] {
            assert!(error.to_string().contains(part), "{error}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn an_artifact_that_is_given_up_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = ArtifactFolder::open(folder.path()).unwrap();
        let files = || std::fs::read_dir(folder.path()).unwrap().count();
        let partial = store.start("a").unwrap();
        assert_eq!(files(), 1);
        drop(partial);
        assert_eq!(files(), 0);
        let path = store.start("a").unwrap().complete().unwrap();
        assert_eq!((path, files()), (folder.path().join("a"), 1));
    }

    #[tokio::test]
    async fn a_temporary_file_of_the_same_name_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let store = ArtifactFolder::open(folder.path()).unwrap();
        let name = format!("a.{}-0.part", std::process::id());
        let other = folder.path().join(name);
        std::fs::write(&other, "of another machine").unwrap();
        store.put("a", Bytes::from("content")).await.unwrap();
        let found = std::fs::read_to_string(&other).unwrap();
        assert_eq!(found, "of another machine");
        let stored = store.get("a").await.unwrap();
        assert_eq!(stored, Some(Bytes::from("content")));
    }
}
