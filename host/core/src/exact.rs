//! Exact sums: floats and integers are added without rounding, so that the sum does not depend on
//! their order. It is rounded once, when it is read.
//!
//! A sum is a fixed-point number of about 4,400 bits, of which only the part that is in use is
//! stored: digits of 32 bits in 64-bit integers, so that carries have to be propagated only after
//! 2^30 additions. The range includes the square of every float. After R. Neal, "Fast exact
//! summation using small and large superaccumulators" (2015), <https://arxiv.org/abs/1505.05571>.

use crate::bytes::{DamagedError, Reader, put_varint};

/// Exponent of the lowest bit, below the square of the least positive float, 2^-2148.
const LOWEST: i32 = -2_176;
/// Number of additions after which carries are propagated.
const MAX_PENDING: u32 = 1 << 30;

/// An unrounded sum of floats, integers and their squares.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExactSum {
    /// Position of the first digit, in units of 32 bits above [`LOWEST`].
    low: u16,
    digits: Vec<i64>,
    /// Number of additions since carries were propagated.
    pending: u32,
    special: Special,
}

/// How many NaNs and infinities were added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Special {
    nan: u64,
    positive: u64,
    negative: u64,
}

/// The value of a sum in the one form that equal sums share.
struct Canonical {
    negative: bool,
    low: u16,
    /// Digits of the magnitude, lowest first, without zeros at either end.
    digits: Vec<u32>,
}

/// `value * 2^exponent`, which may lie beyond the range of floats.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scaled {
    value: f64,
    exponent: i32,
}

impl Scaled {
    /// The quotient, rounded like that of floats. The divisor is between 1 and 2^128.
    pub(crate) fn over(self, divisor: f64) -> Self {
        Self {
            value: self.value / divisor,
            ..self
        }
    }

    /// The square root, rounded like that of floats.
    pub(crate) fn sqrt(self) -> Self {
        let odd = self.exponent.rem_euclid(2);
        Self {
            value: (self.value * f64::from(1 + odd)).sqrt(),
            exponent: (self.exponent - odd) / 2,
        }
    }

    /// The nearest float: infinity of a number that is too large, zero of one that is too small.
    pub(crate) fn to_f64(self) -> f64 {
        libm::scalbn(self.value, self.exponent)
    }
}

/// What happens to a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Add,
    Remove,
}

impl Step {
    fn is_negative(self) -> bool {
        self == Self::Remove
    }
}

impl ExactSum {
    /// Adds a number.
    pub(crate) fn add(&mut self, value: f64) {
        self.update(value, Step::Add);
    }

    /// Removes a number that was added.
    pub(crate) fn remove(&mut self, value: f64) {
        self.update(value, Step::Remove);
    }

    /// Adds an integer.
    pub(crate) fn add_int(&mut self, value: i64) {
        self.scaled(value < 0, value.unsigned_abs().into(), 0);
    }

    /// Removes an integer that was added.
    pub(crate) fn remove_int(&mut self, value: i64) {
        self.scaled(value >= 0, value.unsigned_abs().into(), 0);
    }

    /// Adds the square of a number.
    pub(crate) fn add_square(&mut self, value: f64) {
        self.update_square(value, Step::Add);
    }

    /// Removes the square of a number that was added.
    pub(crate) fn remove_square(&mut self, value: f64) {
        self.update_square(value, Step::Remove);
    }

    /// Adds the square of an integer.
    pub(crate) fn add_int_square(&mut self, value: i64) {
        let magnitude = u128::from(value.unsigned_abs());
        self.scaled(false, magnitude * magnitude, 0);
    }

    /// Removes the square of an integer that was added.
    pub(crate) fn remove_int_square(&mut self, value: i64) {
        let magnitude = u128::from(value.unsigned_abs());
        self.scaled(true, magnitude * magnitude, 0);
    }

    /// Adds another sum.
    pub(crate) fn merge(&mut self, other: &Self) {
        let add = |count: &mut u64, more: u64| *count = count.saturating_add(more);
        add(&mut self.special.nan, other.special.nan);
        add(&mut self.special.positive, other.special.positive);
        add(&mut self.special.negative, other.special.negative);
        if other.digits.is_empty() {
            return;
        }
        self.cover(other.low, other.digits.len());
        let start = usize::from(other.low - self.low);
        for (digit, more) in self.digits[start..].iter_mut().zip(&other.digits) {
            *digit += more;
        }
        self.count(other.pending + 1);
    }

    fn update(&mut self, value: f64, step: Step) {
        match parts(value) {
            Some((negative, mantissa, exponent)) => {
                self.scaled(negative != step.is_negative(), mantissa.into(), exponent);
            }
            None => self.special(value, step),
        }
    }

    fn update_square(&mut self, value: f64, step: Step) {
        match parts(value) {
            Some((_, mantissa, exponent)) => {
                let square = u128::from(mantissa) * u128::from(mantissa);
                self.scaled(step.is_negative(), square, 2 * exponent);
            }
            None => self.special(value.abs(), step),
        }
    }

    fn special(&mut self, value: f64, step: Step) {
        let count = if value.is_nan() {
            &mut self.special.nan
        } else if value > 0.0 {
            &mut self.special.positive
        } else {
            &mut self.special.negative
        };
        *count = match step {
            Step::Add => *count + 1,
            Step::Remove => count.saturating_sub(1),
        };
    }

    /// Adds `magnitude * 2^exponent`, or subtracts it if `negative`. The magnitude has at most 127
    /// bits.
    fn scaled(&mut self, negative: bool, magnitude: u128, exponent: i32) {
        if magnitude == 0 {
            return;
        }
        let bit = (exponent - LOWEST) as u32;
        let (place, shift) = ((bit / 32) as u16, bit % 32);
        let bits = 128 - magnitude.leading_zeros() + shift;
        self.cover(place, bits.div_ceil(32) as usize);
        let start = usize::from(place - self.low);
        let sign = if negative { -1 } else { 1 };
        // The first digit takes the bits that fit above the shift.
        self.digits[start] += sign * i64::from((magnitude as u32) << shift);
        let mut rest = magnitude >> (32 - shift);
        let mut next = start + 1;
        while rest != 0 {
            self.digits[next] += sign * i64::from(rest as u32);
            rest >>= 32;
            next += 1;
        }
        self.count(1);
    }

    /// Makes room for `length` digits from `place` on.
    fn cover(&mut self, place: u16, length: usize) {
        if self.digits.is_empty() {
            self.low = place;
            self.digits.resize(length, 0);
            return;
        }
        if place < self.low {
            let more = usize::from(self.low - place);
            self.digits.splice(0..0, std::iter::repeat_n(0, more));
            self.low = place;
        }
        let end = usize::from(place - self.low) + length;
        if end > self.digits.len() {
            self.digits.resize(end, 0);
        }
    }

    fn count(&mut self, additions: u32) {
        self.pending = self.pending.saturating_add(additions);
        if self.pending >= MAX_PENDING {
            let Canonical {
                negative,
                low,
                digits,
            } = self.canonical();
            let sign = if negative { -1 } else { 1 };
            self.low = low;
            self.digits = digits.into_iter().map(|d| sign * i64::from(d)).collect();
            self.pending = 1;
        }
    }

    fn canonical(&self) -> Canonical {
        let mut digits = Vec::with_capacity(self.digits.len() + 2);
        let mut carry = 0i64;
        for digit in &self.digits {
            let value = digit + carry;
            digits.push(value as u32);
            carry = value >> 32;
        }
        while carry != 0 && carry != -1 {
            digits.push(carry as u32);
            carry >>= 32;
        }
        let negative = carry == -1;
        if negative {
            negate(&mut digits);
            if digits.iter().all(|digit| *digit == 0) {
                // The value is minus one in the next higher digit, which does not exist yet.
                digits.push(1);
            }
        }
        while digits.last() == Some(&0) {
            digits.pop();
        }
        let zeros = digits.iter().take_while(|d| **d == 0).count();
        digits.drain(..zeros);
        let low = if digits.is_empty() {
            0
        } else {
            self.low + zeros as u16
        };
        Canonical {
            negative,
            low,
            digits,
        }
    }

    /// The sum, rounded to the nearest float, ties to even. NaN when a NaN or infinities of both
    /// signs were added.
    pub(crate) fn to_f64(&self) -> f64 {
        let Special {
            nan,
            positive,
            negative,
        } = self.special;
        if nan > 0 || (positive > 0 && negative > 0) {
            return f64::NAN;
        }
        if positive > 0 {
            return f64::INFINITY;
        }
        if negative > 0 {
            return f64::NEG_INFINITY;
        }
        self.small().unwrap_or_else(|| self.canonical().to_f64())
    }

    /// The sum of `count` numbers over `count`. The sum is rounded, and then the quotient. Only a
    /// mean that lies beyond the range of floats is infinite, not one whose sum does.
    pub(crate) fn mean(&self, count: u64) -> f64 {
        let sum = self.to_f64();
        match sum.is_infinite() && self.special == Special::default() {
            true => self.canonical().to_scaled().over(count as f64).to_f64(),
            false => sum / count as f64,
        }
    }

    /// The sum of at most three digits in the middle of the range, rounded by the processor: an
    /// integer of 128 bits times a power of two. `None` for any other sum.
    fn small(&self) -> Option<f64> {
        let length = self.digits.len();
        if length > 3 || self.pending >= 1 << 29 || !(40..90).contains(&self.low) {
            return self.digits.is_empty().then_some(0.0);
        }
        let mut value = 0i128;
        for (index, digit) in self.digits.iter().enumerate() {
            value += i128::from(*digit) << (32 * index);
        }
        let exponent = 32 * i32::from(self.low) + LOWEST;
        let scale = f64::from_bits(((exponent + 1_023) as u64) << 52);
        Some(value as f64 * scale)
    }

    /// The sum if it is an integer of 64 bits.
    pub(crate) fn to_i64(&self) -> Option<i64> {
        let Canonical {
            negative,
            low,
            digits,
        } = self.canonical();
        if digits.is_empty() {
            return Some(0);
        }
        let unit = (-LOWEST / 32) as u16;
        let above = low.checked_sub(unit)?;
        if usize::from(above) + digits.len() > 2 {
            return None;
        }
        let mut magnitude = 0i128;
        for (index, digit) in digits.iter().enumerate() {
            magnitude |= i128::from(*digit) << (32 * (index + usize::from(above)));
        }
        i64::try_from(if negative { -magnitude } else { magnitude }).ok()
    }

    /// `count * squares - self^2`, rounded once, where `self` is the sum of `count` numbers and
    /// `squares` the sum of their squares. This is the sum of squared deviations from the mean,
    /// times `count`. Never negative; NaN when a NaN or an infinity was added.
    pub(crate) fn deviations(&self, squares: &Self, count: u64) -> Scaled {
        if self.special != Special::default() || squares.special != Special::default() {
            return Scaled {
                value: f64::NAN,
                exponent: 0,
            };
        }
        let (sum, squares) = (self.canonical(), squares.canonical());
        let mut total = Self::default();
        let exponent = |place: u16, index: usize| 32 * (i32::from(place) + index as i32) + LOWEST;
        for (index, digit) in squares.digits.iter().enumerate() {
            let product = u128::from(*digit) * u128::from(count);
            total.scaled(squares.negative, product, exponent(squares.low, index));
        }
        for (i, left) in sum.digits.iter().enumerate() {
            for (j, right) in sum.digits.iter().enumerate() {
                let product = u128::from(*left) * u128::from(*right);
                let place = exponent(sum.low, i) + exponent(sum.low, j);
                total.scaled(true, product, place);
            }
        }
        let Scaled { value, exponent } = match total.small() {
            Some(value) => Scaled { value, exponent: 0 },
            None => total.canonical().to_scaled(),
        };
        Scaled {
            value: value.max(0.0),
            exponent,
        }
    }

    /// Appends the sum: a byte of flags (bit 0: the sum is negative; bit 1: counts follow), the
    /// number of digits, the position of the first digit if there are any, the digits, and if NaNs
    /// or infinities were added the counts of NaN, infinity and negative infinity. Equal sums give
    /// equal bytes.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let Canonical {
            negative,
            low,
            digits,
        } = self.canonical();
        let special = self.special != Special::default();
        out.push(u8::from(negative) | u8::from(special) << 1);
        out.push(digits.len() as u8);
        if !digits.is_empty() {
            out.push(low as u8);
        }
        for digit in digits {
            out.extend_from_slice(&digit.to_le_bytes());
        }
        if special {
            for count in [
                self.special.nan,
                self.special.positive,
                self.special.negative,
            ] {
                put_varint(out, count);
            }
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DamagedError> {
        let [flags, length] = reader.array()?;
        let low = if length == 0 { 0 } else { reader.byte()? };
        if usize::from(low) + usize::from(length) > 160 {
            return Err(reader.damaged());
        }
        let sign = if flags & 1 == 1 { -1 } else { 1 };
        let digits = (0..length)
            .map(|_| Ok(sign * i64::from(u32::from_le_bytes(reader.array()?))))
            .collect::<Result<_, _>>()?;
        let special = if flags & 2 == 0 {
            Special::default()
        } else {
            Special {
                nan: reader.varint()?,
                positive: reader.varint()?,
                negative: reader.varint()?,
            }
        };
        Ok(Self {
            low: low.into(),
            digits,
            pending: 1,
            special,
        })
    }
}

/// The sign, mantissa and exponent of a finite number; `None` for any other.
fn parts(value: f64) -> Option<(bool, u64, i32)> {
    let bits = value.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as i32;
    let fraction = bits & ((1 << 52) - 1);
    match exponent {
        0x7ff => None,
        0 => Some((value.is_sign_negative(), fraction, -1_074)),
        _ => Some((
            value.is_sign_negative(),
            fraction | 1 << 52,
            exponent - 1_075,
        )),
    }
}

/// Negates a number in two's complement.
fn negate(digits: &mut [u32]) {
    let mut carry = true;
    for digit in digits {
        (*digit, carry) = (!*digit).overflowing_add(carry.into());
    }
}

impl Canonical {
    /// The nearest float.
    fn to_f64(&self) -> f64 {
        let Some(highest) = self.highest() else {
            return 0.0;
        };
        let lowest = (highest - 52).max(-1_074);
        // A mantissa that was rounded up to the next power of two carries into the exponent.
        let bits = (((lowest + 1_074) as u64) << 52) + self.mantissa(lowest);
        let magnitude = f64::from_bits(bits.min(f64::INFINITY.to_bits()));
        if self.negative { -magnitude } else { magnitude }
    }

    /// The value rounded to 53 bits, however large or small it is.
    fn to_scaled(&self) -> Scaled {
        let exponent = self.highest().map_or(0, |highest| highest - 52);
        let magnitude = self.mantissa(exponent) as f64;
        Scaled {
            value: if self.negative { -magnitude } else { magnitude },
            exponent,
        }
    }

    /// The exponent of the lowest bit of the first digit.
    fn first(&self) -> i32 {
        32 * i32::from(self.low) + LOWEST
    }

    /// The exponent of the highest bit that is set; `None` for zero.
    fn highest(&self) -> Option<i32> {
        let top = self.digits.last()?;
        let length = 32 * self.digits.len() as i32 - top.leading_zeros() as i32;
        Some(self.first() + length - 1)
    }

    /// The magnitude in units of `2^lowest`, rounded to the nearest integer, ties to even. It has
    /// at most 53 bits before it is rounded.
    fn mantissa(&self, lowest: i32) -> u64 {
        // Bits are counted from the lowest bit of the first digit.
        let from = lowest - self.first();
        let length = 32 * self.digits.len() as i32;
        let mut mantissa = 0u64;
        for bit in (from.max(0)..length).rev() {
            mantissa = mantissa << 1 | u64::from(self.bit(bit));
        }
        if from < 0 {
            mantissa <<= -from;
        }
        let half = from > 0 && self.bit(from - 1);
        let more = || (0..from - 1).any(|bit| self.bit(bit));
        if half && (mantissa & 1 == 1 || more()) {
            mantissa += 1;
        }
        mantissa
    }

    fn bit(&self, bit: i32) -> bool {
        let digit = self.digits.get(bit as usize / 32).copied();
        digit.unwrap_or(0) >> (bit % 32) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(values: &[f64]) -> ExactSum {
        let mut sum = ExactSum::default();
        values.iter().for_each(|value| sum.add(*value));
        sum
    }

    fn bytes(sum: &ExactSum) -> Vec<u8> {
        let mut bytes = Vec::new();
        sum.encode(&mut bytes);
        bytes
    }

    #[test]
    fn exact_sums_are_rounded_once() {
        let tiny = f64::from_bits(1);
        for (values, wanted) in [
            (vec![], 0.0),
            (vec![0.1; 10], 1.0),
            (vec![1e308, 1e308, -1e308], 1e308),
            (vec![1e308, 1e308], f64::INFINITY),
            (vec![-1e308, -1e308], f64::NEG_INFINITY),
            (vec![1e16, 1.0, -1e16], 1.0),
            (vec![1.0, 1e-30, -1.0], 1e-30),
            (vec![tiny, tiny], f64::from_bits(2)),
            (
                vec![f64::MIN_POSITIVE, -tiny],
                f64::from_bits((1 << 52) - 1),
            ),
            // Exactly between two floats it is rounded to the even one; a little more is rounded
            // up.
            (vec![9_007_199_254_740_992.0, 1.0], 9_007_199_254_740_992.0),
            (
                vec![9_007_199_254_740_992.0, 1.0, 1e-300],
                9_007_199_254_740_994.0,
            ),
            (vec![f64::INFINITY, 1.0], f64::INFINITY),
            (vec![f64::NEG_INFINITY], f64::NEG_INFINITY),
        ] {
            assert_eq!(
                sum(&values).to_f64().to_bits(),
                wanted.to_bits(),
                "{values:?}"
            );
        }
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).to_f64().is_nan());
        assert!(sum(&[f64::NAN, 1.0]).to_f64().is_nan());
    }

    /// A sum is the same after it was encoded. This covers powers of two, whose digits are all zero
    /// but one, and numbers that carry over to them.
    #[test]
    fn exact_sums_of_powers_of_two_survive_encoding() {
        for exponent in [-300i32, -33, -32, -31, -1, 0, 1, 31, 32, 33, 63, 64, 300] {
            let power = 2f64.powi(exponent);
            for values in [
                vec![-power],
                vec![-power / 2.0, -power / 2.0],
                vec![power / 2.0, power / 2.0],
                vec![-power * 3.0, power * 2.0],
            ] {
                let sum = sum(&values);
                let wanted: f64 = values.iter().sum();
                let encoded = bytes(&sum);
                let stored = ExactSum::decode(&mut Reader::new(&encoded)).unwrap();
                assert_eq!(
                    (sum.to_f64(), stored.to_f64()),
                    (wanted, wanted),
                    "{values:?}"
                );
                let mut squares = ExactSum::default();
                values.iter().for_each(|value| squares.add_square(*value));
                let n = values.len() as f64;
                let square: f64 = values.iter().map(|value| value * value).sum();
                let deviations = n * square - wanted * wanted;
                let found = stored.deviations(&squares, values.len() as u64);
                assert_eq!(found.to_f64(), deviations);
            }
        }
        for values in [
            [i64::from(i32::MIN); 2],
            [-4_294_967_295, -1],
            [i64::MIN / 2; 2],
        ] {
            let mut sum = ExactSum::default();
            values.iter().for_each(|value| sum.add_int(*value));
            assert_eq!(sum.to_i64(), Some(values.iter().sum()));
        }
    }

    #[test]
    fn integer_sums_stay_exact() {
        let mut sum = ExactSum::default();
        sum.add_int(9_007_199_254_740_993);
        assert_eq!(sum.to_i64(), Some(9_007_199_254_740_993));
        sum.add_int(i64::MAX);
        assert_eq!(sum.to_i64(), None);
        sum.remove_int(9_007_199_254_740_993);
        assert_eq!(sum.to_i64(), Some(i64::MAX));
        sum.add_int(i64::MIN);
        sum.add_int(i64::MIN);
        assert_eq!(sum.to_i64(), None);
        sum.add_int(1);
        sum.remove_int(i64::MIN);
        assert_eq!(sum.to_i64(), Some(0));
        sum.add(0.5);
        assert_eq!(sum.to_i64(), None);
    }

    #[test]
    fn deviations_do_not_cancel() {
        let deviations = |values: &[f64]| {
            let mut squares = ExactSum::default();
            values.iter().for_each(|v| squares.add_square(*v));
            let count = values.len() as u64;
            sum(values).deviations(&squares, count).to_f64()
        };
        assert_eq!(deviations(&[1e9, 1e9 + 1.0, 1e9 + 2.0]), 6.0);
        assert_eq!(deviations(&[0.1; 7]), 0.0);
        assert_eq!(deviations(&[1e200, -1e200]), f64::INFINITY);
        assert_eq!(deviations(&[1e-170, -1e-170]), 0.0);
        assert!(deviations(&[f64::INFINITY, 1.0]).is_nan());
        let mut squares = ExactSum::default();
        let mut ints = ExactSum::default();
        for value in [i64::MIN, i64::MAX] {
            ints.add_int(value);
            squares.add_int_square(value);
        }
        // (2^64 - 1)^2, rounded.
        let found = ints.deviations(&squares, 2).to_f64();
        assert_eq!(found, (2f64.powi(64) - 1.0).powi(2));
    }

    #[test]
    fn means_of_sums_beyond_the_range_of_floats_are_floats() {
        let tiny = f64::from_bits(1);
        for (values, wanted) in [
            (vec![1e308, 1e308], 1e308),
            (vec![-1e308, -1e308, -1e308], -1e308),
            (vec![f64::MAX; 7], f64::MAX),
            (vec![f64::MAX, f64::MAX, -f64::MAX], f64::MAX / 3.0),
            (vec![f64::MAX, f64::MAX, tiny], f64::MAX / 3.0 * 2.0),
            (vec![tiny, tiny], tiny),
            (vec![1.5, 2.5], 2.0),
            (vec![f64::INFINITY, 1e308, 1e308], f64::INFINITY),
            (vec![f64::NEG_INFINITY, 1e308, 1e308], f64::NEG_INFINITY),
        ] {
            let exact = sum(&values);
            let encoded = bytes(&exact);
            let stored = ExactSum::decode(&mut Reader::new(&encoded)).unwrap();
            let count = values.len() as u64;
            assert_eq!(
                (exact.mean(count), stored.mean(count)),
                (wanted, wanted),
                "{values:?}"
            );
        }
        assert!(sum(&[f64::NAN, 1e308, 1e308]).mean(3).is_nan());
    }

    #[test]
    fn carries_are_propagated_in_time() {
        let mut sum = sum(&[-1.5, 0.25]);
        sum.pending = MAX_PENDING - 1;
        sum.add(1.0);
        assert_eq!((sum.pending, sum.to_f64()), (1, -0.25));
    }

    /// Any finite float, including tiny and huge ones.
    fn float() -> impl Strategy<Value = f64> {
        any::<u64>().prop_map(|bits| {
            let value = f64::from_bits(bits);
            if value.is_finite() { value } else { 1.0 }
        })
    }

    proptest! {
        #[test]
        fn exact_sums_do_not_depend_on_order_or_grouping(values in prop::collection::vec(float(), 0..20), cut in 0usize..20) {
            let forward = sum(&values);
            let mut backward = values.clone();
            backward.reverse();
            prop_assert_eq!(bytes(&forward), bytes(&sum(&backward)));
            let cut = cut.min(values.len());
            let mut merged = sum(&values[cut..]);
            merged.merge(&sum(&values[..cut]));
            prop_assert_eq!(bytes(&forward), bytes(&merged));
            let encoded = bytes(&forward);
            let mut reader = Reader::new(&encoded);
            let decoded = ExactSum::decode(&mut reader).unwrap();
            prop_assert_eq!(bytes(&decoded), encoded);
            prop_assert_eq!(decoded.to_f64().to_bits(), forward.to_f64().to_bits());
        }

        #[test]
        fn small_dyadic_sums_are_exact(values in prop::collection::vec((-9i64..9, 0i32..70), 0..12)) {
            let mut exact = ExactSum::default();
            values.iter().for_each(|(value, shift)| exact.add(*value as f64 * 2f64.powi(*shift)));
            let wanted: i128 = values.iter().map(|(value, shift)| i128::from(*value) << shift).sum();
            let encoded = bytes(&exact);
            let stored = ExactSum::decode(&mut Reader::new(&encoded)).unwrap();
            prop_assert_eq!(stored.to_f64(), wanted as f64);
            prop_assert_eq!(stored.to_i64(), i64::try_from(wanted).ok());
        }

        #[test]
        fn removing_added_values_restores_the_sum(values in prop::collection::vec(float(), 1..20), more in prop::collection::vec(float(), 0..20)) {
            let mut both = sum(&values);
            more.iter().for_each(|v| { both.add(*v); both.add_square(*v) });
            more.iter().for_each(|v| { both.remove(*v); both.remove_square(*v) });
            prop_assert_eq!(bytes(&both), bytes(&sum(&values)));
        }

        #[test]
        fn sums_of_two_floats_match_the_processor(a in float(), b in float()) {
            prop_assert_eq!(sum(&[a, b]).to_f64().to_bits(), (a + b + 0.0).to_bits());
        }

        #[test]
        fn integer_sums_match_128_bit_arithmetic(values in prop::collection::vec(any::<i64>(), 0..50)) {
            let mut sum = ExactSum::default();
            values.iter().for_each(|v| sum.add_int(*v));
            let wanted: i128 = values.iter().map(|v| i128::from(*v)).sum();
            prop_assert_eq!(sum.to_i64(), i64::try_from(wanted).ok());
            prop_assert_eq!(sum.to_f64(), wanted as f64);
        }
    }
}
