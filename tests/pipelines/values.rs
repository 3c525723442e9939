//! Which values of files become which values of a group: the table of docs/values.md, cell by cell,
//! and random rows that are stored the same from every format.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::builder::{Float64Builder, Int32Builder, LargeListBuilder, ListBuilder};
use arrow_array::types::Int32Type;
use arrow_array::{
    Array, ArrayRef, BooleanArray, Date32Array, Date64Array, DictionaryArray, FixedSizeBinaryArray,
    Float32Array, Float64Array, Int8Array, Int64Array, LargeBinaryArray, LargeStringArray,
    RecordBatch, StringArray, StringViewArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
    new_null_array,
};
use serde_json::Value as Json;
use wafer_core::DataType;

use crate::harness::pass::{Pass, case, pass};
use crate::harness::values::{FORMATS, RandomRows, csv_field};
use crate::harness::{Project, Random, text, write_arrow, write_batch};

/// What becomes of a value: its JSON, or a part of the reason why its row is rejected.
type Wanted = Result<&'static str, &'static str>;

const FRACTION: Wanted = Err("because it has a fraction");
const RANGE: Wanted = Err("because it is beyond its range");
const DIGITS: Wanted = Err("because it has more digits than that keeps");
const ZERO: Wanted = Err("because the nearest one is 0");
const YEARS: Wanted = Err("outside of the years 1 to 9999");

/// The columns of a group with every type that can be stored.
fn columns() -> String {
    let columns = RandomRows::COLUMNS.map(|(name, kind, _)| format!(", {name}:{kind}?"));
    format!("id:int64, at:timestamp{}", columns.concat())
}

/// Makes a project with a column of each type, whose runs may reject all rows.
fn project_of_every_type(path: &str) -> Project {
    let project = Pass {
        columns: &columns(),
        source: &format!("type = \"files\"\npath = \"{path}\""),
        pipeline: "max_rejects = 1.0",
        ..Pass::default()
    };
    project.project().applied()
}

/// Returns what became of each row: the value of its column as JSON text, or the reason why it was
/// rejected. `wanted` has the column of each row; rows are known by their id, and rejected rows by
/// their place.
fn outcomes(project: &Project) -> (BTreeMap<i64, Json>, BTreeMap<String, String>) {
    let rows = project.offline_rows("g_v1").into_iter();
    let rows = rows.map(|row| (row["id"].as_i64().unwrap(), row));
    let aside = project.offline_rows("g_v1_quarantine").into_iter();
    let aside = aside.map(|row| {
        let place = row["place"].as_str().unwrap().rsplit('/').next().unwrap();
        (place.to_owned(), row["reason"].as_str().unwrap().to_owned())
    });
    (rows.collect(), aside.collect())
}

fn check(
    stored: Option<&Json>,
    reason: Option<&String>,
    column: &str,
    wanted: Wanted,
    place: &str,
) {
    match (stored, reason, wanted) {
        (Some(row), None, Ok(wanted)) => assert_eq!(row[column].to_string(), wanted, "{place}"),
        (None, Some(reason), Err(part)) => {
            assert!(
                reason.starts_with(&format!("field `{column}`: ")),
                "{place}: {reason}"
            );
            assert!(reason.contains(part), "{place}: {reason}");
        }
        (stored, reason, wanted) => {
            panic!("{place}: stored {stored:?}, rejected {reason:?}, wanted {wanted:?}")
        }
    }
}

/// Values that CSV and JSON write alike: numbers, and lists of them.
const IN_BOTH: [(&str, &str, Wanted); 62] = [
    ("n", "7", Ok("7")),
    ("n", "7.0", Ok("7")),
    ("n", "1e3", Ok("1000")),
    ("n", "1E+3", Ok("1000")),
    ("n", "-0", Ok("0")),
    ("n", "-0.0", Ok("0")),
    ("n", "9007199254740993", Ok("9007199254740993")),
    ("n", "9007199254740993.0", Ok("9007199254740993")),
    ("n", "9007199254740992.0", Ok("9007199254740992")),
    ("n", "9.007199254740993e15", Ok("9007199254740993")),
    ("n", "9223372036854775807", Ok("9223372036854775807")),
    ("n", "9223372036854775807.0", Ok("9223372036854775807")),
    ("n", "-9223372036854775808", Ok("-9223372036854775808")),
    ("n", "9223372036854775808", RANGE),
    ("n", "18446744073709551615", RANGE),
    ("n", "12345678901234567890123", RANGE),
    ("n", "1e400", RANGE),
    ("n", "7.5", FRACTION),
    ("n", "1.0000000000000000001", FRACTION),
    ("n", "9007199254740992.5", FRACTION),
    ("n", "1e-400", FRACTION),
    ("n", "true", Err("true")),
    ("f", "7", Ok("7.0")),
    ("f", "7.0", Ok("7.0")),
    ("f", "0.1", Ok("0.1")),
    ("f", "-0.0", Ok("-0.0")),
    ("f", "1e3", Ok("1000.0")),
    ("f", "1e-7", Ok("1e-7")),
    ("f", "9007199254740992", Ok("9007199254740992.0")),
    ("f", "1.152921504606847e18", Ok("1.152921504606847e+18")),
    ("f", "5e-324", Ok("5e-324")),
    ("f", "1.7976931348623157e308", Ok("1.7976931348623157e+308")),
    ("f", "9007199254740993", DIGITS),
    ("f", "9007199254740993.0", DIGITS),
    ("f", "18446744073709551615", DIGITS),
    ("f", "12345678901234567890123", DIGITS),
    ("f", "1e309", RANGE),
    ("f", "-1e400", RANGE),
    ("f", "1e-400", ZERO),
    ("s", "7", Ok("7.0")),
    ("s", "0.1", Ok("0.1")),
    ("s", "16777216", Ok("16777216.0")),
    ("s", "3.4028235e38", Ok("3.4028235e+38")),
    ("s", "16777217", DIGITS),
    ("s", "1e39", RANGE),
    ("s", "-1e39", RANGE),
    ("s", "1e400", RANGE),
    ("s", "1e-50", ZERO),
    ("b", "true", Ok("true")),
    ("b", "false", Ok("false")),
    ("b", "2", Err("2")),
    (
        "ts",
        "1704067200000",
        Err("is a number, and nothing says in which unit it counts"),
    ),
    (
        "d",
        "19723",
        Err("is a number, and nothing says in which unit it counts"),
    ),
    (
        "li",
        "[1, 7.0, 9007199254740993]",
        Ok("[1,7,9007199254740993]"),
    ),
    ("li", "[1.5]", FRACTION),
    ("li", "[9223372036854775808]", RANGE),
    ("lf", "[1, 0.5]", Ok("[1.0,0.5]")),
    ("lf", "[9007199254740993]", DIGITS),
    ("v", "[1, 0.1]", Ok("[1.0,0.1]")),
    ("v", "[1, 1e39]", RANGE),
    ("v", "[1]", Err("a list of 1 numbers is not vector(2)")),
    ("li", "[null]", Err("is not list<int64>")),
];

/// Texts, which JSON writes in quotes and CSV with or without.
const TEXTS: [(&str, &str, Wanted); 24] = [
    ("t", "a", Ok("\"a\"")),
    ("t", "02134", Ok("\"02134\"")),
    ("t", "NaN", Ok("\"NaN\"")),
    ("t", "null", Ok("\"null\"")),
    ("t", " x ", Ok("\" x \"")),
    ("y", "00ff", Ok("\"00ff\"")),
    ("y", "00FF", Ok("\"00ff\"")),
    ("y", "0", Err("is not binary")),
    ("y", "0x", Err("is not binary")),
    ("f", "NaN", Ok("\"NaN\"")),
    ("f", "Infinity", Ok("\"Infinity\"")),
    ("f", "-Infinity", Ok("\"-Infinity\"")),
    ("s", "NaN", Ok("\"NaN\"")),
    ("f", "NA", Err("is not float64")),
    ("n", "NaN", Err("is not int64")),
    (
        "ts",
        "2024-01-01T00:00:00.000001Z",
        Ok("\"2024-01-01T00:00:00.000001Z\""),
    ),
    (
        "ts",
        "2024-01-01T01:00:00+01:00",
        Ok("\"2024-01-01T00:00:00Z\""),
    ),
    (
        "ts",
        "2024-01-01T00:00:00.0000001Z",
        Err("has digits beyond microseconds"),
    ),
    ("ts", "2024-01-01T00:00:00", Err("names no time zone")),
    ("ts", "2024-01-01", Err("names no time zone")),
    ("ts", "0000-01-01T00:00:00Z", YEARS),
    ("d", "2024-01-01", Ok("\"2024-01-01\"")),
    ("d", "2024-02-30", Err("is not date")),
    ("d", "01/02/2024", Err("is not date")),
];

/// Values as only CSV writes them, as they are in the file.
const IN_CSV: [(&str, &str, Wanted); 26] = [
    ("n", "", Ok("null")),
    ("f", "", Ok("null")),
    ("t", "", Ok("null")),
    ("y", "", Ok("null")),
    ("ts", "", Ok("null")),
    ("li", "", Ok("null")),
    ("n", "\"\"", Ok("null")),
    ("b", "\"\"", Ok("null")),
    ("t", "\"\"", Ok("\"\"")),
    ("y", "\"\"", Ok("\"\"")),
    ("n", "\"7\"", Ok("7")),
    ("n", "+7", Ok("7")),
    ("n", "007", Ok("7")),
    ("n", "7.", Ok("7")),
    ("n", " 7", Err("` 7` is not int64")),
    ("n", "7 ", Err("`7 ` is not int64")),
    ("n", "\"1,234\"", Err("`1,234` is not int64")),
    ("n", "NA", Err("`NA` is not int64")),
    ("f", ".5", Ok("0.5")),
    ("f", "inf", Ok("\"Infinity\"")),
    ("f", "nan", Ok("\"NaN\"")),
    ("f", "\"1,234.5\"", Err("`1,234.5` is not float64")),
    ("f", " 2.5", Err("` 2.5` is not float64")),
    ("b", "True", Ok("true")),
    ("b", "0", Ok("false")),
    ("b", "yes", Err("`yes` is not boolean")),
];

/// Values as only JSON writes them.
const IN_JSON: [(&str, &str, Wanted); 24] = [
    ("n", "null", Ok("null")),
    ("t", "null", Ok("null")),
    ("v", "null", Ok("null")),
    ("t", "\"\"", Ok("\"\"")),
    ("y", "\"\"", Ok("\"\"")),
    ("lt", "[\"a\", \"\"]", Ok("[\"a\",\"\"]")),
    ("lt", "[\"\\u00e4\"]", Ok("[\"ä\"]")),
    ("lt", "[1]", Err("is not list<utf8>")),
    ("lt", "[[]]", Err("is not list<utf8>")),
    ("lf", "[\"NaN\"]", Ok("[\"NaN\"]")),
    ("n", "\"7\"", Err("\"7\" is not int64")),
    ("n", "\"\"", Err("\"\" is not int64")),
    ("f", "\"0.5\"", Err("\"0.5\" is not float64")),
    ("f", "\"inf\"", Err("\"inf\" is not float64")),
    ("f", "true", Err("true is not float64")),
    ("t", "7", Err("7 is not utf8")),
    ("t", "false", Err("false is not utf8")),
    ("b", "0", Err("0 is not boolean")),
    ("b", "1", Err("1 is not boolean")),
    ("b", "\"true\"", Err("\"true\" is not boolean")),
    ("y", "7", Err("7 is not binary")),
    ("ts", "true", Err("true is not timestamp")),
    ("n", "{}", Err("{} is not int64")),
    ("n", "[7]", Err("[7] is not int64")),
];

#[test]
fn values_of_csv_are_read_cell_by_cell() {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let both = IN_BOTH
        .iter()
        .map(|(column, json, wanted)| (*column, csv_field(json), *wanted));
    let texts = TEXTS
        .iter()
        .map(|(column, text, wanted)| (*column, quoted(text), *wanted));
    let plain = TEXTS
        .iter()
        .map(|(column, text, wanted)| (*column, (*text).to_owned(), *wanted));
    let csv = IN_CSV
        .iter()
        .map(|(column, field, wanted)| (*column, (*field).to_owned(), *wanted));
    let cells: Vec<(&str, String, Wanted)> = both.chain(texts).chain(plain).chain(csv).collect();
    let names = RandomRows::COLUMNS.map(|(name, _, _)| name);
    let mut file = format!("id,at,{}\n", names.join(","));
    for (id, (column, field, _)) in cells.iter().enumerate() {
        let fields = names.map(|name| if name == *column { field.as_str() } else { "" });
        file += &format!("{id},2024-01-01T00:00:00Z,{}\n", fields.join(","));
    }
    let project = project_of_every_type("in.csv");
    project.write("in.csv", file);
    project.ok(&["run", "g"]);
    let (stored, rejected) = outcomes(&project);
    for (id, (column, field, wanted)) in cells.iter().enumerate() {
        let reason = rejected.get(&format!("in.csv:{}", id + 2));
        let place = format!("{column} from {field}");
        check(stored.get(&(id as i64)), reason, column, *wanted, &place);
    }
}

#[test]
fn values_of_ndjson_are_read_cell_by_cell() {
    let both = IN_BOTH.iter().chain(&IN_JSON);
    let both = both.map(|(column, json, wanted)| (*column, (*json).to_owned(), *wanted));
    let texts = TEXTS.iter();
    let texts = texts.map(|(column, text, wanted)| (*column, format!("\"{text}\""), *wanted));
    let cells: Vec<(&str, String, Wanted)> = both.chain(texts).collect();
    let mut file = String::new();
    for (id, (column, json, _)) in cells.iter().enumerate() {
        file += &format!("{{\"id\":{id},\"at\":\"2024-01-01T00:00:00Z\",\"{column}\":{json}}}\n");
    }
    let project = project_of_every_type("in.ndjson");
    project.write("in.ndjson", file);
    project.ok(&["run", "g"]);
    let (stored, rejected) = outcomes(&project);
    for (id, (column, json, wanted)) in cells.iter().enumerate() {
        let reason = rejected.get(&format!("in.ndjson:{}", id + 1));
        let place = format!("{column} from {json}");
        check(stored.get(&(id as i64)), reason, column, *wanted, &place);
    }
}

/// Columns of Arrow types, and what becomes of each of their values.
fn typed_columns() -> Vec<(&'static str, ArrayRef, Vec<Wanted>)> {
    let mut large = LargeListBuilder::new(Int32Builder::new());
    large.append_value([Some(1)]);
    large.append_value([None]);
    let mut floats = ListBuilder::new(Float64Builder::new());
    floats.append_value([Some(7.0)]);
    floats.append_value([Some(0.5)]);
    let words: DictionaryArray<Int32Type> = vec![Some("b"), None, Some("")].into_iter().collect();
    let millis = TimestampMillisecondArray::from(vec![1, i64::MAX]).with_timezone("Europe/Oslo");
    let nanos = TimestampNanosecondArray::from(vec![1_000, 1]).with_timezone("UTC");
    let seconds = TimestampSecondArray::from(vec![1, i64::MIN]).with_timezone("UTC");
    let micros = TimestampMicrosecondArray::from(vec![1, 253_402_300_800_000_000]);
    let fixed = FixedSizeBinaryArray::try_from_iter([[0u8, 255]].into_iter()).unwrap();
    vec![
        (
            "n",
            Arc::new(Int8Array::from(vec![Some(-1), None])),
            vec![Ok("-1"), Ok("null")],
        ),
        (
            "n",
            Arc::new(UInt64Array::from(vec![7, u64::MAX])),
            vec![Ok("7"), RANGE],
        ),
        (
            "n",
            Arc::new(Float64Array::from(vec![
                Some(7.0),
                None,
                Some(-0.0),
                Some(9_007_199_254_740_992.0),
                Some(7.5),
                Some(f64::NAN),
                Some(1e19),
            ])),
            vec![
                Ok("7"),
                Ok("null"),
                Ok("0"),
                Ok("9007199254740992"),
                FRACTION,
                Err("NaN is not int64"),
                RANGE,
            ],
        ),
        (
            "n",
            Arc::new(Float32Array::from(vec![7.0, 0.5])),
            vec![Ok("7"), FRACTION],
        ),
        (
            "f",
            Arc::new(Int64Array::from(vec![7, (1 << 53) + 1])),
            vec![Ok("7.0"), DIGITS],
        ),
        (
            "f",
            Arc::new(UInt64Array::from(vec![7, u64::MAX])),
            vec![Ok("7.0"), DIGITS],
        ),
        (
            "f",
            Arc::new(Float32Array::from(vec![0.5, -0.0])),
            vec![Ok("0.5"), Ok("-0.0")],
        ),
        ("s", Arc::new(Int8Array::from(vec![7])), vec![Ok("7.0")]),
        (
            "s",
            Arc::new(Int64Array::from(vec![7, (1 << 24) + 1])),
            vec![Ok("7.0"), DIGITS],
        ),
        (
            "t",
            Arc::new(LargeStringArray::from(vec![""])),
            vec![Ok("\"\"")],
        ),
        (
            "t",
            Arc::new(StringViewArray::from(vec![Some("02134"), None])),
            vec![Ok("\"02134\""), Ok("null")],
        ),
        (
            "t",
            Arc::new(words),
            vec![Ok("\"b\""), Ok("null"), Ok("\"\"")],
        ),
        (
            "y",
            Arc::new(LargeBinaryArray::from(vec![&b"\x00\xff"[..], b""])),
            vec![Ok("\"00ff\""), Ok("\"\"")],
        ),
        ("y", Arc::new(fixed), vec![Ok("\"00ff\"")]),
        (
            "ts",
            Arc::new(seconds),
            vec![Ok("\"1970-01-01T00:00:01Z\""), YEARS],
        ),
        (
            "ts",
            Arc::new(millis),
            vec![Ok("\"1970-01-01T00:00:00.001Z\""), YEARS],
        ),
        (
            "ts",
            Arc::new(micros.with_timezone("UTC")),
            vec![Ok("\"1970-01-01T00:00:00.000001Z\""), YEARS],
        ),
        (
            "ts",
            Arc::new(nanos),
            vec![
                Ok("\"1970-01-01T00:00:00.000001Z\""),
                Err("has digits beyond microseconds"),
            ],
        ),
        (
            "d",
            Arc::new(Date32Array::from(vec![1, i32::MAX])),
            vec![Ok("\"1970-01-02\""), YEARS],
        ),
        (
            "d",
            Arc::new(Date64Array::from(vec![86_400_000, 86_400_001])),
            vec![Ok("\"1970-01-02\""), Err("is not a whole number of days")],
        ),
        (
            "li",
            Arc::new(large.finish()),
            vec![Ok("[1]"), Err("a list holds a null")],
        ),
        ("li", Arc::new(floats.finish()), vec![Ok("[7]"), FRACTION]),
    ]
}

/// A file with one row for each value of a column. The other columns are null.
fn file_of(column: &str, values: &ArrayRef, first: i64) -> RecordBatch {
    let rows = values.len();
    let ids = (first..first + rows as i64).collect::<Int64Array>();
    let times = TimestampMicrosecondArray::from(vec![1_704_067_200_000_000; rows]);
    let mut columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("id", Arc::new(ids), false),
        ("at", Arc::new(times.with_timezone("UTC")), false),
    ];
    for (name, _, kind) in RandomRows::COLUMNS {
        let data_type: DataType = kind.parse().unwrap();
        let column = match name == column {
            true => Arc::clone(values),
            false => new_null_array(&data_type.to_arrow(), rows),
        };
        columns.push((name, column, true));
    }
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

#[test]
fn values_of_parquet_and_arrow_are_read_cell_by_cell() {
    for extension in ["parquet", "arrow"] {
        let project = project_of_every_type(&format!("data/*.{extension}"));
        std::fs::create_dir(project.path().join("data")).unwrap();
        let files = typed_columns();
        for (index, (column, values, _)) in files.iter().enumerate() {
            let path = project.path().join(format!("data/{index:02}.{extension}"));
            let batch = file_of(column, values, index as i64 * 100);
            match extension {
                "arrow" => write_arrow(&path, &batch),
                _ => write_batch(&path, &batch),
            }
        }
        project.ok(&["run", "g"]);
        let (stored, rejected) = outcomes(&project);
        for (index, (column, values, wanted)) in files.iter().enumerate() {
            assert_eq!(values.len(), wanted.len());
            for (row, wanted) in wanted.iter().enumerate() {
                let id = (index * 100 + row) as i64;
                let reason = rejected.get(&format!("{index:02}.{extension}:{row}"));
                let place = format!("{extension}: {column} from row {row} of {values:?}");
                check(stored.get(&id), reason, column, *wanted, &place);
            }
        }
    }
}

#[test]
fn columns_of_other_types_are_refused_by_name() {
    let project = project_of_every_type("in.parquet");
    let columns: [(&str, ArrayRef, &str); 7] = [
        (
            "n",
            Arc::new(StringArray::from(vec!["7"])),
            "column `n` is Utf8, and the function reads int64",
        ),
        (
            "n",
            Arc::new(BooleanArray::from(vec![true])),
            "column `n` is Boolean, and the function reads int64",
        ),
        (
            "b",
            Arc::new(Int64Array::from(vec![1])),
            "column `b` is Int64, and the function reads boolean",
        ),
        (
            "s",
            Arc::new(Float64Array::from(vec![0.5])),
            "column `s` is Float64, and the function reads float32",
        ),
        (
            "t",
            Arc::new(Int64Array::from(vec![7])),
            "column `t` is Int64, and the function reads utf8",
        ),
        (
            "ts",
            Arc::new(Float64Array::from(vec![1.0])),
            "column `ts` is Float64, and the function reads timestamp; say in which unit",
        ),
        (
            "ts",
            Arc::new(Date32Array::from(vec![1])),
            "column `ts` is Date32, and the function reads timestamp; its times name no time zone",
        ),
    ];
    for (column, values, wanted) in columns {
        write_batch(
            &project.path().join("in.parquet"),
            &file_of(column, &values, 0),
        );
        let said = project.fails(&["run", "g"]);
        assert!(said.contains(wanted), "{said}");
    }
}

#[test]
fn numbers_of_csv_are_integers_however_they_are_written() {
    let project = pass("id:int64, at:timestamp, n:int64?, v:float64?", "in.csv");
    project.write("in.csv", case("10-csv-numbers/in.csv"));
    let said = text(&project.command(&["run", "g"]).output().unwrap());
    for wanted in [
        "in.csv:6: field `v`: `1,234.5` is not float64",
        "in.csv:7: field `v`: ` 2.5` is not float64",
        "in.csv:8: field `v`: `NA` is not float64",
    ] {
        assert!(said.contains(wanted), "{said}");
    }
    let mut rows: Vec<[String; 3]> = project
        .offline_rows("g_v1")
        .iter()
        .map(|row| ["id", "n", "v"].map(|name| row[name].to_string()))
        .collect();
    rows.sort();
    let wanted = [
        ["1", "7", "1.5"],
        ["2", "null", "\"NaN\""],
        ["3", "8", "\"Infinity\""],
        ["4", "9", "\"-Infinity\""],
    ];
    assert_eq!(rows, wanted);
}

#[test]
fn integers_of_json_are_exact_or_rejected() {
    let project = pass("id:int64, at:timestamp, n:int64?", "in.ndjson");
    project.write("in.ndjson", case("11-json-ints/in.ndjson"));
    let said = text(&project.command(&["run", "g"]).output().unwrap());
    for line in 9..=12 {
        assert!(
            said.contains(&format!("in.ndjson:{line}: field `n`: ")),
            "{said}"
        );
    }
    let rows = project.offline_rows("g_v1").into_iter();
    let rows = rows.map(|row| (row["id"].as_i64().unwrap(), row["n"].as_i64().unwrap()));
    let wanted = [
        (1, 9_007_199_254_740_993),
        (2, 9_007_199_254_740_993),
        (3, 9_007_199_254_740_992),
        (4, 1_000),
        (5, 1_000),
        (6, 0),
        (7, 0),
        (8, i64::MAX),
    ];
    assert_eq!(rows.collect::<BTreeMap<_, _>>(), BTreeMap::from(wanted));

    // Which of two values of one name is meant is anybody's guess.
    project.write("in.ndjson", case("11-json-ints/dup.ndjson"));
    let said = project.fails(&["run", "g"]);
    assert!(
        said.contains("in.ndjson:1: field `n`: is there twice"),
        "{said}"
    );
}

#[test]
fn random_rows_are_stored_the_same_from_every_format() {
    let mut random = Random::new();
    for rows in [1, 50, 400] {
        let values = RandomRows::new(&mut random, rows);
        let tables = FORMATS.map(|format| {
            let file = format!("in.{format}");
            let project = pass(&columns(), &file);
            values.write(&project.path().join(&file), "at", &mut random);
            project.ok(&["run", "g"]);
            project.offline("g_v1")
        });
        assert_eq!(tables[0].len(), rows);
        for (table, format) in tables.iter().zip(FORMATS) {
            for (found, wanted) in table.iter().zip(&tables[2]) {
                assert_eq!(found, wanted, "{format}");
            }
            assert_eq!(table.len(), rows, "{format}");
        }
    }
}

#[test]
fn numbers_of_events_and_requests_are_exact_or_refused() {
    let project = Pass {
        columns: "id:int64, at:timestamp, n:int64?, f:float64?, s:float32?",
        source: "type = \"stream\"",
        ..Pass::default()
    };
    let project = project.project().applied();
    let cells: [(&str, &str, Wanted); 13] = [
        ("n", "7.0", Ok("7")),
        ("n", "9007199254740993", Ok("9007199254740993")),
        ("n", "9007199254740991.0", Ok("9007199254740991")),
        // Of an event only the parsed number is kept, which is another one here.
        (
            "n",
            "9007199254740993.0",
            Err("has the number 9007199254740993.0"),
        ),
        (
            "n",
            "9007199254740992.0",
            Err("its last digits may have been lost"),
        ),
        (
            "n",
            "1.0000000000000000001",
            Err("has the number 1.0000000000000000001"),
        ),
        ("n", "9223372036854775808", RANGE),
        ("n", "7.5", FRACTION),
        ("f", "9007199254740993", DIGITS),
        ("f", "0.1", Ok("0.1")),
        ("s", "0.1", Ok("0.1")),
        ("s", "1e39", RANGE),
        ("s", "1e-400", Err("has the number 1e-400")),
    ];
    let server = project.serve(&[]);
    let event = |(id, (column, json, _)): (usize, &(&str, &str, Wanted))| {
        format!("{{\"id\":{id},\"at\":\"2024-01-01T00:00:00Z\",\"{column}\":{json}}}\n")
    };
    let events: String = cells.iter().enumerate().map(event).collect();
    let (_, answer) = server.events("s", &events);
    let results = answer["events"].as_array().unwrap();
    for ((id, (column, json, wanted)), result) in cells.iter().enumerate().zip(results) {
        match wanted {
            Ok(wanted) => {
                let vector = &server.features("v", &serde_json::json!([{ "id": id }]))[0];
                let found = vector["features"][format!("g_{column}")].to_string();
                assert_eq!(found, *wanted, "{column} from {json}: {result}");
            }
            Err(part) => {
                let error = result["error"].as_str().unwrap_or_default();
                assert!(error.contains(part), "{column} from {json}: {result}");
            }
        }
    }
    let event = r#"{"specversion":"1.0","id":"7","source":"/x","type":"t","data":{"id":50,
        "at":"2024-01-01T00:00:00Z","f":9007199254740993.0}}"#;
    for (content_type, body) in [
        ("application/cloudevents+json", event.to_owned()),
        ("application/cloudevents-batch+json", format!("[{event}]")),
    ] {
        let (status, answer) = server.post("/v1/sources/s/events", content_type, body);
        assert_eq!(status, 400, "{answer}");
        let said = answer.to_string();
        assert!(said.contains("has the number 9007199254740993.0"), "{said}");
    }
    for number in [
        "9007199254740993.0",
        "123456789012345678901234567890",
        "1e400",
        "1e-400",
    ] {
        for (path, body) in [
            (
                "/v1/views/v/features",
                format!("{{\"rows\":[{{\"id\":{number}}}]}}"),
            ),
            (
                "/get-online-features",
                format!("{{\"features\":[\"v:g_n\"],\"entities\":{{\"id\":[{number}]}}}}"),
            ),
            (
                "/push",
                format!("{{\"push_source_name\":\"s\",\"df\":{{\"id\":[1],\"f\":[{number}]}}}}"),
            ),
            (
                "/v2/models/m/infer",
                format!(
                    "{{\"inputs\":[{{\"name\":\"id\",\"shape\":[1],\"datatype\":\"FP64\",\
                     \"data\":[{number}]}}]}}"
                ),
            ),
        ] {
            let (status, answer) = server.post(path, "application/json", body);
            assert_eq!(status, 400, "{path}: {answer}");
            let wanted = format!("has the number {number}, which is not kept exactly");
            assert!(answer.to_string().contains(&wanted), "{path}: {answer}");
        }
    }
    for (id, wanted) in [
        ("9007199254740992.0", "its last digits may have been lost"),
        ("1e30", "is not int64"),
        ("0.5", "because it has a fraction"),
    ] {
        let body = format!("{{\"rows\":[{{\"id\":{id}}}]}}");
        let (status, answer) = server.post("/v1/views/v/features", "application/json", body);
        assert_eq!(status, 400, "{answer}");
        assert!(answer.to_string().contains(wanted), "{answer}");
    }
}
