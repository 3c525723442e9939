//! Reads the rows of a source from files, in chunks of columns that match the inputs of a
//! function.
//!
//! A row that cannot be read is rejected with its file and line. A file that cannot be read, or
//! that lacks a column that the function needs, is an error.

pub(crate) mod chunk;
pub(crate) mod copy;
pub(crate) mod files;
pub(crate) mod look;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray};
use futures::stream::{self, BoxStream, StreamExt as _};
use wafer_catalog::{Location, Reject, SourceDef, blocking};
use wafer_core::{CoerceError, DataType, Digest, Field, Hasher, Schema, coerce_rows};
use wafer_files::{ReadColumn, RowReader, Rows, file_format, unreadable};
use wafer_store::{Error, RemoteFiles, Result};

use crate::source::chunk::Chunk;
use crate::source::files::{SourceFile, find_files, find_remote};

/// The files of a source, with the digests of their contents, and the columns to read from them.
#[derive(Clone, Debug)]
pub struct SourceReader {
    files: Vec<SourceFile>,
    columns: Vec<ReadColumn>,
    remote: Arc<dyn RemoteFiles>,
}

/// Returns the columns that a function reads from a source.
pub(crate) fn read_columns(source: &SourceDef, inputs: &Schema) -> Vec<ReadColumn> {
    let column = |field: &Field| ReadColumn {
        unit: source.unit_of(&field.name),
        field: field.clone(),
    };
    inputs.fields().iter().map(column).collect()
}

impl SourceReader {
    /// Finds the files of a source and digests them. Blocks the thread.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`](wafer_store::Kind::NotFound) when there is no file and
    /// [`Kind::Invalid`](wafer_store::Kind::Invalid) when a file cannot be read.
    pub fn open(
        source: &SourceDef,
        name: &str,
        inputs: &Schema,
        remote: &Arc<dyn RemoteFiles>,
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
                .map(|file| SourceFile::from_local(file, format))
                .collect::<Result<_>>()?,
            Location::Remote(url) => find_remote(url, remote)?
                .into_iter()
                .map(|file| SourceFile::from_remote(file, format))
                .collect::<Result<_>>()?,
        };
        let columns = read_columns(source, inputs);
        Ok(Self::of_files(files, columns, Arc::clone(remote)))
    }

    /// Creates a reader of files that were found earlier.
    pub(crate) fn of_files(
        files: Vec<SourceFile>,
        columns: Vec<ReadColumn>,
        remote: Arc<dyn RemoteFiles>,
    ) -> Self {
        Self {
            files,
            columns,
            remote,
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

    /// Returns the columns of the first rows, at most `limit` of them, or `None` when there are
    /// no rows. Blocks the thread.
    ///
    /// # Errors
    /// Returns an error when the first file cannot be read.
    pub fn first_rows(&self, limit: usize) -> Result<Option<Vec<ArrayRef>>> {
        let chunk = self.chunks().next()?;
        let chunk = chunk.filter(|chunk| chunk.rows() > 0);
        Ok(chunk.map(|chunk| {
            let rows = chunk.rows().min(limit);
            let columns = chunk.columns.iter();
            columns.map(|column| column.slice(0, rows)).collect()
        }))
    }

    /// Returns an iterator over the rows, file by file, in order.
    pub(crate) fn chunks(&self) -> Chunks {
        Chunks {
            reader: self.clone(),
            next_file: 0,
            current: None,
        }
    }
}

/// Reads the rows of a source, file by file. Blocks the thread.
#[derive(Debug)]
pub(crate) struct Chunks {
    reader: SourceReader,
    next_file: usize,
    current: Option<FileChunks>,
}

impl Chunks {
    /// Reads the next rows; returns `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Chunk>> {
        while let Some(file) = self.current_file()? {
            if let Some(chunk) = file.next()? {
                return Ok(Some(chunk));
            }
            self.current = None;
        }
        Ok(None)
    }

    /// Returns the chunks as a stream, which are read on a thread that may block.
    pub(crate) fn stream(self) -> BoxStream<'static, Result<Chunk>> {
        let next = |mut chunks: Self| async move {
            let (chunk, chunks) = blocking(move || (chunks.next(), chunks)).await?;
            Ok::<_, Error>(chunk?.map(|chunk| (chunk, chunks)))
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
    columns: Vec<ReadColumn>,
    rows: Box<dyn RowReader>,
}

impl FileChunks {
    fn open(file: &SourceFile, reader: &SourceReader) -> Result<Self> {
        let opened = file.open(&reader.remote)?;
        Ok(Self {
            path: file.path.clone(),
            file_id: file.digest.short(),
            columns: reader.columns.clone(),
            rows: file_format(file.format).read(&file.path, opened, &reader.columns)?,
        })
    }

    fn next(&mut self) -> Result<Option<Chunk>> {
        let Some(rows) = self.rows.next()? else {
            return Ok(None);
        };
        let Rows {
            columns,
            numbers,
            rejects,
            seen,
        } = self.converted(rows)?;
        let file = self.path.display().to_string();
        let reject = |(line, message)| Reject::new(format!("{file}:{line}"), message);
        Ok(Some(Chunk {
            columns,
            file_id: self.file_id.clone(),
            rejects: rejects.into_iter().map(reject).collect(),
            file,
            numbers,
            stored: None,
            seen,
        }))
    }

    /// Converts columns to the types that the function reads. Rows with a value that does not fit
    /// are rejected.
    fn converted(&self, rows: Rows) -> Result<Rows> {
        let mut columns = Vec::with_capacity(self.columns.len());
        // The first fault of each row, by the index of the row.
        let mut faults = BTreeMap::new();
        for (ReadColumn { field, unit }, column) in self.columns.iter().zip(&rows.columns) {
            let read = coerce_rows(column, &field.data_type, *unit)
                .map_err(|error| mismatch_error(&self.path, field, &error))?;
            columns.push(read.column);
            for (row, message) in read.faults {
                let fault = || format!("field `{}`: {message}", field.name);
                faults.entry(row).or_insert_with(fault);
            }
        }
        if faults.is_empty() {
            return Ok(Rows { columns, ..rows });
        }
        let is_good: Vec<bool> = (0..rows.numbers.len())
            .map(|row| !faults.contains_key(&row))
            .collect();
        let mask = BooleanArray::from(is_good.clone());
        let filtered = |column: &ArrayRef| {
            arrow_select::filter::filter(column, &mask).expect("as many bits as rows")
        };
        let faults = faults.into_iter();
        let mut rejects = rows.rejects;
        rejects.extend(faults.map(|(row, message)| (rows.numbers[row], message)));
        rejects.sort_by_key(|(number, _)| *number);
        let numbers = rows.numbers.iter().zip(is_good);
        Ok(Rows {
            columns: columns.iter().map(filtered).collect(),
            numbers: numbers
                .filter_map(|(number, good)| good.then_some(*number))
                .collect(),
            rejects,
            seen: rows.seen,
        })
    }
}

/// Describes a column whose type does not fit the type that the function reads.
fn mismatch_error(path: &Path, field: &Field, error: &CoerceError) -> Error {
    let (path, name) = (path.display(), &field.name);
    Error::invalid(match error {
        CoerceError::Type { wanted, found } => {
            let is_time = matches!(wanted, DataType::Timestamp | DataType::Date);
            let hint = match is_time && found.is_integer() {
                true => format!(
                    "; say in which unit its integers count: `times = {{ {name} = {{ unit = \"ms\" \
                     }} }}` in the source (d, s, ms, us or ns)"
                ),
                false => String::new(),
            };
            format!("{path}: column `{name}` is {found}, and the function reads {wanted}{hint}")
        }
        CoerceError::Value { row, message } => {
            format!("{path}: column `{name}`, row {row}: {message}")
        }
    })
}

/// Digests the content of a file; the error names the file.
pub(crate) fn digest_file(path: &Path) -> Result<Digest> {
    wafer_store::digest_file(path).map_err(|e| unreadable(path, e))
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;
    use wafer_core::{DataType, Duration, cell_to_json};
    use wafer_store::{Kind, UnreachableFiles};

    use super::*;
    use crate::source::files::matches_pattern;

    fn remote() -> Arc<dyn RemoteFiles> {
        Arc::new(UnreachableFiles {
            reason: "this is a test".to_owned(),
        })
    }

    fn source(path: PathBuf) -> SourceDef {
        SourceDef {
            kind: wafer_catalog::SourceKind::Files,
            files: Some(path.into()),
            format: None,
            delay: Duration::ZERO,
            lateness: None,
            skew: Duration::ZERO,
            times: BTreeMap::new(),
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
            SourceReader::open(&source("/nowhere/x.csv".into()), "s", &inputs(), &remote())
                .unwrap_err();
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
            assert_eq!(matches_pattern(pattern, name), wanted, "{pattern} {name}");
        }
    }
}
