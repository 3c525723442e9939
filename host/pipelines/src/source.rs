//! Reads the rows of a source from files, in chunks of columns that match the inputs of a
//! function.
//!
//! A row that cannot be read is rejected with its file and line. A file that cannot be read, or
//! that lacks a column that the function needs, is an error.

pub(crate) mod chunk;
pub(crate) mod copy;
pub(crate) mod files;
pub(crate) mod find;
mod first;
pub(crate) mod inspect;
mod missing;
mod overwritten;
mod partition;
pub(crate) mod show;
mod table_format;

pub use first::FirstRows;
pub use missing::{check_listed, missing_files, unread_files};
pub use overwritten::ProtectedFiles;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_schema::DataType as ArrowType;
use futures::stream::{self, BoxStream, StreamExt as _};
use wafer_catalog::{Context, FileOptions, Format, Location, Reject, SourceDef, blocking};
use wafer_core::{CoerceError, DataType, Digest, Field, Hasher, coerce_rows};
use wafer_files::{ReadColumn, RowReader, Rows, file_format, missing_column, unreadable};
use wafer_store::{Error, RemoteFiles, Result};
use wafer_tables::Tables;

use crate::source::chunk::{Chunk, Piece, rows_among};
use crate::source::files::SourceFile;
use crate::source::find::{find_files, find_remote};
use crate::source::partition::PartitionColumn;

/// Reads the sources of a project for other reasons than a run: to show their files (`show.rs`),
/// to copy these (`copy.rs`), and to replay them as events (`history.rs`).
#[derive(Debug)]
pub struct Sources {
    pub(crate) context: Arc<Context>,
    pub(crate) tables: Arc<Tables>,
}

impl Sources {
    pub(crate) fn new(context: Arc<Context>, tables: Arc<Tables>) -> Self {
        Self { context, tables }
    }
}

/// The files of a source, with the digests of their contents, and the columns to read from them.
#[derive(Clone, Debug)]
pub struct SourceReader {
    files: Vec<SourceFile>,
    columns: Vec<ReadColumn>,
    options: FileOptions,
    remote: Arc<dyn RemoteFiles>,
    /// Whether these are all files of the source.
    is_whole: bool,
}

/// Returns how columns are read from a source. `fields` have the names of the source.
pub(crate) fn read_columns(source: &SourceDef, fields: &[Field]) -> Vec<ReadColumn> {
    let column = |field: &Field| ReadColumn {
        reading: source.reading_of(&field.name),
        field: field.clone(),
    };
    fields.iter().map(column).collect()
}

impl SourceReader {
    /// Finds the files of a source and digests them. Blocks the thread.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`](wafer_store::Kind::NotFound) when there is no file and
    /// [`Kind::Invalid`](wafer_store::Kind::Invalid) when a file cannot be read, or the files are
    /// those of a table.
    pub fn open(
        source: &SourceDef,
        name: &str,
        fields: &[Field],
        remote: &Arc<dyn RemoteFiles>,
    ) -> Result<Self> {
        if !source.kind.reads_files_one_by_one() {
            return Err(Error::invalid(format!(
                "source `{name}` is {}, whose files are not read one by one",
                source.kind.noun()
            )));
        }
        let Some(location) = &source.files else {
            return Err(Error::invalid(format!(
                "source `{name}` has no files: push events to it, or set its `path` to files with the same fields"
            )));
        };
        let files = source_files(location, source.format, remote)?;
        Ok(Self {
            is_whole: true,
            ..Self::of_files(files, source, fields, Arc::clone(remote))
        })
    }

    /// Creates a reader of some files of a source, which were found earlier.
    pub(crate) fn of_files(
        files: Vec<SourceFile>,
        source: &SourceDef,
        fields: &[Field],
        remote: Arc<dyn RemoteFiles>,
    ) -> Self {
        Self {
            files,
            columns: read_columns(source, fields),
            options: source.options.clone(),
            remote,
            is_whole: false,
        }
    }

    /// Checks that each nullable column that is read is in a file of the source. A file may lack
    /// it, and has nulls for it then; if all files do, the name is probably wrong. Blocks the
    /// thread.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) for a column that is in no file.
    pub(crate) fn check_columns(&self) -> Result<()> {
        // Of a single file, the first column that it lacks is named, whatever it is.
        let is_single = self.files.len() == 1;
        let is_sought = |field: &&Field| is_single || field.nullable;
        let fields = self.columns.iter().map(|column| &column.field);
        let mut sought: Vec<&Field> = fields.filter(is_sought).collect();
        // The newest file is the most likely one to have all columns.
        for file in self.files.iter().rev() {
            sought.retain(|field| file.partitions.iter().all(|p| p.column != field.name));
            if sought.is_empty() {
                return Ok(());
            }
            let opened = file.open(&self.remote)?;
            let format = file_format(file.format);
            let Some(names) = format.column_names(&file.path, opened, &self.options)? else {
                return Ok(());
            };
            sought.retain(|field| !names.contains(&field.name));
            if let Some(field) = sought.first().filter(|_| is_single) {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                return Err(missing_column(&file.path, field, &names));
            }
        }
        match sought.first() {
            None => Ok(()),
            Some(field) => Err(Error::invalid(format!(
                "no file of the source has a column `{}` ({}), which the function reads",
                field.name, field.data_type
            ))),
        }
    }

    /// The files, in the order in which they are read.
    pub(crate) fn files(&self) -> &[SourceFile] {
        &self.files
    }

    /// Returns the digest of the contents of all files in their order.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new();
        for file in &self.files {
            hasher.part(file.digest.as_bytes());
        }
        hasher.finish()
    }

    /// Returns the number of rows if all files are on this machine and their format records it.
    pub(crate) fn total_rows(&self) -> Option<u64> {
        let count = |file: &SourceFile| {
            if file.remote.is_some() {
                return None;
            }
            file_format(file.format).count_rows(File::open(&file.path).ok()?)
        };
        self.files.iter().map(count).sum()
    }

    /// Calls `visit` for every row, with the columns of its chunk, in the order of the inputs,
    /// and the row's index in them. Blocks the thread.
    ///
    /// # Errors
    /// Returns an error when a file or a row cannot be read.
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

    /// Returns an iterator over the rows, file by file, in order.
    pub(crate) fn chunks(&self) -> Chunks {
        Chunks {
            reader: self.clone(),
            next_file: 0,
            current: None,
            is_checked: false,
        }
    }
}

/// Finds the files at a location and digests them. Blocks the thread.
fn source_files(
    location: &Location,
    format: Option<Format>,
    remote: &Arc<dyn RemoteFiles>,
) -> Result<Vec<SourceFile>> {
    files_at(location, format, remote, SourceFile::from_local)
}

/// Finds the files at a location. Those on this machine are described by `local`. Blocks the
/// thread.
fn files_at(
    location: &Location,
    format: Option<Format>,
    remote: &Arc<dyn RemoteFiles>,
    local: fn(PathBuf, Option<Format>) -> Result<SourceFile>,
) -> Result<Vec<SourceFile>> {
    let mut files: Vec<SourceFile> = match location {
        Location::Here(path) => find_files(path)?
            .into_iter()
            .map(|file| local(file, format))
            .collect::<Result<_>>()?,
        Location::Remote(url) => find_remote(url, remote)?
            .into_iter()
            .map(|file| SourceFile::from_remote(file, format))
            .collect::<Result<_>>()?,
    };
    for (file, number) in files.iter_mut().zip(0..) {
        file.number = number;
    }
    Ok(files)
}

/// Reads the rows of a source, file by file. Blocks the thread.
#[derive(Debug)]
pub(crate) struct Chunks {
    reader: SourceReader,
    next_file: usize,
    current: Option<FileChunks>,
    /// Whether the columns were looked for in the files.
    is_checked: bool,
}

impl Chunks {
    /// Reads the next rows; returns `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Chunk>> {
        while let Some(piece) = self.piece()? {
            if let Piece::Rows(chunk) = piece {
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }

    /// Reads the next rows, or finds that a file has none; returns `None` at the end.
    fn piece(&mut self) -> Result<Option<Piece>> {
        if self.reader.is_whole && !std::mem::replace(&mut self.is_checked, true) {
            self.reader.check_columns()?;
        }
        while let Some(file) = self.current_file()? {
            if let Some(chunk) = file.next()? {
                return Ok(Some(Piece::Rows(chunk)));
            }
            let has_rows = file.has_rows;
            self.current = None;
            if !has_rows {
                return Ok(Some(Piece::EmptyFile));
            }
        }
        Ok(None)
    }

    /// Returns the chunks as a stream, which are read on a thread that may block.
    pub(crate) fn stream(self) -> BoxStream<'static, Result<Chunk>> {
        rows_among(self.pieces())
    }

    /// Returns the chunks as a stream, with the files that have no rows.
    pub(crate) fn pieces(self) -> BoxStream<'static, Result<Piece>> {
        let next = |mut chunks: Self| async move {
            let (piece, chunks) = blocking(move || (chunks.piece(), chunks)).await?;
            Ok::<_, Error>(piece?.map(|piece| (piece, chunks)))
        };
        stream::try_unfold(self, next).boxed()
    }

    /// Returns the file that is being read, and opens the next one if there is none. Returns
    /// `None` after the last file.
    fn current_file(&mut self) -> Result<Option<&mut FileChunks>> {
        if self.current.is_none()
            && let Some(file) = self.reader.files.get(self.next_file)
        {
            self.next_file += 1;
            self.current = Some(FileChunks::open(file, &self.reader)?);
        }
        Ok(self.current.as_mut())
    }
}

/// Reads the rows of one file.
#[derive(Debug)]
struct FileChunks {
    path: PathBuf,
    file_id: String,
    file_number: u64,
    columns: Vec<ReadColumn>,
    partitions: Vec<PartitionColumn>,
    rows: Box<dyn RowReader>,
    /// Whether there were some.
    has_rows: bool,
}

impl FileChunks {
    fn open(file: &SourceFile, reader: &SourceReader) -> Result<Self> {
        let opened = file.open(&reader.remote)?;
        let mut columns = reader.columns.clone();
        let partitions = PartitionColumn::read(&file.path, &file.partitions, &columns)?;
        for partition in &partitions {
            // The file may have the column as well.
            columns[partition.index].field.nullable = true;
        }
        let format = file_format(file.format);
        Ok(Self {
            path: file.path.clone(),
            file_id: file.digest.short(),
            rows: format.read(&file.path, opened, &reader.options, &columns)?,
            file_number: file.number,
            columns,
            partitions,
            has_rows: false,
        })
    }

    fn next(&mut self) -> Result<Option<Chunk>> {
        let Some(rows) = self.rows.next()? else {
            return Ok(None);
        };
        self.has_rows = true;
        let rows = converted(&self.path, &self.columns, rows)?;
        let rows = with_partitions(&self.partitions, rows);
        let file = self.path.display().to_string();
        Ok(Some(Chunk {
            columns: rows.columns,
            file_id: self.file_id.clone(),
            file_number: self.file_number,
            rejects: rejects(&file, rows.rejects),
            file,
            numbers: rows.numbers,
            stored: None,
            seen: rows.seen,
        }))
    }
}

/// Adds the values of the partitions that a file is in. Rows in which the file says another value
/// are rejected.
fn with_partitions(partitions: &[PartitionColumn], mut rows: Rows) -> Rows {
    let mut faults = BTreeMap::new();
    for partition in partitions {
        let (column, others) = partition.of_rows(&rows.columns[partition.index]);
        rows.columns[partition.index] = column;
        for (row, message) in others {
            faults.entry(row).or_insert(message);
        }
    }
    rows.reject(faults)
}

/// Names the places of rows of a file that could not be read.
pub(crate) fn rejects(file: &str, rejects: Vec<(u64, String)>) -> Vec<Reject> {
    let reject = |(line, message)| Reject::new(format!("{file}:{line}"), message);
    rejects.into_iter().map(reject).collect()
}

/// Converts columns to the types that the function reads. Rows with a value that does not fit, or
/// without one where the function needs one, are rejected.
pub(crate) fn converted(path: &Path, read: &[ReadColumn], rows: Rows) -> Result<Rows> {
    let mut columns = Vec::with_capacity(read.len());
    // The first fault of each row, by the index of the row.
    let mut faults = BTreeMap::new();
    for (ReadColumn { field, reading }, column) in read.iter().zip(&rows.columns) {
        let coerced = coerce_rows(column, &field.data_type, reading)
            .map_err(|error| mismatch_error(path, field, &error))?;
        for (row, message) in coerced.faults {
            let fault = || format!("field `{}`: {message}", field.name);
            faults.entry(row).or_insert_with(fault);
        }
        if !field.nullable && coerced.column.null_count() > 0 {
            let rows = 0..coerced.column.len();
            for row in rows.filter(|row| coerced.column.is_null(*row)) {
                let fault = || format!("field `{}`: is null", field.name);
                faults.entry(row).or_insert_with(fault);
            }
        }
        columns.push(coerced.column);
    }
    Ok(Rows { columns, ..rows }.reject(faults))
}

/// Describes a column whose type does not fit the type that the function reads.
fn mismatch_error(path: &Path, field: &Field, error: &CoerceError) -> Error {
    let (path, name) = (path.display(), &field.name);
    Error::invalid(match error {
        CoerceError::Type { wanted, found } => {
            let hint =
                hint(name, wanted, found).map_or_else(String::new, |hint| format!("; {hint}"));
            format!("{path}: column `{name}` is {found}, and the function reads {wanted}{hint}")
        }
        CoerceError::Value { row, message } => {
            format!("{path}: column `{name}`, row {row}: {message}")
        }
    })
}

/// Returns what to declare of a column, so that it can be read.
fn hint(name: &str, wanted: &DataType, found: &ArrowType) -> Option<String> {
    use ArrowType as A;
    let is_text = matches!(found, A::Utf8 | A::LargeUtf8 | A::Utf8View);
    let is_number = found.is_integer() || found.is_floating();
    let is_decimal = matches!(
        found,
        A::Decimal32(..) | A::Decimal64(..) | A::Decimal128(..) | A::Decimal256(..)
    );
    match wanted {
        DataType::Timestamp | DataType::Date if is_number => Some(format!(
            "say in which unit its numbers count: `times = {{ {name} = {{ unit = \"ms\" }} }}` in \
             the source (d, s, ms, us or ns)"
        )),
        DataType::Timestamp if matches!(found, A::Timestamp(_, None) | A::Date32 | A::Date64) => Some(
            "its times name no time zone, so say which one they are in: `zone = \"UTC\"` in the \
             source, or another name such as Europe/Berlin"
                .to_owned(),
        ),
        DataType::Timestamp | DataType::Date if is_text => Some(format!(
            "say how its times are written: `times = {{ {name} = {{ format = \"%d/%m/%Y %H:%M\" }} \
             }}` in the source, or their `zone` if they are written as 2013-01-01 10:15:00"
        )),
        DataType::Float64 if is_decimal => Some(format!(
            "to read the nearest float64, set `decimals = {{ {name} = \"float64\" }}` in the source"
        )),
        DataType::Utf8 if is_decimal => Some(format!(
            "to read its digits, set `decimals = {{ {name} = \"text\" }}` in the source"
        )),
        _ if is_decimal => Some(
            "decimals are read as float64, or exactly as utf8, if `decimals` of the source says so"
                .to_owned(),
        ),
        _ => None,
    }
}

/// Digests the content of a file; the error names the file.
pub(crate) fn digest_file(path: &Path) -> Result<Digest> {
    wafer_store::digest_file(path).map_err(|e| unreadable(path, e))
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;
    use wafer_core::{DataType, cell_to_json};
    use wafer_store::{Kind, UnreachableFiles};

    use super::*;

    fn remote() -> Arc<dyn RemoteFiles> {
        Arc::new(UnreachableFiles {
            form: "s3://BUCKET/FOLDER",
            reason: "this is a test".to_owned(),
        })
    }

    fn source(path: PathBuf) -> SourceDef {
        SourceDef::of_files(path.into())
    }

    fn inputs() -> [Field; 2] {
        [
            Field::new("id", DataType::Int64, false),
            Field::new("name", DataType::Utf8, true),
        ]
    }

    type Read = Vec<(u64, Vec<Json>)>;

    fn read(name: &str, content: &[u8]) -> Result<(Read, Vec<(String, String)>)> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), content).unwrap();
        let mut chunks =
            SourceReader::open(&source(folder.path().join(name)), "s", &inputs(), &remote())?
                .chunks();
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
            ("a.csv:7", "has 2 fields, and the header has 3"),
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
            SourceReader::open(&source("/nowhere/x.csv".into()), "s", &inputs(), &remote())
                .unwrap_err();
        assert_eq!(
            (missing.kind(), missing.to_string()),
            (Kind::NotFound, "there is no file /nowhere/x.csv".into())
        );
    }
}
