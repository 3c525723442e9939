//! The files of a source, on this machine or on S3.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use url::Url;
use wafer_catalog::Format;
use wafer_core::{Digest, Hasher};
use wafer_store::{Error, Kind, RemoteFile, RemoteFiles, Result};

use crate::source::digest_file;
use wafer_files::unreadable;

/// A file of a source.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SourceFile {
    /// Where it is; its URL, for one that is not here.
    pub(crate) path: PathBuf,
    pub(crate) format: Format,
    /// Of its content; of the version of one that is not here.
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
    pub(crate) remote: Option<RemoteFile>,
}

impl SourceFile {
    #[cfg(test)]
    pub(crate) fn sized(bytes: u64) -> Self {
        Self {
            path: PathBuf::from("x.csv"),
            format: Format::Csv,
            digest: Digest::of(&[]),
            bytes,
            remote: None,
        }
    }

    pub(crate) fn here(path: PathBuf, format: Option<Format>) -> Result<Self> {
        let bytes = std::fs::metadata(&path).map_err(|e| unreadable(&path, e))?;
        Ok(Self {
            format: format.map_or_else(|| Format::of_source(&path), Ok)?,
            digest: digest_file(&path)?,
            bytes: bytes.len(),
            path,
            remote: None,
        })
    }

    pub(crate) fn elsewhere(file: RemoteFile, format: Option<Format>) -> Result<Self> {
        let path = PathBuf::from(file.url.as_str());
        let mut hasher = Hasher::new();
        hasher
            .part(file.version.as_bytes())
            .part(&file.bytes.to_le_bytes());
        Ok(Self {
            format: format.map_or_else(|| Format::of_source(&path), Ok)?,
            digest: hasher.finish(),
            bytes: file.bytes,
            path,
            remote: Some(file),
        })
    }

    /// Its content; a copy of it, which is gone when it is closed, for one that is not
    /// here.
    pub(crate) fn open(&self, remote: &Arc<dyn RemoteFiles>) -> Result<File> {
        let Some(file) = &self.remote else {
            return File::open(&self.path).map_err(|e| unreadable(&self.path, e));
        };
        let copy = tempfile::NamedTempFile::new().map_err(|e| unreadable(&self.path, e))?;
        wait(remote.fetch(file, copy.path()))?;
        File::open(copy.path()).map_err(|e| unreadable(&self.path, e))
    }
}

/// Waits for what is elsewhere, on a thread that may block.
fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(future))
}

/// Whether a file is one of a source's, by its name.
type Fits = Box<dyn Fn(&str) -> bool>;

/// A file, the files of a folder, or those that a pattern with `*` in the file
/// name fits, in the order of their names.
pub(crate) fn find_files(path: &Path) -> Result<Vec<PathBuf>> {
    let name = path
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    let (folder, fits): (&Path, Fits) = if name.contains('*') {
        (
            path.parent().unwrap_or(Path::new(".")),
            Box::new(move |file| fits(&name, file)),
        )
    } else if path.is_dir() {
        (path, Box::new(|file| !file.starts_with(['.', '_'])))
    } else if path.is_file() {
        return Ok(vec![path.to_owned()]);
    } else {
        return Err(Error::new(
            Kind::NotFound,
            format!("there is no file {}", path.display()),
        ));
    };
    let entries = std::fs::read_dir(folder).map_err(|e| unreadable(folder, e))?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|p| p.is_file() && p.file_name().is_some_and(|n| fits(&n.to_string_lossy())))
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(Error::new(
            Kind::NotFound,
            format!("there are no files {}", path.display()),
        ));
    }
    Ok(files)
}

/// As [`find_files`], elsewhere.
pub(crate) fn find_remote(text: &str, remote: &Arc<dyn RemoteFiles>) -> Result<Vec<RemoteFile>> {
    let url = Url::parse(text).map_err(|e| {
        let message = format!("`{text}` is not of the form s3://BUCKET/FOLDER");
        Error::caused(Kind::Invalid, message, e)
    })?;
    let (folder, name) = text.rsplit_once('/').unwrap_or((text, ""));
    let mut files = if name.contains('*') {
        let folder = Url::parse(&format!("{folder}/")).unwrap_or(url);
        wait(remote.list(&folder))?
    } else {
        wait(remote.list(&url))?
    };
    let file_name = |file: &RemoteFile| file.url.path().rsplit('/').next().map(str::to_owned);
    files.retain(|file| match file_name(file) {
        Some(found) if name.contains('*') => fits(name, &found),
        found => found.is_some_and(|found| !found.starts_with(['.', '_'])),
    });
    if files.is_empty() {
        let message = format!("there are no files {text}");
        return Err(Error::new(Kind::NotFound, message));
    }
    Ok(files)
}

/// Whether a name fits a pattern in which `*` stands for any text.
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|tail| {
            (0..=tail.len())
                .filter(|at| tail.is_char_boundary(*at))
                .any(|at| fits(rest, &tail[at..]))
        }),
    }
}
