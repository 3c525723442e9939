//! Skew: values of the request log that differ from what a training set has.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, StringArray};
use serde_json::{Value as Json, json};

use crate::harness::accounts::{infer, logged, request, route_and_log, trapping_model};
use crate::harness::ledger::{entry, lines};
use crate::harness::request_log::{log_table, served, wait};
use crate::harness::{are_embedded, text};

#[test]
fn skew_counts_late_knowledge_as_timing_and_altered_values_as_mismatches() {
    let project = logged(1, &["r1"]);
    let server = served(&project);
    assert_eq!(infer(&server, "line", &request(&["k001", "k002"])).0, 200);
    wait(&server, 2);
    server.stop();
    // An event from before the request is pushed only afterwards.
    let history = entry("k001", "2020-01-31T23:50:00Z", 50, 7.0, "z");
    let file = project.write("history.ndjson", lines(&[history]));
    let clock = "2020-02-01T01:00:00Z,0";
    let file = file.display().to_string();
    project.ok(&["push", "entries", &file, "--backfill", "--clock", clock]);
    let report = project.json(&["skew", "line"]);
    assert_eq!(report["mismatches"], 0, "{report}");
    let release = &report["releases"][0];
    assert_eq!(release["other_identity"], json!({"last": 1, "sums": 1}));
    let values = release["values"].as_array().unwrap();
    let value = |name: &str| values.iter().find(|value| value["name"] == name).unwrap();
    let last = value("last_small");
    assert_eq!(
        (&last["mismatches"], &last["timing"]),
        (&json!(0), &json!(1))
    );
    let example = &last["examples"][0];
    assert_eq!(
        (&example["logged"], &example["offline"]),
        (&json!(1), &json!(50))
    );
    assert_eq!(value("sums_count_lifetime")["timing"], 1);
    assert_eq!(value("prediction")["timing"], 0);

    if !are_embedded() {
        return;
    }
    // A logged value is changed, so that it differs from what was served.
    let table = project
        .path()
        .join(".wafer/offline")
        .join(log_table(&project));
    alter(&table, "last_small", |column| {
        let column = column.as_primitive::<Int64Type>().iter();
        Arc::new(column.map(|v| Some(v? + 1)).collect::<Int64Array>())
    });
    let output = project
        .command(&["skew", "line", "--output", "json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let report: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["mismatches"], 1, "{report}");
    let values = report["releases"][0]["values"].as_array().unwrap();
    let value = values
        .iter()
        .find(|value| value["name"] == "last_small")
        .unwrap();
    assert_eq!(
        (&value["mismatches"], &value["timing"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(value["examples"][0]["is_mismatch"], true);
    assert_eq!(value["examples"][0]["offline"], 2);
}

#[test]
fn skew_names_the_logged_row_on_which_its_model_panics() {
    if !are_embedded() {
        return;
    }
    let project = trapping_model();
    project.ok(&["release", "create", "--model", "line@1"]);
    route_and_log(&project, &["r1"]);
    let server = served(&project);
    let mut request = request(&["k001", "k002", "k003"]);
    request["id"] = json!("asked");
    let (status, answer) = infer(&server, "line", &request);
    assert_eq!(status, 200, "{answer}");
    wait(&server, 3);
    server.stop();
    assert_eq!(project.json(&["skew", "line"])["mismatches"], 0);
    let table = project
        .path()
        .join(".wafer/offline")
        .join(log_table(&project));
    alter(&table, "key_a", |column| {
        let column = column.as_string::<i32>().iter();
        let altered = column.map(|key| match key {
            Some("k002") => Some("trap"),
            other => other,
        });
        Arc::new(altered.collect::<StringArray>())
    });
    let output = project.command(&["skew", "line"]).output().unwrap();
    assert!(!output.status.success());
    let said = text(&output);
    let wanted = "logged row 1 of request `asked`: function `offset` trapped: ";
    assert!(said.contains(wanted), "{said}");
}

/// Rewrites the only file of a table, with a changed column.
fn alter(table: &std::path::Path, column: &str, change: impl Fn(&ArrayRef) -> ArrayRef) {
    let mut open = vec![table.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("_delta_log") {
                open.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "parquet")
            {
                files.push(path);
            }
        }
    }
    let [file] = files.as_slice() else {
        panic!("{files:?}");
    };
    let before = std::fs::metadata(file).unwrap().len();
    let reader = std::fs::File::open(file).unwrap();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(reader);
    let batches: Vec<_> = reader
        .unwrap()
        .build()
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let schema = batches[0].schema();
    let out = std::fs::File::create(file).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(out, Arc::clone(&schema), None).unwrap();
    for batch in batches {
        let place = schema.index_of(column).unwrap();
        let mut columns = batch.columns().to_vec();
        columns[place] = change(&columns[place]);
        let batch = arrow_array::RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
        writer.write(&batch).unwrap();
    }
    writer.close().unwrap();
    // The log of the table has the size of the file, which must be right.
    let after = std::fs::metadata(file).unwrap().len();
    for entry in std::fs::read_dir(table.join("_delta_log")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let size = |bytes| format!("\"size\":{bytes},");
        std::fs::write(path, text.replace(&size(before), &size(after))).unwrap();
    }
}
