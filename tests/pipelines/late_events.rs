//! Events that are late, too late or pushed as history, and `wafer heal`.

use serde_json::json;

use crate::harness::ledger::{entry, ledger, lines, push, sums};
use crate::harness::rows_of;

#[test]
fn late_events_count_and_those_too_late_count_after_healing() {
    let project = ledger("lateness = \"1h\"").applied_with("entries.ndjson", "");
    let now = "2020-01-02T00:00:00Z";
    let at = |time: &str, small| entry("a", time, small, 1.0, "x");
    let summary = push(
        &project,
        &[
            at("2020-01-01T23:50:00Z", 1),
            at("2020-01-01T23:10:00Z", 2),
            at("2020-01-01T22:59:59Z", 3),
            at("2020-01-02T00:04:00Z", 4),
            at("2020-01-02T00:06:00Z", 5),
        ],
        now,
    );
    assert_eq!(
        ["accepted", "late", "too_late", "older", "early", "rejected"]
            .map(|name| summary[name].clone()),
        [json!(4), json!(2), json!(1), json!(1), json!(1), json!(1)],
        "{summary}"
    );
    assert_eq!(sums(&project, "a", now)["sums_count_lifetime"], 2);
    assert_eq!(project.offline("sums_v1").len(), 3);
    assert_eq!(project.offline("sums_v1_late").len(), 1);
    let healed = project.json(&["heal", "sums", "--clock", "2020-01-03T00:00:00Z,0"]);
    assert_eq!(healed["healed"], 1);
    let again = project.json(&["heal", "sums", "--clock", "2020-01-03T00:00:00Z,0"]);
    assert_eq!(again["healed"], 0);
    assert_eq!(project.offline("sums_v1_late").len(), 0);
    assert_eq!(
        sums(&project, "a", "2020-01-03T00:00:00Z")["sums_small_sum_lifetime"],
        10
    );
    // The event is visible from the healing on, not before.
    project.write(
        "labels.csv",
        "key_a,key_b,event_timestamp\na,1,2020-01-02T23:59:59Z\na,1,2020-01-03T00:00:00Z\n",
    );
    project.training_set("account", "labels.csv", "out.parquet");
    let rows = rows_of(&project.path().join("out.parquet"));
    assert_eq!(
        [
            &rows[0]["sums_small_sum_lifetime"],
            &rows[1]["sums_small_sum_lifetime"]
        ],
        [&json!(7), &json!(10)]
    );
}

#[test]
fn pushed_history_is_available_at_its_event_time_plus_the_delay() {
    let project = ledger("delay = \"10m\"").applied_with("entries.ndjson", "");
    let file = project.write(
        "push.ndjson",
        lines(&[entry("a", "2020-01-01T00:00:00Z", 1, 1.0, "x")]),
    );
    project.ok(&[
        "push",
        "entries",
        file.to_str().unwrap(),
        "--backfill",
        "--clock",
        "2020-06-01T00:00:00Z,0",
    ]);
    let row = &project.offline_rows("sums_v1")[0];
    assert_eq!(row["available_timestamp"], "2020-01-01T00:10:00Z");
    assert_eq!(row["created_timestamp"], "2020-06-01T00:00:00Z");
}
