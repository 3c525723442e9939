//! Finds the files of a source, on this machine or on S3, and opens them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use url::Url;
use wafer_catalog::{Format, temporary_folder};
use wafer_core::{Digest, Hasher};
use wafer_store::{Error, Kind, RemoteFile, RemoteFiles, Result};

use crate::source::digest_file;
use wafer_files::unreadable;

/// A file of a source.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SourceFile {
    /// The path of a local file, or the URL of a remote one.
    pub(crate) path: PathBuf,
    /// The format of the file.
    pub(crate) format: Format,
    /// The digest of the content of a local file, or of the version and size of a remote one.
    pub(crate) digest: Digest,
    /// The size of the file in bytes.
    pub(crate) bytes: u64,
    /// The remote file; `None` for a file on this machine.
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

    /// Describes a file on this machine and digests its content. Without `format`, the file's
    /// name decides its format.
    pub(crate) fn from_local(path: PathBuf, format: Option<Format>) -> Result<Self> {
        let bytes = std::fs::metadata(&path).map_err(|e| unreadable(&path, e))?;
        Ok(Self {
            format: format.map_or_else(|| Format::of_source(&path), Ok)?,
            digest: digest_file(&path)?,
            bytes: bytes.len(),
            path,
            remote: None,
        })
    }

    /// Describes a remote file, without reading it. Without `format`, the file's name decides
    /// its format.
    pub(crate) fn from_remote(file: RemoteFile, format: Option<Format>) -> Result<Self> {
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

    /// Opens the file. A remote file is copied to a temporary file first, which is removed when
    /// the returned file is closed.
    pub(crate) fn open(&self, remote: &Arc<dyn RemoteFiles>) -> Result<File> {
        let Some(file) = &self.remote else {
            return File::open(&self.path).map_err(|e| unreadable(&self.path, e));
        };
        let folder = temporary_folder()?;
        let copy = folder.path().join("copy");
        block_on(remote.fetch(file, &copy))?;
        File::open(&copy).map_err(|e| unreadable(&self.path, e))
    }
}

/// Waits for a future on a thread that may block.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(future))
}

/// Decides by a file's name whether the file belongs to a source.
type NameFilter = Box<dyn Fn(&str) -> bool>;

/// Returns the files that a path stands for, in the order of their names: a file, the files of a
/// folder, or the files whose names match a pattern with `*` in the last part of the path. Names
/// in a folder that begin with `.` or `_` are left out.
///
/// # Errors
/// Returns [`Kind::NotFound`] when there is no such file.
pub(crate) fn find_files(path: &Path) -> Result<Vec<PathBuf>> {
    let name = path
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    let (folder, is_wanted): (&Path, NameFilter) = if name.contains('*') {
        (
            path.parent().unwrap_or(Path::new(".")),
            Box::new(move |file| matches_pattern(&name, file)),
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
        .filter(|p| {
            p.is_file()
                && p.file_name()
                    .is_some_and(|n| is_wanted(&n.to_string_lossy()))
        })
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

/// Returns the remote files that a URL stands for, by the rules of [`find_files`].
///
/// # Errors
/// Returns [`Kind::NotFound`] when there is no such file and [`Kind::Invalid`] when the text is
/// not a URL.
pub(crate) fn find_remote(text: &str, remote: &Arc<dyn RemoteFiles>) -> Result<Vec<RemoteFile>> {
    let url = Url::parse(text).map_err(|e| {
        let message = format!("`{text}` is not of the form s3://BUCKET/FOLDER");
        Error::caused(Kind::Invalid, message, e)
    })?;
    let (folder, name) = text.rsplit_once('/').unwrap_or((text, ""));
    let mut files = if name.contains('*') {
        let folder = Url::parse(&format!("{folder}/")).unwrap_or(url);
        block_on(remote.list(&folder))?
    } else {
        block_on(remote.list(&url))?
    };
    let file_name = |file: &RemoteFile| file.url.path().rsplit('/').next().map(str::to_owned);
    files.retain(|file| match file_name(file) {
        Some(found) if name.contains('*') => matches_pattern(name, &found),
        found => found.is_some_and(|found| !found.starts_with(['.', '_'])),
    });
    if files.is_empty() {
        let message = format!("there are no files {text}");
        return Err(Error::new(Kind::NotFound, message));
    }
    Ok(files)
}

/// Returns whether a name matches a pattern, in which `*` stands for any text.
pub(crate) fn matches_pattern(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|tail| {
            (0..=tail.len())
                .filter(|at| tail.is_char_boundary(*at))
                .any(|at| matches_pattern(rest, &tail[at..]))
        }),
    }
}
