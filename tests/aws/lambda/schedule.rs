//! Schedules, which the Lambda function runs on the task `tick`.

use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::harness::lambda::{Lambda, count, request_v2};
use crate::harness::ledger::{event, ledger};
use crate::harness::{are_on_aws, wait_for};

#[test]
fn a_function_reads_applied_definitions_and_runs_the_schedule() {
    if !are_on_aws() {
        return;
    }
    let project = ledger("").applied_with("entries.ndjson", &format!("{}\n", event("a", 1)));
    let lambda = Lambda::start(&project, &[]);
    assert_eq!(count(&lambda, "a"), Json::Null);
    project.replace(
        "function = \"ledger\"\ngroup = \"sums\"",
        "function = \"ledger\"\ngroup = \"sums\"\nschedule = { cron = \"0 0 * * *\", delay = \"1h\", catch_up = 2 }",
    );
    project.ok(&["apply"]);
    // A server with an early clock makes the schedule look as if it had been applied long ago.
    let server = project.serve(&["--clock", "2020-01-02T12:00:00Z,0"]);
    wait_for("the schedule", || {
        project.json(&["schedules"])[0]["state"]["done"] == "2020-01-02T00:00:00Z"
    });
    drop(server);
    std::thread::sleep(Duration::from_millis(1_100));
    let tick = json!({"wafer": {"tick": {"pipeline": "sums"}}});
    let answer = lambda.ok(tick.clone());
    let ran = answer["ran"].as_array().unwrap();
    assert_eq!(ran.len(), 2, "as many as are caught up: {answer}");
    assert!(
        ran.iter().all(|run| run["state"] == "succeeded"),
        "{answer}"
    );
    assert_eq!(lambda.ok(tick)["ran"], json!([]));
    let (kind, said) = lambda.invoke(json!({"wafer": {"tick": {"pipeline": "sum"}}}));
    assert_eq!(kind, "error");
    assert!(said.to_string().contains("did you mean `sums`"), "{said}");
}

#[test]
fn a_look_tells_the_age_of_the_outbox_even_if_it_cannot_be_flushed() {
    if !are_on_aws() {
        return;
    }
    let project = ledger("").applied_with("entries.ndjson", "");
    let lambda = Lambda::start(&project, &[]);
    lambda.task("tick", json!({}));
    wait_for("the age of an empty outbox", || {
        lambda.outbox_ages() == [0.0]
    });
    // Nothing can be appended to a table whose log is damaged.
    let log = "project/offline/last_entry_v1/_delta_log/00000000000000000000.json";
    project.write_object(log, "x");
    let answer = lambda.ok(request_v2(
        "POST",
        "/v1/sources/entries/events",
        &event("a", 1),
    ));
    assert_eq!(answer["statusCode"], 200, "{answer}");
    let (kind, said) = lambda.invoke(json!({"wafer": {"tick": {}}}));
    assert_eq!(kind, "error", "{said}");
    wait_for("the age of what waits", || lambda.outbox_ages().len() == 2);
    assert!(lambda.outbox_ages()[1] > 0.0);
}
