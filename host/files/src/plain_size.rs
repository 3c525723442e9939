//! The size that a column has when each of its values is written out.
//!
//! A column may refer to one value many times: through the keys of a dictionary, or the views of
//! texts. It is small then, and can become any size when it is converted.

use arrow_array::cast::AsArray as _;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType as ArrowType;

/// The size that the values of some rows may have that are read or written together, unless it is a
/// single row. It is the same for all files, and does not follow from the memory that there is: files
/// that are written again have the same bytes.
pub(crate) const PIECE_BYTES: u64 = 8 << 20;

/// Returns the first rows of a batch, at most `most`, and fewer if their values take more than `bytes`.
pub(crate) fn first_rows(batch: &RecordBatch, most: usize, bytes: u64) -> RecordBatch {
    let mut count = batch.num_rows().min(most);
    let mut first = batch.slice(0, count);
    while count > 1 && batch_bytes(&first) > bytes {
        count /= 2;
        first = first.slice(0, count);
    }
    first
}

/// Returns how many of the first rows of a batch have values of at most `bytes` together. The size of
/// rows is the sum of those of each, so that it does not matter how they are divided into batches.
pub fn rows_within(batch: &RecordBatch, bytes: u64) -> usize {
    if batch_bytes(batch) <= bytes {
        return batch.num_rows();
    }
    let (mut fit, mut do_not_fit) = (0, batch.num_rows());
    while do_not_fit - fit > 1 {
        let middle = fit + (do_not_fit - fit) / 2;
        match batch_bytes(&batch.slice(0, middle)) <= bytes {
            true => fit = middle,
            false => do_not_fit = middle,
        }
    }
    fit
}

/// Returns the number of bytes of the values of a batch, each written out.
pub fn batch_bytes(batch: &RecordBatch) -> u64 {
    batch.columns().iter().map(plain_bytes).sum()
}

/// Returns at least the number of bytes that the values of any one row of some columns take.
pub fn widest_row(columns: &[ArrayRef]) -> u64 {
    columns.iter().map(widest_value).sum()
}

fn widest_value(column: &ArrayRef) -> u64 {
    let rows = 0..column.len();
    let width = |data_type: &ArrowType| data_type.primitive_width().map(|width| width as u64);
    let widest = match column.data_type() {
        ArrowType::Boolean => Some(1),
        ArrowType::Utf8 => {
            let texts = column.as_string::<i32>();
            rows.map(|row| 4 + texts.value_length(row) as u64).max()
        }
        ArrowType::Binary => {
            let bytes = column.as_binary::<i32>();
            rows.map(|row| 4 + bytes.value_length(row) as u64).max()
        }
        other => match width(other) {
            Some(width) => Some(width),
            None => rows.map(|row| plain_bytes(&column.slice(row, 1))).max(),
        },
    };
    widest.unwrap_or(0)
}

/// Returns the number of bytes of a column's values, each written out.
fn plain_bytes(column: &ArrayRef) -> u64 {
    let count = column.len();
    let rows = count as u64;
    match column.data_type() {
        ArrowType::Null => 0,
        ArrowType::Boolean => rows,
        ArrowType::Utf8 => {
            let offsets = column.as_string::<i32>().value_offsets();
            4 * rows + (offsets[count] - offsets[0]) as u64
        }
        ArrowType::LargeUtf8 => {
            let offsets = column.as_string::<i64>().value_offsets();
            8 * rows + (offsets[count] - offsets[0]) as u64
        }
        ArrowType::Binary => {
            let offsets = column.as_binary::<i32>().value_offsets();
            4 * rows + (offsets[count] - offsets[0]) as u64
        }
        ArrowType::LargeBinary => {
            let offsets = column.as_binary::<i64>().value_offsets();
            8 * rows + (offsets[count] - offsets[0]) as u64
        }
        ArrowType::FixedSizeBinary(width) => rows * *width as u64,
        ArrowType::Dictionary(..) => dictionary(column),
        ArrowType::Utf8View => views(column.len(), column.as_string_view().views()),
        ArrowType::BinaryView => views(column.len(), column.as_binary_view().views()),
        ArrowType::Struct(_) => column.as_struct().columns().iter().map(plain_bytes).sum(),
        ArrowType::List(_) => {
            let list = column.as_list::<i32>();
            let (start, end) = (list.value_offsets()[0], list.value_offsets()[list.len()]);
            4 * rows + items(list.values(), start as usize, end as usize)
        }
        ArrowType::LargeList(_) => {
            let list = column.as_list::<i64>();
            let (start, end) = (list.value_offsets()[0], list.value_offsets()[list.len()]);
            8 * rows + items(list.values(), start as usize, end as usize)
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
        other => match other.primitive_width() {
            Some(width) => rows * width as u64,
            None => column.to_data().get_slice_memory_size().unwrap_or(0) as u64,
        },
    }
}

/// Returns the size of the items of lists.
fn items(values: &ArrayRef, start: usize, end: usize) -> u64 {
    plain_bytes(&values.slice(start, end - start))
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
    use arrow_array::{DictionaryArray, Int8Array, Int64Array, StringArray, StructArray};
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

        let plain: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        assert_eq!(plain_bytes(&plain), 24);
        assert_eq!(plain_bytes(&plain.slice(1, 1)), 8);
    }

    /// Columns of the types that features have, with and without nulls.
    fn columns(rows: usize) -> Vec<ArrayRef> {
        use wafer_core::{ColumnBuilder, DataType};
        let types = [
            "boolean",
            "int64",
            "float32",
            "utf8",
            "binary",
            "timestamp",
            "date",
            "vector(3)",
            "list<int64>",
            "list<utf8>",
        ];
        let columns = types.map(|name| {
            let data_type: DataType = name.parse().unwrap();
            let mut builder = ColumnBuilder::new(&data_type, rows);
            for row in 0..rows {
                let text = "x".repeat(row % 7);
                let value = match name {
                    "boolean" => serde_json::json!(true),
                    "utf8" => serde_json::json!(text),
                    "binary" => serde_json::json!("ab".repeat(row % 5)),
                    "timestamp" | "date" => serde_json::json!("2020-01-01"),
                    "vector(3)" => serde_json::json!([1, 2, 3]),
                    "list<int64>" => serde_json::json!(vec![1; row % 4]),
                    "list<utf8>" => serde_json::json!(vec![text; row % 3]),
                    _ => serde_json::json!(row),
                };
                match row % 4 {
                    3 => builder.append_null(),
                    _ => builder.append_json(&value).unwrap(),
                }
            }
            builder.finish()
        });
        columns.to_vec()
    }

    #[test]
    fn the_size_of_rows_does_not_depend_on_how_they_are_divided() {
        let columns = columns(40);
        let widest = widest_row(&columns);
        for column in &columns {
            let parts = [(0, 13), (13, 1), (14, 0), (14, 26)];
            let parts = parts.map(|(start, length)| plain_bytes(&column.slice(start, length)));
            let sum: u64 = parts.iter().sum();
            assert_eq!(sum, plain_bytes(column), "{}", column.data_type());
        }
        let named = columns.into_iter().enumerate();
        let named = named.map(|(index, column)| (index.to_string(), column, true));
        let batch = RecordBatch::try_from_iter_with_nullable(named).unwrap();
        for bytes in [0, 1, 100, 1_000, 1 << 20] {
            let count = rows_within(&batch, bytes);
            assert!(batch_bytes(&batch.slice(0, count)) <= bytes, "{bytes}");
            if count < 40 {
                assert!(batch_bytes(&batch.slice(0, count + 1)) > bytes, "{bytes}");
            }
        }
        assert_eq!(rows_within(&batch, 1 << 20), 40);
        for row in 0..40 {
            assert!(batch_bytes(&batch.slice(row, 1)) <= widest, "{row}");
        }
    }
}
