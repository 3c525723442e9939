//! Entry point of the fuzz target `delta_log` in `fuzz/`.

use std::path::Path;

use wafer_store::{Kind, Place};

use crate::delta_log;

/// Looks at the log of a Delta table that others write, as before it is read.
///
/// # Errors
/// Returns the message of a log that is refused.
///
/// # Panics
/// Panics when a log is refused that could not be read for another reason than its content.
pub async fn log(folder: &Path, version: Option<u64>) -> Result<(), String> {
    delta_log::check_log(&Place::Here(folder.to_owned()), version, None)
        .await
        .map_err(|error| {
            assert_eq!(error.kind(), Kind::Invalid, "{error}");
            error.chain()
        })
}
