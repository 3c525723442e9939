//! Files of sources that are not there.

use std::collections::BTreeSet;

use wafer_catalog::{Definitions, Location};

use crate::source::find::matching_files;

/// Returns a warning for each source with files on this machine that a pipeline reads and that
/// has none. Files elsewhere are not looked for. This reads folders.
pub fn missing_files(definitions: &Definitions) -> Vec<String> {
    let sources: BTreeSet<&String> = definitions
        .pipelines
        .values()
        .map(|pipeline| &pipeline.source)
        .collect();
    let missing = sources.into_iter().filter_map(|name| {
        let Some(Location::Here(path)) = &definitions.sources.get(name)?.files else {
            return None;
        };
        let error = matching_files(path).err()?;
        Some(format!(
            "sources.{name}.path: {error}; runs that read it fail until it exists"
        ))
    });
    missing.collect()
}
