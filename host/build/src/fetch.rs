//! Downloads what a project depends on.

use std::path::Path;
use std::process::Stdio;

use crate::rust::cargo;

/// Downloads the packages that the `Cargo.lock` of a folder names, unless cargo has them already.
/// Afterwards the folder's functions build without a network.
///
/// # Errors
/// Returns what cargo printed.
pub fn fetch(folder: &Path) -> Result<(), String> {
    let output = cargo()
        .args(["fetch", "--quiet", "--locked"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("cargo could not be run: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}
