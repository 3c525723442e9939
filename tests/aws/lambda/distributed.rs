//! Distributed runs, whose parts a state machine sends to the Lambda function as tasks.

use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::harness::lambda::Lambda;
use crate::harness::ledger::{entries_on_s3, entry, ledger};
use crate::harness::{Project, are_on_aws};

/// The tasks of a distributed run may be repeated, come out of order, and be interrupted.
#[test]
fn runs_are_distributed_among_invocations() {
    if !are_on_aws() {
        return;
    }
    let divided = ledger("");
    let whole = ledger("");
    let entries = |file: i64, salt: i64| -> String {
        let rows = (0..50).map(|n| {
            let time = format!("2020-01-{:02}T{:02}:00:00Z", n % 28 + 1, file);
            let key = format!("k{}", n % 7);
            format!("{}\n", entry(&key, &time, n + salt, n as f64, "x"))
        });
        rows.chain(["{oops\n".to_owned()]).collect()
    };
    for project in [&divided, &whole] {
        entries_on_s3(project, "in", (0..5).map(|file| entries(file, 0)));
        project.ok(&["apply"]);
    }
    let lambda = Lambda::start(&divided, &[]);
    let task = |name: &str, more: Json| lambda.task(name, more);
    let fails = |name: &str, more: Json| {
        let (kind, answer) = lambda.invoke(json!({"wafer": {name: more}}));
        assert_eq!(kind, "error", "{answer}");
        let text = |field: &str| answer[field].as_str().unwrap().to_owned();
        (text("errorType"), text("errorMessage"))
    };
    let plan = |pipeline: &str| {
        task(
            "plan",
            json!({"pipeline": pipeline, "partition_bytes": 1, "execution": "e"}),
        )
    };
    for pipeline in ["sums", "last_entry"] {
        let planned = plan(pipeline);
        assert_eq!(planned["partitions"], json!([0, 1, 2, 3, 4]));
        let run = &planned["run"];
        assert_eq!(plan(pipeline), planned, "asked once more");
        // No other process can run the pipeline meanwhile.
        let (kind, said) = fails("plan", json!({"pipeline": pipeline}));
        assert_eq!(kind, "Wafer.Conflict");
        assert!(said.contains("is being run by distributed run"), "{said}");
        let said = divided.fails(&["run", pipeline]);
        assert!(said.contains("is being run by distributed run"), "{said}");
        // Partitions come in any order and some of them twice, and the commit needs all of them.
        for partition in [4, 2, 0, 2, 1] {
            task("partition", json!({"run": run, "partition": partition}));
        }
        let (kind, said) = fails("commit", json!({"run": run}));
        assert_eq!(kind, "Wafer.Conflict");
        assert!(said.contains("4 of 5 partitions"), "{said}");
        task("partition", json!({"run": run, "partition": 3}));
        for _ in 0..2 {
            let committed = task("commit", json!({"run": run}));
            assert_eq!(committed["partitions"], json!([0, 1, 2, 3, 4]));
        }
        for partition in [3, 3, 0, 1, 4, 2, 0] {
            task("online", json!({"run": run, "partition": partition}));
        }
        let done = task("finish", json!({"run": run}));
        assert_eq!(done["ran"]["state"], "succeeded", "{done}");
        assert_eq!(task("finish", json!({"run": run})), done, "asked once more");
        let (kind, _) = fails("commit", json!({"run": run}));
        assert_eq!(kind, "Wafer.Conflict", "it is over");
        let one = whole.json(&["run", pipeline]);
        for count in ["rows_read", "rows_written", "rows_rejected", "generation"] {
            assert_eq!(done["ran"][count], one[count], "{count}");
        }
        let said = divided.ok(&["run", pipeline]);
        assert!(said.contains("nothing changed"), "{said}");
        assert_eq!(plan(pipeline), json!({"run": null, "partitions": []}));
    }
    let vectors = |project: &Project| -> Vec<Json> {
        let vector = |n: i64| {
            let key = format!("key_a=k{n}");
            let clock = ["--clock", "2020-01-30T00:00:00Z,0"];
            project.json(&[&["get", "account", &key, "key_b=1"], &clock[..]].concat())
        };
        (0..7).map(|n| vector(n)["features"].clone()).collect()
    };
    let same = |what: &str| {
        assert_eq!(
            divided.offline("sums_v1"),
            whole.offline("sums_v1"),
            "{what}"
        );
        assert_eq!(vectors(&divided), vectors(&whole), "{what}");
    };
    same("at first");
    // Other content replaces the rows of the interval. The run fails first, and is continued.
    for project in [&divided, &whole] {
        project.write_object("in/2.ndjson", entries(2, 1_000));
    }
    let run = plan("sums")["run"].clone();
    task("partition", json!({"run": run, "partition": 1}));
    let cause = r#"{"errorMessage": "the sky fell"}"#;
    task(
        "fail",
        json!({"run": run, "error": {"Error": "x", "Cause": cause}}),
    );
    let runs = divided.json(&["runs"]);
    assert_eq!(runs[0]["error"], "the sky fell", "{}", runs[0]);
    let planned = plan("sums");
    assert_eq!(planned["run"], run, "what was done of it stays done");
    for partition in 0..5 {
        task("partition", json!({"run": run, "partition": partition}));
    }
    // The interval had other rows before, so that the group is materialized as a whole.
    assert_eq!(task("commit", json!({"run": run}))["partitions"], json!([]));
    task("finish", json!({"run": run}));
    whole.ok(&["run", "sums"]);
    same("after a change");
    // A run is stopped when its definitions change.
    divided.write_object("in/3.ndjson", entries(3, 9));
    let run = plan("last_entry")["run"].clone();
    divided.replace("[groups.last_entry]", "[groups.last_entry]\nexpectations = [{ column = \"small\", not_null = true, policy = \"warn\" }]");
    divided.ok(&["apply"]);
    std::thread::sleep(Duration::from_millis(1_100));
    let (kind, said) = fails("partition", json!({"run": run, "partition": 0}));
    assert_eq!(kind, "Wafer.Conflict");
    assert!(
        said.contains("definitions of pipeline `last_entry` changed"),
        "{said}"
    );
}
