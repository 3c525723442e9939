use arrow_array::builder::{LargeListBuilder, ListBuilder};
use arrow_array::types::{
    Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DecimalType, Float32Type,
    Int32Type,
};
use arrow_array::{
    BooleanArray, Date64Array, DictionaryArray, Float32Array, Float64Array, Int8Array, Int32Array,
    Int64Array, LargeStringArray, StringArray, StringViewArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
};
use serde_json::{Value as Json, json};

use super::*;
use crate::cell_to_json;
use crate::reading::DecimalReading;

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
        Err("row 1: 18446744073709551615 is not int64"),
    );
    check(Float32Array::from(vec![0.5]), "float64", Ok(json!([0.5])));
    check(
        Float64Array::from(vec![0.5]),
        "float32",
        Err("wanted float32, found Float64"),
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
fn integers_and_floats_are_coerced_value_by_value() {
    const DIGITS: &str = "because it has more digits than that keeps";
    check_rows(
        Int64Array::from(vec![Some(7), None, Some(1 << 53), Some((1 << 53) + 1)]),
        "float64",
        &Reading::default(),
        &[
            Ok(json!(7.0)),
            Ok(Json::Null),
            Ok(json!(9_007_199_254_740_992.0)),
            Err("9007199254740993 is not float64, because it has more digits than that keeps"),
        ],
    );
    check_rows(
        UInt64Array::from(vec![u64::MAX, 7]),
        "float64",
        &Reading::default(),
        &[Err(DIGITS), Ok(json!(7.0))],
    );
    check_rows(
        Int32Array::from(vec![7, (1 << 24) + 1]),
        "float32",
        &Reading::default(),
        &[Ok(json!(7.0)), Err(DIGITS)],
    );
    check_rows(
        Int8Array::from(vec![-7]),
        "float32",
        &Reading::default(),
        &[Ok(json!(-7.0))],
    );
    // pandas writes a column of integers with gaps as floats.
    check_rows(
        Float64Array::from(vec![
            Some(7.0),
            None,
            Some(-0.0),
            Some(7.5),
            Some(f64::NAN),
            Some(f64::INFINITY),
            Some(9_223_372_036_854_775_808.0),
        ]),
        "int64",
        &Reading::default(),
        &[
            Ok(json!(7)),
            Ok(Json::Null),
            Ok(json!(0)),
            Err("7.5 is not int64, because it has a fraction"),
            Err("NaN is not int64"),
            Err("inf is not int64, because it is beyond its range"),
            Err("beyond its range"),
        ],
    );
    check_rows(
        Float32Array::from(vec![7.0, 7.5]),
        "int64",
        &Reading::default(),
        &[Ok(json!(7)), Err("has a fraction")],
    );
    check_rows(
        Float64Array::from(vec![1_704_067_200.0, 0.5, f64::NAN]),
        "timestamp",
        &Reading {
            unit: Some(EpochUnit::Seconds),
            ..Reading::default()
        },
        &[
            Ok(json!("2024-01-01T00:00:00Z")),
            Err("0.5 is not int64, because it has a fraction"),
            Err("NaN is not int64"),
        ],
    );
    let mut lists = ListBuilder::new(arrow_array::builder::Float64Builder::new());
    lists.append_value([Some(1.0), Some(-2.0)]);
    lists.append_value([Some(0.5)]);
    check_rows(
        lists.finish(),
        "list<int64>",
        &Reading::default(),
        &[
            Ok(json!([1, -2])),
            Err("an item of a list: 0.5 is not int64"),
        ],
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
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![5]));
    let keys = Int32Array::from(vec![Some(0), None, Some(0)]);
    let dictionary = DictionaryArray::new(keys, numbers);
    check(dictionary, "int64", Ok(json!([5, null, 5])));
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
    reading: &Reading,
    rows: &[Result<Json, &str>],
) {
    let column: ArrayRef = Arc::new(column);
    let wanted: DataType = wanted.parse().unwrap();
    let read = coerce_rows(&column, &wanted, reading).unwrap();
    assert_eq!(*read.column.data_type(), wanted.to_arrow());
    let mut faults = read.faults.iter();
    for (row, expected) in rows.iter().enumerate() {
        let found = cell_to_json(&read.column, row);
        match expected {
            Ok(expected) => assert_eq!(found, *expected, "row {row} of {column:?}"),
            Err(part) => {
                let fault = faults.next();
                let (fault, message) = fault.unwrap_or_else(|| panic!("row {row} of {column:?}"));
                assert_eq!((*fault, found), (row, Json::Null));
                assert!(message.contains(part), "{message}");
            }
        }
    }
    assert_eq!((read.column.len(), faults.next()), (rows.len(), None));
}

/// What is declared of columns whose times are in UTC.
fn in_utc() -> Reading {
    Reading {
        zone: Some(Zone::UTC),
        ..Reading::default()
    }
}

#[test]
fn values_that_do_not_fit_are_faults_of_their_rows_alone() {
    const YEARS: &str = "is outside of the years 1 to 9999";
    let new_year = || Ok(json!("2024-01-01T00:00:00Z"));
    check_rows(
        TimestampSecondArray::from(vec![Some(i64::MAX), Some(1_704_067_200), None]),
        "timestamp",
        &in_utc(),
        &[Err(YEARS), new_year(), Ok(Json::Null)],
    );
    // The sentinel that some writers use for "never".
    check_rows(
        TimestampMillisecondArray::from(vec![1_704_067_200_000, i64::MAX, i64::MIN]),
        "timestamp",
        &in_utc(),
        &[
            new_year(),
            Err("9223372036854775807 ms since 1970 is outside"),
            Err(YEARS),
        ],
    );
    check_rows(
        TimestampMicrosecondArray::from(vec![253_402_300_800_000_000, 1_704_067_200_000_000]),
        "timestamp",
        &in_utc(),
        &[Err(YEARS), new_year()],
    );
    check_rows(
        TimestampNanosecondArray::from(vec![1_704_067_200_000_000_000, 1, i64::MAX, i64::MIN]),
        "timestamp",
        &in_utc(),
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
        &in_utc(),
        &[
            Ok(json!("1970-01-02")),
            Err("not a whole number of days"),
            Err("is"),
        ],
    );
    check_rows(
        arrow_array::Date32Array::from(vec![1, i32::MAX]),
        "date",
        &in_utc(),
        &[Ok(json!("1970-01-02")), Err(YEARS)],
    );
    check_rows(
        UInt64Array::from(vec![u64::MAX, 1]),
        "int64",
        &in_utc(),
        &[
            Err("18446744073709551615 is not int64, because it is beyond its range"),
            Ok(json!(1)),
        ],
    );
    let mut lists = ListBuilder::new(arrow_array::builder::UInt64Builder::new());
    lists.append_value([Some(1)]);
    lists.append_value([Some(1), Some(u64::MAX)]);
    lists.append_value([None]);
    lists.append_null();
    check_rows(
        lists.finish(),
        "list<int64>",
        &in_utc(),
        &[
            Ok(json!([1])),
            Err("an item of a list: 18446744073709551615 is not int64"),
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
        &Reading::of_unit(EpochUnit::Milliseconds),
        &[new_year(), Ok(Json::Null), Err("years 1 to 9999")],
    );
    check_rows(
        arrow_array::UInt32Array::from(vec![1_704_067_200]),
        "timestamp",
        &Reading::of_unit(EpochUnit::Seconds),
        &[new_year()],
    );
    check_rows(
        UInt64Array::from(vec![u64::MAX, 1_704_067_200]),
        "timestamp",
        &Reading::of_unit(EpochUnit::Seconds),
        &[
            Err("18446744073709551615 is not int64, because it is beyond its range"),
            new_year(),
        ],
    );
    check_rows(
        Int32Array::from(vec![1]),
        "date",
        &Reading::of_unit(EpochUnit::Days),
        &[Ok(json!("1970-01-02"))],
    );
    // A typed column says its unit itself.
    check_rows(
        TimestampSecondArray::from(vec![1_704_067_200]).with_timezone("UTC"),
        "timestamp",
        &Reading::of_unit(EpochUnit::Milliseconds),
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
fn columns_without_a_declared_type_are_read_as_the_type_that_holds_their_values() {
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
        (list(ArrowType::Utf8, 2), Some(DataType::ListUtf8)),
        (
            ArrowType::new_list(ArrowType::Float64, true),
            Some(DataType::ListFloat64),
        ),
        (
            ArrowType::new_large_list(ArrowType::Int32, true),
            Some(DataType::ListInt64),
        ),
        (ArrowType::new_list(ArrowType::Boolean, true), None),
        (
            ArrowType::Dictionary(Box::new(ArrowType::Int8), Box::new(ArrowType::Utf8)),
            Some(DataType::Utf8),
        ),
        (ArrowType::Decimal128(10, 2), None),
        (ArrowType::Null, None),
    ] {
        assert_eq!(readable_as(&arrow), wanted, "{arrow}");
    }
}

#[test]
fn typed_times_without_a_zone_are_those_of_the_declared_zone() {
    let local = [
        "2024-07-01T12:00:00Z",
        "2024-03-31T02:30:00Z",
        "2024-10-27T02:30:00Z",
    ];
    let micros = local.map(|text| text.parse::<Timestamp>().unwrap().as_micros());
    let column = || TimestampMicrosecondArray::from(micros.to_vec());
    check_rows(
        column(),
        "timestamp",
        &in_utc(),
        &local.map(|text| Ok(json!(text))),
    );
    let berlin = Reading {
        zone: Some("Europe/Berlin".parse().unwrap()),
        ..Reading::default()
    };
    let rows = [
        Ok(json!("2024-07-01T10:00:00Z")),
        Err("2024-03-31 02:30:00 does not exist in Europe/Berlin"),
        Err("2024-10-27 02:30:00 came twice in Europe/Berlin"),
    ];
    check_rows(column(), "timestamp", &berlin, &rows);
    // Those with a zone are in that one, whatever is declared.
    let zoned = column().with_timezone("America/New_York");
    check_rows(
        zoned,
        "timestamp",
        &berlin,
        &local.map(|text| Ok(json!(text))),
    );
    let column: ArrayRef = Arc::new(column());
    let refused = coerce_rows(&column, &DataType::Timestamp, &Reading::default());
    assert!(
        matches!(refused, Err(CoerceError::Type { .. })),
        "{refused:?}"
    );
}

#[test]
fn dates_are_times_of_the_declared_zone_only() {
    let berlin = Reading {
        zone: Some("Europe/Berlin".parse().unwrap()),
        ..Reading::default()
    };
    let days = arrow_array::Date32Array::from(vec![Some(1), None, Some(i32::MAX)]);
    let millis = Date64Array::from(vec![Some(86_400_000), None, Some(86_400_001)]);
    for (reading, midnight) in [
        (in_utc(), "1970-01-02T00:00:00Z"),
        (berlin, "1970-01-01T23:00:00Z"),
    ] {
        let rows = |wrong: &'static str| [Ok(json!(midnight)), Ok(Json::Null), Err(wrong)];
        let years = rows("outside of the years 1 to 9999");
        check_rows(days.clone(), "timestamp", &reading, &years);
        let whole = rows("is not a whole number of days");
        check_rows(millis.clone(), "timestamp", &reading, &whole);
    }
    check(days, "timestamp", Err("wanted timestamp, found Date32"));
    check(millis, "timestamp", Err("wanted timestamp, found Date64"));
}

#[test]
fn texts_and_integers_of_a_declared_format_are_times() {
    let german = Reading {
        format: Some("%d.%m.%Y".parse().unwrap()),
        ..in_utc()
    };
    let texts = || vec![Some("02.01.1970"), None, Some("1970-01-02"), Some("")];
    let rows = |first: &str| {
        let not = Err("is not of the format");
        [Ok(json!(first)), Ok(Json::Null), not.clone(), not]
    };
    check_rows(
        StringArray::from(texts()),
        "date",
        &german,
        &rows("1970-01-02"),
    );
    let midnight = rows("1970-01-02T00:00:00Z");
    check_rows(
        StringViewArray::from(texts()),
        "timestamp",
        &german,
        &midnight,
    );
    let dictionary: DictionaryArray<Int32Type> = texts().into_iter().collect();
    check_rows(dictionary, "timestamp", &german, &midnight);
    let compact = Reading {
        format: Some("%Y%m%d".parse().unwrap()),
        ..in_utc()
    };
    let integers = Int32Array::from(vec![19_700_102, 19_700_230]);
    let rows = [Ok(json!("1970-01-02")), Err("is not of the format")];
    check_rows(integers, "date", &compact, &rows);
    check(StringArray::from(vec!["x"]), "timestamp", Err("found Utf8"));
}

#[test]
fn decimals_are_floats_or_texts_as_declared() {
    let decimal = |decimal| Reading {
        decimal: Some(decimal),
        ..Reading::default()
    };
    let (float, text) = (
        decimal(DecimalReading::Float64),
        decimal(DecimalReading::Text),
    );
    let prices = || {
        let cents = [Some(1_010), Some(-5), None, Some(9_007_199_254_740_993)];
        let prices: arrow_array::PrimitiveArray<Decimal128Type> = cents.into_iter().collect();
        prices.with_precision_and_scale(20, 2).unwrap()
    };
    let floats = [
        Ok(json!(10.1)),
        Ok(json!(-0.05)),
        Ok(Json::Null),
        Ok(json!(90_071_992_547_409.93)),
    ];
    check_rows(prices(), "float64", &float, &floats);
    let texts = ["10.10", "-0.05", "", "90071992547409.93"];
    let texts = texts.map(|text| match text {
        "" => Ok(Json::Null),
        text => Ok(json!(text)),
    });
    check_rows(prices(), "utf8", &text, &texts);
    let hundreds = decimals::<Decimal128Type>([Some(0), Some(-7)], 4, -2);
    check_rows(
        hundreds,
        "utf8",
        &text,
        &[Ok(json!("0")), Ok(json!("-700"))],
    );
    let large: arrow_array::PrimitiveArray<Decimal256Type> =
        [arrow_buffer::i256::from_string(&"9".repeat(76))]
            .into_iter()
            .collect();
    let digits = "9".repeat(76);
    let large = large.with_precision_and_scale(76, 0).unwrap();
    check_rows(large, "utf8", &text, &[Ok(json!(digits))]);
    // A whole number is exact without being declared.
    let whole: arrow_array::PrimitiveArray<Decimal128Type> = [100, -200, 150, 10_i128.pow(37)]
        .into_iter()
        .map(Some)
        .collect();
    check_rows(
        whole.with_precision_and_scale(38, 2).unwrap(),
        "int64",
        &Reading::default(),
        &[
            Ok(json!(1)),
            Ok(json!(-2)),
            Err("1.50 is not int64, because it has a fraction"),
            Err("is not int64, because it is beyond its range"),
        ],
    );
    let column: ArrayRef = Arc::new(prices());
    for (wanted, reading) in [
        ("float64", &text),
        ("utf8", &float),
        ("float64", &Reading::default()),
        ("utf8", &Reading::default()),
        ("float32", &float),
        ("boolean", &float),
    ] {
        let refused = coerce_rows(&column, &wanted.parse().unwrap(), reading);
        assert!(matches!(refused, Err(CoerceError::Type { .. })), "{wanted}");
    }
}

/// A column of decimals, given as integers without a decimal point.
fn decimals<T: DecimalType>(
    digits: impl IntoIterator<Item = Option<T::Native>>,
    precision: u8,
    scale: i8,
) -> arrow_array::PrimitiveArray<T> {
    let column: arrow_array::PrimitiveArray<T> = digits.into_iter().collect();
    column.with_precision_and_scale(precision, scale).unwrap()
}

#[test]
fn decimals_with_more_digits_than_their_type_are_refused_however_they_are_read() {
    let reading = |decimal| Reading {
        decimal,
        ..Reading::default()
    };
    let readings = [
        (
            "float64",
            reading(Some(DecimalReading::Float64)),
            json!(99.0),
        ),
        ("utf8", reading(Some(DecimalReading::Text)), json!("99.00")),
        ("int64", reading(None), json!(99)),
    ];
    for (wanted, reading, fitting) in readings {
        let rows = [
            Ok(fitting),
            Err("12345.67 has more digits than its type keeps, which is decimal(4, 2)"),
            Ok(Json::Null),
            Err("-100.00 has more digits"),
        ];
        let digits = [Some(9_900), Some(1_234_567), None, Some(-10_000)];
        let wide = || digits.map(|digits| digits.map(i64::from));
        let column = decimals::<Decimal32Type>(digits, 4, 2);
        check_rows(column, wanted, &reading, &rows);
        let column = decimals::<Decimal64Type>(wide(), 4, 2);
        check_rows(column, wanted, &reading, &rows);
        let column = decimals::<Decimal128Type>(wide().map(|d| d.map(i128::from)), 4, 2);
        check_rows(column.clone(), wanted, &reading, &rows);
        check_rows(column.slice(1, 3), wanted, &reading, &rows[1..]);
        let column = wide().map(|d| d.map(|d| arrow_buffer::i256::from_i128(d.into())));
        let column = decimals::<Decimal256Type>(column, 4, 2);
        check_rows(column, wanted, &reading, &rows);
    }
    // Other places of the decimal point, and both kinds of faults in one column.
    for (digits, scale, rows) in [
        ([7, 12_345], 0, [Ok(json!(7)), Err("12345 has more digits")]),
        ([7, 12_345], -2, [Ok(json!(700)), Err("1234500 has more")]),
        (
            [7, -12_345],
            4,
            [Err("has a fraction"), Err("-1.2345 has more")],
        ),
    ] {
        let column = decimals::<Decimal128Type>(digits.map(Some), 4, scale);
        check_rows(column, "int64", &Reading::default(), &rows);
    }
    let column = decimals::<Decimal128Type>([Some(0), Some(100_000)], 4, 4);
    let rows = [Ok(json!(0)), Err("10.0000 has more digits")];
    check_rows(column, "int64", &Reading::default(), &rows);
}

#[test]
fn columns_of_nulls_alone_are_nulls_of_every_type() {
    for wanted in ["int64", "utf8", "timestamp", "vector(2)", "list<utf8>"] {
        let nulls = arrow_array::NullArray::new(2);
        check_rows(
            nulls,
            wanted,
            &Reading::default(),
            &[Ok(Json::Null), Ok(Json::Null)],
        );
    }
}

#[test]
fn columns_of_tables_are_in_utc_with_or_without_a_zone() {
    let one = || TimestampMicrosecondArray::from(vec![1_000_000]);
    check(one(), "timestamp", Ok(json!(["1970-01-01T00:00:01Z"])));
}
