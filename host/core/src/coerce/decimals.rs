//! Decimals of Arrow columns.
//!
//! A column of the type decimal(4, 2) has numbers up to 99.99, but its values are integers of a
//! fixed width, and nothing holds a file to the declared number of digits. Libraries cut off the
//! digits that are too many when they write such a value as text. So these values are found before
//! anything reads them.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DecimalType, Int16Type,
    Int32Type, Int64Type, RunEndIndexType,
};
use arrow_array::{
    Array as _, ArrayRef, Float64Array, GenericListArray, GenericListViewArray, Int64Array,
    OffsetSizeTrait, StringArray,
};
use arrow_schema::DataType as ArrowType;

use super::{Coerced, convert, misfit};
use crate::reading::DecimalReading;
use crate::{DataType, Reading, decimal};

/// Whether an Arrow type is one of decimals.
pub(crate) fn is_decimal(found: &ArrowType) -> bool {
    use ArrowType as A;
    matches!(
        found,
        A::Decimal32(..) | A::Decimal64(..) | A::Decimal128(..) | A::Decimal256(..)
    )
}

/// Returns the rows of a column with a decimal that has more digits than its type declares, and
/// what is wrong with it: the first one of each row, in lists, structs and other nested values as
/// well. A column without decimals has none.
pub fn oversized_decimals(column: &ArrayRef) -> Vec<(usize, String)> {
    if !has_decimals(column.data_type()) {
        return Vec::new();
    }
    match column.data_type() {
        ArrowType::Decimal32(precision, scale) => {
            oversized::<Decimal32Type>(column, *precision, *scale)
        }
        ArrowType::Decimal64(precision, scale) => {
            oversized::<Decimal64Type>(column, *precision, *scale)
        }
        ArrowType::Decimal128(precision, scale) => {
            oversized::<Decimal128Type>(column, *precision, *scale)
        }
        ArrowType::Decimal256(precision, scale) => {
            oversized::<Decimal256Type>(column, *precision, *scale)
        }
        _ => oversized_children(column),
    }
}

/// Whether values of an Arrow type are decimals, or have some in them.
fn has_decimals(found: &ArrowType) -> bool {
    use ArrowType as A;
    match found {
        A::List(item) | A::LargeList(item) | A::FixedSizeList(item, _) | A::Map(item, _) => {
            has_decimals(item.data_type())
        }
        A::ListView(item) | A::LargeListView(item) => has_decimals(item.data_type()),
        A::RunEndEncoded(_, values) => has_decimals(values.data_type()),
        A::Dictionary(_, values) => has_decimals(values),
        A::Struct(fields) => fields.iter().any(|field| has_decimals(field.data_type())),
        A::Union(fields, _) => fields
            .iter()
            .any(|(_, field)| has_decimals(field.data_type())),
        other => is_decimal(other),
    }
}

/// Finds the rows of a nested column that have such a decimal in one of its children.
fn oversized_children(column: &ArrayRef) -> Vec<(usize, String)> {
    let mut faults = BTreeMap::new();
    for (child, places) in children(column) {
        let in_child: BTreeMap<usize, String> = oversized_decimals(&child).into_iter().collect();
        if in_child.is_empty() {
            continue;
        }
        // A null list may have items below it, which are not values.
        for row in (0..column.len()).filter(|row| !column.is_null(*row)) {
            if let Some((_, message)) = in_child.range(places(row)).next() {
                faults.entry(row).or_insert_with(|| message.clone());
            }
        }
    }
    faults.into_iter().collect()
}

/// Returns the places in a child that belong to a row.
type Places<'a> = Box<dyn Fn(usize) -> Range<usize> + 'a>;

/// Returns the columns within a column, with the places of its rows in each of them.
fn children(column: &ArrayRef) -> Vec<(ArrayRef, Places<'_>)> {
    use ArrowType as A;
    match column.data_type() {
        A::List(_) => items(column.as_list::<i32>()),
        A::LargeList(_) => items(column.as_list::<i64>()),
        A::ListView(_) => viewed_items(column.as_list_view::<i32>()),
        A::LargeListView(_) => viewed_items(column.as_list_view::<i64>()),
        A::FixedSizeList(..) => {
            let lists = column.as_fixed_size_list();
            let places = |row| {
                let first = lists.value_offset(row) as usize;
                first..first + lists.value_length() as usize
            };
            vec![(Arc::clone(lists.values()), Box::new(places))]
        }
        A::Map(..) => {
            let maps = column.as_map();
            let offset = |row: usize| maps.offsets()[row] as usize;
            let places = move |row| offset(row)..offset(row + 1);
            let entries: ArrayRef = Arc::new(maps.entries().clone());
            vec![(entries, Box::new(places))]
        }
        A::Struct(_) => {
            let columns = column.as_struct().columns().iter();
            columns
                .map(|child| (Arc::clone(child), in_place()))
                .collect()
        }
        // Without values, all rows are null.
        A::Dictionary(..) if column.as_any_dictionary().values().is_empty() => Vec::new(),
        A::Dictionary(..) => {
            let dictionary = column.as_any_dictionary();
            let keys = dictionary.normalized_keys();
            let places = move |row: usize| keys[row]..keys[row] + 1;
            vec![(Arc::clone(dictionary.values()), Box::new(places))]
        }
        A::RunEndEncoded(ends, _) => match ends.data_type() {
            A::Int16 => runs::<Int16Type>(column),
            A::Int32 => runs::<Int32Type>(column),
            _ => runs::<Int64Type>(column),
        },
        A::Union(fields, _) => {
            let union = column.as_union();
            let children = fields.iter().map(|(kind, _)| {
                let places: Places<'_> = Box::new(move |row| match union.type_id(row) == kind {
                    true => union.value_offset(row)..union.value_offset(row) + 1,
                    false => 0..0,
                });
                (Arc::clone(union.child(kind)), places)
            });
            children.collect()
        }
        _ => Vec::new(),
    }
}

fn in_place<'a>() -> Places<'a> {
    Box::new(|row| row..row + 1)
}

fn items<O: OffsetSizeTrait>(lists: &GenericListArray<O>) -> Vec<(ArrayRef, Places<'_>)> {
    let offset = |row: usize| lists.value_offsets()[row].as_usize();
    let places = move |row| offset(row)..offset(row + 1);
    vec![(Arc::clone(lists.values()), Box::new(places))]
}

fn viewed_items<O: OffsetSizeTrait>(
    lists: &GenericListViewArray<O>,
) -> Vec<(ArrayRef, Places<'_>)> {
    let places = |row: usize| {
        let first = lists.value_offset(row).as_usize();
        first..first + lists.value_size(row).as_usize()
    };
    vec![(Arc::clone(lists.values()), Box::new(places))]
}

fn runs<R: RunEndIndexType>(column: &ArrayRef) -> Vec<(ArrayRef, Places<'_>)> {
    let runs = column.as_run::<R>();
    let places = |row| {
        let place = runs.get_physical_index(row);
        place..place + 1
    };
    vec![(Arc::clone(runs.values()), Box::new(places))]
}

fn oversized<T: DecimalType>(column: &ArrayRef, precision: u8, scale: i8) -> Vec<(usize, String)>
where
    T::Native: Display,
{
    let mut faults = Vec::new();
    for (row, value) in column.as_primitive::<T>().iter().enumerate() {
        let Some(value) = value else { continue };
        if !T::is_valid_decimal_precision(value, precision) {
            let value = written(&value.to_string(), scale);
            let message = format!(
                "{value} has more digits than its type keeps, which is decimal({precision}, {scale})"
            );
            faults.push((row, message));
        }
    }
    faults
}

/// Writes the number whose last `scale` digits are behind the decimal point, with all digits.
fn written(digits: &str, scale: i8) -> String {
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", digits),
    };
    let places = usize::from(scale.unsigned_abs());
    if scale <= 0 {
        return format!("{sign}{digits}{}", "0".repeat(places));
    }
    let digits = format!("{digits:0>width$}", width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    format!("{sign}{whole}.{fraction}")
}

/// Writes decimals as texts with all their digits.
pub(crate) fn decimal_texts(column: &ArrayRef) -> ArrayRef {
    use ArrowType as A;
    let texts = convert(column, &A::Utf8);
    match column.data_type() {
        A::Decimal32(_, scale)
        | A::Decimal64(_, scale)
        | A::Decimal128(_, scale)
        | A::Decimal256(_, scale)
            if *scale < 0 => {}
        _ => return texts,
    }
    // A negative scale is a number of zeros behind the digits, which zero gets as well.
    let is_zero = |text: &str| text.bytes().all(|digit| digit == b'0');
    let texts = texts.as_string::<i32>().iter();
    let texts = texts.map(|text| text.map(|text| if is_zero(text) { "0" } else { text }));
    Arc::new(texts.collect::<StringArray>())
}

/// Reads decimals: integers as they are, and others as it is declared. Returns `None` when it is
/// not declared that they are read as the wanted type.
pub(super) fn read_decimals(
    column: &ArrayRef,
    wanted: &DataType,
    reading: &Reading,
) -> Option<Coerced> {
    let Coerced { column, mut faults } =
        Coerced::without(Arc::clone(column), oversized_decimals(column));
    let read = match (wanted, reading.decimal) {
        (DataType::Int64, _) => integers(&column),
        (DataType::Float64, Some(DecimalReading::Float64)) => floats(&column),
        (DataType::Utf8, Some(DecimalReading::Text)) => Coerced::whole(decimal_texts(&column)),
        _ => return None,
    };
    // A row has only one of these faults, since a value with too many digits is null in `read`.
    faults.extend(read.faults);
    faults.sort_by_key(|(row, _)| *row);
    Some(Coerced {
        column: read.column,
        faults,
    })
}

/// Reads decimals that are integers.
fn integers(column: &ArrayRef) -> Coerced {
    let texts = convert(column, &ArrowType::Utf8);
    let mut faults = Vec::new();
    let texts = texts.as_string::<i32>().iter().enumerate();
    let integers = texts.map(|(row, text)| {
        let text = text?;
        let integer = decimal::int64(text);
        integer
            .map_err(|e| faults.push((row, misfit(text, &DataType::Int64, e))))
            .ok()
    });
    let integers: Int64Array = integers.collect();
    Coerced {
        column: Arc::new(integers),
        faults,
    }
}

/// Reads each decimal as the float64 that is nearest to it, by way of its digits: a division would
/// round twice.
fn floats(column: &ArrayRef) -> Coerced {
    let texts = convert(column, &ArrowType::Utf8);
    let texts = texts.as_string::<i32>().iter();
    let floats =
        texts.map(|text| text.map(|text| text.parse::<f64>().expect("digits are a number")));
    Coerced::whole(Arc::new(floats.collect::<Float64Array>()))
}

#[cfg(test)]
mod tests {
    use arrow_array::builder::{Decimal128Builder, ListBuilder};
    use arrow_array::{
        Decimal128Array, DictionaryArray, FixedSizeListArray, Int32Array, LargeListArray,
        ListViewArray, MapArray, RunArray, StringArray, StructArray, UnionArray,
    };
    use arrow_buffer::{OffsetBuffer, ScalarBuffer};
    use arrow_schema::Field;

    use super::*;

    /// A column of decimal(4, 2), in which only the value at the place 2 has too many digits.
    fn decimals() -> ArrayRef {
        let values = [
            Some(1),
            None,
            Some(1_234_567),
            Some(9_999),
            Some(-1),
            Some(0),
        ];
        let decimals = Decimal128Array::from_iter(values);
        let kind = ArrowType::Decimal128(4, 2);
        Arc::new(decimals.with_data_type(kind))
    }

    fn item(name: &str) -> Arc<Field> {
        Arc::new(Field::new(name, decimals().data_type().clone(), true))
    }

    /// Two rows of three items each.
    fn list() -> ArrayRef {
        let offsets = OffsetBuffer::from_lengths([3, 3]);
        Arc::new(LargeListArray::new(item("item"), offsets, decimals(), None))
    }

    fn nested() -> Vec<(&'static str, ArrayRef, Vec<usize>)> {
        let structs: ArrayRef = Arc::new(StructArray::from(vec![(item("d"), decimals())]));
        let views = ListViewArray::new(
            item("item"),
            ScalarBuffer::from(vec![3, 1, 0]),
            ScalarBuffer::from(vec![2, 2, 0]),
            decimals(),
            None,
        );
        let fixed = FixedSizeListArray::new(item("item"), 2, decimals(), None);
        let entries = StructArray::from(vec![
            (
                Arc::new(Field::new("keys", ArrowType::Int32, false)),
                Arc::new(Int32Array::from_iter_values(0..6)) as ArrayRef,
            ),
            (item("values"), decimals()),
        ]);
        let entries_field = Arc::new(Field::new("entries", entries.data_type().clone(), false));
        let lengths = OffsetBuffer::from_lengths([2, 4]);
        let maps = MapArray::new(entries_field, lengths, entries, None, false);
        let keys = Int32Array::from(vec![Some(2), None, Some(0), Some(2)]);
        let dictionary = DictionaryArray::new(keys, decimals());
        let runs = RunArray::try_new(&Int32Array::from(vec![1, 2, 5, 6, 7, 8]), &decimals());
        let fields = [(0, item("d")), (1, item("e"))].into_iter().collect();
        let union = UnionArray::try_new(
            fields,
            ScalarBuffer::from(vec![1, 0, 1]),
            Some(ScalarBuffer::from(vec![1, 2, 0])),
            vec![decimals(), decimals().slice(0, 2)],
        );
        let lists_in_struct = Arc::new(Field::new("lists", list().data_type().clone(), true));
        vec![
            (
                "no decimals",
                Arc::new(StringArray::from(vec!["x"])),
                vec![],
            ),
            ("decimals", decimals(), vec![2]),
            ("list", list(), vec![0]),
            ("slice of a list", list().slice(1, 1), vec![]),
            ("list view", Arc::new(views), vec![1]),
            ("fixed-size list", Arc::new(fixed), vec![1]),
            (
                "slice of a fixed-size list",
                Arc::new(fixed_slice()),
                vec![0],
            ),
            ("map", Arc::new(maps), vec![1]),
            ("struct", structs, vec![2]),
            (
                "struct of lists",
                Arc::new(StructArray::from(vec![(lists_in_struct, list())])),
                vec![0],
            ),
            ("dictionary", Arc::new(dictionary), vec![0, 3]),
            ("runs", Arc::new(runs.unwrap()), vec![2, 3, 4]),
            ("union", Arc::new(union.unwrap()), vec![1]),
        ]
    }

    fn fixed_slice() -> FixedSizeListArray {
        FixedSizeListArray::new(item("item"), 2, decimals(), None).slice(1, 2)
    }

    #[test]
    fn decimals_with_too_many_digits_are_found_wherever_they_are() {
        for (kind, column, rows) in nested() {
            let faults = oversized_decimals(&column);
            let found: Vec<usize> = faults.iter().map(|(row, _)| *row).collect();
            assert_eq!(found, rows, "{kind}");
            for (_, message) in faults {
                let wanted = "12345.67 has more digits than its type keeps, which is decimal(4, 2)";
                assert_eq!(message, wanted, "{kind}");
            }
        }
    }

    #[test]
    fn oversized_decimals_below_a_null_list_are_not_reported() {
        let mut lists = ListBuilder::new(
            Decimal128Builder::new().with_data_type(decimals().data_type().clone()),
        );
        lists.values().append_value(1_234_567);
        lists.append(false);
        lists.values().append_value(1);
        lists.append(true);
        let lists: ArrayRef = Arc::new(lists.finish());
        assert_eq!(oversized_decimals(&lists), []);
    }
}
