//! All rows of the feature groups, as Delta tables of Parquet files.
//!
//! A table is a folder that any reader of Delta Lake opens without Wafer. Each
//! commit carries a [`Txn`], so that the same work committed twice is committed
//! once; the data files of a piece of work live below a folder of its own, so
//! that it can be replaced as a whole.
//!
//! Format: <https://github.com/delta-io/delta/blob/master/PROTOCOL.md>

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_array::RecordBatch;
use arrow_schema::{DataType as ArrowType, Field, Schema, SchemaRef};
use deltalake::datafile::writer::{DeltaWriter, WriterConfig};
use deltalake::kernel::engine::arrow_conversion::TryFromArrow as _;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties, TransactionError};
use deltalake::kernel::{Action, StructType, Transaction};
use deltalake::operations::create::CreateBuilder;
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::table::builder::DeltaTableBuilder;
use deltalake::table::config::{TablePropertiesExt as _, TableProperty};
use deltalake::{DeltaTable, DeltaTableError};
use object_store::ObjectStore;
use object_store::prefix::PrefixStore;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use url::Url;

use crate::{Error, Kind, Result};

mod changes;
mod maintain;
mod objects;
mod snapshot;
mod written;

pub use changes::Change;
pub use maintain::Compaction;
pub use snapshot::{AsOf, DataFile, Share, TableSnapshot};
pub use written::WrittenFiles;

/// Data files are closed when they reach this size.
const TARGET_FILE_BYTES: NonZeroU64 = NonZeroU64::new(128 << 20).expect("not zero");
/// Rows of a Parquet row group; bounds what a writer holds in memory.
const ROW_GROUP_ROWS: usize = 65_536;
/// A dictionary of more values than this has room for is given up: most of a row
/// group's values are different then, and are smaller and faster without one.
const DICTIONARY_BYTES: usize = 64 << 10;

/// Identity of a piece of work: committing the same version of it again, or an
/// older one, changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txn {
    /// Whose work it is.
    pub app_id: String,
    /// Rises with each new piece.
    pub version: i64,
    /// What the table must have of this work before.
    pub follows: Follows,
}

/// What must be true of the work that a table has, for more of it to be
/// committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// Any earlier version, or none.
    Anything,
    /// Exactly this version, or none at all: for work that was made from what
    /// came after it.
    Exactly(Option<i64>),
}

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// The table has a new version with the rows.
    Committed,
    /// The table had this work, or later work of the same kind, already.
    Already,
}

/// Size of a table, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableInfo {
    /// Version of the table.
    pub version: u64,
    /// Number of live data files.
    pub files: usize,
    /// Bytes of the live data files.
    pub bytes: u64,
    /// Rows in them, as their statistics say.
    pub rows: u64,
}

/// The Delta tables below one location.
#[derive(Clone, Debug)]
pub struct OfflineTables {
    root: Url,
    /// Tables as they were last seen, so that only what is new in their logs is
    /// read.
    seen: Arc<Mutex<HashMap<String, DeltaTable>>>,
    /// The whole bucket, of tables in one.
    bucket: Option<Arc<dyn ObjectStore>>,
}

impl OfflineTables {
    /// Tables in a folder of this machine, such as `file:///data/offline/`.
    ///
    /// # Errors
    /// When it is not the URL of a folder of this machine.
    pub fn open(root: Url) -> Result<Self> {
        if root.scheme() != "file" {
            let message =
                format!("offline tables at `{root}`: write the URL of a folder, file://…");
            return Err(Error::new(Kind::Invalid, message));
        }
        Ok(Self::below(root))
    }

    fn below(mut root: Url) -> Self {
        if !root.path().ends_with('/') {
            root.set_path(&format!("{}/", root.path()));
        }
        Self {
            root,
            seen: Arc::default(),
            bucket: None,
        }
    }

    /// Where a table is.
    pub fn location(&self, table: &str) -> Url {
        self.root
            .join(table)
            .expect("a table's name is a plain path segment")
    }

    /// Makes a table if there is none. The schema of one that exists must be the
    /// same, except that nullable columns may be added at its end.
    ///
    /// # Errors
    /// [`Kind::Invalid`] names the first difference between the schemas.
    pub async fn ensure(&self, table: &str, schema: &Schema) -> Result<()> {
        let wanted = table_schema(schema);
        match self.load(table).await {
            Ok(existing) => self.extend(table, existing, &wanted).await,
            Err(e) if e.kind() == Kind::NotFound => match self.create(table, &wanted).await {
                Ok(()) => Ok(()),
                // Somebody else made it in the meantime.
                Err(first) => match self.load(table).await {
                    Ok(existing) => same_schema(table, &existing, &wanted),
                    Err(_) => Err(first),
                },
            },
            Err(e) => Err(e),
        }
    }

    async fn create(&self, table: &str, schema: &Schema) -> Result<()> {
        let location = self.location(table);
        if let Ok(path) = location.to_file_path() {
            std::fs::create_dir_all(&path).map_err(|e| Error::io("make", &path, e))?;
        }
        let fields = StructType::try_from_arrow(schema).map_err(|e| {
            Error::caused(
                Kind::Invalid,
                format!("table `{table}` cannot have these columns"),
                e,
            )
        })?;
        let mut create = CreateBuilder::new();
        // Every commit reads what the log says of all files: of keys and times, by which
        // files are skipped, and not of features, by which they are not.
        let is_time = |field: &Arc<Field>| field.name() == snapshot::AVAILABLE_TIME;
        if let Some(last) = schema.fields().iter().position(is_time) {
            let property = TableProperty::DataSkippingNumIndexedCols;
            create = create.with_configuration_property(property, Some((last + 1).to_string()));
        }
        create
            .with_location(location)
            .with_table_name(table)
            .with_save_mode(SaveMode::ErrorIfExists)
            .with_columns(fields.fields().cloned())
            // Every version can be read as long as its files are there.
            .with_configuration_property(TableProperty::EnableExpiredLogCleanup, Some("false"))
            .await
            .map_err(|e| failed("make", table, e))?;
        Ok(())
    }

    /// Adds the columns that a table lacks.
    async fn extend(&self, table: &str, existing: DeltaTable, wanted: &Schema) -> Result<()> {
        let present = arrow_schema(table, &existing)?.fields().len();
        let added: Vec<_> = wanted.fields().iter().skip(present).cloned().collect();
        if added.is_empty() || added.iter().any(|field| !field.is_nullable()) {
            return same_schema(table, &existing, wanted);
        }
        let kept: Vec<_> = wanted.fields().iter().take(present).cloned().collect();
        same_schema(table, &existing, &Schema::new(kept))?;
        let fields = StructType::try_from_arrow(&Schema::new(added)).map_err(|e| {
            Error::caused(
                Kind::Invalid,
                format!("table `{table}` cannot have these columns"),
                e,
            )
        })?;
        let fields: Vec<_> = fields.fields().cloned().collect();
        existing
            .add_columns()
            .with_fields(fields)
            .await
            .map_err(|e| failed("extend", table, e))?;
        Ok(())
    }

    async fn load(&self, table: &str) -> Result<DeltaTable> {
        let location = self.location(table);
        if let Ok(path) = location.to_file_path()
            && !path.is_dir()
        {
            return Err(no_table(table));
        }
        let seen = self.seen().get(table).cloned();
        let loaded = match followed(seen).await {
            Some(known) => known,
            None if !self.is_in_bucket(table).await? => return Err(no_table(table)),
            None => DeltaTableBuilder::from_url(location)
                .map_err(|e| failed("open", table, e))?
                .load()
                .await
                .map_err(|e| failed("open", table, e))?,
        };
        self.seen().insert(table.to_owned(), loaded.clone());
        Ok(loaded)
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<String, DeltaTable>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts writing the data files of a piece of work below `folder` (a
    /// relative path). Nothing of it is visible before it is committed.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is no such table.
    pub async fn writer(&self, table: &str, folder: &str) -> Result<TableWriter> {
        Self::writer_of(table, self.load(table).await?, folder)
    }

    fn writer_of(table: &str, delta: DeltaTable, folder: &str) -> Result<TableWriter> {
        let schema = arrow_schema(table, &delta)?;
        let store = PrefixStore::new(delta.log_store().object_store(None), folder);
        let zstd = Compression::ZSTD(ZstdLevel::try_new(1).expect("1 is a level of zstd"));
        let mut properties = WriterProperties::builder()
            .set_compression(zstd)
            .set_dictionary_page_size_limit(DICTIONARY_BYTES)
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_created_by(concat!("wafer ", env!("CARGO_PKG_VERSION")).to_owned());
        // Zstandard makes measured numbers hardly smaller, and twice as slow to read.
        for field in schema
            .fields()
            .iter()
            .filter(|f| f.data_type().is_floating())
        {
            let column = ColumnPath::from(field.name().as_str());
            properties = properties.set_column_compression(column, Compression::SNAPPY);
        }
        let properties = properties.build();
        let indexed = delta
            .snapshot()
            .map_err(|e| failed("read", table, e))?
            .snapshot()
            .table_configuration()
            .table_properties()
            .num_indexed_cols();
        let config = WriterConfig::new(
            Arc::clone(&schema),
            Vec::new(),
            Some(properties),
            Some(TARGET_FILE_BYTES),
            None,
            indexed,
            None,
        );
        Ok(TableWriter {
            table: table.to_owned(),
            folder: folder.to_owned(),
            schema,
            inner: DeltaWriter::new(Arc::new(store), config),
            delta,
        })
    }

    /// The last version of a piece of work that the table has, if any.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is no such table.
    pub async fn txn_version(&self, table: &str, app_id: &str) -> Result<Option<i64>> {
        txn_version(table, &self.load(table).await?, app_id).await
    }

    /// Version, files, bytes and rows of a table.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is no such table.
    pub async fn info(&self, table: &str) -> Result<TableInfo> {
        let delta = self.load(table).await?;
        let state = delta.snapshot().map_err(|e| failed("read", table, e))?;
        let mut info = TableInfo {
            version: delta.version().unwrap_or(0),
            files: 0,
            bytes: 0,
            rows: 0,
        };
        for file in state.log_data().iter() {
            info.files += 1;
            info.bytes += u64::try_from(file.size()).unwrap_or(0);
            info.rows += file.num_records().unwrap_or(0) as u64;
        }
        Ok(info)
    }
}

impl fmt::Display for OfflineTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Delta tables below {}", self.root)
    }
}

/// Writes the data files of one piece of work, then commits them at once.
#[must_use = "rows are visible only after `commit`"]
pub struct TableWriter {
    table: String,
    folder: String,
    schema: SchemaRef,
    inner: DeltaWriter,
    delta: DeltaTable,
}

impl fmt::Debug for TableWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableWriter")
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

impl TableWriter {
    /// Writes some rows; their columns must be the table's, in order.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] when the disk is full.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let columns = batch
            .columns()
            .iter()
            .zip(self.schema.fields())
            .map(|(column, field)| as_table_column(column, field.data_type()))
            .collect();
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(|e| {
            Error::caused(
                Kind::Invalid,
                format!("rows do not fit table `{}`", self.table),
                e,
            )
        })?;
        self.inner
            .write(&batch)
            .await
            .map_err(|e| failed("write to", &self.table, e))
    }

    /// Commits everything written, with its identity, in one new version of the
    /// table. `replaces` names a folder whose files it takes the place of.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when the table changed in a way that this commit
    /// cannot follow, such as a commit of the same identity at the same time.
    pub async fn commit(self, txn: &Txn, replaces: Option<&str>) -> Result<Commit> {
        let delta = self.delta.clone();
        self.finish().await?.commit(delta, txn, replaces).await
    }

    /// Closes the files, and leaves it to another process to commit them.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] when the disk is full.
    pub async fn finish(self) -> Result<WrittenFiles> {
        let Self {
            table,
            folder,
            inner,
            ..
        } = self;
        let closed = inner.close().await;
        let files = closed.map_err(|e| failed("write to", &table, e))?;
        Ok(WrittenFiles::new(table, &folder, files))
    }

    /// Gives the work up; its data files are removed as far as they are open.
    ///
    /// # Errors
    /// Those of the object store.
    pub async fn abort(self) -> Result<()> {
        self.inner
            .abort()
            .await
            .map_err(|e| failed("clean", &self.table, e))
    }
}

/// A table that was seen before, as it is now; none when its log cannot be
/// followed, as when it is another one by now.
async fn followed(seen: Option<DeltaTable>) -> Option<DeltaTable> {
    let mut table = seen?;
    table.update_state().await.ok()?;
    Some(table)
}

/// Makes a new version of a table, right after the one that was read: files first, so that they are there when the
/// log names them. Old log entries are kept, so that every version can be read as
/// long as its files are there.
async fn commit_actions(
    table: &str,
    delta: &DeltaTable,
    actions: Vec<Action>,
    txn: Option<&Txn>,
    operation: DeltaOperation,
) -> Result<u64> {
    let root = delta.table_url().to_file_path().ok();
    let files = actions.iter().filter_map(|action| match action {
        Action::Add(add) => Some(add.path.clone()),
        _ => None,
    });
    sync(root.as_deref(), files)?;
    let state = delta.snapshot().map_err(|e| failed("read", table, e))?;
    let identity = txn.map(|txn| Transaction::new(&txn.app_id, txn.version));
    let properties = CommitProperties::default()
        .with_application_transactions(identity.into_iter().collect())
        // A commit that was made for one version is not put on top of another one:
        // the files that it removes may have been merged or replaced meanwhile.
        .with_max_retries(0)
        .with_cleanup_expired_logs(Some(false));
    let done = CommitBuilder::from(properties)
        .with_actions(actions)
        .build(Some(state), delta.log_store(), operation)
        .await
        .map_err(|e| failed("commit to", table, e))?;
    sync(
        root.as_deref(),
        [format!("_delta_log/{:020}.json", done.version())],
    )?;
    Ok(done.version())
}

async fn txn_version(table: &str, delta: &DeltaTable, app_id: &str) -> Result<Option<i64>> {
    let state = delta.snapshot().map_err(|e| failed("read", table, e))?;
    let log = delta.log_store();
    state
        .transaction_version(log.as_ref(), app_id)
        .await
        .map_err(|e| failed("read", table, e))
}

fn arrow_schema(table: &str, delta: &DeltaTable) -> Result<SchemaRef> {
    let state = delta.snapshot().map_err(|e| failed("read", table, e))?;
    Ok(state.snapshot().arrow_schema())
}

/// The schema of a table that holds columns of `schema`: Delta has no lists of a
/// fixed length.
fn table_schema(schema: &Schema) -> Schema {
    let fields: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| match field.data_type() {
            ArrowType::FixedSizeList(item, _) => Field::new(
                field.name(),
                ArrowType::List(Arc::clone(item)),
                field.is_nullable(),
            ),
            _ => field.as_ref().clone(),
        })
        .collect();
    Schema::new(fields)
}

fn as_table_column(column: &arrow_array::ArrayRef, wanted: &ArrowType) -> arrow_array::ArrayRef {
    use arrow_array::Array as _;
    use arrow_array::cast::AsArray as _;
    match (column.data_type(), wanted) {
        (ArrowType::FixedSizeList(_, n), ArrowType::List(item)) => {
            let vectors = column.as_fixed_size_list();
            let length = usize::try_from(*n).expect("a length is not negative");
            let offsets = arrow_buffer::OffsetBuffer::from_repeated_length(length, vectors.len());
            let values = Arc::clone(vectors.values());
            let nulls = vectors.nulls().cloned();
            Arc::new(arrow_array::ListArray::new(
                Arc::clone(item),
                offsets,
                values,
                nulls,
            ))
        }
        _ => Arc::clone(column),
    }
}

fn same_schema(table: &str, existing: &DeltaTable, wanted: &Schema) -> Result<()> {
    let found = arrow_schema(table, existing)?;
    let names = |schema: &Schema| -> Vec<(String, ArrowType)> {
        schema
            .fields()
            .iter()
            .map(|f| (f.name().clone(), f.data_type().clone()))
            .collect()
    };
    let (found, wanted) = (names(&found), names(wanted));
    if found == wanted {
        return Ok(());
    }
    let text = |field: Option<&(String, ArrowType)>| {
        field.map_or("no column".to_owned(), |(name, data_type)| {
            format!("`{name}` {data_type}")
        })
    };
    let place = (0..)
        .find(|i| found.get(*i) != wanted.get(*i))
        .expect("they differ");
    let message = format!(
        "table `{table}` has {} where the definition has {}; give the feature group a new version",
        text(found.get(place)),
        text(wanted.get(place)),
    );
    Err(Error::new(Kind::Invalid, message))
}

fn failed(action: &str, table: &str, error: DeltaTableError) -> Error {
    let kind = match &error {
        DeltaTableError::NotATable(_) => Kind::NotFound,
        DeltaTableError::VersionAlreadyExists(_)
        | DeltaTableError::Transaction {
            source: TransactionError::CommitConflict(_) | TransactionError::MaxCommitAttempts(_),
        } => Kind::Conflict,
        DeltaTableError::InvalidJsonLog { .. } | DeltaTableError::InvalidStatsJson { .. } => {
            Kind::Corrupt
        }
        _ if is_disk_full(&error) => Kind::Unavailable,
        _ => Kind::Internal,
    };
    Error::caused(kind, format!("cannot {action} table `{table}`"), error)
}

fn no_table(table: &str) -> Error {
    Error::new(Kind::NotFound, format!("there is no table `{table}`"))
}

/// Makes files below a folder of this machine survive a power cut: who commits
/// may forget its own copy of the rows. Other stores do so by themselves.
fn sync(root: Option<&Path>, files: impl IntoIterator<Item = String>) -> Result<()> {
    let Some(root) = root else { return Ok(()) };
    let mut folders = BTreeSet::from([root.to_owned()]);
    let sync = |path: &Path| {
        let synced = std::fs::File::open(path).and_then(|file| file.sync_all());
        synced.map_err(|e| Error::io("make durable", path, e))
    };
    for file in files {
        let path = root.join(file);
        sync(&path)?;
        let above = path
            .ancestors()
            .skip(1)
            .take_while(|folder| folder.starts_with(root));
        folders.extend(above.map(Path::to_owned));
    }
    folders.iter().try_for_each(|folder| sync(folder))
}

fn is_disk_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::StorageFull
        {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests;
