//! Source files that do not fit their function, that are damaged, or that have bad rows.

use crate::harness::{Project, repository, text, write_batch};

#[test]
fn a_source_that_does_not_fit_its_function_is_named() {
    let project = Project::flights();
    project.write("w.csv", "origin,time_hours\nEWR,2013-01-01T00:00:00Z\n");
    project.replace("data/weather.parquet", "w.csv");
    project.ok(&["apply"]);
    let said = project.fails(&["run", "airport_weather"]);
    assert!(said.contains("w.csv has no column `time_hour` (timestamp), which the function reads; did you mean `time_hours`?"), "{said}");
    // This Parquet file has a column of another type.
    let project = Project::flights();
    project.replace("data/weather.parquet", "data/flights.parquet");
    project.ok(&["apply"]);
    assert!(
        project
            .fails(&["run", "airport_weather"])
            .contains("has no column `temp`")
    );
    let airports = Project::flights();
    let path = airports.path().join("typed.parquet");
    write_airports_as_text(&path);
    airports.replace("data/airports.parquet", "typed.parquet");
    airports.ok(&["apply"]);
    let said = airports.fails(&["run", "airport"]);
    assert!(
        said.contains("typed.parquet: column `lat` is Utf8, and the function reads float64"),
        "{said}"
    );
}

/// Writes a file with an airport whose columns are all text.
fn write_airports_as_text(path: &std::path::Path) {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, RecordBatch, StringArray};

    let names = ["faa", "name", "lat", "lon", "alt", "tz", "dst"];
    let column = || Arc::new(StringArray::from(vec!["x"])) as ArrayRef;
    let batch = RecordBatch::try_from_iter(names.map(|name| (name, column()))).unwrap();
    write_batch(path, &batch);
}

#[test]
fn bad_rows_of_a_source_are_rejected_with_file_and_line() {
    let header =
        "origin,time_hour,temp,dewp,humid,wind_dir,wind_speed,wind_gust,precip,pressure,visib";
    let good = |origin: &str, hour: u32| {
        format!("{origin},2013-01-01T{hour:02}:00:00Z,39,26,59,270,10,,0,1012,10")
    };
    let rows = [
        header.to_owned(),
        good("EWR", 1),
        good("EWR", 2).replace(",39,", ",warm,"),
        "EWR,2013-01-01T03:00:00Z,39".to_owned(),
        good("EWR", 4).replace("2013-01-01T04:00:00Z", "yesterday"),
        good("LGA", 5).replace("2013-", "2999-"),
        good("JFK", 6),
    ];
    let project = Project::flights();
    project.write("w.csv", rows.join("\n"));
    project.replace("data/weather.parquet", "w.csv");
    // Most of these rows are bad.
    project.replace(
        "[pipelines.airport_weather]\n",
        "[pipelines.airport_weather]\nmax_rejects = 0.7\n",
    );
    project.ok(&["apply"]);
    let output = project
        .command(&["run", "airport_weather"])
        .output()
        .unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    for wanted in [
        "w.csv:3: field `temp`: `warm` is not float64",
        "w.csv:4: has 3 fields, and the header has 11",
        "w.csv:5: field `time_hour`: `yesterday` is not a time",
        "w.csv:6: event time 2999-01-01T05:00:00Z is in the future",
        "2 written, 4 rejected",
    ] {
        assert!(said.contains(wanted), "{wanted}\n{said}");
    }
    assert_eq!(
        project.json(&["runs"])[0]["rejects"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
}

#[test]
fn a_damaged_source_file_fails_the_run_and_the_table_stays() {
    let project = Project::flights().applied();
    project.ok(&["run", "airport"]);
    let before = project.offline("airport_v1");
    let mut bytes =
        std::fs::read(repository().join("functions/flights/data/airports.parquet")).unwrap();
    let middle = bytes.len() / 2;
    bytes[100..middle].fill(0xAA);
    project.write("airports.parquet", &bytes);
    project.replace("data/airports.parquet", "airports.parquet");
    project.ok(&["apply"]);
    let said = project.fails(&["run", "airport"]);
    assert!(said.contains("airports.parquet cannot be read"), "{said}");
    assert_eq!(project.offline("airport_v1"), before);
    project.write("airports.parquet", &bytes[..1_000]);
    assert!(
        project
            .fails(&["run", "airport"])
            .contains("airports.parquet cannot be read")
    );
    assert_eq!(project.offline("airport_v1"), before);
}
