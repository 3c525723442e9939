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

/// Returns the first of the folders in a folder that are not read, because they are no partitions,
/// in which a file is wanted. What cannot be looked at is passed over, and so are links from these
/// to other folders, and what comes after many names: nobody reads these files, and this only warns
/// of them.
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

/// Returns the error for what has the name of a file and is none. A pipe would be waited for
/// without an end, and nothing of these could be read a second time.
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
                // A link that leads nowhere is no folder.
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
pub(super) fn parts(url: &Url) -> Vec<String> {
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
mod tests {
    use async_trait::async_trait;
    use wafer_store::RemoteListing;

    use super::*;

    /// Files that are listed and never read.
    #[derive(Debug)]
    struct Listing(Vec<RemoteFile>);

    #[async_trait]
    impl RemoteFiles for Listing {
        fn form(&self) -> &'static str {
            "s3://BUCKET/FOLDER"
        }

        async fn list(&self, url: &Url) -> Result<RemoteListing> {
            let below = |file: &&RemoteFile| file.url.as_str().starts_with(url.as_str());
            Ok(RemoteListing {
                files: self.0.iter().filter(below).cloned().collect(),
                odd: Vec::new(),
            })
        }

        async fn fetch(&self, _file: &RemoteFile, _to: &Path) -> Result<()> {
            Err(Error::invalid("files are only listed"))
        }

        async fn put(&self, _from: &Path, _to: &Url) -> Result<()> {
            Err(Error::invalid("files are only listed"))
        }

        async fn remove(&self, _url: &Url) -> Result<()> {
            Err(Error::invalid("files are only listed"))
        }
    }

    /// Returns files in the bucket `b`, as they are listed there: in the order of their URLs.
    fn listing(names: &[&str]) -> Arc<dyn RemoteFiles> {
        let file = |name: &&str| {
            let mut url = Url::parse("s3://b/").unwrap();
            let mut segments = url.path_segments_mut().unwrap();
            segments.pop_if_empty().extend(name.split('/'));
            drop(segments);
            RemoteFile {
                url,
                bytes: 1,
                version: String::new(),
            }
        };
        let mut files: Vec<RemoteFile> = names.iter().map(file).collect();
        files.sort_by(|a, b| a.url.cmp(&b.url));
        Arc::new(Listing(files))
    }

    /// Makes a folder with empty files of these names.
    fn folder_with(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let file = folder.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "").unwrap();
        }
        folder
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn files_come_in_one_order_wherever_they_are() {
        let wanted = [
            "in/a/x.csv",
            "in/a b/x.csv",
            "in/a b.csv",
            "in/a%20c.csv",
            "in/a-1/x.csv",
            "in/b.csv",
            "in/ä.csv",
        ];
        let folder = folder_with(&wanted);
        let local = find_files(&folder.path().join("in/**/*.csv")).unwrap();
        let local = local
            .iter()
            .map(|file| file.strip_prefix(folder.path()).unwrap());
        let local: Vec<String> = local.map(|file| file.display().to_string()).collect();
        assert_eq!(local, wanted);
        let remote = find_remote("s3://b/in/**/*.csv", &listing(&wanted)).unwrap();
        let remote: Vec<String> = remote
            .iter()
            .map(|file| parts(&file.url).join("/"))
            .collect();
        assert_eq!(remote, wanted);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn files_of_tables_below_the_start_of_a_path_are_refused() {
        let names = [
            "lake/plain/a.parquet",
            "lake/flights/_delta_log/0.json",
            "lake/flights/a.parquet",
            "parts/day=1/_delta_log/0.json",
            "parts/day=1/a.parquet",
        ];
        let folder = folder_with(&names);
        for (path, refused) in [
            ("lake/*/*.parquet", Some("lake/flights is a Delta table")),
            ("lake/**/*.parquet", Some("lake/flights is a Delta table")),
            ("**/a.parquet", Some("lake/flights is a Delta table")),
            ("lake/p*/*.parquet", None),
            ("parts", Some("parts/day=1 is a Delta table")),
        ] {
            let local = find_files(&folder.path().join(path)).err();
            let remote = find_remote(&format!("s3://b/{path}"), &listing(&names)).err();
            for error in [local, remote] {
                let error = error.map(|error| error.to_string());
                match (&error, refused) {
                    (None, None) => {}
                    (Some(error), Some(wanted)) if error.contains(wanted) => {}
                    _ => panic!("{path}: {error:?}, wanted {refused:?}"),
                }
            }
        }
    }

    /// Makes files in a folder, and returns the names of those that a path stands for.
    fn found(names: &[&str], path: &str) -> Vec<String> {
        let folder = folder_with(names);
        let files = matching_files(&folder.path().join(path)).unwrap_or_default();
        let relative = files
            .iter()
            .map(|file| file.strip_prefix(folder.path()).unwrap());
        let local: Vec<String> = relative.map(|file| file.display().to_string()).collect();
        // The names of remote files match by the same rules.
        let pattern: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let stars = pattern.iter().position(|part| part.contains('*'));
        let (above, pattern) = pattern.split_at(stars.unwrap_or(pattern.len()));
        let mut remote: Vec<String> = names
            .iter()
            .filter(|name| {
                let parts: Vec<&str> = name.split('/').collect();
                parts == above
                    || parts
                        .strip_prefix(above)
                        .is_some_and(|b| is_found(pattern, b))
            })
            .map(|name| (*name).to_owned())
            .collect();
        remote.sort();
        assert_eq!(remote, local, "{path}");
        local
    }

    #[test]
    fn paths_stand_for_files() {
        let names = [
            "a.csv",
            "b.csv",
            "c.txt",
            ".hidden.csv",
            "_SUCCESS",
            "_delta_log/0.json",
            "day=1/a.csv",
            "day=1/_SUCCESS",
            "day=1/hour=2/a.csv",
            "day=2/.a.csv.crc",
            "old/a.csv",
            "old/deep/b.csv",
        ];
        for (path, wanted) in [
            ("a.csv", vec!["a.csv"]),
            ("*.csv", vec!["a.csv", "b.csv"]),
            ("*", vec!["a.csv", "b.csv", "c.txt"]),
            (".*", vec![".hidden.csv"]),
            ("_*", vec!["_SUCCESS"]),
            (
                "",
                vec![
                    "a.csv",
                    "b.csv",
                    "c.txt",
                    "day=1/a.csv",
                    "day=1/hour=2/a.csv",
                ],
            ),
            ("old", vec!["old/a.csv"]),
            ("*/*.csv", vec!["day=1/a.csv", "old/a.csv"]),
            ("day=*/*.csv", vec!["day=1/a.csv"]),
            ("day=1", vec!["day=1/a.csv", "day=1/hour=2/a.csv"]),
            ("day=*/hour=*/a.csv", vec!["day=1/hour=2/a.csv"]),
            (
                "**/a.csv",
                vec!["a.csv", "day=1/a.csv", "day=1/hour=2/a.csv", "old/a.csv"],
            ),
            ("old/**/*.csv", vec!["old/a.csv", "old/deep/b.csv"]),
            ("*.parquet", vec![]),
            ("nowhere/*.csv", vec![]),
            ("nowhere", vec![]),
        ] {
            assert_eq!(found(&names, path), wanted, "{path}");
        }
    }

    #[test]
    fn links_are_followed_and_never_in_a_circle() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for file in ["in/a.csv", "in/sub/b.csv", "out/day=1/c.csv", "out/d.csv"] {
            std::fs::create_dir_all(at(file).parent().unwrap()).unwrap();
            std::fs::write(at(file), "").unwrap();
        }
        symlink(at("out/day=1"), at("in/day=1")).unwrap();
        symlink(at("out/d.csv"), at("in/d.csv")).unwrap();
        let names = |path: &str| -> std::result::Result<Vec<String>, String> {
            let files = matching_files(&at(path)).map_err(|error| error.chain())?;
            let relative = files
                .iter()
                .map(|file| file.strip_prefix(folder.path()).unwrap());
            Ok(relative.map(|file| file.display().to_string()).collect())
        };
        let flat = ["in/a.csv", "in/d.csv", "in/day=1/c.csv"];
        assert_eq!(names("in").unwrap(), flat);
        let all = ["in/a.csv", "in/d.csv", "in/day=1/c.csv", "in/sub/b.csv"];
        assert_eq!(names("in/**/*.csv").unwrap(), all);
        for (link, to, path, wanted) in [
            // A folder in itself, and in one further up.
            (
                "in/sub/back",
                "in",
                "in/**/*.csv",
                "in/sub/back leads back to ",
            ),
            (
                "in/sub/self",
                "in/sub",
                "in/*/*/*",
                "in/sub/self leads back to ",
            ),
            ("in/day=2", "in", "in", "in/day=2 leads back to "),
            // Links that lead to each other.
            (
                "in/e.csv",
                "in/e.csv",
                "in/*.csv",
                "in/e.csv cannot be read: ",
            ),
            ("in/day=3", "in/day=3", "in", "in/day=3 cannot be read: "),
            (
                "in/loop",
                "in/loop",
                "in/**/*.csv",
                "in/loop cannot be read: ",
            ),
            (
                "circle",
                "circle",
                "circle/*.csv",
                "circle cannot be read: ",
            ),
            ("circle", "circle", "circle", "circle cannot be read: "),
        ] {
            symlink(at(to), at(link)).unwrap();
            let refused = names(path).unwrap_err();
            assert!(refused.contains(wanted), "{path}: {refused}");
            std::fs::remove_file(at(link)).unwrap();
            assert_eq!(names("in").unwrap(), flat, "{link}");
        }
        // A link that leads nowhere has the name of a file or not.
        symlink(at("nothing"), at("in/e.csv")).unwrap();
        for path in ["in", "in/*.csv", "in/e.csv"] {
            let refused = names(path).unwrap_err();
            let wanted = "in/e.csv is a link that leads to nothing";
            assert!(refused.contains(wanted), "{path}: {refused}");
        }
        assert_eq!(names("in/a*").unwrap(), ["in/a.csv"]);
        std::fs::remove_file(at("in/e.csv")).unwrap();
        // A folder beside it is in nothing twice.
        symlink(at("in/sub"), at("in/twin")).unwrap();
        assert_eq!(
            names("in/**/b.csv").unwrap(),
            ["in/sub/b.csv", "in/twin/b.csv"]
        );
    }

    #[test]
    fn what_has_the_name_of_a_file_and_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("in/sub.csv")).unwrap();
        std::fs::write(at("in/a.csv"), "").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("in/s.csv")).unwrap();
        std::os::unix::fs::symlink("/dev/null", at("in/z.tsv")).unwrap();
        for (path, wanted) in [
            ("in/*.csv", Err("in/s.csv is a socket and not a file")),
            ("in/s.csv", Err("in/s.csv is a socket and not a file")),
            ("in/*.tsv", Err("in/z.tsv is a device and not a file")),
            ("in/z.tsv", Err("in/z.tsv is a device and not a file")),
            // Other names, and folders, are not looked at.
            ("in/a*", Ok(1)),
            ("in/su*", Ok(0)),
            ("in/*/*.csv", Ok(0)),
        ] {
            match (existing_files(&at(path)), wanted) {
                (Ok(found), Ok(count)) => assert_eq!(found.len(), count, "{path}"),
                (Err(error), Err(wanted)) => {
                    assert_eq!(error.kind(), Kind::Invalid);
                    assert!(error.to_string().contains(wanted), "{path}: {error}");
                }
                (found, wanted) => panic!("{path}: {found:?}, wanted {wanted:?}"),
            }
        }
    }

    #[test]
    fn files_that_are_not_read_are_looked_for_without_links() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for file in ["in/day=1/a.csv", "in/old/deep/_b.csv", "out/c.csv"] {
            std::fs::create_dir_all(at(file).parent().unwrap()).unwrap();
            std::fs::write(at(file), "").unwrap();
        }
        symlink(at("out"), at("in/old/deep/out")).unwrap();
        symlink(at("in"), at("in/old/back")).unwrap();
        let is_csv = |file: &Path| file.extension().is_some_and(|ending| ending == "csv");
        let skipped = || skipped_folder(&at("in"), &is_csv);
        assert_eq!(skipped(), None);
        std::fs::write(at("in/old/deep/b.csv"), "").unwrap();
        assert_eq!(skipped(), Some(at("in/old")));
        let mut tired = Skipped {
            is_wanted: &is_csv,
            left: 1,
        };
        assert!(!tired.has_file(&at("in/old"), 0));
        // The names `day=1`, `old` and `a.csv` count as well.
        for (left, wanted) in [(3, None), (20, Some(at("in/old")))] {
            let is_wanted = &is_csv;
            let found = Skipped { is_wanted, left }.first_in(&at("in"), 0);
            assert_eq!(found, wanted, "{left}");
        }
    }

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, name, wanted) in [
            ("*.csv", "a.csv", true),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "a1c2b", false),
            ("*", "", true),
            ("a", "ab", false),
            ("a*", "ä", false),
            ("*ä*", "xäy", true),
            ("**a", "bba", true),
        ] {
            assert_eq!(matches_pattern(pattern, name), wanted, "{pattern} {name}");
        }
        // A pattern of many stars takes no longer than their number times the length of the name.
        let (pattern, name) = ("*a".repeat(100) + "b", "a".repeat(10_000));
        assert!(!matches_pattern(&pattern, &name));
    }
}
