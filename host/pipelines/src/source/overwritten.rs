//! Files of sources that somebody is about to write.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use wafer_catalog::{Location, SourceDef, is_same_file};
use wafer_store::{Error, Result};

use crate::source::find::matching_files;

/// Checks that a file to write is not one that a source reads, under whatever name. This reads
/// folders.
///
/// # Errors
/// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) with the name of the source if it is.
pub fn check_no_source_file(sources: &BTreeMap<String, SourceDef>, out: &Path) -> Result<()> {
    // What is not there has no rows that could be lost, and neither has a pipe or a device.
    if !out.is_file() {
        return Ok(());
    }
    let is_out = |file: &PathBuf| is_same_file(file, out);
    for (name, source) in sources {
        let Some(Location::Here(path)) = &source.files else {
            continue;
        };
        // Files that cannot be found are an error of whoever reads them.
        let files = matching_files(path).unwrap_or_default();
        if files.iter().any(is_out) {
            return Err(Error::invalid(format!(
                "{} is a file that source `{name}` reads: name another file to write, so that its \
                 rows stay",
                out.display()
            )));
        }
    }
    Ok(())
}
