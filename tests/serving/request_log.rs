//! The request log of an endpoint: which rows it has, and how it is joined with labels.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::harness::accounts::{PUSHED, accounts, infer, logged, push_and_release, request};
use crate::harness::ledger::{entry, lines};
use crate::harness::request_log::{log_table, logged_rows, served, wait};

#[test]
fn requests_and_shadows_are_logged_and_compared() {
    let project = logged(3, &["r1=50", "r2=50", "--shadow", "r3", "--key", "key_a"]);
    let server = served(&project);
    let keys: Vec<String> = (0..12).map(|n| format!("k{n:03}")).collect();
    let mut keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    keys.push("unknown");
    let mut asked = request(&keys);
    asked["id"] = json!("one");
    let (status, answer) = infer(&server, "line", &asked);
    assert_eq!(status, 200, "{answer}");
    let answered: Vec<&str> = answer["parameters"]["versions"]
        .as_str()
        .unwrap()
        .split(',')
        .collect();
    wait(&server, 2 * 13);
    // The second request comes later, with other windows and after another event.
    server.set_clock("2020-02-01T00:25:00Z");
    let more = entry("k001", "2020-02-01T00:10:00Z", 99, 1e300, "z");
    assert_eq!(server.events("entries", &lines(&[more])).0, 200);
    asked["id"] = json!("two");
    assert_eq!(infer(&server, "line", &asked).0, 200);
    // A request that names a release is not sent to shadow releases.
    asked["id"] = json!("three");
    assert_eq!(infer(&server, "line/versions/r2", &asked).0, 200);
    wait(&server, 5 * 13);
    server.stop();

    let rows = logged_rows(&project);
    assert_eq!(rows.len(), 5 * 13);
    let of = |request: &str, release: &str| -> Vec<&Json> {
        let rows = rows.iter();
        rows.filter(|row| row["log_request"] == request && row["log_release"] == release)
            .collect()
    };
    for (number, release) in answered.iter().enumerate() {
        let row = of("one", release);
        let row = row.iter().find(|row| row["log_row"] == number).unwrap();
        assert_eq!(row["key_a"], keys[number]);
        assert_eq!(row["log_shadow"], false);
        assert_eq!(row["event_timestamp"], "2020-02-01T00:00:00Z");
        assert_eq!(row["prediction"], release[1..].parse::<f64>().unwrap());
        if keys[number] == "unknown" {
            assert_eq!(
                (&row["last_small"], &row["sums_identity"]),
                (&Json::Null, &Json::Null)
            );
        } else {
            assert_eq!(row["last_small"], number);
            assert_eq!(row["last_event_timestamp"], "2020-01-31T23:30:00Z");
            assert!(row["sums_identity"].is_string(), "{row}");
        }
    }
    assert_eq!(of("one", "r3").len(), 13);
    assert!(
        of("two", "r3")
            .iter()
            .all(|row| row["log_shadow"] == true && row["prediction"] == 3.0)
    );
    assert_eq!((of("three", "r2").len(), of("three", "r3").len()), (13, 0));

    // The tables have nothing that was not known when the requests were served.
    let report = project.json(&["skew", "line"]);
    assert_eq!(
        (&report["rows"], &report["mismatches"]),
        (&json!(65), &json!(0)),
        "{report}"
    );
    for release in report["releases"].as_array().unwrap() {
        for value in release["values"].as_array().unwrap() {
            assert_eq!(
                (&value["mismatches"], &value["timing"]),
                (&json!(0), &json!(0)),
                "{value}"
            );
        }
    }
    let report = project.json(&["skew", "line", "--from", "2020-02-01T00:01:00Z"]);
    assert_eq!(report["rows"], 39);
    let said = project.fails(&["skew", "line", "--to", "2020-01-01"]);
    assert!(
        said.contains("endpoint `line` has logged nothing in that time"),
        "{said}"
    );
    assert!(
        project
            .fails(&["skew", "lien"])
            .contains("did you mean `line`?")
    );
    let said = project.ok(&["skew", "line"]);
    assert!(
        said.contains(
            "65 rows compared: every value that was made of the same rows and events is equal"
        ),
        "{said}"
    );
}

/// Labels that become known later are joined with the request log, as other programs would do.
#[test]
fn labels_are_joined_to_the_request_log() {
    let project = logged(2, &["r1=50", "r2=50", "--key", "key_a"]);
    let server = served(&project);
    let keys: Vec<String> = (0..12).map(|n| format!("k{n:03}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let mut asked = request(&keys);
    asked["id"] = json!("one");
    assert_eq!(infer(&server, "line", &asked).0, 200);
    server.stop();
    // The log also serves as a file of labels: a training set of it has the values that were
    // served.
    let out = project.at("logged.parquet");
    let columns = "event_timestamp,key_a,key_b,log_request,log_row,log_release,prediction";
    project.ok(&[
        "export",
        &log_table(&project),
        "--out",
        &out,
        "--columns",
        columns,
    ]);
    project.training_set("account", &out, "joined.parquet");
    let served: BTreeMap<String, Json> = logged_rows(&project)
        .into_iter()
        .map(|row| (row["key_a"].as_str().unwrap().to_owned(), row))
        .collect();
    let joined = crate::harness::rows_of(&project.path().join("joined.parquet"));
    assert_eq!(joined.len(), 12);
    for row in &joined {
        let served = &served[row["key_a"].as_str().unwrap()];
        for column in [
            "prediction",
            "log_release",
            "last_small",
            "sums_count_1d",
            "sums_small_mean_1d",
        ] {
            assert!(row.get(column).is_some(), "{column}: {row}");
            assert_eq!(row[column], served[column], "{column}");
        }
    }
}

#[test]
fn the_request_log_has_all_or_none_of_a_sampled_key() {
    let project = accounts(PUSHED);
    push_and_release(&project, 1);
    project.ok(&["endpoints", "set", "line", "r1", "--log", "40"]);
    let server = project.serve(&[]);
    let keys: Vec<String> = (0..100).map(|n| format!("k{n:03}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    for part in [&keys[..], &keys[..50], &keys[50..], &keys[..1]] {
        assert_eq!(infer(&server, "line", &request(part)).0, 200);
    }
    server.stop();
    let rows = logged_rows(&project);
    let count = |key: &str| rows.iter().filter(|row| row["key_a"] == key).count();
    let counts: Vec<usize> = keys.iter().skip(1).map(|key| count(key)).collect();
    assert!(
        counts.iter().all(|count| [0, 2].contains(count)),
        "{counts:?}"
    );
    let sampled = counts.iter().filter(|count| **count > 0).count();
    assert!((20..=60).contains(&sampled), "{sampled}");
    assert!([0, 3].contains(&count("k000")));
    // Nothing is logged when the percentage is 0.
    project.ok(&["endpoints", "set", "line", "r1", "--log", "0"]);
    let server = project.serve(&[]);
    assert_eq!(infer(&server, "line", &request(&keys)).0, 200);
    server.stop();
    assert_eq!(logged_rows(&project).len(), rows.len());
}

#[test]
fn a_deleted_entity_is_removed_from_the_request_log() {
    let project = logged(1, &["r1"]);
    let clock = "2020-02-01T00:00:00Z,0";
    let server = project.serve(&["--clock", clock]);
    let ask = |keys: &[&str]| assert_eq!(infer(&server, "line", &request(keys)).0, 200);
    ask(&["k001", "k002", "k001"]);
    wait(&server, 3);
    let delete = [
        "delete",
        "account",
        "key_a=k001",
        "key_b=1",
        "--clock",
        clock,
    ];
    let deletion = project.json(&delete);
    assert_eq!(deletion["rows"][log_table(&project)], 2, "{deletion}");
    // These requests are not later than the deletion, and are written to the log after it.
    ask(&["k001", "k003"]);
    wait(&server, 5);
    server.stop();
    let rows = logged_rows(&project);
    let mut keys: Vec<&str> = rows
        .iter()
        .filter_map(|row| row["key_a"].as_str())
        .collect();
    keys.sort_unstable();
    assert_eq!(keys, ["k002", "k003"]);
}
