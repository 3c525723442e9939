//! Aggregates as of many points in time, in one pass over an entity's events.

use std::collections::VecDeque;

use super::Aggregate;
use super::cell::{Answer, CellRef, Cells};
use super::item::{Item, Layout, answer, is_int_sum, item_identity};
use super::sketch::SlidingHll;
use super::state::{Kind, State};
use crate::rules::is_expired;
use crate::window::Window;
use crate::{DataType, Duration, Timestamp};

/// The events of an entity, in the order of event time and then identity.
#[derive(Clone, Copy, Debug)]
pub struct EntityEvents<'a> {
    /// Event times, in microseconds since the Unix epoch.
    pub events: &'a [i64],
    /// Identities of the events, as 64-bit hashes.
    pub ids: &'a [u64],
    /// The time from which each event counts: the later of its event time and its available time.
    pub active: &'a [i64],
    /// Row of the first event in the columns. The other events follow it.
    pub first: usize,
    /// The columns that aggregates read.
    pub columns: &'a [Cells],
}

impl EntityEvents<'_> {
    fn cell(&self, column: Option<usize>, index: usize) -> Option<CellRef<'_>> {
        match column {
            None => Some(CellRef::Int(0)),
            Some(column) => self.columns[column].get(self.first + index),
        }
    }

    /// The events in the order in which they begin to count, or nothing if that is their own order,
    /// as it mostly is.
    fn by_activity(&self) -> Vec<usize> {
        if self.active.is_sorted() {
            return Vec::new();
        }
        let mut order: Vec<usize> = (0..self.events.len()).collect();
        order.sort_by_key(|index| self.active[*index]);
        order
    }
}

/// What is kept of a column while a window slides over it.
enum Sliding {
    /// A state from which values can be removed.
    State(State),
    Hll(SlidingHll),
    /// Candidates for the greatest (or least) value. None is beaten by a later one, so that their
    /// values fall (or rise).
    Extreme(Kind, VecDeque<usize>),
    /// Nothing. The events at the ends of the window are read instead.
    Ends(Kind),
}

struct Slot {
    kind: Kind,
    column: Option<usize>,
    sliding: Sliding,
}

/// The aggregates over one window.
struct Sliders {
    window: Window,
    /// Index of the first event that is not before the window.
    low: usize,
    slots: Vec<Slot>,
    /// The position of each aggregate, its slot, and whether it is a sum of int64 values.
    answers: Vec<(usize, usize, bool)>,
}

impl Sliders {
    fn group(aggregates: &[Aggregate], types: &[DataType]) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for (index, aggregate) in aggregates.iter().enumerate() {
            let found = groups.iter().position(|g| g.window == aggregate.window);
            let group = found.unwrap_or_else(|| {
                groups.push(Self {
                    window: aggregate.window,
                    low: 0,
                    slots: Vec::new(),
                    answers: Vec::new(),
                });
                groups.len() - 1
            });
            let group = &mut groups[group];
            let (kind, column) = (aggregate.function.kind(), aggregate.column);
            let slot = group
                .slots
                .iter()
                .position(|s| s.kind == kind && s.column == column);
            let slot = slot.unwrap_or_else(|| {
                let sliding = match kind {
                    Kind::Min | Kind::Max => Sliding::Extreme(kind, VecDeque::new()),
                    Kind::First(_) | Kind::Last(_) => Sliding::Ends(kind),
                    Kind::Hll => Sliding::Hll(SlidingHll::default()),
                    _ => Sliding::State(State::new(kind)),
                };
                group.slots.push(Slot {
                    kind,
                    column,
                    sliding,
                });
                group.slots.len() - 1
            });
            group
                .answers
                .push((index, slot, is_int_sum(aggregate, types)));
        }
        groups
    }
}

impl Slot {
    fn enter(&mut self, events: &EntityEvents<'_>, index: usize) {
        let Some(cell) = events.cell(self.column, index) else {
            return;
        };
        match &mut self.sliding {
            Sliding::State(state) => state.add(events.events[index], events.ids[index], cell),
            Sliding::Hll(sketch) => sketch.add(cell.hash64()),
            Sliding::Extreme(kind, candidates) => {
                let beats = |a: CellRef<'_>, b: CellRef<'_>| match kind {
                    Kind::Min => a <= b,
                    _ => a >= b,
                };
                let value = |index: usize| events.cell(self.column, index).expect("not null");
                let mut place = candidates.partition_point(|other| *other < index);
                if candidates
                    .get(place)
                    .is_some_and(|later| beats(value(*later), cell))
                {
                    return;
                }
                while place > 0 && beats(cell, value(candidates[place - 1])) {
                    place -= 1;
                    candidates.remove(place);
                }
                candidates.insert(place, index);
            }
            Sliding::Ends(_) => {}
        }
    }

    fn leave(&mut self, events: &EntityEvents<'_>, index: usize) {
        let Some(cell) = events.cell(self.column, index) else {
            return;
        };
        match &mut self.sliding {
            Sliding::State(state) => state.remove(cell),
            Sliding::Hll(sketch) => sketch.remove(cell.hash64()),
            Sliding::Extreme(_, candidates) => {
                if candidates.front() == Some(&index) {
                    candidates.pop_front();
                }
            }
            Sliding::Ends(_) => {}
        }
    }

    /// The slot's answer at `time`, from those of the events `low..high` that are active.
    fn answer(
        &self,
        aggregate: &Aggregate,
        int_sum: bool,
        events: &EntityEvents<'_>,
        (low, high): (usize, usize),
        time: i64,
    ) -> Answer {
        let function = aggregate.function;
        match &self.sliding {
            Sliding::State(state) => answer(state, function, int_sum),
            Sliding::Hll(sketch) => Answer::One(super::Cell::Int(sketch.estimate() as i64)),
            Sliding::Extreme(_, candidates) => match candidates.front() {
                None => Answer::Null,
                Some(index) => {
                    let cell = events.cell(self.column, *index).expect("not null");
                    Answer::One(cell.to_owned())
                }
            },
            Sliding::Ends(kind) => {
                let mut state = State::new(*kind);
                match kind {
                    Kind::First(k) => self.collect(&mut state, *k, events, low..high, time),
                    Kind::Last(k) => {
                        self.collect(&mut state, *k, events, (low..high).rev(), time);
                    }
                    _ => unreachable!("only lists are at the ends"),
                }
                answer(&state, function, false)
            }
        }
    }

    /// Adds the first `k` events that are active, and those that tie with the last of them.
    fn collect(
        &self,
        state: &mut State,
        k: u32,
        events: &EntityEvents<'_>,
        order: impl Iterator<Item = usize>,
        time: i64,
    ) {
        let mut taken = 0;
        let mut last = None;
        for index in order {
            let place = (events.events[index], events.ids[index]);
            if taken >= k && last != Some(place) {
                return;
            }
            if events.active[index] > time {
                continue;
            }
            if let Some(cell) = events.cell(self.column, index) {
                state.add(place.0, place.1, cell);
                taken += 1;
                last = Some(place);
            }
        }
    }
}

/// Answers aggregates over an entity's events as of each of some ascending times. `emit` is called
/// with the position of the time, the position of the aggregate, and the answer. Every answer is
/// null before the entity's first event, and while its newest event is older than `ttl`
/// microseconds.
pub fn slide(
    aggregates: &[Aggregate],
    types: &[DataType],
    events: &EntityEvents<'_>,
    times: &[i64],
    ttl: Option<Duration>,
    mut emit: impl FnMut(usize, usize, Answer),
) {
    let mut groups = Sliders::group(aggregates, types);
    let length = events.events.len();
    let order = events.by_activity();
    let at = |place: usize| order.get(place).copied().unwrap_or(place);
    let (mut active, mut high) = (0, 0);
    let mut newest = i64::MIN;
    let mut before = i64::MIN;
    for (position, time) in times.iter().copied().enumerate() {
        let now = Timestamp::from_micros(time);
        let first = active;
        while active < length && events.active[at(active)] <= time {
            newest = newest.max(events.events[at(active)]);
            active += 1;
        }
        while high < length && events.events[high] <= time {
            high += 1;
        }
        let expired = is_expired(Timestamp::from_micros(newest), ttl, now);
        for group in &mut groups {
            let start = group.window.start(now).as_micros();
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
            for (index, slot, int_sum) in &group.answers {
                let answer = if active == 0 || expired {
                    Answer::Null
                } else {
                    let range = (group.low.min(high), high);
                    group.slots[*slot].answer(&aggregates[*index], *int_sum, events, range, time)
                };
                emit(position, *index, answer);
            }
        }
        before = time;
    }
}

/// The [`item_identity`] of an entity's events as of each of some ascending times, or `None` before
/// the first event and while the newest one is older than `ttl`.
pub fn identities(
    layout: &Layout,
    events: &EntityEvents<'_>,
    times: &[i64],
    ttl: Option<Duration>,
) -> Vec<Option<String>> {
    let order = events.by_activity();
    let mut item = Item::new(layout);
    let mut active = 0;
    let mut last = None;
    let mut identity = |time: &i64| {
        while active < events.events.len() {
            let index = order.get(active).copied().unwrap_or(active);
            if events.active[index] > *time {
                break;
            }
            let (event, id) = (events.events[index], events.ids[index]);
            let cell = |column| events.cell(Some(column), index);
            item.add(layout, Timestamp::from_micros(event), id, cell);
            active += 1;
            last = None;
        }
        if active == 0 || is_expired(item.newest(), ttl, Timestamp::from_micros(*time)) {
            return None;
        }
        let identity = last.get_or_insert_with(|| item_identity(&item.encode(layout)));
        Some(identity.clone())
    };
    times.iter().map(&mut identity).collect()
}
