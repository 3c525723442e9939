//! Python environments with other libraries, which `cargo xtask test` installs.

use std::path::PathBuf;

/// Returns the Python with DuckDB and the libraries that train models.
pub(crate) fn witness_python() -> Option<PathBuf> {
    named_by("WAFER_ORACLE_PYTHON")
}

/// Returns a program of the Python environment that has the clients of other systems.
pub(crate) fn client_program(name: &str) -> Option<PathBuf> {
    Some(named_by("WAFER_CLIENTS_PYTHON")?.with_file_name(name))
}

/// Returns the Python that an environment variable names. Without it, a test that needs it is
/// skipped.
fn named_by(variable: &str) -> Option<PathBuf> {
    let python = std::env::var_os(variable).map(PathBuf::from);
    if python.is_none() {
        println!("skipped: {variable} names no Python; `cargo xtask test` sets it");
    }
    python
}
