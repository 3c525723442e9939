//! A Delta table that others write, on this machine or elsewhere, as the source of a run.
//!
//! Its data files may be made to do harm, as those of any source may, so they are decoded in a
//! child process, like the Parquet files of a source. Its log is checked (`delta_log.rs`) before it
//! is read.

use std::collections::HashMap;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, UInt32Array};
use arrow_schema::{Field as ArrowField, SchemaRef};
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use wafer_catalog::{FileOptions, Format, Location, SourceDef, blocking};
use wafer_core::{Digest, Field, Hasher};
use wafer_files::{ReadColumn, RowReader, Rows, file_format, missing_column, unreadable};
use wafer_store::{DataFile, Error, OfflineTables, Place, RemoteFiles, Result, TableSnapshot};

use super::{Selection, Source};
use crate::copy_room::CopyRoom;
use crate::delta_log::check_log;
use crate::source::chunk::{Chunk, Piece, rows_among};
use crate::source::files::{LocalCopy, find_file};
use crate::source::{converted, read_columns, rejects};

/// A Delta table that others write, opened at one version of it.
#[derive(Clone, Debug)]
pub(crate) struct DeltaTable {
    snapshot: TableSnapshot,
    /// The folder of the table.
    folder: Place,
    /// What the work that reads the table for a request holds, also when nobody waits for it any
    /// more.
    _held: Option<Arc<dyn CopyRoom>>,
}

impl DeltaTable {
    /// Opens the table of a source, at a version or at the newest one. All work that reads it has
    /// `held`.
    pub(crate) async fn open(
        source: &SourceDef,
        remote: &Arc<dyn RemoteFiles>,
        version: Option<u64>,
        held: Option<Arc<dyn CopyRoom>>,
    ) -> Result<Self> {
        let folder = match &source.files {
            Some(Location::Here(folder)) => Place::Here(folder.clone()),
            Some(Location::Remote(url)) => Place::remote(url, Arc::clone(remote))?,
            None => {
                return Err(Error::invalid(
                    "a source of type `delta` reads a table: set its `path` to the folder of that",
                ));
            }
        };
        check_log(&folder, version, held.clone()).await?;
        Ok(Self {
            snapshot: OfflineTables::open_outside(&folder, version).await?,
            folder,
            _held: held,
        })
    }

    /// Returns the columns of the table.
    pub(crate) fn schema(&self) -> &SchemaRef {
        self.snapshot.schema()
    }

    /// Returns how some columns are read, as the source declares them.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) for a column that the table lacks.
    pub(crate) fn columns(&self, source: &SourceDef, fields: &[Field]) -> Result<Vec<ReadColumn>> {
        let names = self.schema().fields().iter();
        let names: Vec<&str> = names.map(|field| field.name().as_str()).collect();
        let columns = read_columns(source, fields);
        let lacking = columns
            .iter()
            .find(|column| !names.contains(&column.field.name.as_str()));
        match lacking {
            Some(column) => Err(missing_column(&self.folder.shown(), &column.field, &names)),
            None => Ok(columns),
        }
    }

    /// Reads some columns of all rows.
    pub(crate) fn pieces(&self, columns: &[ReadColumn]) -> BoxStream<'static, Result<Piece>> {
        self.pieces_of(self.snapshot.files().to_vec(), columns)
    }

    /// Reads some columns of the rows of some files.
    fn pieces_of(
        &self,
        files: Vec<DataFile>,
        columns: &[ReadColumn],
    ) -> BoxStream<'static, Result<Piece>> {
        let (table, columns): (_, Arc<[ReadColumn]>) = (self.clone(), columns.into());
        let chunks = async move {
            let files = table.snapshot.in_order_of_creation(files).await?;
            let chunks = DeltaChunks {
                table,
                columns,
                files: files.into_iter().zip(0..),
                current: None,
            };
            Ok::<_, Error>(chunks.stream())
        };
        stream::once(chunks).try_flatten().boxed()
    }
}

/// Reads the rows of files of a Delta table, file by file. Blocks the thread.
#[derive(Debug)]
struct DeltaChunks {
    table: DeltaTable,
    columns: Arc<[ReadColumn]>,
    /// The files that were not opened yet, with their positions among all files.
    files: std::iter::Zip<std::vec::IntoIter<DataFile>, std::ops::RangeFrom<u64>>,
    current: Option<OpenFile>,
}

impl DeltaChunks {
    /// Returns the rows as a stream, which are read on a thread that may block, with the files that
    /// have none.
    fn stream(self) -> BoxStream<'static, Result<Piece>> {
        let next = |mut chunks: Self| async move {
            let (piece, chunks) = blocking(move || (chunks.next(), chunks)).await?;
            Ok::<_, Error>(piece?.map(|piece| (piece, chunks)))
        };
        stream::try_unfold(self, next).boxed()
    }

    /// Reads the next rows, or finds that a file has none; returns `None` at the end.
    fn next(&mut self) -> Result<Option<Piece>> {
        loop {
            if let Some(file) = &mut self.current {
                if let Some(chunk) = file.next()? {
                    return Ok(Some(Piece::Rows(chunk)));
                }
                let has_rows = file.has_rows;
                self.current = None;
                if !has_rows {
                    return Ok(Some(Piece::EmptyFile));
                }
            }
            let Some((file, number)) = self.files.next() else {
                return Ok(None);
            };
            let opened = OpenFile::open(&self.table, &file, number, &self.columns)?;
            self.current = Some(opened);
        }
    }
}

/// A data file of a Delta table that is read.
#[derive(Debug)]
struct OpenFile {
    /// Where the file is, for messages.
    path: PathBuf,
    /// The path of the file in the table, which tells the files of a run apart.
    name: String,
    /// The position of the file among all files.
    number: u64,
    columns: Arc<[ReadColumn]>,
    /// The columns whose values are in the log, each with its value as the only row.
    constants: HashMap<String, ArrayRef>,
    /// The other columns.
    rows: Box<dyn RowReader>,
    /// Whether there were rows.
    has_rows: bool,
}

impl OpenFile {
    fn open(
        table: &DeltaTable,
        file: &DataFile,
        number: u64,
        columns: &Arc<[ReadColumn]>,
    ) -> Result<Self> {
        let place = table.snapshot.outside_file(file)?;
        let path = place.shown();
        let schema = table.schema();
        let fields = columns.iter().filter_map(|column| {
            let field = schema.field_with_name(&column.field.name);
            field.ok().cloned()
        });
        let fields: Vec<ArrowField> = fields.collect();
        let constants = table.snapshot.partition_values(file, &fields)?;
        let read = columns.iter().filter_map(|column| {
            let mut column = column.clone();
            // The file may have been written before the column was added to the table.
            column.field.nullable = true;
            (!constants.contains_key(&column.field.name)).then_some(column)
        });
        let read: Vec<ReadColumn> = read.collect();
        let opened = open_file(&path, &place)?;
        let format = file_format(Format::Parquet);
        Ok(Self {
            rows: format.read(&path, opened, &FileOptions::default(), &read)?,
            path,
            name: file.path.clone(),
            number,
            columns: Arc::clone(columns),
            constants,
            has_rows: false,
        })
    }

    /// Reads the next rows; returns `None` at the end.
    fn next(&mut self) -> Result<Option<Chunk>> {
        let Some(rows) = self.rows.next()? else {
            return Ok(None);
        };
        self.has_rows = true;
        let rows = converted(&self.path, &self.columns, self.with_constants(rows))?;
        Ok(Some(Chunk {
            columns: rows.columns,
            file_id: Digest::of(self.name.as_bytes()).short(),
            file_number: self.number,
            rejects: rejects(&self.path.display().to_string(), rows.rejects),
            file: self.name.clone(),
            numbers: rows.numbers,
            stored: None,
            seen: rows.seen,
        }))
    }

    /// Adds the columns whose values are in the log.
    fn with_constants(&self, rows: Rows) -> Rows {
        let count = rows.numbers.len();
        let mut read = rows.columns.iter();
        let mut columns = Vec::with_capacity(self.columns.len());
        for column in self.columns.iter() {
            columns.push(match self.constants.get(&column.field.name) {
                Some(value) => repeated(value, count),
                None => Arc::clone(read.next().expect("all other columns were read")),
            });
        }
        Rows { columns, ..rows }
    }
}

/// Opens a data file, of a remote one a copy. `path` is what messages call it.
fn open_file(path: &Path, place: &Place) -> Result<File> {
    match place {
        Place::Here(place) => open_here(path, place),
        Place::Remote(url, remote) => {
            let found = find_file(url, remote.as_ref())?;
            let gone = || unreadable(path, std::io::Error::from(ErrorKind::NotFound));
            LocalCopy::of(&found.ok_or_else(gone)?, remote.as_ref())?.open(path)
        }
    }
}

/// Opens a data file on this machine. Anything else is refused: a read from a pipe, for example,
/// could wait forever.
fn open_here(path: &Path, place: &Path) -> Result<File> {
    let found = std::fs::metadata(place).map_err(|e| unreadable(path, e))?;
    if !found.is_file() {
        let message = format!("{} cannot be read: it is not a file", path.display());
        return Err(Error::invalid(message));
    }
    File::open(place).map_err(|e| unreadable(path, e))
}

/// Repeats a single value.
fn repeated(value: &ArrayRef, rows: usize) -> ArrayRef {
    let places = UInt32Array::from(vec![0; rows]);
    arrow_select::take::take(value, &places, None).expect("there is one value")
}

/// The rows of a Delta table at one version of it.
#[derive(Debug)]
pub(super) struct DeltaSource {
    delta: DeltaTable,
    columns: Vec<ReadColumn>,
    /// Whether the project names the version, so that the rows are always the same.
    is_pinned: bool,
}

impl DeltaSource {
    /// Opens the table of a source, at a version or at the newest one.
    pub(super) async fn open(
        source: &SourceDef,
        remote: &Arc<dyn RemoteFiles>,
        version: Option<u64>,
        fields: &[Field],
    ) -> Result<Self> {
        let delta = DeltaTable::open(source, remote, version, None).await?;
        Ok(Self {
            columns: delta.columns(source, fields)?,
            is_pinned: version.is_some(),
            delta,
        })
    }
}

impl Source for DeltaSource {
    /// Adds which table it is, and its version if that is pinned. Other changes in the table are
    /// found in its log.
    fn identify(&self, hasher: &mut Hasher) {
        let snapshot = &self.delta.snapshot;
        hasher.part(snapshot.outside_id().unwrap_or_default().as_bytes());
        if self.is_pinned {
            hasher.part(&snapshot.version().to_le_bytes());
        }
    }

    fn total_rows(&self, selection: &Selection) -> Option<u64> {
        let files = self.files_of(selection);
        files.iter().map(|file| file.rows).sum()
    }

    fn chunks(&self, selection: &Selection) -> BoxStream<'static, Result<Chunk>> {
        let files = self.files_of(selection);
        rows_among(self.delta.pieces_of(files, &self.columns))
    }

    fn table(&self) -> Option<&TableSnapshot> {
        (!self.is_pinned).then_some(&self.delta.snapshot)
    }
}

impl DeltaSource {
    /// The files that a run reads: of a pinned version all of them.
    fn files_of(&self, selection: &Selection) -> Vec<DataFile> {
        match self.is_pinned {
            true => self.delta.snapshot.files().to_vec(),
            false => selection.files.clone(),
        }
    }
}
