//! One lookup of a view, for all labels: the newest row of each, or aggregates over
//! its events, as of the label's time.
//!
//! Memory is bounded by the number of labels, not by that of feature rows: rows
//! stream past the labels ([`AsOfJoin`]), and only those that were found are read
//! with all their features. Labels that are too many for the memory go through in
//! bands; events of windows, which must be sorted, in parts of the entities. What
//! comes out waits in a [`Spool`], past its room in a temporary file.

use std::future::Future;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::cast::AsArray as _;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{ArrayRef, BooleanArray, RecordBatch, StringArray, UInt32Array, new_null_array};
use arrow_schema::{DataType as ArrowType, Field as ArrowField, Schema as ArrowSchema, SchemaRef};
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use wafer_core::aggregate::{self, Aggregate, Answer, Cell, Cells, EntityEvents, Layout, slide};
use wafer_core::join::{AsOfJoin, ByEntity, NONE, SortedLabels, Version};
use wafer_core::rules::{Interval, RowVersion, identity};
use wafer_core::{ColumnBuilder, DataType, EntityIndex, Field, Timestamp};
use wafer_runtime::CHUNK_ROWS;
use wafer_store::{Share, TableSnapshot};

use super::labels::LabelFile;
use super::spool::{Room, Spool};
use crate::definition::{GroupDef, TableDef};
use crate::error::{Error, Result};
use crate::group_rows::stored_column;
use crate::run::blocking;

/// Bytes that a label takes in each worker's join, and besides.
const LABEL_BYTES: u64 = 24;
/// Bytes that a label of windows takes.
const WINDOW_LABEL_BYTES: u64 = 60;
/// Bytes that an event takes while windows slide over it, but for its columns.
const EVENT_BYTES: u64 = 40;
/// Rows that a worker reads at a time.
const PIECE_ROWS: u64 = 524_288;
/// Columns that a row's identity is made of.
const IDENTITY: [&str; 3] = ["event_timestamp", "created_timestamp", "event_id"];
/// Entities that a worker takes at a time.
const ENTITIES: usize = 256;

/// What to join.
pub(super) struct LookupJoin {
    pub(super) labels: LabelFile,
    /// Inputs of the view that hold the group's join keys.
    pub(super) keys: Vec<String>,
    pub(super) group: GroupDef,
    /// Positions of the wanted features.
    pub(super) features: Vec<usize>,
    pub(super) snapshot: TableSnapshot,
    /// Whether to say which row, or which events, each label found: as a last column, such
    /// as the log of requests has it.
    pub(super) identities: bool,
    pub(super) memory: u64,
    pub(super) workers: usize,
}

/// Features for all labels, in their order.
pub(super) struct Joined {
    spool: Spool,
    schema: SchemaRef,
}

/// Reads joined features again.
pub(super) struct JoinedReader {
    batches: Box<dyn Iterator<Item = Result<RecordBatch>> + Send>,
    schema: SchemaRef,
    /// What was read and not yet taken.
    rest: RecordBatch,
}

/// Some of the labels, by one choice of keys.
pub(super) struct Band {
    times: Vec<i64>,
    index: EntityIndex,
    sorted: Arc<SortedLabels>,
}

impl Band {
    /// Number of labels.
    pub(super) fn len(&self) -> usize {
        self.times.len()
    }
}

/// Batches, and for each label what it found in them.
struct Found {
    /// Types of the features.
    types: Vec<DataType>,
    batches: Vec<RecordBatch>,
    places: Places,
}

/// For each label a batch and a row of it.
enum Places {
    /// As they are.
    Known(Vec<Option<(u32, u32)>>),
    /// By the number of a row in its table.
    Rows {
        rows: Vec<Option<u64>>,
        wanted: Arc<Wanted>,
        /// For each piece of the table its batch.
        batch_of: Vec<u32>,
    },
}

impl Places {
    fn len(&self) -> usize {
        match self {
            Self::Known(places) => places.len(),
            Self::Rows { rows, .. } => rows.len(),
        }
    }

    fn get(&self, label: usize) -> Option<(u32, u32)> {
        match self {
            Self::Known(places) => places[label],
            Self::Rows {
                rows,
                wanted,
                batch_of,
            } => {
                let (piece, rank) = wanted.place(rows[label]?);
                Some((batch_of[piece], rank))
            }
        }
    }
}

/// Some row groups of a file.
#[derive(Clone, Copy)]
struct Piece {
    file: usize,
    share: Share,
}

/// Pieces that are still to be read.
struct Queue {
    pieces: Vec<Piece>,
    next: AtomicUsize,
}

impl Queue {
    /// The next piece and its number.
    fn take(&self) -> Option<(usize, Piece)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Some((number, *self.pieces.get(number)?))
    }
}

impl LookupJoin {
    /// Features of no labels yet, which may wait in memory as far as there is room.
    pub(super) fn begin(&self, room: &Arc<Room>) -> Joined {
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
    pub(super) fn rows_of_band(&self) -> usize {
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
    pub(super) async fn add(self: &Arc<Self>, band: &Arc<Band>, joined: &mut Joined) -> Result<()> {
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
    pub(super) async fn band(self: &Arc<Self>, start: u64, rows: usize) -> Result<Arc<Band>> {
        let join = Arc::clone(self);
        blocking(move || join.sorted_band(start, rows).map(Arc::new)).await?
    }

    /// The wanted features.
    fn wanted(&self) -> Vec<Field> {
        let all = self.group.features();
        self.features
            .iter()
            .map(|index| all[*index].clone())
            .collect()
    }

    /// What comes out: the wanted features, and the identity.
    fn fields(&self) -> Vec<Field> {
        let mut fields = self.wanted();
        if self.identities {
            fields.push(Field::new("identity", DataType::Utf8, true));
        }
        fields
    }

    fn types(&self) -> Vec<DataType> {
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
        for batch in self.labels.projected(Some(&columns))? {
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
    fn narrow(&self) -> Vec<String> {
        let keys = self.group.keys.iter().map(|key| key.name.clone());
        let times = ["event_timestamp", "available_timestamp"].map(str::to_owned);
        keys.chain(times).collect()
    }

    /// What there is to read, in pieces that keep all workers busy.
    fn pieces(&self) -> Vec<Piece> {
        let files = self.snapshot.files().iter().enumerate();
        let pieces = files.flat_map(|(file, data)| {
            let of = data.rows.unwrap_or(0).div_ceil(PIECE_ROWS).max(1) as usize;
            (0..of).map(move |number| Piece {
                file,
                share: Share { number, of },
            })
        });
        pieces.collect()
    }

    /// Has all pieces read by workers, each of which takes the next one when it is done
    /// with one, by tasks that may use the processor as they like.
    async fn each_piece<T, F, Fut>(self: &Arc<Self>, work: F) -> Result<Vec<T>>
    where
        T: Send + 'static,
        F: Fn(Arc<Self>, Arc<Queue>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<T>>,
    {
        let pieces = self.pieces();
        let workers = self.workers.min(pieces.len()).max(1);
        let queue = Arc::new(Queue {
            pieces,
            next: AtomicUsize::new(0),
        });
        let tasks = (0..workers).map(|_| {
            let (join, work, queue) = (Arc::clone(self), work.clone(), Arc::clone(&queue));
            let runtime = tokio::runtime::Handle::current();
            blocking(move || runtime.block_on(work(join, queue)))
        });
        let done = futures::future::join_all(tasks).await;
        done.into_iter().map(|task| task?).collect()
    }

    /// Reads some columns of a piece.
    async fn read_piece(
        &self,
        piece: Piece,
        columns: &[String],
        interval: Interval,
    ) -> Result<BoxStream<'static, wafer_store::Result<RecordBatch>>> {
        let data = &self.snapshot.files()[piece.file];
        if !data.overlaps(interval) {
            return Ok(futures::stream::empty().boxed());
        }
        let batches = self
            .snapshot
            .read_share(data, columns, interval, piece.share);
        Ok(batches.await?)
    }

    async fn newest(self: &Arc<Self>, band: &Arc<Band>) -> Result<Found> {
        let interval = self.covered(band);
        let (mut rows, ties) = self.winners::<Timestamp>(band, interval).await?;
        if ties {
            // Some rows have one event time: what else orders them must be read.
            (rows, _) = self.winners::<RowVersion>(band, interval).await?;
        }
        self.fetch(rows, interval).await
    }

    /// Event times that a label of the band can have anything to do with.
    fn covered(&self, band: &Band) -> Interval {
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

    /// For each label the number of its row: file and place in it.
    async fn winners<V: ReadVersion>(
        self: &Arc<Self>,
        band: &Arc<Band>,
        interval: Interval,
    ) -> Result<(Vec<Option<u64>>, bool)> {
        let band = Arc::clone(band);
        let labels = band.times.len();
        let ttl = self.group.ttl;
        let joins = self.each_piece(move |join: Arc<Self>, queue: Arc<Queue>| {
            let band = Arc::clone(&band);
            async move {
                let mut as_of = AsOfJoin::<V>::new(Arc::clone(&band.sorted));
                while let Some((number, piece)) = queue.take() {
                    join.add_piece((number, piece), &band.index, interval, &mut as_of)
                        .await?;
                }
                Ok(as_of)
            }
        });
        let mut joins = joins.await?.into_iter();
        let mut first = joins.next().expect("there is at least one worker");
        blocking(move || {
            joins.for_each(|other| first.merge(&other));
            first.finish(labels, ttl)
        })
        .await
    }

    async fn add_piece<V: ReadVersion>(
        &self,
        (number, piece): (usize, Piece),
        index: &EntityIndex,
        interval: Interval,
        as_of: &mut AsOfJoin<V>,
    ) -> Result<()> {
        let mut columns = self.narrow();
        columns.extend(V::COLUMNS.iter().map(|column| (*column).to_owned()));
        let mut batches = self.read_piece(piece, &columns, interval).await?;
        let mut number = first_number(number);
        let mut entities = Vec::new();
        while let Some(batch) = batches.try_next().await? {
            let rows = Narrow::new(&self.group, &batch)?;
            entities.clear();
            index.find(&rows.keys, batch.num_rows(), &mut entities);
            let version = V::reader(&rows, &batch)?;
            for (row, entity) in entities.iter().enumerate() {
                if *entity != NONE {
                    as_of.add(*entity, rows.active(row), version(row), number + row as u64);
                }
            }
            number += batch.num_rows() as u64;
        }
        Ok(())
    }

    /// Reads the features of the rows that were found.
    async fn fetch(self: &Arc<Self>, rows: Vec<Option<u64>>, interval: Interval) -> Result<Found> {
        let pieces = self.pieces().len();
        let (wanted, rows) = blocking(move || (Wanted::new(&rows, pieces), rows)).await?;
        let wanted = Arc::new(wanted);
        let shared = Arc::clone(&wanted);
        let parts = self.each_piece(move |join: Arc<Self>, queue: Arc<Queue>| {
            let wanted = Arc::clone(&shared);
            async move {
                let mut parts = Vec::new();
                while let Some((number, piece)) = queue.take() {
                    if wanted.is_of(number) {
                        let rows = join.fetch_piece((number, piece), &wanted, interval);
                        parts.push((number, rows.await?));
                    }
                }
                Ok(parts)
            }
        });
        let parts: Vec<(usize, RecordBatch)> = parts.await?.into_iter().flatten().collect();
        let mut batch_of = vec![0; pieces];
        let mut batches = Vec::new();
        for (piece, batch) in parts {
            batch_of[piece] = batches.len() as u32;
            batches.push(batch);
        }
        Ok(Found {
            types: self.types(),
            batches,
            places: Places::Rows {
                rows,
                wanted,
                batch_of,
            },
        })
    }

    /// The wanted rows of a piece, in their order.
    async fn fetch_piece(
        &self,
        (number, piece): (usize, Piece),
        wanted: &Wanted,
        interval: Interval,
    ) -> Result<RecordBatch> {
        let features = self.wanted().into_iter().map(|field| field.name);
        let mut columns: Vec<String> = features.collect();
        if self.identities {
            columns.extend(IDENTITY.map(str::to_owned));
        }
        let mut batches = self.read_piece(piece, &columns, interval).await?;
        let internal = |e| Error::caused(crate::Kind::Internal, "rows that were found", e);
        let mut first = 0;
        let mut taken = Vec::new();
        while let Some(batch) = batches.try_next().await? {
            let end = first + batch.num_rows() as u64;
            let own: UInt32Array = (first..end)
                .filter(|row| wanted.has(number, *row))
                .map(|row| u32::try_from(row - first).ok())
                .collect();
            if !own.is_empty() {
                let rows = arrow_select::take::take_record_batch(&batch, &own);
                taken.push(rows.map_err(internal)?);
            }
            first = end;
        }
        let schema = taken
            .first()
            .map(RecordBatch::schema)
            .ok_or_else(|| Error::new(crate::Kind::Internal, "rows that were found are gone"))?;
        let rows = arrow_select::concat::concat_batches(&schema, &taken).map_err(internal)?;
        match self.identities {
            true => self.with_identity(&rows),
            false => Ok(rows),
        }
    }

    /// Rows with their identity in the place of what it is made of.
    fn with_identity(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let table = self.group.rows_table();
        let [event, created, id] = IDENTITY;
        let events = times(&table, rows, event)?;
        let created = times(&table, rows, created)?;
        let ids = Field::new(id, DataType::Utf8, false);
        let ids = stored_column(&table, rows, &ids)?;
        let identity = |row: usize| {
            let version = RowVersion {
                event: Timestamp::from_micros(events[row]),
                created: Timestamp::from_micros(created[row]),
                id: identity(ids.as_string::<i32>().value(row)),
            };
            Some(version.identity())
        };
        let identities: StringArray = (0..rows.num_rows()).map(identity).collect();
        let count = rows.num_columns() - IDENTITY.len();
        let mut columns = rows.columns()[..count].to_vec();
        columns.push(Arc::new(identities));
        let mut fields: Vec<_> = rows.schema().fields()[..count].to_vec();
        fields.push(Arc::new(ArrowField::new("identity", ArrowType::Utf8, true)));
        RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns)
            .map_err(|e| Error::caused(crate::Kind::Internal, "identities of rows", e))
    }

    async fn windows(self: &Arc<Self>, band: &Arc<Band>) -> Result<Found> {
        let wanted: Vec<Aggregate> = self
            .features
            .iter()
            .map(|feature| self.group.aggregates[*feature].aggregate.clone())
            .collect();
        // An identity is one of all that is kept of the events.
        let all = match self.identities {
            true => self.group.aggregate_list(),
            false => Vec::new(),
        };
        let read: Vec<usize> = {
            let of = wanted.iter().chain(&all);
            let mut read: Vec<usize> = of.filter_map(|a| a.column).collect();
            read.sort_unstable();
            read.dedup();
            read
        };
        // Aggregates over the columns that are read.
        let over_read = |aggregate: Aggregate| Aggregate {
            column: aggregate.column.map(|column| {
                let place = read.iter().position(|read| *read == column);
                place.expect("it was put there")
            }),
            ..aggregate
        };
        let aggregates: Vec<Aggregate> = wanted.into_iter().map(over_read).collect();
        let all: Vec<Aggregate> = all.into_iter().map(over_read).collect();
        let columns: Vec<Field> = read
            .iter()
            .map(|column| self.group.columns[*column].clone())
            .collect();
        let width: u64 = columns.iter().map(|column| width(&column.data_type)).sum();
        let rows: u64 = self
            .snapshot
            .files()
            .iter()
            .filter_map(|file| file.rows)
            .sum();
        let parts = (rows * (EVENT_BYTES + 2 * width))
            .div_ceil((self.memory / 3).max(1))
            .max(1);
        let parts = u32::try_from(parts).unwrap_or(u32::MAX);
        let interval = self.covered(band);
        let mut found = Found {
            types: self.types(),
            batches: Vec::new(),
            places: Places::Known(vec![None; band.times.len()]),
        };
        let types: Vec<DataType> = columns.iter().map(|c| c.data_type.clone()).collect();
        let plan = Arc::new(WindowPlan {
            aggregates,
            identities: self.identities.then(|| Layout::new(&all, &types)),
            columns,
            fields: self.fields(),
            ttl: self.group.ttl,
            workers: self.workers,
        });
        for part in 0..parts {
            let events = self.events(band, &plan, interval, (part, parts)).await?;
            let (plan, band) = (Arc::clone(&plan), Arc::clone(band));
            found = blocking(move || plan.slide_all(events, &band, (part, parts), found)).await?;
        }
        Ok(found)
    }

    /// The events of a part of the entities.
    async fn events(
        self: &Arc<Self>,
        band: &Arc<Band>,
        plan: &Arc<WindowPlan>,
        interval: Interval,
        (part, parts): (u32, u32),
    ) -> Result<Events> {
        let (band, plan) = (Arc::clone(band), Arc::clone(plan));
        let shared = Arc::clone(&plan);
        let pieces = self.each_piece(move |join: Arc<Self>, queue: Arc<Queue>| {
            let (band, plan) = (Arc::clone(&band), Arc::clone(&shared));
            async move {
                let mut events = Events::default();
                while let Some((_, piece)) = queue.take() {
                    let own = |entity: u32| entity % parts == part;
                    join.add_events(piece, &band.index, &plan, interval, own, &mut events)
                        .await?;
                }
                Ok(events)
            }
        });
        let pieces = pieces.await?;
        blocking(move || Events::joined(pieces, &plan)).await
    }

    async fn add_events(
        &self,
        piece: Piece,
        index: &EntityIndex,
        plan: &WindowPlan,
        interval: Interval,
        own: impl Fn(u32) -> bool,
        events: &mut Events,
    ) -> Result<()> {
        let mut columns = self.narrow();
        if plan.needs_ids() {
            columns.push("event_id".to_owned());
        }
        columns.extend(plan.columns.iter().map(|column| column.name.clone()));
        let table = self.group.rows_table();
        let mut batches = self.read_piece(piece, &columns, interval).await?;
        let mut entities = Vec::new();
        while let Some(batch) = batches.try_next().await? {
            let rows = Narrow::new(&self.group, &batch)?;
            entities.clear();
            index.find(&rows.keys, batch.num_rows(), &mut entities);
            let ids = if plan.needs_ids() {
                Some(rows.ids(&batch)?)
            } else {
                None
            };
            let keep: Vec<bool> = entities.iter().map(|e| *e != NONE && own(*e)).collect();
            for row in (0..batch.num_rows()).filter(|row| keep[*row]) {
                events.entities.push(entities[row]);
                events.events.push(rows.events[row]);
                events.active.push(rows.active(row));
                let id = |ids: &ArrayRef| identity(ids.as_string::<i32>().value(row));
                events.ids.push(ids.as_ref().map_or(0, id));
            }
            let mask = BooleanArray::from(keep);
            let kept = plan.columns.iter().map(|field| {
                let column = stored_column(&table, &batch, field)?;
                Ok(arrow_select::filter::filter(&column, &mask).expect("as many bits as rows"))
            });
            events.columns.push(kept.collect::<Result<_>>()?);
        }
        Ok(())
    }
}

/// Rows of a piece are numbered from here on.
fn first_number(piece: usize) -> u64 {
    (piece as u64) << ROW_BITS
}

/// Bits of a row's number within its piece.
const ROW_BITS: u32 = 40;

/// Which rows of which pieces are to be read: a bit for each, and how many come before
/// each 64 of them.
struct Wanted {
    pieces: Vec<(Vec<u64>, Vec<u32>)>,
}

impl Wanted {
    fn new(rows: &[Option<u64>], pieces: usize) -> Self {
        let mut bits: Vec<Vec<u64>> = vec![Vec::new(); pieces];
        for number in rows.iter().flatten() {
            let (piece, row) = split_number(*number);
            let word = (row / 64) as usize;
            if bits[piece].len() <= word {
                bits[piece].resize(word + 1, 0);
            }
            bits[piece][word] |= 1 << (row % 64);
        }
        let counted = bits.into_iter().map(|words| {
            let before = words.iter().scan(0, |sum, word| {
                let before = *sum;
                *sum += word.count_ones();
                Some(before)
            });
            let before = before.collect();
            (words, before)
        });
        Self {
            pieces: counted.collect(),
        }
    }

    fn is_of(&self, piece: usize) -> bool {
        !self.pieces[piece].0.is_empty()
    }

    fn has(&self, piece: usize, row: u64) -> bool {
        let word = self.pieces[piece].0.get((row / 64) as usize);
        word.is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    /// Piece of a row that is wanted, and its place among those of the piece.
    fn place(&self, number: u64) -> (usize, u32) {
        let (piece, row) = split_number(number);
        let (words, before) = &self.pieces[piece];
        let word = (row / 64) as usize;
        let below = words[word] & ((1 << (row % 64)) - 1);
        (piece, before[word] + below.count_ones())
    }
}

/// Piece and row of a number.
fn split_number(number: u64) -> (usize, u64) {
    (
        (number >> ROW_BITS) as usize,
        number & ((1 << ROW_BITS) - 1),
    )
}

/// What orders rows, as it is read from a table.
trait ReadVersion: Version + Send + 'static {
    /// Columns that it needs beside the times.
    const COLUMNS: &'static [&'static str];

    /// Gives the version of each row of a batch.
    fn reader(rows: &Narrow, batch: &RecordBatch) -> Result<impl Fn(usize) -> Self>;
}

impl ReadVersion for Timestamp {
    const COLUMNS: &'static [&'static str] = &[];

    fn reader(rows: &Narrow, _batch: &RecordBatch) -> Result<impl Fn(usize) -> Self> {
        let events = rows.events.clone();
        Ok(move |row: usize| Self::from_micros(events[row]))
    }
}

impl ReadVersion for RowVersion {
    const COLUMNS: &'static [&'static str] = &["created_timestamp", "event_id"];

    fn reader(rows: &Narrow, batch: &RecordBatch) -> Result<impl Fn(usize) -> Self> {
        let events = rows.events.clone();
        let created = rows.time(batch, "created_timestamp")?;
        let ids = rows.ids(batch)?;
        Ok(move |row: usize| Self {
            event: Timestamp::from_micros(events[row]),
            created: Timestamp::from_micros(created[row]),
            id: identity(ids.as_string::<i32>().value(row)),
        })
    }
}

/// Bytes that a value takes, about.
fn width(data_type: &DataType) -> u64 {
    match data_type {
        DataType::Boolean => 1,
        DataType::Date | DataType::Float32 => 4,
        DataType::Int64 | DataType::Float64 | DataType::Timestamp => 8,
        DataType::Vector(n) => 4 * u64::from(*n),
        _ => 32,
    }
}

/// Whose and when the rows of a batch are.
struct Narrow {
    keys: Vec<ArrayRef>,
    events: arrow_buffer::ScalarBuffer<i64>,
    available: arrow_buffer::ScalarBuffer<i64>,
    table: TableDef,
}

impl Narrow {
    fn new(group: &GroupDef, batch: &RecordBatch) -> Result<Self> {
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

    fn active(&self, row: usize) -> i64 {
        self.events[row].max(self.available[row])
    }

    fn time(&self, batch: &RecordBatch, name: &str) -> Result<arrow_buffer::ScalarBuffer<i64>> {
        times(&self.table, batch, name)
    }

    fn ids(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        stored_column(
            &self.table,
            batch,
            &Field::new("event_id", DataType::Utf8, false),
        )
    }
}

fn times(
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

/// What slides over events.
struct WindowPlan {
    /// Over positions in `columns`.
    aggregates: Vec<Aggregate>,
    /// How events are summed up online, if identities are asked for.
    identities: Option<Layout>,
    columns: Vec<Field>,
    /// What comes out.
    fields: Vec<Field>,
    ttl: Option<i64>,
    workers: usize,
}

/// Events of some entities.
#[derive(Default)]
struct Events {
    entities: Vec<u32>,
    events: Vec<i64>,
    active: Vec<i64>,
    ids: Vec<u64>,
    /// Of each batch its columns.
    columns: Vec<Vec<ArrayRef>>,
}

impl Events {
    /// The events of all workers, their columns in one piece.
    fn joined(pieces: Vec<Self>, plan: &WindowPlan) -> Self {
        let mut all = Self::default();
        for piece in pieces {
            all.entities.extend(piece.entities);
            all.events.extend(piece.events);
            all.active.extend(piece.active);
            all.ids.extend(piece.ids);
            all.columns.extend(piece.columns);
        }
        let batches = std::mem::take(&mut all.columns);
        let whole = (0..plan.columns.len()).map(|column| {
            let parts: Vec<_> = batches.iter().map(|batch| batch[column].as_ref()).collect();
            match parts.as_slice() {
                [] => arrow_array::new_empty_array(&plan.columns[column].data_type.to_arrow()),
                parts => arrow_select::concat::concat(parts).expect("parts of one column"),
            }
        });
        all.columns = vec![whole.collect()];
        all
    }

    /// The events in another order, without what says whose they are.
    fn arranged(self, order: &[u32]) -> Self {
        fn gather<T: Copy>(values: Vec<T>, order: &[u32]) -> Vec<T> {
            order.iter().map(|row| values[*row as usize]).collect()
        }
        let columns = {
            let order = UInt32Array::from(order.to_vec());
            let columns = self.columns.into_iter().flatten();
            let taken = columns.map(|column| {
                arrow_select::take::take(&column, &order, None).expect("rows of these columns")
            });
            vec![taken.collect()]
        };
        Self {
            entities: Vec::new(),
            events: gather(self.events, order),
            active: gather(self.active, order),
            ids: gather(self.ids, order),
            columns,
        }
    }

    /// Those at some places, without their columns.
    fn of(&self, places: Range<usize>) -> EntityEvents<'_> {
        EntityEvents {
            events: &self.events[places.clone()],
            ids: &self.ids[places.clone()],
            active: &self.active[places.clone()],
            first: places.start,
            columns: &[],
        }
    }
}

fn text_answer(text: Option<&str>) -> Answer {
    text.map_or(Answer::Null, |text| {
        Answer::One(Cell::Bytes(text.as_bytes().into()))
    })
}

/// What a worker made of some entities.
struct Slid {
    batches: Vec<RecordBatch>,
    /// For each label that has an answer, its batch and row.
    places: Vec<(u32, u32, u32)>,
    builders: Vec<ColumnBuilder>,
    /// Rows in the builders.
    rows: u32,
    /// Answers at one time, as far as they have come.
    answers: Vec<Answer>,
    pending: usize,
}

impl WindowPlan {
    /// Slides over an entity's events for its labels, which are given with their times.
    fn slide(
        &self,
        entity: &EntityEvents<'_>,
        (times, labels): (&[i64], &[u32]),
        types: &[DataType],
        made: &mut Slid,
    ) {
        if entity.events.is_empty() || labels.is_empty() {
            return;
        }
        let last = self.aggregates.len() - 1;
        let identities = self.identities.as_ref();
        let identities =
            identities.map(|layout| aggregate::identities(layout, entity, times, self.ttl));
        slide(
            &self.aggregates,
            types,
            entity,
            times,
            self.ttl,
            |time, index, answer| {
                // Answers come aggregate by aggregate within a window, not in their order.
                made.answers[index] = answer;
                made.pending += 1;
                if made.pending > last {
                    if let Some(identities) = &identities {
                        made.answers[last + 1] = text_answer(identities[time].as_deref());
                    }
                    made.push(self, labels[time]);
                }
            },
        );
    }

    /// Whether ties of time have to be broken by identity.
    fn needs_ids(&self) -> bool {
        self.identities.is_some() || self.aggregates.iter().any(|a| a.function.is_of_order())
    }

    fn slide_all(
        &self,
        events: Events,
        band: &Band,
        (part, parts): (u32, u32),
        mut found: Found,
    ) -> Found {
        let count = band.index.len();
        let mut rows = ByEntity::new(&events.entities, count);
        rows.sort_by_key(|row| (events.events[row as usize], events.ids[row as usize]));
        // Each is read several times as windows slide over it: next to its neighbours.
        let events = events.arranged(rows.order());
        let labels = band.sorted.by_entity();
        let columns: Vec<Cells> = events.columns[0]
            .iter()
            .map(|column| Cells::new(column).expect("aggregates are over single values"))
            .collect();
        let types: Vec<DataType> = self.columns.iter().map(|c| c.data_type.clone()).collect();
        let next = AtomicUsize::new(0);
        let slid = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..self.workers.max(1) {
                scope.spawn(|| {
                    let mut made = Slid::new(self);
                    loop {
                        let start = next.fetch_add(ENTITIES, Ordering::Relaxed);
                        if start >= count {
                            break;
                        }
                        let own = (start..count.min(start + ENTITIES))
                            .filter(|e| *e as u32 % parts == part);
                        for number in own {
                            let entity = EntityEvents {
                                columns: &columns,
                                ..events.of(rows.places(number))
                            };
                            let times = &band.sorted.times()[labels.places(number)];
                            let of = (times, labels.rows(number));
                            self.slide(&entity, of, &types, &mut made);
                        }
                    }
                    made.flush(self);
                    slid.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(made);
                });
            }
        });
        let Places::Known(places) = &mut found.places else {
            unreachable!("windows say where their answers are");
        };
        for made in slid.into_inner().unwrap_or_else(PoisonError::into_inner) {
            let first = found.batches.len() as u32;
            for (label, batch, row) in made.places {
                places[label as usize] = Some((first + batch, row));
            }
            found.batches.extend(made.batches);
        }
        found
    }
}

impl Slid {
    fn new(plan: &WindowPlan) -> Self {
        let builder = |field: &Field| ColumnBuilder::new(&field.data_type, CHUNK_ROWS);
        Self {
            batches: Vec::new(),
            places: Vec::new(),
            builders: plan.fields.iter().map(builder).collect(),
            rows: 0,
            answers: vec![Answer::Null; plan.fields.len()],
            pending: 0,
        }
    }

    /// Keeps the answers for a label.
    fn push(&mut self, plan: &WindowPlan, label: u32) {
        for (builder, answer) in self.builders.iter_mut().zip(&self.answers) {
            builder.append_answer(answer);
        }
        self.places
            .push((label, self.batches.len() as u32, self.rows));
        self.pending = 0;
        self.rows += 1;
        if self.rows as usize == CHUNK_ROWS {
            self.flush(plan);
        }
    }

    fn flush(&mut self, plan: &WindowPlan) {
        if self.rows == 0 {
            return;
        }
        let fields = plan.fields.iter();
        let fields = fields.map(|f| ArrowField::new(&f.name, f.data_type.to_arrow(), true));
        let schema = Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>()));
        let columns = self
            .builders
            .iter_mut()
            .map(ColumnBuilder::finish)
            .collect();
        let batch = RecordBatch::try_new(schema, columns).expect("the columns are the fields'");
        self.batches.push(batch);
        self.rows = 0;
    }
}

impl Joined {
    pub(super) fn read(self) -> Result<JoinedReader> {
        Ok(JoinedReader {
            batches: self.spool.read()?,
            rest: RecordBatch::new_empty(Arc::clone(&self.schema)),
            schema: self.schema,
        })
    }
}

impl JoinedReader {
    /// The features of the next labels.
    pub(super) fn take(&mut self, rows: usize) -> Result<Vec<ArrayRef>> {
        let mut parts = Vec::new();
        let mut missing = rows;
        while missing > 0 {
            if self.rest.num_rows() == 0 {
                self.rest = self.batches.next().ok_or_else(|| {
                    Error::new(
                        crate::Kind::Internal,
                        "the labels' file has grown meanwhile",
                    )
                })??;
            }
            let length = missing.min(self.rest.num_rows());
            parts.push(self.rest.slice(0, length));
            self.rest = self.rest.slice(length, self.rest.num_rows() - length);
            missing -= length;
        }
        let batch = match parts.as_slice() {
            [one] => one.clone(),
            parts => arrow_select::concat::concat_batches(&self.schema, parts)
                .map_err(|e| Error::caused(crate::Kind::Internal, "features that were found", e))?,
        };
        Ok(batch.columns().to_vec())
    }
}

impl Found {
    /// The features of all labels, in their order.
    fn emit(self, schema: &SchemaRef, mut spool: Spool, workers: usize) -> Result<Spool> {
        let internal = |e| Error::caused(crate::Kind::Internal, "features that were found", e);
        let mut columns: Vec<Vec<ArrayRef>> = Vec::new();
        for (index, field) in schema.fields().iter().enumerate() {
            let wanted = &self.types[index];
            let mut parts = Vec::with_capacity(self.batches.len() + 1);
            for batch in &self.batches {
                let column = wafer_core::coerce(batch.column(index), wanted).map_err(|e| {
                    Error::caused(crate::Kind::Internal, "features that were found", e)
                })?;
                parts.push(column);
            }
            // What was not found.
            parts.push(new_null_array(field.data_type(), 1));
            columns.push(parts);
        }
        let nothing = (self.batches.len(), 0);
        let emit = |labels: Range<usize>| -> Result<RecordBatch> {
            let place = |(batch, row): (u32, u32)| (batch as usize, row as usize);
            let indices: Vec<(usize, usize)> = labels
                .map(|label| self.places.get(label).map_or(nothing, place))
                .collect();
            let taken = columns.iter().map(|parts| {
                let parts: Vec<&dyn arrow_array::Array> = parts.iter().map(AsRef::as_ref).collect();
                arrow_select::interleave::interleave(&parts, &indices).map_err(internal)
            });
            let taken = taken.collect::<Result<_>>()?;
            RecordBatch::try_new(Arc::clone(schema), taken).map_err(internal)
        };
        let count = self.places.len();
        let chunks: Vec<Range<usize>> = (0..count)
            .step_by(CHUNK_ROWS)
            .map(|start| start..count.min(start + CHUNK_ROWS))
            .collect();
        for several in chunks.chunks(workers) {
            let made: Vec<Result<RecordBatch>> = std::thread::scope(|scope| {
                let tasks: Vec<_> = several
                    .iter()
                    .map(|labels| scope.spawn(|| emit(labels.clone())))
                    .collect();
                let join = |task: std::thread::ScopedJoinHandle<'_, _>| {
                    task.join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                };
                tasks.into_iter().map(join).collect()
            });
            made.into_iter().try_for_each(|batch| spool.push(batch?))?;
        }
        Ok(spool)
    }
}
