//! Finds the files that the `path` of a source stands for, on this machine or elsewhere.
//!
//! A path is a file, a folder, or a pattern. In a pattern, `*` stands for any text in one part of
//! the path, and a part that is `**` for any number of folders. Of a folder, its files are taken,
//! and those of the folders in it that are [partitions](super::partition), such as
//! `day=2024-01-01`. Names that begin with `.` or `_` are those of hidden files and of the notes of
//! other programs, such as `_SUCCESS`: only a pattern that begins like them finds them. Files of a
//! table format are refused, because some of them hold rows that their table no longer has.
//!
//! Links are followed wherever they lead to, as file systems do by themselves: a partition may be
//! on another disk. A folder that is in itself by a link is refused, because its files would have
//! no end, and so is a path for which too many names would have to be looked at. A name that would
//! be that of a file is refused if it is a link that leads nowhere, a pipe, a socket or a device.

use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use url::Url;
use wafer_files::{check_files_of_no_table, check_no_table, here_if_empty, unreadable};
use wafer_store::{Error, Kind, RemoteFile, RemoteFiles, RemoteFilesExt as _, Result};

use super::files::block_on;
use super::partition::{decoded, is_partition};
use super::table_format::{ListedTables, check_remote};

/// The largest number of folders, one in the other, that a pattern goes through.
const MAX_DEPTH: usize = 32;

/// The largest number of files of a source.
const MAX_FILES: usize = 1_000_000;

/// The largest number of names that are looked at to find the files of a source. A link may lead to
/// a folder with everything that a machine has.
const MAX_NAMES: usize = 4 * MAX_FILES;

/// The largest number of names that are looked at to warn of files that are not read.
const MAX_SKIPPED_NAMES: usize = 100_000;

/// Returns the files that a path stands for, in the order of their names.
///
/// # Errors
/// Returns [`Kind::NotFound`] when there is no such file, and [`Kind::Invalid`] when the files are
/// those of a table.
pub(crate) fn find_files(path: &Path) -> Result<Vec<PathBuf>> {
    check_no_table(path)?;
    let files = matching_files(path)?;
    // A file by itself was checked with its path.
    if files.as_slice() != [path] {
        check_files_of_no_table(&files)?;
    }
    Ok(files)
}

/// Returns the files that a path stands for like [`find_files`], whether they are those of a table
/// or not.
///
/// # Errors
/// Returns [`Kind::NotFound`] when there is no such file.
pub(crate) fn matching_files(path: &Path) -> Result<Vec<PathBuf>> {
    let files = existing_files(path)?;
    if !files.is_empty() {
        return Ok(files);
    }
    let (_, pattern) = split_pattern(path);
    if pattern.is_empty() {
        // Nothing is there, or an empty folder.
        look_at(path)?;
    }
    Err(none(&path.display().to_string()))
}

/// Returns the files that a path stands for like [`matching_files`]: none, if there are none yet.
///
/// # Errors
/// Returns an error when a folder or a file cannot be looked at, when links lead in a circle, and
/// when there is too much to look at.
pub(super) fn existing_files(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let (folder, pattern) = split_pattern(path);
    if pattern.is_empty() {
        match look_at(path) {
            Ok(found) if found.is_dir() => {}
            Ok(found) if found.is_file() => return Ok(vec![path.to_owned()]),
            Ok(found) => return Err(no_file(path, &found)),
            Err(e) if e.kind() == Kind::NotFound && !path.is_symlink() => return Ok(Vec::new()),
            Err(e) => return Err(or_broken_link(path, e)),
        }
    }
    let parts: Vec<&str> = pattern.iter().map(String::as_str).collect();
    let mut walk = Walk::default();
    walk.start(here_if_empty(&folder), &parts)?;
    let mut files = walk.files;
    sort_by_names(&mut files, |file: &PathBuf| {
        let names = file.components();
        names.map(|name| name.as_os_str().to_owned()).collect()
    });
    // A pattern with `**` twice may find a file twice.
    files.dedup();
    Ok(files)
}

/// Returns whether a file would be among those that a path stands for, if it were written. The
/// path of the file has no links.
pub(super) fn would_find(path: &Path, file: &Path) -> bool {
    let (folder, pattern) = split_pattern(path);
    let Ok(folder) = here_if_empty(&folder).canonicalize() else {
        return false;
    };
    let Ok(below) = file.strip_prefix(&folder) else {
        return false;
    };
    let names: Vec<_> = below.iter().map(|name| name.to_string_lossy()).collect();
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    let pattern: Vec<&str> = pattern.iter().map(String::as_str).collect();
    is_found(&pattern, &names)
}

/// Returns the first folder in a folder that is not read, because it is not a partition, although a
/// file in it is wanted. This only warns of files that no run reads, so it passes over what it
/// cannot look at, links from such a folder to others, and whatever comes after many names.
pub(super) fn skipped_folder(folder: &Path, is_wanted: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    let left = MAX_SKIPPED_NAMES;
    Skipped { is_wanted, left }.first_in(folder, 0)
}

/// A search for files that are not read.
struct Skipped<'a> {
    is_wanted: &'a dyn Fn(&Path) -> bool,
    /// The number of names that may still be looked at.
    left: usize,
}

impl Skipped<'_> {
    /// Returns the first folder in one that is read, in which there are wanted files.
    fn first_in(&mut self, folder: &Path, depth: usize) -> Option<PathBuf> {
        let entries = std::fs::read_dir(folder).ok()?.flatten();
        let mut folders: Vec<PathBuf> = entries
            .take_while(|_| self.may_look())
            .map(|entry| entry.path())
            .filter(|entry| entry.is_dir())
            .collect();
        folders.sort();
        folders.into_iter().find_map(|entry| {
            let name = entry.file_name()?.to_string_lossy();
            if is_hidden(&name) || depth > MAX_DEPTH {
                return None;
            }
            if is_partition(&name) {
                return self.first_in(&entry, depth + 1);
            }
            self.has_file(&entry, depth).then_some(entry)
        })
    }

    /// Counts a name, and returns whether it may still be looked at.
    fn may_look(&mut self) -> bool {
        let left = self.left.checked_sub(1);
        self.left = left.unwrap_or(0);
        left.is_some()
    }

    /// Returns whether there is a wanted file in a folder or below it.
    fn has_file(&mut self, folder: &Path, depth: usize) -> bool {
        let Ok(entries) = std::fs::read_dir(folder) else {
            return false;
        };
        for entry in entries.flatten() {
            if !self.may_look() {
                return false;
            }
            let (path, kind) = (entry.path(), entry.file_type());
            if is_hidden(&entry.file_name().to_string_lossy()) {
                continue;
            }
            let is_found = match kind {
                Ok(kind) if kind.is_dir() => depth < MAX_DEPTH && self.has_file(&path, depth + 1),
                _ => path.is_file() && (self.is_wanted)(&path),
            };
            if is_found {
                return true;
            }
        }
        false
    }
}

/// Sorts files by the names of their folders and their own, one name after the other: `a/x.csv`
/// comes before `a-1/x.csv`, because `a` comes before `a-1`. The order decides which of the rows of
/// one key and time counts, so it is the same on this machine and on S3. `names` decodes those of a
/// URL.
fn sort_by_names<T>(files: &mut [T], names: impl Fn(&T) -> Vec<OsString>) {
    files.sort_by_cached_key(names);
}

/// Returns what a path leads to.
///
/// # Errors
/// Returns [`Kind::NotFound`] when there is nothing, and [`Kind::Invalid`] when it cannot be looked
/// at.
pub(super) fn look_at(path: &Path) -> Result<Metadata> {
    match std::fs::metadata(path) {
        Ok(found) => Ok(found),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let message = format!("there is no file {}", path.display());
            Err(Error::new(Kind::NotFound, message))
        }
        Err(e) => Err(unreadable(path, e)),
    }
}

/// Returns the error for a name that leads to nothing, by which a link that is there is told from a
/// file that is not there yet.
fn or_broken_link(path: &Path, error: Error) -> Error {
    match error.kind() == Kind::NotFound && path.is_symlink() {
        true => Error::invalid(format!(
            "{} is a link that leads to nothing: remove it, or put the file there",
            path.display()
        )),
        false => error,
    }
}

/// Returns the error for a pipe, a socket or a device that has the name of a file. A read from a
/// pipe could wait forever, and none of these can be read a second time.
fn no_file(path: &Path, found: &Metadata) -> Error {
    let kind = found.file_type();
    let what = if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    Error::invalid(format!(
        "{} is {what} and not a file: remove it, or use a path that does not stand for it",
        path.display()
    ))
}

fn none(path: &str) -> Error {
    Error::new(Kind::NotFound, format!("there are no files {path}"))
}

/// Splits a path into the folder before the first part with a `*`, and the parts from there.
pub(super) fn split_pattern(path: &Path) -> (PathBuf, Vec<String>) {
    let mut folder = PathBuf::new();
    let mut pattern = Vec::new();
    for part in path.components() {
        let name = part.as_os_str().to_string_lossy();
        match pattern.is_empty() && !name.contains('*') {
            true => folder.push(part),
            false => pattern.push(name.into_owned()),
        }
    }
    (folder, pattern)
}

/// A walk through folders, and what it has found.
#[derive(Default)]
struct Walk {
    files: Vec<PathBuf>,
    /// The number of names that were looked at.
    names: usize,
    /// The folders that the walk is in, one in the other, with their devices and numbers.
    inside: Vec<((u64, u64), PathBuf)>,
}

impl Walk {
    /// Collects the files below a folder that match a pattern. Without a pattern, these are the
    /// files in it and in its partitions. The folder may not exist yet; then there are no files.
    fn start(&mut self, folder: &Path, pattern: &[&str]) -> Result<()> {
        match look_at(folder) {
            Err(e) if e.kind() == Kind::NotFound => Ok(()),
            found => self.enter(folder, &found?, pattern),
        }
    }

    /// Walks through a folder, unless the walk is in it already.
    fn enter(&mut self, folder: &Path, found: &Metadata, pattern: &[&str]) -> Result<()> {
        let number = (found.dev(), found.ino());
        if let Some((_, above)) = self.inside.iter().find(|(one, _)| *one == number) {
            return Err(Error::invalid(format!(
                "{} leads back to {}, which it is in, so that its files have no end: remove the \
                 link, or use a narrower path",
                folder.display(),
                above.display()
            )));
        }
        if self.inside.len() > MAX_DEPTH {
            return Err(Error::invalid(format!(
                "{} is more than {MAX_DEPTH} folders below the path of the source; use a path that \
                 begins further down",
                folder.display()
            )));
        }
        self.inside.push((number, folder.to_owned()));
        self.walk(folder, pattern)?;
        self.inside.pop();
        Ok(())
    }

    fn walk(&mut self, folder: &Path, pattern: &[&str]) -> Result<()> {
        if let ["**", rest @ ..] = pattern {
            self.walk(folder, rest)?;
        }
        let entries = match std::fs::read_dir(folder) {
            // It was removed since it was found.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|e| unreadable(folder, e))?,
        };
        for entry in entries {
            let entry = entry.map_err(|e| unreadable(folder, e))?;
            self.count(folder)?;
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            let matched = what_matches(pattern, &name);
            if matched == Match::Nothing {
                continue;
            }
            let found = match look_at(&path) {
                // A link that leads nowhere is not a folder.
                Err(e) if e.kind() == Kind::NotFound && matches!(matched, Match::Folder(_)) => {
                    continue;
                }
                // A file that is left out because it cannot be read would be rows that nobody
                // misses.
                found => found.map_err(|error| or_broken_link(&path, error))?,
            };
            match (matched, found.is_dir()) {
                (Match::File | Match::FileOrFolder(_), false) if found.is_file() => {
                    self.files.push(path);
                }
                (Match::Folder(rest) | Match::FileOrFolder(rest), true) => {
                    self.enter(&path, &found, rest)?;
                }
                (Match::File | Match::FileOrFolder(_), false) => {
                    return Err(no_file(&path, &found));
                }
                _ => {}
            }
            if self.files.len() > MAX_FILES {
                return Err(too_many(&folder.display().to_string()));
            }
        }
        Ok(())
    }

    /// Counts a name in a folder.
    fn count(&mut self, folder: &Path) -> Result<()> {
        self.names += 1;
        match self.names > MAX_NAMES {
            true => Err(Error::invalid(format!(
                "{}: more than {MAX_NAMES} names were looked at for the files of the source; use a \
                 narrower path, or remove links to other folders",
                folder.display()
            ))),
            false => Ok(()),
        }
    }
}

fn too_many(folder: &str) -> Error {
    Error::invalid(format!(
        "{folder} has more than {MAX_FILES} files of the source; use a narrower path"
    ))
}

/// What a pattern says of a name in a folder.
#[derive(Debug, PartialEq, Eq)]
enum Match<'a> {
    Nothing,
    /// A file of the source.
    File,
    /// A folder in which the rest of the pattern is looked for.
    Folder(&'a [&'a str]),
    /// Either of them.
    FileOrFolder(&'a [&'a str]),
}

fn what_matches<'a>(pattern: &'a [&'a str], name: &str) -> Match<'a> {
    match pattern {
        _ if is_hidden(name) && !pattern.first().is_some_and(|part| is_hidden(part)) => {
            Match::Nothing
        }
        [] if is_partition(name) => Match::FileOrFolder(&[]),
        [] => Match::File,
        // The files in this folder were found by the rest of the pattern.
        ["**", ..] => Match::Folder(pattern),
        [part] if matches_pattern(part, name) => Match::File,
        [part, rest @ ..] if !rest.is_empty() && matches_pattern(part, name) => Match::Folder(rest),
        _ => Match::Nothing,
    }
}

fn is_hidden(name: &str) -> bool {
    name.starts_with(['.', '_'])
}

/// Returns the remote files that a URL stands for, by the rules of [`find_files`].
///
/// # Errors
/// Returns [`Kind::NotFound`] when there is no such file, and [`Kind::Invalid`] when the text is
/// not a URL of remote files, or the files are those of a table.
pub(crate) fn find_remote(text: &str, remote: &Arc<dyn RemoteFiles>) -> Result<Vec<RemoteFile>> {
    check_remote(text, remote)?;
    let (folder, pattern) = match text.find('*') {
        None => (text, ""),
        Some(star) => text.split_at(text[..star].rfind('/').map_or(0, |slash| slash + 1)),
    };
    let url = remote.url(folder)?;
    let pattern: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty()).collect();
    let mut files = block_on(remote.list(&url))?.all()?;
    if files.len() > MAX_FILES {
        return Err(too_many(folder));
    }
    // Files that mark a table are hidden from most patterns, so they are looked for in all.
    let tables = ListedTables::of(&files);
    let start = parts(&url);
    files.retain(|file| {
        let parts = parts(&file.url);
        let below: Vec<&str> = parts.iter().skip(start.len()).map(String::as_str).collect();
        // The URL may name the file itself.
        parts == start || is_found(&pattern, &below)
    });
    tables.check(&files)?;
    sort_by_names(&mut files, |file: &RemoteFile| {
        parts(&file.url).into_iter().map(OsString::from).collect()
    });
    match files.is_empty() {
        false => Ok(files),
        true => Err(none(text)),
    }
}

/// Returns the decoded parts of the path of a URL.
pub(crate) fn parts(url: &Url) -> Vec<String> {
    let parts = url.path().split('/').filter(|part| !part.is_empty());
    parts.map(decoded).collect()
}

/// Returns whether a walk would find a file by the names of the folders that it is in, and its own.
fn is_found(pattern: &[&str], names: &[&str]) -> bool {
    let [name, below @ ..] = names else {
        return false;
    };
    if let ["**", rest @ ..] = pattern
        && is_found(rest, names)
    {
        return true;
    }
    match (what_matches(pattern, name), below.is_empty()) {
        (Match::File | Match::FileOrFolder(_), true) => true,
        (Match::Folder(rest) | Match::FileOrFolder(rest), false) => is_found(rest, below),
        _ => false,
    }
}

/// Returns whether a name matches a pattern, in which `*` stands for any text.
pub(crate) fn matches_pattern(pattern: &str, name: &str) -> bool {
    // Where the last star stood, and how much of the name it stands for so far: if the rest does
    // not match, it stands for one character more.
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p, n));
            p += 1;
        } else if pattern.get(p) == Some(&name[n]) {
            (p, n) = (p + 1, n + 1);
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            (p, n) = (at + 1, taken + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests;
