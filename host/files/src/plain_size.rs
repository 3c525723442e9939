//! The size that a column has when each of its values is written out.
//!
//! A column may refer to one value many times: through the keys of a dictionary, or the views of
//! texts. It is small then, and can become any size when it is converted. Nulls of Arrow's type of
//! nulls, empty structs and byte strings of no bytes take none at all, and lists can have any
//! number of them, so that every value counts.
//!
//! This bounds what is read. What is written is divided by the sizes of `row_size.rs`.

use arrow_array::cast::AsArray as _;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType as ArrowType;

/// The size of a null, which becomes a number or a text when it is read as such a type.
const NULL_BYTES: u64 = 8;
/// The size that the values of some rows may have that are read together, unless it is a single
/// row. It is the same for all files, and does not follow from the memory that there is: files that
/// are written again have the same bytes.
pub(crate) const PIECE_BYTES: u64 = 8 << 20;
/// The same size in earlier versions, whose training sets are made again with it.
pub(crate) const FORMER_PIECE_BYTES: u64 = 64 << 20;

/// Returns the first rows of a batch, at most `most`, and fewer if their values take more than
/// `bytes`.
pub(crate) fn first_rows(batch: &RecordBatch, most: usize, bytes: u64) -> RecordBatch {
    let mut count = batch.num_rows().min(most);
    let mut first = batch.slice(0, count);
    while count > 1 && total(first.columns()) > bytes {
        count /= 2;
        first = first.slice(0, count);
    }
    first
}

/// Returns the number of bytes of the values of some columns, each written out.
pub(crate) fn total(columns: &[ArrayRef]) -> u64 {
    let sizes = columns.iter().map(plain_bytes);
    sizes.fold(0, u64::saturating_add)
}

/// Returns the number of bytes of a column's values, each written out, and at least one for each: a
/// value to which several rows refer counts for each of them.
pub fn plain_bytes(column: &ArrayRef) -> u64 {
    let bytes = match column.data_type() {
        ArrowType::Null => NULL_BYTES.saturating_mul(column.len() as u64),
        ArrowType::Dictionary(..) => dictionary(column),
        ArrowType::Utf8View => views(column.len(), column.as_string_view().views()),
        ArrowType::BinaryView => views(column.len(), column.as_binary_view().views()),
        ArrowType::Struct(_) => total(column.as_struct().columns()),
        ArrowType::List(_) => {
            let list = column.as_list::<i32>();
            let (start, end) = (list.value_offsets()[0], list.value_offsets()[list.len()]);
            items(list.values(), start as usize, end as usize)
        }
        ArrowType::LargeList(_) => {
            let list = column.as_list::<i64>();
            let (start, end) = (list.value_offsets()[0], list.value_offsets()[list.len()]);
            items(list.values(), start as usize, end as usize)
        }
        ArrowType::FixedSizeList(_, _) => {
            let list = column.as_fixed_size_list();
            let start = list.value_offset(0) as usize;
            items(
                list.values(),
                start,
                start + list.len() * list.value_length() as usize,
            )
        }
        _ => column.to_data().get_slice_memory_size().unwrap_or(0) as u64,
    };
    bytes.max(column.len() as u64)
}

/// Returns the size of the items of lists, with the offsets of the lists.
fn items(values: &ArrayRef, start: usize, end: usize) -> u64 {
    plain_bytes(&values.slice(start, end - start)).saturating_add(8)
}

/// Returns the size of texts or byte strings, of which a view has the length in its lowest bits.
fn views(rows: usize, views: &[u128]) -> u64 {
    let lengths = views.iter().map(|view| u64::from(*view as u32));
    lengths.sum::<u64>() + 16 * rows as u64
}

fn dictionary(column: &ArrayRef) -> u64 {
    let dictionary = column.as_any_dictionary();
    let values = dictionary.values();
    if values.is_empty() {
        return 8 * column.len() as u64;
    }
    let keys = dictionary.normalized_keys();
    let present = (0..column.len()).filter(|row| dictionary.keys().is_valid(*row));
    let size = |key: usize| match values.data_type() {
        ArrowType::Utf8 => values.as_string::<i32>().value_length(key) as u64,
        ArrowType::LargeUtf8 => values.as_string::<i64>().value_length(key) as u64,
        ArrowType::Binary => values.as_binary::<i32>().value_length(key) as u64,
        ArrowType::LargeBinary => values.as_binary::<i64>().value_length(key) as u64,
        _ => plain_bytes(&values.slice(key, 1)),
    };
    present.map(|row| size(keys[row])).sum::<u64>() + 8 * column.len() as u64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::builder::StringViewBuilder;
    use arrow_array::types::Int8Type;
    use arrow_array::{
        DictionaryArray, FixedSizeListArray, Int8Array, Int64Array, NullArray, StringArray,
        StructArray,
    };
    use arrow_schema::Field;

    use super::*;

    #[test]
    fn values_count_as_often_as_they_occur() {
        let long = "x".repeat(1_000);
        let values: ArrayRef = Arc::new(StringArray::from(vec![long.as_str(), "y"]));
        let keys = Int8Array::from(vec![Some(0), Some(0), None, Some(1), Some(0)]);
        let dictionary: ArrayRef = Arc::new(DictionaryArray::<Int8Type>::new(keys, values));
        assert_eq!(plain_bytes(&dictionary), 3_001 + 5 * 8);
        assert_eq!(plain_bytes(&dictionary.slice(2, 2)), 1 + 2 * 8);

        let mut views = StringViewBuilder::new().with_deduplicate_strings();
        (0..10).for_each(|_| views.append_value(&long));
        let views: ArrayRef = Arc::new(views.finish());
        assert_eq!(plain_bytes(&views), 10_000 + 10 * 16);
        assert_eq!(plain_bytes(&views.slice(3, 2)), 2_000 + 2 * 16);

        let field = Arc::new(Field::new("a", dictionary.data_type().clone(), true));
        let nested: ArrayRef = Arc::new(StructArray::from(vec![(field, Arc::clone(&dictionary))]));
        assert_eq!(plain_bytes(&nested), plain_bytes(&dictionary));

        let nulls: ArrayRef = Arc::new(NullArray::new(1 << 40));
        assert_eq!(plain_bytes(&nulls), 8 << 40);
        assert_eq!(plain_bytes(&nulls.slice(7, 5)), 40);
        // Arrow makes a bitmap of the items of lists.
        let items: ArrayRef = Arc::new(NullArray::new(1 << 25));
        let field = Arc::new(Field::new("item", ArrowType::Null, true));
        let lists: ArrayRef = Arc::new(FixedSizeListArray::new(field, 1 << 20, items, None));
        assert_eq!(plain_bytes(&lists), (8 << 25) + 8);
        assert_eq!(plain_bytes(&lists.slice(7, 1)), (8 << 20) + 8);
        let most: ArrayRef = Arc::new(NullArray::new(usize::MAX));
        assert_eq!(plain_bytes(&most), u64::MAX);
        let empty: ArrayRef = Arc::new(StructArray::new_empty_fields(1 << 40, None));
        assert_eq!(plain_bytes(&empty), 1 << 40);

        let plain: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        assert_eq!(plain_bytes(&plain), 24);
        assert_eq!(plain_bytes(&plain.slice(1, 1)), 8);
    }
}
