//! The different values of a column, counted one by one while they are few.

use std::collections::HashMap;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Date32Type, Float32Type, Float64Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{Array as _, ArrayRef};
use arrow_schema::{DataType as ArrowType, TimeUnit};
use wafer_catalog::MAX_DISTINCT;
use wafer_core::{cut_to, with_canonical_floats};

use crate::cell_text;

/// The greatest size of the text of a value that is reported, in bytes.
const TEXT_BYTES: usize = 60;

/// The greatest size of all values that are counted, in bytes.
const MAX_BYTES: usize = 256 << 10;

/// The different values of a column, with their counts.
#[derive(Debug)]
pub(super) struct Values {
    /// The text and the count of each value, by its bytes. `None` if the column has too many
    /// different values, or a type whose values are not counted.
    counts: Option<HashMap<Vec<u8>, (String, u64)>>,
    bytes: usize,
}

impl Values {
    pub(super) fn of(data_type: &ArrowType) -> Self {
        let is_counted = matches!(
            data_type,
            ArrowType::Boolean
                | ArrowType::Int64
                | ArrowType::Float64
                | ArrowType::Float32
                | ArrowType::Utf8
                | ArrowType::Date32
                | ArrowType::Timestamp(TimeUnit::Microsecond, _)
        );
        Self {
            counts: is_counted.then(HashMap::new),
            bytes: 0,
        }
    }

    /// Adds the values of a batch, nulls left out.
    pub(super) fn add(&mut self, column: &ArrayRef) {
        if self.counts.is_none() {
            return;
        }
        let column = with_canonical_floats(column);
        let mut value = Vec::new();
        for row in (0..column.len()).filter(|row| column.is_valid(*row)) {
            write_value(&column, row, &mut value);
            self.add_one(&value, &column, row);
            if self.counts.is_none() {
                return;
            }
        }
    }

    fn add_one(&mut self, value: &[u8], column: &ArrayRef, row: usize) {
        let Some(counts) = &mut self.counts else {
            return;
        };
        if let Some((_, count)) = counts.get_mut(value) {
            *count += 1;
            return;
        }
        self.bytes += value.len();
        if counts.len() == MAX_DISTINCT || self.bytes > MAX_BYTES {
            self.counts = None;
            return;
        }
        let text = cut_to(cell_text(column, row), TEXT_BYTES);
        counts.insert(value.to_vec(), (text, 1));
    }

    /// Returns the number of different values, if they were counted.
    pub(super) fn distinct(&self) -> Option<u64> {
        self.counts.as_ref().map(|counts| counts.len() as u64)
    }

    /// Returns the most frequent values, at most `most` of them, and their counts. Of equally
    /// frequent ones, the first in the order of their texts come first.
    pub(super) fn top(&self, most: usize) -> Vec<(String, u64)> {
        let counts = self.counts.iter().flat_map(HashMap::values);
        let mut all: Vec<(String, u64)> = counts.cloned().collect();
        all.sort_by(|(a, a_count), (b, b_count)| b_count.cmp(a_count).then_with(|| a.cmp(b)));
        all.truncate(most);
        all
    }
}

/// Writes the bytes by which a value is told from others of its column.
fn write_value(column: &ArrayRef, row: usize, value: &mut Vec<u8>) {
    value.clear();
    match column.data_type() {
        ArrowType::Boolean => value.push(u8::from(column.as_boolean().value(row))),
        ArrowType::Int64 => {
            value.extend(column.as_primitive::<Int64Type>().value(row).to_le_bytes());
        }
        ArrowType::Float64 => {
            let float = column.as_primitive::<Float64Type>().value(row);
            value.extend(float.to_bits().to_le_bytes());
        }
        ArrowType::Float32 => {
            let float = column.as_primitive::<Float32Type>().value(row);
            value.extend(float.to_bits().to_le_bytes());
        }
        ArrowType::Date32 => {
            value.extend(column.as_primitive::<Date32Type>().value(row).to_le_bytes());
        }
        ArrowType::Timestamp(..) => {
            let time = column.as_primitive::<TimestampMicrosecondType>();
            value.extend(time.value(row).to_le_bytes());
        }
        _ => value.extend(column.as_string::<i32>().value(row).as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{BinaryArray, BooleanArray, Float64Array, Int64Array, StringArray};

    use super::*;

    fn counted(column: impl arrow_array::Array + 'static) -> (Option<u64>, Vec<(String, u64)>) {
        let column: ArrayRef = Arc::new(column);
        let mut values = Values::of(column.data_type());
        // Values of several batches are counted together.
        values.add(&column.slice(0, 1));
        values.add(&column.slice(1, column.len() - 1));
        (values.distinct(), values.top(2))
    }

    fn top(values: &[(&str, u64)]) -> Vec<(String, u64)> {
        let values = values.iter();
        values
            .map(|(text, count)| ((*text).to_owned(), *count))
            .collect()
    }

    #[test]
    fn few_different_values_are_counted() {
        let texts = StringArray::from(vec![Some("b"), Some("a"), None, Some("b"), Some("c")]);
        assert_eq!(counted(texts), (Some(3), top(&[("b", 2), ("a", 1)])));
        let truths = BooleanArray::from(vec![true, false, true]);
        assert_eq!(
            counted(truths),
            (Some(2), top(&[("true", 2), ("false", 1)]))
        );
        // Floats are equal as everywhere else.
        let floats = Float64Array::from(vec![0.0, -0.0, 1.5, f64::NAN, -f64::NAN]);
        assert_eq!(counted(floats), (Some(3), top(&[("0.0", 2), ("NaN", 2)])));
        assert_eq!(
            counted(BinaryArray::from(vec![b"a".as_slice()])),
            (None, Vec::new())
        );
    }

    #[test]
    fn many_different_values_or_large_ones_are_not_counted() {
        let most = MAX_DISTINCT as i64;
        let (distinct, found) = counted(Int64Array::from_iter_values(0..most));
        assert_eq!((distinct, found), (Some(1_000), top(&[("0", 1), ("1", 1)])));
        assert_eq!(
            counted(Int64Array::from_iter_values(0..=most)),
            (None, Vec::new())
        );
        let large = StringArray::from(vec!["x".repeat(MAX_BYTES), "y".to_owned()]);
        assert_eq!(counted(large), (None, Vec::new()));
        let long = counted(StringArray::from(vec!["z".repeat(1_000)])).1;
        assert!(long[0].0.len() <= TEXT_BYTES, "{long:?}");
    }
}
