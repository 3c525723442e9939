//! Aggregates over time windows, with the same results offline and online.
//!
//! Offline, [`slide`] walks once through an entity's events and labels. Online, an [`Item`] holds
//! an entity's events as [tiles](crate::window), which [`read`] merges at request time. Both end in
//! the same states, which do not depend on the order of events, and so in the same bits.

mod cell;
mod events;
mod functions;
mod item;
mod parameter;
mod slide;
mod states;
mod types;

use serde::{Deserialize, Serialize};

pub use cell::{AggregateValue, Cell, CellRef, Cells};
pub use events::EntityEvents;
pub use functions::{Function, FunctionError};
pub use item::{Item, ItemIdentity, ItemLayout, is_item, merge_items, newest_event, read};
pub use parameter::MAX_K;
pub use slide::{identities, slide};
use states::Statistic;

use crate::DataType;
use crate::window::Window;

/// A function over a column of the events in a window.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Aggregate {
    /// The function.
    pub function: Function,
    /// Position of the column, or `None` for the events themselves.
    pub column: Option<usize>,
    /// The time window whose events count.
    pub window: Window,
}

impl Aggregate {
    /// Returns the statistic that the function asks of a state, for columns of these types.
    fn statistic(&self, columns: &[DataType]) -> Statistic {
        let column = self.column.map(|column| &columns[column]);
        self.function.statistic(column)
    }
}

#[cfg(test)]
mod tests;
