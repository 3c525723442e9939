//! Schedules: a server runs the intervals of a pipeline as they become due.

use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::harness::ledger::{backfill, count_of, ledger, month, succeeded};
use crate::harness::{Project, Random, rows_of, wait_for};

const DAILY: &str = r#"schedule = { cron = "0 0 * * *", start_after = "30m", delay = "1h", backoff = "1ms", retries = 2, catch_up = 5 }"#;

/// Makes the project `ledger` with events of a month, and a schedule of the pipeline `sums`.
fn ledger_with_schedule(schedule: &str) -> Project {
    let project = ledger("");
    project.replace(
        "function = \"ledger\"\ngroup = \"sums\"",
        &format!("function = \"ledger\"\ngroup = \"sums\"\n{schedule}"),
    );
    project.applied_with("entries.ndjson", &month())
}

#[test]
fn a_server_runs_the_schedule_and_a_backfill_writes_the_same() {
    let project = ledger_with_schedule(DAILY);
    let server = project.serve(&["--clock", "2020-01-03T12:00:00Z,0"]);
    wait_for("the schedule", || {
        project.json(&["schedules"])[0]["state"]["done"] == "2020-01-03T00:00:00Z"
    });
    assert!(
        succeeded(&project).is_empty(),
        "it begins when it is first seen"
    );
    server.set_clock("2020-01-04T00:29:59Z");
    std::thread::sleep(Duration::from_millis(1_200));
    assert!(succeeded(&project).is_empty(), "it waits for its data");
    server.set_clock("2020-01-06T00:30:00Z");
    wait_for("three runs", || succeeded(&project).len() == 3);
    // Newest first: the two missed intervals were run later than the available time of their rows.
    let overran = |run: &Json| run["overran"] == true;
    let late: Vec<bool> = succeeded(&project).iter().map(overran).collect();
    assert_eq!(late, [false, true, true]);
    // When more intervals were missed than `catch_up` allows, the oldest are skipped.
    server.set_clock("2020-01-16T01:00:00Z");
    wait_for("five runs", || {
        project.json(&["schedules"])[0]["state"]["done"] == "2020-01-16T00:00:00Z"
    });
    assert_eq!(project.json(&["schedules"])[0]["state"]["skipped"], 5);
    assert_eq!(succeeded(&project).len(), 8);
    project.ok(&["schedules", "--pause", "sums"]);
    server.set_clock("2020-01-18T01:00:00Z");
    std::thread::sleep(Duration::from_millis(1_200));
    assert_eq!(succeeded(&project).len(), 8, "it is paused");
    project.ok(&["schedules", "--resume", "sums"]);
    wait_for("what was missed", || succeeded(&project).len() == 10);
    server.stop();
    let available = |project: &Project| -> Vec<(String, String)> {
        let rows = project.offline_rows("sums_v1").into_iter();
        let mut times: Vec<(String, String)> = rows
            .map(|row| {
                (
                    row["event_timestamp"].to_string(),
                    row["available_timestamp"].to_string(),
                )
            })
            .collect();
        times.sort();
        times
    };
    let lived = available(&project);
    assert!(
        lived
            .iter()
            .any(|(event, seen)| event.contains("2020-01-05T06:00:00Z")
                && seen.contains("2020-01-06T01:00:00Z")),
        "{lived:?}"
    );
    // A backfill of the same intervals gives rows the same available times, and does not repeat the
    // intervals that were run.
    let report = backfill(&project, "sums", &[]);
    assert_eq!(
        (&report["intervals"], &report["written"]),
        (&json!(30), &json!(20))
    );
    let filled = available(&project);
    assert!(lived.iter().all(|row| filled.contains(row)));
    assert_eq!(filled.len(), 120);
    let said = project.fails(&["run", "sums"]);
    assert!(
        said.contains("has a schedule") && said.contains("wafer backfill"),
        "{said}"
    );
}

#[test]
fn a_schedule_cannot_start_a_run_after_its_rows_are_visible() {
    let project = ledger("");
    project.replace(
        "function = \"ledger\"\ngroup = \"sums\"",
        "function = \"ledger\"\ngroup = \"sums\"\n\
         schedule = { cron = \"0 0 * * *\", start_after = \"2h\", delay = \"1h\" }",
    );
    let said = project.fails(&["plan"]);
    assert!(
        said.contains("pipelines.sums.schedule.start_after: a run that starts 2h after its interval cannot be seen 1h after it"),
        "{said}"
    );
}

/// With `overlap = "skip"`, intervals that become due during a run are skipped.
#[test]
fn a_schedule_can_skip_intervals_that_a_run_overlaps() {
    let project = ledger_with_schedule(
        "schedule = { cron = \"0 * * * *\", overlap = \"skip\", catch_up = 100 }",
    );
    // The clock is so fast that hours pass while one interval is run.
    let server = project.serve(&["--clock", "2020-01-03T00:30:00Z,200000"]);
    wait_for("runs and hours that are left out", || {
        let state = &project.json(&["schedules"])[0]["state"];
        succeeded(&project).len() >= 3 && state["skipped"].as_u64() > Some(10)
    });
    server.stop();
    let state = project.json(&["schedules"])[0]["state"].clone();
    assert_eq!(state["failed"], 0, "{state}");
}

#[test]
fn failed_runs_of_a_schedule_are_retried_and_then_skipped() {
    let project = ledger_with_schedule(DAILY);
    let server = project.serve(&["--clock", "2020-01-03T12:00:00Z,0"]);
    let state = || project.json(&["schedules"])[0]["state"].clone();
    wait_for("the schedule", || !state()["done"].is_null());
    // The runs fail because their file is missing.
    std::fs::remove_file(project.path().join("entries.ndjson")).unwrap();
    server.set_clock("2020-01-04T01:00:00Z");
    wait_for("that it gives up", || state()["failed"] == 1);
    let runs = project.json(&["runs"]);
    assert_eq!(runs.as_array().unwrap().len(), 1);
    assert_eq!(
        (&runs[0]["state"], &runs[0]["attempts"]),
        (&json!("failed"), &json!(3)),
        "{runs}"
    );
    assert!(
        runs[0]["error"]
            .as_str()
            .unwrap()
            .contains("there is no file"),
        "{runs}"
    );
    // With the file in place, the schedule runs the next interval, and the failed one is run by
    // hand.
    project.write("entries.ndjson", month());
    server.set_clock("2020-01-05T01:00:00Z");
    wait_for("the next interval", || succeeded(&project).len() == 1);
    server.stop();
    let report = backfill(&project, "sums", &[]);
    assert_eq!(report["written"], 29);
    assert_eq!(count_of(&project, "a"), 60);
}

/// A run that exceeds its time limit is stopped, and counts as failed.
#[test]
fn runs_of_a_schedule_end_at_their_time_limit() {
    let project =
        ledger_with_schedule(&DAILY.replace("retries = 2", "retries = 0, time_limit = \"1us\""));
    let server = project.serve(&["--clock", "2020-01-03T12:00:00Z,0"]);
    let state = || project.json(&["schedules"])[0]["state"].clone();
    wait_for("the schedule", || !state()["done"].is_null());
    server.set_clock("2020-01-04T01:00:00Z");
    wait_for("that it gives up", || state()["failed"] == 1);
    let runs = project.json(&["runs"]);
    assert!(
        runs[0]["error"]
            .as_str()
            .unwrap()
            .contains("longer than its `time_limit` of 1us"),
        "{runs}"
    );
    assert!(project.offline("sums_v1").is_empty());
    server.stop();
}

/// Two servers share a schedule. Each interval is run by one of them, and when one is killed during
/// a run, the other takes over.
#[test]
fn one_of_two_servers_runs_each_interval_of_a_schedule_and_the_other_takes_over() {
    let mut random = Random::new();
    let project = ledger_with_schedule(&DAILY.replace("catch_up = 5", "catch_up = 100"));
    let first = project.serve(&["--clock", "2020-01-01T12:00:00Z,0"]);
    wait_for("the schedule", || {
        !project.json(&["schedules"])[0]["state"]["done"].is_null()
    });
    let second = project.serve(&["--clock", "2020-01-01T12:00:00Z,0"]);
    for server in [&first, &second] {
        server.set_clock("2020-01-31T01:00:00Z");
    }
    std::thread::sleep(Duration::from_millis(500 + random.below(2_000)));
    first.kill();
    wait_for("all intervals", || {
        project.json(&["schedules"])[0]["state"]["done"] == "2020-01-31T00:00:00Z"
    });
    second.stop();
    let runs = succeeded(&project);
    assert_eq!(runs.len(), 30);
    let rows = project.offline("sums_v1");
    // Every day is there once, except the first, which had begun when the schedule was applied.
    assert_eq!(rows.len(), 120);
    assert_eq!(count_of(&project, "a"), 60);
}

/// A label sees the rows that a scheduled run would have made visible by its time.
#[test]
fn rows_of_a_schedule_are_visible_after_their_interval() {
    let project = ledger_with_schedule(DAILY);
    backfill(&project, "sums", &[]);
    project.write(
        "labels.csv",
        "key_a,key_b,event_timestamp\na,1,2020-01-02T00:59:59Z\na,1,2020-01-02T01:00:00Z\n",
    );
    project.training_set("account", "labels.csv", "out.parquet");
    let rows = rows_of(&project.path().join("out.parquet"));
    assert_eq!(rows[0]["sums_count_lifetime"], Json::Null);
    assert_eq!(rows[1]["sums_count_lifetime"], 2);
}

#[test]
fn schedules_that_can_never_run_are_refused() {
    for (schedule, wanted) in [
        (
            r#"schedule = { cron = "0 0 30 2 *" }"#,
            "pipelines.sums.schedule.cron: `0 0 30 2 *` is at no time of any year",
        ),
        (
            r#"schedule = { cron = "*/5 * 31 4,6 *", timezone = "Europe/Berlin" }"#,
            "is at no time of any year, so that the pipeline would never run",
        ),
        (
            r#"schedule = { cron = "0 0 * * *", time_limit = "0s" }"#,
            "pipelines.sums.schedule.time_limit: no run ends within 0s",
        ),
    ] {
        let project = ledger("");
        project.replace(
            "function = \"ledger\"\ngroup = \"sums\"",
            &format!("function = \"ledger\"\ngroup = \"sums\"\n{schedule}"),
        );
        let said = project.fails(&["apply"]);
        assert!(said.contains(wanted), "{said}");
    }
    let project = ledger("");
    project.replace("path = \"entries.ndjson\"\n", "");
    project.replace(
        "function = \"ledger\"\ngroup = \"sums\"",
        "function = \"ledger\"\ngroup = \"sums\"\nschedule = { cron = \"0 0 * * *\" }",
    );
    let said = project.fails(&["apply"]);
    let wanted = "pipelines.sums.schedule: would never run: source `entries` is a stream";
    assert!(said.contains(wanted), "{said}");
}
