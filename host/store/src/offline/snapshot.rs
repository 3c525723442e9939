//! Snapshots: one version of a table, its data files, and reading selected columns and row groups
//! from them.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, new_null_array};
use arrow_schema::{DataType as ArrowType, Field, SchemaRef};
use deltalake::DeltaTable;
use deltalake::table::builder::DeltaTableBuilder;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use object_store::{ObjectStore, path::Path};
use parquet::arrow::ProjectionMask;
#[allow(
    deprecated,
    reason = "deltalake reads its files by it as well; both change together"
)]
use parquet::arrow::async_reader::ParquetObjectReader;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::statistics::Statistics;
use serde_json::Value as Json;
use wafer_core::rules::Interval;
use wafer_core::{Duration, Timestamp};

use super::library::LibraryError;
use super::outside::Outside;
use super::{ARRIVAL_ORDER, OfflineTables, arrow_schema, failed};
use crate::{Error, Kind, Result};

/// Rows per batch that is read.
const BATCH_ROWS: usize = 8_192;
/// The event time column, whose statistics decide which files and row groups are skipped.
const EVENT_TIME: &str = "event_timestamp";
/// The column with the time from which on a row was visible to requests.
pub(super) const AVAILABLE_TIME: &str = "available_timestamp";

/// The column with the time when a row was claimed for writing.
const CREATED_TIME: &str = "created_timestamp";
/// The number of files whose metadata is read concurrently.
const CONCURRENT_FOOTERS: usize = 16;

/// When the first row of a file came in: the time of its creation, and the least order of arrival,
/// if rows were stored with one. In a file with rows of several times of creation, which only
/// compaction makes, the order may be that of another row.
type FirstArrival = (i64, Option<i64>);

/// Selects a version of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsOf {
    /// The newest version.
    Latest,
    /// The version of this number.
    Version(u64),
    /// The version that was the newest at this time, by the clock of the machine that
    /// committed it.
    Time(Timestamp),
}

/// A live data file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFile {
    /// Path relative to the table.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Number of rows, if known from statistics.
    pub rows: Option<u64>,
    /// Bounds of the event times (both inclusive), if known from statistics.
    pub events: Option<(Timestamp, Timestamp)>,
    /// Bounds of the times from which on rows were visible (both inclusive), if known from
    /// statistics.
    pub available: Option<(Timestamp, Timestamp)>,
}

impl DataFile {
    /// Creates a file with its statistics, which are JSON as in the table's log.
    pub(super) fn new(path: String, bytes: i64, rows: Option<usize>, stats: Option<&str>) -> Self {
        let stats: Json = stats
            .and_then(|stats| serde_json::from_str(stats).ok())
            .unwrap_or_default();
        Self {
            path,
            bytes: u64::try_from(bytes).unwrap_or(0),
            rows: rows.map(|rows| rows as u64),
            events: times(&stats, EVENT_TIME),
            available: times(&stats, AVAILABLE_TIME),
        }
    }

    /// Creates a file of which only the path is known.
    pub(super) fn unknown(path: String) -> Self {
        Self::new(path, 0, None, None)
    }

    /// Returns whether the file may have rows with an event time in an interval.
    pub fn overlaps(&self, interval: Interval) -> bool {
        may_overlap(self.events, interval)
    }

    /// Returns whether the file may have rows that became visible in an interval.
    pub fn became_available_in(&self, interval: Interval) -> bool {
        may_overlap(self.available, interval)
    }
}

fn may_overlap(times: Option<(Timestamp, Timestamp)>, interval: Interval) -> bool {
    // The last instant of all does not lie before any other.
    interval == Interval::ALL
        || times.is_none_or(|(first, last)| first < interval.to && interval.from <= last)
}

/// One of several shares of a file's row groups, of about the same size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Index of the share, from 0.
    pub number: usize,
    /// Number of shares that the file is divided into.
    pub of: usize,
}

impl Share {
    /// The whole file.
    pub const ALL: Self = Self { number: 0, of: 1 };

    fn has(self, group: usize, groups: usize) -> bool {
        group * self.of / groups.max(1) == self.number
    }
}

/// A snapshot of one version of a table.
#[derive(Clone)]
pub struct TableSnapshot {
    pub(super) table: String,
    version: u64,
    schema: SchemaRef,
    files: Vec<DataFile>,
    store: Arc<dyn ObjectStore>,
    pub(super) tables: OfflineTables,
    /// What is known of a table that others write; `None` for a table of Wafer.
    pub(super) outside: Option<Arc<Outside>>,
}

impl std::fmt::Debug for TableSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableSnapshot")
            .field("table", &self.table)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl OfflineTables {
    /// Opens a version of a table.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when there is no such table or version, or when the table was
    /// created after the requested time.
    pub async fn snapshot(&self, table: &str, as_of: AsOf) -> Result<TableSnapshot> {
        let delta = self.load_as_of(table, as_of).await?;
        TableSnapshot::new(self, table, &delta, None)
    }

    pub(super) async fn load_as_of(&self, table: &str, as_of: AsOf) -> Result<DeltaTable> {
        match as_of {
            AsOf::Latest => self.load(table).await,
            AsOf::Version(version) => self.load_version(table, version).await,
            AsOf::Time(time) => {
                let latest = self.load(table).await?;
                let version = version_at(table, &latest, time).await?;
                self.load_version(table, version).await
            }
        }
    }

    fn load_version<'a>(
        &'a self,
        table: &'a str,
        version: u64,
    ) -> BoxFuture<'a, Result<DeltaTable>> {
        Box::pin(async move {
            DeltaTableBuilder::from_url(self.location(table))
                .map_err(|e| failed("open", table, e))?
                .with_version(version)
                .load()
                .await
                .map_err(|e| {
                    Error::caused(
                        Kind::NotFound,
                        format!("version {version} of table `{table}` cannot be read"),
                        LibraryError::new(&e),
                    )
                })
        })
    }
}

/// Returns the newest version that existed at `time`.
async fn version_at(table: &str, delta: &DeltaTable, time: Timestamp) -> Result<u64> {
    let mut version = delta.version().unwrap_or(0);
    let mut history = delta.history(None);
    while let Some(info) = history
        .try_next()
        .await
        .map_err(|e| failed("read the history of", table, e))?
    {
        let millis = info.in_commit_timestamp.or(info.timestamp).unwrap_or(0);
        if millis.saturating_mul(1_000) <= time.as_micros() {
            return Ok(version);
        }
        match version.checked_sub(1) {
            Some(before) => version = before,
            None => break,
        }
    }
    let message = format!(
        "table `{table}` was not there at {time}: that is the machine's time when something was \
         written, not a time of rows"
    );
    Err(Error::new(Kind::NotFound, message))
}

impl TableSnapshot {
    pub(super) fn new(
        tables: &OfflineTables,
        table: &str,
        delta: &DeltaTable,
        outside: Option<Arc<Outside>>,
    ) -> Result<Self> {
        let state = delta.snapshot().map_err(|e| failed("read", table, e))?;
        let data = state.log_data();
        let files = data.iter().map(|file| {
            let (path, stats) = (file.path().into_owned(), file.stats());
            // Columns of the names of Wafer's times mean something else in tables of others.
            let stats = stats.filter(|_| outside.is_none());
            DataFile::new(path, file.size(), file.num_records(), stats.as_deref())
        });
        let mut files: Vec<DataFile> = files.collect();
        // The log lists them in another order after each checkpoint.
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self {
            table: table.to_owned(),
            version: delta.version().unwrap_or(0),
            files,
            schema: arrow_schema(table, delta)?,
            store: delta.log_store().object_store(None),
            tables: tables.clone(),
            outside,
        })
    }

    /// Name of the table.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Version number of the snapshot.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Arrow schema of the table.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The live data files, in the order of their paths.
    pub fn files(&self) -> &[DataFile] {
        &self.files
    }

    /// Returns the live data files below a folder.
    pub fn files_below(&self, folder: &str) -> Vec<DataFile> {
        let prefix = format!("{folder}/");
        let below = self.files.iter().filter(|f| f.path.starts_with(&prefix));
        below.cloned().collect()
    }

    /// Reads the given columns of one file, in the given order.
    ///
    /// Row groups without an event time in `interval` are skipped. Rows are not filtered: a row
    /// group that is read may have rows outside of `interval`. A column that was added to the
    /// table after the file was written is null, and so is the order of arrival in a table without
    /// it.
    ///
    /// # Errors
    /// Returns [`Kind::Corrupt`] when the file is missing or damaged; the message names it.
    pub async fn read(
        &self,
        file: &DataFile,
        columns: &[String],
        interval: Interval,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        self.read_share(file, columns, interval, Share::ALL).await
    }

    /// Returns what makes an error of a file that cannot be read.
    fn damaged(
        &self,
        file: &DataFile,
    ) -> impl Fn(Box<dyn std::error::Error + Send + Sync>) -> Error + Send + use<> {
        let (table, path) = (self.table.clone(), file.path.clone());
        move |e| {
            let message = format!(
                "file {path} of table `{table}` cannot be read: it is damaged or gone. Of the newest \
                 version, run its interval again or restore the file; of an older one, it was removed \
                 when the table was compacted (`--horizon` says what is kept)"
            );
            Error::caused(Kind::Corrupt, message, LibraryError::new(&*e))
        }
    }

    /// Opens a data file and reads its metadata.
    #[allow(deprecated, reason = "see the import of the reader")]
    async fn open(
        &self,
        file: &DataFile,
    ) -> Result<ParquetRecordBatchStreamBuilder<ParquetObjectReader>> {
        let path = Path::parse(&file.path).map_err(|e| {
            let message = format!("file {} of table `{}`", file.path, self.table);
            Error::caused(Kind::Corrupt, message, LibraryError::new(&e))
        })?;
        let reader = ParquetObjectReader::new(Arc::clone(&self.store), path);
        let opened = ParquetRecordBatchStreamBuilder::new(reader.with_file_size(file.bytes));
        let opened = AssertUnwindSafe(opened).catch_unwind().await;
        survived(opened).map_err(self.damaged(file))
    }

    /// Reads one share of a file's row groups, like [`read`](Self::read). The shares of a file
    /// can be read in parallel.
    ///
    /// # Errors
    /// Returns the errors of [`read`](Self::read).
    pub async fn read_share(
        &self,
        file: &DataFile,
        columns: &[String],
        interval: Interval,
        share: Share,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let damaged = self.damaged(file);
        let builder = self.open(file).await?;
        let present: Vec<&str> = builder
            .schema()
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .collect();
        let wanted = columns.iter().filter(|c| present.contains(&c.as_str()));
        let roots = wanted.filter_map(|c| present.iter().position(|name| name == c));
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
        let groups = builder.metadata().row_groups();
        let count = groups.len();
        let groups = groups.iter().enumerate();
        let groups = groups
            .filter(|(index, group)| share.has(*index, count) && group_overlaps(group, interval));
        let groups: Vec<usize> = groups.map(|(index, _)| index).collect();
        let batches = builder
            .with_projection(mask)
            .with_row_groups(groups)
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(|e| damaged(e.into()))?;
        let fields: Vec<_> = columns
            .iter()
            .map(|name| match self.schema.field_with_name(name) {
                Ok(field) => Ok(field.clone()),
                Err(_) if name == ARRIVAL_ORDER => Ok(Field::new(name, ArrowType::Int64, true)),
                Err(e) => {
                    let message = format!("table `{}` has no column `{name}`", self.table);
                    Err(Error::caused(Kind::Invalid, message, e))
                }
            })
            .collect::<Result<_>>()?;
        let schema = Arc::new(arrow_schema::Schema::new(fields));
        let arranged = AssertUnwindSafe(batches)
            .catch_unwind()
            .map(move |batch| survived(batch).map_err(&damaged))
            .and_then(move |batch| std::future::ready(Ok(arrange(&schema, &batch))));
        Ok(arranged.boxed())
    }

    /// Puts files in the order in which their first rows came in, according to the statistics in
    /// the files: by the time of creation, then by the order of arrival, then by their paths, which
    /// say nothing of time once a file was rewritten. The files of a table that others write are
    /// put in the order in which they were written.
    ///
    /// # Errors
    /// Returns [`Kind::Corrupt`] when a file is missing or damaged; the message names it.
    pub async fn in_order_of_creation(&self, mut files: Vec<DataFile>) -> Result<Vec<DataFile>> {
        if let Some(outside) = &self.outside {
            Self::in_order_of_writing(outside, &mut files);
            return Ok(files);
        }
        let arrivals: Vec<_> = files.iter().map(|file| self.first_arrival(file)).collect();
        let arrivals: Vec<Option<FirstArrival>> = futures::stream::iter(arrivals)
            .buffered(CONCURRENT_FOOTERS)
            .try_collect()
            .await?;
        let mut ordered: Vec<_> = arrivals.into_iter().zip(files).collect();
        ordered.sort_by(|(a, x), (b, y)| (a, &x.path).cmp(&(b, &y.path)));
        Ok(ordered.into_iter().map(|(_, file)| file).collect())
    }

    /// Returns when the first row of a file came in, if the file has statistics of that.
    async fn first_arrival(&self, file: &DataFile) -> Result<Option<FirstArrival>> {
        let builder = self.open(file).await?;
        let groups = builder.metadata().row_groups().iter();
        let arrivals = groups.filter_map(|group| {
            let (created, _) = bounds(group, CREATED_TIME)?;
            let order = bounds(group, ARRIVAL_ORDER).map(|(first, _)| first);
            Some((created, order))
        });
        Ok(arrivals.min())
    }

    /// Reads all rows of some files, one file after the other, like [`read`](Self::read).
    pub fn read_all(
        &self,
        files: Vec<DataFile>,
        columns: Vec<String>,
        interval: Interval,
    ) -> BoxStream<'static, Result<RecordBatch>> {
        let snapshot = self.clone();
        futures::stream::iter(files)
            .then(move |file| {
                let (snapshot, columns) = (snapshot.clone(), columns.clone());
                async move { snapshot.read(&file, &columns, interval).await }
            })
            .try_flatten()
            .boxed()
    }

    /// Reads all rows of the table, in no particular order. Vectors are lists, as the table
    /// stores them.
    pub fn rows(&self) -> BoxStream<'static, Result<RecordBatch>> {
        self.read_all(self.files.clone(), self.columns(), Interval::ALL)
    }

    /// Names of all columns.
    pub fn columns(&self) -> Vec<String> {
        let fields = self.schema.fields().iter();
        fields.map(|field| field.name().clone()).collect()
    }
}

/// Returns the result of the library that reads Parquet. A damaged file may make it panic, which is
/// an error of the file.
fn survived<T>(
    result: std::thread::Result<Result<T, ParquetError>>,
) -> Result<T, Box<dyn std::error::Error + Send + Sync>> {
    match result {
        Ok(result) => Ok(result?),
        Err(_) => Err("its reader panicked; where is in the log".into()),
    }
}

/// Puts the columns of a batch in the order of a schema. Columns that it lacks are null.
fn arrange(schema: &SchemaRef, batch: &RecordBatch) -> RecordBatch {
    let columns: Vec<ArrayRef> = schema
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            Some(column) => Arc::clone(column),
            None => new_null_array(field.data_type(), batch.num_rows()),
        })
        .collect();
    let fields = schema.fields().iter().zip(&columns).map(|(field, column)| {
        let field = field.as_ref().clone().with_nullable(true);
        field.with_data_type(column.data_type().clone())
    });
    let schema = Arc::new(arrow_schema::Schema::new(fields.collect::<Vec<_>>()));
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema, columns, &options)
        .expect("the fields were made for these columns")
}

/// Returns whether a row group may have rows with an event time in an interval, by its
/// statistics.
fn group_overlaps(group: &RowGroupMetaData, interval: Interval) -> bool {
    let times = bounds(group, EVENT_TIME);
    let at = Timestamp::from_micros;
    may_overlap(times.map(|(first, last)| (at(first), at(last))), interval)
}

/// Returns the bounds (both inclusive) of a column of times in a row group, in microseconds since
/// the Unix epoch, if they are known from its statistics.
fn bounds(group: &RowGroupMetaData, name: &str) -> Option<(i64, i64)> {
    let mut columns = group.columns().iter();
    let column = columns.find(|column| column.column_path().string() == name)?;
    let Some(Statistics::Int64(statistics)) = column.statistics() else {
        return None;
    };
    Some((*statistics.min_opt()?, *statistics.max_opt()?))
}

/// Returns the bounds of a time column in a file's statistics. Those are truncated to
/// milliseconds, so the upper bound is rounded up.
fn times(stats: &Json, column: &str) -> Option<(Timestamp, Timestamp)> {
    let time =
        |ends: &str| -> Option<Timestamp> { stats.get(ends)?.get(column)?.as_str()?.parse().ok() };
    Some((
        time("minValues")?,
        time("maxValues")?.plus(Duration::from_micros(999)),
    ))
}
