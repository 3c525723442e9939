//! Folders and files of stores, which only the user who runs Wafer can read: they hold people's
//! data, and code that is run.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
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
