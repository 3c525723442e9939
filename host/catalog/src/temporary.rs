//! Temporary files and folders, and the room on the disk for them. The program says where they are
//! made.

use std::fmt::Debug;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use wafer_store::{Error, Kind, Result};

use crate::partial::remove_noted;

/// How the names of temporary folders begin.
const PREFIX: &str = "wafer-work-";
/// How the names of temporary folders begin that are not locked yet.
const NEW_PREFIX: &str = "wafer-new-";

/// The folder for temporary files and folders, and the setting that names it.
static FOLDER: OnceLock<(PathBuf, &'static str)> = OnceLock::new();

/// Says in which folder this process makes temporary files and folders, and which setting names it,
/// for messages. A program calls this once, before it needs any; until then none can be made.
/// Further calls have no effect.
pub fn keep_temporary_files_in(folder: PathBuf, setting: &'static str) {
    let _ = FOLDER.set((folder, setting));
}

fn parent() -> std::io::Result<&'static Path> {
    let folder = FOLDER.get().map(|(folder, _)| folder.as_path());
    folder.ok_or_else(|| std::io::Error::other("the program names no folder for temporary files"))
}

/// Returns the error of a temporary file or folder: what cannot be done, and which setting names
/// the folder.
pub fn temporary_file_error(
    what: &str,
    cause: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    let message = match FOLDER.get() {
        Some((_, setting)) => format!("{what}; {setting} names the folder for temporary files"),
        None => what.to_owned(),
    };
    Error::caused(Kind::Unavailable, message, cause)
}

/// A temporary folder, which is removed when this is dropped.
///
/// Its process holds a lock on it, so that [`remove_abandoned_folders`] finds the folders of
/// processes that were killed.
#[derive(Debug)]
pub struct TemporaryFolder {
    path: PathBuf,
    _lock: File,
}

impl TemporaryFolder {
    /// Returns the path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Creates a temporary folder, which only this user can look into.
///
/// # Errors
/// Returns [`Kind::Unavailable`] when the folder cannot be created.
pub fn temporary_folder() -> Result<TemporaryFolder> {
    let folder = parent().and_then(folder_in);
    folder.map_err(|e| temporary_file_error("cannot create a temporary folder", e))
}

/// Creates a temporary file. It has no name, so the operating system removes it even if the process
/// is killed.
///
/// # Errors
/// Returns an error when the file cannot be created.
pub fn temporary_file() -> std::io::Result<File> {
    parent().and_then(tempfile::tempfile_in)
}

/// The room that there is on the disk for the temporary files of some work.
pub trait DiskRoom: Debug + Send + Sync {
    /// Takes room for further bytes, before they are written.
    ///
    /// # Errors
    /// Returns an error when there is no more room. Then nothing was taken.
    fn take(&self, bytes: u64) -> std::io::Result<()>;
}

/// A file that is written within the room that there is on the disk.
#[derive(Debug)]
pub struct BoundedFile {
    file: File,
    room: Option<Arc<dyn DiskRoom>>,
}

impl BoundedFile {
    /// Returns a file whose bytes take room. `None` means that there is no limit.
    pub fn new(file: File, room: Option<Arc<dyn DiskRoom>>) -> Self {
        Self { file, room }
    }

    /// Returns the file, to read it.
    pub fn into_file(self) -> File {
        self.file
    }
}

impl Write for BoundedFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Some(room) = &self.room {
            room.take(bytes.len() as u64)?;
        }
        // All of it, because room was taken for all of it.
        self.file.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

fn folder_in(parent: &Path) -> std::io::Result<TemporaryFolder> {
    let new = tempfile::Builder::new()
        .prefix(NEW_PREFIX)
        .tempdir_in(parent)?;
    let lock = File::open(new.path())?;
    lock.lock()?;
    // The folder has the name by which it is looked for only once it is locked.
    let name = new.path().file_name().unwrap_or_default().to_string_lossy();
    let path = parent.join(name.replacen(NEW_PREFIX, PREFIX, 1));
    std::fs::rename(new.path(), &path)?;
    let _ = new.keep();
    Ok(TemporaryFolder { path, _lock: lock })
}

/// Removes the temporary folders of processes that ended without removing them, and the files that
/// these processes have not completed.
pub fn remove_abandoned_folders() {
    if let Ok(parent) = parent() {
        remove_abandoned_in(parent);
    }
}

fn remove_abandoned_in(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(PREFIX) && is_abandoned(&entry.path()) {
            remove_noted(&entry.path());
            remove(&entry.path());
        }
    }
}

/// Returns whether no process holds the lock of a folder. Folders of other users cannot be opened,
/// and stay.
fn is_abandoned(path: &Path) -> bool {
    let is_folder = path.symlink_metadata().is_ok_and(|found| found.is_dir());
    is_folder && File::open(path).is_ok_and(|folder| folder.try_lock().is_ok())
}

/// Removes a folder. A thread that nobody waits for any more may just be writing a file into it,
/// so it is tried more than once.
fn remove(path: &Path) {
    let removed = (0..3).any(|_| match std::fs::remove_dir_all(path) {
        Ok(()) => true,
        Err(e) => e.kind() == std::io::ErrorKind::NotFound,
    });
    if !removed {
        tracing::warn!("the temporary folder {} cannot be removed", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_processes_that_ended_are_removed_and_no_others() {
        let parent = tempfile::tempdir().unwrap();
        let used = folder_in(parent.path()).unwrap();
        std::fs::write(used.path().join("file"), "content").unwrap();
        let dropped = folder_in(parent.path()).unwrap();
        let gone = dropped.path().to_owned();
        drop(dropped);
        assert!(!gone.exists());
        // What a killed process leaves: a folder that nobody has locked.
        let abandoned = parent.path().join(format!("{PREFIX}abandoned"));
        std::fs::create_dir(&abandoned).unwrap();
        std::fs::write(abandoned.join("labels.csv"), "content").unwrap();
        let other = parent.path().join("other");
        std::fs::create_dir(&other).unwrap();
        let link = parent.path().join(format!("{PREFIX}link"));
        std::os::unix::fs::symlink(&other, &link).unwrap();
        remove_abandoned_in(parent.path());
        assert!(!abandoned.exists());
        assert!(used.path().join("file").exists());
        assert!(other.exists() && link.exists());
    }
}
