//! Columns of values, for functions that work on whole columns.

use std::fmt;

use crate::bindings::types;
use crate::row::null_message;
use crate::value::{Cell, Value};

/// A bit map. The least significant bit of each byte comes first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bitmap {
    bytes: Vec<u8>,
    length: usize,
}

impl Bitmap {
    /// Creates a bit map of the first `length` bits of `bytes`.
    ///
    /// # Panics
    /// Panics when there are fewer bits.
    pub fn new(bytes: Vec<u8>, length: usize) -> Self {
        assert!(
            bytes.len() * 8 >= length,
            "a bit map of {length} bits needs more bytes"
        );
        Self { bytes, length }
    }

    fn ones(length: usize) -> Self {
        Self {
            bytes: vec![0xff; length.div_ceil(8)],
            length,
        }
    }

    /// The number of bits.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are no bits.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The bit at an index.
    ///
    /// # Panics
    /// Panics when `index` is not below [`len`](Self::len).
    pub fn get(&self, index: usize) -> bool {
        assert!(index < self.length, "bit {index} of {}", self.length);
        self.bytes[index / 8] >> (index % 8) & 1 == 1
    }

    /// Appends a bit.
    pub fn push(&mut self, bit: bool) {
        let (byte, shift) = (self.length / 8, self.length % 8);
        if byte == self.bytes.len() {
            self.bytes.push(0);
        }
        self.bytes[byte] = self.bytes[byte] & !(1 << shift) | u8::from(bit) << shift;
        self.length += 1;
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// A column of a batch: its values, and which of them are present.
#[derive(Clone)]
pub struct Column<C: Cell> {
    data: <C::Value as Value>::Data,
    /// `None` when no value is null.
    validity: Option<Bitmap>,
    length: usize,
}

impl<C: Cell> Column<C> {
    /// The number of rows.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether the value of a row is present, that is, not null.
    ///
    /// # Panics
    /// Panics when `row` is not below [`len`](Self::len).
    pub fn is_present(&self, row: usize) -> bool {
        self.validity.as_ref().is_none_or(|bits| bits.get(row))
    }

    /// The value of a row, or `None` when it is null and `C` is not an `Option`.
    ///
    /// # Panics
    /// Panics when `row` is not below [`len`](Self::len).
    pub fn get(&self, row: usize) -> Option<C> {
        C::from_option(
            self.is_present(row)
                .then(|| C::Value::read(&self.data, row)),
        )
    }

    /// The stored values, including placeholders for nulls: a `Vec` of numbers for numeric columns
    /// (times as integers), a [`Bitmap`] for `bool`, a [`Varying`](crate::Varying) for strings.
    pub fn data(&self) -> &<C::Value as Value>::Data {
        &self.data
    }

    /// Appends a value.
    pub fn push(&mut self, cell: C) {
        match cell.into_option() {
            Some(value) => {
                value.store(&mut self.data);
                if let Some(bits) = &mut self.validity {
                    bits.push(true);
                }
            }
            None => self.push_null(),
        }
        self.length += 1;
    }

    fn push_null(&mut self) {
        C::Value::push_placeholder(&mut self.data);
        self.validity
            .get_or_insert_with(|| Bitmap::ones(self.length))
            .push(false);
    }

    /// Returns an error for a null in a required column.
    #[doc(hidden)]
    pub fn check(&self, row: usize, name: &str) -> Result<(), String> {
        if C::NULLABLE || self.is_present(row) {
            Ok(())
        } else {
            Err(null_message(name))
        }
    }

    /// Appends a row whose value is never read.
    #[doc(hidden)]
    pub fn push_placeholder(&mut self) {
        C::Value::push_placeholder(&mut self.data);
        if let Some(bits) = &mut self.validity {
            bits.push(true);
        }
        self.length += 1;
    }

    #[doc(hidden)]
    pub fn with_capacity(rows: usize) -> Self {
        let mut column = Self::default();
        C::Value::reserve(&mut column.data, rows);
        column
    }

    #[doc(hidden)]
    pub fn field(name: &str, doc: &str) -> types::Field {
        types::Field {
            name: name.to_owned(),
            data_type: C::Value::data_type(),
            nullable: C::NULLABLE,
            doc: doc.to_owned(),
        }
    }

    #[doc(hidden)]
    pub fn from_wire(
        column: Option<types::Column>,
        rows: usize,
        name: &str,
    ) -> Result<Self, String> {
        let column = column.ok_or_else(|| format!("column `{name}` is missing"))?;
        let data = C::Value::from_wire(column.data, rows)
            .ok_or_else(|| format!("column `{name}` is not {:?}", C::Value::data_type()))?;
        let validity = column.validity.map(|bytes| Bitmap::new(bytes, rows));
        Ok(Self {
            data,
            validity,
            length: rows,
        })
    }

    #[doc(hidden)]
    pub fn into_wire(self) -> types::Column {
        types::Column {
            data: C::Value::into_wire(self.data),
            validity: self.validity.map(Bitmap::into_bytes),
        }
    }
}

impl<C: Cell> Default for Column<C> {
    fn default() -> Self {
        Self {
            data: Default::default(),
            validity: None,
            length: 0,
        }
    }
}

impl<C: Cell> fmt::Debug for Column<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Column")
            .field("data", &self.data)
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

impl<C: Cell> FromIterator<C> for Column<C> {
    fn from_iter<I: IntoIterator<Item = C>>(cells: I) -> Self {
        let mut column = Self::default();
        for cell in cells {
            column.push(cell);
        }
        column
    }
}

/// Makes a `Vec` of numbers a column without nulls, without copying it.
macro_rules! from_vec {
    ($($number:ty),*) => {$(
        impl From<Vec<$number>> for Column<$number> {
            fn from(data: Vec<$number>) -> Self {
                Self { length: data.len(), data, validity: None }
            }
        }
    )*};
}

from_vec!(i64, f64, f32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn column_has_a_bit_map_from_the_first_null_on() {
        let column: Column<Option<i64>> = [Some(1), Some(2), None, Some(4)]
            .into_iter()
            .cycle()
            .take(19)
            .collect();
        assert_eq!(column.len(), 19);
        for row in 0..19 {
            let wanted = [Some(1), Some(2), None, Some(4)][row % 4];
            assert_eq!(column.get(row), Some(wanted));
        }
        assert_eq!(column.into_wire().validity.map(|bits| bits.len()), Some(3));
    }

    #[test]
    fn a_column_without_nulls_has_no_bit_map() {
        let column: Column<Option<f64>> = [Some(1.0), Some(2.0)].into_iter().collect();
        assert!(column.into_wire().validity.is_none());
    }

    #[test]
    fn columns_of_every_type_round_trip() {
        fn check<C: Cell + Clone + PartialEq + fmt::Debug>(cells: &[C]) {
            let column: Column<C> = cells.iter().cloned().collect();
            let back = Column::<C>::from_wire(Some(column.into_wire()), cells.len(), "c").unwrap();
            let read: Vec<_> = (0..cells.len()).map(|row| back.get(row).unwrap()).collect();
            assert_eq!(read, cells);
        }
        check(&[true, false, true]);
        check(&[i64::MIN, (1 << 53) + 1, i64::MAX]);
        check(&[0.5f64, -0.0]);
        check(&[0.5f32]);
        check(&[String::new(), "ä".to_owned()]);
        check(&[vec![0u8, 255], vec![]]);
        check(&[crate::Timestamp::from_micros(-1)]);
        check(&[crate::Date::from_days(3)]);
        check(&[[1.0f32, 2.0], [3.0, 4.0]]);
        check(&[vec![1i64, 2], vec![]]);
        check(&[vec![1.5f64], vec![]]);
        check(&[vec!["a".to_owned(), String::new()], vec![]]);
        check(&[None, Some("x".to_owned()), None]);
        check(&[None, Some([1.0f32, 2.0])]);
        check(&[Some(vec!["a".to_owned()]), None]);
    }

    #[test]
    fn required_columns_read_nulls_as_none() {
        let wire = [Some(1i64), None]
            .into_iter()
            .collect::<Column<_>>()
            .into_wire();
        let column = Column::<i64>::from_wire(Some(wire), 2, "n").unwrap();
        assert_eq!((column.get(0), column.get(1)), (Some(1), None));
    }
}
