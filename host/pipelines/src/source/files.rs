//! Finds the files of a source, on this machine or on S3, and opens them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use url::Url;
use wafer_catalog::Format;
use wafer_core::{DataType, Digest, Hasher, readable_as};
use wafer_store::{Error, Kind, RemoteFile, RemoteFiles, Result};

use crate::source::digest_file;
use wafer_files::{file_format, unreadable};

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
        let file = Self::undigested(path, format)?;
        Ok(Self {
            digest: digest_file(&file.path)?,
            ..file
        })
    }

    /// Describes a file on this machine like [`from_local`](Self::from_local), for somebody who only
    /// looks at it: its content is not digested.
    pub(crate) fn undigested(path: PathBuf, format: Option<Format>) -> Result<Self> {
        let bytes = std::fs::metadata(&path).map_err(|e| unreadable(&path, e))?;
        Ok(Self {
            format: format.map_or_else(|| Format::of_source(&path), Ok)?,
            digest: Digest::of(&[]),
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

    /// Returns the columns of the file. `declared` are the types of columns of text formats, which
    /// have none of their own.
    pub(crate) fn columns(
        &self,
        declared: &dyn Fn(&str) -> Option<DataType>,
        remote: &Arc<dyn RemoteFiles>,
    ) -> Result<Vec<FileColumn>> {
        let format = file_format(self.format);
        let schema = match &self.remote {
            None => format.schema(&self.path, declared)?,
            Some(file) => {
                let copy = tempfile::NamedTempFile::new().map_err(|e| unreadable(&self.path, e))?;
                block_on(remote.fetch(file, copy.path()))?;
                format.schema(copy.path(), declared)?
            }
        };
        let columns = schema.fields().iter().map(|field| FileColumn {
            name: field.name().clone(),
            data_type: readable_as(field.data_type()),
            stored_as: field.data_type().to_string(),
        });
        Ok(columns.collect())
    }

    /// Opens the file. A remote file is copied to a temporary file first, which is removed when
    /// the returned file is closed.
    pub(crate) fn open(&self, remote: &Arc<dyn RemoteFiles>) -> Result<File> {
        let Some(file) = &self.remote else {
            return File::open(&self.path).map_err(|e| unreadable(&self.path, e));
        };
        let copy = tempfile::NamedTempFile::new().map_err(|e| unreadable(&self.path, e))?;
        block_on(remote.fetch(file, copy.path()))?;
        File::open(copy.path()).map_err(|e| unreadable(&self.path, e))
    }
}

/// A column of a file.
#[derive(Clone, Debug)]
pub(crate) struct FileColumn {
    pub(crate) name: String,
    /// The type that the column is read as; `None` if it has a type that Wafer does not know.
    pub(crate) data_type: Option<DataType>,
    /// The type that the file has.
    pub(crate) stored_as: String,
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
            path.parent()
                .filter(|folder| !folder.as_os_str().is_empty())
                .unwrap_or(Path::new(".")),
            Box::new(move |file| matches_pattern(&name, file)),
        )
    } else if kind_of(path)?.is_dir() {
        (path, Box::new(|file| !file.starts_with(['.', '_'])))
    } else {
        return Ok(vec![path.to_owned()]);
    };
    let entries = std::fs::read_dir(folder).map_err(|e| unreadable(folder, e))?;
    let mut files = Vec::new();
    for entry in entries {
        // An entry that is left out because it cannot be read would be rows that nobody misses.
        let path = entry.map_err(|e| unreadable(folder, e))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy());
        if !name.is_some_and(|name| is_wanted(&name)) {
            continue;
        }
        if kind_of(&path)?.is_file() {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Error::new(
            Kind::NotFound,
            format!("there are no files {}", path.display()),
        ));
    }
    Ok(files)
}

/// Returns what a path leads to.
///
/// # Errors
/// Returns [`Kind::NotFound`] when there is nothing, and [`Kind::Invalid`] when it cannot be looked at.
fn kind_of(path: &Path) -> Result<std::fs::FileType> {
    match std::fs::metadata(path) {
        Ok(found) => Ok(found.file_type()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::new(
            Kind::NotFound,
            format!("there is no file {}", path.display()),
        )),
        Err(e) => Err(unreadable(path, e)),
    }
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
