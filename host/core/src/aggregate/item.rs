//! The events of an entity, summed up in tiles, as the online store holds them.
//!
//! Format, with numbers in LEB128 where no size is given:
//!
//! - the number of the format, 2, one byte;
//! - the newest event time, in microseconds since the Unix epoch, 8 bytes little endian;
//! - the number of series, and each series: its hop in microseconds (0: every event by itself; 1:
//!   everything in one tile); its retention in microseconds plus one (0: for ever); the number of
//!   states and the kind of each; the number of entries, and for each entry its place (the tile's
//!   end divided by the hop, or the event time), its length, and its states, or the event's
//!   identity and values.
//!
//! The series describe themselves, so that items can be merged without knowing the feature group.
//!
//! Events that are older than every window at the newest event are left out. An item is thus a
//! function of the set of events, whatever their order.

use std::collections::BTreeMap;

use super::cell::{Answer, Cell, CellRef};
use super::state::{Kind, State};
use super::{Aggregate, Function};
use crate::bytes::{DamagedError, Reader, put_signed, put_varint};
use crate::window::{Window, tile_end};
use crate::{DataType, Duration, Timestamp};

const FORMAT: u8 = 2;

/// How the events of a series are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Span {
    Exact,
    Lifetime,
    Tiles(Duration),
}

/// A kind of state, and the column that it sums up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Accumulator {
    kind: Kind,
    column: Option<usize>,
}

/// Tiles of one size, or single events, which several windows share.
#[derive(Clone, Debug)]
struct Series {
    span: Span,
    /// Width of the widest window, or `None` if events are kept for ever.
    retention: Option<Duration>,
    /// The states of each tile.
    accumulators: Vec<Accumulator>,
    /// The columns whose values are kept of each single event.
    columns: Vec<usize>,
}

/// An aggregate, and where in an item its answer comes from.
#[derive(Clone, Debug)]
struct Placed {
    series: usize,
    /// Index of the state in a tile.
    slot: usize,
    aggregate: Aggregate,
    /// Whether the answer is a sum of int64 values, which a float could not hold.
    int_sum: bool,
}

/// The series that the items of a feature group are made of.
#[derive(Clone, Debug)]
pub struct Layout {
    series: Vec<Series>,
    placed: Vec<Placed>,
}

impl Layout {
    /// Creates the layout for some aggregates over columns of these types.
    pub fn new(aggregates: &[Aggregate], columns: &[DataType]) -> Self {
        let mut series: Vec<Series> = Vec::new();
        let mut placed = Vec::new();
        for aggregate in aggregates {
            let Window { width, hop } = aggregate.window;
            let span = match (width, hop) {
                (None, _) => Span::Lifetime,
                (_, None) => Span::Exact,
                (_, Some(hop)) => Span::Tiles(hop),
            };
            let found = series.iter().position(|s| s.span == span);
            let index = found.unwrap_or_else(|| {
                series.push(Series {
                    span,
                    retention: width,
                    accumulators: Vec::new(),
                    columns: Vec::new(),
                });
                series.len() - 1
            });
            let Series {
                retention,
                accumulators,
                columns: value_columns,
                ..
            } = &mut series[index];
            *retention = (*retention).max(width);
            let column = aggregate.column;
            if span == Span::Exact {
                value_columns.extend(column.filter(|column| !value_columns.contains(column)));
            }
            let accumulator = Accumulator {
                kind: aggregate.function.kind(),
                column,
            };
            let slot = accumulators.iter().position(|a| *a == accumulator);
            let slot = slot.unwrap_or_else(|| {
                accumulators.push(accumulator);
                accumulators.len() - 1
            });
            placed.push(Placed {
                series: index,
                slot,
                int_sum: is_int_sum(aggregate, columns),
                aggregate: aggregate.clone(),
            });
        }
        Self { series, placed }
    }
}

/// Whether an aggregate is a sum of int64 values.
pub(super) fn is_int_sum(aggregate: &Aggregate, columns: &[DataType]) -> bool {
    aggregate.function == Function::Sum
        && aggregate.column.map(|column| &columns[column]) == Some(&DataType::Int64)
}

/// The answer of a state to an aggregate.
pub(super) fn answer(state: &State, function: Function, int_sum: bool) -> Answer {
    if int_sum {
        state.int_sum()
    } else {
        state.answer(function)
    }
}

impl Series {
    fn encode_header(&self, out: &mut Vec<u8>) {
        let hop = match self.span {
            Span::Exact => 0,
            Span::Lifetime => 1,
            Span::Tiles(hop) => hop.as_micros() as u64,
        };
        put_varint(out, hop);
        put_varint(
            out,
            self.retention
                .map_or(0, |width| width.as_micros() as u64 + 1),
        );
        if self.span == Span::Exact {
            put_varint(out, 0);
        } else {
            put_varint(out, self.accumulators.len() as u64);
            self.accumulators.iter().for_each(|a| a.kind.encode(out));
        }
    }

    /// The place of an event in the series.
    fn place(&self, event: i64) -> i64 {
        match self.span {
            Span::Exact => event,
            Span::Lifetime => 0,
            Span::Tiles(hop) => {
                let end = tile_end(Timestamp::from_micros(event), hop);
                end.as_micros() / hop.as_micros()
            }
        }
    }
}

/// The header of a series.
struct Header {
    span: Span,
    retention: Option<Duration>,
    kinds: Vec<Kind>,
}

impl Header {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DamagedError> {
        let number =
            |reader: &mut Reader<'_>| i64::try_from(reader.varint()?).map_err(|_| reader.damaged());
        let span = match number(reader)? {
            0 => Span::Exact,
            1 => Span::Lifetime,
            hop => Span::Tiles(Duration::from_micros(hop)),
        };
        let retention = match number(reader)? {
            0 => None,
            more => Some(Duration::from_micros(more - 1)),
        };
        let kinds = (0..reader.length()?)
            .map(|_| Kind::decode(reader))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            span,
            retention,
            kinds,
        })
    }

    /// The last place that no window covers at `newest` or later.
    fn horizon(span: Span, retention: Option<Duration>, newest: i64) -> i64 {
        let hop = match span {
            Span::Tiles(hop) => Some(hop),
            Span::Exact | Span::Lifetime => None,
        };
        let window = Window {
            width: retention,
            hop,
        };
        let start = window.start(Timestamp::from_micros(newest)).as_micros();
        match span {
            Span::Lifetime => i64::MIN,
            Span::Exact => start,
            Span::Tiles(hop) => start.div_euclid(hop.as_micros()),
        }
    }
}

/// The events of an entity, to which others can be added.
#[derive(Clone, Debug)]
pub struct Item {
    newest: i64,
    series: Vec<Entries>,
    /// Number of events that were added since old ones were last left out, and the number at which
    /// old ones are left out again.
    unpruned: usize,
    allowed: usize,
}

/// Least number of added events after which old ones are left out, so that an item that takes in a
/// long history stays about as small as its stored form.
const PRUNE_AFTER: usize = 16;

#[derive(Clone, Debug)]
enum Entries {
    /// The time of each event, and its encoded identity and values.
    Exact(Vec<(i64, Vec<u8>)>),
    Tiles(BTreeMap<i64, Vec<State>>),
}

impl Item {
    /// Creates an item without events.
    pub fn new(layout: &Layout) -> Self {
        let entries = |series: &Series| match series.span {
            Span::Exact => Entries::Exact(Vec::new()),
            Span::Lifetime | Span::Tiles(_) => Entries::Tiles(BTreeMap::new()),
        };
        Self {
            newest: i64::MIN,
            series: layout.series.iter().map(entries).collect(),
            unpruned: 0,
            allowed: PRUNE_AFTER,
        }
    }

    /// Leaves out events that no window covers at the newest event or later.
    fn prune(&mut self, layout: &Layout) {
        let mut remaining = 0;
        for (series, entries) in layout.series.iter().zip(&mut self.series) {
            let horizon = Header::horizon(series.span, series.retention, self.newest);
            match entries {
                Entries::Exact(events) => events.retain(|(event, _)| *event > horizon),
                Entries::Tiles(_) if series.span == Span::Lifetime => {}
                Entries::Tiles(tiles) => {
                    *tiles = tiles.split_off(&horizon.saturating_add(1));
                }
            }
            remaining = remaining.max(match entries {
                Entries::Exact(events) => events.len(),
                Entries::Tiles(tiles) => tiles.len(),
            });
        }
        // Pruning again only after as many events as are left now keeps the cost per event
        // constant.
        (self.unpruned, self.allowed) = (0, remaining.max(PRUNE_AFTER));
    }

    /// Adds an event: its time, its identity, and its value in each column.
    pub fn add<'a>(
        &mut self,
        layout: &Layout,
        event: Timestamp,
        id: u64,
        value: impl Fn(usize) -> Option<CellRef<'a>>,
    ) {
        let event = event.as_micros();
        self.newest = self.newest.max(event);
        self.unpruned += 1;
        if self.unpruned >= self.allowed {
            self.prune(layout);
        }
        for (series, entries) in layout.series.iter().zip(&mut self.series) {
            match entries {
                Entries::Exact(events) => {
                    let mut bytes = id.to_le_bytes().to_vec();
                    for column in &series.columns {
                        match value(*column) {
                            None => bytes.push(0),
                            Some(cell) => cell.encode(&mut bytes),
                        }
                    }
                    events.push((event, bytes));
                }
                Entries::Tiles(tiles) => {
                    let fresh = || {
                        let states = series.accumulators.iter();
                        states.map(|a| State::new(a.kind)).collect()
                    };
                    let tile = tiles.entry(series.place(event)).or_insert_with(fresh);
                    for (state, accumulator) in tile.iter_mut().zip(&series.accumulators) {
                        let cell = match accumulator.column {
                            None => Some(CellRef::Int(0)),
                            Some(column) => value(column),
                        };
                        cell.into_iter().for_each(|cell| state.add(event, id, cell));
                    }
                }
            }
        }
    }

    /// The time of the newest event.
    pub fn newest(&self) -> Timestamp {
        Timestamp::from_micros(self.newest)
    }

    /// Encodes the item as it is stored.
    pub fn encode(&mut self, layout: &Layout) -> Vec<u8> {
        self.prune(layout);
        let mut out = vec![FORMAT];
        out.extend_from_slice(&self.newest.to_le_bytes());
        put_varint(&mut out, layout.series.len() as u64);
        for (series, entries) in layout.series.iter().zip(&mut self.series) {
            series.encode_header(&mut out);
            match entries {
                Entries::Exact(events) => {
                    events.sort_unstable();
                    put_varint(&mut out, events.len() as u64);
                    for (event, bytes) in events {
                        put_entry(&mut out, *event, bytes);
                    }
                }
                Entries::Tiles(tiles) => {
                    put_varint(&mut out, tiles.len() as u64);
                    let mut bytes = Vec::new();
                    for (place, states) in tiles {
                        bytes.clear();
                        states.iter().for_each(|state| state.encode(&mut bytes));
                        put_entry(&mut out, *place, &bytes);
                    }
                }
            }
        }
        out
    }
}

fn put_entry(out: &mut Vec<u8>, place: i64, bytes: &[u8]) {
    put_signed(out, place);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Whether stored values are an item rather than a packed row.
pub fn is_item(values: &[u8]) -> bool {
    values.first() == Some(&FORMAT)
}

/// The time of the newest event of a stored item.
///
/// # Errors
/// Returns [`DamagedError`] when it is not an item.
pub fn newest_event(item: &[u8]) -> Result<Timestamp, DamagedError> {
    let (_, newest) = open(item)?;
    Ok(Timestamp::from_micros(newest))
}

/// Names the events that were read, for the request log and for comparisons with it: the XXH64 hash
/// of the stored item, which is a function of the set of its events.
pub fn item_identity(item: &[u8]) -> String {
    format!("{:016x}", twox_hash::XxHash64::oneshot(0, item))
}

/// Begins to read an item. Returns a reader of what follows the newest event time, and that time.
fn open(item: &[u8]) -> Result<(Reader<'_>, i64), DamagedError> {
    let mut reader = Reader::new(item);
    if reader.byte()? != FORMAT {
        return Err(DamagedError(0));
    }
    let newest = i64::from_le_bytes(reader.array()?);
    Ok((reader, newest))
}

/// A place and its bytes.
type Entry<'a> = (i64, &'a [u8]);

/// Reads the entries of a series one after the other.
struct EntryReader<'a, 'b> {
    reader: &'b mut Reader<'a>,
    left: usize,
}

impl<'a, 'b> EntryReader<'a, 'b> {
    fn new(reader: &'b mut Reader<'a>) -> Result<Self, DamagedError> {
        let left = reader.length()?;
        Ok(Self { reader, left })
    }

    fn next(&mut self) -> Result<Option<Entry<'a>>, DamagedError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let place = self.reader.signed()?;
        let length = self.reader.length()?;
        Ok(Some((place, self.reader.take(length)?)))
    }
}

/// Merges two items of one feature group that have no event in common.
///
/// # Errors
/// Returns [`DamagedError`] when one is not an item, or they are of different groups.
pub fn merge_items(left: &[u8], right: &[u8]) -> Result<Vec<u8>, DamagedError> {
    let ((mut a, newest), (mut b, other)) = (open(left)?, open(right)?);
    let newest = newest.max(other);
    let mut out = Vec::with_capacity(left.len() + 64);
    out.push(FORMAT);
    out.extend_from_slice(&newest.to_le_bytes());
    let count = a.varint()?;
    if b.varint()? != count {
        return Err(b.damaged());
    }
    put_varint(&mut out, count);
    let mut merged = Vec::with_capacity(left.len());
    for _ in 0..count {
        let start = left.len() - a.rest();
        let header = Header::decode(&mut a)?;
        let end = left.len() - a.rest();
        let bytes = &left[start..end];
        if b.take(bytes.len())? != bytes {
            return Err(b.damaged());
        }
        out.extend_from_slice(bytes);
        merged.clear();
        let entries = merge_series(&header, newest, &mut a, &mut b, &mut merged)?;
        put_varint(&mut out, entries);
        out.extend_from_slice(&merged);
    }
    Ok(out)
}

/// Merges the entries of a series in order, and returns how many there are. Most of them are in one
/// item only and are copied as they are.
fn merge_series(
    header: &Header,
    newest: i64,
    left: &mut Reader<'_>,
    right: &mut Reader<'_>,
    out: &mut Vec<u8>,
) -> Result<u64, DamagedError> {
    let horizon = Header::horizon(header.span, header.retention, newest);
    let is_kept = |place: i64| place > horizon || header.span == Span::Lifetime;
    let (mut lefts, mut rights) = (EntryReader::new(left)?, EntryReader::new(right)?);
    let (mut a, mut b) = (lefts.next()?, rights.next()?);
    let mut count = 0;
    let mut both = Vec::new();
    loop {
        let is_tile = header.span != Span::Exact;
        let (place, bytes) = match (a, b) {
            (None, None) => return Ok(count),
            (Some(x), Some(y)) if is_tile && x.0 == y.0 => {
                both.clear();
                merge_tiles(&header.kinds, x.1, y.1, &mut both)?;
                (a, b) = (lefts.next()?, rights.next()?);
                (x.0, both.as_slice())
            }
            (Some(x), y) if y.is_none_or(|y| x <= y) => {
                a = lefts.next()?;
                x
            }
            (_, Some(y)) => {
                b = rights.next()?;
                y
            }
            (Some(_), None) => unreachable!("it is less than nothing"),
        };
        if is_kept(place) {
            put_entry(out, place, bytes);
            count += 1;
        }
    }
}

fn merge_tiles(
    kinds: &[Kind],
    left: &[u8],
    right: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), DamagedError> {
    let (mut a, mut b) = (Reader::new(left), Reader::new(right));
    for kind in kinds {
        let mut state = State::decode(*kind, &mut a)?;
        state.merge(State::decode(*kind, &mut b)?);
        state.encode(out);
    }
    Ok(())
}

/// The answers of a group's aggregates at `now`, from an entity's stored item.
///
/// # Errors
/// Returns [`DamagedError`] when it is not an item of this layout.
pub fn read(layout: &Layout, item: &[u8], now: Timestamp) -> Result<Vec<Answer>, DamagedError> {
    let (mut reader, _) = open(item)?;
    if reader.varint()? != layout.series.len() as u64 {
        return Err(reader.damaged());
    }
    let mut answers = vec![Answer::Null; layout.placed.len()];
    for (index, series) in layout.series.iter().enumerate() {
        let header = Header::decode(&mut reader)?;
        if header.span != series.span || header.retention != series.retention {
            return Err(reader.damaged());
        }
        let mut entries = Vec::new();
        let mut stored = EntryReader::new(&mut reader)?;
        while let Some(entry) = stored.next()? {
            entries.push(entry);
        }
        let mut placed: Vec<(usize, &Placed)> = layout
            .placed
            .iter()
            .enumerate()
            .filter(|(_, placed)| placed.series == index)
            .collect();
        placed.sort_by_key(|(_, placed)| placed.aggregate.window.width);
        if series.span == Span::Exact {
            read_events(series, &entries, &placed, now, &mut answers)?;
        } else {
            read_tiles(series, &entries, &placed, now, &mut answers)?;
        }
    }
    Ok(answers)
}

/// Reads windows from the narrowest to the widest, and tiles from the newest to the oldest, so that
/// each tile is merged once.
fn read_tiles(
    series: &Series,
    entries: &[Entry<'_>],
    placed: &[(usize, &Placed)],
    now: Timestamp,
    answers: &mut [Answer],
) -> Result<(), DamagedError> {
    let fresh = series.accumulators.iter().map(|a| State::new(a.kind));
    let mut states: Vec<State> = fresh.collect();
    let mut next = entries.len();
    for (index, placed) in placed {
        let window = placed.aggregate.window;
        let start = match series.span {
            Span::Tiles(hop) => window.start(now).as_micros().div_euclid(hop.as_micros()),
            Span::Exact | Span::Lifetime => i64::MIN,
        };
        while next > 0 && entries[next - 1].0 > start {
            next -= 1;
            let mut reader = Reader::new(entries[next].1);
            for (state, accumulator) in states.iter_mut().zip(&series.accumulators) {
                state.merge(State::decode(accumulator.kind, &mut reader)?);
            }
        }
        let state = &states[placed.slot];
        answers[*index] = answer(state, placed.aggregate.function, placed.int_sum);
    }
    Ok(())
}

fn read_events(
    series: &Series,
    entries: &[Entry<'_>],
    placed: &[(usize, &Placed)],
    now: Timestamp,
    answers: &mut [Answer],
) -> Result<(), DamagedError> {
    type Event = (i64, u64, Vec<Option<Cell>>);
    let event = |(event, bytes): &Entry<'_>| -> Result<Event, DamagedError> {
        let mut reader = Reader::new(bytes);
        let id = u64::from_le_bytes(reader.array()?);
        let cells = series.columns.iter().map(|_| Cell::decode(&mut reader));
        Ok((*event, id, cells.collect::<Result<_, _>>()?))
    };
    let events: Vec<Event> = entries.iter().map(event).collect::<Result<_, _>>()?;
    for (index, placed) in placed {
        let Aggregate {
            function,
            column,
            window,
        } = placed.aggregate;
        let start = window.start(now).as_micros();
        let slot = column.and_then(|column| series.columns.iter().position(|c| *c == column));
        let mut state = State::new(function.kind());
        let covered = events.partition_point(|(event, ..)| *event <= start);
        for (event, id, cells) in &events[covered..] {
            let cell = match slot {
                None => Some(CellRef::Int(0)),
                Some(slot) => cells[slot].as_ref().map(Cell::as_ref),
            };
            cell.into_iter()
                .for_each(|cell| state.add(*event, *id, cell));
        }
        answers[*index] = answer(&state, function, placed.int_sum);
    }
    Ok(())
}
