//! The offline tables: all rows of the feature groups, as Delta tables of Parquet files.
//!
//! A table is a folder that any Delta Lake reader can open without Wafer. Commits carry a
//! [`Txn`], which makes them idempotent: committing the same work twice has no further effect.
//! The data files of a piece of work are below a folder of their own, so that the work can be
//! replaced as a whole:
//!
//! | work | data files below | identity of the commits |
//! | --- | --- | --- |
//! | a run over an interval | `runs/INTERVAL/GENERATION` | `wafer/runs/INTERVAL`, with the generation |
//! | a flush of the outbox | `events/NUMBER` | `wafer/outbox/STORE`, with the last sequence number |
//!
//! Format: <https://github.com/delta-io/delta/blob/master/PROTOCOL.md>

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_array::{RecordBatch, new_null_array};
use arrow_schema::{ArrowError, DataType as ArrowType, Field, Schema, SchemaRef};
use deltalake::datafile::writer::{DeltaWriter, WriterConfig};
use deltalake::kernel::engine::arrow_conversion::TryFromArrow as _;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties, TransactionError};
use deltalake::kernel::{Action, StructType, Transaction};
use deltalake::operations::create::CreateBuilder;
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::table::builder::DeltaTableBuilder;
use deltalake::table::config::{TablePropertiesExt as _, TableProperty};
use deltalake::{DeltaTable, DeltaTableError};
use futures::future::BoxFuture;
use object_store::ObjectStore;
use object_store::prefix::PrefixStore;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use url::Url;

use self::library::LibraryError;
use crate::private::make_private_folder;
use crate::{Error, Kind, Result};

mod changes;
mod library;
mod maintain;
mod objects;
mod outside;
mod private_files;
mod snapshot;
mod written;

pub use changes::TableChange;
pub use maintain::Compaction;
pub use snapshot::{AsOf, DataFile, Share, TableSnapshot};
pub use written::WrittenFiles;

/// Size at which a data file is closed and the next one is started.
const TARGET_FILE_BYTES: NonZeroU64 = NonZeroU64::new(128 << 20).expect("not zero");
/// Rows per Parquet row group; bounds the memory of a writer.
const ROW_GROUP_ROWS: usize = 65_536;
/// Maximum size of a Parquet dictionary page. A larger dictionary means that most values of the
/// row group are distinct, and those are smaller and faster to read without a dictionary.
const DICTIONARY_BYTES: usize = 64 << 10;

/// The column with the order of arrival of a row among those of its creation time. Tables that were
/// made before it was kept get it with their next rows, as their last column; it is null in the
/// rows that they had.
pub const ARRIVAL_ORDER: &str = "arrival_order";
/// The column with the identity of the event that a row comes from.
const EVENT_ID: &str = "event_id";

/// Identity of a piece of work, recorded with its commit as a Delta application transaction.
///
/// Committing the same version again, or an older one, changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txn {
    /// Identifies the series of work, such as the runs of one interval.
    pub app_id: String,
    /// Version of the work; rises with each new piece of the series.
    pub version: i64,
    /// Which version of this series the table must have for the commit to succeed.
    pub follows: Follows,
}

/// The condition on the last version of a series of work in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// Any earlier version, or none.
    Anything,
    /// Exactly this version, or none for `None`. For work that continues from that version.
    Exactly(Option<i64>),
}

/// The outcome of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// The table has a new version with the rows.
    Committed,
    /// The table already had this version of the work, or a later one; nothing was changed.
    Already,
}

/// Version and size of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableInfo {
    /// Version of the table.
    pub version: u64,
    /// Number of live data files.
    pub files: usize,
    /// Total size of the live data files in bytes.
    pub bytes: u64,
    /// Number of rows in the live data files, according to their statistics.
    pub rows: u64,
}

/// The Delta tables below one location. Clones share a cache of table states.
#[derive(Clone, Debug)]
pub struct OfflineTables {
    root: Url,
    /// The last known state of each table, so that only new log entries have to be read.
    seen: Arc<Mutex<HashMap<String, DeltaTable>>>,
    /// The object store of the whole bucket; `None` for tables in a local folder.
    bucket: Option<Arc<dyn ObjectStore>>,
}

impl OfflineTables {
    /// Opens the tables in a local folder, such as `file:///data/offline/`.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when `root` is not a `file://` URL.
    pub fn open(root: Url) -> Result<Self> {
        if root.scheme() != "file" {
            let message =
                format!("offline tables at `{root}`: write the URL of a folder, file://…");
            return Err(Error::new(Kind::Invalid, message));
        }
        if let Ok(folder) = root.to_file_path() {
            private_files::keep_private(folder);
        }
        Ok(Self::below(root))
    }

    /// Opens the tables in a local folder, creating it if it does not exist.
    ///
    /// # Errors
    /// Fails when the folder cannot be created.
    pub fn in_folder(folder: &Path) -> Result<Self> {
        make_private_folder(folder).map_err(|e| Error::io("make", folder, e))?;
        let folder = folder
            .canonicalize()
            .map_err(|e| Error::io("find", folder, e))?;
        let url = Url::from_directory_path(&folder);
        let named = |()| Error::invalid(format!("{} is not a path of a URL", folder.display()));
        Self::open(url.map_err(named)?)
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

    /// Returns the URL of a table.
    pub fn location(&self, table: &str) -> Url {
        self.root
            .join(table)
            .expect("a table's name is a plain path segment")
    }

    /// Creates a table if it does not exist, and adds nullable columns of `schema` that an
    /// existing table lacks at its end.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when the schemas differ in any other way; the message names
    /// the first difference.
    pub async fn ensure(&self, table: &str, schema: &Schema) -> Result<()> {
        let wanted = table_schema(schema);
        match self.load(table).await {
            Ok(existing) => self.extend(table, existing, &wanted).await,
            Err(e) if e.kind() == Kind::NotFound => match self.create(table, &wanted).await {
                Ok(()) => Ok(()),
                // Another process may have created it in the meantime.
                Err(first) => match self.load(table).await {
                    Ok(existing) => same_schema(table, &existing, &wanted),
                    Err(_) => Err(first),
                },
            },
            Err(e) => Err(e),
        }
    }

    /// Checks that a table has the columns of `schema`, if it exists.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when it has others; the message names the first difference.
    pub async fn check(&self, table: &str, schema: &Schema) -> Result<()> {
        match self.load(table).await {
            Ok(existing) => same_schema(table, &existing, &table_schema(schema)),
            Err(e) if e.kind() == Kind::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    }

    async fn create(&self, table: &str, schema: &Schema) -> Result<()> {
        let location = self.location(table);
        if let Ok(path) = location.to_file_path() {
            make_private_folder(&path).map_err(|e| Error::io("make", &path, e))?;
        }
        let fields = StructType::try_from_arrow(schema).map_err(|e| {
            Error::caused(
                Kind::Invalid,
                format!("table `{table}` cannot have these columns"),
                LibraryError::new(&e),
            )
        })?;
        let mut create = CreateBuilder::new();
        // Every commit reads the statistics of all files. Collect them only for the key and
        // time columns, which files are skipped by, and not for the features after them.
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
            // Keep old log entries, so that every version can be read as long as its files
            // exist.
            .with_configuration_property(TableProperty::EnableExpiredLogCleanup, Some("false"))
            .await
            .map_err(|e| failed("make", table, e))?;
        Ok(())
    }

    /// Adds the columns of `wanted` that a table lacks.
    async fn extend(&self, table: &str, existing: DeltaTable, wanted: &Schema) -> Result<()> {
        let present = arrow_schema(table, &existing)?;
        let is_new = |field: &&Arc<Field>| present.field_with_name(field.name()).is_err();
        let added: Vec<_> = wanted.fields().iter().filter(is_new).cloned().collect();
        let can_be_added = added.iter().all(|field| field.is_nullable());
        let is_extended = placed_columns(wanted).starts_with(&placed_columns(&present));
        if added.is_empty() || !can_be_added || !is_extended {
            return same_schema(table, &existing, wanted);
        }
        let Err(first) = self.add_columns(table, existing, added).await else {
            return Ok(());
        };
        // Another process may have added them in the meantime, or this one did, and the answer was
        // lost.
        match self.load(table).await {
            Ok(existing) if same_schema(table, &existing, wanted).is_ok() => Ok(()),
            _ => Err(first),
        }
    }

    fn add_columns<'a>(
        &'a self,
        table: &'a str,
        existing: DeltaTable,
        added: Vec<Arc<Field>>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let fields = StructType::try_from_arrow(&Schema::new(added)).map_err(|e| {
                Error::caused(
                    Kind::Invalid,
                    format!("table `{table}` cannot have these columns"),
                    LibraryError::new(&e),
                )
            })?;
            let fields: Vec<_> = fields.fields().cloned().collect();
            existing
                .add_columns()
                .with_fields(fields)
                .await
                .map_err(|e| failed("extend", table, e))?;
            Ok(())
        })
    }

    /// Opens the newest version of a table. What Delta does for it is boxed, here and below, so
    /// that it is compiled in this crate alone, and not in each crate that awaits it.
    fn load<'a>(&'a self, table: &'a str) -> BoxFuture<'a, Result<DeltaTable>> {
        Box::pin(async move {
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
        })
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<String, DeltaTable>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts writing the data files of a piece of work below `folder`, a path relative to the
    /// table. The rows are not visible before they are committed.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when there is no such table.
    pub async fn writer(&self, table: &str, folder: &str) -> Result<TableWriter> {
        let delta = self.load(table).await?;
        if !lacks_arrival_order(table, &delta)? {
            return Self::writer_of(table, delta, folder);
        }
        let order = Arc::new(Field::new(ARRIVAL_ORDER, ArrowType::Int64, true));
        let added = self.add_columns(table, delta, vec![order]).await;
        let delta = self.load(table).await?;
        // Another process may have added the column first.
        if lacks_arrival_order(table, &delta)? {
            added?;
        }
        Self::writer_of(table, delta, folder)
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
        // Zstandard hardly compresses measured floating-point numbers better than Snappy, and
        // makes them twice as slow to read.
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

    /// Returns the last committed version of the series of work `app_id`, if any.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when there is no such table.
    pub async fn txn_version(&self, table: &str, app_id: &str) -> Result<Option<i64>> {
        txn_version(table, &self.load(table).await?, app_id).await
    }

    /// Returns the version, files, bytes and rows of a table.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when there is no such table.
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

/// Writes the data files of one piece of work, and commits them atomically.
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
    /// Writes rows, whose columns must be those of the table, in any order. The order of arrival
    /// may be missing, and is null then.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when the columns do not fit the table, and
    /// [`Kind::Unavailable`] when the disk is full.
    pub fn write<'a>(&'a mut self, batch: &'a RecordBatch) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if batch.num_rows() == 0 {
                return Ok(());
            }
            let batch = self.arranged(batch).map_err(|e| {
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
        })
    }

    /// Puts the columns of a batch in the order of the table.
    fn arranged(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        if let Some(other) = unknown_column(&batch.schema(), &self.schema) {
            return Err(ArrowError::SchemaError(format!(
                "there is no column `{other}`"
            )));
        }
        let column = |field: &Arc<Field>| match batch.column_by_name(field.name()) {
            Some(column) => as_table_column(column, field.data_type()),
            None if field.name() == ARRIVAL_ORDER => {
                Ok(new_null_array(field.data_type(), batch.num_rows()))
            }
            None => Err(ArrowError::SchemaError(format!(
                "column `{}` is missing",
                field.name()
            ))),
        };
        let columns = self.schema.fields().iter().map(column);
        RecordBatch::try_new(Arc::clone(&self.schema), columns.collect::<Result<_, _>>()?)
    }

    /// Commits all written rows atomically, as one new version of the table that carries the
    /// identity `txn`. `replaces` names a folder whose files are removed in the same version.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when the table does not have the version that
    /// [`Txn::follows`] requires, or when other processes keep committing first.
    pub async fn commit(self, txn: &Txn, replaces: Option<&str>) -> Result<Commit> {
        let delta = self.delta.clone();
        self.finish().await?.commit(delta, txn, replaces).await
    }

    /// Closes the files without committing them, so that another process can do that.
    ///
    /// # Errors
    /// Returns [`Kind::Unavailable`] when the disk is full.
    pub fn finish(self) -> BoxFuture<'static, Result<WrittenFiles>> {
        Box::pin(async move {
            let Self {
                table,
                folder,
                inner,
                ..
            } = self;
            let closed = inner.close().await;
            let files = closed.map_err(|e| failed("write to", &table, e))?;
            Ok(WrittenFiles::new(table, &folder, files))
        })
    }

    /// Abandons the work, and discards the data file that is still open. Files that were already
    /// closed are left to [`vacuum`](OfflineTables::vacuum).
    ///
    /// # Errors
    /// Returns the errors of the object store.
    pub async fn abort(self) -> Result<()> {
        self.inner
            .abort()
            .await
            .map_err(|e| failed("clean", &self.table, e))
    }
}

/// Updates the last known state of a table. Returns `None` if that fails, for example because the
/// table was deleted and created anew.
async fn followed(seen: Option<DeltaTable>) -> Option<DeltaTable> {
    let mut table = seen?;
    table.update_state().await.ok()?;
    Some(table)
}

/// Commits actions as the version right after the one that was read, and returns its number.
///
/// Data files are made durable before the log entry that names them.
fn commit_actions<'a>(
    table: &'a str,
    delta: &'a DeltaTable,
    actions: Vec<Action>,
    txn: Option<&'a Txn>,
    operation: DeltaOperation,
) -> BoxFuture<'a, Result<u64>> {
    Box::pin(async move {
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
            // Do not retry on top of another version: the files that this commit removes may have
            // been merged or replaced in the meantime.
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
    })
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

/// Converts a schema to that of its table. Delta has no fixed-size lists, so they become lists.
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

/// Converts a column to the type that the table has for it; see [`table_schema`].
fn as_table_column(
    column: &arrow_array::ArrayRef,
    wanted: &ArrowType,
) -> Result<arrow_array::ArrayRef, ArrowError> {
    use arrow_array::Array as _;
    use arrow_array::cast::AsArray as _;
    match (column.data_type(), wanted) {
        (ArrowType::FixedSizeList(own, n), ArrowType::List(item)) => {
            let vectors = column.as_fixed_size_list();
            let length = usize::try_from(*n).expect("a length is not negative");
            let offsets = arrow_buffer::OffsetBuffer::from_repeated_length(length, vectors.len());
            let values = match own.is_nullable() {
                true => Arc::clone(vectors.values()),
                // The items of a vector that is null may be null. A list may not have such items,
                // although nobody reads them.
                false => {
                    let data = vectors.values().to_data().into_builder().nulls(None);
                    arrow_array::make_array(data.build()?)
                }
            };
            let nulls = vectors.nulls().cloned();
            let lists = arrow_array::ListArray::try_new(Arc::clone(item), offsets, values, nulls)?;
            Ok(Arc::new(lists))
        }
        _ => Ok(Arc::clone(column)),
    }
}

/// Returns whether a table of Wafer was made before the order of arrival was kept, and has had no
/// new rows since.
fn lacks_arrival_order(table: &str, delta: &DeltaTable) -> Result<bool> {
    let schema = arrow_schema(table, delta)?;
    let has = |name| schema.field_with_name(name).is_ok();
    Ok(has(EVENT_ID) && has(snapshot::AVAILABLE_TIME) && !has(ARRIVAL_ORDER))
}

/// Returns the first column of a schema that another one lacks.
fn unknown_column<'a>(schema: &'a Schema, known: &Schema) -> Option<&'a String> {
    let mut names = schema.fields().iter().map(|field| field.name());
    names.find(|name| known.field_with_name(name).is_err())
}

/// Returns the names and types of the columns that tables have in the order of their definitions:
/// all but the order of arrival, which older tables have at another place than newer ones.
fn placed_columns(schema: &Schema) -> Vec<(String, ArrowType)> {
    let placed = schema.fields().iter().filter(|f| f.name() != ARRIVAL_ORDER);
    placed
        .map(|f| (f.name().clone(), f.data_type().clone()))
        .collect()
}

fn same_schema(table: &str, existing: &DeltaTable, wanted: &Schema) -> Result<()> {
    let existing = arrow_schema(table, existing)?;
    let found = placed_columns(&existing);
    let wanted = placed_columns(wanted);
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
    let cause = LibraryError::new(&error);
    Error::caused(kind, format!("cannot {action} table `{table}`"), cause)
}

fn no_table(table: &str) -> Error {
    Error::new(Kind::NotFound, format!("there is no table `{table}`"))
}

/// Syncs files and their folders below the local folder `root` to disk, because the caller may
/// discard its own copy of the rows after the commit. Does nothing without `root`: object stores
/// are durable by themselves.
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
