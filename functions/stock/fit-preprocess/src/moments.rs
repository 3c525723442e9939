//! The mean and the standard deviation of numbers of any size.

/// Count, mean and sum of squared deviations of some numbers, by Welford's method: B. P. Welford,
/// "Note on a method for calculating corrected sums of squares and products", Technometrics 4
/// (1962).
///
/// The squares of very large and very small floats are beyond their range. Mean and deviations are
/// therefore counted in the [unit](Unit) of the largest number so far. Units are powers of two, so
/// that a change of unit rounds nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moments {
    count: u64,
    unit: Unit,
    mean: f64,
    squares: f64,
}

/// The power of two that numbers are counted in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    /// 2^-600, of numbers that are all near zero.
    #[default]
    Tiny,
    /// 1, of which neither a square nor the sum of 2^60 of them is out of range.
    One,
    /// 2^600.
    Huge,
}

/// The ratio of a unit to the next smaller one, 2^600.
const STEP: f64 = power_of_two(600);
/// The least number that is counted in [`Unit::One`].
const LEAST_ONE: f64 = power_of_two(-400);
/// The greatest number that is counted in [`Unit::One`].
const GREATEST_ONE: f64 = power_of_two(480);

/// Returns `2^exponent`, which is a normal float.
const fn power_of_two(exponent: i64) -> f64 {
    f64::from_bits(((1_023 + exponent) as u64) << 52)
}

impl Unit {
    /// Returns the unit of a number.
    fn of(value: f64) -> Self {
        let size = value.abs();
        if size < LEAST_ONE {
            Self::Tiny
        } else if size <= GREATEST_ONE {
            Self::One
        } else {
            Self::Huge
        }
    }

    fn larger(self) -> Self {
        match self {
            Self::Tiny => Self::One,
            Self::One | Self::Huge => Self::Huge,
        }
    }

    /// Returns how many of the unit a number is.
    fn times_in(self, value: f64) -> f64 {
        match self {
            Self::Tiny => value * STEP,
            Self::One => value,
            Self::Huge => value / STEP,
        }
    }

    /// Returns the number that is so many of the unit.
    fn number_of(self, times: f64) -> f64 {
        match self {
            Self::Tiny => times / STEP,
            Self::One => times,
            Self::Huge => times * STEP,
        }
    }
}

impl Moments {
    /// Adds a finite number.
    pub(crate) fn add(&mut self, value: f64) {
        while self.unit < Unit::of(value) {
            self.change_unit();
        }
        let value = self.unit.times_in(value);
        self.count += 1;
        let deviation = value - self.mean;
        self.mean += deviation / self.count as f64;
        self.squares += deviation * (value - self.mean);
    }

    /// Counts in the next larger unit. What is then too small to be counted is nothing beside the
    /// number that asks for this unit.
    fn change_unit(&mut self) {
        self.unit = self.unit.larger();
        self.mean /= STEP;
        self.squares = self.squares / STEP / STEP;
    }

    /// The number of numbers.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The mean; 0 of no numbers.
    pub(crate) fn mean(&self) -> f64 {
        self.unit.number_of(self.mean)
    }

    /// The standard deviation; NaN of no numbers.
    pub(crate) fn stddev(&self) -> f64 {
        let variance = self.squares / self.count as f64;
        self.unit.number_of(variance.sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(values: &[f64]) -> (f64, f64) {
        let mut moments = Moments::default();
        values.iter().for_each(|value| moments.add(*value));
        (moments.mean(), moments.stddev())
    }

    /// Welford's method as it is written down.
    fn plain(values: &[f64]) -> (f64, f64) {
        let (mut count, mut mean, mut squares) = (0.0_f64, 0.0_f64, 0.0_f64);
        for &value in values {
            count += 1.0;
            let deviation = value - mean;
            mean += deviation / count;
            squares += deviation * (value - mean);
        }
        (mean, (squares / count).sqrt())
    }

    #[test]
    fn moments_of_ordinary_numbers_are_those_of_the_plain_method() {
        for values in [
            vec![14.62; 5],
            vec![0.0, -0.0, 0.0],
            vec![0.0, 0.1, -7.25, 1e3, 3.3, 0.1],
            vec![1e-30, 5.0, 1e100, -1e100, 7e140],
            (0..1_000).map(|n| f64::from(n).sqrt()).collect(),
        ] {
            assert_eq!(moments(&values), plain(&values), "{values:?}");
        }
    }

    #[test]
    fn moments_of_numbers_whose_squares_are_out_of_range_are_right() {
        let large = power_of_two(1_000);
        let small = power_of_two(-1_000);
        for (values, mean, stddev) in [
            (vec![large, 3.0 * large], 2.0 * large, large),
            (
                vec![small, 1.0, 3.0 * large, large],
                large,
                1.5f64.sqrt() * large,
            ),
            (vec![f64::MAX, f64::MIN], 0.0, f64::MAX),
            (vec![f64::MAX; 3], f64::MAX, 0.0),
            (vec![small, 3.0 * small], 2.0 * small, small),
            (
                vec![f64::MIN_POSITIVE, 3.0 * f64::MIN_POSITIVE],
                2.0 * f64::MIN_POSITIVE,
                f64::MIN_POSITIVE,
            ),
        ] {
            assert_eq!(moments(&values), (mean, stddev), "{values:?}");
        }
    }

    #[test]
    fn moments_of_multiples_by_a_power_of_two_are_multiples() {
        let values = [0.1, -7.25, 1e3, 3.3, 0.1, 0.0];
        let (mean, stddev) = moments(&values);
        for exponent in [-900, -400, -380, 400, 475, 900] {
            let factor = power_of_two(exponent);
            let multiples = values.map(|value| value * factor);
            let wanted = (mean * factor, stddev * factor);
            assert_eq!(moments(&multiples), wanted, "2^{exponent}");
        }
    }
}
