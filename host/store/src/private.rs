//! Folders and files of stores, which only the user who runs Wafer can read: they hold people's
//! data, and code that is run.

use std::fs::{DirBuilder, File, FileType, OpenOptions, Permissions};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::Path;

/// Who may do what with a file: its user reads and writes it.
const FILE: u32 = 0o600;
/// Who may do what with a folder.
const FOLDER: u32 = 0o700;
/// The permissions of everybody else.
const OTHERS: u32 = 0o077;

/// Makes a folder, with those above it that do not exist. One that exists already is closed to
/// others.
///
/// # Errors
/// Fails when the folder cannot be made.
pub fn make_private_folder(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(FOLDER)
        .create(path)?;
    close_folder(path)
}

/// Creates a file.
///
/// # Errors
/// Fails when the file cannot be created, or exists already.
pub(crate) fn create_private_file(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(FILE);
    options.open(path)
}

/// Opens a file of a store to read it. Only a regular file is one: to open a named pipe waits until
/// somebody writes to it, and a device may never end.
///
/// # Errors
/// Fails with [`ErrorKind::InvalidData`] when something else is in the place of the file, and with
/// the errors of opening.
pub fn open_stored_file(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    let opened = options.read(true).custom_flags(libc::O_NONBLOCK).open(path);
    match opened {
        Ok(file) => {
            check_is_file(file.metadata()?.file_type())?;
            Ok(file)
        }
        // A socket cannot even be opened.
        Err(error) => {
            let found = path.metadata();
            found.map_or(Ok(()), |found| check_is_file(found.file_type()))?;
            Err(error)
        }
    }
}

fn check_is_file(found: FileType) -> Result<()> {
    let what = match found {
        _ if found.is_file() => return Ok(()),
        _ if found.is_dir() => "a folder",
        _ if found.is_fifo() => "a named pipe",
        _ if found.is_socket() => "a socket",
        _ => "a device",
    };
    let message = format!("{what} is in the place of the file; remove it");
    Err(Error::new(ErrorKind::InvalidData, message))
}

/// Closes a file to others.
pub(crate) fn close_file(path: &Path) -> Result<()> {
    close(path, FILE)
}

/// Closes a folder to others.
pub(crate) fn close_folder(path: &Path) -> Result<()> {
    close(path, FOLDER)
}

/// Takes the permissions of others away. Where a file system has none, or another user owns the
/// file, it stays as it is: its folder is closed then, or has been opened on purpose. A file that
/// was removed meanwhile needs nothing.
fn close(path: &Path, mode: u32) -> Result<()> {
    let may_stay = |error: &Error| {
        matches!(
            error.kind(),
            ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::Unsupported
        )
    };
    match without_others(path, mode) {
        Err(error) if !may_stay(&error) => Err(error),
        _ => Ok(()),
    }
}

fn without_others(path: &Path, mode: u32) -> Result<()> {
    if path.metadata()?.permissions().mode() & OTHERS == 0 {
        return Ok(());
    }
    std::fs::set_permissions(path, Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    use super::*;

    #[test]
    fn only_regular_files_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "content").unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        let made = Command::new("mkfifo").arg(at("pipe")).status();
        assert!(made.unwrap().success());
        let _listener = UnixListener::bind(at("socket")).unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        for (name, wanted) in [
            ("file", None),
            ("link", None),
            (
                "folder",
                Some("a folder is in the place of the file; remove it"),
            ),
            ("pipe", Some("a named pipe is in the place")),
            ("socket", Some("a socket is in the place")),
        ] {
            match (open_stored_file(&at(name)), wanted) {
                (Ok(file), None) => assert_eq!(file.metadata().unwrap().len(), 7),
                (Err(error), Some(wanted)) => {
                    assert_eq!(error.kind(), ErrorKind::InvalidData);
                    assert!(error.to_string().contains(wanted), "{error}");
                }
                (opened, _) => panic!("{name}: {opened:?}"),
            }
        }
        let missing = open_stored_file(&at("missing")).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }
}
