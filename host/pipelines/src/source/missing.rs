//! Files of sources that are not there, or are there and not read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use wafer_catalog::{Definitions, Format, Location, SourceDef, SourceKind};
use wafer_files::TableFormat;
use wafer_store::{Error, Kind, Result};

use crate::source::find::{find_files, look_at, matching_files, skipped_folder};

/// Returns a warning for each source with files on this machine that a pipeline reads and that
/// has none, or whose Delta table is not there, or whose folder has folders with files that are
/// not read. Files elsewhere are not looked for. This reads folders.
pub fn missing_files(definitions: &Definitions) -> Vec<String> {
    let mut warnings = Vec::new();
    for (name, source, path) in read_here(definitions) {
        let remarks = remarks_at(source, path);
        let found = remarks.missing.into_iter().chain(remarks.unread);
        warnings.extend(found.map(|what| warning(name, &what)));
    }
    warnings
}

/// Returns a warning for each of these sources, by name, whose folder on this machine has folders
/// with files that are not read. This reads folders.
pub fn unread_files(sources: &BTreeMap<String, SourceDef>) -> Vec<String> {
    let unread = sources.iter().filter_map(|(name, source)| {
        let unread = remarks_at(source, path_here(source)?).unread?;
        Some(warning(name, &unread))
    });
    unread.collect()
}

/// Checks that the files on this machine of all sources that pipelines read can be listed. A source
/// may have none yet. This reads folders.
///
/// # Errors
/// Returns the error of the first source whose files cannot be listed, with its name.
pub fn check_listed(definitions: &Definitions) -> Result<()> {
    for (name, source, path) in read_here(definitions) {
        let listed = match &source.kind {
            SourceKind::Delta { .. } => look_at(&path.join(TableFormat::Delta.mark())).map(drop),
            SourceKind::Files | SourceKind::Table { .. } | SourceKind::Stream { .. } => {
                find_files(path).map(drop)
            }
        };
        if let Err(error) = listed
            && error.kind() != Kind::NotFound
        {
            let message = format!("sources.{name}.path: its files cannot be listed");
            return Err(Error::caused(error.kind(), message, error));
        }
    }
    Ok(())
}

fn warning(source: &str, what: &str) -> String {
    format!("sources.{source}.path: {what}")
}

/// What there is to say of the files of a source.
#[derive(Default)]
struct Remarks {
    /// What is not there.
    missing: Option<String>,
    /// What is there and not read.
    unread: Option<String>,
}

/// Returns the sources with files on this machine that pipelines read.
fn read_here(definitions: &Definitions) -> Vec<(&str, &SourceDef, &Path)> {
    let read = definitions.pipelines.values();
    let sources: BTreeSet<&String> = read.map(|pipeline| &pipeline.source).collect();
    let here = sources.into_iter().filter_map(|name| {
        let source = definitions.sources.get(name)?;
        Some((name.as_str(), source, path_here(source)?))
    });
    here.collect()
}

/// Returns where the files of a source are, or `None` if they are not on this machine.
fn path_here(source: &SourceDef) -> Option<&Path> {
    match &source.files {
        Some(Location::Here(path)) => Some(path),
        Some(Location::Remote(_)) | None => None,
    }
}

fn remarks_at(source: &SourceDef, path: &Path) -> Remarks {
    match &source.kind {
        SourceKind::Delta { .. } => Remarks {
            missing: missing_table(path),
            ..Remarks::default()
        },
        SourceKind::Files | SourceKind::Table { .. } | SourceKind::Stream { .. } => {
            let error = matching_files(path).err();
            // What cannot be listed is not looked through once more.
            let is_listed = error.as_ref().is_none_or(|e| e.kind() == Kind::NotFound);
            Remarks {
                missing: error.map(|e| match is_listed {
                    true => until_it_exists(&e.to_string()),
                    false => format!("{}; runs that read it fail", e.chain()),
                }),
                unread: is_listed.then(|| skipped_files(path, source)).flatten(),
            }
        }
    }
}

fn until_it_exists(what: &str) -> String {
    format!("{what}; runs that read it fail until it exists")
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
    (!is_there).then(|| {
        let what = format!("there is no Delta table {shown}: it has no folder `{mark}`");
        until_it_exists(&what)
    })
}
