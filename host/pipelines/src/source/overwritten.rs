//! Files that a command must not write over, because the project reads them or keeps its data in
//! them.
//!
//! A file that is listed is found under all of its names, as files are compared by their device and
//! number. What is inside the store or a Delta table is found through symbolic links, and not by
//! the name of a hard link elsewhere, for which all files of these folders would have to be looked
//! at. Such a name loses nothing: an output takes its place, and the file keeps its content under
//! the other one. Not protected are files that only earlier definitions or other projects read, and
//! those that become one of these after the check.

use std::path::{Path, PathBuf};

use wafer_catalog::{Location, SourceDef, SourceKind, is_same_file};
use wafer_files::here_if_empty;
use wafer_store::{Error, Result};

use crate::source::find::{existing_files, would_find};

/// What a command must not write over.
#[derive(Clone, Debug, Default)]
pub struct ProtectedFiles {
    /// The folder of the stores, if they are on this machine. Nothing is written into it.
    pub store: Option<PathBuf>,
    /// Files that the project reads, each with what it is, such as `the project file`.
    pub files: Vec<(PathBuf, String)>,
    /// The sources, each with what it is called, such as ``source `rides` ``. Protected are the
    /// files that they read, the folders of Delta tables, and the places where their folder or
    /// pattern would find a new file.
    pub sources: Vec<(String, SourceDef)>,
}

impl ProtectedFiles {
    /// Checks that a file to write is not one of these, under whatever name. This reads folders.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) with what the file is if it is one of
    /// them, and the error of the files of a source that cannot be listed.
    pub fn check(&self, out: &Path) -> Result<()> {
        // A pipe or a device has no rows that could be lost.
        if out.exists() && !out.is_file() {
            return Ok(());
        }
        match self.protected_as(out)? {
            None => Ok(()),
            Some(what) => Err(Error::invalid(format!(
                "{} {what}: name another file to write",
                out.display()
            ))),
        }
    }

    /// Returns what a file is, if it is protected.
    fn protected_as(&self, out: &Path) -> Result<Option<String>> {
        let Some(place) = place_of(out) else {
            // Its folder does not exist, which is an error of whoever writes it.
            return Ok(None);
        };
        if let Some(store) = &self.store
            && is_inside(&place, store)
        {
            return Ok(Some(format!("is inside the store {}", store.display())));
        }
        let mut files = self.files.iter();
        if let Some((_, what)) = files.find(|(file, _)| is_same_file(file, out)) {
            return Ok(Some(format!("is {what}")));
        }
        for (reader, source) in &self.sources {
            if let Some(Location::Here(path)) = &source.files
                && let Some(what) = read_as(reader, &source.kind, path, out, &place)?
            {
                return Ok(Some(what));
            }
        }
        Ok(None)
    }
}

/// Returns what a file is to a source that reads files at `path`, if it is one of them or would be.
fn read_as(
    reader: &str,
    kind: &SourceKind,
    path: &Path,
    out: &Path,
    place: &Path,
) -> Result<Option<String>> {
    let exists = out.is_file();
    if matches!(kind, SourceKind::Delta { .. }) {
        let what = match exists {
            true => "is a file of the table",
            false => "is inside the folder of the table",
        };
        return Ok(is_inside(place, path).then(|| format!("{what} that {reader} reads")));
    }
    if !exists {
        let is_found = would_find(path, place);
        return Ok(is_found.then(|| format!("would be a file that {reader} reads")));
    }
    let files = existing_files(path).map_err(|error| {
        let message = format!(
            "the files of {reader} cannot be listed, and {} may be one of them",
            out.display()
        );
        Error::caused(error.kind(), message, error)
    })?;
    let is_read = files.iter().any(|file| is_same_file(file, out));
    Ok(is_read.then(|| format!("is a file that {reader} reads")))
}

/// Returns where a file is or would be, without links. `None` means that its folder does not exist.
fn place_of(file: &Path) -> Option<PathBuf> {
    if let Ok(place) = file.canonicalize() {
        return Some(place);
    }
    let folder = here_if_empty(file.parent()?).canonicalize().ok()?;
    Some(folder.join(file.file_name()?))
}

/// Returns whether a place, which has no links, is below a folder.
fn is_inside(place: &Path, folder: &Path) -> bool {
    let folder = folder.canonicalize();
    folder.is_ok_and(|folder| place.starts_with(folder))
}
