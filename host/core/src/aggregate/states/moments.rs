//! The sums of values and of their squares, without rounding.

use super::{Reversible, Reversing, State};
use crate::Timestamp;
use crate::aggregate::cell::{AggregateValue, CellRef};
use crate::bytes::{DamagedError, Reader, put_varint};
use crate::exact::ExactSum;
use crate::rules::Arrival;

/// The number of values, their exact sum and that of their squares.
#[derive(Clone, Debug)]
pub(in crate::aggregate) struct Moments {
    count: u64,
    sum: ExactSum,
    squares: ExactSum,
}

/// What is asked of moments. Every answer is null when there are fewer than two values.
#[derive(Clone, Copy, Debug)]
pub(in crate::aggregate) enum MomentStatistic {
    /// The sample variance.
    Variance,
    /// The square root of the sample variance.
    Stddev,
}

impl State for Moments {
    type Shape = ();
    type Statistic = MomentStatistic;
    type Sliding = Reversing<Self>;

    fn shape(_: MomentStatistic) {}

    fn new((): ()) -> Self {
        Self {
            count: 0,
            sum: ExactSum::default(),
            squares: ExactSum::default(),
        }
    }

    fn add(&mut self, _: Timestamp, _: Arrival, cell: CellRef<'_>) {
        self.count += 1;
        match cell {
            CellRef::Int(value) => {
                self.sum.add_int(value);
                self.squares.add_int_square(value);
            }
            other => {
                self.sum.add(other.number());
                self.squares.add_square(other.number());
            }
        }
    }

    fn merge(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.sum.merge(&other.sum);
        self.squares.merge(&other.squares);
    }

    fn answer(&self, statistic: MomentStatistic) -> AggregateValue {
        if self.count < 2 {
            return AggregateValue::Null;
        }
        let n = self.count as f64;
        let variance = self.sum.deviations(&self.squares, self.count) / (n * (n - 1.0));
        AggregateValue::float(match statistic {
            MomentStatistic::Variance => variance,
            MomentStatistic::Stddev => variance.sqrt(),
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.count);
        self.sum.encode(out);
        self.squares.encode(out);
    }

    fn decode((): (), reader: &mut Reader<'_>) -> Result<Self, DamagedError> {
        Ok(Self {
            count: reader.varint()?,
            sum: ExactSum::decode(reader)?,
            squares: ExactSum::decode(reader)?,
        })
    }
}

impl Reversible for Moments {
    fn remove(&mut self, cell: CellRef<'_>) {
        self.count -= 1;
        match cell {
            CellRef::Int(value) => {
                self.sum.remove_int(value);
                self.squares.remove_int_square(value);
            }
            other => {
                self.sum.remove(other.number());
                self.squares.remove_square(other.number());
            }
        }
    }
}
