//! Changes in the upstream group of a chained pipeline: each is read once, and applied.

use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::harness::ledger::{lines, succeeded};
use crate::harness::{Project, guest, wait_for};

/// Makes a project with a group of pushed facts, and a chained pipeline over it.
fn chained_project(pipeline: &str) -> Project {
    let project = Project::new(&format!(
        r#"
[project]
name = "chain"

[entities.thing]
keys = {{ key_a = "utf8", key_b = "int64" }}

[sources.raw]
type = "stream"
id = "id"

[sources.above]
type = "table"
group = "facts"

[functions.facts]
component = "{}"

[groups.facts]
entity = "thing"
event_time = "happened_at"

[groups.counts]
entity = "thing"
event_time = "happened_at"
aggregates = [{{ function = ["count", "sum"], column = "value", windows = ["lifetime"] }}]

[pipelines.facts]
source = "raw"
function = "facts"
group = "facts"

[pipelines.counts]
source = "above"
function = "facts"
group = "counts"
{pipeline}

[views.thing]
lookups = [{{ group = "counts" }}]
"#,
        guest("facts").display()
    ));
    project.ok(&["apply"]);
    project
}

fn fact(id: u64, key: &str, time: &str) -> Json {
    json!({"id": id, "key_a": key, "key_b": 1, "happened_at": time, "value": id, "score": null})
}

fn push(project: &Project, facts: &[Json], more: &[&str]) {
    let file = project.write("push.ndjson", lines(facts));
    let arguments = [&["push", "raw", file.to_str().unwrap()], more].concat();
    project.ok(&arguments);
}

fn count(project: &Project, key: &str, clock: &str) -> Json {
    let (key, clock) = (format!("key_a={key}"), format!("{clock},0"));
    let arguments = ["get", "thing", &key, "key_b=1", "--clock", &clock];
    let features = &project.json(&arguments)["features"];
    json!([
        features["counts_value_count_lifetime"],
        features["counts_value_sum_lifetime"]
    ])
}

#[test]
fn a_chained_run_reads_only_rows_that_are_new_upstream() {
    let project = chained_project("");
    let noon = ["--clock", "2020-01-01T12:00:00Z,0"];
    let run = || project.json(&["run", "counts"]);
    let counts = |run: &Json| [run["rows_read"].clone(), run["rows_written"].clone()];
    push(
        &project,
        &[
            fact(1, "a", "2020-01-01T00:00:00Z"),
            fact(2, "b", "2020-01-01T00:00:00Z"),
        ],
        &noon,
    );
    assert_eq!(counts(&run()), [2, 2]);
    // Only the new rows are read, whether their event times are later or earlier.
    push(
        &project,
        &[
            fact(3, "a", "2020-01-01T06:00:00Z"),
            fact(4, "a", "2019-12-01T00:00:00Z"),
            fact(5, "b", "2020-01-01T00:00:00Z"),
        ],
        &noon,
    );
    let second = run();
    assert_eq!(counts(&second), [3, 3]);
    assert_eq!(
        (&second["generation"], &second["upstream"]["since"]),
        (&json!(2), &json!(1))
    );
    let now = "2020-01-02T00:00:00Z";
    assert_eq!(count(&project, "a", now), json!([3, 8]));
    assert_eq!(count(&project, "b", now), json!([2, 7]));
    assert_eq!(project.offline_rows("counts_v1").len(), 5);
    // Rows that compaction moves to other files are not new.
    project.ok(&["compact"]);
    assert!(project.ok(&["run", "counts"]).contains("nothing changed"));
    push(&project, &[fact(6, "c", "2020-01-01T00:00:00Z")], &noon);
    assert_eq!(counts(&run()), [1, 1]);
    project.ok(&["compact"]);
    assert_eq!(project.offline_rows("counts_v1").len(), 6);
    // When compaction merges new rows with old ones, both are read.
    push(&project, &[fact(7, "c", "2020-01-01T00:00:00Z")], &noon);
    push(&project, &[fact(8, "c", "2020-01-01T00:00:00Z")], &noon);
    project.ok(&["compact"]);
    assert_eq!(counts(&run()), [8, 8]);
    assert_eq!(count(&project, "c", now), json!([3, 21]));
    // Rows made of deleted upstream rows are removed.
    project.ok(&[
        "delete",
        "thing",
        "key_a=a",
        "key_b=1",
        "--clock",
        "2020-01-02,0",
    ]);
    assert_eq!(counts(&run()), [5, 5]);
    assert_eq!(count(&project, "a", now), json!([null, null]));
    assert_eq!(count(&project, "b", now), json!([2, 7]));
    assert_eq!(count(&project, "c", now), json!([3, 21]));
    let mut ids: Vec<i64> = project
        .offline_rows("counts_v1")
        .iter()
        .filter_map(|row| row["value"].as_i64())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, [2, 5, 6, 7, 8]);
}

#[test]
fn a_killed_chained_run_is_continued() {
    let project = chained_project("");
    let noon = ["--clock", "2020-01-01T12:00:00Z,0"];
    let facts = |ids: std::ops::Range<u64>| -> Vec<Json> {
        ids.map(|id| fact(id, &format!("k{}", id % 7), "2020-01-01T00:00:00Z"))
            .collect()
    };
    push(&project, &facts(0..500), &noon);
    project.ok(&["run", "counts"]);
    let mut known = 500;
    for round in 0..6u64 {
        push(&project, &facts(known..known + 500), &noon);
        known += 500;
        let mut run = project.command(&["run", "counts"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(15 + 12 * round));
        let _ = run.kill();
        run.wait().unwrap();
    }
    project.ok(&["run", "counts"]);
    assert_eq!(project.offline_rows("counts_v1").len(), 3_500);
    for key in 0..7 {
        let ids = (0..known).filter(|id| id % 7 == key);
        let (count_of, sum) = ids.fold((0, 0), |(count, sum), id| (count + 1, sum + id));
        let found = count(&project, &format!("k{key}"), "2020-01-02T00:00:00Z");
        assert_eq!(found, json!([count_of, sum]));
    }
}

/// An interval covers the rows that became visible in it, late or not. When rows are added to a
/// finished interval, such as pushed history, it is run again.
#[test]
fn a_schedule_repeats_intervals_whose_upstream_rows_changed() {
    let project = chained_project("schedule = { cron = \"0 0 * * *\", delay = \"1h\" }");
    let server = project.serve(&["--clock", "2020-01-03T12:00:00Z,0"]);
    wait_for("the schedule", || {
        project.json(&["schedules"])[0]["state"]["done"] == "2020-01-03T00:00:00Z"
    });
    server.events(
        "raw",
        &lines(&[
            fact(1, "a", "2020-01-03T00:00:00Z"),
            fact(2, "a", "2019-12-24T00:00:00Z"),
        ]),
    );
    server.set_clock("2020-01-04T00:00:00Z");
    wait_for("a run", || succeeded(&project).len() == 1);
    server.events("raw", &lines(&[fact(3, "a", "2020-01-03T00:00:00Z")]));
    server.set_clock("2020-01-05T01:00:00Z");
    wait_for("the next", || succeeded(&project).len() == 2);
    let newest = &succeeded(&project)[0];
    assert_eq!(newest["rows_written"], 1, "{newest}");
    let rows = project.offline_rows("counts_v1");
    let seen = |id: u64| -> Vec<&Json> {
        let of_it = rows.iter().filter(|row| row["value"] == id);
        of_it.map(|row| &row["available_timestamp"]).collect()
    };
    assert_eq!(seen(1), ["2020-01-04T01:00:00Z"]);
    assert_eq!(seen(2), ["2020-01-04T01:00:00Z"]);
    assert_eq!(seen(3), ["2020-01-05T01:00:00Z"]);
    // This event is pushed as history: it was visible on the first of these days.
    push(
        &project,
        &[fact(4, "a", "2020-01-03T18:00:00Z")],
        &["--backfill", "--clock", "2020-01-05T02:00:00Z,0"],
    );
    server.set_clock("2020-01-06T01:00:00Z");
    wait_for("the day of before, again", || {
        succeeded(&project).len() == 4
    });
    wait_for("what it adds", || {
        count(&project, "a", "2020-01-06T01:00:00Z") == json!([4, 10])
    });
    server.stop();
    let rows = project.offline_rows("counts_v1");
    let of_it = rows.iter().find(|row| row["value"] == 4).unwrap();
    assert_eq!(of_it["available_timestamp"], "2020-01-04T01:00:00Z");
    assert_eq!(rows.len(), 4);
}

/// A file has rows that became visible on two days, and the interval of one of them was run before.
#[test]
fn an_upstream_file_is_read_once_for_several_intervals() {
    let project = chained_project("");
    let history = |facts: &[Json]| push(&project, facts, &["--backfill"]);
    let backfill = |to: &str| {
        let arguments = ["backfill", "counts", "--from", "2020-01-09", "--to", to];
        project.json(&arguments)["written"].clone()
    };
    history(&[fact(1, "a", "2020-01-09T12:00:00Z")]);
    assert_eq!(backfill("2020-01-10"), 1);
    history(&[
        fact(2, "a", "2020-01-09T13:00:00Z"),
        fact(3, "a", "2020-01-10T13:00:00Z"),
    ]);
    assert_eq!(backfill("2020-01-11"), 2);
    assert_eq!(backfill("2020-01-11"), 0);
    assert_eq!(project.offline_rows("counts_v1").len(), 3);
    assert_eq!(count(&project, "a", "2020-02-01T00:00:00Z"), json!([3, 6]));
}

/// An interval that could not be run again is tried later.
#[test]
fn an_interval_whose_upstream_file_was_missing_is_run_after_the_next() {
    let project =
        chained_project("schedule = { cron = \"0 0 * * *\", delay = \"1h\", retries = 0 }");
    if !crate::harness::are_embedded() {
        return;
    }
    let server = project.serve(&["--clock", "2020-01-03T12:00:00Z,0"]);
    wait_for("the schedule", || {
        project.json(&["schedules"])[0]["state"]["done"] == "2020-01-03T00:00:00Z"
    });
    server.events("raw", &lines(&[fact(1, "a", "2020-01-03T00:00:00Z")]));
    server.set_clock("2020-01-04T00:00:00Z");
    wait_for("a run", || succeeded(&project).len() == 1);
    // History of that day is pushed, but its file is missing when the interval is run again.
    let history = [fact(2, "a", "2020-01-03T18:00:00Z")];
    push(
        &project,
        &history,
        &["--backfill", "--clock", "2020-01-04T02:00:00Z,0"],
    );
    let events = project.path().join(".wafer/offline/facts_v1/events");
    let newest = std::fs::read_dir(&events).unwrap();
    let newest = newest.map(|entry| entry.unwrap().path()).max().unwrap();
    assert!(newest.is_dir());
    let away = newest.with_extension("away");
    std::fs::rename(&newest, &away).unwrap();
    server.set_clock("2020-01-05T00:00:00Z");
    wait_for("the next", || {
        succeeded(&project).len() == 2 && {
            let runs = project.json(&["runs"]);
            runs.as_array()
                .unwrap()
                .iter()
                .any(|run| run["state"] == "failed")
        }
    });
    std::fs::rename(&away, &newest).unwrap();
    server.set_clock("2020-01-06T00:00:00Z");
    wait_for("what it adds", || {
        count(&project, "a", "2020-01-06T01:00:00Z") == json!([2, 3])
    });
    server.stop();
}
