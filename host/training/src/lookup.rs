//! One lookup of a view, for all labels: the newest row of each, or aggregates over
//! its events, as of the label's time.
//!
//! Memory is bounded by the number of labels, not by that of feature rows: rows
//! stream past the labels ([`AsOfJoin`]), and only those that were found are read
//! with all their features. Labels that are too many for the memory go through in
//! bands; events of windows, which must be sorted, in parts of the entities. What
//! comes out waits in a [`Spool`], past its room in a temporary file.

pub(crate) mod found;
pub(crate) mod newest;
pub(crate) mod pieces;
pub(crate) mod windows;

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{Field as ArrowField, Schema as ArrowSchema};
use wafer_catalog::{GroupDef, TableDef, blocking};
use wafer_core::join::SortedLabels;
use wafer_core::rules::Interval;
use wafer_core::{DataType, EntityIndex, Field, Timestamp};
use wafer_runtime::CHUNK_ROWS;
use wafer_store::{Result, TableSnapshot};
use wafer_tables::stored_column;

use crate::labels::LabelFile;
use crate::lookup::found::Joined;
use crate::spool::{Room, Spool};

/// Bytes that a label takes in each worker's join, and besides.
const LABEL_BYTES: u64 = 24;

/// Bytes that a label of windows takes.
const WINDOW_LABEL_BYTES: u64 = 60;

/// What to join.
pub(crate) struct LookupJoin {
    pub(crate) labels: LabelFile,
    /// Inputs of the view that hold the group's join keys.
    pub(crate) keys: Vec<String>,
    pub(crate) group: GroupDef,
    /// Positions of the wanted features.
    pub(crate) features: Vec<usize>,
    pub(crate) snapshot: TableSnapshot,
    /// Whether to say which row, or which events, each label found: as a last column, such
    /// as the log of requests has it.
    pub(crate) identities: bool,
    pub(crate) memory: u64,
    pub(crate) workers: usize,
}

/// Some of the labels, by one choice of keys.
pub(crate) struct Band {
    pub(crate) times: Vec<i64>,
    pub(crate) index: EntityIndex,
    pub(crate) sorted: Arc<SortedLabels>,
}

impl Band {
    /// Number of labels.
    pub(crate) fn len(&self) -> usize {
        self.times.len()
    }
}

impl LookupJoin {
    /// Features of no labels yet, which may wait in memory as far as there is room.
    pub(crate) fn begin(&self, room: &Arc<Room>) -> Joined {
        let fields = self.fields();
        let arrow = fields
            .iter()
            .map(|f| ArrowField::new(&f.name, f.data_type.to_arrow(), true));
        Joined {
            schema: Arc::new(ArrowSchema::new(arrow.collect::<Vec<_>>())),
            spool: Spool::new(Arc::clone(room)),
        }
    }

    /// Labels that can be joined at a time.
    pub(crate) fn rows_of_band(&self) -> usize {
        let fields = self.fields();
        let width: u64 = fields.iter().map(|field| width(&field.data_type)).sum();
        // Windows need room for events as well, and make their answers in pieces.
        let each = match self.group.aggregates.is_empty() {
            true => LABEL_BYTES * (self.workers as u64 + 1) + width,
            false => WINDOW_LABEL_BYTES + 2 * width,
        };
        let rows = usize::try_from(self.memory / 20 * 11 / each).unwrap_or(usize::MAX);
        rows.max(CHUNK_ROWS)
    }

    /// Adds the features of the next labels.
    pub(crate) async fn add(self: &Arc<Self>, band: &Arc<Band>, joined: &mut Joined) -> Result<()> {
        if band.len() == 0 {
            return Ok(());
        }
        let found = if self.group.aggregates.is_empty() {
            self.newest(band).await?
        } else {
            self.windows(band).await?
        };
        let (schema, workers) = (Arc::clone(&joined.schema), self.workers);
        let spool = joined.spool.take();
        joined.spool = blocking(move || found.emit(&schema, spool, workers)).await??;
        Ok(())
    }

    /// The labels from `start` on, at most `rows` of them, sorted.
    pub(crate) async fn band(self: &Arc<Self>, start: u64, rows: usize) -> Result<Arc<Band>> {
        let join = Arc::clone(self);
        blocking(move || join.sorted_band(start, rows).map(Arc::new)).await?
    }

    /// The wanted features.
    pub(crate) fn wanted(&self) -> Vec<Field> {
        let all = self.group.features();
        self.features
            .iter()
            .map(|index| all[*index].clone())
            .collect()
    }

    /// What comes out: the wanted features, and the identity.
    pub(crate) fn fields(&self) -> Vec<Field> {
        let mut fields = self.wanted();
        if self.identities {
            fields.push(Field::new("identity", DataType::Utf8, true));
        }
        fields
    }

    pub(crate) fn types(&self) -> Vec<DataType> {
        self.fields()
            .into_iter()
            .map(|field| field.data_type)
            .collect()
    }

    /// Entities and times of the labels from `start` on, at most `rows` of them.
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
            times,
            index,
            sorted: Arc::new(sorted),
        })
    }

    /// Columns of the table that say whose and when a row is.
    pub(crate) fn narrow(&self) -> Vec<String> {
        let keys = self.group.keys.iter().map(|key| key.name.clone());
        let times = ["event_timestamp", "available_timestamp"].map(str::to_owned);
        keys.chain(times).collect()
    }

    /// Event times that a label of the band can have anything to do with.
    pub(crate) fn covered(&self, band: &Band) -> Interval {
        let first = band.times.iter().min().copied().unwrap_or(0);
        let last = band.times.iter().max().copied().unwrap_or(0);
        let from = match self.group.ttl {
            Some(ttl) if self.group.aggregates.is_empty() => {
                Timestamp::from_micros(first).minus_micros(ttl)
            }
            // What an entity had long ago says that it is known.
            _ => Timestamp::MIN,
        };
        Interval {
            from,
            to: Timestamp::from_micros(last).plus_micros(1),
        }
    }
}

/// Bytes that a value takes, about.
pub(crate) fn width(data_type: &DataType) -> u64 {
    match data_type {
        DataType::Boolean => 1,
        DataType::Date | DataType::Float32 => 4,
        DataType::Int64 | DataType::Float64 | DataType::Timestamp => 8,
        DataType::Vector(n) => 4 * u64::from(*n),
        _ => 32,
    }
}

/// Whose and when the rows of a batch are.
pub(crate) struct KeysAndTimes {
    pub(crate) keys: Vec<ArrayRef>,
    pub(crate) events: arrow_buffer::ScalarBuffer<i64>,
    available: arrow_buffer::ScalarBuffer<i64>,
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
            events: times(&table, batch, "event_timestamp")?,
            available: times(&table, batch, "available_timestamp")?,
            table,
        })
    }

    pub(crate) fn active(&self, row: usize) -> i64 {
        self.events[row].max(self.available[row])
    }

    pub(crate) fn time(
        &self,
        batch: &RecordBatch,
        name: &str,
    ) -> Result<arrow_buffer::ScalarBuffer<i64>> {
        times(&self.table, batch, name)
    }

    pub(crate) fn ids(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        stored_column(
            &self.table,
            batch,
            &Field::new("event_id", DataType::Utf8, false),
        )
    }
}

pub(crate) fn times(
    table: &TableDef,
    batch: &RecordBatch,
    name: &str,
) -> Result<arrow_buffer::ScalarBuffer<i64>> {
    let column = stored_column(table, batch, &Field::new(name, DataType::Timestamp, false))?;
    Ok(column
        .as_primitive::<TimestampMicrosecondType>()
        .values()
        .clone())
}
