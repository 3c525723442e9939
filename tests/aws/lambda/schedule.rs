//! Schedules, which the Lambda function runs on the task `tick`.

use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::harness::lambda::{Lambda, count};
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
