//! Files for users that are written under another name until they are complete.
//!
//! A reader never sees half a file, and two processes do not write one file at the same time. The
//! name, `NAME.wafer-part`, is one that nobody else gives to files. What a killed process has left
//! is used again when the file is written the next time. It is also noted in a temporary folder of
//! the process, so that it is removed with that folder (`temporary.rs`).

use std::ffi::OsStr;
use std::fs::{File, Metadata, TryLockError};
use std::io::{IsTerminal as _, Result as IoResult};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use wafer_store::{Error, Kind, Result};

use crate::temporary::{TemporaryFolder, temporary_folder};

/// How the names of files end that are not complete.
const ENDING: &str = ".wafer-part";
/// The file in a temporary folder that has the path of a file that is not complete.
const NOTE: &str = "partial-file";

/// A file that is being written under another name. If this is dropped before the file is complete,
/// it is removed.
#[derive(Debug)]
pub struct PartialFile {
    /// The path of the complete file. Where the user named a link, it is what the link leads to.
    path: PathBuf,
    /// The path of the file until it is complete; `None` once it is, and for a pipe or a device,
    /// which takes what is written to it as it comes.
    temporary: Option<PathBuf>,
    /// The file, with a lock on it under its temporary name.
    file: File,
    /// The folder that has the path of the file, if one can be made.
    _note: Option<TemporaryFolder>,
}

impl PartialFile {
    /// Starts to write a file. A file that is there is replaced by one with the same permissions; a
    /// link to a file stays. A pipe or a device is written to, but no terminal. This blocks.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when another process writes it, [`Kind::Invalid`] when something
    /// else has its temporary name or it is a terminal, and [`Kind::Unavailable`] when it cannot be
    /// written.
    pub fn create(path: &Path) -> Result<Self> {
        let found = path.metadata().ok();
        let is_special = |found: &Metadata| !found.is_file() && !found.is_dir();
        if found.as_ref().is_some_and(is_special) {
            return Self::opened(path);
        }
        let place = match path.canonicalize() {
            Ok(place) => place,
            Err(e) if path.is_symlink() => return Err(unwritable(path, e)),
            Err(_) => path.to_owned(),
        };
        let mut name = place.file_name().unwrap_or_default().to_os_string();
        name.push(ENDING);
        let temporary = place.with_file_name(name);
        check_place(path, &temporary)?;
        let note = noted(&temporary);
        let file = locked(path, &temporary)?;
        let partial = Self {
            path: place,
            temporary: Some(temporary),
            file,
            _note: note,
        };
        if let Some(found) = found {
            let set = partial.file.set_permissions(found.permissions());
            set.map_err(|e| unwritable(path, e))?;
        }
        Ok(partial)
    }

    /// Opens a pipe or a device.
    fn opened(path: &Path) -> Result<Self> {
        let file = File::options().write(true).open(path);
        let file = file.map_err(|e| unwritable(path, e))?;
        check_no_terminal(path, &file)?;
        Ok(Self {
            path: path.to_owned(),
            temporary: None,
            file,
            _note: None,
        })
    }

    /// The file that the content is written to.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its name, in the place of a file that is there.
    ///
    /// # Errors
    /// Returns an error when the file cannot be renamed.
    pub fn complete(mut self) -> IoResult<()> {
        if let Some(temporary) = &self.temporary {
            std::fs::rename(temporary, &self.path)?;
        }
        self.temporary = None;
        Ok(())
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // A partial file is of no use; if it cannot be removed, it is left behind.
            let _ = std::fs::remove_file(temporary);
        }
    }
}

/// Checks that an open file is not a terminal. What is written to files is not escaped, so that it
/// could control a terminal, and pose as something else to whoever reads it there.
///
/// # Errors
/// Returns [`Kind::Invalid`] for a terminal, which the error names `path`.
pub fn check_no_terminal(path: &Path, file: &File) -> Result<()> {
    if !file.is_terminal() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{} is a terminal, which what is written could control: write to a file or a pipe, or look \
         at rows with `wafer show`, whose table has them escaped",
        path.display()
    )))
}

/// Checks that nothing but a file is in the place of a temporary file. A link would lead to a file
/// of the user.
fn check_place(path: &Path, temporary: &Path) -> Result<()> {
    match temporary.symlink_metadata() {
        Ok(found) if !found.is_file() => Err(Error::invalid(format!(
            "{} cannot be written: {} is not a file; remove it",
            path.display(),
            temporary.display()
        ))),
        _ => Ok(()),
    }
}

fn unwritable(path: &Path, error: std::io::Error) -> Error {
    let message = format!("{} cannot be written", path.display());
    Error::caused(Kind::Unavailable, message, error)
}

/// Creates the temporary file of a file, and locks it. One that a killed process has left is
/// emptied.
///
/// # Errors
/// Returns [`Kind::Conflict`] when another process writes it.
fn locked(path: &Path, temporary: &Path) -> Result<File> {
    let unwritable = |e| unwritable(path, e);
    // It is emptied only once it is locked.
    let mut options = File::options();
    let file = options.write(true).create(true).truncate(false);
    let file = file.open(temporary).map_err(unwritable)?;
    let is_locked = !matches!(file.try_lock(), Err(TryLockError::WouldBlock));
    // The other process may have completed its file since this one was opened.
    if !is_locked || !is_at(&file, temporary).map_err(unwritable)? {
        let message = format!(
            "{} is being written by another process; wait for it, or name another file",
            path.display()
        );
        return Err(Error::new(Kind::Conflict, message));
    }
    file.set_len(0).map_err(unwritable)?;
    Ok(file)
}

/// Returns whether two paths lead to one file.
pub fn is_same_file(one: &Path, other: &Path) -> bool {
    match (one.metadata(), other.metadata()) {
        (Ok(one), Ok(other)) => one.dev() == other.dev() && one.ino() == other.ino(),
        _ => false,
    }
}

/// Returns whether an open file is the one at a path, and not behind a link there.
fn is_at(file: &File, path: &Path) -> IoResult<bool> {
    let open = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(found) => Ok(found.dev() == open.dev() && found.ino() == open.ino()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Notes the path of a temporary file in a temporary folder, which is found when the process was
/// killed. Without a note, the file stays until it is written again.
fn noted(temporary: &Path) -> Option<TemporaryFolder> {
    let folder = temporary_folder().ok()?;
    let path = std::path::absolute(temporary).ok()?;
    std::fs::write(folder.path().join(NOTE), path.as_os_str().as_bytes()).ok()?;
    Some(folder)
}

/// Removes the file that is noted in the temporary folder of a process that was killed, unless it
/// is being written again. Whatever the note says, no other files are removed.
pub(crate) fn remove_noted(folder: &Path) {
    let Ok(path) = std::fs::read(folder.join(NOTE)) else {
        return;
    };
    let path = Path::new(OsStr::from_bytes(&path));
    let name = path.file_name().unwrap_or_default();
    let is_partial = name.as_bytes().ends_with(ENDING.as_bytes());
    let is_file = || path.symlink_metadata().is_ok_and(|found| found.is_file());
    if is_partial
        && is_file()
        && let Ok(file) = File::open(path)
        && file.try_lock().is_ok()
        // Another process may have completed it and begun a new one since this one was opened.
        && is_at(&file, path).unwrap_or(false)
    {
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_there_when_it_is_complete_and_files_of_the_user_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        for name in ["rows.csv", "rows.csv.part"] {
            std::fs::write(folder.path().join(name), "of the user").unwrap();
        }
        // What a killed process left is longer.
        let left = folder.path().join("rows.csv.wafer-part");
        std::fs::write(left, "left over, and longer").unwrap();
        let first = PartialFile::create(&path).unwrap();
        let second = PartialFile::create(&path).unwrap_err();
        assert_eq!(second.kind(), Kind::Conflict);
        first.file().write_all(b"n\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "of the user");
        first.complete().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "n\n");
        drop(PartialFile::create(&path).unwrap());
        assert_eq!(names(folder.path()), ["rows.csv", "rows.csv.part"]);
        let other = std::fs::read_to_string(folder.path().join("rows.csv.part")).unwrap();
        assert_eq!(other, "of the user");
    }

    #[test]
    fn a_file_keeps_its_permissions_and_the_link_to_it() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("model.bin"), folder.path().join("link"));
        std::fs::write(&file, "old").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let partial = PartialFile::create(&link).unwrap();
        partial.file().write_all(b"new").unwrap();
        partial.complete().unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert_eq!(names(folder.path()), ["link", "model.bin"]);
    }

    #[test]
    fn a_file_that_is_replaced_keeps_its_content_under_its_other_names() {
        let folder = tempfile::tempdir().unwrap();
        let (file, other) = (folder.path().join("a.csv"), folder.path().join("b.csv"));
        std::fs::write(&file, "old").unwrap();
        std::fs::hard_link(&file, &other).unwrap();
        assert!(is_same_file(&file, &other));
        let partial = PartialFile::create(&other).unwrap();
        partial.file().write_all(b"new").unwrap();
        partial.complete().unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "old");
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "new");
        assert!(!is_same_file(&file, &other));
    }

    #[test]
    fn a_link_to_nothing_is_refused_and_what_is_no_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path().join("gone"), &link).unwrap();
        let refused = PartialFile::create(&link).unwrap_err();
        assert_eq!(refused.kind(), Kind::Unavailable);
        assert_eq!(names(folder.path()), ["link"]);
        // A device, behind a link.
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        let partial = PartialFile::create(&link).unwrap();
        partial.file().write_all(b"n\n").unwrap();
        partial.complete().unwrap();
        assert_eq!(names(folder.path()), ["link"]);
        assert!(!Path::new("/dev/null").metadata().unwrap().is_file());
        drop(PartialFile::create(&link).unwrap());
        assert!(Path::new("/dev/null").exists());
    }

    #[test]
    fn a_link_in_the_place_of_the_temporary_file_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("own");
        std::fs::write(&own, "of the user").unwrap();
        let link = folder.path().join("rows.csv.wafer-part");
        std::os::unix::fs::symlink(&own, &link).unwrap();
        let refused = PartialFile::create(&folder.path().join("rows.csv")).unwrap_err();
        assert!(refused.to_string().contains("is not a file"), "{refused}");
        assert_eq!(std::fs::read_to_string(&own).unwrap(), "of the user");
        assert!(link.exists());
    }

    #[test]
    fn a_note_of_a_killed_process_removes_its_file_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let work = folder.path().join("work");
        std::fs::create_dir(&work).unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["own.csv", "left.csv.wafer-part", "target"] {
            std::fs::write(at(name), "content").unwrap();
        }
        std::os::unix::fs::symlink(at("target"), at("link.wafer-part")).unwrap();
        let written = PartialFile::create(&at("used.csv")).unwrap();
        for (name, stays) in [
            ("own.csv", true),
            ("link.wafer-part", true),
            ("used.csv.wafer-part", true),
            ("left.csv.wafer-part", false),
        ] {
            std::fs::write(work.join(NOTE), at(name).as_os_str().as_bytes()).unwrap();
            remove_noted(&work);
            assert_eq!(at(name).symlink_metadata().is_ok(), stays, "{name}");
        }
        assert!(at("target").exists());
        written.complete().unwrap();
        remove_noted(&at("nowhere"));
    }
}
