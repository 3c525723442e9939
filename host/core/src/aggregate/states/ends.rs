//! Lists of the earliest and of the latest events.

use std::cmp::{Ordering, Reverse};
use std::fmt::Debug;
use std::marker::PhantomData;
use std::ops::Range;

use super::{Sliding, State};
use crate::Timestamp;
use crate::aggregate::cell::{AggregateValue, Cell, CellRef};
use crate::aggregate::events::{Covered, EventValues};
use crate::bytes::{DamagedError, Reader, put_signed, put_varint};
use crate::rules::Arrival;

/// The byte between the order of arrival of an entry and its value that says that the creation time
/// comes first. It is not the first byte of any value. Entries that were stored before the order of
/// arrival was kept have neither; their order is the identity of their event.
const CREATED: u8 = 4;

/// The earliest events, earliest first.
pub(in crate::aggregate) type First = EndList<Entry>;
/// The latest events, latest first.
pub(in crate::aggregate) type Last = EndList<Reverse<Entry>>;

/// The events at one end of all events: the earliest or the latest. Its shape is the maximum length
/// of the list.
#[derive(Clone, Debug)]
pub(in crate::aggregate) struct EndList<E> {
    length: u32,
    entries: Vec<E>,
}

/// A statistic of an [`EndList`].
#[derive(Clone, Copy, Debug)]
pub(in crate::aggregate) enum EndStatistic {
    /// The value of the event at the end, or null when there is none.
    Value,
    /// The values of up to this number of events, from the end inwards.
    List(u32),
}

/// An entry in a list of events. Events of the same time are ordered by their arrival, then by the
/// bits of their values, so that the list does not depend on the order in which events are added.
#[derive(Clone, Debug)]
pub(in crate::aggregate) struct Entry {
    event: Timestamp,
    arrival: Arrival,
    cell: Cell,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        let place = |entry: &Self| (entry.event, entry.arrival);
        let by_value = || self.cell.as_ref().exact_cmp(other.cell.as_ref());
        place(self).cmp(&place(other)).then_with(by_value)
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

/// An entry whose order says which end the list is for: an entry that is less is nearer to it.
pub(in crate::aggregate) trait End: Ord + Clone + Debug {
    fn new(entry: Entry) -> Self;
    fn entry(&self) -> &Entry;
    /// Returns the indexes of events from this end inwards.
    fn order(events: Range<usize>) -> impl Iterator<Item = usize>;
}

impl End for Entry {
    fn new(entry: Entry) -> Self {
        entry
    }

    fn entry(&self) -> &Entry {
        self
    }

    fn order(events: Range<usize>) -> impl Iterator<Item = usize> {
        events
    }
}

impl End for Reverse<Entry> {
    fn new(entry: Entry) -> Self {
        Self(entry)
    }

    fn entry(&self) -> &Entry {
        &self.0
    }

    fn order(events: Range<usize>) -> impl Iterator<Item = usize> {
        events.rev()
    }
}

impl<E: End> EndList<E> {
    /// Inserts an entry, and drops the last one if the list becomes too long.
    fn insert(&mut self, entry: E) {
        let length = self.length as usize;
        let place = self.entries.partition_point(|other| *other <= entry);
        if place < length {
            self.entries.insert(place, entry);
            self.entries.truncate(length);
        }
    }
}

impl<E: End> State for EndList<E> {
    type Shape = u32;
    type Statistic = EndStatistic;
    type Sliding = Rescan<E>;

    fn shape(statistic: EndStatistic) -> u32 {
        match statistic {
            EndStatistic::Value => 1,
            EndStatistic::List(length) => length,
        }
    }

    fn new(length: u32) -> Self {
        Self {
            length,
            entries: Vec::new(),
        }
    }

    fn add(&mut self, event: Timestamp, arrival: Arrival, cell: CellRef<'_>) {
        let cell = cell.to_owned();
        self.insert(E::new(Entry {
            event,
            arrival,
            cell,
        }));
    }

    fn merge(&mut self, other: Self) {
        other
            .entries
            .into_iter()
            .for_each(|entry| self.insert(entry));
    }

    fn answer(&self, statistic: EndStatistic) -> AggregateValue {
        let mut cells = self.entries.iter().map(|entry| &entry.entry().cell);
        match statistic {
            EndStatistic::Value => AggregateValue::cell(cells.next()),
            EndStatistic::List(_) => AggregateValue::Many(cells.cloned().collect()),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.entries.len() as u64);
        for entry in self.entries.iter().map(E::entry) {
            put_signed(out, entry.event.as_micros());
            out.extend_from_slice(&entry.arrival.order.to_le_bytes());
            if entry.arrival.is_known() {
                out.push(CREATED);
                put_signed(out, entry.arrival.created.as_micros());
            }
            entry.cell.as_ref().encode(out);
        }
    }

    fn decode(length: u32, reader: &mut Reader<'_>) -> Result<Self, DamagedError> {
        let count = reader.length()?;
        let entry = |_| {
            let event = Timestamp::from_micros(reader.signed()?);
            let mut arrival = Arrival::unknown(u64::from_le_bytes(reader.array()?));
            if reader.skip(CREATED) {
                arrival.created = Timestamp::from_micros(reader.signed()?);
            }
            let cell = Cell::decode_value(reader)?;
            Ok(E::new(Entry {
                event,
                arrival,
                cell,
            }))
        };
        let entries = (0..count).map(entry).collect::<Result<_, _>>()?;
        Ok(Self { length, entries })
    }
}

/// The sliding form of [`EndList`]. It stores no events: each answer reads the events at the end of
/// the window.
#[derive(Debug)]
pub(in crate::aggregate) struct Rescan<E> {
    length: u32,
    end: PhantomData<E>,
}

impl<E: End> Rescan<E> {
    /// Returns the first active events from this end. Events that have the same time and arrival as
    /// the last of them are included, because their values decide the order.
    fn collect(&self, values: EventValues<'_>, covered: Covered) -> EndList<E> {
        let mut state = EndList::new(self.length);
        let mut taken = 0;
        let mut last = None;
        for index in E::order(covered.low..covered.high) {
            let (event, arrival) = values.place(index);
            if taken >= self.length && last != Some((event, arrival)) {
                break;
            }
            if values.events.active[index] > covered.time {
                continue;
            }
            if let Some(cell) = values.cell(index) {
                state.add(event, arrival, cell);
                taken += 1;
                last = Some((event, arrival));
            }
        }
        state
    }
}

impl<E: End> Sliding for Rescan<E> {
    type State = EndList<E>;

    fn new(length: u32) -> Self {
        Self {
            length,
            end: PhantomData,
        }
    }

    fn enter(&mut self, _: EventValues<'_>, _: usize, _: CellRef<'_>) {}

    fn leave(&mut self, _: usize, _: CellRef<'_>) {}

    fn answer(
        &self,
        statistic: EndStatistic,
        values: EventValues<'_>,
        covered: Covered,
    ) -> AggregateValue {
        self.collect(values, covered).answer(statistic)
    }
}
