//! Aggregates as of many points in time, in one pass over an entity's events.

use super::Aggregate;
use super::cell::AggregateValue;
use super::events::{Covered, EntityEvents, EventValues};
use super::item::{Item, ItemIdentity, ItemLayout};
use super::states::{AnySliding, StateKind, Statistic};
use crate::rules::is_expired;
use crate::window::Window;
use crate::{DataType, Duration, Timestamp};

/// What is kept of one column for one kind of state.
struct Slot {
    kind: StateKind,
    column: Option<usize>,
    sliding: AnySliding,
}

/// An aggregate, and the slot that answers it.
struct WindowAggregate {
    /// Position among all aggregates.
    position: usize,
    slot: usize,
    statistic: Statistic,
}

/// The aggregates over one window.
struct Sliders {
    window: Window,
    /// Index of the first event that is not before the window.
    low: usize,
    slots: Vec<Slot>,
    aggregates: Vec<WindowAggregate>,
}

impl Sliders {
    fn group(aggregates: &[Aggregate], types: &[DataType]) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for (index, aggregate) in aggregates.iter().enumerate() {
            let found = groups.iter().position(|g| g.window == aggregate.window);
            let group = found.unwrap_or_else(|| {
                groups.push(Self::new(aggregate.window));
                groups.len() - 1
            });
            let group = &mut groups[group];
            let statistic = aggregate.statistic(types);
            let slot = group.slot(statistic.kind(), aggregate.column);
            group.aggregates.push(WindowAggregate {
                position: index,
                slot,
                statistic,
            });
        }
        groups
    }

    fn new(window: Window) -> Self {
        Self {
            window,
            low: 0,
            slots: Vec::new(),
            aggregates: Vec::new(),
        }
    }

    /// The index of the slot for a kind of state and a column, which is added if it is new.
    fn slot(&mut self, kind: StateKind, column: Option<usize>) -> usize {
        let is_it = |slot: &Slot| slot.kind == kind && slot.column == column;
        self.slots.iter().position(is_it).unwrap_or_else(|| {
            self.slots.push(Slot {
                kind,
                column,
                sliding: AnySliding::new(kind),
            });
            self.slots.len() - 1
        })
    }
}

impl Slot {
    fn values<'a>(&self, events: &'a EntityEvents<'a>) -> EventValues<'a> {
        EventValues {
            events,
            column: self.column,
        }
    }

    fn enter(&mut self, events: &EntityEvents<'_>, index: usize) {
        let values = self.values(events);
        if let Some(cell) = values.cell(index) {
            self.sliding.enter(values, index, cell);
        }
    }

    fn leave(&mut self, events: &EntityEvents<'_>, index: usize) {
        if let Some(cell) = self.values(events).cell(index) {
            self.sliding.leave(index, cell);
        }
    }

    fn answer(
        &self,
        statistic: Statistic,
        events: &EntityEvents<'_>,
        covered: Covered,
    ) -> AggregateValue {
        self.sliding.answer(statistic, self.values(events), covered)
    }
}

/// Answers aggregates over an entity's events as of each of some ascending times. `emit` is called
/// with the position of the time, the position of the aggregate, and the answer. Every answer is
/// null before the entity's first event, and while its newest event is older than `ttl`.
pub fn slide(
    aggregates: &[Aggregate],
    types: &[DataType],
    events: &EntityEvents<'_>,
    times: &[Timestamp],
    ttl: Option<Duration>,
    mut emit: impl FnMut(usize, usize, AggregateValue),
) {
    let mut groups = Sliders::group(aggregates, types);
    let length = events.events.len();
    let order = events.by_activity();
    let at = |place: usize| order.get(place).copied().unwrap_or(place);
    let (mut active, mut high) = (0, 0);
    let mut newest = Timestamp::MIN;
    let mut before = Timestamp::MIN;
    for (position, time) in times.iter().copied().enumerate() {
        let first = active;
        while active < length && events.active[at(active)] <= time {
            newest = newest.max(events.events[at(active)]);
            active += 1;
        }
        while high < length && events.events[high] <= time {
            high += 1;
        }
        let expired = is_expired(newest, ttl, time);
        for group in &mut groups {
            let start = group.window.start(time);
            let lifetime = group.window.width.is_none();
            while !lifetime && group.low < length && events.events[group.low] <= start {
                // An event that was active at the previous time has entered the window and must
                // leave it.
                if events.active[group.low] <= before && position > 0 {
                    let low = group.low;
                    group.slots.iter_mut().for_each(|s| s.leave(events, low));
                }
                group.low += 1;
            }
            for index in (first..active).map(at).filter(|index| *index >= group.low) {
                group.slots.iter_mut().for_each(|s| s.enter(events, index));
            }
            let covered = Covered {
                low: group.low.min(high),
                high,
                time,
            };
            for aggregate in &group.aggregates {
                let answer = if active == 0 || expired {
                    AggregateValue::Null
                } else {
                    group.slots[aggregate.slot].answer(aggregate.statistic, events, covered)
                };
                emit(position, aggregate.position, answer);
            }
        }
        before = time;
    }
}

/// The [`ItemIdentity`] of an entity's events as of each of some ascending times, or `None` before
/// the first event and while the newest one is older than `ttl`.
pub fn identities(
    layout: &ItemLayout,
    events: &EntityEvents<'_>,
    times: &[Timestamp],
    ttl: Option<Duration>,
) -> Vec<Option<String>> {
    let order = events.by_activity();
    let mut item = Item::new(layout);
    let mut active = 0;
    let mut last = None;
    let mut identity = |time: &Timestamp| {
        while active < events.events.len() {
            let index = order.get(active).copied().unwrap_or(active);
            if events.active[index] > *time {
                break;
            }
            let (event, arrival) = (events.events[index], events.arrivals[index]);
            let cell = |column| events.cell(Some(column), index);
            item.add(layout, event, arrival, cell);
            active += 1;
            last = None;
        }
        if active == 0 || is_expired(item.newest(), ttl, *time) {
            return None;
        }
        let identity =
            last.get_or_insert_with(|| ItemIdentity::of(&item.encode(layout)).to_string());
        Some(identity.clone())
    };
    times.iter().map(&mut identity).collect()
}
