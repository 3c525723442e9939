//! The rows of files with all their columns, to be shown to people, whether a function reads them
//! or not.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, new_empty_array};
use arrow_schema::{DataType as ArrowType, Schema as ArrowSchema};
use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use url::Url;
use wafer_catalog::{Location, Reject, SourceDef, SourceKind, blocking, get};
use wafer_core::{DataType, Field, Reading};
use wafer_files::file_format;
use wafer_runtime::CHUNK_ROWS;
use wafer_store::{Error, OfflineTables, RemoteFile, RemoteFiles, RemoteListing, Result};

use crate::copy_room::CopyRoom;
use crate::input::delta::DeltaTable;
use crate::source::chunk::Piece;
use crate::source::files::SourceFile;
use crate::source::inspect::{is_readable, readable_as};
use crate::source::{SourceReader, Sources, files_at, read_columns};

/// Files whose rows can be shown.
#[derive(Clone, Debug)]
pub struct FileRows {
    location: RowLocation,
    /// What is declared of the files and their columns.
    source: SourceDef,
    fields: Vec<Field>,
    left_out: Vec<(String, String)>,
}

/// Where the rows are.
#[derive(Clone, Debug)]
enum RowLocation {
    /// In files, which are read one by one.
    Files(Vec<SourceFile>, Arc<dyn RemoteFiles>),
    /// In a Delta table, whose log says which files are read.
    Delta(Box<DeltaTable>),
}

/// Some rows that were read to be shown.
#[derive(Debug)]
pub struct ReadRows {
    /// The wanted columns, in the wanted order.
    pub columns: Vec<ArrayRef>,
    /// The number of rows.
    pub rows: usize,
    /// The rows that could not be read, and why.
    pub rejects: Vec<Reject>,
}

/// The bounds of the work for rows that are shown. By default there are none.
#[derive(Clone, Debug, Default)]
pub struct ShowBounds {
    /// The number of rows that are read, after which no more are.
    pub rows: Option<u64>,
    /// The room for copies of remote files. All work that reads files holds it, also what goes on
    /// for a while after nobody waits for the rows any more.
    pub copies: Option<Arc<dyn CopyRoom>>,
}

impl ShowBounds {
    /// Returns the remote files, whose copies take their room.
    fn bounded(&self, remote: Arc<dyn RemoteFiles>) -> Arc<dyn RemoteFiles> {
        match &self.copies {
            None => remote,
            Some(room) => Arc::new(BoundedCopies {
                remote,
                room: Arc::clone(room),
            }),
        }
    }

    /// Returns a source whose types are guessed from no more rows than are read. Those of a chunk
    /// are read together.
    fn guessing(&self, mut source: SourceDef) -> SourceDef {
        let rows = self.rows;
        source.options.guessed_from = rows.map(|rows| rows.saturating_add(CHUNK_ROWS as u64));
        source
    }
}

/// Remote files whose copies take room.
#[derive(Debug)]
struct BoundedCopies {
    remote: Arc<dyn RemoteFiles>,
    room: Arc<dyn CopyRoom>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl RemoteFiles for BoundedCopies {
    fn form(&self) -> &'static str {
        self.remote.form()
    }

    async fn list(&self, url: &Url) -> Result<RemoteListing> {
        self.remote.list(url).await
    }

    async fn fetch(&self, file: &RemoteFile, to: &Path) -> Result<()> {
        self.room.copy(file.bytes)?;
        self.remote.fetch(file, to).await
    }

    async fn put(&self, from: &Path, to: &Url) -> Result<()> {
        self.remote.put(from, to).await
    }

    async fn remove(&self, url: &Url) -> Result<()> {
        self.remote.remove(url).await
    }

    async fn tables(&self, url: &Url) -> Result<OfflineTables> {
        self.remote.tables(url).await
    }
}

/// The types that the pipelines over a source read its columns as.
type Types = BTreeMap<String, DataType>;

impl Sources {
    /// Opens the files of a source, to show them. Columns have the types that the pipelines over
    /// the source read, and other columns those of the files, or the first that fits their values.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`](wafer_store::Kind::NotFound) for an unknown source and for absent
    /// files, and [`Kind::Invalid`](wafer_store::Kind::Invalid) when the source has no files or the
    /// first of them cannot be read.
    pub async fn source_rows(&self, name: &str, bounds: &ShowBounds) -> Result<FileRows> {
        let definitions = self.context.definitions();
        let source = get(&definitions.sources, name, "source")?.clone();
        let pipelines = definitions.pipelines.values();
        let pipelines = pipelines.filter(|pipeline| pipeline.source == name);
        let fields = pipelines.filter_map(|pipeline| definitions.source_fields(&pipeline.made_by));
        let types: Types = fields
            .flatten()
            .map(|field| (field.name, field.data_type))
            .collect();
        match source.kind {
            SourceKind::Delta { version } => {
                let remote = bounds.bounded(Arc::clone(&self.context.components().remote));
                let held = bounds.copies.clone();
                let table = DeltaTable::open(&source, &remote, version, held).await?;
                return Ok(FileRows::of_delta(table, source, &types));
            }
            SourceKind::Files | SourceKind::Table { .. } | SourceKind::Stream { .. } => {}
        }
        let location = source.files.clone().ok_or_else(|| {
            Error::invalid(format!(
                "source `{name}` has no files: show a group that is made of it, or the table of its \
                 events, `{name}_events`"
            ))
        })?;
        let remote = bounds.bounded(Arc::clone(&self.context.components().remote));
        let source = bounds.guessing(source);
        blocking(move || FileRows::open(&location, source, &types, remote)).await?
    }
}

impl FileRows {
    /// Opens a file, the files of a folder, or those that match a pattern, to show them. The
    /// format follows from their names.
    ///
    /// # Errors
    /// Returns the errors of [`Sources::source_rows`].
    pub async fn of_path(
        path: &Path,
        remote: Arc<dyn RemoteFiles>,
        bounds: &ShowBounds,
    ) -> Result<Self> {
        let location = Location::of(Path::new(""), path);
        let source = bounds.guessing(SourceDef::of_files(location.clone()));
        let remote = bounds.bounded(remote);
        blocking(move || Self::open(&location, source, &Types::new(), remote)).await?
    }

    /// Finds the files, and the columns of the first one. Blocks the thread.
    fn open(
        location: &Location,
        source: SourceDef,
        types: &Types,
        remote: Arc<dyn RemoteFiles>,
    ) -> Result<Self> {
        let files = files_at(location, source.format, &remote, SourceFile::undigested)?;
        let first = &files[0];
        let format = file_format(first.format);
        let declared = |name: &str| types.get(name).cloned();
        let opened = first.open(&remote)?;
        let schema = format.schema(&first.path, opened, &source.options, &declared)?;
        let (mut fields, left_out) = columns(&source, types, &schema);
        for partition in &first.partitions {
            if schema.field_with_name(&partition.column).is_err() {
                let data_type = declared(&partition.column).unwrap_or(DataType::Utf8);
                fields.push(Field::new(&partition.column, data_type, true));
            }
        }
        Ok(Self {
            location: RowLocation::Files(files, remote),
            source,
            fields,
            left_out,
        })
    }

    fn of_delta(table: DeltaTable, source: SourceDef, types: &Types) -> Self {
        let (fields, left_out) = columns(&source, types, table.schema());
        Self {
            location: RowLocation::Delta(Box::new(table)),
            source,
            fields,
            left_out,
        }
    }

    /// Returns the columns of the files.
    pub fn fields(&self) -> Vec<Field> {
        self.fields.clone()
    }

    /// Returns the columns that cannot be shown, because Wafer does not know their types, and
    /// these types.
    pub fn left_out(&self) -> &[(String, String)] {
        &self.left_out
    }

    /// Reads some of the columns of all rows, file by file. Rows that cannot be read are reported
    /// beside the others, and a file without rows as no rows.
    pub fn read(&self, names: &[String]) -> BoxStream<'static, Result<ReadRows>> {
        let field = |name: &String| self.fields.iter().find(|f| f.name == *name).cloned();
        let fields: Vec<Field> = names.iter().filter_map(field).collect();
        let pieces = match &self.location {
            RowLocation::Files(files, remote) => {
                let (files, remote) = (files.clone(), Arc::clone(remote));
                SourceReader::of_files(files, &self.source, &fields, remote)
                    .chunks()
                    .pieces()
            }
            RowLocation::Delta(table) => table.pieces(&read_columns(&self.source, &fields)),
        };
        let empty = fields
            .iter()
            .map(|f| new_empty_array(&f.data_type.to_arrow()));
        let empty: Vec<ArrayRef> = empty.collect();
        let rows = pieces.map_ok(move |piece| match piece {
            Piece::Rows(chunk) => ReadRows {
                rows: chunk.rows(),
                columns: chunk.columns,
                rejects: chunk.rejects,
            },
            Piece::EmptyFile => ReadRows {
                rows: 0,
                columns: empty.clone(),
                rejects: Vec::new(),
            },
        });
        rows.boxed()
    }
}

/// Returns the columns of files as they are read, and those that cannot be read, with their types.
fn columns(
    source: &SourceDef,
    types: &Types,
    schema: &ArrowSchema,
) -> (Vec<Field>, Vec<(String, String)>) {
    let (mut fields, mut left_out) = (Vec::new(), Vec::new());
    for field in schema.fields() {
        let (name, found) = (field.name(), field.data_type());
        let reading = source.reading_of(name);
        let wanted = types.get(name).cloned();
        let wanted = wanted.filter(|wanted| is_readable(found, wanted, &reading));
        match wanted.or_else(|| type_of(name, found, &reading)) {
            Some(data_type) => fields.push(Field::new(name, data_type, true)),
            None => left_out.push((name.clone(), found.to_string())),
        }
    }
    (fields, left_out)
}

/// Returns the type that a column is read as if no pipeline reads it. One of nothing but nulls has
/// any type.
fn type_of(name: &str, found: &ArrowType, reading: &Reading) -> Option<DataType> {
    match found {
        ArrowType::Null => Some(DataType::Utf8),
        _ => readable_as(name, found, reading).ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use arrow_schema::Field as ArrowField;
    use wafer_catalog::keep_temporary_files_in;
    use wafer_store::Kind;

    use super::*;

    const CONTENT: &str = "a\n1\nx\n";

    /// One remote file.
    #[derive(Debug)]
    struct OneFile;

    #[async_trait]
    impl RemoteFiles for OneFile {
        fn form(&self) -> &'static str {
            "s3://BUCKET/FOLDER"
        }

        async fn list(&self, url: &Url) -> Result<RemoteListing> {
            let file = RemoteFile {
                url: url.clone(),
                bytes: CONTENT.len() as u64,
                version: String::new(),
            };
            // Folders that mark a table are asked for as well.
            let is_listed = url.path() == "/in.csv";
            Ok(RemoteListing {
                files: is_listed.then_some(file).into_iter().collect(),
                odd: Vec::new(),
            })
        }

        async fn fetch(&self, _file: &RemoteFile, to: &Path) -> Result<()> {
            std::fs::write(to, CONTENT).unwrap();
            Ok(())
        }

        async fn put(&self, _from: &Path, _to: &Url) -> Result<()> {
            Err(Error::invalid("it is only read"))
        }

        async fn remove(&self, _url: &Url) -> Result<()> {
            Err(Error::invalid("it is only read"))
        }

        async fn tables(&self, _url: &Url) -> Result<OfflineTables> {
            Err(Error::invalid("it is not a table"))
        }
    }

    /// Room for copies of so many bytes, and the sizes of those that were to be made.
    #[derive(Debug)]
    struct Room(u64, Mutex<Vec<u64>>);

    impl CopyRoom for Room {
        fn copy(&self, bytes: u64) -> Result<()> {
            self.1.lock().unwrap().push(bytes);
            match bytes > self.0 {
                true => Err(Error::new(Kind::Unavailable, "no room")),
                false => Ok(()),
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn copies_of_remote_files_take_room_before_they_are_made() {
        keep_temporary_files_in(std::env::temp_dir(), "TMPDIR");
        let size = CONTENT.len() as u64;
        for (most, wanted) in [(size, vec![size, size]), (size - 1, vec![size])] {
            let room = Arc::new(Room(most, Mutex::default()));
            let path = Path::new("s3://b/in.csv");
            match FileRows::of_path(path, Arc::new(OneFile), &bounded_by(&room)).await {
                Ok(rows) => {
                    let pieces = rows.read(&["a".to_owned()]);
                    let pieces: Vec<ReadRows> = pieces.try_collect().await.unwrap();
                    assert_eq!((pieces.len(), pieces[0].rows), (1, 2));
                }
                Err(error) => assert_eq!(error.kind(), Kind::Unavailable),
            }
            assert_eq!(*room.1.lock().unwrap(), wanted);
        }
    }

    /// Returns bounds with this room.
    fn bounded_by(room: &Arc<Room>) -> ShowBounds {
        ShowBounds {
            copies: Some(Arc::clone(room) as Arc<dyn CopyRoom>),
            ..ShowBounds::default()
        }
    }

    /// A request that reads a table holds its place until the work has ended, as one that reads
    /// files does.
    #[tokio::test(flavor = "multi_thread")]
    async fn work_that_reads_a_delta_table_holds_the_room() {
        let folder = tempfile::tempdir().unwrap();
        let offline = OfflineTables::in_folder(folder.path()).unwrap();
        let schema = ArrowSchema::new(vec![ArrowField::new("a", ArrowType::Int64, true)]);
        offline.ensure("t", &schema).await.unwrap();
        let source = SourceDef::of_files(Location::Here(folder.path().join("t")));
        let room = Arc::new(Room(0, Mutex::default()));
        let held = bounded_by(&room).copies;
        let remote: Arc<dyn RemoteFiles> = Arc::new(OneFile);
        let table = DeltaTable::open(&source, &remote, None, held).await;
        let table = table.unwrap();
        let rows = FileRows::of_delta(table, source, &Types::new());
        let mut pieces = rows.read(&["a".to_owned()]);
        drop(rows);
        assert_eq!(Arc::strong_count(&room), 2);
        assert!(pieces.try_next().await.unwrap().is_none());
        drop(pieces);
        assert_eq!(Arc::strong_count(&room), 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn files_without_rows_are_told_one_by_one() {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in [
            ("1", "a\n1\n2\n"),
            ("2", "a\n"),
            ("3", "a\n"),
            ("4", "a\n5\n"),
        ] {
            std::fs::write(folder.path().join(format!("{name}.csv")), content).unwrap();
        }
        let remote = Arc::new(OneFile);
        let rows = FileRows::of_path(folder.path(), remote, &ShowBounds::default()).await;
        let pieces = rows.unwrap().read(&["a".to_owned()]);
        let pieces: Vec<ReadRows> = pieces.try_collect().await.unwrap();
        let counts = pieces
            .iter()
            .map(|piece| (piece.rows, piece.columns[0].len()));
        let wanted = [(2, 2), (0, 0), (0, 0), (1, 1)];
        assert_eq!(counts.collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn types_are_guessed_from_the_rows_that_are_read_and_those_of_a_chunk() {
        let source = || SourceDef::of_files(Location::Here("in.csv".into()));
        let guessed_from = |rows: Option<u64>| {
            let bounds = ShowBounds { rows, copies: None };
            bounds.guessing(source()).options.guessed_from
        };
        assert_eq!(guessed_from(None), None);
        assert_eq!(guessed_from(Some(10)), Some(10 + CHUNK_ROWS as u64));
    }
}
