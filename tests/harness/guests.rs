//! The components that the tests run. They are built once for each test process.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use super::project::{repository, wafer};

/// Returns the folder with the components of `functions/flights`.
pub(crate) fn flights_components() -> &'static Path {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| build("functions/flights"));
    &FOLDER
}

/// Returns the path of a component of `tests/guests`.
pub(crate) fn guest(name: &str) -> PathBuf {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| build("tests/guests"));
    FOLDER.join(format!("{name}.wasm"))
}

/// Builds the components of a project, and returns their folder.
fn build(project: &str) -> PathBuf {
    let folder = repository().join(project);
    let status = wafer()
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
