//! A store that an earlier binary wrote.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value as Json, json};

use crate::harness::accounts::{infer, request};
use crate::harness::ledger::entry;
use crate::harness::{Project, are_embedded, repository};

const FOLDER: &str = "tests/stores/old_store";

/// An event of the store, as it was sent. Without an id it is known by the digest of its text.
const KNOWN: &str = r#"{"key_a": "b", "key_b": 1, "happened_at": "2020-01-12T23:59:00Z", "small": 200, "amount": 6.5, "wild": null, "label_text": "out"}"#;

/// Returns the project as the earlier binary left it.
fn old_project() -> Project {
    let project = Project::new("");
    let unpacked = Command::new("tar")
        .arg("-xzf")
        .arg(repository().join(FOLDER).join("ledger-0.1.tar.gz"))
        .arg("-C")
        .arg(project.path())
        .status()
        .unwrap();
    assert!(unpacked.success());
    project
}

/// Returns the number of generations of definitions among the artifacts: files of Zstandard.
fn generations(project: &Project) -> usize {
    let blobs = project.path().join(".wafer/artifacts/blobs");
    let entries = |folder: &Path| {
        std::fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().path())
    };
    let files = entries(&blobs).flat_map(|folder| entries(&folder));
    let is_compressed = |path: &PathBuf| {
        let content = std::fs::read(path).unwrap();
        content.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
    };
    files.filter(is_compressed).count()
}

#[test]
fn a_store_of_an_earlier_binary_opens_with_its_values() {
    if !are_embedded() {
        return;
    }
    let project = old_project();
    let expected = std::fs::read(repository().join(FOLDER).join("expected.json")).unwrap();
    let expected: Vec<Json> = serde_json::from_slice(&expected).unwrap();
    assert_eq!(expected.len(), 12);
    for case in &expected {
        let arguments: Vec<&str> = case["command"]
            .as_array()
            .unwrap()
            .iter()
            .map(|argument| argument.as_str().unwrap())
            .collect();
        let mut output = project.json(&arguments);
        if arguments == ["endpoints"] {
            // The earlier binary had no such setting, which has its default then.
            let routing = output["line"]["routing"].as_object_mut().unwrap();
            assert_eq!(routing.remove("log_within"), Some(json!(60_000_000)));
        }
        assert_eq!(output, case["output"], "{arguments:?}");
    }

    // A training set comes out the same, byte by byte.
    let sets = project.json(&["training-sets"]);
    let id = sets[0]["id"].as_str().unwrap();
    // It is of a version in which rows alone decided what is written together.
    assert_eq!(sets[0]["is_cut_by_bytes"], Json::Null);
    let again = project.path().join("again.parquet");
    let again = again.to_str().unwrap();
    project.ok(&["training-set", "--recreate", id, "--out", again]);

    // What was applied under another path is applied again, and nothing else changes. It was an
    // object for each definition, and is one artifact.
    assert_eq!(generations(&project), 0);
    project.ok(&["apply"]);
    assert_eq!(generations(&project), 1);
    let server = project.serve(&["--clock", "2020-01-13T01:00:00Z,0"]);
    let (status, answer) = infer(&server, "line", &request(&["a", "b"]));
    assert_eq!(status, 200, "{answer}");
    // intercept 10, twice the last amount, and the number of events.
    assert_eq!(answer["outputs"][0]["data"], json!([38.0, 40.0]));

    // The identities of events that were acknowledged are still known.
    let new = entry("b", "2020-01-13T00:30:00Z", 201, 6.5, "new");
    let (status, answer) = server.events("entries", &format!("{KNOWN}\n{new}\n"));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        (&answer["duplicate"], &answer["accepted"]),
        (&json!(1), &json!(1))
    );
    server.stop();

    // Those in the outbox reach the tables.
    let tables = project.json(&["tables"]);
    let rows = |name: &str| {
        let tables = tables.as_array().unwrap().iter();
        let mut found = tables.filter(|table| table["table"] == name);
        found.next().unwrap()["rows"].as_u64().unwrap()
    };
    assert_eq!((rows("entries_events"), rows("last_entry_v1")), (5, 38));
    // Only the row of the new event has an order of arrival.
    let stored = project.offline_rows("last_entry_v1");
    let (ordered, before): (Vec<&Json>, Vec<&Json>) =
        stored.iter().partition(|row| row["arrival_order"].is_i64());
    assert_eq!((ordered.len(), before.len()), (1, 37));
    assert_eq!(ordered[0]["small"], 201);
}
