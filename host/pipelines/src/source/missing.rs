//! Files of sources that are not there.

use std::collections::BTreeSet;
use std::path::Path;

use wafer_catalog::{Definitions, Location, SourceKind};
use wafer_files::TableFormat;

use crate::source::find::matching_files;

/// Returns a warning for each source with files on this machine that a pipeline reads and that
/// has none, or whose Delta table is not there. Files elsewhere are not looked for. This reads
/// folders.
pub fn missing_files(definitions: &Definitions) -> Vec<String> {
    let sources: BTreeSet<&String> = definitions
        .pipelines
        .values()
        .map(|pipeline| &pipeline.source)
        .collect();
    let missing = sources.into_iter().filter_map(|name| {
        let source = definitions.sources.get(name)?;
        let Some(Location::Here(path)) = &source.files else {
            return None;
        };
        let missing = match &source.kind {
            SourceKind::Delta { .. } => missing_table(path)?,
            SourceKind::Files | SourceKind::Table { .. } | SourceKind::Stream { .. } => {
                matching_files(path).err()?.to_string()
            }
        };
        Some(format!(
            "sources.{name}.path: {missing}; runs that read it fail until it exists"
        ))
    });
    missing.collect()
}

/// Returns what is missing of a Delta table, whose files can be in any folder below its own.
fn missing_table(folder: &Path) -> Option<String> {
    let mark = TableFormat::Delta.mark();
    let shown = folder.display();
    let is_there = folder.join(mark).is_dir();
    (!is_there).then(|| format!("there is no Delta table {shown}: it has no folder `{mark}`"))
}
