//! Pythons with libraries of others, which `cargo xtask test` installs.

use std::path::PathBuf;

/// The Python of the witnesses, with DuckDB and the libraries that train models.
pub(crate) fn witness_python() -> Option<PathBuf> {
    named_by("WAFER_ORACLE_PYTHON")
}

/// A program beside the Python that the clients of other systems are installed for.
pub(crate) fn client_program(name: &str) -> Option<PathBuf> {
    Some(named_by("WAFER_CLIENTS_PYTHON")?.with_file_name(name))
}

/// The Python that a variable names; a test that needs it is skipped otherwise.
fn named_by(variable: &str) -> Option<PathBuf> {
    let python = std::env::var_os(variable).map(PathBuf::from);
    if python.is_none() {
        println!("skipped: {variable} names no Python; `cargo xtask test` sets it");
    }
    python
}
