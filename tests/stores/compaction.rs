//! Compaction of offline tables.

use std::time::Duration;

use serde_json::json;

use crate::harness::ledger::{entry, ledger};

#[test]
fn tables_are_compacted_beside_writers() {
    let project = ledger("").applied_with("entries.ndjson", "");
    let server = project.serve(&["--clock", "2020-01-01T00:00:00Z,0"]);
    let mut pushed = 0;
    for round in 0..6 {
        for _ in 0..5 {
            let time = format!("2020-01-01T00:{:02}:{:02}Z", pushed / 60, pushed % 60);
            server.set_clock(&time);
            assert_eq!(
                server
                    .events(
                        "entries",
                        &entry(["b", "a"][pushed % 2], &time, pushed as i64, 1.0, "x").to_string()
                    )
                    .0,
                200
            );
            pushed += 1;
            std::thread::sleep(Duration::from_millis(if round < 3 { 250 } else { 20 }));
        }
        if round > 2 {
            project.ok(&["compact", "--horizon", "0s"]);
        }
    }
    server.stop();
    let before = project.offline("sums_v1");
    assert_eq!(before.len(), pushed);
    let report = project.json(&["compact", "sums_v1", "--horizon", "0s"]);
    assert_eq!(report[0]["table"], "sums_v1");
    assert_eq!(project.offline("sums_v1"), before);
    let table = project.json(&["tables"]);
    let table = table
        .as_array()
        .unwrap()
        .iter()
        .find(|t| t["table"] == "sums_v1")
        .unwrap();
    assert_eq!(
        (&table["files"], &table["rows"], &table["entities"]),
        (&json!(1), &json!(pushed), &json!(2)),
        "{table}"
    );
    // The merged file is sorted by key and time.
    let rows = project.offline_rows("sums_v1");
    let order: Vec<(String, String)> = rows
        .iter()
        .map(|row| (row["key_a"].to_string(), row["event_timestamp"].to_string()))
        .collect();
    assert!(order.is_sorted(), "{order:?}");
    if crate::harness::are_embedded() {
        let on_disk = count_files(&project.path().join(".wafer/offline/sums_v1/events"));
        assert_eq!(on_disk, 1, "old files are gone");
    }
    let said = project.fails(&["compact", "sum_v1"]);
    assert!(
        said.contains("there is no definition of table `sum_v1`"),
        "{said}"
    );
}

/// Returns the number of files below a folder.
fn count_files(folder: &std::path::Path) -> usize {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| if path.is_dir() { count_files(&path) } else { 1 })
        .sum()
}
