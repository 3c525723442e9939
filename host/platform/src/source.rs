//! Reading the rows of a source from files, in chunks, as a function's inputs.
//!
//! A row that cannot be read is set aside with its file and line; a file that
//! cannot be read, or has not the columns that the function needs, is an error.

use std::fmt::Display;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use url::Url;
use wafer_core::rules::Interval;
use wafer_core::{
    CoerceError, ColumnBuilder, DataType, Digest, Field, Hasher, Schema, Timestamp, coerce,
};
use wafer_runtime::CHUNK_ROWS;
use wafer_store::{RemoteFile, RemoteFiles};

use crate::definition::{Location, SourceDef};
use crate::error::{Error, Kind, Result};
use crate::project::nearest;
use crate::record::Reject;

/// Format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// Comma-separated values with a header; an empty field is a null.
    Csv,
    /// One JSON object in each line.
    Ndjson,
}

impl Format {
    fn of(path: &Path) -> Result<Self> {
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        match extension.as_deref() {
            Some("parquet") => Ok(Self::Parquet),
            Some("csv") => Ok(Self::Csv),
            Some("ndjson" | "jsonl" | "json") => Ok(Self::Ndjson),
            _ => Err(Error::invalid(format!(
                "cannot tell the format of {}; set `format` of the source to parquet, csv or ndjson",
                path.display()
            ))),
        }
    }
}

/// Some rows of one file.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// The function's inputs.
    pub(crate) columns: Vec<ArrayRef>,
    /// Names the file in the identity of its rows.
    pub(crate) file_id: String,
    /// Name of the file, for messages.
    pub(crate) file: String,
    /// For each row its number in the file: from 0 in Parquet, the line in texts.
    pub(crate) numbers: Vec<u64>,
    /// Rows that have an identity of their own and were visible from some time on:
    /// those of other tables.
    pub(crate) known: Option<Known>,
    /// Rows that could not be read.
    pub(crate) rejects: Vec<Reject>,
    /// Rows looked at, readable or not.
    pub(crate) seen: u64,
}

/// What is known of rows that were stored before.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) ids: Vec<String>,
    pub(crate) available: Vec<Timestamp>,
    /// Whether they came in as events, so that the source's delay is in these times.
    pub(crate) as_events: bool,
}

impl Chunk {
    /// Number of rows that could be read.
    pub(crate) fn rows(&self) -> usize {
        self.numbers.len()
    }

    /// Identity of a row.
    pub(crate) fn event_id(&self, row: usize) -> String {
        match &self.known {
            Some(known) => known.ids[row].clone(),
            None => format!("{}:{}", self.file_id, self.numbers[row]),
        }
    }

    /// The rows of another group that became visible in an interval.
    pub(crate) fn arrived_in(mut self, interval: Interval) -> Self {
        let Some(known) = &mut self.known else {
            return self;
        };
        let arrived: Vec<bool> = known
            .available
            .iter()
            .map(|t| interval.contains(*t))
            .collect();
        if arrived.iter().all(|arrived| *arrived) {
            return self;
        }
        fn keep<T>(values: &mut Vec<T>, kept: &[bool]) {
            let mut kept = kept.iter();
            values.retain(|_| kept.next().is_some_and(|kept| *kept));
        }
        keep(&mut known.ids, &arrived);
        keep(&mut known.available, &arrived);
        keep(&mut self.numbers, &arrived);
        let mask = arrow_array::BooleanArray::from(arrived);
        let filtered = |column: &ArrayRef| {
            arrow_select::filter::filter(column, &mask).expect("as many bits as rows")
        };
        self.columns = self.columns.iter().map(filtered).collect();
        self
    }

    /// The time by which the interval of a row is found: when what it was made from
    /// became visible, if that is a row of another group, else its own.
    pub(crate) fn placed_at(&self, source: usize, event: Option<Timestamp>) -> Option<Timestamp> {
        match &self.known {
            Some(known) if !known.as_events => Some(known.available[source]),
            _ => event,
        }
    }

    /// Where a row is, for people.
    pub(crate) fn place(&self, row: usize) -> String {
        format!("{}:{}", self.file, self.numbers[row])
    }
}

/// The files of a source, with the digest of their content.
#[derive(Clone, Debug)]
pub struct SourceReader {
    files: Vec<SourceFile>,
    inputs: Schema,
    remote: Option<Arc<dyn RemoteFiles>>,
}

/// A file of a source.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SourceFile {
    /// Where it is; its URL, for one that is not here.
    path: PathBuf,
    format: Format,
    /// Of its content; of the version of one that is not here.
    digest: Digest,
    pub(crate) bytes: u64,
    remote: Option<RemoteFile>,
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

    fn here(path: PathBuf, format: Option<Format>) -> Result<Self> {
        let bytes = std::fs::metadata(&path).map_err(|e| unreadable(&path, e))?;
        Ok(Self {
            format: format.map_or_else(|| Format::of(&path), Ok)?,
            digest: digest_file(&path)?,
            bytes: bytes.len(),
            path,
            remote: None,
        })
    }

    fn elsewhere(file: RemoteFile, format: Option<Format>) -> Result<Self> {
        let path = PathBuf::from(file.url.as_str());
        let mut hasher = Hasher::new();
        hasher
            .part(file.version.as_bytes())
            .part(&file.bytes.to_le_bytes());
        Ok(Self {
            format: format.map_or_else(|| Format::of(&path), Ok)?,
            digest: hasher.finish(),
            bytes: file.bytes,
            path,
            remote: Some(file),
        })
    }

    /// Its content; a copy of it, which is gone when it is closed, for one that is not
    /// here.
    fn open(&self, remote: Option<&Arc<dyn RemoteFiles>>) -> Result<File> {
        let Some(file) = &self.remote else {
            return File::open(&self.path).map_err(|e| unreadable(&self.path, e));
        };
        let remote = remote.ok_or_else(|| unreachable_here(&file.url))?;
        let copy = tempfile::NamedTempFile::new().map_err(|e| unreadable(&self.path, e))?;
        wait(remote.fetch(file, copy.path()))?;
        File::open(copy.path()).map_err(|e| unreadable(&self.path, e))
    }
}

fn unreachable_here(url: impl Display) -> Error {
    Error::invalid(format!(
        "{url} is read: this `wafer` was built without AWS; build it with `--features wafer-cli/aws`"
    ))
}

/// Waits for what is elsewhere, on a thread that may block.
fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(future))
}

impl SourceReader {
    /// Finds a source's files and digests them.
    ///
    /// # Errors
    /// When there is none, or one cannot be read.
    pub fn open(
        source: &SourceDef,
        name: &str,
        inputs: &Schema,
        remote: Option<&Arc<dyn RemoteFiles>>,
    ) -> Result<Self> {
        let Some(location) = &source.files else {
            return Err(Error::invalid(format!(
                "source `{name}` has no files: push events to it, or set its `path` to files with the same fields"
            )));
        };
        let format = source.format;
        let files = match location {
            Location::Here(path) => find_files(path)?
                .into_iter()
                .map(|file| SourceFile::here(file, format))
                .collect::<Result<_>>()?,
            Location::Remote(url) => {
                let remote = remote.ok_or_else(|| unreachable_here(url))?;
                find_remote(url, remote)?
                    .into_iter()
                    .map(|file| SourceFile::elsewhere(file, format))
                    .collect::<Result<_>>()?
            }
        };
        Ok(Self::of(files, inputs.clone(), remote.cloned()))
    }

    /// These files, which were found earlier.
    pub(crate) fn of(
        files: Vec<SourceFile>,
        inputs: Schema,
        remote: Option<Arc<dyn RemoteFiles>>,
    ) -> Self {
        Self {
            files,
            inputs,
            remote,
        }
    }

    /// The files, in order.
    pub(crate) fn files(&self) -> &[SourceFile] {
        &self.files
    }

    /// Digest of all the files' content and order.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new();
        for file in &self.files {
            hasher.part(file.digest.as_bytes());
        }
        hasher.finish()
    }

    /// Number of rows, when the files say it.
    pub(crate) fn total_rows(&self) -> Option<u64> {
        let count = |file: &SourceFile| {
            if file.format != Format::Parquet || file.remote.is_some() {
                return None;
            }
            let opened = File::open(&file.path).ok()?;
            let builder = ParquetRecordBatchReaderBuilder::try_new(opened).ok()?;
            u64::try_from(builder.metadata().file_metadata().num_rows()).ok()
        };
        self.files.iter().map(count).sum()
    }

    /// Visits every row: its columns, in the order of the inputs, and its index
    /// in them. Blocks.
    ///
    /// # Errors
    /// When a file or a row cannot be read.
    pub fn for_each_row(&self, mut visit: impl FnMut(&[ArrayRef], usize)) -> Result<()> {
        let mut chunks = self.chunks();
        while let Some(chunk) = chunks.next()? {
            if let Some(Reject { place, message }) = chunk.rejects.first() {
                return Err(Error::invalid(format!("{place}: {message}")));
            }
            for row in 0..chunk.numbers.len() {
                visit(&chunk.columns, row);
            }
        }
        Ok(())
    }

    /// The rows, file by file, in order.
    pub(crate) fn chunks(&self) -> Chunks {
        Chunks {
            reader: self.clone(),
            next_file: 0,
            current: None,
        }
    }
}

/// Goes through the rows of a source. Blocks.
#[derive(Debug)]
pub(crate) struct Chunks {
    reader: SourceReader,
    next_file: usize,
    current: Option<FileChunks>,
}

impl Chunks {
    /// The next rows; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Chunk>> {
        loop {
            if let Some(current) = &mut self.current {
                if let Some(chunk) = current.next()? {
                    return Ok(Some(chunk));
                }
                self.current = None;
            }
            let Some(file) = self.reader.files.get(self.next_file) else {
                return Ok(None);
            };
            self.next_file += 1;
            self.current = Some(FileChunks::open(file, &self.reader)?);
        }
    }
}

#[derive(Debug)]
struct FileChunks {
    path: PathBuf,
    file_id: String,
    inputs: Schema,
    kind: FileKind,
}

#[derive(Debug)]
enum FileKind {
    Parquet {
        reader: ParquetRecordBatchReader,
        next_row: u64,
    },
    Csv {
        reader: Box<csv::Reader<File>>,
        places: Vec<usize>,
        columns: usize,
    },
    Ndjson {
        reader: BufReader<File>,
        line: u64,
    },
}

impl FileChunks {
    fn open(source: &SourceFile, reader: &SourceReader) -> Result<Self> {
        let inputs = &reader.inputs;
        let (path, file) = (source.path.as_path(), source.open(reader.remote.as_ref())?);
        let kind = match source.format {
            Format::Parquet => {
                let builder = ParquetRecordBatchReaderBuilder::try_new(file)
                    .map_err(|e| unreadable(path, e))?;
                let names: Vec<&str> = builder
                    .schema()
                    .fields()
                    .iter()
                    .map(|f| f.name().as_str())
                    .collect();
                let places = places(path, &names, inputs)?;
                let mask = ProjectionMask::roots(builder.parquet_schema(), places);
                let builder = builder.with_projection(mask).with_batch_size(CHUNK_ROWS);
                FileKind::Parquet {
                    reader: builder.build().map_err(|e| unreadable(path, e))?,
                    next_row: 0,
                }
            }
            Format::Csv => {
                let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(file);
                let header = reader.headers().map_err(|e| unreadable(path, e))?;
                let names: Vec<&str> = header.iter().collect();
                let places = places(path, &names, inputs)?;
                let columns = names.len();
                FileKind::Csv {
                    reader: Box::new(reader),
                    places,
                    columns,
                }
            }
            Format::Ndjson => FileKind::Ndjson {
                reader: BufReader::new(file),
                line: 0,
            },
        };
        Ok(Self {
            path: path.to_owned(),
            file_id: source.digest.short(),
            inputs: inputs.clone(),
            kind,
        })
    }

    fn next(&mut self) -> Result<Option<Chunk>> {
        let path = &self.path;
        match &mut self.kind {
            FileKind::Parquet { reader, next_row } => {
                let Some(batch) = reader.next() else {
                    return Ok(None);
                };
                let first = *next_row;
                let batch = batch.map_err(|e| {
                    Error::caused(
                        Kind::Invalid,
                        format!("{} cannot be read after row {first}", path.display()),
                        e,
                    )
                })?;
                *next_row += batch.num_rows() as u64;
                let columns = self
                    .inputs
                    .fields()
                    .iter()
                    .map(|field| {
                        let column = batch.column_by_name(&field.name).expect("it was projected");
                        coerce(column, &field.data_type).map_err(|e| misfit(path, field, first, &e))
                    })
                    .collect::<Result<_>>()?;
                Ok(Some(Chunk {
                    columns,
                    file_id: self.file_id.clone(),
                    file: path.display().to_string(),
                    numbers: (first..*next_row).collect(),
                    known: None,
                    rejects: Vec::new(),
                    seen: batch.num_rows() as u64,
                }))
            }
            FileKind::Csv {
                reader,
                places,
                columns,
            } => {
                let mut rows = TextRows::new(&self.inputs, path);
                let mut record = csv::StringRecord::new();
                while rows.seen < CHUNK_ROWS as u64 {
                    match reader.read_record(&mut record) {
                        Ok(false) => break,
                        Ok(true) => {
                            let line = record.position().map_or(0, csv::Position::line);
                            rows.push(line, |builders| {
                                csv_row(
                                    &record,
                                    places,
                                    *columns,
                                    &rows_fields(&self.inputs),
                                    builders,
                                )
                            });
                        }
                        Err(e) if matches!(e.kind(), csv::ErrorKind::Utf8 { .. }) => {
                            let line = e.position().map_or(0, csv::Position::line);
                            rows.reject(line, "is not valid UTF-8".to_owned());
                        }
                        Err(e) => return Err(unreadable(path, e)),
                    }
                }
                Ok(rows.finish(&self.file_id))
            }
            FileKind::Ndjson { reader, line } => {
                let mut rows = TextRows::new(&self.inputs, path);
                let mut bytes = Vec::new();
                while rows.seen < CHUNK_ROWS as u64 {
                    bytes.clear();
                    if reader
                        .read_until(b'\n', &mut bytes)
                        .map_err(|e| unreadable(path, e))?
                        == 0
                    {
                        break;
                    }
                    *line += 1;
                    if bytes.iter().all(u8::is_ascii_whitespace) {
                        continue;
                    }
                    let fields = rows_fields(&self.inputs);
                    match serde_json::from_slice::<Json>(&bytes) {
                        Ok(json) => {
                            rows.push(*line, |builders| json_row(&json, &fields, builders));
                        }
                        Err(e) => rows.reject(*line, format!("is not JSON: {e}")),
                    }
                }
                Ok(rows.finish(&self.file_id))
            }
        }
    }
}

fn rows_fields(schema: &Schema) -> Vec<&Field> {
    schema.fields().iter().collect()
}

/// Rows of a text, some of which may be bad.
struct TextRows<'a> {
    path: &'a Path,
    builders: Vec<ColumnBuilder>,
    numbers: Vec<u64>,
    good: Vec<bool>,
    rejects: Vec<Reject>,
    seen: u64,
}

impl<'a> TextRows<'a> {
    fn new(inputs: &Schema, path: &'a Path) -> Self {
        let builders = inputs
            .fields()
            .iter()
            .map(|f| ColumnBuilder::new(&f.data_type, CHUNK_ROWS));
        Self {
            path,
            builders: builders.collect(),
            numbers: Vec::new(),
            good: Vec::new(),
            rejects: Vec::new(),
            seen: 0,
        }
    }

    /// Adds a row, which must append one value to every column, also when it is
    /// found to be bad.
    fn push(&mut self, line: u64, row: impl FnOnce(&mut [ColumnBuilder]) -> Result<(), String>) {
        self.seen += 1;
        let result = row(&mut self.builders);
        self.good.push(result.is_ok());
        match result {
            Ok(()) => self.numbers.push(line),
            Err(message) => {
                let place = format!("{}:{line}", self.path.display());
                self.rejects.push(Reject::new(place, message));
            }
        }
    }

    /// Sets a row aside that cannot even be taken apart.
    fn reject(&mut self, line: u64, message: String) {
        self.push(line, |builders| {
            builders.iter_mut().for_each(ColumnBuilder::append_null);
            Err(message)
        });
    }

    fn finish(mut self, file_id: &str) -> Option<Chunk> {
        if self.seen == 0 {
            return None;
        }
        let good = BooleanArray::from(self.good);
        let columns = self.builders.iter_mut().map(|builder| {
            arrow_select::filter::filter(&builder.finish(), &good).expect("as many bits as rows")
        });
        Some(Chunk {
            columns: columns.collect(),
            file_id: file_id.to_owned(),
            file: self.path.display().to_string(),
            numbers: self.numbers,
            known: None,
            rejects: self.rejects,
            seen: self.seen,
        })
    }
}

/// Appends one value to every column, nulls after the first that fails: the row
/// is left out later.
fn append_all(
    fields: &[&Field],
    builders: &mut [ColumnBuilder],
    mut append: impl FnMut(usize, &Field, &mut ColumnBuilder) -> Result<(), String>,
) -> Result<(), String> {
    let mut failure = None;
    for (index, (field, builder)) in fields.iter().zip(builders).enumerate() {
        let result = match failure {
            None => append(index, field, builder),
            Some(_) => Err(String::new()),
        };
        if let Err(message) = result {
            builder.append_null();
            failure.get_or_insert_with(|| format!("field `{}`: {message}", field.name));
        }
    }
    failure.map_or(Ok(()), Err)
}

fn csv_row(
    record: &csv::StringRecord,
    places: &[usize],
    columns: usize,
    fields: &[&Field],
    builders: &mut [ColumnBuilder],
) -> Result<(), String> {
    let has_all = record.len() == columns;
    let appended = append_all(fields, builders, |index, field, builder| {
        // Without quotes to tell by, an empty text is a null where there may be one.
        let is_text = matches!(field.data_type, DataType::Utf8 | DataType::Binary);
        builder.append_text(
            record.get(places[index]).unwrap_or_default(),
            is_text && !field.nullable,
        )
    });
    if has_all {
        appended
    } else {
        Err(format!("has {} fields, the header {columns}", record.len()))
    }
}

/// Appends a JSON object's fields to the columns they belong to.
pub(crate) fn json_row(
    json: &Json,
    fields: &[&Field],
    builders: &mut [ColumnBuilder],
) -> Result<(), String> {
    let object = json.as_object();
    let appended = append_all(fields, builders, |_, field, builder| {
        match object.and_then(|o| o.get(&field.name)) {
            Some(Json::Null) if !field.nullable => Err("is null".to_owned()),
            Some(value) => builder.append_json(value),
            None if field.nullable => {
                builder.append_null();
                Ok(())
            }
            None => Err("is missing".to_owned()),
        }
    });
    if object.is_some() {
        appended
    } else {
        Err("is not a JSON object".to_owned())
    }
}

/// For each input its position among a file's columns.
fn places(path: &Path, names: &[&str], inputs: &Schema) -> Result<Vec<usize>> {
    inputs
        .fields()
        .iter()
        .map(|field| {
            names
                .iter()
                .position(|name| *name == field.name)
                .ok_or_else(|| {
                    let hint = match nearest(&field.name, names.iter().copied()) {
                        Some(nearest) => format!("; did you mean `{nearest}`?"),
                        None => format!("; it has {}", names.join(", ")),
                    };
                    Error::invalid(format!(
                        "{} has no column `{}` ({}), which the function reads{hint}",
                        path.display(),
                        field.name,
                        field.data_type
                    ))
                })
        })
        .collect()
}

fn misfit(path: &Path, field: &Field, first_row: u64, error: &CoerceError) -> Error {
    let message = match error {
        CoerceError::Type { wanted, found } => format!(
            "{}: column `{}` is {found}, and the function reads {wanted}",
            path.display(),
            field.name
        ),
        CoerceError::Value { row, message } => {
            format!(
                "{}: column `{}`, row {}: {message}",
                path.display(),
                field.name,
                first_row + *row as u64
            )
        }
    };
    Error::invalid(message)
}

fn unreadable(path: &Path, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::caused(
        Kind::Invalid,
        format!("{} cannot be read", path.display()),
        cause,
    )
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
fn find_remote(text: &str, remote: &Arc<dyn RemoteFiles>) -> Result<Vec<RemoteFile>> {
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
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|tail| {
            (0..=tail.len())
                .filter(|at| tail.is_char_boundary(*at))
                .any(|at| fits(rest, &tail[at..]))
        }),
    }
}

pub(crate) fn digest_file(path: &Path) -> Result<Digest> {
    wafer_store::digest_file(path).map_err(|e| unreadable(path, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wafer_core::cell_to_json;

    fn source(path: PathBuf) -> SourceDef {
        SourceDef {
            kind: crate::definition::SourceKind::Files,
            files: Some(path.into()),
            format: None,
            delay: 0,
            lateness: None,
            skew: 0,
            doc: String::new(),
        }
    }

    fn inputs() -> Schema {
        Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("name", DataType::Utf8, true),
        ])
        .unwrap()
    }

    type Rows = Vec<(u64, Vec<Json>)>;

    fn read(name: &str, content: &[u8]) -> Result<(Rows, Vec<(String, String)>)> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), content).unwrap();
        let mut chunks =
            SourceReader::open(&source(folder.path().join(name)), "s", &inputs(), None)?.chunks();
        let (mut rows, mut rejects) = (Vec::new(), Vec::new());
        while let Some(chunk) = chunks.next()? {
            for (row, number) in chunk.numbers.iter().enumerate() {
                rows.push((
                    *number,
                    chunk.columns.iter().map(|c| cell_to_json(c, row)).collect(),
                ));
            }
            for reject in chunk.rejects {
                let place = reject.place.rsplit('/').next().unwrap().to_owned();
                rejects.push((place, reject.message));
            }
        }
        Ok((rows, rejects))
    }

    #[test]
    fn csv_rows_are_read_and_bad_ones_named() {
        let text =
            b"name,id,extra\nAda,1,x\n,2,\n\"a\nb\",3,\nBob,four,\nshort,5\n\xff\xfe,6,\nEnd,7,\n";
        let (rows, rejects) = read("a.csv", text).unwrap();
        let ids: Vec<_> = rows
            .iter()
            .map(|(line, cells)| (*line, cells[0].clone()))
            .collect();
        assert_eq!(
            ids,
            [(2, 1.into()), (3, 2.into()), (4, 3.into()), (9, 7.into())]
        );
        assert_eq!(rows[1].1[1], Json::Null);
        assert_eq!(rows[2].1[1], "a\nb");
        let wanted = [
            ("a.csv:6", "field `id`: `four` is not int64"),
            ("a.csv:7", "has 2 fields, the header 3"),
            ("a.csv:8", "is not valid UTF-8"),
        ];
        assert_eq!(rejects.len(), 3);
        for ((place, message), (wanted_place, wanted)) in rejects.iter().zip(wanted) {
            assert_eq!(place, wanted_place);
            assert!(message.contains(wanted), "{message}");
        }
    }

    #[test]
    fn ndjson_rows_are_read_and_bad_ones_named() {
        let text = b"{\"id\":9007199254740993,\"name\":\"x\"}\n\n{\"id\":1}\n{\"id\":1.5}\n{\"name\":\"y\"}\n{\"id\":null}\n[1]\n{oops\n{\"id\":2}";
        let (rows, rejects) = read("a.ndjson", text).unwrap();
        let ids: Vec<_> = rows
            .iter()
            .map(|(line, cells)| (*line, cells[0].clone()))
            .collect();
        assert_eq!(
            ids,
            [
                (1, 9_007_199_254_740_993_i64.into()),
                (3, 1.into()),
                (9, 2.into())
            ]
        );
        let wanted = [
            ("a.ndjson:4", "field `id`: 1.5 is not int64"),
            ("a.ndjson:5", "field `id`: is missing"),
            ("a.ndjson:6", "field `id`: is null"),
            ("a.ndjson:7", "is not a JSON object"),
            ("a.ndjson:8", "is not JSON"),
        ];
        assert_eq!(rejects.len(), wanted.len());
        for ((place, message), (wanted_place, wanted)) in rejects.iter().zip(wanted) {
            assert_eq!(place, wanted_place);
            assert!(message.contains(wanted), "{message}");
        }
    }

    #[test]
    fn files_that_do_not_fit_are_named() {
        let message = |name, content: &[u8]| read(name, content).unwrap_err().chain();
        assert!(
            message("a.csv", b"nam,id\n")
                .contains("no column `name` (utf8), which the function reads; did you mean `nam`?")
        );
        assert!(message("a.parquet", b"not parquet").contains("a.parquet cannot be read"));
        assert!(message("a.xlsx", b"").contains("set `format` of the source"));
        let missing =
            SourceReader::open(&source("/nowhere/x.csv".into()), "s", &inputs(), None).unwrap_err();
        assert_eq!(
            (missing.kind(), missing.to_string()),
            (Kind::NotFound, "there is no file /nowhere/x.csv".into())
        );
    }

    #[test]
    fn patterns_and_folders_are_read_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.csv", "a.csv", "c.txt", ".hidden.csv"] {
            std::fs::write(folder.path().join(name), "id,name\n").unwrap();
        }
        let names = |path: PathBuf| -> Vec<String> {
            find_files(&path)
                .unwrap()
                .iter()
                .map(|p| p.file_name().unwrap().to_string_lossy().into_owned())
                .collect()
        };
        assert_eq!(
            names(folder.path().join("*.csv")),
            [".hidden.csv", "a.csv", "b.csv"]
        );
        assert_eq!(names(folder.path().to_owned()), ["a.csv", "b.csv", "c.txt"]);
        assert!(find_files(&folder.path().join("*.parquet")).is_err());
    }

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, name, wanted) in [
            ("*.csv", "a.csv", true),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "a1c2b", false),
            ("*", "", true),
            ("a", "ab", false),
        ] {
            assert_eq!(fits(pattern, name), wanted, "{pattern} {name}");
        }
    }
}
