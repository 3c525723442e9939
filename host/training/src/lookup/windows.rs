//! Lookups of aggregates over windows as of the label's time.
//!
//! The events of the band's entities are read into memory. If they do not fit, the entities are
//! divided into several parts, and the table is read once for each part. The events are sorted by
//! entity and time. Then each worker takes some entities and lets every window slide over an
//! entity's events, in one pass for all its labels: each event is added to a window once and
//! removed once ([`slide()`]).

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow_schema::{Field as ArrowField, Schema as ArrowSchema};
use futures::TryStreamExt as _;
use wafer_catalog::blocking;
use wafer_core::aggregate::{
    self, Aggregate, AggregateValue, Cell, Cells, EntityEvents, ItemLayout, slide,
};
use wafer_core::join::{ByEntity, NONE};
use wafer_core::rules::{Arrival, Interval};
use wafer_core::{ColumnBuilder, DataType, Duration, EntityIndex, Field, Timestamp};
use wafer_runtime::CHUNK_ROWS;
use wafer_store::Result;
use wafer_tables::stored_column;

use crate::given_up::GivenUp;
use crate::lookup::found::{FoundFeatures, FoundPlace, Locations, Room};
use crate::lookup::pieces::{PieceQueue, TablePiece};
use crate::lookup::{
    Band, KeysAndTimes, LookupJoin, ORDERING, RowOrder, estimated_width, event_interval,
};

/// Estimated bytes that an event takes in memory, without its columns.
const EVENT_BYTES: u64 = 48;

/// The number of entities that a worker takes at a time.
const ENTITIES: usize = 256;

/// The size of the answers of a batch, in bytes.
const BATCH_BYTES: u64 = 4 << 20;

impl LookupJoin {
    /// Computes the aggregates for each label of a band. Returns `None` if they take too much
    /// memory.
    pub(crate) async fn join_windows(
        self: &Arc<Self>,
        band: &Arc<Band>,
    ) -> Result<Option<FoundFeatures>> {
        let (plan, parts) = self.window_plan();
        let plan = Arc::new(plan);
        let interval = event_interval(&self.group, &band.times);
        let mut found = FoundFeatures {
            coincident: 0,
            types: self.output_types(),
            batches: Vec::new(),
            locations: Locations::Direct(vec![None; band.times.len()]),
        };
        for part in 0..parts {
            let events = self
                .read_events(band, &plan, interval, (part, parts))
                .await?;
            let (sliding, band) = (Arc::clone(&plan), Arc::clone(band));
            let slide = move || sliding.slide_all(events, &band, (part, parts), found);
            found = blocking(slide).await?;
            if plan.room.is_exceeded() {
                return Ok(None);
            }
        }
        Ok(Some(found))
    }

    /// Returns what is read and computed, and into how many parts the entities are divided, so that
    /// the events of each fit into memory.
    fn window_plan(&self) -> (WindowPlan, u32) {
        let wanted: Vec<Aggregate> = self
            .features
            .iter()
            .map(|feature| self.group.aggregates[*feature].aggregate.clone())
            .collect();
        // An identity is a hash of the whole stored summary, so it needs all aggregates of the
        // group.
        let all = match self.identities {
            true => self.group.aggregate_list(),
            false => Vec::new(),
        };
        let mut read: Vec<usize> = wanted.iter().chain(&all).filter_map(|a| a.column).collect();
        read.sort_unstable();
        read.dedup();
        // Aggregates refer to columns of the group; here they refer to the columns that are read.
        let over_read = |aggregate: Aggregate| Aggregate {
            column: aggregate.column.map(|column| {
                let position = read.iter().position(|read| *read == column);
                position.expect("all columns of aggregates are read")
            }),
            ..aggregate
        };
        let aggregates: Vec<Aggregate> = wanted.into_iter().map(over_read).collect();
        let all: Vec<Aggregate> = all.into_iter().map(over_read).collect();
        let columns: Vec<Field> = read
            .iter()
            .map(|column| self.group.columns[*column].clone())
            .collect();
        let types: Vec<DataType> = columns.iter().map(|c| c.data_type.clone()).collect();
        let parts = self.parts(&types);
        let plan = WindowPlan {
            aggregates,
            identities: self.identities.then(|| ItemLayout::new(&all, &types)),
            columns,
            fields: self.output_fields(),
            ttl: self.group.ttl,
            workers: self.workers,
            room: self.feature_room(),
            given_up: self.given_up.clone(),
        };
        (plan, parts)
    }

    /// Returns into how many parts the entities are divided if columns of these types are read.
    fn parts(&self, types: &[DataType]) -> u32 {
        let width: u64 = types.iter().map(estimated_width).sum();
        let files = self.snapshot.files().iter();
        let rows: u64 = files.filter_map(|file| file.rows).sum();
        let bytes = rows * (EVENT_BYTES + 2 * width);
        let parts = bytes.div_ceil((self.memory / 3).max(1)).max(1);
        u32::try_from(parts).unwrap_or(u32::MAX)
    }

    /// Reads the events of one part of the entities.
    async fn read_events(
        self: &Arc<Self>,
        band: &Arc<Band>,
        plan: &Arc<WindowPlan>,
        interval: Interval,
        (part, parts): (u32, u32),
    ) -> Result<EventColumns> {
        let (band, plan) = (Arc::clone(band), Arc::clone(plan));
        let shared = Arc::clone(&plan);
        let pieces = self.for_each_piece(move |join: Arc<Self>, queue: Arc<PieceQueue>| {
            let (band, plan) = (Arc::clone(&band), Arc::clone(&shared));
            async move {
                let mut events = EventColumns::default();
                while let Some((_, piece)) = queue.take() {
                    let is_in_part = |entity: u32| entity % parts == part;
                    join.add_events(piece, &band.index, &plan, interval, is_in_part, &mut events)
                        .await?;
                }
                Ok(events)
            }
        });
        let pieces = pieces.await?;
        blocking(move || EventColumns::concat(pieces, &plan)).await
    }

    /// Adds the events of a piece whose entities are in the part.
    async fn add_events(
        &self,
        piece: TablePiece,
        index: &EntityIndex,
        plan: &WindowPlan,
        interval: Interval,
        is_in_part: impl Fn(u32) -> bool,
        events: &mut EventColumns,
    ) -> Result<()> {
        let mut columns = self.key_and_time_columns();
        if plan.needs_arrivals() {
            columns.extend(ORDERING.map(str::to_owned));
        }
        columns.extend(plan.columns.iter().map(|column| column.name.clone()));
        let table = self.group.rows_table();
        let mut batches = self.read_piece(piece, &columns, interval).await?;
        let mut entities = Vec::new();
        while let Some(batch) = batches.try_next().await? {
            let rows = KeysAndTimes::new(&self.group, &batch)?;
            entities.clear();
            index.find(&rows.keys, batch.num_rows(), &mut entities);
            let order = match plan.needs_arrivals() {
                true => Some(RowOrder::new(&table, &batch)?),
                false => None,
            };
            let keep: Vec<bool> = entities
                .iter()
                .map(|entity| *entity != NONE && is_in_part(*entity))
                .collect();
            for row in (0..batch.num_rows()).filter(|row| keep[*row]) {
                events.entities.push(entities[row]);
                events.events.push(rows.event(row));
                events.active.push(rows.active(row));
                let arrival = order.as_ref().map(|order| order.arrival(row));
                events.arrivals.push(arrival.unwrap_or(Arrival::unknown(0)));
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

/// The aggregates to compute and the columns that they need.
struct WindowPlan {
    /// The wanted aggregates. Their columns are positions in `columns`.
    aggregates: Vec<Aggregate>,
    /// The layout of the summaries that are stored online, if identities are asked for.
    identities: Option<ItemLayout>,
    /// The columns of the group that are read.
    columns: Vec<Field>,
    /// The columns of the result.
    fields: Vec<Field>,
    /// The group's ttl.
    ttl: Option<Duration>,
    workers: usize,
    /// The room for all answers.
    room: Room,
    given_up: GivenUp,
}

/// Events of some entities, column by column.
#[derive(Default)]
struct EventColumns {
    /// The number of each event's entity.
    entities: Vec<u32>,
    /// Event times.
    events: Vec<Timestamp>,
    /// The time from which each event counts.
    active: Vec<Timestamp>,
    /// When each event came in, if that is needed.
    arrivals: Vec<Arrival>,
    /// The columns of each batch of events.
    columns: Vec<Vec<ArrayRef>>,
}

impl EventColumns {
    /// Concatenates the events of all workers, so that there is one batch of columns.
    fn concat(pieces: Vec<Self>, plan: &WindowPlan) -> Self {
        let mut all = Self::default();
        for piece in pieces {
            all.entities.extend(piece.entities);
            all.events.extend(piece.events);
            all.active.extend(piece.active);
            all.arrivals.extend(piece.arrivals);
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

    /// Puts the events into another order, and drops the numbers of their entities.
    fn reordered(self, order: &[u32]) -> Self {
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
            arrivals: gather(self.arrivals, order),
            columns,
        }
    }

    /// Returns the events at some positions, without their columns.
    fn at(&self, positions: Range<usize>) -> EntityEvents<'_> {
        EntityEvents {
            events: &self.events[positions.clone()],
            arrivals: &self.arrivals[positions.clone()],
            active: &self.active[positions.clone()],
            first: positions.start,
            columns: &[],
        }
    }
}

fn text_answer(text: Option<&str>) -> AggregateValue {
    text.map_or(AggregateValue::Null, |text| {
        AggregateValue::One(Cell::Bytes(text.as_bytes().into()))
    })
}

/// Returns whether an entity has an event that happened exactly at a time, and counts from then on.
fn has_event_at(entity: &EntityEvents<'_>, time: Timestamp) -> bool {
    let first = entity.events.partition_point(|event| *event < time);
    let mut counting = entity.events[first..].iter().zip(&entity.active[first..]);
    let mut at_time = counting.by_ref().take_while(|(event, _)| **event == time);
    at_time.any(|(_, active)| *active <= time)
}

/// The answers that one worker computed for the labels of some entities.
struct WindowAnswers {
    batches: Vec<RecordBatch>,
    /// The label and the place of each answer.
    locations: Vec<(u32, FoundPlace)>,
    builders: Vec<ColumnBuilder>,
    /// The number of rows in the builders.
    rows: u32,
    /// The size of the values in the builders, in bytes.
    bytes: u64,
    /// The answers for the present label that were computed so far.
    answers: Vec<AggregateValue>,
    /// The number of aggregates in `answers` that were computed for the present label.
    pending: usize,
    /// The number of labels that have the time of one of their events.
    coincident: u64,
}

impl WindowPlan {
    /// Computes the answers for the labels of one entity, which are given with their times.
    fn slide(
        &self,
        entity: &EntityEvents<'_>,
        (times, labels): (&[Timestamp], &[u32]),
        types: &[DataType],
        made: &mut WindowAnswers,
    ) {
        if entity.events.is_empty() || labels.is_empty() {
            return;
        }
        let coincides = |time: &&Timestamp| has_event_at(entity, **time);
        made.coincident += times.iter().filter(coincides).count() as u64;
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
                // The aggregates of a label are answered window by window, and not in their own
                // order. The label is complete when all of them are.
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

    /// Returns whether it is needed when events came in: to order events of the same time, or as
    /// part of an identity.
    fn needs_arrivals(&self) -> bool {
        self.identities.is_some() || self.aggregates.iter().any(|a| a.function.is_of_order())
    }

    /// Computes the answers for all labels of one part of the entities, and adds them to `found`.
    fn slide_all(
        &self,
        events: EventColumns,
        band: &Band,
        (part, parts): (u32, u32),
        mut found: FoundFeatures,
    ) -> FoundFeatures {
        let count = band.index.len();
        let mut rows = ByEntity::new(&events.entities, count);
        rows.sort_by_key(|row| (events.events[row as usize], events.arrivals[row as usize]));
        // Windows read each event several times. Sorting the columns as well keeps the events of
        // an entity next to each other in memory.
        let events = events.reordered(rows.order());
        let labels = band.sorted.by_entity();
        let columns: Vec<Cells> = events.columns[0]
            .iter()
            .map(|column| Cells::new(column).expect("aggregates are over storable types"))
            .collect();
        let types: Vec<DataType> = self.columns.iter().map(|c| c.data_type.clone()).collect();
        let next = AtomicUsize::new(0);
        let slid = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..self.workers.max(1) {
                scope.spawn(|| {
                    let mut made = WindowAnswers::new(self);
                    loop {
                        let start = next.fetch_add(ENTITIES, Ordering::Relaxed);
                        let is_stopped = self.room.is_exceeded() || self.given_up.check().is_err();
                        if start >= count || is_stopped {
                            break;
                        }
                        let own = (start..count.min(start + ENTITIES))
                            .filter(|e| *e as u32 % parts == part);
                        for number in own {
                            let entity = EntityEvents {
                                columns: &columns,
                                ..events.at(rows.places(number))
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
        for made in slid.into_inner().unwrap_or_else(PoisonError::into_inner) {
            made.add_to(&mut found);
        }
        found
    }
}

impl WindowAnswers {
    fn new(plan: &WindowPlan) -> Self {
        let builder = |field: &Field| ColumnBuilder::new(&field.data_type, CHUNK_ROWS);
        Self {
            batches: Vec::new(),
            locations: Vec::new(),
            builders: plan.fields.iter().map(builder).collect(),
            rows: 0,
            bytes: 0,
            answers: vec![AggregateValue::Null; plan.fields.len()],
            pending: 0,
            coincident: 0,
        }
    }

    /// Appends the answers for a label as a row, unless there is no more room.
    fn push(&mut self, plan: &WindowPlan, label: u32) {
        self.pending = 0;
        if plan.room.is_exceeded() {
            return;
        }
        for (builder, answer) in self.builders.iter_mut().zip(&self.answers) {
            builder.append_aggregate(answer);
        }
        let place = FoundPlace {
            batch: self.batches.len() as u32,
            row: self.rows,
        };
        self.locations.push((label, place));
        self.rows += 1;
        let before = self.bytes;
        self.bytes = self.builders.iter().map(ColumnBuilder::bytes).sum();
        plan.room.take(self.bytes - before);
        if self.rows as usize == CHUNK_ROWS || self.bytes >= BATCH_BYTES {
            self.flush(plan);
        }
    }

    /// Adds these answers to those of other workers and parts.
    fn add_to(self, found: &mut FoundFeatures) {
        let Locations::Direct(locations) = &mut found.locations else {
            unreachable!("a join of windows locates its answers directly");
        };
        let first = found.batches.len() as u32;
        for (label, place) in self.locations {
            locations[label as usize] = Some(FoundPlace {
                batch: first + place.batch,
                ..place
            });
        }
        found.batches.extend(self.batches);
        found.coincident += self.coincident;
    }

    /// Makes a batch of the rows in the builders.
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
        (self.rows, self.bytes) = (0, 0);
    }
}

#[cfg(test)]
mod tests;
