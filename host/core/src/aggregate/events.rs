//! The events of an entity as columns, over which windows slide.

use super::cell::{CellRef, Cells};
use crate::Timestamp;
use crate::rules::Arrival;

/// The events of an entity, in the order of event time and then of arrival.
#[derive(Clone, Copy, Debug)]
pub struct EntityEvents<'a> {
    /// Event times.
    pub events: &'a [Timestamp],
    /// When each event came in.
    pub arrivals: &'a [Arrival],
    /// The time from which each event counts: the later of its event time and its available time.
    pub active: &'a [Timestamp],
    /// Row of the first event in the columns. The other events follow it.
    pub first: usize,
    /// The columns that aggregates read.
    pub columns: &'a [Cells],
}

impl EntityEvents<'_> {
    /// The value of an event in a column, or in the column of the events themselves if that is
    /// `None`. Null values are `None`.
    pub(super) fn cell(&self, column: Option<usize>, index: usize) -> Option<CellRef<'_>> {
        match column {
            None => Some(CellRef::Int(0)),
            Some(column) => self.columns[column].get(self.first + index),
        }
    }

    /// The events in the order in which they begin to count, or nothing if that is their own order,
    /// as it mostly is.
    pub(super) fn by_activity(&self) -> Vec<usize> {
        if self.active.is_sorted() {
            return Vec::new();
        }
        let mut order: Vec<usize> = (0..self.events.len()).collect();
        order.sort_by_key(|index| self.active[*index]);
        order
    }
}

/// The values of one column at the events of an entity.
#[derive(Clone, Copy, Debug)]
pub(super) struct EventValues<'a> {
    pub(super) events: &'a EntityEvents<'a>,
    pub(super) column: Option<usize>,
}

impl<'a> EventValues<'a> {
    pub(super) fn cell(&self, index: usize) -> Option<CellRef<'a>> {
        self.events.cell(self.column, index)
    }

    /// The time and the arrival of an event, by which events are ordered.
    pub(super) fn place(&self, index: usize) -> (Timestamp, Arrival) {
        (self.events.events[index], self.events.arrivals[index])
    }
}

/// A window as of a time. It covers those of the events `low..high` that are active at the time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Covered {
    pub(super) low: usize,
    pub(super) high: usize,
    pub(super) time: Timestamp,
}
