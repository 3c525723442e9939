//! The approximate number of distinct values, in little space.
//!
//! Equal sets of values have equal sketches, bit for bit. [`SlidingHll`] is a set of counts, so
//! values can also be removed by subtracting, as a sliding window must do. Published
//! implementations cannot remove a value.

use std::collections::BTreeMap;

use super::{Sliding, State};
use crate::Timestamp;
use crate::aggregate::cell::{AggregateValue, CellRef};
use crate::aggregate::events::{Covered, EventValues};
use crate::bytes::{DamagedError, Reader, put_varint};
use crate::rules::Arrival;

/// Bits of a hash that choose one of 4,096 registers, which gives a standard error of 1.6 %.
const REGISTER_BITS: u32 = 12;
const REGISTERS: usize = 1 << REGISTER_BITS;
/// The other bits of a hash, whose leading zeros are counted.
const RANK_BITS: usize = 64 - REGISTER_BITS as usize;

/// Estimates the number of distinct values, after P. Flajolet and others, "HyperLogLog: the
/// analysis of a near-optimal cardinality estimation algorithm" (2007).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::aggregate) struct Hll {
    /// The greatest rank of the hashes of each register. Registers without hashes are left out and
    /// have rank zero.
    registers: BTreeMap<u16, u8>,
}

/// The register and the rank of a hash.
fn place(hash: u64) -> (u16, u8) {
    let register = (hash >> (64 - REGISTER_BITS)) as u16;
    let rank = (hash << REGISTER_BITS)
        .leading_zeros()
        .min(RANK_BITS as u32)
        + 1;
    (register, rank as u8)
}

/// The estimate of the number of distinct values.
#[derive(Clone, Copy, Debug)]
pub(in crate::aggregate) struct Estimate;

impl Hll {
    pub(in crate::aggregate) fn add_hash(&mut self, hash: u64) {
        let (register, rank) = place(hash);
        self.raise(register, rank);
    }

    fn raise(&mut self, register: u16, rank: u8) {
        let stored = self.registers.entry(register).or_default();
        *stored = rank.max(*stored);
    }

    pub(in crate::aggregate) fn estimate(&self) -> u64 {
        let mut histogram = Histogram::default();
        self.registers
            .values()
            .for_each(|rank| histogram.add(*rank));
        histogram.estimate()
    }
}

impl State for Hll {
    type Shape = ();
    type Statistic = Estimate;
    type Sliding = SlidingHll;

    fn shape(_: Estimate) {}

    fn new((): ()) -> Self {
        Self::default()
    }

    fn add(&mut self, _: Timestamp, _: Arrival, cell: CellRef<'_>) {
        self.add_hash(cell.hash64());
    }

    fn merge(&mut self, other: Self) {
        for (register, rank) in other.registers {
            self.raise(register, rank);
        }
    }

    fn answer(&self, Estimate: Estimate) -> AggregateValue {
        AggregateValue::count(self.estimate())
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.registers.len() as u64);
        let mut last = 0;
        for (register, rank) in &self.registers {
            put_varint(out, u64::from(register - last));
            out.push(*rank);
            last = *register;
        }
    }

    fn decode((): (), reader: &mut Reader<'_>) -> Result<Self, DamagedError> {
        let mut registers = BTreeMap::new();
        let mut register = 0u64;
        for _ in 0..reader.length()? {
            let step = reader.varint()?;
            register = register.checked_add(step).ok_or_else(|| reader.damaged())?;
            let rank = reader.byte()?;
            if register >= REGISTERS as u64 || usize::from(rank) > RANK_BITS + 1 {
                return Err(reader.damaged());
            }
            registers.insert(register as u16, rank);
        }
        Ok(Self { registers })
    }
}

/// How many registers have each rank, except rank zero.
#[derive(Clone, Debug)]
struct Histogram {
    counts: [u32; RANK_BITS + 2],
    used: u32,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: [0; RANK_BITS + 2],
            used: 0,
        }
    }
}

impl Histogram {
    fn add(&mut self, rank: u8) {
        self.counts[usize::from(rank)] += 1;
        self.used += 1;
    }

    fn remove(&mut self, rank: u8) {
        self.counts[usize::from(rank)] -= 1;
        self.used -= 1;
    }

    /// Estimates the number of distinct values by algorithm 6 of O. Ertl, "New cardinality
    /// estimation algorithms for HyperLogLog sketches" (2017), <https://arxiv.org/abs/1702.01284>.
    /// It needs no correction of bias at either end of the range.
    fn estimate(&self) -> u64 {
        let registers = REGISTERS as f64;
        let zeros = registers - f64::from(self.used);
        let full = f64::from(self.counts[RANK_BITS + 1]);
        let mut z = registers * tau(1.0 - full / registers);
        for rank in (1..=RANK_BITS).rev() {
            z = 0.5 * (z + f64::from(self.counts[rank]));
        }
        z += registers * sigma(zeros / registers);
        let alpha = 0.5 / std::f64::consts::LN_2;
        (alpha * registers * registers / z).round() as u64
    }
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

/// The same estimate for a sliding window, from which hashes can be removed.
#[derive(Clone, Debug, Default)]
pub(in crate::aggregate) struct SlidingHll {
    /// How many hashes of each register have each rank.
    registers: BTreeMap<u16, BTreeMap<u8, u32>>,
    histogram: Histogram,
}

impl SlidingHll {
    fn add_hash(&mut self, hash: u64) {
        self.change(hash, |count| *count += 1);
    }

    fn remove_hash(&mut self, hash: u64) {
        self.change(hash, |count| *count -= 1);
    }

    fn change(&mut self, hash: u64, change: impl FnOnce(&mut u32)) {
        let (register, rank) = place(hash);
        let ranks = self.registers.entry(register).or_default();
        let before = ranks.keys().next_back().copied();
        let count = ranks.entry(rank).or_default();
        change(count);
        if *count == 0 {
            ranks.remove(&rank);
        }
        let after = ranks.keys().next_back().copied();
        if before != after {
            before
                .into_iter()
                .for_each(|rank| self.histogram.remove(rank));
            after.into_iter().for_each(|rank| self.histogram.add(rank));
        }
    }

    fn estimate(&self) -> u64 {
        self.histogram.estimate()
    }
}

impl Sliding for SlidingHll {
    type State = Hll;

    fn new((): ()) -> Self {
        Self::default()
    }

    fn enter(&mut self, _: EventValues<'_>, _: usize, cell: CellRef<'_>) {
        self.add_hash(cell.hash64());
    }

    fn leave(&mut self, _: usize, cell: CellRef<'_>) {
        self.remove_hash(cell.hash64());
    }

    fn answer(&self, Estimate: Estimate, _: EventValues<'_>, _: Covered) -> AggregateValue {
        AggregateValue::count(self.estimate())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use twox_hash::XxHash64;

    use super::*;

    fn hash(value: u64) -> u64 {
        XxHash64::oneshot(0, &value.to_le_bytes())
    }

    #[test]
    fn hll_estimates_are_within_their_error() {
        for wanted in [0u64, 1, 10, 100, 1_000, 10_000, 100_000, 1_000_000] {
            let mut sketch = Hll::default();
            (0..wanted).for_each(|value| sketch.add_hash(hash(value)));
            let estimate = sketch.estimate() as f64;
            let error = (estimate - wanted as f64).abs() / (wanted as f64).max(1.0);
            assert!(error < 0.04, "{estimate} for {wanted}");
        }
    }

    proptest! {
        #[test]
        fn sliding_hll_equals_a_fresh_hll(values in prop::collection::vec(0u64..500, 0..300), gone in 0usize..300) {
            let gone = gone.min(values.len());
            let mut sliding = SlidingHll::default();
            values.iter().for_each(|v| sliding.add_hash(hash(*v)));
            values[..gone].iter().for_each(|v| sliding.remove_hash(hash(*v)));
            let mut fresh = Hll::default();
            values[gone..].iter().for_each(|v| fresh.add_hash(hash(*v)));
            prop_assert_eq!(sliding.estimate(), fresh.estimate());
        }
    }
}
