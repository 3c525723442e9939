//! The events of an entity, summed up in tiles, as the online store holds them.
//!
//! Format, with numbers in LEB128 where no size is given:
//!
//! - the number of the format, 2, one byte;
//! - the newest event time, in microseconds since the Unix epoch, 8 bytes little endian;
//! - the number of series, and each series: its hop in microseconds (0: every event by itself; 1:
//!   everything in one tile); its retention in microseconds plus one (0: for ever); the number of
//!   states and the kind of each; the number of entries, and for each entry its place (the tile's
//!   end divided by the hop, or the event time), its length, and its states, or the event's order
//!   of arrival, values, and creation time.
//!
//! The creation time is there if a function of the series depends on the order of events, and the
//! event was stored with an order of arrival. Events from before that was kept have the identity
//! of the event in its place. Both kinds may be in one item.
//!
//! The series describe themselves, so that items can be merged without knowing the feature group.
//!
//! Events that are older than every window at the newest event are left out. An item is thus a
//! function of the set of events, whatever their order.

mod encoding;
mod layout;
mod merge;
mod read;

use std::collections::BTreeMap;
use std::fmt;

use encoding::{FORMAT, open, put_entry};
pub use layout::ItemLayout;
use layout::{Series, Span};
pub use merge::merge_items;
pub use read::read;

use super::cell::CellRef;
use super::states::AnyState;
use crate::Timestamp;
use crate::bytes::{DamagedError, put_signed, put_varint};
use crate::rules::Arrival;

/// The events of an entity, to which others can be added.
#[derive(Clone, Debug)]
pub struct Item {
    /// The time of the newest event.
    newest: Timestamp,
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
    /// The time of each event, and its encoded order of arrival, values and creation time.
    Exact(Vec<(i64, Vec<u8>)>),
    Tiles(BTreeMap<i64, Vec<AnyState>>),
}

impl Item {
    /// Creates an item without events.
    pub fn new(layout: &ItemLayout) -> Self {
        let entries = |series: &Series| match series.span {
            Span::Exact => Entries::Exact(Vec::new()),
            Span::Lifetime | Span::Tiles(_) => Entries::Tiles(BTreeMap::new()),
        };
        Self {
            newest: Timestamp::MIN,
            series: layout.series.iter().map(entries).collect(),
            unpruned: 0,
            allowed: PRUNE_AFTER,
        }
    }

    /// Leaves out events that no window covers at the newest event or later.
    fn prune(&mut self, layout: &ItemLayout) {
        let mut remaining = 0;
        for (series, entries) in layout.series.iter().zip(&mut self.series) {
            let horizon = series.span.horizon(series.retention, self.newest);
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

    /// Adds an event: its time, its arrival, and its value in each column.
    pub fn add<'a>(
        &mut self,
        layout: &ItemLayout,
        event: Timestamp,
        arrival: Arrival,
        value: impl Fn(usize) -> Option<CellRef<'a>>,
    ) {
        self.newest = self.newest.max(event);
        self.unpruned += 1;
        if self.unpruned >= self.allowed {
            self.prune(layout);
        }
        for (series, entries) in layout.series.iter().zip(&mut self.series) {
            match entries {
                Entries::Exact(events) => {
                    let mut bytes = arrival.order.to_le_bytes().to_vec();
                    for column in &series.columns {
                        match value(*column) {
                            None => bytes.push(0),
                            Some(cell) => cell.encode(&mut bytes),
                        }
                    }
                    if series.is_of_order() && arrival.is_known() {
                        put_signed(&mut bytes, arrival.created.as_micros());
                    }
                    events.push((event.as_micros(), bytes));
                }
                Entries::Tiles(tiles) => {
                    let fresh = || {
                        let states = series.accumulators.iter();
                        states.map(|a| AnyState::new(a.kind)).collect()
                    };
                    let tile = tiles.entry(series.place(event)).or_insert_with(fresh);
                    for (state, accumulator) in tile.iter_mut().zip(&series.accumulators) {
                        let cell = match accumulator.column {
                            None => Some(CellRef::Int(0)),
                            Some(column) => value(column),
                        };
                        cell.into_iter()
                            .for_each(|cell| state.add(event, arrival, cell));
                    }
                }
            }
        }
    }

    /// The time of the newest event.
    pub fn newest(&self) -> Timestamp {
        self.newest
    }

    /// Encodes the item as it is stored.
    pub fn encode(&mut self, layout: &ItemLayout) -> Vec<u8> {
        self.prune(layout);
        let mut out = vec![FORMAT];
        out.extend_from_slice(&self.newest.as_micros().to_le_bytes());
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
    Ok(newest)
}

/// The identity of the events that were read, for the request log and for comparisons with it: the
/// XXH64 hash of the stored item, which is a function of the set of its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemIdentity(u64);

impl ItemIdentity {
    /// Returns the identity of the events of a stored item.
    pub fn of(item: &[u8]) -> Self {
        Self(twox_hash::XxHash64::oneshot(0, item))
    }
}

/// Written as 16 hexadecimal digits.
impl fmt::Display for ItemIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
