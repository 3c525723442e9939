//! Looks at the log of a Delta table that others write, before a library reads it.
//!
//! The library reads the log in this process, and holds what it says in memory. A log may be made
//! to do harm, as the files of any source. So what is read of it has a limit, and its checkpoints,
//! which are Parquet files, are decoded to their end in a child process first: one that is not
//! survived there is refused with its name. What is looked at is what a reader of one version of
//! the table reads: the newest complete checkpoint and newer ones that are not, the files that they
//! are divided into (sidecars), and the commits after it.
//!
//! A log is on this machine or elsewhere. Of a remote one, the checkpoints are copied to this
//! machine one after the other, once their sizes are known, and decoded here.
//!
//! Files of a log are written once. Somebody who replaces one between this check and the reading is
//! not found out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read as _};
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::ArrayRef;
use arrow_array::cast::AsArray as _;
use serde::Deserialize;
use url::Url;
use wafer_catalog::{FileOptions, Format, blocking};
use wafer_core::{DataType, Field, coerce};
use wafer_files::{ReadColumn, file_format, plain_bytes, unreadable};
use wafer_store::{Error, Kind, Place, RemoteFile, RemoteFiles, Result};

use crate::copy_room::CopyRoom;
use crate::source::files::{LocalCopy, block_on, find_file};
use crate::source::find::parts;

/// The greatest size of the commits that are read, together.
const COMMIT_BYTES: u64 = 256 << 20;
/// The greatest size of the values of the checkpoints that are read, each written out.
const CHECKPOINT_BYTES: u64 = 2 << 30;
/// The greatest size of the file that says which checkpoint is the newest.
const HINT_BYTES: u64 = 16 << 20;
/// The folder in a log of the files that checkpoints are divided into.
const SIDECARS: &str = "_sidecars";
/// The greatest number of files that the checkpoints of a version are divided into, each of which
/// is read by itself.
const MAX_SIDECARS: usize = 10_000;
/// The greatest number of files in the folder of a log.
const MAX_FILES: usize = 1_000_000;
/// The name of the folder of a log in that of its table.
const LOG: &str = "_delta_log";
/// The number of checkpoints of which this process remembers what is in them.
const MAX_KNOWN: usize = 1_000;
/// The number of digits of a version in the name of a file.
const VERSION_DIGITS: usize = 20;

/// Looks at what is read of the log of a table for a version of it, or for the newest one. A folder
/// without a log is left to the reader. The work has `held` until it ends, whoever waits for it.
///
/// # Errors
/// Returns [`Kind::Invalid`] for a log that is too large, and for a checkpoint that cannot be read.
pub(crate) async fn check_log(
    folder: &Place,
    version: Option<u64>,
    held: Option<Arc<dyn CopyRoom>>,
) -> Result<()> {
    let log = folder.below(LOG);
    let last = version.unwrap_or(u64::MAX);
    let inspect = move || {
        let _held = held;
        check(&log, &LogFiles::list(&log)?, last)
    };
    blocking(inspect).await?
}

/// Looks at what is read of the log of a table to find the changes after one version of it, up to
/// another.
///
/// # Errors
/// Returns the errors of [`check_log`], and [`Kind::NotFound`] when the changes are too many to be
/// followed, as if the log did not reach back that far.
pub(crate) async fn check_changes(folder: &Place, after: u64, through: u64) -> Result<()> {
    let log = folder.below(LOG);
    let inspect = move || {
        let files = LogFiles::list(&log)?;
        check(&log, &files, u64::MAX)?;
        check(&log, &files, after)?;
        if after < through && files.commit_bytes(after + 1..=through) > COMMIT_BYTES {
            let message = format!("the changes after version {after} are too many to be followed");
            return Err(Error::new(Kind::NotFound, message));
        }
        Ok(())
    };
    blocking(inspect).await?
}

/// Looks at what is read of a log for the newest version up to `last`.
fn check(log: &Place, files: &LogFiles, last: u64) -> Result<()> {
    let (first, checkpoints) = files.beginning(last);
    let bytes = files.commit_bytes(first..=last);
    if bytes > COMMIT_BYTES {
        return Err(Error::invalid(format!(
            "{log} has commits of {} MiB after the last checkpoint; at most {} are read: make a \
             checkpoint of the table",
            bytes >> 20,
            COMMIT_BYTES >> 20
        )));
    }
    let mut sidecars = sidecars_of_hint(&log.below("_last_checkpoint"))?;
    let mut bytes: u64 = 0;
    for name in checkpoints {
        let found = inspect(&log.below(name))?;
        bytes = within_limit(log, bytes.saturating_add(found.bytes))?;
        add_sidecars(&log.shown(), &mut sidecars, found.sidecars)?;
    }
    for name in sidecars {
        if !is_plain(&name) {
            let what = format!("a checkpoint names the file `{name}`, which is not a plain name");
            return Err(refused(&log.shown(), &what));
        }
        if files.lack_sidecar(&name) {
            continue;
        }
        let found = inspect(&log.below(SIDECARS).below(&name))?;
        bytes = within_limit(log, bytes.saturating_add(found.bytes))?;
    }
    Ok(())
}

/// Adds the names of files that a checkpoint is divided into to others, unless they are too many.
fn add_sidecars(
    path: &Path,
    sidecars: &mut BTreeSet<String>,
    names: impl IntoIterator<Item = String>,
) -> Result<()> {
    for name in names {
        sidecars.insert(name);
        if sidecars.len() > MAX_SIDECARS {
            let what = format!("its checkpoint is divided into more than {MAX_SIDECARS} files");
            return Err(refused(path, &what));
        }
    }
    Ok(())
}

/// Returns the size of the values of all checkpoints so far, unless it is too large.
fn within_limit(log: &Place, bytes: u64) -> Result<u64> {
    match bytes > CHECKPOINT_BYTES {
        true => Err(too_large(&log.shown())),
        false => Ok(bytes),
    }
}

/// Creates the error of a log, or a file of it, that cannot be read.
fn refused(path: &Path, what: &str) -> Error {
    Error::invalid(format!("{} cannot be read: {what}", path.display()))
}

fn too_many(log: &Path) -> Error {
    refused(log, &format!("it has more than {MAX_FILES} files"))
}

fn too_large(path: &Path) -> Error {
    let most = CHECKPOINT_BYTES >> 20;
    let what = format!("its checkpoint takes more than {most} MiB of memory");
    refused(path, &what)
}

/// The files of a log that belong to a version.
#[derive(Debug, Default)]
struct LogFiles {
    /// The names of the checkpoints, by their versions.
    checkpoints: BTreeMap<u64, Vec<String>>,
    /// The sizes of all other files of each version: commits, and what is made of them.
    commits: BTreeMap<u64, u64>,
    /// The names of the files that checkpoints are divided into, if they were listed too.
    sidecars: Option<BTreeSet<String>>,
}

impl LogFiles {
    /// Lists the files of a log. One that does not exist has none. Blocks the thread.
    fn list(log: &Place) -> Result<Self> {
        match log {
            Place::Here(folder) => Self::list_here(folder),
            Place::Remote(url, remote) => Self::list_remote(url, remote.as_ref()),
        }
    }

    fn list_here(log: &Path) -> Result<Self> {
        let mut files = Self::default();
        let entries = match std::fs::read_dir(log) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(files),
            entries => entries.map_err(|e| unreadable(log, e))?,
        };
        for (count, entry) in entries.enumerate() {
            if count >= MAX_FILES {
                return Err(too_many(log));
            }
            let entry = entry.map_err(|e| unreadable(log, e))?;
            if let Some(name) = entry.file_name().to_str() {
                files.add(name, || {
                    Ok(described(&entry.path())?.as_ref().map(Metadata::len))
                })?;
            }
        }
        Ok(files)
    }

    /// Lists the files of a remote log. Those of folders in it are listed too.
    fn list_remote(log: &Url, remote: &dyn RemoteFiles) -> Result<Self> {
        let shown = Path::new(log.as_str());
        let mut folder = log.clone();
        folder.set_path(&format!("{}/", log.path()));
        let listed = block_on(remote.list(&folder))?.all()?;
        if listed.len() > MAX_FILES {
            return Err(too_many(shown));
        }
        let (mut files, above) = (Self::default(), parts(log));
        let mut sidecars = BTreeSet::new();
        for file in listed {
            let names = parts(&file.url);
            let names = names.strip_prefix(above.as_slice()).ok_or_else(|| {
                let what = format!("{} was listed in it, and is not", file.url);
                refused(shown, &what)
            })?;
            match names {
                [name] => files.add(name, || Ok(Some(file.bytes)))?,
                [folder, name] if folder == SIDECARS => {
                    sidecars.insert(name.clone());
                }
                _ => {}
            }
        }
        files.sidecars = Some(sidecars);
        Ok(files)
    }

    /// Returns whether a file that a checkpoint is divided into was not listed, so that it need not
    /// be looked for.
    fn lack_sidecar(&self, name: &str) -> bool {
        let listed = self.sidecars.as_ref();
        listed.is_some_and(|listed| !listed.contains(name))
    }

    /// Adds a file, if its name begins with a version and it is still there. Its size is not asked
    /// for otherwise.
    fn add(&mut self, name: &str, size: impl FnOnce() -> Result<Option<u64>>) -> Result<()> {
        let Some(version) = version_of(name) else {
            return Ok(());
        };
        let Some(size) = size()? else {
            return Ok(());
        };
        if name[VERSION_DIGITS..].starts_with(".checkpoint.") {
            let names = self.checkpoints.entry(version).or_default();
            names.push(name.to_owned());
        } else {
            let bytes = self.commits.entry(version).or_default();
            *bytes = bytes.saturating_add(size);
        }
        Ok(())
    }

    /// Returns the version that a reader of version `last` begins with, and the names of the
    /// checkpoints that it may read for that.
    fn beginning(&self, last: u64) -> (u64, Vec<&str>) {
        let mut names = Vec::new();
        for (version, found) in self.checkpoints.range(..=last).rev() {
            names.extend(found.iter().map(String::as_str));
            if has_complete(found) {
                return (*version, names);
            }
        }
        (0, names)
    }

    /// Returns the size of the commits of some versions.
    fn commit_bytes(&self, versions: RangeInclusive<u64>) -> u64 {
        let bytes = self.commits.range(versions).map(|(_, bytes)| *bytes);
        bytes.fold(0, u64::saturating_add)
    }
}

/// Returns the version that the name of a file of a log begins with. As in the library, a sign may
/// be before the number.
fn version_of(name: &str) -> Option<u64> {
    let (version, rest) = name.split_at_checked(VERSION_DIGITS)?;
    version.parse().ok().filter(|_| rest.starts_with('.'))
}

/// Returns whether a complete checkpoint is among the files of checkpoints of one version.
fn has_complete(names: &[String]) -> bool {
    // The numbers of the parts that are there, by the number of all parts.
    let mut parts: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for name in names {
        let pieces: Vec<&str> = name.split('.').skip(1).collect();
        match &pieces[..] {
            ["checkpoint", "parquet"] => return true,
            ["checkpoint", id, "parquet" | "json"] if is_uuid(id) => return true,
            ["checkpoint", part, of, "parquet"] => {
                if let (Some(part), Some(of)) = (part_number(part), part_number(of)) {
                    parts.entry(of).or_default().insert(part);
                }
            }
            _ => {}
        }
    }
    let mut parts = parts.iter();
    parts.any(|(of, parts)| parts.len() == *of && (1..=*of).all(|part| parts.contains(&part)))
}

fn is_uuid(text: &str) -> bool {
    let is_dash = |place: usize| [8, 13, 18, 23].contains(&place);
    let mut bytes = text.bytes().enumerate();
    text.len() == 36
        && bytes.all(|(place, byte)| match is_dash(place) {
            true => byte == b'-',
            false => byte.is_ascii_hexdigit(),
        })
}

/// Reads the number of a part of a checkpoint, or of all its parts: ten digits.
fn part_number(text: &str) -> Option<usize> {
    let is_number = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// Returns whether a name is one of a file beside others, however it is read.
fn is_plain(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(is_plain)
}

/// Describes a file, and returns `None` if it is gone. Anything but a file is refused: a read from
/// a pipe, for example, could wait forever.
fn described(path: &Path) -> Result<Option<Metadata>> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => Ok(Some(found)),
        Ok(_) => Err(refused(path, "it is not a file")),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(unreadable(path, e)),
    }
}

/// A file of a log, as it was found.
#[derive(Debug)]
enum LogFile {
    Here(PathBuf, Metadata),
    Remote(RemoteFile, Arc<dyn RemoteFiles>),
}

/// A file of a log on this machine: itself, or a copy of it.
#[derive(Debug)]
enum Readable {
    Here(PathBuf),
    Copy(LocalCopy),
}

impl LogFile {
    /// Finds a file, and returns `None` if it is gone. Blocks the thread.
    fn find(place: &Place) -> Result<Option<Self>> {
        Ok(match place {
            Place::Here(path) => described(path)?.map(|found| Self::Here(path.clone(), found)),
            Place::Remote(url, remote) => {
                let found = find_file(url, remote.as_ref())?;
                found.map(|found| Self::Remote(found, Arc::clone(remote)))
            }
        })
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Here(_, found) => found.len(),
            Self::Remote(found, _) => found.bytes,
        }
    }

    fn state(&self) -> FileState {
        match self {
            Self::Here(_, found) => FileState::Here(
                (found.dev(), found.ino(), found.len()),
                (found.ctime(), found.ctime_nsec()),
            ),
            Self::Remote(found, _) => FileState::Remote(found.clone()),
        }
    }

    /// Makes the file readable on this machine. Blocks the thread.
    fn readable(&self) -> Result<Readable> {
        Ok(match self {
            Self::Here(path, _) => Readable::Here(path.clone()),
            Self::Remote(found, remote) => Readable::Copy(LocalCopy::of(found, remote.as_ref())?),
        })
    }
}

impl Readable {
    /// Opens the file that messages call `path`.
    fn open(&self, path: &Path) -> Result<File> {
        match self {
            Self::Here(place) => File::open(place).map_err(|e| unreadable(path, e)),
            Self::Copy(copy) => copy.open(path),
        }
    }

    /// Reads the file as a whole, if it has no more bytes than so many.
    fn read(&self, path: &Path, most: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = self.open(path)?.take(most).read_to_end(&mut bytes);
        read.map_err(|e| unreadable(path, e))?;
        Ok(bytes)
    }
}

/// What was found in a file of a checkpoint.
#[derive(Clone, Debug, Default)]
struct LogPart {
    /// The size of its values.
    bytes: u64,
    /// The names of the further files that it is divided into.
    sidecars: BTreeSet<String>,
}

/// What changes when a file is written or replaced.
#[derive(Debug, PartialEq)]
enum FileState {
    /// Device, number and size, and the time of change.
    Here((u64, u64, u64), (i64, i64)),
    /// What is listed of it, with its version.
    Remote(RemoteFile),
}

/// The checkpoints that were inspected, by their paths or URLs.
static KNOWN: Mutex<BTreeMap<PathBuf, (FileState, LogPart)>> = Mutex::new(BTreeMap::new());

/// Inspects a file of a checkpoint, unless that was done and it is still the same. One that is gone
/// has nothing in it.
fn inspect(place: &Place) -> Result<LogPart> {
    let Some(file) = LogFile::find(place)? else {
        return Ok(LogPart::default());
    };
    let (path, state) = (place.shown(), file.state());
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((before, found)) = known().get(&path)
        && *before == state
    {
        return Ok(found.clone());
    }
    let is_json = path
        .extension()
        .is_some_and(|extension| extension == "json");
    let most = match is_json {
        true => COMMIT_BYTES,
        false => CHECKPOINT_BYTES,
    };
    if file.bytes() > most {
        return Err(too_large(&path));
    }
    let readable = file.readable()?;
    let found = match is_json {
        true => inspect_json(&path, &readable)?,
        false => inspect_parquet(&path, &readable)?,
    };
    let mut known = known();
    if known.len() >= MAX_KNOWN {
        known.clear();
    }
    known.insert(path, (state, found.clone()));
    Ok(found)
}

/// Decodes a Parquet file to its end.
fn inspect_parquet(path: &Path, file: &Readable) -> Result<LogPart> {
    let (format, options) = (file_format(Format::Parquet), FileOptions::default());
    let schema = format.schema(path, file.open(path)?, &options, &|_| None)?;
    // The columns come with the types that they have in the file, whatever is asked for.
    let columns = schema.fields().iter();
    let columns = columns.map(|field| Field::new(field.name(), DataType::Utf8, true));
    let columns: Vec<ReadColumn> = columns.map(ReadColumn::from).collect();
    let mut named = columns.iter();
    let sidecar = named.position(|column| column.field.name == "sidecar");
    let mut reader = format.read(path, file.open(path)?, &options, &columns)?;
    let mut found = LogPart::default();
    while let Some(rows) = reader.next()? {
        let bytes = rows.columns.iter().map(plain_bytes);
        found.bytes = bytes.fold(found.bytes, u64::saturating_add);
        if found.bytes > CHECKPOINT_BYTES {
            return Err(too_large(path));
        }
        if let Some(sidecar) = sidecar {
            let names = sidecar_names(&rows.columns[sidecar]);
            let names = names.ok_or_else(|| refused(path, "its column `sidecar` is damaged"))?;
            add_sidecars(path, &mut found.sidecars, names)?;
        }
    }
    Ok(found)
}

/// Returns the names in a column of sidecars; `None` if it has none that can be read.
fn sidecar_names(column: &ArrayRef) -> Option<Vec<String>> {
    let paths = column.as_struct_opt()?.column_by_name("path")?;
    let paths = coerce(paths, &DataType::Utf8).ok()?;
    let names = paths.as_string_opt::<i32>()?.iter().flatten();
    Some(names.map(str::to_owned).collect())
}

/// The part of a checkpoint in JSON, of a line of it, that names a further file.
#[derive(Deserialize)]
struct JsonAction {
    sidecar: Option<JsonSidecar>,
}

#[derive(Deserialize)]
struct JsonSidecar {
    path: String,
}

/// Reads a checkpoint in JSON, which has an object in each line.
fn inspect_json(path: &Path, file: &Readable) -> Result<LogPart> {
    let text = file.read(path, COMMIT_BYTES)?;
    let mut sidecars = BTreeSet::new();
    for line in text.split(|byte| *byte == b'\n') {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let action: JsonAction = serde_json::from_slice(line).map_err(|e| unreadable(path, e))?;
        let name = action.sidecar.map(|sidecar| sidecar.path);
        add_sidecars(path, &mut sidecars, name)?;
    }
    Ok(LogPart {
        bytes: text.len() as u64,
        sidecars,
    })
}

/// What the file `_last_checkpoint` says of the newest checkpoint.
#[derive(Deserialize)]
struct Hint {
    #[serde(rename = "v2Checkpoint")]
    divided: Option<HintedFiles>,
}

#[derive(Deserialize)]
struct HintedFiles {
    #[serde(rename = "sidecarFiles")]
    sidecars: Option<Vec<JsonSidecar>>,
}

/// Returns the names of the files that the newest checkpoint is divided into, as far as the file
/// beside it says so. The reader passes over a file that is damaged.
fn sidecars_of_hint(place: &Place) -> Result<BTreeSet<String>> {
    let mut sidecars = BTreeSet::new();
    let Some(file) = LogFile::find(place)? else {
        return Ok(sidecars);
    };
    let path = place.shown();
    if file.bytes() > HINT_BYTES {
        let what = format!("it has more than {} MiB", HINT_BYTES >> 20);
        return Err(refused(&path, &what));
    }
    let text = file.readable()?.read(&path, HINT_BYTES)?;
    let hint: Option<Hint> = serde_json::from_slice(&text).ok();
    let files = hint.and_then(|hint| hint.divided?.sidecars);
    let names = files.into_iter().flatten().map(|file| file.path);
    add_sidecars(&path, &mut sidecars, names)?;
    Ok(sidecars)
}

#[cfg(test)]
mod tests {
    use arrow_array::{Int64Array, RecordBatch, StringArray, StructArray};
    use arrow_schema::{DataType as ArrowType, Field as ArrowField};
    use async_trait::async_trait;
    use wafer_catalog::keep_temporary_files_in;
    use wafer_files::OutputFile;
    use wafer_store::{OfflineTables, RemoteListing};

    use super::*;

    /// The files of this machine as those of a bucket, which are only listed and read.
    #[derive(Debug)]
    struct AsBucket;

    fn only_read() -> Error {
        Error::invalid("files are only listed and read")
    }

    #[async_trait]
    impl RemoteFiles for AsBucket {
        fn form(&self) -> &'static str {
            "s3://BUCKET/FOLDER"
        }

        async fn list(&self, url: &Url) -> Result<RemoteListing> {
            let mut listing = RemoteListing::default();
            let mut left = vec![PathBuf::from(url.path())];
            while let Some(path) = left.pop() {
                if let Ok(entries) = std::fs::read_dir(&path) {
                    left.extend(entries.map(|entry| entry.unwrap().path()));
                } else if let Some(found) = described(&path)? {
                    let mut url = url.clone();
                    url.set_path(path.to_str().unwrap());
                    listing.files.push(RemoteFile {
                        url,
                        bytes: found.len(),
                        version: format!("{:?}", LogFile::Here(path, found).state()),
                    });
                }
            }
            Ok(listing)
        }

        async fn fetch(&self, file: &RemoteFile, to: &Path) -> Result<()> {
            std::fs::copy(file.url.path(), to).unwrap();
            Ok(())
        }

        async fn put(&self, _from: &Path, _to: &Url) -> Result<()> {
            Err(only_read())
        }

        async fn remove(&self, _url: &Url) -> Result<()> {
            Err(only_read())
        }

        async fn tables(&self, _url: &Url) -> Result<OfflineTables> {
            Err(only_read())
        }
    }

    fn name(version: u64, rest: &str) -> String {
        format!("{version:020}.{rest}")
    }

    fn checked_at(log: &Place, last: u64) -> std::result::Result<(), String> {
        let files = LogFiles::list(log).map_err(|e| e.chain())?;
        check(log, &files, last).map_err(|e| e.chain())
    }

    /// Checks a log on this machine, and the same one elsewhere, of which the same is said.
    fn checked(log: &Path, last: u64) -> std::result::Result<(), String> {
        keep_temporary_files_in(std::env::temp_dir(), "TMPDIR");
        let shown = log.display().to_string();
        let url = format!("s3://bucket{shown}");
        let here = checked_at(&Place::Here(log.to_owned()), last);
        let elsewhere = Place::remote(&url, Arc::new(AsBucket)).unwrap();
        let wanted = here.clone().map_err(|said| said.replace(&shown, &url));
        assert_eq!(checked_at(&elsewhere, last), wanted);
        here
    }

    fn write(path: &Path, column: (&str, ArrayRef)) {
        let batch = RecordBatch::try_from_iter([column]).unwrap();
        let mut output = OutputFile::create(path, &batch.schema()).unwrap();
        output.write(&batch).unwrap();
        output.close().unwrap();
    }

    fn numbers() -> ArrayRef {
        Arc::new(Int64Array::from(vec![1, 2, 3]))
    }

    /// A column of checkpoints that are divided, with the name of a file.
    fn sidecar(path: &str) -> ArrayRef {
        let field = Arc::new(ArrowField::new("path", ArrowType::Utf8, true));
        let paths: ArrayRef = Arc::new(StringArray::from(vec![path]));
        Arc::new(StructArray::from(vec![(field, paths)]))
    }

    #[test]
    fn complete_checkpoints_are_told_from_others() {
        let id = "0f5e1d2c-0000-4444-8888-0123456789ab";
        for (rests, wanted) in [
            (&["checkpoint.parquet"][..], true),
            (&[&*format!("checkpoint.{id}.parquet")], true),
            (&[&*format!("checkpoint.{id}.json")], true),
            (&["checkpoint.0f5e1d2c.parquet"], false),
            (&["checkpoint.json"], false),
            (&["checkpoint.0000000001.0000000002.parquet"], false),
            (
                &[
                    "checkpoint.0000000002.0000000002.parquet",
                    "checkpoint.0000000001.0000000002.parquet",
                ],
                true,
            ),
            (
                &[
                    "checkpoint.0000000001.0000000002.parquet",
                    "checkpoint.0000000002.0000000003.parquet",
                ],
                false,
            ),
            (&["checkpoint.0000000000.0000000000.parquet"], false),
        ] {
            let names: Vec<String> = rests.iter().map(|rest| name(7, rest)).collect();
            assert_eq!(has_complete(&names), wanted, "{names:?}");
        }
    }

    #[test]
    fn names_of_files_begin_with_a_version() {
        for (name, wanted) in [
            ("00000000000000000012.json", Some(12)),
            ("00000000000000000012.checkpoint.parquet", Some(12)),
            ("+0000000000000000012.json", Some(12)),
            ("_last_checkpoint", None),
            ("0000000000000000012.json", None),
            ("000000000000000000012.json", None),
            ("99999999999999999999.json", None),
            ("ééééééééééééééé.json", None),
        ] {
            assert_eq!(version_of(name), wanted, "{name}");
        }
        for (name, wanted) in [
            ("0f5e.parquet", true),
            ("..", false),
            ("../a.parquet", false),
            ("/etc/passwd", false),
            ("file:a.parquet", false),
            ("%2e%2e.parquet", false),
            ("", false),
        ] {
            assert_eq!(is_plain(name), wanted, "{name}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_commits_after_the_newest_complete_checkpoint_have_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("_delta_log");
        assert_eq!(checked(&log, u64::MAX), Ok(()));
        std::fs::create_dir(&log).unwrap();
        for version in 0..4 {
            let commit = File::create(log.join(name(version, "json"))).unwrap();
            commit.set_len(COMMIT_BYTES / 2).unwrap();
        }
        assert_eq!(checked(&log, 1), Ok(()));
        let said = checked(&log, 2).unwrap_err();
        assert!(said.contains("384 MiB after the last checkpoint"), "{said}");
        // One of several parts is not a whole checkpoint.
        let part = log.join(name(2, "checkpoint.0000000001.0000000002.parquet"));
        write(&part, ("n", numbers()));
        assert!(checked(&log, 3).is_err());
        write(&log.join(name(2, "checkpoint.parquet")), ("n", numbers()));
        assert_eq!(checked(&log, 3), Ok(()));
        std::fs::create_dir(log.join(name(4, "json"))).unwrap();
        let said = checked_at(&Place::Here(log), 3).unwrap_err();
        assert!(said.contains("it is not a file"), "{said}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn checkpoints_that_cannot_be_decoded_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path();
        let checkpoint = log.join(name(1, "checkpoint.parquet"));
        std::fs::write(&checkpoint, b"PAR1\0\0\0\0\xff\xff\xff\x7fPAR1").unwrap();
        let said = checked(log, u64::MAX).unwrap_err();
        assert!(
            said.contains("1.checkpoint.parquet cannot be read"),
            "{said}"
        );
        // An older version does not read it.
        assert_eq!(checked(log, 0), Ok(()));
        // It is inspected again when it was written again.
        write(&checkpoint, ("n", numbers()));
        assert_eq!(checked(log, u64::MAX), Ok(()));
        assert_eq!(checked(log, u64::MAX), Ok(()));
        // One that is too large is not copied.
        let large = File::create(&checkpoint).unwrap();
        large.set_len(CHECKPOINT_BYTES + 1).unwrap();
        let said = checked(log, u64::MAX).unwrap_err();
        assert!(said.contains("takes more than 2048 MiB"), "{said}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn files_that_a_checkpoint_is_divided_into_are_inspected() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path();
        std::fs::create_dir(log.join("_sidecars")).unwrap();
        let damaged = |name: &str| std::fs::write(log.join("_sidecars").join(name), b"PAR1");
        damaged("a.parquet").unwrap();
        damaged("b.parquet").unwrap();
        damaged("c.parquet").unwrap();
        let checkpoint = log.join(name(1, "checkpoint.parquet"));
        for (path, wanted) in [
            ("../x.parquet", "`../x.parquet`, which is not a plain name"),
            ("a.parquet", "a.parquet cannot be read"),
        ] {
            write(&checkpoint, ("sidecar", sidecar(path)));
            let said = checked(log, u64::MAX).unwrap_err();
            assert!(said.contains(wanted), "{said}");
        }
        write(&log.join("_sidecars/a.parquet"), ("n", numbers()));
        assert_eq!(checked(log, u64::MAX), Ok(()));
        let many = (0..=MAX_SIDECARS).map(|number| format!("{{\"path\":\"{number}\"}}"));
        let many: Vec<String> = many.collect();
        let many = many.join(",");
        let hint = format!("{{\"v2Checkpoint\":{{\"sidecarFiles\":[{many}]}}}}");
        std::fs::write(log.join("_last_checkpoint"), hint).unwrap();
        let said = checked(log, u64::MAX).unwrap_err();
        assert!(said.contains("into more than 10000 files"), "{said}");
        std::fs::remove_file(log.join("_last_checkpoint")).unwrap();
        let json = "checkpoint.0f5e1d2c-0000-4444-8888-0123456789ab.json";
        let json = log.join(name(1, json));
        std::fs::write(&json, "{\"sidecar\":{\"path\":\"b.parquet\"}}\n").unwrap();
        let said = checked(log, u64::MAX).unwrap_err();
        assert!(said.contains("b.parquet cannot be read"), "{said}");
        std::fs::remove_file(json).unwrap();
        let hint = r#"{"version":1,"v2Checkpoint":{"sidecarFiles":[{"path":"c.parquet"}]}}"#;
        std::fs::write(log.join("_last_checkpoint"), hint).unwrap();
        let said = checked(log, u64::MAX).unwrap_err();
        assert!(said.contains("c.parquet cannot be read"), "{said}");
    }
}
