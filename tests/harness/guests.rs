//! Components that the tests run, built once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use super::project::{BINARY, repository};

/// Folder with the components of `functions/flights`, built once.
pub(crate) fn flights_components() -> &'static Path {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| built("functions/flights"));
    &FOLDER
}

/// A component of `tests/guests`, built once.
pub(crate) fn guest(name: &str) -> PathBuf {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| built("tests/guests"));
    FOLDER.join(format!("{name}.wasm"))
}

/// Builds the components of a project, and returns their folder.
fn built(project: &str) -> PathBuf {
    let folder = repository().join(project);
    let status = Command::new(BINARY)
        .arg("-C")
        .arg(&folder)
        .arg("build")
        .status()
        .unwrap();
    assert!(
        status.success(),
        "{project} cannot be built; what does `wafer doctor` say?"
    );
    folder.join(".wafer/build")
}
