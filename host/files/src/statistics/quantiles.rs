//! Quantiles of numbers, in one pass and in bounded memory.

/// The number of buckets that the numbers between two powers of two are divided into.
const BUCKETS: usize = 256;

/// The bits of a float below those that tell its bucket.
const BELOW: u32 = 52 - BUCKETS.trailing_zeros();

/// The number of signs and exponents of floats.
const PAGES: usize = 1 << 12;

/// A histogram of finite numbers. Its buckets are as wide as one part in 256 of the numbers in
/// them: a bucket is what floats have in common whose sign, exponent and first eight bits are
/// equal. Integers up to 512 have buckets of their own.
#[derive(Debug, Default)]
pub(super) struct Quantiles {
    count: u64,
    /// The counts of the buckets of each sign and exponent that was found, in the order of the
    /// numbers: [`PAGES`] once there is a number. They are found by their position, because a
    /// training set adds each number of its columns.
    pages: Vec<Option<Box<[u64; BUCKETS]>>>,
}

impl Quantiles {
    /// Adds a finite number.
    pub(super) fn add(&mut self, value: f64) {
        // 0.0 and −0.0 are one value.
        let bucket = in_order(value + 0.0) >> BELOW;
        if self.pages.is_empty() {
            self.pages.resize_with(PAGES, || None);
        }
        let page = &mut self.pages[bucket as usize / BUCKETS];
        let page = page.get_or_insert_with(|| Box::new([0; BUCKETS]));
        page[bucket as usize % BUCKETS] += 1;
        self.count += 1;
    }

    /// Returns, for each fraction, the smallest number that at least this fraction of all numbers
    /// is not greater than. A number is that end of its bucket which is nearer to zero. Returns
    /// nothing if there are no numbers.
    pub(super) fn of(&self, fractions: &[f64]) -> Vec<(f64, f64)> {
        let quantile = |fraction: &f64| Some((*fraction, self.quantile(*fraction)?));
        fractions.iter().filter_map(quantile).collect()
    }

    fn quantile(&self, fraction: f64) -> Option<f64> {
        let rank = ((fraction * self.count as f64).ceil() as u64).max(1);
        let mut passed = 0;
        for (page, buckets) in (0..).zip(&self.pages) {
            let counts = buckets.iter().flat_map(|buckets| buckets.iter());
            for (bucket, count) in (0..).zip(counts) {
                passed += count;
                if passed >= rank {
                    return Some(end_near_zero(page * BUCKETS as u64 + bucket));
                }
            }
        }
        None
    }
}

/// Returns the bits of a float, changed so that they have the order of the floats.
fn in_order(value: f64) -> u64 {
    let bits = value.to_bits();
    match value.is_sign_negative() {
        true => !bits,
        false => bits | 1 << 63,
    }
}

/// Returns the number of a bucket that is nearest to zero.
fn end_near_zero(bucket: u64) -> f64 {
    let first = bucket << BELOW;
    match first >> 63 {
        1 => f64::from_bits(first & !(1 << 63)),
        // Of negative numbers, the last one of the bucket is the nearest to zero.
        _ => f64::from_bits(!(first | ((1 << BELOW) - 1))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantiles(values: impl IntoIterator<Item = f64>, fractions: &[f64]) -> Vec<f64> {
        let mut quantiles = Quantiles::default();
        values.into_iter().for_each(|value| quantiles.add(value));
        let found = quantiles.of(fractions).into_iter();
        found.map(|(_, value)| value).collect()
    }

    #[test]
    fn small_integers_and_zeros_are_exact() {
        let hundred = (1..=100).rev().map(f64::from);
        assert_eq!(
            quantiles(hundred, &[0.0, 0.05, 0.25, 0.5, 0.751, 1.0]),
            [1.0, 5.0, 25.0, 50.0, 76.0, 100.0]
        );
        let negative = (-512..=512).map(f64::from);
        assert_eq!(quantiles(negative, &[0.0, 0.5, 1.0]), [-512.0, 0.0, 512.0]);
        let zeros = quantiles([-0.0, 0.0, -0.0], &[0.5]);
        assert_eq!(zeros[0].to_bits(), 0.0_f64.to_bits());
        assert_eq!(quantiles([0.0, 1.0, 1.0, 1.0], &[0.25, 0.5]), [0.0, 1.0]);
        assert!(quantiles([], &[0.5]).is_empty());
    }

    #[test]
    fn other_numbers_are_exact_to_one_part_in_256() {
        for value in [
            0.1,
            -0.1,
            1234.567,
            -98765.4321,
            1e-300,
            1e300,
            f64::MAX,
            f64::MIN,
        ] {
            let found = quantiles([value], &[0.5])[0];
            let error = (found - value).abs();
            assert!(error <= value.abs() / 256.0, "{value}: {found}");
            assert!(found.abs() <= value.abs(), "{value}: {found}");
        }
    }
}
