//! Lowering: converts Arrow columns to the contract's types, and borrows their buffers where the
//! layout allows it.
//!
//! The result depends only on the rows, not on how they were sliced or what the buffers hold
//! elsewhere: values of null rows are zero or empty, and bits past the last row are zero.

use std::borrow::Cow;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Float32Type, Float64Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{Array, ArrayRef, GenericByteArray, PrimitiveArray};
use arrow_buffer::{ArrowNativeType, BooleanBuffer, NullBuffer};
use arrow_data::ArrayData;
use wafer_core::{DataType, Field};

use crate::bindings::types as wit;

/// A lowered column, which owns only the buffers that had to be copied.
pub(crate) struct Lowered<'a> {
    data: LoweredData<'a>,
    validity: Option<Vec<u8>>,
}

enum LoweredData<'a> {
    Boolean(Vec<u8>),
    Int64(Cow<'a, [i64]>),
    Float64(Cow<'a, [f64]>),
    Float32(Cow<'a, [f32]>),
    Utf8(Varying<'a>),
    Binary(Varying<'a>),
    Timestamp(Cow<'a, [i64]>),
    Date(Cow<'a, [i32]>),
    Vector(u32, Cow<'a, [f32]>),
    ListInt64(Cow<'a, [i32]>, Cow<'a, [i64]>),
    ListFloat64(Cow<'a, [i32]>, Cow<'a, [f64]>),
    ListUtf8(Cow<'a, [i32]>, Varying<'a>),
    Arrow(Vec<u32>, Vec<Vec<u8>>),
}

struct Varying<'a> {
    offsets: Cow<'a, [i32]>,
    bytes: Cow<'a, [u8]>,
}

/// Lowers columns, which must have the types of `fields`, and passes them to `call` as a batch.
pub(crate) fn with_batch<T>(
    columns: &[ArrayRef],
    fields: &[Field],
    rows: usize,
    call: impl FnOnce(wit::BatchParam<'_>) -> T,
) -> T {
    let lowered: Vec<_> = columns
        .iter()
        .zip(fields)
        .map(|(column, field)| lower(column, &field.data_type))
        .collect();
    let buffers: Vec<Vec<&[u8]>> = lowered.iter().map(Lowered::buffers).collect();
    let crossing: Vec<_> = lowered
        .iter()
        .zip(&buffers)
        .map(|(column, buffers)| column.as_wit(buffers))
        .collect();
    call(wit::BatchParam {
        rows: rows as u32,
        columns: &crossing,
    })
}

/// Converts a field to the contract's type. The field must not have an Arrow type that cannot be
/// stored.
pub(crate) fn field(field: &Field) -> wit::FieldParam<'_> {
    use wit::DataTypeParam as T;
    let data_type = match &field.data_type {
        DataType::Boolean => T::Boolean,
        DataType::Int64 => T::Int64,
        DataType::Float64 => T::Float64,
        DataType::Float32 => T::Float32,
        DataType::Utf8 => T::Utf8,
        DataType::Binary => T::Binary,
        DataType::Timestamp => T::Timestamp,
        DataType::Date => T::Date,
        DataType::Vector(n) => T::Vector(*n),
        DataType::ListInt64 => T::ListInt64,
        DataType::ListFloat64 => T::ListFloat64,
        DataType::ListUtf8 => T::ListUtf8,
        DataType::Arrow(_) => unreachable!("only what can be stored is asked for"),
    };
    wit::FieldParam {
        name: &field.name,
        data_type,
        nullable: field.nullable,
        doc: &field.doc,
    }
}

/// Lowers a column, which must have the Arrow type of `data_type`.
pub(crate) fn lower<'a>(column: &'a ArrayRef, data_type: &DataType) -> Lowered<'a> {
    let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0);
    let data = match data_type {
        DataType::Boolean => {
            let bits = column.as_boolean().values();
            let bits = nulls.map_or_else(|| bits.clone(), |nulls| bits & nulls.inner());
            LoweredData::Boolean(bitmap(&bits))
        }
        DataType::Int64 => LoweredData::Int64(values(column.as_primitive::<Int64Type>())),
        DataType::Float64 => LoweredData::Float64(values(column.as_primitive::<Float64Type>())),
        DataType::Float32 => LoweredData::Float32(values(column.as_primitive::<Float32Type>())),
        DataType::Utf8 => LoweredData::Utf8(varying(column.as_string::<i32>())),
        DataType::Binary => LoweredData::Binary(varying(column.as_binary::<i32>())),
        DataType::Timestamp => {
            LoweredData::Timestamp(values(column.as_primitive::<TimestampMicrosecondType>()))
        }
        DataType::Date => LoweredData::Date(values(column.as_primitive::<Date32Type>())),
        DataType::Vector(n) => {
            let vectors = column.as_fixed_size_list();
            // The values of a slice are those of the whole array.
            let n_items = *n as usize;
            let start = vectors.value_offset(0) as usize;
            let items = vectors.values().as_primitive::<Float32Type>();
            let items = &items.values()[start..start + vectors.len() * n_items];
            LoweredData::Vector(*n, zeroed(items, nulls, n_items))
        }
        DataType::ListInt64 => {
            let (offsets, items) = list(column);
            LoweredData::ListInt64(offsets, owned(&values(items.as_primitive::<Int64Type>())))
        }
        DataType::ListFloat64 => {
            let (offsets, items) = list(column);
            LoweredData::ListFloat64(offsets, owned(&values(items.as_primitive::<Float64Type>())))
        }
        DataType::ListUtf8 => {
            let (offsets, items) = list(column);
            let Varying {
                offsets: inner,
                bytes,
            } = varying(items.as_string::<i32>());
            let items = Varying {
                offsets: owned(&inner),
                bytes: owned(&bytes),
            };
            LoweredData::ListUtf8(offsets, items)
        }
        DataType::Arrow(_) => {
            let (lengths, buffers) = arrow(column);
            return Lowered {
                data: LoweredData::Arrow(lengths, buffers),
                validity: None,
            };
        }
    };
    Lowered {
        data,
        validity: nulls.map(|nulls| bitmap(nulls.inner())),
    }
}

impl Lowered<'_> {
    /// Returns the column in the contract's type. `buffers` must be the result of
    /// [`buffers`](Self::buffers).
    pub(crate) fn as_wit<'b>(&'b self, buffers: &'b [&'b [u8]]) -> wit::ColumnParam<'b> {
        let text = |v: &'b Varying<'_>| wit::VaryingParam {
            offsets: &v.offsets,
            bytes: &v.bytes,
        };
        let data = match &self.data {
            LoweredData::Boolean(bits) => wit::DataParam::Boolean(bits),
            LoweredData::Int64(v) => wit::DataParam::Int64(v),
            LoweredData::Float64(v) => wit::DataParam::Float64(v),
            LoweredData::Float32(v) => wit::DataParam::Float32(v),
            LoweredData::Utf8(v) => wit::DataParam::Utf8(text(v)),
            LoweredData::Binary(v) => wit::DataParam::Binary(text(v)),
            LoweredData::Timestamp(v) => wit::DataParam::Timestamp(v),
            LoweredData::Date(v) => wit::DataParam::Date(v),
            LoweredData::Vector(n, v) => wit::DataParam::Vector(wit::VectorsParam {
                dimension: *n,
                values: v,
            }),
            LoweredData::ListInt64(offsets, values) => {
                wit::DataParam::ListInt64(wit::Int64ListsParam { offsets, values })
            }
            LoweredData::ListFloat64(offsets, values) => {
                wit::DataParam::ListFloat64(wit::Float64ListsParam { offsets, values })
            }
            LoweredData::ListUtf8(offsets, items) => {
                wit::DataParam::ListUtf8(wit::Utf8ListsParam {
                    offsets,
                    items: text(items),
                })
            }
            LoweredData::Arrow(lengths, _) => {
                wit::DataParam::Arrow(wit::ArrowArrayParam { lengths, buffers })
            }
        };
        wit::ColumnParam {
            data,
            validity: self.validity.as_deref(),
        }
    }

    /// Returns the buffers of a column of type [`DataType::Arrow`], or none for other types.
    pub(crate) fn buffers(&self) -> Vec<&[u8]> {
        match &self.data {
            LoweredData::Arrow(_, buffers) => buffers.iter().map(Vec::as_slice).collect(),
            _ => Vec::new(),
        }
    }
}

fn owned<T: Clone>(values: &[T]) -> Cow<'static, [T]> {
    Cow::Owned(values.to_vec())
}

fn values<T: ArrowPrimitiveType>(column: &PrimitiveArray<T>) -> Cow<'_, [T::Native]> {
    zeroed(
        column.values(),
        column.nulls().filter(|n| n.null_count() > 0),
        1,
    )
}

/// Sets the values of null rows to zero; each row has `width` values.
fn zeroed<'a, T: ArrowNativeType>(
    values: &'a [T],
    nulls: Option<&NullBuffer>,
    width: usize,
) -> Cow<'a, [T]> {
    let Some(nulls) = nulls else {
        return Cow::Borrowed(values);
    };
    let mut values = values.to_vec();
    for (row, valid) in nulls.iter().enumerate() {
        if !valid {
            values[row * width..][..width].fill(T::default());
        }
    }
    Cow::Owned(values)
}

/// Packs bits into bytes, starting at bit 0, with zeros past the end.
fn bitmap(bits: &BooleanBuffer) -> Vec<u8> {
    let mut bytes = bits.sliced().as_slice()[..bits.len().div_ceil(8)].to_vec();
    if let (Some(last), rest @ 1..) = (bytes.last_mut(), bits.len() % 8) {
        *last &= (1 << rest) - 1;
    }
    bytes
}

fn varying<T>(column: &GenericByteArray<T>) -> Varying<'_>
where
    T: arrow_array::types::ByteArrayType<Offset = i32>,
{
    let offsets = column.value_offsets();
    let (first, last) = (offsets[0], offsets[column.len()]);
    let nulls = column.nulls().filter(|n| n.null_count() > 0);
    let has_hidden = |nulls: &NullBuffer| {
        nulls
            .iter()
            .enumerate()
            .any(|(row, valid)| !valid && offsets[row] != offsets[row + 1])
    };
    if nulls.is_some_and(has_hidden) {
        // Leave out the bytes of null rows.
        let mut packed = Varying {
            offsets: owned(&[0]),
            bytes: owned(&[]),
        };
        let (bytes, ends) = (packed.bytes.to_mut(), packed.offsets.to_mut());
        for row in 0..column.len() {
            if column.is_valid(row) {
                let range = offsets[row] as usize..offsets[row + 1] as usize;
                bytes.extend_from_slice(&column.value_data()[range]);
            }
            ends.push(bytes.len() as i32);
        }
        return packed;
    }
    Varying {
        offsets: rebased(&offsets[..=column.len()]),
        bytes: Cow::Borrowed(&column.value_data()[first as usize..last as usize]),
    }
}

/// Shifts offsets so that they start at zero.
fn rebased(offsets: &[i32]) -> Cow<'_, [i32]> {
    match offsets[0] {
        0 => Cow::Borrowed(offsets),
        first => Cow::Owned(offsets.iter().map(|o| o - first).collect()),
    }
}

/// Returns the offsets of a list column, starting at zero, and its items. Null lists are empty.
fn list(column: &ArrayRef) -> (Cow<'static, [i32]>, ArrayRef) {
    let lists = column.as_list::<i32>();
    let offsets = lists.offsets();
    let hidden = lists.nulls().is_some_and(|nulls| {
        nulls
            .iter()
            .enumerate()
            .any(|(row, valid)| !valid && offsets[row] != offsets[row + 1])
    });
    if hidden {
        let kept: Vec<u32> = (0..lists.len())
            .filter(|row| lists.is_valid(*row))
            .flat_map(|row| offsets[row] as u32..offsets[row + 1] as u32)
            .collect();
        let items =
            arrow_select::take::take(lists.values(), &arrow_array::UInt32Array::from(kept), None)
                .expect("the offsets of a valid list are within its items");
        let mut ends = vec![0];
        for row in 0..lists.len() {
            let length = if lists.is_valid(row) {
                offsets[row + 1] - offsets[row]
            } else {
                0
            };
            ends.push(ends[row] + length);
        }
        return (Cow::Owned(ends), items);
    }
    let (first, last) = (offsets[0] as usize, offsets[lists.len()] as usize);
    (
        owned(&rebased(offsets)),
        lists.values().slice(first, last - first),
    )
}

/// Returns the lengths and buffers of an Arrow column and its children, depth first. Copies the
/// column first, so that buffers start at the first row.
fn arrow(column: &ArrayRef) -> (Vec<u32>, Vec<Vec<u8>>) {
    let rows = arrow_array::UInt32Array::from_iter_values(0..column.len() as u32);
    let copy = arrow_select::take::take(column, &rows, None)
        .expect("taking all rows of a column in order cannot fail");
    let (mut lengths, mut buffers) = (Vec::new(), Vec::new());
    push_node(&copy.to_data(), &mut lengths, &mut buffers);
    (lengths, buffers)
}

fn push_node(data: &ArrayData, lengths: &mut Vec<u32>, buffers: &mut Vec<Vec<u8>>) {
    lengths.push(data.len() as u32);
    buffers.push(
        data.nulls()
            .map(|nulls| bitmap(nulls.inner()))
            .unwrap_or_default(),
    );
    buffers.extend(
        data.buffers()
            .iter()
            .map(|buffer| buffer.as_slice().to_vec()),
    );
    for child in data.child_data() {
        push_node(child, lengths, buffers);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::builder::{Int64Builder, ListBuilder};
    use arrow_array::{BooleanArray, Int64Array, ListArray, StringArray};
    use arrow_buffer::{OffsetBuffer, ScalarBuffer};

    use super::*;

    fn text(lowered: &Lowered<'_>) -> String {
        format!("{:?}", lowered.as_wit(&[]))
    }

    #[test]
    fn lowered_columns_do_not_depend_on_slicing() {
        let numbers = || -> ArrayRef {
            Arc::new(Int64Array::new(
                ScalarBuffer::from(vec![9, 1, 77, 3]),
                Some(NullBuffer::from(vec![true, true, false, true])),
            ))
        };
        let direct: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]));
        assert_eq!(
            text(&lower(&numbers().slice(1, 3), &DataType::Int64)),
            text(&lower(&direct, &DataType::Int64))
        );

        let bits: ArrayRef = Arc::new(BooleanArray::from(vec![
            Some(true),
            Some(false),
            None,
            Some(true),
        ]));
        let direct: ArrayRef = Arc::new(BooleanArray::from(vec![Some(false), None, Some(true)]));
        assert_eq!(
            text(&lower(&bits.slice(1, 3), &DataType::Boolean)),
            text(&lower(&direct, &DataType::Boolean))
        );

        let words: ArrayRef = Arc::new(StringArray::new(
            OffsetBuffer::new(vec![0, 1, 3, 6].into()),
            b"abbccc".to_vec().into(),
            Some(NullBuffer::from(vec![true, false, true])),
        ));
        let direct: ArrayRef = Arc::new(StringArray::from(vec![None, Some("ccc")]));
        assert_eq!(
            text(&lower(&words.slice(1, 2), &DataType::Utf8)),
            text(&lower(&direct, &DataType::Utf8))
        );
    }

    #[test]
    fn null_lists_are_lowered_as_empty() {
        let item = |c: &ListArray| match c.data_type() {
            arrow_schema::DataType::List(item) => Arc::clone(item),
            _ => unreachable!(),
        };
        let mut builder = ListBuilder::new(Int64Builder::new());
        builder.append_value([Some(1)]);
        builder.append_null();
        builder.append_value([Some(3)]);
        let direct = builder.finish();
        let hidden: ArrayRef = Arc::new(ListArray::new(
            item(&direct),
            OffsetBuffer::new(vec![0, 1, 2, 3].into()),
            Arc::new(Int64Array::from(vec![1, 2, 3])),
            Some(NullBuffer::from(vec![true, false, true])),
        ));
        let direct: ArrayRef = Arc::new(direct);
        assert_eq!(
            text(&lower(&hidden, &DataType::ListInt64)),
            text(&lower(&direct, &DataType::ListInt64))
        );
    }
}
