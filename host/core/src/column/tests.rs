use serde_json::json;

use super::*;
use crate::{EpochUnit, cell_to_json};

fn check_json(data_type: &str, value: Json, wanted: Result<Json, &str>) {
    let data_type: DataType = data_type.parse().unwrap();
    let mut builder = ColumnBuilder::new(&data_type, 1);
    match (builder.append_json(&value), wanted) {
        (Ok(()), Ok(wanted)) => {
            let column = builder.finish();
            assert_eq!(*column.data_type(), data_type.to_arrow());
            assert_eq!(cell_to_json(&column, 0), wanted, "{data_type} from {value}");
        }
        (Err(message), Err(part)) => assert!(message.contains(part), "{message}"),
        (got, wanted) => panic!("{data_type} from {value}: {got:?}, wanted {wanted:?}"),
    }
}

#[test]
fn values_of_every_type_count_with_what_they_hold() {
    for (data_type, value, wanted) in [
        ("boolean", json!(true), 8),
        ("int64", json!(1), 8),
        ("timestamp", json!("2013-01-01T00:00:00Z"), 8),
        ("utf8", json!("abc"), 8 + 3),
        ("binary", json!("00ff"), 8 + 2),
        ("vector(3)", json!([1, 2, 3]), 8 + 12),
        ("vector(3)", Json::Null, 8 + 12),
        ("list<int64>", json!([1, 2]), 8 + 16),
        ("list<float64>", json!([]), 8),
        ("list<utf8>", json!(["ab", "c"]), 8 + 16 + 3),
        ("list<utf8>", Json::Null, 8),
    ] {
        let data_type: DataType = data_type.parse().unwrap();
        let mut builder = ColumnBuilder::new(&data_type, 1);
        builder.append_json(&value).unwrap();
        assert_eq!(builder.bytes(), wanted, "{data_type}");
        builder.append_json(&value).unwrap();
        assert_eq!(builder.bytes(), 2 * wanted, "{data_type}");
        let column = builder.finish();
        for row in 0..2 {
            assert_eq!(value_bytes(&column, row), wanted, "{data_type}");
        }
        assert_eq!(builder.bytes(), 0, "{data_type}");
    }
}

#[test]
fn no_value_of_a_column_is_wider_than_its_widest_one() {
    for (data_type, values, wanted) in [
        ("int64", json!([1, null, 3]), 8),
        ("vector(2)", json!([[1.0, 2.0], null, [3.0, 4.0]]), 16),
        ("utf8", json!(["a", null, "four"]), 12),
        ("binary", json!(["0011", "", null]), 10),
        // Lists count together.
        ("list<int64>", json!([[1], null, [2, 3]]), 32),
        ("list<utf8>", json!([["a"], ["bc", ""], null]), 35),
    ] {
        let data_type: DataType = data_type.parse().unwrap();
        let mut builder = ColumnBuilder::new(&data_type, 3);
        for value in values.as_array().unwrap() {
            builder.append_json(value).unwrap();
        }
        let column = builder.finish();
        assert_eq!(widest_value(&column), wanted, "{data_type}");
        for (from, length) in [(0, 3), (1, 2), (2, 1), (1, 0)] {
            let part = column.slice(from, length);
            let widest = widest_value(&part);
            assert!(widest <= wanted, "{data_type}");
            assert!(
                (0..length).all(|row| value_bytes(&part, row) <= widest),
                "{data_type}"
            );
        }
    }
}

#[test]
fn a_column_of_the_longest_vectors_can_be_begun() {
    let vectors = DataType::Vector(0x7fff_ffff);
    assert_eq!(ColumnBuilder::new(&vectors, 8_192).bytes(), 0);
}

#[test]
fn json_values_become_columns() {
    let same = |data_type, value: Json| check_json(data_type, value.clone(), Ok(value));
    same("boolean", json!(true));
    same("int64", json!(9_007_199_254_740_993_i64));
    same("int64", json!(i64::MIN));
    same("float64", json!(0.1));
    same("float64", json!("NaN"));
    same("float64", json!("-Infinity"));
    same("float32", json!(0.5));
    same("utf8", json!(""));
    same("utf8", json!("ä\u{0}"));
    same("binary", json!("00ff"));
    same("timestamp", json!("2013-01-01T10:15:00.000001Z"));
    same("date", json!("2013-03-10"));
    same("vector(2)", json!([1.0, 2.5]));
    same("list<int64>", json!([1, 9_007_199_254_740_993_i64]));
    same("list<float64>", json!([]));
    same("list<utf8>", json!(["a", ""]));
    for data_type in [
        "boolean",
        "int64",
        "utf8",
        "vector(2)",
        "list<utf8>",
        "timestamp",
    ] {
        same(data_type, Json::Null);
    }
    check_json("int64", json!(3.0), Ok(json!(3)));
    check_json("float64", json!(3), Ok(json!(3.0)));
}

#[test]
fn invalid_json_values_are_rejected() {
    check_json("int64", json!(0.5), Err("0.5 is not int64"));
    check_json("int64", json!(u64::MAX), Err("is not int64"));
    check_json("int64", json!(1e300), Err("is not int64"));
    check_json("int64", json!("1"), Err("\"1\" is not int64"));
    check_json("boolean", json!(1), Err("1 is not boolean"));
    check_json("utf8", json!(1), Err("1 is not utf8"));
    check_json("binary", json!("0"), Err("is not binary"));
    check_json("timestamp", json!("today"), Err("`today` is not a time"));
    check_json(
        "timestamp",
        json!("2024-01-01"),
        Err("`2024-01-01` names no time zone; write a time with an offset, such as"),
    );
    check_json("timestamp", json!(true), Err("true is not timestamp"));
    check_json(
        "timestamp",
        json!("0000-01-01T00:00:00Z"),
        Err("outside of the years 1 to 9999"),
    );
    check_json(
        "timestamp",
        json!(0),
        Err("0 is a number, and nothing says"),
    );
    check_json(
        "timestamp",
        json!(i64::MAX),
        Err("is a number, and nothing says"),
    );
    check_json("timestamp", json!(1.5), Err("nothing says in which unit"));
    check_json(
        "date",
        json!(2_024),
        Err("2024 is a number, and nothing says"),
    );
    check_json("date", json!("01-02-03"), Err("`01-02-03` is not date"));
    check_json(
        "vector(2)",
        json!([1.0]),
        Err("a list of 1 numbers is not vector(2)"),
    );
    check_json(
        "list<int64>",
        json!([null]),
        Err("[null] is not list<int64>"),
    );
    check_json("utf8", json!(vec![1; 100]), Err("…"));
}

#[test]
fn csv_texts_become_columns() {
    let check = |data_type: &str, text: &str, quoting: Quoting, wanted: Result<Json, &str>| {
        let mut builder = ColumnBuilder::new(&data_type.parse().unwrap(), 1);
        match (builder.append_text(text, quoting), wanted) {
            (Ok(()), Ok(wanted)) => assert_eq!(cell_to_json(&builder.finish(), 0), wanted),
            (Err(message), Err(part)) => assert!(message.contains(part), "{message}"),
            (got, wanted) => panic!("{data_type} from {text}: {got:?}, wanted {wanted:?}"),
        }
    };
    check(
        "int64",
        "9007199254740993",
        Quoting::Unquoted,
        Ok(json!(9_007_199_254_740_993_i64)),
    );
    check("int64", "", Quoting::Unquoted, Ok(Json::Null));
    check("utf8", "", Quoting::Unquoted, Ok(Json::Null));
    check("utf8", "", Quoting::Quoted, Ok(json!("")));
    check("float64", "1e-3", Quoting::Unquoted, Ok(json!(0.001)));
    check("boolean", "TRUE", Quoting::Unquoted, Ok(json!(true)));
    check(
        "timestamp",
        "2013-01-01T00:00:00Z",
        Quoting::Unquoted,
        Ok(json!("2013-01-01T00:00:00Z")),
    );
    check(
        "date",
        "2013-01-01",
        Quoting::Unquoted,
        Ok(json!("2013-01-01")),
    );
    check(
        "list<int64>",
        "[1, 2]",
        Quoting::Unquoted,
        Ok(json!([1, 2])),
    );
    check("int64", "x", Quoting::Unquoted, Err("`x` is not int64"));
    check("date", "2013-02-30", Quoting::Unquoted, Err("is not date"));
    check("timestamp", "noon", Quoting::Unquoted, Err("is not a time"));
    check(
        "timestamp",
        "1704067200000",
        Quoting::Unquoted,
        Err("is a number, and nothing says"),
    );
    check(
        "date",
        "19723",
        Quoting::Unquoted,
        Err("is a number, and nothing says"),
    );
    check(
        "timestamp",
        "0000-12-31T00:00:00Z",
        Quoting::Unquoted,
        Err("outside of the years 1 to 9999"),
    );
    check(
        "timestamp",
        "2024-01-01",
        Quoting::Unquoted,
        Err("`2024-01-01` names no time zone; write a time with an offset, such as"),
    );
}

/// What becomes of a number in each numeric type: its JSON, or a part of the message.
type Cell = Result<&'static str, &'static str>;

const FRACTION: Cell = Err("because it has a fraction");
const RANGE: Cell = Err("because it is beyond its range");
const DIGITS: Cell = Err("because it has more digits than that keeps");
const ZERO: Cell = Err("because the nearest one is 0");

/// The text of a number, and what becomes of it as int64, float64 and float32.
const NUMBERS: [(&str, [Cell; 3]); 24] = [
    ("7", [Ok("7"), Ok("7.0"), Ok("7.0")]),
    ("7.0", [Ok("7"), Ok("7.0"), Ok("7.0")]),
    ("1e3", [Ok("1000"), Ok("1000.0"), Ok("1000.0")]),
    ("1E+3", [Ok("1000"), Ok("1000.0"), Ok("1000.0")]),
    ("70e-1", [Ok("7"), Ok("7.0"), Ok("7.0")]),
    ("0.1", [FRACTION, Ok("0.1"), Ok("0.1")]),
    ("-0", [Ok("0"), Ok("-0.0"), Ok("-0.0")]),
    ("-0.0", [Ok("0"), Ok("-0.0"), Ok("-0.0")]),
    ("16777217", [Ok("16777217"), Ok("16777217.0"), DIGITS]),
    (
        "9007199254740992",
        [
            Ok("9007199254740992"),
            Ok("9007199254740992.0"),
            // The shortest text of this float32.
            Ok("9007199000000000.0"),
        ],
    ),
    ("9007199254740993", [Ok("9007199254740993"), DIGITS, DIGITS]),
    (
        "9007199254740993.0",
        [Ok("9007199254740993"), DIGITS, DIGITS],
    ),
    (
        "9007199254740993e0",
        [Ok("9007199254740993"), DIGITS, DIGITS],
    ),
    (
        "9223372036854775807",
        [Ok("9223372036854775807"), DIGITS, DIGITS],
    ),
    ("9223372036854775809", [RANGE, DIGITS, DIGITS]),
    ("18446744073709551617", [RANGE, DIGITS, DIGITS]),
    ("12345678901234567890123", [RANGE, DIGITS, DIGITS]),
    ("1.0000000000000000001", [FRACTION, Ok("1.0"), Ok("1.0")]),
    (
        "9007199254740992.5",
        [FRACTION, Ok("9007199254740992.0"), Ok("9007199000000000.0")],
    ),
    ("1e23", [RANGE, Ok("1e+23"), Ok("1e+23")]),
    ("1e39", [RANGE, Ok("1e+39"), RANGE]),
    ("1e-50", [FRACTION, Ok("1e-50"), ZERO]),
    ("1e400", [RANGE, RANGE, RANGE]),
    ("1e-400", [FRACTION, ZERO, ZERO]),
];

const NUMERIC: [&str; 3] = ["int64", "float64", "float32"];

fn check_cell(found: Result<(), String>, builder: &mut ColumnBuilder, wanted: Cell, place: &str) {
    match (found, wanted) {
        (Ok(()), Ok(wanted)) => {
            let cell = cell_to_json(&builder.finish(), 0);
            assert_eq!(cell.to_string(), wanted, "{place}");
        }
        (Err(message), Err(part)) => assert!(message.contains(part), "{place}: {message}"),
        (found, wanted) => panic!("{place}: {found:?}, wanted {wanted:?}"),
    }
}

fn raw(text: &str) -> &RawValue {
    serde_json::from_str(text).unwrap()
}

#[test]
fn numbers_are_read_alike_from_csv_and_json() {
    for (text, cells) in NUMBERS {
        for (data_type, wanted) in NUMERIC.into_iter().zip(cells) {
            let mut builder = ColumnBuilder::new(&data_type.parse().unwrap(), 1);
            let place = format!("{data_type} from {text}");
            let found = builder.append_text(text, Quoting::Unquoted);
            check_cell(found, &mut builder, wanted, &place);
            let found = builder.append_raw_json(raw(text));
            check_cell(found, &mut builder, wanted, &place);
        }
    }
}

/// A parsed value is never another number, although some are refused that the text would give.
#[test]
fn numbers_of_parsed_json_are_read_alike_or_refused() {
    for (text, cells) in NUMBERS {
        let Ok(value) = serde_json::from_str::<Json>(text) else {
            continue;
        };
        // The text of a parsed float is gone.
        if matches!(text, "1.0000000000000000001" | "1e-400") {
            continue;
        }
        for (data_type, wanted) in NUMERIC.into_iter().zip(cells) {
            let mut builder = ColumnBuilder::new(&data_type.parse().unwrap(), 1);
            match (builder.append_json(&value), wanted) {
                (Ok(()), Ok(wanted)) => {
                    let cell = cell_to_json(&builder.finish(), 0).to_string();
                    assert_eq!(cell, wanted, "{data_type} from {text}");
                }
                // As a float, these are the nearest ones.
                (Ok(()), Err(_)) => assert!(value.is_f64() && data_type != "int64", "{text}"),
                (Err(message), wanted) => {
                    let is_rounded = message.contains("its last digits may have been lost");
                    assert!(wanted.is_err() || is_rounded, "{text}: {message}");
                }
            }
        }
    }
}

#[test]
fn special_spellings_of_numbers_are_read_in_text_formats_alone() {
    for (text, cells) in [
        (
            "NaN",
            [Err("`NaN` is not int64"), Ok("\"NaN\""), Ok("\"NaN\"")],
        ),
        ("nan", [Err("is not int64"), Ok("\"NaN\""), Ok("\"NaN\"")]),
        (
            "inf",
            [Err("is not int64"), Ok("\"Infinity\""), Ok("\"Infinity\"")],
        ),
        (
            "-Infinity",
            [
                Err("is not int64"),
                Ok("\"-Infinity\""),
                Ok("\"-Infinity\""),
            ],
        ),
        ("", [Ok("null"), Ok("null"), Ok("null")]),
        (
            "NA",
            [
                Err("`NA` is not int64"),
                Err("`NA` is not float64"),
                Err("`NA`"),
            ],
        ),
        (
            " 2.5",
            [Err("` 2.5` is"), Err("` 2.5` is"), Err("` 2.5` is")],
        ),
        ("2 ", [Err("`2 ` is"), Err("`2 ` is"), Err("`2 ` is")]),
        ("1,234.5", [Err("is not"), Err("is not"), Err("is not")]),
        ("1_000", [Err("is not"), Err("is not"), Err("is not")]),
        ("0x10", [Err("is not"), Err("is not"), Err("is not")]),
        ("true", [Err("is not"), Err("is not"), Err("is not")]),
    ] {
        for (data_type, wanted) in NUMERIC.into_iter().zip(cells) {
            let mut builder = ColumnBuilder::new(&data_type.parse().unwrap(), 1);
            let found = builder.append_text(text, Quoting::Unquoted);
            check_cell(
                found,
                &mut builder,
                wanted,
                &format!("{data_type} from {text}"),
            );
        }
    }
    for text in ["\"7\"", "true", "[7]", "{}", "\"nan\"", "\"inf\""] {
        for data_type in NUMERIC {
            let mut builder = ColumnBuilder::new(&data_type.parse().unwrap(), 1);
            let message = builder.append_raw_json(raw(text)).unwrap_err();
            assert_eq!(message, format!("{text} is not {data_type}"));
        }
    }
}

#[test]
fn items_of_lists_are_read_like_single_values() {
    for (data_type, text, wanted) in [
        (
            "list<int64>",
            "[7.0, 9007199254740993]",
            Ok("[7,9007199254740993]"),
        ),
        (
            "list<int64>",
            "[7.5]",
            Err("[7.5] is not list<int64>, because it has a fraction"),
        ),
        ("list<float64>", "[1, \"NaN\"]", Ok("[1.0,\"NaN\"]")),
        ("list<float64>", "[9007199254740993]", DIGITS),
        (
            "list<utf8>",
            r#"["a", "\u00e4\"", ""]"#,
            Ok(r#"["a","ä\"",""]"#),
        ),
        ("list<utf8>", "[1]", Err("[1] is not list<utf8>")),
        ("list<utf8>", "[[]]", Err("[[]] is not list<utf8>")),
        ("list<utf8>", r#"["\ud800"]"#, Err("is not JSON")),
        ("vector(2)", "[0.1, 1e38]", Ok("[0.1,1e+38]")),
        ("vector(2)", "[0.1, 1e39]", RANGE),
        ("vector(2)", "[null, 1]", Err("[null, 1] is not vector(2)")),
    ] {
        let mut builder = ColumnBuilder::new(&data_type.parse().unwrap(), 1);
        let found = builder.append_raw_json(raw(text));
        check_cell(found, &mut builder, wanted, text);
        let found = builder.append_text(text, Quoting::Quoted);
        check_cell(found, &mut builder, wanted, text);
    }
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let mut builder = ColumnBuilder::new(&DataType::ListInt64, 1);
    assert!(builder.append_raw_json(raw(&deep)).is_err());
}

#[test]
fn empty_texts_with_quotes_are_values_of_text_columns_alone() {
    for (data_type, wanted) in [
        ("utf8", json!("")),
        ("binary", json!("")),
        ("int64", Json::Null),
        ("float64", Json::Null),
        ("boolean", Json::Null),
        ("timestamp", Json::Null),
        ("list<utf8>", Json::Null),
    ] {
        let mut builder = ColumnBuilder::new(&data_type.parse().unwrap(), 1);
        builder.append_text("", Quoting::Quoted).unwrap();
        assert_eq!(cell_to_json(&builder.finish(), 0), wanted, "{data_type}");
        builder.append_text("", Quoting::Unquoted).unwrap();
        assert_eq!(
            cell_to_json(&builder.finish(), 0),
            Json::Null,
            "{data_type}"
        );
    }
}

#[test]
fn integers_of_a_known_unit_become_times() {
    use EpochUnit::{Days, Milliseconds, Nanoseconds, Seconds};
    let day = "2024-01-01T00:00:00Z";
    // The type, the unit, the JSON value, the same value in CSV, and what becomes of both.
    for (data_type, unit, json, text, wanted) in [
        (
            "timestamp",
            Seconds,
            json!(1_704_067_200),
            "1704067200",
            Ok(day),
        ),
        (
            "timestamp",
            Seconds,
            json!(1_704_067_200.0),
            "1704067200.0",
            Ok(day),
        ),
        (
            "timestamp",
            Milliseconds,
            json!(1_704_067_200_000_i64),
            "1704067200000",
            Ok(day),
        ),
        // A text that says what it means needs no unit.
        ("timestamp", Seconds, json!(day), day, Ok(day)),
        ("timestamp", Seconds, json!(0.5), "0.5", Err("0.5")),
        (
            "timestamp",
            Seconds,
            json!(i64::MAX),
            "9223372036854775807",
            Err("years 1 to 9999"),
        ),
        (
            "timestamp",
            Seconds,
            json!(u64::MAX),
            "18446744073709551615",
            Err("18446744073709551615"),
        ),
        (
            "timestamp",
            Nanoseconds,
            json!(1_001),
            "1001",
            Err("beyond microseconds"),
        ),
        ("date", Days, json!(19_723), "19723", Ok("2024-01-01")),
        (
            "date",
            Days,
            json!("2024-01-01"),
            "2024-01-01",
            Ok("2024-01-01"),
        ),
        (
            "date",
            Seconds,
            json!(1),
            "1",
            Err("not a whole number of days"),
        ),
    ] {
        let data_type: DataType = data_type.parse().unwrap();
        let builder = || ColumnBuilder::new(&data_type, 1).with_reading(Reading::of_unit(unit));
        let (mut from_json, mut from_text) = (builder(), builder());
        let results = [
            (from_json.append_json(&json), &mut from_json),
            (
                from_text.append_text(text, Quoting::Unquoted),
                &mut from_text,
            ),
        ];
        for (result, builder) in results {
            match (result, wanted) {
                (Ok(()), Ok(wanted)) => assert_eq!(cell_to_json(&builder.finish(), 0), wanted),
                (Err(message), Err(part)) => assert!(message.contains(part), "{message}"),
                (got, wanted) => panic!("{text} {unit}: {got:?}, wanted {wanted:?}"),
            }
        }
    }
}

#[test]
fn times_are_written_as_they_are_read() {
    for (format, zone, text) in [
        (
            "%d.%m.%Y %H:%M:%S%.f",
            "Europe/Berlin",
            "01.07.2024 12:00:00.250",
        ),
        (
            "%d/%b/%Y:%H:%M:%S %z",
            "+05:30",
            "10/Oct/2000:13:55:36 +0530",
        ),
        ("%Y%m%d", "America/New_York", "20240403"),
    ] {
        let reading = Reading {
            format: Some(format.parse().unwrap()),
            zone: Some(zone.parse().unwrap()),
            ..Reading::default()
        };
        let mut builder = ColumnBuilder::new(&DataType::Timestamp, 2).with_reading(reading.clone());
        builder.append_text(text, Quoting::Quoted).unwrap();
        builder.append_null();
        let column = builder.finish();
        assert_eq!(reading.written(&column, 0).as_deref(), Some(text));
        assert_eq!(reading.written(&column, 1), None);
        assert_eq!(Reading::default().written(&column, 0), None);
    }
}
