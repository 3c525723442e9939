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
        let divisor = n * (n - 1.0);
        let deviations = self.sum.deviations(&self.squares, self.count);
        AggregateValue::float(match statistic {
            MomentStatistic::Variance => {
                let total = deviations.to_f64();
                match total.is_normal() {
                    true => total / divisor,
                    // The quotient may be in the range of floats where the total is beyond it.
                    false => deviations.over(divisor).to_f64(),
                }
            }
            // The root may be in the range of floats where the variance is beyond it.
            MomentStatistic::Stddev => deviations.over(divisor).sqrt().to_f64(),
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

#[cfg(test)]
mod tests {
    use std::f64::consts::SQRT_2;

    use super::*;
    use crate::aggregate::cell::Cell;

    fn moments(values: &[f64]) -> Moments {
        let mut moments = Moments::new(());
        for value in values {
            moments.add(Timestamp::MIN, Arrival::unknown(0), CellRef::Float(*value));
        }
        moments
    }

    fn answer(moments: &Moments, statistic: MomentStatistic) -> f64 {
        match moments.answer(statistic) {
            AggregateValue::One(Cell::Float(value)) => value,
            other => panic!("{other:?}"),
        }
    }

    /// The variance and the standard deviation, which are the same of moments that were merged and
    /// stored.
    fn answers(values: &[f64]) -> [f64; 2] {
        let (first, rest) = values.split_at(values.len() / 2);
        let mut merged = moments(first);
        merged.merge(moments(rest));
        let mut stored = Vec::new();
        merged.encode(&mut stored);
        let stored = Moments::decode((), &mut Reader::new(&stored)).unwrap();
        [MomentStatistic::Variance, MomentStatistic::Stddev].map(|statistic| {
            let found = answer(&moments(values), statistic);
            for other in [&merged, &stored] {
                assert_eq!(answer(other, statistic).to_bits(), found.to_bits());
            }
            found
        })
    }

    #[test]
    fn deviations_are_floats_where_their_squares_are_beyond_the_range_of_floats() {
        let tiny = f64::from_bits(1);
        for (values, wanted) in [
            (vec![1.0, 3.0], [2.0, SQRT_2]),
            (vec![1e200, -1e200], [f64::INFINITY, 1e200 * SQRT_2]),
            (vec![1e-200, 3e-200], [0.0, 1e-200 * SQRT_2]),
            (vec![1e-160, 3e-160], [2e-320, 1e-160 * SQRT_2]),
            (
                vec![1e154, -1e154, 1e154, -1e154],
                [1e308 * (4.0 / 3.0), 1e154 * (4f64 / 3.0).sqrt()],
            ),
            (vec![f64::MAX, -f64::MAX], [f64::INFINITY, f64::INFINITY]),
            (vec![0.0, tiny], [0.0, tiny]),
            (vec![1e300; 3], [0.0, 0.0]),
        ] {
            let found = answers(&values);
            for (found, wanted) in found.into_iter().zip(wanted) {
                let is_close = found == wanted || (found / wanted - 1.0).abs() < 1e-15;
                assert!(is_close, "{values:?}: {found}, wanted {wanted}");
            }
        }
        for values in [[f64::NAN, 1.0], [f64::INFINITY, 1.0]] {
            let mut found = answers(&values).into_iter();
            assert!(found.all(f64::is_nan), "{values:?}");
        }
    }

    #[test]
    fn deviations_of_scaled_values_are_scaled() {
        for values in [[1.0, 3.0, 0.1], [-7.3, 1e-9, 12.5], [0.1, 0.2, 0.3]] {
            let [_, base] = answers(&values);
            for scale in [2f64.powi(600), 2f64.powi(-600), 2f64.powi(-601)] {
                let [_, found] = answers(&values.map(|value| value * scale));
                assert_eq!(found, base * scale, "{values:?} times {scale}");
            }
        }
    }
}
