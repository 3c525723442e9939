//! The sum of values, without rounding.

use super::{Reversible, Reversing, State};
use crate::aggregate::cell::{AggregateValue, Cell, CellRef};
use crate::bytes::{DamagedError, Reader, put_varint};
use crate::exact::ExactSum;
use crate::rules::Arrival;
use crate::{DataType, Timestamp};

/// The number of values and their exact sum.
#[derive(Clone, Debug)]
pub(in crate::aggregate) struct Sum {
    count: u64,
    sum: ExactSum,
}

/// What is asked of a sum. Every answer is null when there are no values.
#[derive(Clone, Copy, Debug)]
pub(in crate::aggregate) enum SumStatistic {
    /// The sum as a float64, rounded once.
    Float,
    /// The sum as an int64, or null when it does not fit.
    Int,
    /// The arithmetic mean.
    Mean,
}

impl SumStatistic {
    /// The sum of a column of this type. A float could not hold every sum of int64 values.
    pub(in crate::aggregate) fn total(column: Option<&DataType>) -> Self {
        match column == Some(&DataType::Int64) {
            true => Self::Int,
            false => Self::Float,
        }
    }
}

impl State for Sum {
    type Shape = ();
    type Statistic = SumStatistic;
    type Sliding = Reversing<Self>;

    fn shape(_: SumStatistic) {}

    fn new((): ()) -> Self {
        Self {
            count: 0,
            sum: ExactSum::default(),
        }
    }

    fn add(&mut self, _: Timestamp, _: Arrival, cell: CellRef<'_>) {
        self.count += 1;
        match cell {
            CellRef::Int(value) => self.sum.add_int(value),
            other => self.sum.add(other.number()),
        }
    }

    fn merge(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.sum.merge(&other.sum);
    }

    fn answer(&self, statistic: SumStatistic) -> AggregateValue {
        if self.count == 0 {
            return AggregateValue::Null;
        }
        match statistic {
            SumStatistic::Float => AggregateValue::float(self.sum.to_f64()),
            SumStatistic::Int => {
                let sum = self.sum.to_i64();
                sum.map_or(AggregateValue::Null, |sum| {
                    AggregateValue::One(Cell::Int(sum))
                })
            }
            SumStatistic::Mean => AggregateValue::float(self.sum.mean(self.count)),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.count);
        self.sum.encode(out);
    }

    fn decode((): (), reader: &mut Reader<'_>) -> Result<Self, DamagedError> {
        Ok(Self {
            count: reader.varint()?,
            sum: ExactSum::decode(reader)?,
        })
    }
}

impl Reversible for Sum {
    fn remove(&mut self, cell: CellRef<'_>) {
        self.count -= 1;
        match cell {
            CellRef::Int(value) => self.sum.remove_int(value),
            other => self.sum.remove(other.number()),
        }
    }
}
