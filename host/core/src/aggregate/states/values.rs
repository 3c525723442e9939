//! How often each value occurs.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::{Reversible, Reversing, State};
use crate::Timestamp;
use crate::aggregate::cell::{AggregateValue, Cell, CellRef};
use crate::bytes::{DamagedError, Reader, put_varint};
use crate::rules::Arrival;

/// The number of events of each value. It grows with the number of distinct values.
#[derive(Clone, Debug)]
pub(in crate::aggregate) struct Values {
    counts: BTreeMap<Cell, u64>,
}

/// What is asked of values.
#[derive(Clone, Copy, Debug)]
pub(in crate::aggregate) enum ValueStatistic {
    /// The number of distinct values.
    Distinct,
    /// Up to this number of the most frequent values, most frequent first. Of equally frequent ones
    /// the lesser comes first.
    MostFrequent(u32),
}

impl Values {
    fn most_frequent(&self, k: u32) -> Vec<Cell> {
        let mut cells: Vec<_> = self.counts.iter().collect();
        // The map is in the order of values and the sort is stable, so equally frequent values stay
        // in that order.
        cells.sort_by_key(|(_, count)| Reverse(**count));
        let cells = cells.into_iter().take(k as usize);
        cells.map(|(cell, _)| cell.clone()).collect()
    }
}

impl State for Values {
    type Shape = ();
    type Statistic = ValueStatistic;
    type Sliding = Reversing<Self>;

    fn shape(_: ValueStatistic) {}

    fn new((): ()) -> Self {
        Self {
            counts: BTreeMap::new(),
        }
    }

    fn add(&mut self, _: Timestamp, _: Arrival, cell: CellRef<'_>) {
        let cell = cell.canonical().to_owned();
        *self.counts.entry(cell).or_default() += 1;
    }

    fn merge(&mut self, other: Self) {
        for (cell, count) in other.counts {
            let stored = self.counts.entry(cell).or_default();
            *stored = stored.saturating_add(count);
        }
    }

    fn answer(&self, statistic: ValueStatistic) -> AggregateValue {
        match statistic {
            ValueStatistic::Distinct => AggregateValue::count(self.counts.len() as u64),
            ValueStatistic::MostFrequent(k) => AggregateValue::Many(self.most_frequent(k)),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.counts.len() as u64);
        for (cell, count) in &self.counts {
            cell.as_ref().encode(out);
            put_varint(out, *count);
        }
    }

    fn decode((): (), reader: &mut Reader<'_>) -> Result<Self, DamagedError> {
        let mut counts = BTreeMap::new();
        for _ in 0..reader.length()? {
            let (cell, count) = (Cell::decode_value(reader)?, reader.varint()?);
            // Earlier versions counted 0.0 and −0.0 apart.
            let stored: &mut u64 = counts
                .entry(cell.as_ref().canonical().to_owned())
                .or_default();
            *stored = stored.saturating_add(count);
        }
        Ok(Self { counts })
    }
}

impl Reversible for Values {
    fn remove(&mut self, cell: CellRef<'_>) {
        let cell = cell.canonical().to_owned();
        if let Some(count) = self.counts.get_mut(&cell) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&cell);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_earlier_versions_with_two_zeros_become_one() {
        let mut stored = Vec::new();
        put_varint(&mut stored, 3);
        for (value, count) in [(-0.0, 2), (0.0, 3), (1.5, 4)] {
            CellRef::Float(value).encode(&mut stored);
            put_varint(&mut stored, count);
        }
        let mut reader = Reader::new(&stored);
        let values = Values::decode((), &mut reader).unwrap();
        let counts: Vec<(String, u64)> = values
            .counts
            .iter()
            .map(|(cell, count)| (format!("{cell:?}"), *count))
            .collect();
        let wanted = [("Float(0.0)".to_owned(), 5), ("Float(1.5)".to_owned(), 4)];
        assert_eq!(counts, wanted);
    }
}
