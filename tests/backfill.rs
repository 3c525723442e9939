//! Backfills, schedules, and new versions beside live ones.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::harness::{Project, Random, rows_of};
use crate::training::{entry, ledger, lines};

/// Entries of thirty days, several a day.
fn month() -> String {
    let entries: Vec<Json> = (0..120)
        .map(|n| {
            let time = format!("2020-01-{:02}T{:02}:00:00Z", n / 4 + 1, n % 4 * 6);
            entry(["a", "b"][n % 2], &time, n as i64, n as f64 * 0.1, "x")
        })
        .collect();
    lines(&entries)
}

const SPAN: [&str; 4] = ["--from", "2020-01-01", "--to", "2020-01-31"];

fn backfill(project: &Project, pipeline: &str, more: &[&str]) -> Json {
    let mut arguments = vec!["backfill", pipeline];
    arguments.extend(SPAN);
    arguments.extend(more);
    project.json(&arguments)
}

fn count_of(project: &Project, key: &str) -> Json {
    let key = format!("key_a={key}");
    project.json(&[
        "get",
        "account",
        &key,
        "key_b=1",
        "--clock",
        "2020-01-31T00:00:00Z,0",
    ])["features"]["sums_count_lifetime"]
        .clone()
}

#[test]
fn intervals_are_filled_once_and_replaced_when_their_inputs_change() {
    let project = ledger("").applied_with("entries.ndjson", &month());
    let report = backfill(&project, "sums", &[]);
    assert_eq!(
        (
            &report["intervals"],
            &report["written"],
            &report["rows_written"],
            &report["entities"]
        ),
        (&json!(30), &json!(30), &json!(120), &json!(2))
    );
    assert_eq!(count_of(&project, "a"), 60);
    let version = |project: &Project| project.json(&["tables"])[2]["version"].clone();
    let before = version(&project);
    let again = backfill(&project, "sums", &["--workers", "1"]);
    assert_eq!(
        (&again["written"], &again["entities"]),
        (&json!(0), &Json::Null)
    );
    assert_eq!(version(&project), before, "nothing was committed");
    // Other inputs: the same intervals with other rows.
    let fewer: String = month()
        .lines()
        .take(100)
        .map(|line| format!("{line}\n"))
        .collect();
    project.write("entries.ndjson", fewer);
    let changed = backfill(&project, "sums", &[]);
    assert_eq!(
        (&changed["written"], &changed["rows_written"]),
        (&json!(30), &json!(100))
    );
    assert_eq!(project.offline("sums_v1").len(), 100);
    assert_eq!(
        count_of(&project, "a"),
        50,
        "online rows of before are taken back"
    );
    // Intervals that cut across those that are there.
    let said = project.fails(&[
        "backfill",
        "sums",
        "--from",
        "2020-01-01",
        "--to",
        "2020-01-31",
        "--interval",
        "7d",
    ]);
    assert!(
        said.contains("overlaps") && said.contains("rows would be there twice"),
        "{said}"
    );
    assert_eq!(project.offline("sums_v1").len(), 100);
}

#[test]
fn spans_that_make_no_sense_are_refused() {
    let project = ledger("").applied_with("entries.ndjson", "");
    for (arguments, wanted) in [
        (
            vec!["--from", "2020-02-01", "--to", "2020-01-01"],
            "is not before",
        ),
        (
            vec![
                "--from",
                "2020-01-01",
                "--to",
                "2021-01-01",
                "--interval",
                "1s",
            ],
            "take longer ones",
        ),
        (
            vec![
                "--from",
                "2020-01-01",
                "--to",
                "2021-01-01",
                "--interval",
                "soon",
            ],
            "`soon` is not a duration",
        ),
        (
            vec!["--from", "yesterday", "--to", "2021-01-01"],
            "is not a time",
        ),
    ] {
        let said = project.fails(&[&["backfill", "sums"][..], &arguments].concat());
        assert!(said.contains(wanted), "{said}");
    }
}

/// Killed at random points, again and again; in the end everything is as if it had
/// run through once.
#[test]
fn a_killed_backfill_is_taken_up_again() {
    let mut random = Random::new();
    let whole = ledger("").applied_with("entries.ndjson", &month());
    backfill(&whole, "sums", &[]);
    let wanted = (
        whole.offline("sums_v1"),
        count_of(&whole, "a"),
        count_of(&whole, "b"),
    );
    let project = ledger("").applied_with("entries.ndjson", &month());
    let mut killed = 0;
    for attempt in 1..=15 {
        let mut run = project
            .command(&[&["backfill", "sums"][..], &SPAN].concat())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(random.below(60 * attempt)));
        killed += usize::from(run.try_wait().unwrap().is_none());
        run.kill().unwrap();
        run.wait().unwrap();
    }
    println!("{killed} of 15 backfills were killed");
    backfill(&project, "sums", &[]);
    assert_eq!(
        (
            project.offline("sums_v1"),
            count_of(&project, "a"),
            count_of(&project, "b")
        ),
        wanted
    );
}

/// A run that adds to the online store, killed anywhere, adds each event once.
#[test]
fn a_killed_run_counts_every_event_once() {
    let mut random = Random::new();
    let many: String = (0..20_000)
        .map(|n| {
            entry(
                ["a", "b"][n % 2],
                &format!(
                    "2020-01-01T{:02}:{:02}:{:02}Z",
                    n / 3_600,
                    n / 60 % 60,
                    n % 60
                ),
                1,
                0.5,
                "x",
            )
            .to_string()
                + "\n"
        })
        .collect();
    let project = ledger("").applied_with("entries.ndjson", &many);
    let mut killed = 0;
    for attempt in 1..=12 {
        let mut run = project
            .command(&["run", "sums"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(random.below(25 * attempt)));
        killed += usize::from(run.try_wait().unwrap().is_none());
        run.kill().unwrap();
        run.wait().unwrap();
    }
    println!("{killed} of 12 runs were killed");
    project.ok(&["run", "sums"]);
    assert_eq!(project.offline("sums_v1").len(), 20_000);
    assert_eq!(
        (count_of(&project, "a"), count_of(&project, "b")),
        (json!(10_000), json!(10_000))
    );
}

/// A new version is filled from files and from the raw events that came in, beside
/// the live one, and becomes live at once.
#[test]
fn a_new_version_is_filled_beside_the_live_one() {
    let project = ledger("").applied_with("entries.ndjson", &month());
    backfill(&project, "sums", &[]);
    let push = |name: &str, day: u32, small: i64| {
        let time = format!("2020-01-{day:02}T23:59:00Z");
        let file = project.write(name, lines(&[entry("a", &time, small, 1.0, name)]));
        project.ok(&[
            "push",
            "entries",
            file.to_str().unwrap(),
            "--clock",
            "2020-01-30T23:59:30Z,0",
        ])
    };
    push("before.ndjson", 30, 1_000);
    assert_eq!(count_of(&project, "a"), 61);
    // Another version, with one more aggregate.
    project.replace("[groups.sums]\n", "[groups.sums]\nversion = 2\n");
    project.replace(
        r#"{ function = "count", windows = ["20m", "2h", "1d", "lifetime"] },"#,
        r#"{ function = "count", windows = ["20m", "2h", "1d", "3d", "lifetime"] },"#,
    );
    let said = project.ok(&["apply"]);
    assert!(
        said.contains("none of it is live before these new versions are filled: sums_v2"),
        "{said}"
    );
    assert_eq!(count_of(&project, "a"), 61, "the old version is live");
    // What comes in meanwhile goes to both.
    push("meanwhile.ndjson", 29, 2_000);
    assert_eq!(count_of(&project, "a"), 62);
    // Parts of it are not all of it, though events go on coming to both.
    for (from, to, missing) in [
        ("2020-01-10", "2020-01-31", "first from 2020-01-01T"),
        (
            "2020-01-01",
            "2020-01-05",
            "first from 2020-01-05T00:00:00Z to 2020-01-10T00:00:00Z",
        ),
    ] {
        let said = project.ok(&["backfill", "sums", "--from", from, "--to", to]);
        assert!(
            said.contains("not live yet") && said.contains(missing),
            "{said}"
        );
    }
    assert_eq!(count_of(&project, "a"), 62);
    let report = backfill(&project, "sums", &[]);
    assert_eq!(
        (&report["table"], &report["became_live"]),
        (&json!("sums_v2"), &json!(true))
    );
    let features = project.json(&[
        "get",
        "account",
        "key_a=a",
        "key_b=1",
        "--clock",
        "2020-01-31T00:00:00Z,0",
    ]);
    assert_eq!(
        features["features"]["sums_count_lifetime"], 62,
        "nothing is missing, nothing twice"
    );
    assert_eq!(features["features"]["sums_count_3d"], 7);
    assert_eq!(project.offline("sums_v1").len(), 122);
    assert_eq!(project.offline("sums_v2").len(), 122);
    push("after.ndjson", 28, 3_000);
    assert_eq!(
        (
            project.offline("sums_v1").len(),
            project.offline("sums_v2").len()
        ),
        (122, 123)
    );
}

const DAILY: &str = r#"schedule = { cron = "0 0 * * *", start_after = "30m", delay = "1h", backoff = "1ms", retries = 2, catch_up = 5 }"#;

fn scheduled(schedule: &str) -> Project {
    let project = ledger("");
    project.replace(
        "function = \"ledger\"\ngroup = \"sums\"",
        &format!("function = \"ledger\"\ngroup = \"sums\"\n{schedule}"),
    );
    project.applied_with("entries.ndjson", &month())
}

/// Waits until something holds, for at most a minute.
pub(crate) fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "{what} did not come"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub(crate) fn succeeded(project: &Project) -> Vec<Json> {
    let runs = project.json(&["runs", "--limit", "1000"]);
    let runs = runs.as_array().unwrap().iter();
    runs.filter(|run| run["state"] == "succeeded")
        .cloned()
        .collect()
}

#[test]
fn a_server_runs_what_is_due_and_backfills_see_the_same() {
    let project = scheduled(DAILY);
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
    // Newest first: what was made up for was seen later than its rows say.
    let overran = |run: &Json| run["overran"] == true;
    let late: Vec<bool> = succeeded(&project).iter().map(overran).collect();
    assert_eq!(late, [false, true, true]);
    // More than is made up for: the oldest are left out.
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
    // A backfill of the same intervals makes rows that are visible at the same time,
    // and takes those that were run as they are.
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
fn a_run_cannot_start_after_its_rows_are_seen() {
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

/// With `overlap = "skip"` what became due while a run was under way is left out.
#[test]
fn intervals_that_a_run_overlaps_can_be_left_out() {
    let project =
        scheduled("schedule = { cron = \"0 * * * *\", overlap = \"skip\", catch_up = 100 }");
    // Its clock is fast: hours go by while an hour is run.
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
fn failed_runs_are_repeated_and_then_given_up() {
    let project = scheduled(DAILY);
    let server = project.serve(&["--clock", "2020-01-03T12:00:00Z,0"]);
    let state = || project.json(&["schedules"])[0]["state"].clone();
    wait_for("the schedule", || !state()["done"].is_null());
    // Its file is gone.
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
    // The file is back: the next interval is run, and that one by hand.
    project.write("entries.ndjson", month());
    server.set_clock("2020-01-05T01:00:00Z");
    wait_for("the next interval", || succeeded(&project).len() == 1);
    server.stop();
    let report = backfill(&project, "sums", &[]);
    assert_eq!(report["written"], 29);
    assert_eq!(count_of(&project, "a"), 60);
}

/// A run that takes longer than it may is stopped, and counts as failed.
#[test]
fn runs_end_at_their_time_limit() {
    let project = scheduled(&DAILY.replace("retries = 2", "retries = 0, time_limit = \"1us\""));
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

/// Two servers share a schedule: each interval is run by one of them; when one is
/// killed in the middle, the other takes over.
#[test]
fn of_two_servers_one_runs_an_interval_and_the_other_takes_over() {
    let mut random = Random::new();
    let project = scheduled(&DAILY.replace("catch_up = 5", "catch_up = 100"));
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
    // All but the first day, which was under way when the schedule began, are there once.
    assert_eq!(rows.len(), 120);
    assert_eq!(count_of(&project, "a"), 60);
}

/// Labels at any time see what a live run would have shown then.
#[test]
fn rows_of_a_schedule_are_visible_after_their_interval() {
    let project = scheduled(DAILY);
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
