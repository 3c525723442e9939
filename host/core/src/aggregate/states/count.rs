//! The number of events.

use super::{Reversible, Reversing, State};
use crate::Timestamp;
use crate::aggregate::cell::{AggregateValue, CellRef};
use crate::bytes::{DamagedError, Reader, put_varint};
use crate::rules::Arrival;

/// The number of events.
#[derive(Clone, Debug)]
pub(in crate::aggregate) struct Count(u64);

/// The statistic of [`Count`]: the number of events.
#[derive(Clone, Copy, Debug)]
pub(in crate::aggregate) struct Number;

impl State for Count {
    type Shape = ();
    type Statistic = Number;
    type Sliding = Reversing<Self>;

    fn shape(_: Number) {}

    fn new((): ()) -> Self {
        Self(0)
    }

    fn add(&mut self, _: Timestamp, _: Arrival, _: CellRef<'_>) {
        self.0 += 1;
    }

    fn merge(&mut self, other: Self) {
        self.0 = self.0.saturating_add(other.0);
    }

    fn answer(&self, Number: Number) -> AggregateValue {
        AggregateValue::count(self.0)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.0);
    }

    fn decode((): (), reader: &mut Reader<'_>) -> Result<Self, DamagedError> {
        Ok(Self(reader.varint()?))
    }
}

impl Reversible for Count {
    fn remove(&mut self, _: CellRef<'_>) {
        self.0 -= 1;
    }
}
