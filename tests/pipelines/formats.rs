//! Files as people have them: encodings, compression, dialects of CSV, documents of JSON,
//! partitions, decimals, and columns that some files lack.

use std::path::Path;
use std::sync::Arc;

use arrow_array::types::Decimal128Type;
use arrow_array::{ArrayRef, Int64Array, PrimitiveArray, RecordBatch, TimestampMicrosecondArray};
use parquet::basic::Compression;
use parquet::data_type::Int64Type;
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::{Value as Json, json};

use crate::harness::pass::{Pass, case};
use crate::harness::{Project, text, write_batch};

const COLUMNS: &str = "id:int64, at:timestamp, note:utf8?";

/// Makes and applies a project with these settings of its source.
fn project(columns: &str, source: &str) -> Project {
    let pass = Pass {
        columns,
        source: &format!("type = \"files\"\n{source}"),
        ..Pass::default()
    };
    pass.project().applied()
}

/// The values of a column of the group, in the order of the ids.
fn values(project: &Project, column: &str) -> Vec<Json> {
    let mut rows = project.offline_rows("g_v1");
    rows.sort_by_key(|row| row["id"].as_i64());
    rows.iter().map(|row| row[column].clone()).collect()
}

fn copy(project: &Project, case_folder: &str, names: &[&str]) {
    for name in names {
        let target = project.path().join(name);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::write(target, case(&format!("{case_folder}/{name}"))).unwrap();
    }
}

#[test]
fn text_files_are_decompressed_and_decoded_as_declared() {
    for (file, settings, wanted) in [
        ("in.csv.gz", "", "x"),
        ("utf16.csv", "encoding = \"utf-16\"", "x"),
        ("latin1.csv", "encoding = \"latin-1\"", "Tromsø"),
    ] {
        let project = project(COLUMNS, &format!("path = \"{file}\"\n{settings}"));
        copy(&project, "34-csv-broken", &[file]);
        project.ok(&["run", "g"]);
        assert_eq!(values(&project, "note")[0], wanted, "{file}");
    }
    for (file, wanted) in [
        ("utf16.csv", "set `encoding = \"utf-16\"` in its source"),
        ("latin1.csv", "latin1.csv:2: is not valid UTF-8"),
    ] {
        let project = project(COLUMNS, &format!("path = \"{file}\""));
        copy(&project, "34-csv-broken", &[file]);
        let output = project.command(&["run", "g"]).output().unwrap();
        let said = text(&output);
        assert!(said.contains(wanted), "{file}: {said}");
    }
    let hidden = project(COLUMNS, "path = \"in.csv\"");
    hidden.write("in.csv", case("34-csv-broken/in.csv.gz"));
    let said = hidden.fails(&["run", "g"]);
    assert!(said.contains("set `compression = \"gzip\"`"), "{said}");
    hidden.replace(
        "path = \"in.csv\"",
        "path = \"in.csv\"\ncompression = \"gzip\"",
    );
    hidden.ok(&["apply"]);
    hidden.ok(&["run", "g"]);
    assert_eq!(values(&hidden, "note"), ["x"]);
    hidden.replace("compression", "max_decompressed = \"8 B\"\ncompression");
    hidden.ok(&["apply"]);
    let said = hidden.fails(&["run", "g"]);
    assert!(
        said.contains("it decompresses to more than 8 bytes"),
        "{said}"
    );
}

#[test]
fn csv_is_split_named_and_nulled_as_declared() {
    let settings = r#"
path = "in.csv"
delimiter = ";"
quote = "'"
header = ["id", "at", "note"]
nulls = ["NA", "-"]
times = { at = { format = "%d.%m.%Y %H:%M", zone = "Europe/Berlin" } }
"#;
    let project = project(COLUMNS, settings);
    let rows = "1;01.07.2024 12:00;'a;''b'\n2;01.01.2024 12:00;NA\n3;01.01.2024 12:00;\n\
                NA;01.01.2024 12:00;x\n5;31.03.2024 02:30;x\n6;2024-01-01T00:00:00Z;x\n";
    project.write("in.csv", rows);
    let output = project.command(&["run", "g"]).output().unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    for wanted in [
        "in.csv:4: field `id`: `NA` stands for null, and a value is needed",
        "in.csv:5: field `at`: 2024-03-31 02:30:00 does not exist in Europe/Berlin",
        "in.csv:6: field `at`: `2024-01-01T00:00:00Z` is not of the format",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    assert_eq!(
        values(&project, "note"),
        [json!("a;'b"), Json::Null, Json::Null]
    );
    assert_eq!(
        values(&project, "event_timestamp"),
        [
            "2024-07-01T10:00:00Z",
            "2024-01-01T11:00:00Z",
            "2024-01-01T11:00:00Z"
        ]
    );
}

#[test]
fn json_is_read_in_lines_arrays_and_documents() {
    let columns = "id:int64, at:timestamp, v:float64?";
    for file in ["array.json", "oneline.json", "bom.ndjson"] {
        let project = project(columns, &format!("path = \"{file}\""));
        copy(&project, "09-ndjson-shapes", &[file]);
        project.ok(&["run", "g"]);
        assert_eq!(values(&project, "v"), [1.5, 2.5], "{file}");
    }
    let project = project(columns, "path = \"nan.ndjson\"");
    copy(&project, "09-ndjson-shapes", &["nan.ndjson"]);
    let said = project.fails(&["run", "g"]);
    assert!(said.contains("nan.ndjson:1: is not JSON"), "{said}");
    project.write("nan.ndjson", "[{\"id\":1,\n");
    let said = project.fails(&["run", "g"]);
    assert!(
        said.contains("line 1: a value begins here and is not closed"),
        "{said}"
    );
}

#[test]
fn folders_of_partitions_are_read_with_their_columns() {
    let columns = "id:int64, at:timestamp, v:float64?, region:utf8";
    for path in ["data", "data/*/*.parquet", "data/**/*.parquet"] {
        let project = project(columns, &format!("path = \"{path}\"\nzone = \"UTC\""));
        let files = [
            "data/region=eu/part-0.parquet",
            "data/region=us/part-0.parquet",
        ];
        copy(&project, "07-hive", &files);
        project.write("data/_SUCCESS", "");
        project.write("data/region=eu/.part-0.parquet.crc", "x");
        project.ok(&["run", "g"]);
        let mut regions = values(&project, "region");
        regions.sort_by_key(Json::to_string);
        regions.dedup();
        assert_eq!(regions, ["eu", "us"], "{path}");
    }
}

#[test]
fn files_with_the_same_rows_in_two_partitions_are_different_rows() {
    let project = project("id:int64, at:timestamp, day:int64", "path = \"data\"");
    for day in ["1", "2"] {
        let folder = project.path().join(format!("data/day={day}"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("a.csv"), "id,at\n1,2024-01-01T00:00:00Z\n").unwrap();
    }
    project.ok(&["run", "g"]);
    let mut days = values(&project, "day");
    days.sort_by_key(Json::as_i64);
    assert_eq!(days, [1, 2]);
    // A file that says another value than its folder is not believed.
    project.write("data/day=2/a.csv", "id,at,day\n1,2024-01-01T00:00:00Z,3\n");
    let output = project.command(&["run", "g"]).output().unwrap();
    let said = text(&output);
    assert!(
        said.contains("field `day`: is 3, and the name of the folder says 2"),
        "{said}"
    );
}

#[test]
fn files_in_folders_that_are_no_partitions_are_not_read_and_named_in_a_warning() {
    let project = project(COLUMNS, "path = \"in\"");
    let commands = [
        &["plan"][..],
        &["check"],
        &["run", "g"],
        &["run", "g", "--dry-run"],
    ];
    let said = |command: &[&str]| {
        let output = project.command(command).output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", text(&output));
        text(&output)
    };
    for folder in ["in/day=1/part", "in/notes", "in/_old"] {
        std::fs::create_dir_all(project.path().join(folder)).unwrap();
    }
    let rows = "id,at,note\n1,2024-01-01T00:00:00Z,x\n";
    for file in ["in/a.csv", "in/_old/a.csv", "in/notes/readme.md"] {
        project.write(file, rows);
    }
    for command in commands {
        let said = said(command);
        assert!(!said.contains("sources.s.path"), "{command:?}: {said}");
    }
    project.write("in/day=1/part/a.csv", rows);
    for command in commands {
        let said = said(command);
        assert!(
            said.contains("in/day=1/part are not read"),
            "{command:?}: {said}"
        );
        assert!(said.contains("in/**/*"), "{command:?}: {said}");
    }
    // Neither of these does anything here: the day overlaps the interval of the runs, and there is
    // no state machine. A run on AWS reads what was copied from here.
    let day = ["--from", "2024-01-01", "--to", "2024-01-02"];
    for arguments in [
        [&["backfill", "g"][..], &day].concat(),
        vec!["run", "g", "--on", "aws"],
    ] {
        let mut command = project.command(&arguments);
        let said = text(&command.env_remove("WAFER_STATE_MACHINE").output().unwrap());
        let wanted = "in/day=1/part are not read";
        assert!(said.contains(wanted), "{arguments:?}: {said}");
    }
}

#[test]
fn empty_names_of_partitions_are_nulls() {
    for (data_type, wanted) in [("utf8", json!("x")), ("int64", json!(7))] {
        let make = |columns: &str| {
            let project = project(columns, "path = \"in\"");
            let value = wanted.as_str().unwrap_or("7");
            for (id, folder) in [(1, "t=".to_owned()), (2, format!("t={value}"))] {
                let folder = project.path().join("in").join(folder);
                std::fs::create_dir_all(&folder).unwrap();
                let row = format!("id,at\n{id},2024-01-01T00:00:00Z\n");
                std::fs::write(folder.join("a.csv"), row).unwrap();
            }
            project.ok(&["run", "g"]);
            project
        };
        let nullable = make(&format!("id:int64, at:timestamp, t:{data_type}?"));
        assert_eq!(values(&nullable, "t"), [Json::Null, wanted.clone()]);
        // A row that needs a value is rejected.
        let needed = make(&format!("id:int64, at:timestamp, t:{data_type}"));
        assert_eq!(values(&needed, "t"), std::slice::from_ref(&wanted));
        let run = &needed.json(&["runs"])[0];
        let rejects = run["rejects"].to_string();
        assert!(rejects.contains("field `t`: is null"), "{run}");
    }
}

#[test]
fn files_may_lack_a_nullable_column_unless_all_do() {
    let columns = "id:int64, at:timestamp, v:float64?";
    let project_of = |path: &str| project(columns, &format!("path = \"{path}\"\nzone = \"UTC\""));
    let both = project_of("old");
    copy(&both, "07-hive", &["old/a.parquet", "old/b.parquet"]);
    both.ok(&["run", "g"]);
    assert_eq!(values(&both, "v"), [Json::Null, json!(2.5)]);
    let divided = project_of("old");
    copy(&divided, "07-hive", &["old/a.parquet", "old/b.parquet"]);
    divided.ok(&["run", "g", "--processes", "2"]);
    assert_eq!(values(&divided, "v"), [Json::Null, json!(2.5)]);
    let one = project_of("old/a.parquet");
    copy(&one, "07-hive", &["old/a.parquet"]);
    let said = one.fails(&["run", "g"]);
    assert!(said.contains("has no column `v` (float64)"), "{said}");
    let csv = project_of("*.csv");
    csv.write("a.csv", "id,at\n1,2024-01-01T00:00:00Z\n");
    csv.write("b.csv", "id,at,vv\n2,2024-01-01T00:00:00Z,1\n");
    let said = csv.fails(&["run", "g"]);
    assert!(
        said.contains("no file of the source has a column `v`"),
        "{said}"
    );
    csv.write("b.csv", "id,at,v\n2,2024-01-01T00:00:00Z,1\n");
    csv.ok(&["run", "g"]);
    assert_eq!(values(&csv, "v"), [Json::Null, json!(1.0)]);
}

#[test]
fn columns_of_nulls_alone_are_nulls_of_the_type_that_is_read() {
    let project = project(COLUMNS, "path = \"day*.parquet\"\nzone = \"UTC\"");
    copy(
        &project,
        "04-all-null-column",
        &["day1.parquet", "day2.parquet"],
    );
    project.ok(&["run", "g"]);
    let wanted = [json!("a"), json!("b"), Json::Null, Json::Null];
    assert_eq!(values(&project, "note"), wanted);
}

#[test]
fn odd_columns_of_parquet_files_are_read_by_their_names_or_reported() {
    let odd = |file: &str| {
        let settings = format!("path = \"{file}\"\nzone = \"UTC\"");
        let project = project(Pass::default().columns, &settings);
        copy(&project, "35-parquet-names", &[file]);
        project
    };
    for (file, ids, rejected) in [
        // A struct before the wanted columns has fields of the same names.
        ("nested.parquet", json!([1, 2]), 0),
        ("nullid.parquet", json!([1]), 1),
        ("nullat.parquet", json!([1]), 1),
        ("u64.parquet", json!([2]), 1),
    ] {
        let project = odd(file);
        project.ok(&["run", "g"]);
        assert_eq!(json!(values(&project, "id")), ids, "{file}");
        let run = &project.json(&["runs"])[0];
        assert_eq!(run["rows_rejected"], rejected, "{run}");
        let is_named = run["rejects"].to_string().contains(file);
        assert_eq!(is_named, rejected > 0, "{run}");
    }
    let said = odd("dup.parquet").fails(&["run", "g"]);
    assert!(
        said.contains("dup.parquet has two columns `v`; rename one"),
        "{said}"
    );
}

#[test]
fn parquet_files_of_several_programs_hold_their_rows() {
    const YEAR: &str = "2024-01-01T00:00:00Z";
    const JUNE: &str = "2024-06-01T00:00:00Z";
    const FAR: &str = "us since 1970 is outside of the years 1 to 9999";
    let both = || json!([[1, YEAR, 1.5], [2, YEAR, 2.5]]);
    let one = || json!([[1, YEAR, 1.5]]);
    for (file, kept, rejected) in [
        ("polars", both(), None),
        ("duck", one(), None),
        ("textat", both(), None),
        (
            "dateat",
            json!([[1, YEAR, 1.5], [2, "2024-01-02T00:00:00Z", 2.5]]),
            None,
        ),
        ("intv", json!([[1, YEAR, 1.0], [2, YEAR, 2.0]]), None),
        // The index of the data frame is a column.
        ("index", one(), Some("1: field `at`: is null".to_owned())),
        // pandas writes integers beside nulls as floats.
        ("floatid", one(), Some("1: field `id`: is null".to_owned())),
        ("nan", one(), Some("1: field `id`: is null".to_owned())),
        (
            "r_farat",
            json!([[1, JUNE, 1.5], [3, JUNE, null]]),
            Some(format!("1: field `at`: 253402300800000000 {FAR}")),
        ),
    ] {
        let file = format!("{file}.parquet");
        let settings = format!("path = \"{file}\"\nzone = \"UTC\"");
        let project = project(Pass::default().columns, &settings);
        copy(&project, "35-parquet-names", &[&file]);
        let said = text(&project.command(&["run", "g"]).output().unwrap());
        let mut rows = project.offline_rows("g_v1");
        rows.sort_by_key(|row| row["id"].as_i64());
        let rows = rows.iter();
        let rows = rows.map(|row| json!([row["id"], row["event_timestamp"], row["v"]]));
        assert_eq!(rows.collect::<Json>(), kept, "{file}: {said}");
        let count = format!(" {} rejected", u8::from(rejected.is_some()));
        let place = rejected.map_or_else(String::new, |rejected| format!("{file}:{rejected}"));
        assert!(said.contains(&count) && said.contains(&place), "{said}");
    }
    // A time that no row is ordered by.
    let columns = "id:int64, at:timestamp, valid_until:timestamp?";
    let far = project(columns, "path = \"r_far.parquet\"\nzone = \"UTC\"");
    copy(&far, "35-parquet-names", &["r_far.parquet"]);
    let said = text(&far.command(&["run", "g"]).output().unwrap());
    let wanted = format!("r_far.parquet:1: field `valid_until`: 9223372036854775807 {FAR}");
    assert!(said.contains(&wanted), "{said}");
    assert_eq!(values(&far, "valid_until"), [json!(JUNE), Json::Null]);

    let settings = "path = \"bool.parquet\"\nzone = \"UTC\"";
    let other = project(Pass::default().columns, settings);
    copy(&other, "35-parquet-names", &["bool.parquet"]);
    let said = other.fails(&["run", "g"]);
    let wanted = "bool.parquet: column `v` is Boolean, and the function reads float64";
    assert!(said.contains(wanted), "{said}");
}

/// The start of 2024, in nanoseconds after 1970.
const NEW_YEAR: i64 = 1_704_067_200_000_000_000;

/// Writes three rows, whose ids follow on `before`, as a Parquet file with four row groups, two of
/// which are empty. Their times are nanoseconds with a zone: as many microseconds after the start
/// of 2024 as the id says.
fn write_row_groups(path: &Path, before: i64, properties: WriterProperties) {
    let message = "message m { required int64 id; required int64 at (TIMESTAMP(NANOS,true)); required int64 v; }";
    let schema = Arc::new(parse_message_type(message).unwrap());
    let file = std::fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    let groups: [&[i64]; 4] = [&[], &[1, 2], &[], &[3]];
    for numbers in groups {
        let ids: Vec<i64> = numbers.iter().map(|number| before + number).collect();
        let times: Vec<i64> = ids.iter().map(|id| NEW_YEAR + id * 1_000).collect();
        let mut group = writer.next_row_group().unwrap();
        for values in [&ids[..], &times[..], &ids[..]] {
            let mut column = group.next_column().unwrap().unwrap();
            let written = column.typed::<Int64Type>().write_batch(values, None, None);
            written.unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
}

#[test]
fn parquet_files_of_every_compression_and_version_of_pages_hold_their_rows() {
    let project = project("id:int64, at:timestamp, v:int64?", "path = \"*.parquet\"");
    let mut rows = 0;
    for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
        for compression in [
            Compression::UNCOMPRESSED,
            Compression::SNAPPY,
            Compression::GZIP(Default::default()),
            Compression::BROTLI(Default::default()),
            Compression::LZ4_RAW,
            Compression::ZSTD(Default::default()),
        ] {
            let properties = WriterProperties::builder()
                .set_writer_version(version)
                .set_compression(compression);
            let path = project.path().join(format!("{rows:02}.parquet"));
            write_row_groups(&path, rows, properties.build());
            rows += 3;
        }
    }
    project.ok(&["run", "g"]);
    let ids: Vec<i64> = (1..=rows).collect();
    assert_eq!(json!(values(&project, "v")), json!(ids));
    let time = |id: &i64| wafer_core::Timestamp::from_micros(NEW_YEAR / 1_000 + id).to_string();
    let times: Vec<String> = ids.iter().map(time).collect();
    assert_eq!(json!(values(&project, "event_timestamp")), json!(times));
}

#[test]
fn decimals_are_read_as_declared_or_refused() {
    let source = "path = \"in.parquet\"\nzone = \"UTC\"\n";
    let plain = project("id:int64, at:timestamp, price:float64?", source);
    copy(&plain, "06-decimal", &["in.parquet"]);
    let said = plain.fails(&["run", "g"]);
    assert!(
        said.contains("decimals = { price = \"float64\" }"),
        "{said}"
    );
    for (columns, declared, wanted) in [
        ("price:float64?", "float64", [json!(19.99), Json::Null]),
        ("price:utf8?", "text", [json!("19.99"), Json::Null]),
    ] {
        let columns = format!("id:int64, at:timestamp, {columns}");
        let settings = format!("{source}decimals = {{ price = \"{declared}\" }}");
        let project = project(&columns, &settings);
        copy(&project, "06-decimal", &["in.parquet"]);
        project.ok(&["run", "g"]);
        assert_eq!(values(&project, "price"), wanted);
    }
    // A whole number is exact as an integer; others are not, and neither are more digits than the
    // type keeps.
    let cents = [100, 150, 10_000_000_000, 200].into_iter().map(Some);
    let cents: PrimitiveArray<Decimal128Type> = cents.collect();
    let cents: ArrayRef = Arc::new(cents.with_precision_and_scale(10, 2).unwrap());
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
    let times = TimestampMicrosecondArray::from(vec![0; 4]).with_timezone("UTC");
    let columns = [
        ("id", ids),
        ("at", Arc::new(times) as ArrayRef),
        ("n", cents),
    ];
    let integers = project("id:int64, at:timestamp, n:int64?", "path = \"in.parquet\"");
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    write_batch(&integers.path().join("in.parquet"), &batch);
    let output = integers.command(&["run", "g"]).output().unwrap();
    let said = text(&output);
    for wanted in [
        "in.parquet:1: field `n`: 1.50 is not int64, because it has a fraction",
        "in.parquet:2: field `n`: 100000000.00 has more digits than its type keeps, which is decimal(10, 2)",
    ] {
        assert!(said.contains(wanted), "{said}");
    }
    assert_eq!(values(&integers, "n"), [1, 2]);
}

#[test]
fn typed_times_without_a_zone_are_refused_until_it_is_declared() {
    let local = ["2024-07-01T12:00:00Z", "2024-03-31T02:30:00Z"];
    let micros = local.map(|time| {
        let time: wafer_core::Timestamp = time.parse().unwrap();
        time.as_micros()
    });
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(micros.to_vec()));
    let columns = [("id", Arc::clone(&ids)), ("at", times), ("v", ids)];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let project = project("id:int64, at:timestamp, v:int64?", "path = \"in.parquet\"");
    write_batch(&project.path().join("in.parquet"), &batch);
    let said = project.fails(&["run", "g"]);
    assert!(
        said.contains(
            "its times name no time zone, so say which one they are in: `zone = \"UTC\"`"
        ),
        "{said}"
    );
    project.replace("path = ", "zone = \"Europe/Berlin\"\npath = ");
    project.ok(&["apply"]);
    let output = project.command(&["run", "g"]).output().unwrap();
    let said = text(&output);
    assert!(
        said.contains("in.parquet:1: field `at`: 2024-03-31 02:30:00 does not exist"),
        "{said}"
    );
    assert_eq!(
        values(&project, "event_timestamp"),
        ["2024-07-01T10:00:00Z"]
    );
    // Another zone is another reading of the same file, which is read again.
    project.replace("Europe/Berlin", "UTC");
    project.ok(&["apply"]);
    project.ok(&["run", "g"]);
    assert_eq!(values(&project, "event_timestamp"), local);
}

#[test]
fn settings_of_files_that_do_not_fit_are_refused() {
    for (settings, wanted) in [
        (
            "path = \"a.parquet\"\ndelimiter = \";\"",
            "sources.s.delimiter: is for CSV files",
        ),
        (
            "path = \"a.ndjson\"\nheader = [\"a\"]",
            "sources.s.header: is for CSV files",
        ),
        (
            "path = \"a.parquet\"\nencoding = \"utf-16\"",
            "sources.s.encoding: is for text files",
        ),
        (
            "path = \"a.csv\"\ndelimiter = \"||\"",
            "sources.s.delimiter: is one ASCII character",
        ),
        (
            "path = \"a.csv\"\nquote = \",\"",
            "sources.s.delimiter: is also the `quote`",
        ),
        (
            "path = \"a.csv\"\nheader = [\"a\", \"a\"]",
            "sources.s.header: has `a` twice",
        ),
        (
            "path = \"a.csv\"\nzone = \"CEST\"",
            "`CEST` is not a time zone",
        ),
        (
            "path = \"a.csv\"\ntimes = { at = {} }",
            "sources.s.times.at: says nothing",
        ),
        (
            "path = \"a.csv\"\ntimes = { at = { unit = \"s\", format = \"%s\" } }",
            "sources.s.times.at: has both `unit` and `format`",
        ),
        (
            "path = \"a.csv\"\ntimes = { at = { format = \"%H:%M\" } }",
            "does not say a whole time",
        ),
        (
            "path = \"a.csv\"\ntimes = { at = { format = \"%Y%m%d\" } }",
            "sources.s.times.at.format: times of the format `%Y%m%d` name no time zone",
        ),
        (
            "path = \"a.csv\"\ndecimals = { id = \"text\" }",
            "sources.s.decimals.id: it is read as int64, and this is for utf8",
        ),
    ] {
        let pass = Pass {
            columns: COLUMNS,
            source: &format!("type = \"files\"\n{settings}"),
            ..Pass::default()
        };
        let said = pass.project().fails(&["plan"]);
        assert!(said.contains(wanted), "{settings}: {said}");
    }
}
