//! When two floats are one value: the only place that decides it.
//!
//! 0.0 and −0.0 are one value, which is written 0.0. All NaNs are one value, which is greater than
//! every number, infinity included. Distinct counts, the most frequent values, extremes,
//! expectations of uniqueness, and splits by a column compare by this; join keys are never floats.
//! Columns keep the bits that they came with: what is looked up, and the first and last values of a
//! window, may be −0.0. Digests are of bytes, so that files and events that differ only in the sign
//! of a zero are different files and events.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{Array as _, ArrayRef, Float32Array, Float64Array};
use arrow_schema::DataType as ArrowType;

/// Returns the one float that stands for all floats that are the same value.
pub(crate) fn canonical(value: f64) -> f64 {
    if value.is_nan() {
        f64::NAN
    } else if value == 0.0 {
        0.0
    } else {
        value
    }
}

/// Compares floats by their values.
pub(crate) fn compare(a: f64, b: f64) -> Ordering {
    canonical(a).total_cmp(&canonical(b))
}

/// Compares an integer with a float exactly: no integer is rounded to one. Returns `None` for NaN.
pub(crate) fn compare_integer(integer: i64, float: f64) -> Option<Ordering> {
    const END: f64 = 9_223_372_036_854_775_808.0;
    if float.is_nan() {
        return None;
    }
    if float >= END {
        return Some(Ordering::Less);
    }
    if float < -END {
        return Some(Ordering::Greater);
    }
    let whole = integer.cmp(&(float.trunc() as i64));
    // If the whole parts are equal, the fraction decides.
    Some(whole.then_with(|| 0.0f64.total_cmp(&canonical(float.fract()))))
}

/// Returns a column in which floats that are the same value have the same bits. Other columns are
/// returned as they are.
pub fn with_canonical_floats(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        ArrowType::Float64 => {
            let values: Float64Array = column.as_primitive::<Float64Type>().unary(canonical);
            Arc::new(values)
        }
        ArrowType::Float32 => {
            let narrow = |value: f32| canonical(value.into()) as f32;
            let values: Float32Array = column.as_primitive::<Float32Type>().unary(narrow);
            Arc::new(values)
        }
        _ => Arc::clone(column),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell_to_json;

    #[test]
    fn zeros_are_one_value_and_nans_are_the_greatest() {
        let other_nan = f64::from_bits(0xfff8_0000_0000_0001);
        for (a, b, wanted) in [
            (0.0, -0.0, Ordering::Equal),
            (f64::NAN, other_nan, Ordering::Equal),
            (other_nan, f64::INFINITY, Ordering::Greater),
            (other_nan, f64::NEG_INFINITY, Ordering::Greater),
            (-0.0, f64::MIN_POSITIVE, Ordering::Less),
            (-0.0, -f64::MIN_POSITIVE, Ordering::Greater),
            (f64::from_bits(1), 0.0, Ordering::Greater),
            (1.5, 1.5, Ordering::Equal),
        ] {
            assert_eq!(compare(a, b), wanted, "{a} {b}");
            assert_eq!(compare(b, a), wanted.reverse(), "{b} {a}");
            let same = canonical(a).to_bits() == canonical(b).to_bits();
            assert_eq!(same, wanted.is_eq(), "{a} {b}");
        }
    }

    #[test]
    fn integers_and_floats_compare_by_their_exact_values() {
        let large = 1i64 << 53;
        for (integer, float, wanted) in [
            (7, 7.0, Some(Ordering::Equal)),
            (0, -0.0, Some(Ordering::Equal)),
            (7, 7.5, Some(Ordering::Less)),
            (-7, -7.5, Some(Ordering::Greater)),
            (0, -0.5, Some(Ordering::Greater)),
            (large + 1, large as f64, Some(Ordering::Greater)),
            (-large - 1, -(large as f64), Some(Ordering::Less)),
            (i64::MAX, i64::MAX as f64, Some(Ordering::Less)),
            (i64::MIN, i64::MIN as f64, Some(Ordering::Equal)),
            (i64::MIN, -1e300, Some(Ordering::Greater)),
            (i64::MAX, f64::INFINITY, Some(Ordering::Less)),
            (i64::MIN, f64::NEG_INFINITY, Some(Ordering::Greater)),
            (0, f64::NAN, None),
        ] {
            assert_eq!(compare_integer(integer, float), wanted, "{integer} {float}");
        }
    }

    #[test]
    fn columns_of_floats_have_one_zero() {
        let columns: [ArrayRef; 2] = [
            Arc::new(Float64Array::from(vec![Some(-0.0), None, Some(1.5)])),
            Arc::new(Float32Array::from(vec![Some(-0.0), None, Some(1.5)])),
        ];
        for column in columns {
            let read = with_canonical_floats(&column);
            let texts = [0, 1, 2].map(|row| cell_to_json(&read, row).to_string());
            assert_eq!(texts, ["0.0", "null", "1.5"]);
        }
    }
}
