use arrow_array::builder::{LargeListBuilder, ListBuilder};
use arrow_array::types::{Float32Type, Int32Type};
use arrow_array::{
    BooleanArray, Date64Array, DictionaryArray, Float32Array, Float64Array, Int8Array, Int32Array,
    Int64Array, LargeStringArray, StringArray, StringViewArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
};
use serde_json::{Value as Json, json};

use super::*;
use crate::cell_to_json;

fn check(column: impl Array + 'static, wanted: &str, expected: Result<Json, &str>) {
    let column: ArrayRef = Arc::new(column);
    let wanted: DataType = wanted.parse().unwrap();
    match (coerce(&column, &wanted), expected) {
        (Ok(read), Ok(expected)) => {
            assert_eq!(*read.data_type(), wanted.to_arrow());
            let cells: Json = (0..read.len())
                .map(|row| cell_to_json(&read, row))
                .collect();
            assert_eq!(cells, expected);
        }
        (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
        (got, expected) => panic!("{wanted} from {column:?}: {got:?}, expected {expected:?}"),
    }
}

#[test]
fn coerced_numbers_widen_and_never_narrow() {
    check(
        Int8Array::from(vec![Some(-1), None]),
        "int64",
        Ok(json!([-1, null])),
    );
    check(Int32Array::from(vec![7]), "float64", Ok(json!([7.0])));
    check(UInt64Array::from(vec![7]), "int64", Ok(json!([7])));
    check(
        UInt64Array::from(vec![1, u64::MAX]),
        "int64",
        Err("row 1: 18446744073709551615 does not fit int64"),
    );
    check(Float32Array::from(vec![0.5]), "float64", Ok(json!([0.5])));
    check(
        Int64Array::from(vec![1]),
        "float64",
        Err("wanted float64, found Int64"),
    );
    check(
        Int64Array::from(vec![1]),
        "utf8",
        Err("wanted utf8, found Int64"),
    );
    check(
        StringArray::from(vec!["1"]),
        "int64",
        Err("wanted int64, found Utf8"),
    );
    check(
        BooleanArray::from(vec![true]),
        "int64",
        Err("wanted int64, found Boolean"),
    );
}

#[test]
fn texts_of_every_arrow_type_are_coerced() {
    check(
        LargeStringArray::from(vec![Some("a"), None]),
        "utf8",
        Ok(json!(["a", null])),
    );
    check(StringViewArray::from(vec!["a"]), "utf8", Ok(json!(["a"])));
    let dictionary: DictionaryArray<Int32Type> =
        vec![Some("b"), None, Some("b")].into_iter().collect();
    check(dictionary, "utf8", Ok(json!(["b", null, "b"])));
}

#[test]
fn timestamps_of_every_unit_and_zone_are_coerced() {
    let one = json!(["1970-01-01T00:00:01Z"]);
    check(
        TimestampSecondArray::from(vec![1]),
        "timestamp",
        Ok(one.clone()),
    );
    check(
        TimestampMillisecondArray::from(vec![1_000]).with_timezone("+05:00"),
        "timestamp",
        Ok(one.clone()),
    );
    check(
        TimestampMicrosecondArray::from(vec![1_000_000]).with_timezone("America/New_York"),
        "timestamp",
        Ok(one),
    );
    check(
        TimestampNanosecondArray::from(vec![-1_000]),
        "timestamp",
        Ok(json!(["1969-12-31T23:59:59.999999Z"])),
    );
    check(
        Date64Array::from(vec![86_400_000]),
        "date",
        Ok(json!(["1970-01-02"])),
    );
    check(
        Int64Array::from(vec![1]),
        "timestamp",
        Err("wanted timestamp, found Int64"),
    );
}

#[test]
fn lists_and_vectors_are_coerced() {
    let mut large = LargeListBuilder::new(arrow_array::builder::Int32Builder::new());
    large.append_value([Some(1), Some(2)]);
    large.append_null();
    large.append_value([]);
    check(large.finish(), "list<int64>", Ok(json!([[1, 2], null, []])));

    let fixed = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
        vec![Some(vec![Some(1.0), Some(2.0)]), None],
        2,
    );
    check(fixed.clone(), "vector(2)", Ok(json!([[1.0, 2.0], null])));
    check(
        fixed.clone(),
        "list<float64>",
        Ok(json!([[1.0, 2.0], null])),
    );
    check(
        fixed,
        "vector(3)",
        Err("row 0: a list of 2 numbers is not vector(3)"),
    );

    let mut nulls = ListBuilder::new(arrow_array::builder::StringBuilder::new());
    nulls.append_value([Some("a")]);
    nulls.append_value([Some("b"), None]);
    check(
        nulls.finish(),
        "list<utf8>",
        Err("row 1: a list holds a null"),
    );
}

#[test]
fn sliced_columns_are_coerced() {
    let sliced: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3, 4]).slice(1, 2));
    let read = coerce(&sliced, &DataType::Int64).unwrap();
    assert_eq!(
        (cell_to_json(&read, 0), cell_to_json(&read, 1)),
        (json!(2), json!(3))
    );
}

#[test]
fn models_widen_numbers_to_float64() {
    let wide = |column: ArrayRef| widen(&column, &DataType::Float64);
    let wanted: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), None, Some(0.0)]));
    let columns: [ArrayRef; 4] = [
        Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        Arc::new(Int64Array::from(vec![Some(1), None, Some(0)])),
        Arc::new(Float32Array::from(vec![Some(1.0), None, Some(0.0)])),
        Arc::clone(&wanted),
    ];
    for column in columns {
        assert_eq!(&wide(column), &wanted);
    }
    // Rounded to the nearest, as numpy does.
    let large: ArrayRef = Arc::new(Int64Array::from(vec![(1 << 53) + 1]));
    let nearest: ArrayRef = Arc::new(Float64Array::from(vec![9_007_199_254_740_992.0]));
    assert_eq!(&wide(large), &nearest);
    for (found, wanted) in [
        ("utf8", "float64"),
        ("timestamp", "float64"),
        ("float64", "int64"),
        ("boolean", "int64"),
    ] {
        let [found, wanted]: [DataType; 2] = [found, wanted].map(|name| name.parse().unwrap());
        assert!(!can_widen(&found, &wanted), "{found} as {wanted}");
    }
}

/// Reads a column row by row, and checks what becomes of each row: its value, or what is wrong.
fn check_rows(
    column: impl Array + 'static,
    wanted: &str,
    unit: Option<EpochUnit>,
    rows: &[Result<Json, &str>],
) {
    let column: ArrayRef = Arc::new(column);
    let wanted: DataType = wanted.parse().unwrap();
    let read = coerce_rows(&column, &wanted, unit).unwrap();
    assert_eq!(*read.column.data_type(), wanted.to_arrow());
    let mut faults = read.faults.iter();
    for (row, expected) in rows.iter().enumerate() {
        let found = cell_to_json(&read.column, row);
        match expected {
            Ok(expected) => assert_eq!(found, *expected, "row {row} of {column:?}"),
            Err(part) => {
                let (fault, message) = faults.next().unwrap();
                assert_eq!((*fault, found), (row, Json::Null));
                assert!(message.contains(part), "{message}");
            }
        }
    }
    assert_eq!((read.column.len(), faults.next()), (rows.len(), None));
}

#[test]
fn values_that_do_not_fit_are_faults_of_their_rows_alone() {
    const YEARS: &str = "is outside of the years 1 to 9999";
    let new_year = || Ok(json!("2024-01-01T00:00:00Z"));
    check_rows(
        TimestampSecondArray::from(vec![Some(i64::MAX), Some(1_704_067_200), None]),
        "timestamp",
        None,
        &[Err(YEARS), new_year(), Ok(Json::Null)],
    );
    // The sentinel that some writers use for "never".
    check_rows(
        TimestampMillisecondArray::from(vec![1_704_067_200_000, i64::MAX, i64::MIN]),
        "timestamp",
        None,
        &[
            new_year(),
            Err("9223372036854775807 ms since 1970 is outside"),
            Err(YEARS),
        ],
    );
    check_rows(
        TimestampMicrosecondArray::from(vec![253_402_300_800_000_000, 1_704_067_200_000_000]),
        "timestamp",
        None,
        &[Err(YEARS), new_year()],
    );
    check_rows(
        TimestampNanosecondArray::from(vec![1_704_067_200_000_000_000, 1, i64::MAX, i64::MIN]),
        "timestamp",
        None,
        &[
            new_year(),
            Err("1 ns since 1970 has digits beyond microseconds"),
            Err("has digits beyond"),
            Err("has digits beyond"),
        ],
    );
    check_rows(
        Date64Array::from(vec![86_400_000, 86_400_001, i64::MAX]),
        "date",
        None,
        &[
            Ok(json!("1970-01-02")),
            Err("not a whole number of days"),
            Err("is"),
        ],
    );
    check_rows(
        arrow_array::Date32Array::from(vec![1, i32::MAX]),
        "date",
        None,
        &[Ok(json!("1970-01-02")), Err(YEARS)],
    );
    check_rows(
        UInt64Array::from(vec![u64::MAX, 1]),
        "int64",
        None,
        &[Err("does not fit int64"), Ok(json!(1))],
    );
    let mut lists = ListBuilder::new(arrow_array::builder::UInt64Builder::new());
    lists.append_value([Some(1)]);
    lists.append_value([Some(1), Some(u64::MAX)]);
    lists.append_value([None]);
    lists.append_null();
    check_rows(
        lists.finish(),
        "list<int64>",
        None,
        &[
            Ok(json!([1])),
            Err("an item of a list: 18446744073709551615 does not fit int64"),
            Err("a list holds a null"),
            Ok(Json::Null),
        ],
    );
}

#[test]
fn integers_are_times_of_a_declared_unit_only() {
    let new_year = || Ok(json!("2024-01-01T00:00:00Z"));
    check_rows(
        Int64Array::from(vec![Some(1_704_067_200_000), None, Some(i64::MAX)]),
        "timestamp",
        Some(EpochUnit::Milliseconds),
        &[new_year(), Ok(Json::Null), Err("years 1 to 9999")],
    );
    check_rows(
        arrow_array::UInt32Array::from(vec![1_704_067_200]),
        "timestamp",
        Some(EpochUnit::Seconds),
        &[new_year()],
    );
    check_rows(
        UInt64Array::from(vec![u64::MAX, 1_704_067_200]),
        "timestamp",
        Some(EpochUnit::Seconds),
        &[Err("does not fit int64"), new_year()],
    );
    check_rows(
        Int32Array::from(vec![1]),
        "date",
        Some(EpochUnit::Days),
        &[Ok(json!("1970-01-02"))],
    );
    // A typed column says its unit itself.
    check_rows(
        TimestampSecondArray::from(vec![1_704_067_200]),
        "timestamp",
        Some(EpochUnit::Milliseconds),
        &[new_year()],
    );
    for wanted in ["timestamp", "date"] {
        check(
            Int64Array::from(vec![1]),
            wanted,
            Err(&format!("wanted {wanted}, found Int64")),
        );
        check(Float64Array::from(vec![1.0]), wanted, Err("found Float64"));
    }
}

#[test]
fn columns_without_a_declared_type_are_read_as_the_first_type_that_fits() {
    let list = |item: ArrowType, length| {
        let item = Arc::new(arrow_schema::Field::new("item", item, false));
        ArrowType::FixedSizeList(item, length)
    };
    for (arrow, wanted) in [
        (ArrowType::Boolean, Some(DataType::Boolean)),
        (ArrowType::Int64, Some(DataType::Int64)),
        (ArrowType::Int16, Some(DataType::Int64)),
        (ArrowType::Float32, Some(DataType::Float32)),
        (ArrowType::Float64, Some(DataType::Float64)),
        (ArrowType::Utf8, Some(DataType::Utf8)),
        (ArrowType::Date32, Some(DataType::Date)),
        (
            ArrowType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Some(DataType::Timestamp),
        ),
        (list(ArrowType::Float32, 3), Some(DataType::Vector(3))),
        (list(ArrowType::Int64, 3), Some(DataType::ListInt64)),
        (list(ArrowType::Float32, 0), Some(DataType::ListFloat64)),
        (ArrowType::Null, None),
    ] {
        assert_eq!(readable_as(&arrow), wanted, "{arrow}");
    }
}
