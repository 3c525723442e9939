//! Numbers for the entities of many rows.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{Array as _, ArrayRef};
use arrow_schema::DataType as ArrowType;
use foldhash::fast::RandomState;

use crate::join::NONE;
use crate::key::encode_key;

/// Numbers entities in the order in which they are first seen. Keys are compared column by column,
/// never as joined texts.
#[derive(Clone, Debug, Default)]
pub struct EntityIndex {
    /// Numbers of entities whose key is a single int64.
    ints: HashMap<i64, u32, RandomState>,
    /// Numbers of entities with any other key, which is encoded.
    encoded: HashMap<Box<[u8]>, u32, RandomState>,
}

impl EntityIndex {
    /// Number of entities.
    pub fn len(&self) -> usize {
        self.ints.len() + self.encoded.len()
    }

    /// Whether there are no entities.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the number of each row's entity, giving new entities the next numbers. A row whose
    /// key is null, or too long to be stored, gets [`NONE`].
    ///
    /// # Panics
    /// Panics when a column's type is [not a key type](crate::DataType::is_key).
    pub fn number(&mut self, columns: &[ArrayRef], rows: usize, numbers: &mut Vec<u32>) {
        let next = |length: usize| u32::try_from(length).expect("fewer entities than rows");
        if let [column] = columns
            && *column.data_type() == ArrowType::Int64
        {
            let values = column.as_primitive::<Int64Type>();
            for row in 0..rows {
                numbers.push(if values.is_null(row) {
                    NONE
                } else {
                    let length = next(self.ints.len());
                    *self.ints.entry(values.value(row)).or_insert(length)
                });
            }
            return;
        }
        let mut key = Vec::new();
        for row in 0..rows {
            key.clear();
            numbers.push(match encode_key(columns, row, &mut key) {
                Err(_) => NONE,
                Ok(()) => match self.encoded.get(key.as_slice()) {
                    Some(number) => *number,
                    None => {
                        let length = next(self.encoded.len());
                        match self.encoded.entry(key.as_slice().into()) {
                            Entry::Occupied(found) => *found.get(),
                            Entry::Vacant(place) => *place.insert(length),
                        }
                    }
                },
            });
        }
    }

    /// Appends the number of each row's entity, or [`NONE`] for an entity that has no number.
    ///
    /// # Panics
    /// Panics as [`number`](Self::number) does.
    pub fn find(&self, columns: &[ArrayRef], rows: usize, numbers: &mut Vec<u32>) {
        if let [column] = columns
            && *column.data_type() == ArrowType::Int64
        {
            let values = column.as_primitive::<Int64Type>();
            let found = |row: usize| self.ints.get(&values.value(row)).copied();
            if values.null_count() == 0 {
                numbers.extend((0..rows).map(|row| found(row).unwrap_or(NONE)));
            } else {
                let known = |row: usize| found(row).filter(|_| values.is_valid(row));
                numbers.extend((0..rows).map(|row| known(row).unwrap_or(NONE)));
            }
            return;
        }
        let mut key = Vec::new();
        for row in 0..rows {
            key.clear();
            let encoded = encode_key(columns, row, &mut key).is_ok();
            let found = self.encoded.get(key.as_slice()).filter(|_| encoded);
            numbers.push(found.copied().unwrap_or(NONE));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int64Array, StringArray};

    use super::*;

    #[test]
    fn entities_are_numbered_and_found() {
        let ints = |values: &[Option<i64>]| -> Vec<ArrayRef> {
            vec![Arc::new(Int64Array::from(values.to_vec()))]
        };
        let mut index = EntityIndex::default();
        let mut numbers = Vec::new();
        index.number(
            &ints(&[Some(7), None, Some(i64::MIN), Some(7)]),
            4,
            &mut numbers,
        );
        assert_eq!(numbers, [0, NONE, 1, 0]);
        let mut found = Vec::new();
        index.find(&ints(&[Some(i64::MIN), Some(8), None]), 3, &mut found);
        assert_eq!(found, [1, NONE, NONE]);
        assert_eq!(index.len(), 2);
    }

    #[test]
    fn keys_of_several_columns_are_not_joined() {
        let texts = |left: &[Option<&str>], right: &[Option<&str>]| -> Vec<ArrayRef> {
            vec![
                Arc::new(StringArray::from(left.to_vec())),
                Arc::new(StringArray::from(right.to_vec())),
            ]
        };
        let columns = texts(
            &[Some("a"), Some("ab"), Some("a"), None, Some("")],
            &[Some("bc"), Some("c"), Some("bc"), Some("x"), Some("")],
        );
        let mut index = EntityIndex::default();
        let mut numbers = Vec::new();
        index.number(&columns, 5, &mut numbers);
        assert_eq!(numbers, [0, 1, 0, NONE, 2]);
        let mut found = Vec::new();
        index.find(&columns, 5, &mut found);
        assert_eq!(found, numbers);
    }
}
