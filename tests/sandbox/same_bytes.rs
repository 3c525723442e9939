//! The same bytes in all three modes: every function of the repository is called on the same rows
//! in batch runs (with several chunkings and formats), on events and in requests.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::ArrayRef;
use serde_json::{Value as Json, json};
use wafer_core::{ColumnBuilder, Duration, Schema, cell_to_json, encode_row};
use wafer_platform::{FileOptions, SourceDef, SourceKind, SourceReader};
use wafer_runtime::{Deadline, Function, FunctionSpec, Output, Runtime, RuntimeConfig};
use wafer_store::{ArtifactFolder, RemoteFiles, UnreachableFiles};

use crate::harness::{Project, flights_components, objects, repository};

/// Returns an access to remote files that fails, because all sources here are local files.
fn local_only() -> Arc<dyn RemoteFiles> {
    Arc::new(UnreachableFiles {
        form: "s3://BUCKET/FOLDER",
        reason: "the functions are tested on files of this machine".to_owned(),
    })
}

/// Loads a function with its assets and parameters.
fn load(name: &str, assets: &[(&str, &str)], parameters: &[(&str, &str)]) -> Function {
    let runtime = Runtime::new(RuntimeConfig::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let artifacts = ArtifactFolder::open(folder.path()).unwrap();
    let data = repository().join("functions/flights/data");
    let spec = FunctionSpec {
        name: name.to_owned(),
        component: std::fs::read(flights_components().join(format!("{name}.wasm")))
            .unwrap()
            .into(),
        assets: assets
            .iter()
            .map(|(n, f)| ((*n).to_owned(), std::fs::read(data.join(f)).unwrap().into()))
            .collect(),
        parameters: parameters
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect(),
        ..FunctionSpec::default()
    };
    let registered = runtime.register(&spec, &artifacts).unwrap();
    runtime
        .load(name, &registered, &spec.limits, &artifacts)
        .unwrap()
}

/// Returns the first rows of a file, as input columns of a function.
fn rows_of(file: &str, function: &Function, most: usize) -> Vec<ArrayRef> {
    let source = SourceDef {
        kind: SourceKind::Files,
        files: Some(
            repository()
                .join("functions/flights/data")
                .join(file)
                .into(),
        ),
        format: None,
        delay: Duration::ZERO,
        lateness: None,
        skew: Duration::ZERO,
        times: BTreeMap::new(),
        zone: None,
        decimals: BTreeMap::new(),
        options: FileOptions::default(),
        doc: String::new(),
    };
    let inputs = &function.signature().inputs;
    let mut builders: Vec<_> = inputs
        .fields()
        .iter()
        .map(|f| ColumnBuilder::new(&f.data_type, most))
        .collect();
    let mut rows = 0;
    SourceReader::open(&source, "rows", inputs.fields(), &local_only())
        .unwrap()
        .for_each_row(|columns, row| {
            if rows < most {
                for (builder, column) in builders.iter_mut().zip(columns) {
                    builder.append_json(&cell_to_json(column, row)).unwrap();
                }
            }
            rows += 1;
        })
        .unwrap();
    builders.iter_mut().map(ColumnBuilder::finish).collect()
}

/// Adds the bytes of each output row, by the input row that it came from, and those of row errors.
fn bytes(output: &Output, first: usize, all: &mut BTreeMap<usize, Vec<Vec<u8>>>) {
    for (row, message) in &output.row_errors {
        all.entry(first + *row as usize)
            .or_default()
            .push(message.clone().into_bytes());
    }
    let failed = |row: usize| output.row_errors.iter().any(|(r, _)| *r as usize == row);
    for row in 0..output.rows {
        let source = output.source_row(row);
        if !failed(source) {
            let mut packed = Vec::new();
            encode_row(&output.columns, row, &mut packed);
            all.entry(first + source).or_default().push(packed);
        }
    }
}

fn in_chunks(
    function: &Function,
    columns: &[ArrayRef],
    size: usize,
    deadline: Deadline,
) -> BTreeMap<usize, Vec<Vec<u8>>> {
    let rows = columns[0].len();
    let mut all = BTreeMap::new();
    for first in (0..rows).step_by(size) {
        let chunk: Vec<ArrayRef> = columns
            .iter()
            .map(|c| c.slice(first, size.min(rows - first)))
            .collect();
        bytes(&function.invoke(&chunk, deadline).unwrap(), first, &mut all);
    }
    all
}

/// Calls a function on the same rows in several chunkings, and row by row as requests do.
fn check_chunkings(function: &Function, columns: &[ArrayRef]) {
    let whole = in_chunks(function, columns, columns[0].len(), Deadline::Batch);
    assert!(!whole.is_empty());
    for size in [1, 3, 64, 1_000] {
        assert_eq!(
            in_chunks(function, columns, size, Deadline::Batch),
            whole,
            "chunks of {size}"
        );
    }
    assert_eq!(in_chunks(function, columns, 1, Deadline::Request), whole);
    // A function that is loaded again from the same component gives the same bytes.
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (function, columns) = (function.clone(), columns.to_vec());
            std::thread::spawn(move || in_chunks(&function, &columns, 500, Deadline::Batch))
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), whole, "on several threads at once");
    }
}

#[test]
fn every_function_gives_the_same_bytes_in_every_chunking() {
    let zones = [("zones", "airport_zones.csv")];
    let outcome = load("flight_outcome", &zones, &[]);
    check_chunkings(&outcome, &rows_of("flights.parquet", &outcome, 3_000));
    let weather = load("hourly_weather", &[], &[]);
    check_chunkings(&weather, &rows_of("weather.parquet", &weather, 3_000));
    let airport = load(
        "airport_profile",
        &[],
        &[("valid_from_seconds", "1356998400")],
    );
    check_chunkings(&airport, &rows_of("airports.parquet", &airport, 3_000));
    let departure = load("departure_features", &[], &[]);
    let made = departures(&departure);
    check_chunkings(&departure, &made);
}

/// Returns real departures, joined with their airports as a view joins them.
fn departures(function: &Function) -> Vec<ArrayRef> {
    let airports = read_json(
        "airports.parquet",
        &load("airport_profile", &[], &[("valid_from_seconds", "0")]),
    );
    let airports: BTreeMap<String, Json> = airports
        .into_iter()
        .map(|row| (row["faa"].as_str().unwrap().to_owned(), row))
        .collect();
    let text = std::fs::read_to_string(repository().join("functions/flights/data/departures.csv"))
        .unwrap();
    let fields = function.signature().inputs.fields();
    let mut builders: Vec<_> = fields
        .iter()
        .map(|f| ColumnBuilder::new(&f.data_type, 0))
        .collect();
    for line in text.lines().skip(1) {
        let [_, _, _, origin, dest, departure, arrival]: [&str; 7] =
            line.split(',').collect::<Vec<_>>().try_into().unwrap();
        for (field, builder) in fields.iter().zip(&mut builders) {
            let (place, name) = field.name.split_once('_').unwrap();
            let value = match field.name.as_str() {
                "scheduled_departure" => json!(departure),
                "scheduled_arrival" => json!(arrival),
                _ => {
                    let airport = airports.get(if place == "origin" { origin } else { dest });
                    airport.map_or(Json::Null, |a| match name {
                        "utc_offset_minutes" => json!(a["tz"].as_i64().unwrap() * 60),
                        "observes_dst" => json!(a["dst"] == "A"),
                        other => a[other].clone(),
                    })
                }
            };
            builder.append_json(&value).unwrap();
        }
    }
    builders.iter_mut().map(ColumnBuilder::finish).collect()
}

fn names(schema: &Schema) -> Vec<&str> {
    schema.fields().iter().map(|f| f.name.as_str()).collect()
}

fn read_json(file: &str, function: &Function) -> Vec<Json> {
    let columns = rows_of(file, function, 10_000);
    objects(&names(&function.signature().inputs), &columns)
}

/// Returns rows of a pipeline's source as lines of JSON.
fn lines(file: &str, function: &Function, most: usize) -> Vec<String> {
    let columns = rows_of(file, function, most);
    let rows = objects(&names(&function.signature().inputs), &columns);
    rows.iter().map(Json::to_string).collect()
}

/// Each pipeline of the project gets the same rows from Parquet, from NDJSON and as events. The
/// offline tables must hold the same bytes.
#[test]
fn pipelines_write_the_same_as_batch_and_as_events() {
    let zones = [("zones", "airport_zones.csv")];
    let seconds = [("valid_from_seconds", "1356998400")];
    for (pipeline, source, file, function) in [
        (
            "plane_outcome",
            "landed_flights",
            "flights",
            load("flight_outcome", &zones, &[]),
        ),
        (
            "airport_weather",
            "weather_reports",
            "weather",
            load("hourly_weather", &[], &[]),
        ),
        (
            "airport",
            "airports",
            "airports",
            load("airport_profile", &[], &seconds),
        ),
    ] {
        let table = format!("{pipeline}_v1");
        let lines = lines(&format!("{file}.parquet"), &function, 1_500);

        let batch = Project::flights();
        let ndjson = batch.write("rows.ndjson", lines.join("\n"));
        batch.replace(&format!("data/{file}.parquet"), "rows.ndjson");
        batch.ok(&["apply"]);
        batch.ok(&["run", pipeline]);
        let expected = batch.offline(&table);
        assert!(!expected.is_empty());

        // The order of the rows in the files is kept with any number of workers.
        let again = Project::flights();
        std::fs::copy(&ndjson, again.path().join("rows.ndjson")).unwrap();
        again.replace(&format!("data/{file}.parquet"), "rows.ndjson");
        again.ok(&["apply"]);
        again.ok(&["run", pipeline, "--workers", "3"]);
        assert_eq!(again.offline(&table), expected);

        // The same rows are pushed in batches of other sizes, and in reverse.
        let events = Project::flights();
        let text = std::fs::read_to_string(events.path().join("wafer.toml")).unwrap();
        if text.contains(&format!("[sources.{source}]\ntype = \"files\"")) {
            events.replace(
                &format!("[sources.{source}]\ntype = \"files\""),
                &format!("[sources.{source}]\ntype = \"stream\""),
            );
        }
        events.ok(&["apply"]);
        let server = events.serve(&[]);
        for batch in lines.rchunks(97) {
            let (status, answer) = server.events(source, &batch.join("\n"));
            assert_eq!((status, &answer["rejected"]), (200, &json!(0)), "{answer}");
        }
        server.stop();
        assert_eq!(events.offline(&table), expected, "{pipeline} as events");
    }
}

/// One-to-one functions must return the same values in HTTP requests as in batch runs.
#[test]
fn requests_answer_the_same_as_batch() {
    let seconds = [("valid_from_seconds", "1356998400")];
    for (name, file, function) in [
        (
            "hourly_weather",
            "weather.parquet",
            load("hourly_weather", &[], &[]),
        ),
        (
            "airport_profile",
            "airports.parquet",
            load("airport_profile", &[], &seconds),
        ),
    ] {
        let columns = rows_of(file, &function, 300);
        check_request(name, &function, &columns);
    }
    let departure = load("departure_features", &[], &[]);
    let columns: Vec<ArrayRef> = departures(&departure)
        .iter()
        .map(|c| c.slice(0, 300))
        .collect();
    check_request("departure_features", &departure, &columns);
}

fn check_request(name: &str, function: &Function, columns: &[ArrayRef]) {
    let fields = function.signature().inputs.fields();
    let request: Vec<String> = fields
        .iter()
        .map(|f| format!("{} = \"{}\"", f.name, f.data_type))
        .collect();
    let component = flights_components().join(format!("{name}.wasm"));
    let project = Project::new(&format!(
        "[project]\nname = \"one\"\n[functions.{name}]\ncomponent = \"{}\"\nparameters = {{ valid_from_seconds = 1356998400 }}\n\
         [views.one]\nfunctions = [\"{name}\"]\nrequest = {{ {} }}\n",
        component.display(),
        request.join(", ")
    ))
    .applied();
    let server = project.serve(&[]);
    let rows = objects(&names(&function.signature().inputs), columns);
    let output = function.invoke(columns, Deadline::Batch).unwrap();
    let expected = objects(&names(&function.signature().outputs), &output.columns);
    assert_eq!(expected.len(), output.rows, "{name}");
    let features = |rows: &[Json]| -> Vec<Json> {
        server
            .features("one", &json!(rows))
            .into_iter()
            .map(|row| row["features"].clone())
            .collect()
    };
    assert_eq!(features(&rows), expected, "{name}, all rows in one request");
    let one_by_one: Vec<Json> = rows
        .iter()
        .take(40)
        .flat_map(|row| features(std::slice::from_ref(row)))
        .collect();
    assert_eq!(
        one_by_one,
        expected[..40],
        "{name}, one request for each row"
    );
}
