//! The size of rows, which adds up: it is the same however rows are divided into batches.
//!
//! Files are divided by it where they are written, so that the same rows give the same bytes.

use arrow_array::cast::AsArray as _;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType as ArrowType;

use crate::plain_size::plain_bytes;

/// Returns how many of the first rows of a batch have values of at most `bytes` together.
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

/// Returns the number of bytes of the values of a batch: the sum of those of its rows.
pub fn batch_bytes(batch: &RecordBatch) -> u64 {
    total(batch.columns())
}

/// Returns at least the number of bytes that the values of any one row of some columns take.
pub fn widest_row(columns: &[ArrayRef]) -> u64 {
    let widest = columns.iter().map(widest_value);
    widest.fold(0, u64::saturating_add)
}

fn widest_value(column: &ArrayRef) -> u64 {
    let rows = 0..column.len();
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
        other => match other.primitive_width() {
            Some(width) => Some(width as u64),
            None => rows.map(|row| column_bytes(&column.slice(row, 1))).max(),
        },
    };
    widest.unwrap_or(0)
}

fn total(columns: &[ArrayRef]) -> u64 {
    let sizes = columns.iter().map(column_bytes);
    sizes.fold(0, u64::saturating_add)
}

/// Returns the number of bytes of a column's values, with their offsets and at least one for each.
fn column_bytes(column: &ArrayRef) -> u64 {
    let count = column.len();
    let rows = count as u64;
    let bytes = match column.data_type() {
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
        ArrowType::Struct(_) => total(column.as_struct().columns()),
        ArrowType::List(_) => {
            let list = column.as_list::<i32>();
            let (start, end) = (list.value_offsets()[0], list.value_offsets()[count]);
            items(list.values(), start as usize, end as usize).saturating_add(4 * rows)
        }
        ArrowType::LargeList(_) => {
            let list = column.as_list::<i64>();
            let (start, end) = (list.value_offsets()[0], list.value_offsets()[count]);
            items(list.values(), start as usize, end as usize).saturating_add(8 * rows)
        }
        ArrowType::FixedSizeList(_, _) => {
            let list = column.as_fixed_size_list();
            let start = list.value_offset(0) as usize;
            items(
                list.values(),
                start,
                start + count * list.value_length() as usize,
            )
        }
        // What rows refer to, such as the values of a dictionary, counts for each of them there
        // too.
        other => match other.primitive_width() {
            Some(width) => rows * width as u64,
            None => plain_bytes(column),
        },
    };
    bytes.max(rows)
}

/// Returns the size of the items of lists.
fn items(values: &ArrayRef, start: usize, end: usize) -> u64 {
    column_bytes(&values.slice(start, end - start))
}

#[cfg(test)]
mod tests {
    use super::*;

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
                    "timestamp" => serde_json::json!("2020-01-01T00:00:00Z"),
                    "date" => serde_json::json!("2020-01-01"),
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
            let parts = parts.map(|(start, length)| column_bytes(&column.slice(start, length)));
            let sum: u64 = parts.iter().sum();
            assert_eq!(sum, column_bytes(column), "{}", column.data_type());
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
