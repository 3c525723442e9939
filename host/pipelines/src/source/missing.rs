//! Files of sources that are not there, or are there and not read.

use std::collections::BTreeSet;
use std::path::Path;

use wafer_catalog::{Definitions, Format, Location, SourceDef, SourceKind};
use wafer_files::TableFormat;
use wafer_store::Kind;

use crate::source::find::{matching_files, skipped_folder};

/// Returns a warning for each source with files on this machine that a pipeline reads and that
/// has none, or whose Delta table is not there, or whose folder has folders with files that are
/// not read. Files elsewhere are not looked for. This reads folders.
pub fn missing_files(definitions: &Definitions) -> Vec<String> {
    let sources: BTreeSet<&String> = definitions
        .pipelines
        .values()
        .map(|pipeline| &pipeline.source)
        .collect();
    let mut warnings = Vec::new();
    for name in sources {
        let Some(source) = definitions.sources.get(name) else {
            continue;
        };
        let Some(Location::Here(path)) = &source.files else {
            continue;
        };
        let (missing, skipped) = match &source.kind {
            SourceKind::Delta { .. } => (missing_table(path), None),
            SourceKind::Files | SourceKind::Table { .. } | SourceKind::Stream { .. } => {
                let error = matching_files(path).err();
                let is_listed = error.as_ref().is_none_or(|e| e.kind() == Kind::NotFound);
                let skipped = is_listed.then(|| skipped_files(path, source)).flatten();
                (error.map(|e| e.to_string()), skipped)
            }
        };
        let missing = missing.map(|what| format!("{what}; runs that read it fail until it exists"));
        let found = missing.into_iter().chain(skipped);
        warnings.extend(found.map(|what| format!("sources.{name}.path: {what}")));
    }
    warnings
}

/// Returns which files in folders of a source's folder are not read although they have its format.
fn skipped_files(path: &Path, source: &SourceDef) -> Option<String> {
    let is_wanted = |file: &Path| {
        let format = Format::of_source(file).ok();
        format.is_some_and(|found| source.format.is_none_or(|wanted| wanted == found))
    };
    let folder = skipped_folder(path, &is_wanted)?;
    Some(format!(
        "the files in {} are not read, because the name of this folder is not that of a \
         partition such as day=2024-01-01; to read all folders, write the pattern {}",
        folder.display(),
        path.join("**/*").display()
    ))
}

/// Returns what is missing of a Delta table, whose files can be in any folder below its own.
fn missing_table(folder: &Path) -> Option<String> {
    let mark = TableFormat::Delta.mark();
    let shown = folder.display();
    let is_there = folder.join(mark).is_dir();
    (!is_there).then(|| format!("there is no Delta table {shown}: it has no folder `{mark}`"))
}
