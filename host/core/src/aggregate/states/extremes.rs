//! The least and the greatest value.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::marker::PhantomData;

use super::{Sliding, State};
use crate::Timestamp;
use crate::aggregate::cell::{AggregateValue, Cell, CellRef};
use crate::aggregate::events::{Covered, EventValues};
use crate::bytes::{DamagedError, Reader};
use crate::rules::Arrival;

/// The least value. NaN counts as the greatest.
pub(in crate::aggregate) type Min = Foremost<Ascending>;
/// The greatest value. NaN counts as the greatest.
pub(in crate::aggregate) type Max = Foremost<Descending>;

/// The value that comes first in an order, if there are values.
#[derive(Clone, Debug)]
pub(in crate::aggregate) struct Foremost<O> {
    value: Option<Cell>,
    order: PhantomData<O>,
}

/// The statistic of [`Min`] and [`Max`]: the extreme value, or null when there is none.
#[derive(Clone, Copy, Debug)]
pub(in crate::aggregate) struct Extreme;

/// An order of values.
pub(in crate::aggregate) trait Order: Clone + Debug {
    fn compare(a: CellRef<'_>, b: CellRef<'_>) -> Ordering;
}

#[derive(Clone, Debug)]
pub(in crate::aggregate) struct Ascending;

impl Order for Ascending {
    fn compare(a: CellRef<'_>, b: CellRef<'_>) -> Ordering {
        a.cmp(&b)
    }
}

#[derive(Clone, Debug)]
pub(in crate::aggregate) struct Descending;

impl Order for Descending {
    fn compare(a: CellRef<'_>, b: CellRef<'_>) -> Ordering {
        b.cmp(&a)
    }
}

impl<O: Order> Foremost<O> {
    fn is_beaten_by(&self, cell: CellRef<'_>) -> bool {
        let value = self.value.as_ref();
        value.is_none_or(|value| O::compare(cell, value.as_ref()).is_lt())
    }
}

impl<O: Order> State for Foremost<O> {
    type Shape = ();
    type Statistic = Extreme;
    type Sliding = Candidates<O>;

    fn shape(_: Extreme) {}

    fn new((): ()) -> Self {
        Self {
            value: None,
            order: PhantomData,
        }
    }

    fn add(&mut self, _: Timestamp, _: Arrival, cell: CellRef<'_>) {
        if self.is_beaten_by(cell) {
            self.value = Some(cell.canonical().to_owned());
        }
    }

    fn merge(&mut self, other: Self) {
        if let Some(value) = other.value
            && self.is_beaten_by(value.as_ref())
        {
            self.value = Some(value);
        }
    }

    fn answer(&self, Extreme: Extreme) -> AggregateValue {
        AggregateValue::cell(self.value.as_ref())
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match &self.value {
            None => out.push(0),
            Some(value) => value.as_ref().encode(out),
        }
    }

    fn decode((): (), reader: &mut Reader<'_>) -> Result<Self, DamagedError> {
        Ok(Self {
            // Earlier versions stored −0.0.
            value: Cell::decode(reader)?.map(|cell| cell.as_ref().canonical().to_owned()),
            order: PhantomData,
        })
    }
}

/// The events of a window that are or may become the extreme, by their index. None is beaten by a
/// later one, so that their values are in this order.
#[derive(Debug)]
pub(in crate::aggregate) struct Candidates<O> {
    events: VecDeque<usize>,
    order: PhantomData<O>,
}

impl<O: Order> Sliding for Candidates<O> {
    type State = Foremost<O>;

    fn new((): ()) -> Self {
        Self {
            events: VecDeque::new(),
            order: PhantomData,
        }
    }

    fn enter(&mut self, values: EventValues<'_>, index: usize, cell: CellRef<'_>) {
        let beats = |a: CellRef<'_>, b: CellRef<'_>| O::compare(a, b).is_le();
        let value = |index: usize| values.cell(index).expect("null values do not enter");
        let mut place = self.events.partition_point(|other| *other < index);
        let later = self.events.get(place);
        if later.is_some_and(|later| beats(value(*later), cell)) {
            return;
        }
        while place > 0 && beats(cell, value(self.events[place - 1])) {
            place -= 1;
            self.events.remove(place);
        }
        self.events.insert(place, index);
    }

    fn leave(&mut self, index: usize, _: CellRef<'_>) {
        if self.events.front() == Some(&index) {
            self.events.pop_front();
        }
    }

    fn answer(&self, Extreme: Extreme, values: EventValues<'_>, _: Covered) -> AggregateValue {
        let extreme = self.events.front().and_then(|index| values.cell(*index));
        extreme.map_or(AggregateValue::Null, |cell| {
            AggregateValue::One(cell.canonical().to_owned())
        })
    }
}
