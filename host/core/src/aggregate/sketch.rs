//! Sketches: approximate answers in little space, whatever the order of events.
//!
//! Equal sets of values have equal sketches, bit for bit. [`Quantiles`] and [`SlidingHll`] are sets
//! of counts, so values can also be removed by subtracting, as a sliding window must do. The
//! published implementations keep float sums or collapse by order of arrival, and none can remove a
//! value.

use std::collections::BTreeMap;

use crate::bytes::{DamagedError, Reader, put_signed, put_varint};

/// Bits of a hash that choose one of 4,096 registers, which gives a standard error of 1.6 %.
const REGISTER_BITS: u32 = 12;
const REGISTERS: usize = 1 << REGISTER_BITS;
/// The other bits of a hash, whose leading zeros are counted.
const RANK_BITS: usize = 64 - REGISTER_BITS as usize;

/// Estimates the number of distinct values, after P. Flajolet and others, "HyperLogLog: the
/// analysis of a near-optimal cardinality estimation algorithm" (2007).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hll {
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

impl Hll {
    pub(crate) fn add(&mut self, hash: u64) {
        let (register, rank) = place(hash);
        let stored = self.registers.entry(register).or_default();
        *stored = rank.max(*stored);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (register, rank) in &other.registers {
            let stored = self.registers.entry(*register).or_default();
            *stored = (*rank).max(*stored);
        }
    }

    pub(crate) fn estimate(&self) -> u64 {
        let mut histogram = Histogram::default();
        self.registers
            .values()
            .for_each(|rank| histogram.add(*rank));
        histogram.estimate()
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.registers.len() as u64);
        let mut last = 0;
        for (register, rank) in &self.registers {
            put_varint(out, u64::from(register - last));
            out.push(*rank);
            last = *register;
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DamagedError> {
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
pub(crate) struct SlidingHll {
    /// How many hashes of each register have each rank.
    registers: BTreeMap<u16, BTreeMap<u8, u32>>,
    histogram: Histogram,
}

impl SlidingHll {
    pub(crate) fn add(&mut self, hash: u64) {
        self.change(hash, |count| *count += 1);
    }

    pub(crate) fn remove(&mut self, hash: u64) {
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

    pub(crate) fn estimate(&self) -> u64 {
        self.histogram.estimate()
    }
}

/// Greatest relative error of a quantile.
const ACCURACY: f64 = 0.01;
/// Bin of infinity, further from zero than the bin of any finite number.
const INFINITE: i32 = 80_000;
/// Offset that makes the bins of positive numbers positive: without it the least float has bin
/// -37,222.
const OFFSET: i32 = 40_000;

/// Estimates quantiles within 1 % of the value, after C. Masson, J. E. Rim, H. K. Lee, "DDSketch: a
/// fast and fully-mergeable quantile sketch with relative-error guarantees" (2019),
/// <https://arxiv.org/abs/1908.10693>. Bins are never collapsed. NaN counts as the greatest value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Quantiles {
    /// Number of values in each bin. Bins are in the order of values.
    bins: BTreeMap<i32, u64>,
    count: u64,
}

/// ln((1 + a) / (1 - a)), where a is the accuracy: the logarithm of the ratio of a bin's ends.
fn ln_gamma() -> f64 {
    libm::log((1.0 + ACCURACY) / (1.0 - ACCURACY))
}

fn bin(value: f64) -> i32 {
    if value.is_nan() {
        return INFINITE + 1;
    }
    if value == 0.0 {
        return 0;
    }
    let magnitude = if value.is_infinite() {
        INFINITE
    } else {
        OFFSET + libm::ceil(libm::log(value.abs()) / ln_gamma()) as i32
    };
    if value < 0.0 { -magnitude } else { magnitude }
}

/// The value by which all values of a bin are represented.
fn middle(bin: i32) -> f64 {
    let sign = f64::from(bin.signum());
    match bin.abs() {
        0 => 0.0,
        INFINITE => sign * f64::INFINITY,
        magnitude if magnitude > INFINITE => f64::NAN,
        magnitude => {
            let ln_gamma = ln_gamma();
            let gamma = (1.0 + ACCURACY) / (1.0 - ACCURACY);
            let upper = libm::exp(f64::from(magnitude - OFFSET) * ln_gamma);
            sign * 2.0 * upper / (gamma + 1.0)
        }
    }
}

impl Quantiles {
    pub(crate) fn add(&mut self, value: f64) {
        *self.bins.entry(bin(value)).or_default() += 1;
        self.count += 1;
    }

    pub(crate) fn remove(&mut self, value: f64) {
        let bin = bin(value);
        if let Some(count) = self.bins.get_mut(&bin) {
            *count -= 1;
            self.count -= 1;
            if *count == 0 {
                self.bins.remove(&bin);
            }
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (bin, count) in &other.bins {
            let stored = self.bins.entry(*bin).or_default();
            *stored = stored.saturating_add(*count);
        }
        self.count = self.count.saturating_add(other.count);
    }

    /// The value below which a fraction of the values lies, or `None` if there are no values.
    pub(crate) fn quantile(&self, fraction: f64) -> Option<f64> {
        let rank = (fraction * self.count.checked_sub(1)? as f64).floor() as u64;
        let mut below = 0;
        let found = self.bins.iter().find(|(_, count)| {
            below += **count;
            below > rank
        });
        found.map(|(bin, _)| middle(*bin))
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.bins.len() as u64);
        let mut last = 0;
        for (bin, count) in &self.bins {
            put_signed(out, i64::from(*bin) - i64::from(last));
            put_varint(out, *count);
            last = *bin;
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DamagedError> {
        let mut decoded = Self::default();
        let mut bin = 0i64;
        for _ in 0..reader.length()? {
            let step = reader.signed()?;
            bin = bin.checked_add(step).ok_or_else(|| reader.damaged())?;
            let key = i32::try_from(bin).map_err(|_| reader.damaged())?;
            let count = reader.varint()?;
            decoded.bins.insert(key, count);
            decoded.count = decoded
                .count
                .checked_add(count)
                .ok_or_else(|| reader.damaged())?;
        }
        Ok(decoded)
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
            (0..wanted).for_each(|value| sketch.add(hash(value)));
            let estimate = sketch.estimate() as f64;
            let error = (estimate - wanted as f64).abs() / (wanted as f64).max(1.0);
            assert!(error < 0.04, "{estimate} for {wanted}");
        }
    }

    #[test]
    fn quantiles_are_within_one_percent() {
        let mut sketch = Quantiles::default();
        for value in -1_000..=1_000 {
            sketch.add(f64::from(value));
        }
        for (fraction, wanted) in [
            (0.0, -1_000.0),
            (0.25, -500.0),
            (0.5, 0.0),
            (0.75, 500.0),
            (1.0, 1_000.0),
        ] {
            let found: f64 = sketch.quantile(fraction).unwrap();
            assert!(
                (found - wanted).abs() <= 0.01 * f64::abs(wanted),
                "{found} at {fraction}"
            );
        }
        assert_eq!(Quantiles::default().quantile(0.5), None);
    }

    #[test]
    fn quantile_bins_are_in_the_order_of_values() {
        let values = [
            f64::NEG_INFINITY,
            f64::MIN,
            -1.0,
            -f64::from_bits(1),
            0.0,
            f64::from_bits(1),
            f64::MIN_POSITIVE,
            1.0,
            f64::MAX,
            f64::INFINITY,
            f64::NAN,
        ];
        let bins: Vec<i32> = values.iter().map(|v| bin(*v)).collect();
        assert!(bins.is_sorted(), "{bins:?}");
        assert_eq!(middle(bin(f64::INFINITY)), f64::INFINITY);
        assert_eq!(middle(bin(f64::NEG_INFINITY)), f64::NEG_INFINITY);
        assert!(middle(bin(f64::NAN)).is_nan());
    }

    proptest! {
        #[test]
        fn sliding_hll_equals_a_fresh_hll(values in prop::collection::vec(0u64..500, 0..300), gone in 0usize..300) {
            let gone = gone.min(values.len());
            let mut sliding = SlidingHll::default();
            values.iter().for_each(|v| sliding.add(hash(*v)));
            values[..gone].iter().for_each(|v| sliding.remove(hash(*v)));
            let mut fresh = Hll::default();
            values[gone..].iter().for_each(|v| fresh.add(hash(*v)));
            prop_assert_eq!(sliding.estimate(), fresh.estimate());
        }

        #[test]
        fn quantile_sketches_do_not_depend_on_order(values in prop::collection::vec(any::<f64>(), 0..50), cut in 0usize..50) {
            let cut = cut.min(values.len());
            let (mut whole, mut left, mut right) = (Quantiles::default(), Quantiles::default(), Quantiles::default());
            values.iter().for_each(|v| whole.add(*v));
            values[..cut].iter().rev().for_each(|v| left.add(*v));
            values[cut..].iter().for_each(|v| right.add(*v));
            right.merge(&left);
            prop_assert_eq!(&right, &whole);
            let mut bytes = Vec::new();
            whole.encode(&mut bytes);
            prop_assert_eq!(&Quantiles::decode(&mut Reader::new(&bytes)).unwrap(), &whole);
            values[..cut].iter().for_each(|v| whole.remove(*v));
            let mut rest = Quantiles::default();
            values[cut..].iter().for_each(|v| rest.add(*v));
            prop_assert_eq!(whole, rest);
        }
    }
}
