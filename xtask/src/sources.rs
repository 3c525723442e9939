//! Finds and reads the files of the checkout, without what builds made.

use std::path::{Path, PathBuf};

use crate::Result;

/// Returns the files below a folder that are wanted.
pub(crate) fn files(folder: &Path, is_wanted: &dyn Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for entry in entries.filter_map(std::result::Result::ok) {
        let path = entry.path();
        let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
        if is_hidden || path.ends_with("target") {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path, is_wanted)?);
        } else if is_wanted(&path) {
            found.push(path);
        }
    }
    Ok(found)
}

/// Returns whether a file is one of Rust.
pub(crate) fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

/// Reads a file.
pub(crate) fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}
