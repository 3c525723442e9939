//! Times are stored exactly or refused: integers need a declared unit, and what cannot be stored is
//! rejected by row.

use std::path::Path;
use std::sync::Arc;

use arrow_array::types::{
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use arrow_array::{ArrayRef, Float64Array, Int64Array, PrimitiveArray, RecordBatch};
use serde_json::{Value as Json, json};

use crate::harness::pass::{COLUMNS, Pass, case, pass};
use crate::harness::{Project, text, write_batch};

const NEW_YEAR: &str = "2024-01-01T00:00:00Z";

/// Makes a project whose source declares the unit of `at`.
fn project_of_unit(file: &str, unit: &str) -> Project {
    let project = Pass {
        source: &format!(
            "type = \"files\"\npath = \"{file}\"\ntimes = {{ at = {{ unit = \"{unit}\" }} }}"
        ),
        ..Pass::default()
    };
    project.project().applied()
}

/// The event times of the rows of `g`, in the order of their ids.
fn times(project: &Project) -> Vec<String> {
    let mut rows = project.offline_rows("g_v1");
    rows.sort_by_key(|row| row["id"].as_i64());
    let time = |row: &Json| row["event_timestamp"].as_str().unwrap().to_owned();
    rows.iter().map(time).collect()
}

#[test]
fn integers_in_ndjson_and_csv_are_times_of_the_declared_unit_only() {
    let csv = |name: &str| {
        let rows = String::from_utf8(case(name)).unwrap();
        let rows = rows.lines().map(|line| {
            let row: Json = serde_json::from_str(line).unwrap();
            format!("{},{},{}\n", row["id"], row["at"], row["v"])
        });
        format!("id,at,v\n{}", rows.collect::<String>()).into_bytes()
    };
    for (name, unit, first) in [
        ("03-epoch-ms/in.ndjson", "ms", "1704067200000"),
        ("03-epoch-ms/sec.ndjson", "s", "1704067200"),
    ] {
        for (file, line, content) in [("in.ndjson", 1, case(name)), ("in.csv", 2, csv(name))] {
            let project = pass(COLUMNS, file);
            project.write(file, &content);
            let said = project.fails(&["run", "g"]);
            assert!(
                said.contains(&format!("{file}:{line}: field `at`: ")),
                "{said}"
            );
            assert!(
                said.contains(first) && said.contains("declare the unit"),
                "{said}"
            );
            assert!(project.offline("g_v1").is_empty());

            let project = project_of_unit(file, unit);
            project.write(file, &content);
            project.ok(&["run", "g"]);
            assert_eq!(times(&project), [NEW_YEAR, "2024-01-02T00:00:00Z"]);
        }
    }
}

#[test]
fn times_with_a_unit_that_do_not_fit_are_rejected_with_file_row_and_value() {
    let project = project_of_unit("in.ndjson", "ns");
    let rows = [
        json!({"id": 1, "at": 1_704_067_200_000_000_000_i64}),
        json!({"id": 2, "at": 1_704_067_200_000_000_001_i64}),
        json!({"id": 3, "at": "2024-01-01T00:00:00.0000001Z"}),
        // A text says what it means, and an integer may be written as a float.
        json!({"id": 4, "at": NEW_YEAR}),
        json!({"id": 5, "at": 0.0}),
        json!({"id": 6, "at": "0000-01-01T00:00:00Z"}),
    ];
    let rows: String = rows.iter().map(|row| format!("{row}\n")).collect();
    project.write("in.ndjson", rows);
    let output = project.command(&["run", "g"]).output().unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    for wanted in [
        "in.ndjson:2: field `at`: 1704067200000000001 ns since 1970 has digits beyond microseconds",
        "in.ndjson:3: field `at`: `2024-01-01T00:00:00.0000001Z` has digits beyond microseconds",
        "in.ndjson:6: field `at`: `0000-01-01T00:00:00Z` is outside of the years 1 to 9999",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    assert_eq!(
        times(&project),
        [NEW_YEAR, NEW_YEAR, "1970-01-01T00:00:00Z"]
    );
}

#[test]
fn units_that_do_not_fit_the_columns_are_refused_by_key() {
    for (times, wanted) in [
        (
            "{ ta = { unit = \"ms\" } }",
            "sources.s.times.ta: no function over the source reads a time of this name; did you mean `at`?",
        ),
        (
            "{ id = { unit = \"ms\" } }",
            "sources.s.times.id: it is read as int64, and only a timestamp",
        ),
        ("{ at = { unit = \"sec\" } }", "unknown value `sec`"),
        ("{ at = {} }", "sources.s.times.at: says nothing"),
    ] {
        let project = Pass {
            source: &format!("type = \"files\"\npath = \"in.csv\"\ntimes = {times}"),
            ..Pass::default()
        };
        let said = project.project().fails(&["apply"]);
        assert!(said.contains(wanted), "{said}");
    }
}

/// Writes a file with ids from 1 on and the given times.
fn write_times(path: &Path, times: ArrayRef) {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(1..=times.len() as i64));
    let values: ArrayRef = Arc::new(Float64Array::from(vec![0.5; times.len()]));
    let columns = [("id", ids), ("at", times), ("v", values)];
    write_batch(path, &RecordBatch::try_from_iter(columns).unwrap());
}

#[test]
fn typed_times_that_overflow_are_rejected_by_row() {
    const DAY: i64 = 86_400;
    const MAX: i64 = i64::MAX;
    let new_year = 19_723 * DAY;
    let rows = |of_a_second: i64| {
        let time = new_year * of_a_second;
        vec![time, MAX, time]
    };
    let seconds = PrimitiveArray::<TimestampSecondType>::from(rows(1));
    let millis = PrimitiveArray::<TimestampMillisecondType>::from(rows(1_000));
    let micros = PrimitiveArray::<TimestampMicrosecondType>::from(rows(1_000_000));
    let nanos = PrimitiveArray::<TimestampNanosecondType>::from(rows(1_000_000_000));
    let columns: [(&str, ArrayRef, &str); 4] = [
        (
            "s",
            Arc::new(seconds.with_timezone("UTC")),
            "is outside of the years 1 to 9999",
        ),
        (
            "ms",
            Arc::new(millis.with_timezone("UTC")),
            "is outside of the years 1 to 9999",
        ),
        (
            "us",
            Arc::new(micros.with_timezone("UTC")),
            "is outside of the years 1 to 9999",
        ),
        (
            "ns",
            Arc::new(nanos.with_timezone("UTC")),
            "has digits beyond microseconds",
        ),
    ];
    for (unit, column, wanted) in columns {
        let project = pass(COLUMNS, "in.parquet");
        write_times(&project.path().join("in.parquet"), column);
        let output = project.command(&["run", "g"]).output().unwrap();
        let said = text(&output);
        assert!(output.status.success(), "{said}");
        let wanted = format!("in.parquet:1: field `at`: {MAX} {unit} since 1970 {wanted}");
        assert!(said.contains(&wanted), "{wanted}: {said}");
        assert_eq!(times(&project), [NEW_YEAR, NEW_YEAR]);
    }
}

/// The message for a time that a label or a row of a file cannot have, without its place.
fn outside_of_years(value: &str) -> String {
    format!("{value} since 1970 is outside of the years 1 to 9999")
}

#[test]
fn rows_with_the_sentinel_of_no_end_are_rejected_with_row_and_value_and_others_kept() {
    const JUNE: &str = "2024-06-01T00:00:00Z";
    let until = "valid_until:timestamp?";
    for (file, column, rejected, kept) in [
        (
            "in",
            until,
            &[(1, "valid_until", "9223372036854775807 ms")][..],
            Some((NEW_YEAR, JUNE)),
        ),
        (
            "at",
            until,
            &[
                (1, "at", "253402300800000 ms"),
                (2, "at", "-62135596800001 ms"),
            ],
            Some((JUNE, NEW_YEAR)),
        ),
        (
            "atmax",
            until,
            &[(1, "at", "9223372036854775807 ms")],
            Some((JUNE, NEW_YEAR)),
        ),
        (
            "us",
            until,
            &[
                (1, "valid_until", "9223372036854775807 us"),
                (2, "valid_until", "300000000000000000 us"),
            ],
            Some((NEW_YEAR, JUNE)),
        ),
        (
            "d64",
            "day:date?",
            &[(0, "day", "-53757322531200000 ms")],
            None,
        ),
    ] {
        let project = Pass {
            columns: &format!("id:int64, at:timestamp, {column}"),
            source: "type = \"files\"\npath = \"in.parquet\"\nzone = \"UTC\"",
            pipeline: "max_rejects = 1",
            ..Pass::default()
        };
        let project = project.project().applied();
        let content = case(&format!("02-ms-sentinel/{file}.parquet"));
        project.write("in.parquet", content);
        let output = project.command(&["run", "g"]).output().unwrap();
        let said = text(&output);
        assert!(output.status.success(), "{file}: {said}");
        for (row, field, value) in rejected {
            let wanted = outside_of_years(value);
            let wanted = format!("in.parquet:{row}: field `{field}`: {wanted}");
            assert!(said.contains(&wanted), "{file}: {wanted}: {said}");
        }
        let count = format!(" {} rejected", rejected.len());
        assert!(said.contains(&count), "{file}: {said}");
        let rows = project.offline_rows("g_v1");
        let rows = rows.iter().map(|row| {
            assert_eq!(row["id"], 1, "{file}");
            (&row["event_timestamp"], &row["valid_until"])
        });
        let kept = kept.map(|(event, until)| (json!(event), json!(until)));
        let kept = kept.iter().map(|(event, until)| (event, until));
        assert!(rows.eq(kept), "{file}: {:?}", project.offline_rows("g_v1"));
    }
}

#[test]
fn labels_with_the_sentinel_of_no_end_are_refused_by_row_on_all_ways_in() {
    let rows = "id,at,v\n1,2024-01-01T00:00:00Z,0.5\n";
    let project = pass(COLUMNS, "in.csv").applied_with("in.csv", rows);
    project.ok(&["run", "g"]);
    let server = project.serve(&[]);
    for (name, media_type, value) in [
        (
            "labels.parquet",
            "application/vnd.apache.parquet",
            "9223372036854775807 ms",
        ),
        (
            "labels.arrow",
            "application/vnd.apache.arrow.file",
            "9223372036854 s",
        ),
    ] {
        let content = case(&format!("02-ms-sentinel/{name}"));
        project.write(name, &content);
        let (labels, out) = (project.at(name), project.at("out.csv"));
        let command = ["training-set", "v", "--labels", &labels, "--out", &out];
        let said = project.fails(&command);
        assert!(said.contains("its times name no time zone"), "{said}");
        let wanted = outside_of_years(value);
        let wanted = format!("column `event_timestamp`, row 1: {wanted}");
        let said = project.fails(&[&command[..], &["--zone", "UTC"]].concat());
        assert!(said.contains(&wanted), "{said}");
        let path = "/v1/views/v/training-set?zone=UTC";
        let (status, answer) = server.post(path, media_type, &content);
        assert_eq!(status, 400, "{answer}");
        assert!(answer.to_string().contains(&wanted), "{answer}");
    }
}

#[test]
fn a_typed_column_of_integers_needs_a_unit() {
    let integers = || Arc::new(Int64Array::from(vec![1_704_067_200_000, i64::MAX, 0])) as ArrayRef;
    let project = pass(COLUMNS, "in.parquet");
    write_times(&project.path().join("in.parquet"), integers());
    let said = project.fails(&["run", "g"]);
    assert!(
        said.contains(
            "in.parquet: column `at` is Int64, and the function reads timestamp; say in which unit"
        ) && said.contains("times = { at = { unit = \"ms\" } }"),
        "{said}"
    );
    project.replace(
        "path = \"in.parquet\"",
        "path = \"in.parquet\"\ntimes = { at = { unit = \"ms\" } }",
    );
    project.ok(&["apply"]);
    let output = project.command(&["run", "g"]).output().unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("in.parquet:1: field `at`: 9223372036854775807 ms"),
        "{said}"
    );
    assert_eq!(times(&project), [NEW_YEAR, "1970-01-01T00:00:00Z"]);
}

#[test]
fn integers_that_are_written_as_floats_are_times_of_a_format_in_every_format_of_files() {
    for (file, line, content) in [
        ("in.csv", 3, "id,at,v\n1,20240101.0,0.5\n2,20240101.5,0.5\n"),
        (
            "in.ndjson",
            2,
            "{\"id\":1,\"at\":20240101.0}\n{\"id\":2,\"at\":20240101.5}\n",
        ),
        ("in.parquet", 1, ""),
    ] {
        let project = Pass {
            source: &format!(
                "type = \"files\"\npath = \"{file}\"\n\
                 times = {{ at = {{ format = \"%Y%m%d\", zone = \"UTC\" }} }}"
            ),
            ..Pass::default()
        };
        let project = project.project().applied();
        match content.is_empty() {
            true => write_times(
                &project.path().join(file),
                Arc::new(Float64Array::from(vec![20_240_101.0, 20_240_101.5])),
            ),
            false => drop(project.write(file, content)),
        }
        let output = project.command(&["run", "g"]).output().unwrap();
        let said = text(&output);
        assert!(output.status.success(), "{said}");
        let place = format!("{file}:{line}: field `at`: ");
        assert!(
            said.contains(&place) && said.contains("20240101.5"),
            "{said}"
        );
        assert_eq!(times(&project), [NEW_YEAR], "{file}");
    }
}

#[test]
fn integers_in_events_requests_labels_and_arguments_are_refused_without_a_unit() {
    let stream = |times: &str| {
        let project = Pass {
            source: &format!("type = \"stream\"\n{times}"),
            pipeline: r#"
[views.w]
request = { asked_at = "timestamp" }
lookups = [{ group = "g", as = "g" }]
"#,
            ..Pass::default()
        };
        let project = project.project().applied();
        project.write("events.ndjson", "{\"id\":1,\"at\":1704067200}\n");
        project
    };
    let push = |project: &Project| {
        let file = project.at("events.ndjson");
        let output = project.command(&["push", "s", &file]).output().unwrap();
        text(&output)
    };
    let plain = stream("");
    let said = push(&plain);
    assert!(
        said.contains("field `at`: 1704067200 is a number, and nothing says"),
        "{said}"
    );
    let declared = stream("times = { at = { unit = \"s\" } }");
    let said = push(&declared);
    assert!(said.contains("1 accepted"), "{said}");
    assert_eq!(times(&declared), [NEW_YEAR]);

    let said = declared.fails(&["get", "w", "id=1", "asked_at=1704067200"]);
    assert!(said.contains("is a number, and nothing says"), "{said}");
    let said = declared.fails(&["run", "g", "--from", "1704067200000"]);
    assert!(said.contains("1704067200000 is a number"), "{said}");
    for (name, content) in [
        ("l.csv", "id,event_timestamp\n1,1704067200\n"),
        ("l.ndjson", "{\"id\":1,\"event_timestamp\":1704067200}\n"),
    ] {
        declared.write(name, content);
        let (labels, out) = (declared.at(name), declared.at("out.csv"));
        let said = declared.fails(&["training-set", "v", "--labels", &labels, "--out", &out]);
        assert!(
            said.contains("is a number, and nothing says"),
            "{name}: {said}"
        );
    }
    // Labels of a typed format are refused by row as well.
    let max = PrimitiveArray::<TimestampMillisecondType>::from(vec![0, i64::MAX]);
    let max: ArrayRef = Arc::new(max.with_timezone("UTC"));
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 1]));
    let labels = RecordBatch::try_from_iter([("id", ids), ("event_timestamp", max)]).unwrap();
    write_batch(&declared.path().join("l.parquet"), &labels);
    let (labels, out) = (declared.at("l.parquet"), declared.at("out.csv"));
    let said = declared.fails(&["training-set", "v", "--labels", &labels, "--out", &out]);
    assert!(
        said.contains("column `event_timestamp`, row 1: 9223372036854775807 ms"),
        "{said}"
    );
}

#[test]
fn times_without_all_their_digits_are_refused_on_all_ways_in() {
    const SHORT: &str = "2024-01-01 1:5";
    let refused = format!("`{SHORT}` is not a time");
    let csv = format!("id,at,v\n1,2024-01-01 00:00,0.5\n2,{SHORT},0.5\n");
    let ndjson = [(1, NEW_YEAR), (2, SHORT)];
    let ndjson = ndjson.map(|(id, at)| format!("{}\n", json!({"id": id, "at": at, "v": 0.5})));
    let ndjson = ndjson.concat();
    for (file, line, content) in [("in.csv", 3, &csv), ("in.ndjson", 2, &ndjson)] {
        let project = Pass {
            source: &format!("type = \"files\"\npath = \"{file}\"\nzone = \"UTC\""),
            ..Pass::default()
        };
        let project = project.project().applied_with(file, content);
        let output = project.command(&["run", "g"]).output().unwrap();
        let said = text(&output);
        assert!(output.status.success(), "{said}");
        let wanted = format!("{file}:{line}: field `at`: {refused}");
        assert!(said.contains(&wanted), "{wanted}: {said}");
        assert_eq!(times(&project), [NEW_YEAR], "{file}");
    }

    let project = Pass {
        source: "type = \"stream\"\nzone = \"UTC\"",
        pipeline: r#"
[views.w]
request = { asked_at = "timestamp" }
lookups = [{ group = "g", as = "g" }]
"#,
        ..Pass::default()
    };
    let project = project.project().applied_with("events.ndjson", &ndjson);
    let events = project.at("events.ndjson");
    let output = project.command(&["push", "s", &events]).output().unwrap();
    assert!(text(&output).contains(&refused), "{}", text(&output));
    assert_eq!(times(&project), [NEW_YEAR]);
    let asked = format!("asked_at={SHORT}");
    let labels = format!("id,event_timestamp\n1,{SHORT}\n");
    project.write("labels.csv", labels);
    let (labels, out) = (project.at("labels.csv"), project.at("out.csv"));
    let ways: [&[&str]; 3] = [
        &["get", "w", "id=1", &asked],
        &["backfill", "g", "--from", SHORT, "--to", "2024-01-02"],
        &["training-set", "v", "--labels", &labels, "--out", &out],
    ];
    for arguments in ways {
        let said = project.fails(arguments);
        assert!(said.contains(&refused), "{arguments:?}: {said}");
    }
}

#[test]
fn times_that_feast_pushes_are_read_as_the_source_declares() {
    let noon = json!("2024-07-01 12:00:00");
    let leap = json!("2016-12-31 23:59:60");
    for (declared, accepted, refused) in [
        // By the conventions of Feast: UTC, and seconds.
        (
            "",
            vec![
                (noon.clone(), "2024-07-01T12:00:00Z"),
                (json!("2024-07-01T12:00:00+02:00"), "2024-07-01T10:00:00Z"),
                (json!(1_719_828_000), "2024-07-01T10:00:00Z"),
            ],
            vec![(leap.clone(), "is a leap second")],
        ),
        (
            "zone = \"Europe/Berlin\"",
            vec![
                (noon.clone(), "2024-07-01T10:00:00Z"),
                (json!("2024-07-01T12:00:00Z"), "2024-07-01T12:00:00Z"),
            ],
            vec![
                (leap, "is a leap second"),
                (json!(1_719_828_000), "is a number, and nothing says"),
            ],
        ),
        (
            "times = { at = { unit = \"d\" } }",
            vec![(json!(19_723), NEW_YEAR)],
            vec![(noon, "names no time zone")],
        ),
        (
            "times = { at = { format = \"%d/%m/%Y %H:%M\", zone = \"UTC\" } }",
            vec![(json!("01/07/2024 10:00"), "2024-07-01T10:00:00Z")],
            vec![],
        ),
    ] {
        let project = Pass {
            source: &format!("type = \"stream\"\n{declared}"),
            ..Pass::default()
        };
        let project = project.project().applied();
        let server = project.serve(&[]);
        let push = |ids: Vec<usize>, times: Vec<&Json>| {
            let df = json!({"id": ids, "at": times});
            let body = json!({"push_source_name": "s", "df": df}).to_string();
            server.post("/push", "application/json", body)
        };
        for (time, wanted) in &refused {
            let (status, answer) = push(vec![0], vec![time]);
            assert_eq!(status, 400, "{declared} {time}: {answer}");
            let said = answer["error"]["message"].as_str().unwrap();
            assert!(said.contains(wanted), "{declared} {time}: {said}");
        }
        let all = accepted.iter().map(|(time, _)| time).collect();
        let (status, answer) = push((1..=accepted.len()).collect(), all);
        assert_eq!(status, 200, "{declared}: {answer}");
        server.stop();
        let wanted: Vec<&str> = accepted.iter().map(|(_, wanted)| *wanted).collect();
        assert_eq!(times(&project), wanted, "{declared}");
    }
}
