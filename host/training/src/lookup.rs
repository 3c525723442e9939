//! One lookup of a view, joined with all labels: the newest row of the label's entity, or
//! aggregates over its events, as of the label's time.
//!
//! A join goes through these steps:
//!
//! 1. [`LookupJoin::load_band`] reads a band: as many of the next labels as the memory limit
//!    allows. It numbers the entities of the band and sorts the labels by entity and time.
//! 2. The rows of the table are read once, in pieces, by several workers (`pieces`). They may
//!    come in any order.
//!    - For the newest row (`newest`), workers read only keys and times. Each row is recorded at
//!      the first label that could see it, if it is the newest there
//!      ([`AsOfJoin`](wafer_core::join::AsOfJoin)). In the end, the newest row at or before a
//!      label is the label's row. Only the rows that were found are then read with their
//!      features. Memory therefore depends on the number of labels, and not on the number of rows.
//!    - For aggregates (`windows`), the events must be sorted, so they are held in memory. If they
//!      are too many for the limit, the entities are divided into several parts, and the table
//!      is read once for each part.
//! 3. The features are appended, in the order of the labels, to a [`Spool`], which moves them to
//!    a temporary file when the memory budget is used up (`found`).

pub(crate) mod found;
pub(crate) mod newest;
pub(crate) mod pieces;
pub(crate) mod windows;

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_buffer::ScalarBuffer;
use arrow_schema::{Field as ArrowField, Schema as ArrowSchema};
use futures::future::BoxFuture;
use wafer_catalog::{GroupDef, TableDef, blocking};
use wafer_core::join::SortedLabels;
use wafer_core::rules::{Arrival, Interval, RowVersion};
use wafer_core::{DataType, Duration, EntityIndex, Field, Timestamp};
use wafer_runtime::CHUNK_ROWS;
use wafer_store::{ARRIVAL_ORDER, Error, Result, TableSnapshot};
use wafer_tables::{arrival_orders, order_of, stored_column};

use crate::given_up::GivenUp;
use crate::labels::LabelFile;
use crate::lookup::found::{FoundFeatures, JoinedFeatures, Room};
use crate::spool::{MemoryBudget, Spool};

/// Estimated bytes that a label takes. Each worker needs them once, and the band once more.
const LABEL_BYTES: u64 = 24;

/// What the features of a band may take however little memory there is, in bytes. As with the
/// labels of a band, less would mean to read the table very often.
const LEAST_FEATURE_BYTES: u64 = 16 << 20;

/// Estimated bytes that a label takes in a join of windows.
const WINDOW_LABEL_BYTES: u64 = 60;

/// The join of all labels with one group.
pub(crate) struct LookupJoin {
    pub(crate) labels: LabelFile,
    /// Names of the view's inputs that hold the group's join keys.
    pub(crate) keys: Vec<String>,
    pub(crate) group: GroupDef,
    /// Positions of the wanted features in the group.
    pub(crate) features: Vec<usize>,
    pub(crate) snapshot: TableSnapshot,
    /// Whether the result has a last column `identity`, which identifies the row or the events that
    /// each label found, in the form of the request log.
    pub(crate) identities: bool,
    /// Bytes of memory that the training set may use.
    pub(crate) memory: u64,
    pub(crate) given_up: GivenUp,
    /// The number of threads.
    pub(crate) workers: usize,
}

/// Consecutive labels that are joined together, sorted by entity and time.
pub(crate) struct Band {
    /// The number of the first label in the file.
    pub(crate) first: u64,
    /// Times of the labels in the order of the file.
    pub(crate) times: Vec<Timestamp>,
    /// Numbers the entities of the labels.
    pub(crate) index: EntityIndex,
    pub(crate) sorted: Arc<SortedLabels>,
}

impl Band {
    /// Returns the number of labels.
    pub(crate) fn len(&self) -> usize {
        self.times.len()
    }
}

impl LookupJoin {
    /// Creates the result of the join, which has no features yet. `budget` bounds what it keeps
    /// in memory.
    pub(crate) fn new_result(&self, budget: &Arc<MemoryBudget>) -> JoinedFeatures {
        let fields = self.output_fields();
        let arrow = fields
            .iter()
            .map(|f| ArrowField::new(&f.name, f.data_type.to_arrow(), true));
        JoinedFeatures {
            schema: Arc::new(ArrowSchema::new(arrow.collect::<Vec<_>>())),
            spool: Spool::new(Arc::clone(budget)),
            coincident: 0,
        }
    }

    /// Returns the number of labels that fit into the memory limit at a time.
    pub(crate) fn max_band_rows(&self) -> usize {
        let fields = self.output_fields();
        let width: u64 = fields
            .iter()
            .map(|field| estimated_width(&field.data_type))
            .sum();
        // A join of windows also needs memory for events, and makes its answers in batches.
        let each = match self.group.aggregates.is_empty() {
            true => LABEL_BYTES * (self.workers as u64 + 1) + width,
            false => WINDOW_LABEL_BYTES + 2 * width,
        };
        // The band takes 55 % of the memory. Most of the rest holds features that wait to be
        // written.
        let rows = usize::try_from(self.memory / 20 * 11 / each).unwrap_or(usize::MAX);
        rows.max(CHUNK_ROWS)
    }

    /// Joins a band and appends its features to `joined`. If they are larger than was estimated,
    /// the band is joined in parts.
    pub(crate) fn add<'a>(
        self: &'a Arc<Self>,
        band: &'a Arc<Band>,
        joined: &'a mut JoinedFeatures,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if band.len() == 0 {
                return Ok(());
            }
            // The parts that are left, the first one last.
            let mut parts = vec![(band.first, band.len())];
            while let Some((first, rows)) = parts.pop() {
                let part = match rows == band.len() {
                    true => Arc::clone(band),
                    false => self.load_band(first, rows).await?,
                };
                let found = match self.group.aggregates.is_empty() {
                    true => self.join_newest(&part).await?,
                    false => self.join_windows(&part).await?,
                };
                match found {
                    Some(found) => self.append(found, joined).await?,
                    None if rows > 1 => {
                        let half = rows / 2;
                        parts.push((first + half as u64, rows - half));
                        parts.push((first, half));
                    }
                    None => return Err(self.too_large(first)),
                }
            }
            Ok(())
        })
    }

    /// Returns the error of a label whose features do not fit into the memory of the join.
    fn too_large(&self, label: u64) -> Error {
        Error::invalid(format!(
            "the features of label {label} take more than {} MiB, which is what the join has for \
             them (option --memory; over HTTP by the size of the labels)",
            self.feature_bytes() >> 20
        ))
    }

    /// Appends the features that were found for some labels.
    async fn append(
        self: &Arc<Self>,
        found: FoundFeatures,
        joined: &mut JoinedFeatures,
    ) -> Result<()> {
        joined.coincident += found.coincident;
        let (join, schema) = (Arc::clone(self), Arc::clone(&joined.schema));
        let spool = joined.spool.take();
        let append = move || found.append_to(&schema, spool, join.workers);
        joined.spool = blocking(append).await??;
        Ok(())
    }

    /// Returns the bytes that the features of a band may take: as many as are estimated for the
    /// widest features, and some more.
    fn feature_bytes(&self) -> u64 {
        (self.memory / 5 * 3).max(LEAST_FEATURE_BYTES)
    }

    /// Returns the room for the features of a band.
    pub(crate) fn feature_room(&self) -> Room {
        Room::new(self.feature_bytes())
    }

    /// Reads and sorts the labels from `start` on, at most `rows` of them.
    pub(crate) async fn load_band(self: &Arc<Self>, start: u64, rows: usize) -> Result<Arc<Band>> {
        let join = Arc::clone(self);
        blocking(move || join.sorted_band(start, rows).map(Arc::new)).await?
    }

    /// Returns the wanted features.
    pub(crate) fn wanted_features(&self) -> Vec<Field> {
        let all = self.group.features();
        self.features
            .iter()
            .map(|index| all[*index].clone())
            .collect()
    }

    /// Returns the columns of the result: the wanted features, and the identity if it was asked
    /// for.
    pub(crate) fn output_fields(&self) -> Vec<Field> {
        let mut fields = self.wanted_features();
        if self.identities {
            fields.push(Field::new("identity", DataType::Utf8, true));
        }
        fields
    }

    pub(crate) fn output_types(&self) -> Vec<DataType> {
        self.output_fields()
            .into_iter()
            .map(|field| field.data_type)
            .collect()
    }

    /// Reads the entities and times of the labels from `start` on, at most `rows` of them.
    fn sorted_band(&self, start: u64, rows: usize) -> Result<Band> {
        let (mut entities, mut times) = (Vec::new(), Vec::new());
        let mut index = EntityIndex::default();
        let columns = self.labels.with_time(&self.keys);
        let mut first = 0;
        for batch in self.labels.projected(&columns)? {
            let mut batch = batch?;
            let number = first;
            first += batch.num_rows() as u64;
            if first <= start {
                continue;
            }
            let skipped = usize::try_from(start.saturating_sub(number)).expect("rows of a batch");
            let room = rows - times.len();
            let length = (batch.num_rows() - skipped).min(room);
            batch = batch.slice(skipped, length);
            let (keys, own) =
                self.labels
                    .keys_and_times(&batch, &self.keys, number + skipped as u64)?;
            index.number(&keys, own.len(), &mut entities);
            times.extend(own);
            if times.len() == rows {
                break;
            }
        }
        let sorted = SortedLabels::new(&entities, &times, index.len());
        Ok(Band {
            first: start,
            times,
            index,
            sorted: Arc::new(sorted),
        })
    }

    /// Returns the names of the table's columns that hold the join keys and the times.
    pub(crate) fn key_and_time_columns(&self) -> Vec<String> {
        let keys = self.group.keys.iter().map(|key| key.name.clone());
        let times = [EVENT_TIME, "available_timestamp"].map(str::to_owned);
        keys.chain(times).collect()
    }
}

/// Returns the interval of event times in which rows of a group can affect labels. `labels` are the
/// times of the labels.
pub(crate) fn event_interval(group: &GroupDef, labels: &[Timestamp]) -> Interval {
    let first = labels.iter().min().copied().unwrap_or_default();
    let last = labels.iter().max().copied().unwrap_or_default();
    let from = match group.ttl {
        Some(ttl) if group.aggregates.is_empty() => first.minus(ttl),
        // Without a ttl, a row of any age can be the newest one. With aggregates, an event before
        // all windows still shows that the entity is known.
        _ => Timestamp::MIN,
    };
    Interval {
        from,
        to: last.plus(Duration::MICROSECOND),
    }
}

/// Returns the estimated bytes that a value takes in memory.
pub(crate) fn estimated_width(data_type: &DataType) -> u64 {
    match data_type {
        DataType::Boolean => 1,
        DataType::Date | DataType::Float32 => 4,
        DataType::Int64 | DataType::Float64 | DataType::Timestamp => 8,
        DataType::Vector(n) => 4 * u64::from(*n),
        _ => 32,
    }
}

/// The join keys and times of the rows of a batch.
pub(crate) struct KeysAndTimes {
    pub(crate) keys: Vec<ArrayRef>,
    pub(crate) events: Times,
    available: Times,
    pub(crate) table: TableDef,
}

impl KeysAndTimes {
    pub(crate) fn new(group: &GroupDef, batch: &RecordBatch) -> Result<Self> {
        let table = group.rows_table();
        let keys = group
            .keys
            .iter()
            .map(|key| stored_column(&table, batch, key));
        let keys = keys.collect::<Result<_>>()?;
        Ok(Self {
            keys,
            events: Times::read(&table, batch, EVENT_TIME)?,
            available: Times::read(&table, batch, "available_timestamp")?,
            table,
        })
    }

    /// Returns the event time of a row.
    pub(crate) fn event(&self, row: usize) -> Timestamp {
        self.events.of(row)
    }

    /// Returns the time from which a row counts: the later of its event time and its available
    /// time.
    pub(crate) fn active(&self, row: usize) -> Timestamp {
        self.events.of(row).max(self.available.of(row))
    }
}

/// The column of event times.
pub(crate) const EVENT_TIME: &str = "event_timestamp";

/// The columns beside event times that order the rows of an entity.
pub(crate) const ORDERING: [&str; 3] = ["created_timestamp", "event_id", ARRIVAL_ORDER];

/// The columns that order the rows of a batch among those of their entities and event times.
pub(crate) struct RowOrder {
    created: Times,
    ids: StringArray,
    orders: Option<Int64Array>,
}

impl RowOrder {
    /// Reads the columns [`ORDERING`] of a batch of a table.
    pub(crate) fn new(table: &TableDef, batch: &RecordBatch) -> Result<Self> {
        let id = Field::new("event_id", DataType::Utf8, false);
        Ok(Self {
            created: Times::read(table, batch, "created_timestamp")?,
            ids: stored_column(table, batch, &id)?.as_string().clone(),
            orders: arrival_orders(table, batch)?,
        })
    }

    /// Returns the version of a row, whose event time is given.
    pub(crate) fn version(&self, row: usize, event: Timestamp) -> RowVersion {
        RowVersion::new(
            event,
            self.created.of(row),
            order_of(self.orders.as_ref(), row),
            self.ids.value(row),
        )
    }

    /// Returns when a row came in.
    pub(crate) fn arrival(&self, row: usize) -> Arrival {
        Arrival::new(
            self.created.of(row),
            order_of(self.orders.as_ref(), row),
            self.ids.value(row),
        )
    }
}

/// A column of times of a batch.
#[derive(Clone)]
pub(crate) struct Times(ScalarBuffer<i64>);

impl Times {
    /// Reads the column of this name of a batch of a table.
    pub(crate) fn read(table: &TableDef, batch: &RecordBatch, name: &str) -> Result<Self> {
        let field = Field::new(name, DataType::Timestamp, false);
        let column = stored_column(table, batch, &field)?;
        let column = column.as_primitive::<TimestampMicrosecondType>();
        Ok(Self(column.values().clone()))
    }

    /// Returns the time of a row.
    pub(crate) fn of(&self, row: usize) -> Timestamp {
        Timestamp::from_micros(self.0[row])
    }
}

#[cfg(test)]
mod tests;
