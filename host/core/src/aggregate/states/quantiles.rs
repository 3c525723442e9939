//! Approximate quantiles, in little space.
//!
//! Equal sets of values have equal sketches, bit for bit. [`Quantiles`] is a set of counts, so
//! values can also be removed by subtracting, as a sliding window must do. Published
//! implementations keep float sums or collapse by order of arrival, and cannot remove a value.

use std::collections::BTreeMap;

use super::{Reversible, Reversing, State};
use crate::Timestamp;
use crate::aggregate::cell::{AggregateValue, CellRef};
use crate::bytes::{DamagedError, Reader, put_signed, put_varint};
use crate::rules::Arrival;

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
pub(in crate::aggregate) struct Quantiles {
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

/// The value below which a fraction of the values lies, in millionths. It is null when there are no
/// values.
#[derive(Clone, Copy, Debug)]
pub(in crate::aggregate) struct Quantile(pub(in crate::aggregate) u32);

impl Quantiles {
    pub(in crate::aggregate) fn add_value(&mut self, value: f64) {
        *self.bins.entry(bin(value)).or_default() += 1;
        self.count += 1;
    }

    fn remove_value(&mut self, value: f64) {
        let bin = bin(value);
        if let Some(count) = self.bins.get_mut(&bin) {
            *count -= 1;
            self.count -= 1;
            if *count == 0 {
                self.bins.remove(&bin);
            }
        }
    }

    /// The value below which a fraction of the values lies, or `None` if there are no values.
    pub(in crate::aggregate) fn quantile(&self, fraction: f64) -> Option<f64> {
        let rank = (fraction * self.count.checked_sub(1)? as f64).floor() as u64;
        let mut below = 0;
        let found = self.bins.iter().find(|(_, count)| {
            below += **count;
            below > rank
        });
        found.map(|(bin, _)| middle(*bin))
    }
}

impl State for Quantiles {
    type Shape = ();
    type Statistic = Quantile;
    type Sliding = Reversing<Self>;

    fn shape(_: Quantile) {}

    fn new((): ()) -> Self {
        Self::default()
    }

    fn add(&mut self, _: Timestamp, _: Arrival, cell: CellRef<'_>) {
        self.add_value(cell.number());
    }

    fn merge(&mut self, other: Self) {
        for (bin, count) in other.bins {
            let stored = self.bins.entry(bin).or_default();
            *stored = stored.saturating_add(count);
        }
        self.count = self.count.saturating_add(other.count);
    }

    fn answer(&self, Quantile(millionths): Quantile) -> AggregateValue {
        let quantile = self.quantile(f64::from(millionths) / 1e6);
        quantile.map_or(AggregateValue::Null, AggregateValue::float)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.bins.len() as u64);
        let mut last = 0;
        for (bin, count) in &self.bins {
            put_signed(out, i64::from(*bin) - i64::from(last));
            put_varint(out, *count);
            last = *bin;
        }
    }

    fn decode((): (), reader: &mut Reader<'_>) -> Result<Self, DamagedError> {
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

impl Reversible for Quantiles {
    fn remove(&mut self, cell: CellRef<'_>) {
        self.remove_value(cell.number());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantiles_are_within_one_percent() {
        let mut sketch = Quantiles::default();
        for value in -1_000..=1_000 {
            sketch.add_value(f64::from(value));
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
        fn quantile_sketches_do_not_depend_on_order(values in prop::collection::vec(any::<f64>(), 0..50), cut in 0usize..50) {
            let cut = cut.min(values.len());
            let (mut whole, mut left, mut right) = (Quantiles::default(), Quantiles::default(), Quantiles::default());
            values.iter().for_each(|v| whole.add_value(*v));
            values[..cut].iter().rev().for_each(|v| left.add_value(*v));
            values[cut..].iter().for_each(|v| right.add_value(*v));
            right.merge(left);
            prop_assert_eq!(&right, &whole);
            let mut bytes = Vec::new();
            whole.encode(&mut bytes);
            prop_assert_eq!(&Quantiles::decode((), &mut Reader::new(&bytes)).unwrap(), &whole);
            values[..cut].iter().for_each(|v| whole.remove_value(*v));
            let mut rest = Quantiles::default();
            values[cut..].iter().for_each(|v| rest.add_value(*v));
            prop_assert_eq!(whole, rest);
        }
    }
}
