//! Runs that reject too many rows, or would leave none where there were some, fail and change
//! nothing; dry runs report what runs would do.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use serde_json::{Value as Json, json};

use crate::harness::pass::{COLUMNS, Pass, pass};
use crate::harness::{Project, are_embedded, text, write_batch};

/// Rows of ids from 1 on, at midnight of the days of January 2024. The times of those in `bad`
/// have no zone.
fn rows(count: usize, bad: impl Fn(usize) -> bool) -> String {
    let row = |id: usize| {
        let zone = if bad(id) { "" } else { "Z" };
        format!("{id},2024-01-{id:02}T00:00:00{zone},{id}.5\n")
    };
    let rows: String = (1..=count).map(row).collect();
    format!("id,at,v\n{rows}")
}

fn none(_: usize) -> bool {
    false
}

fn all(_: usize) -> bool {
    true
}

/// A project whose group `h` has the rows of the group `g`, with more settings of the pipeline `g`
/// and of the group `h`. Both have three rows.
fn chained(pipeline: &str, group: &str) -> Project {
    let pipeline = format!(
        r#"
{pipeline}

[sources.rows]
type = "table"
group = "g"

[groups.h]
entity = "e"
event_time = "at"
{group}

[pipelines.h]
source = "rows"
function = "f"
group = "h"
"#
    );
    let project = Pass {
        pipeline: &pipeline,
        ..Pass::default()
    };
    let project = project.project().applied_with("in.csv", &rows(3, none));
    project.ok(&["run", "g"]);
    project.ok(&["run", "h"]);
    assert_eq!(project.offline("h_v1").len(), 3);
    project
}

/// What requests and readers of the table see.
fn seen(project: &Project) -> (Json, Vec<String>) {
    let features = project.json(&["get", "v", "id=1"]);
    (features, project.offline("g_v1"))
}

#[test]
fn a_run_that_rejects_most_rows_fails_and_what_is_served_stays() {
    let project = pass(COLUMNS, "in.csv");
    project.write("in.csv", rows(3, none));
    project.ok(&["run", "g"]);
    let before = seen(&project);
    assert_eq!(before.0["features"]["g_v"], 1.5);

    project.write("in.csv", rows(3, all));
    let ways: [&[&str]; 4] = [
        &["run", "g"],
        &["run", "g"],
        &["run", "g", "--processes", "2"],
        &["run", "g", "--dry-run"],
    ];
    for arguments in ways {
        let said = project.fails(arguments);
        for wanted in [
            "3 of 3 rows were rejected, more than the fraction 0.5",
            "(setting `max_rejects`)",
            "in.csv:2: field `at`: `2024-01-01T00:00:00` names no time zone",
        ] {
            assert!(said.contains(wanted), "{arguments:?}: {said}");
        }
        assert_eq!(seen(&project), before, "{arguments:?}");
    }
    let run = &project.json(&["runs"])[0];
    assert_eq!(
        (&run["state"], &run["rows_rejected"]),
        (&json!("failed"), &json!(3))
    );
    assert_eq!(run["rejects"].as_array().unwrap().len(), 3, "{run}");

    // The user may want that, and says so.
    project.replace("group = \"g\"\n", "group = \"g\"\nmax_rejects = 1\n");
    project.ok(&["apply"]);
    project.ok(&["run", "g"]);
    assert_eq!(seen(&project).0["status"]["g_v"], "not_found");
    assert_eq!(project.offline_rows("g_v1_quarantine").len(), 3);
}

#[test]
fn the_limit_of_rejected_rows_is_a_setting_of_the_pipeline() {
    for (bad, limit, succeeds) in [
        (5, "", true),
        (6, "", false),
        (1, "max_rejects = 0", false),
        (0, "max_rejects = 0", true),
        (1, "max_rejects = 0.1", true),
        (2, "max_rejects = 0.1", false),
        (10, "max_rejects = 1.0", true),
    ] {
        let project = Pass {
            pipeline: limit,
            ..Pass::default()
        };
        let project = project.project();
        project.write("in.csv", rows(10, |id| id <= bad));
        project.ok(&["apply"]);
        let output = project.command(&["run", "g"]).output().unwrap();
        let said = text(&output);
        assert_eq!(output.status.success(), succeeds, "{bad} {limit}: {said}");
        let written = if succeeds { 10 - bad } else { 0 };
        assert_eq!(project.offline("g_v1").len(), written, "{bad} {limit}");
    }
    for (limit, wanted) in [
        (
            "max_rejects = 1.5",
            "pipelines.g.max_rejects: a fraction is from 0 to 1, not 1.5",
        ),
        ("max_rejects = -1", "a fraction is from 0 to 1"),
        ("max_rejects = nan", "a fraction is from 0 to 1"),
        ("max_rejects = \"1%\"", "invalid type"),
    ] {
        let project = Pass {
            pipeline: limit,
            ..Pass::default()
        };
        let said = project.project().fails(&["apply"]);
        assert!(said.contains(wanted), "{said}");
    }
}

/// Sets the limit of rejected rows of the pipeline of a group, and applies it.
fn set_limit(project: &Project, group: &str, before: &str, limit: &str) {
    let lines = |limit: &str| match limit {
        "" => format!("group = \"{group}\"\n"),
        limit => format!("group = \"{group}\"\nmax_rejects = {limit}\n"),
    };
    project.replace(&lines(before), &lines(limit));
    project.ok(&["apply"]);
}

#[test]
fn a_lowered_limit_of_rejected_rows_counts_for_rows_that_were_run_before() {
    let project = pass(COLUMNS, "in.csv");
    project.write("in.csv", rows(10, |id| id <= 3));
    project.ok(&["run", "g"]);
    let before = project.offline("g_v1");
    assert_eq!(before.len(), 7);
    set_limit(&project, "g", "", "0.1");
    let ways: [&[&str]; 4] = [
        &["run", "g", "--dry-run"],
        &["run", "g"],
        &["run", "g"],
        &["run", "g", "--processes", "2"],
    ];
    for arguments in ways {
        let said = project.fails(arguments);
        let wanted = "3 of 10 rows were rejected, more than the fraction 0.1";
        assert!(said.contains(wanted), "{arguments:?}: {said}");
        assert_eq!(project.offline("g_v1"), before, "{arguments:?}");
    }
    set_limit(&project, "g", "0.1", "0.3");
    project.ok(&["run", "g", "--dry-run"]);
    project.ok(&["run", "g"]);
    assert_eq!(project.offline("g_v1").len(), 7);
    // A raised limit changes nothing for a run that succeeded.
    set_limit(&project, "g", "0.3", "0.9");
    let said = project.ok(&["run", "g"]);
    assert!(said.contains("nothing changed since run"), "{said}");
}

#[test]
fn a_lowered_limit_of_rejected_rows_counts_for_all_rows_of_a_chained_run() {
    let project = chained("", "expectations = [{ column = \"v\", max = 100 }]");
    project.write("in.csv", rows(4, none).replace("4.5\n", "400.5\n"));
    project.ok(&["run", "g"]);
    project.ok(&["run", "h"]);
    let before = project.offline("h_v1");
    assert_eq!(before.len(), 3);
    set_limit(&project, "h", "", "0.1");
    let ways: [&[&str]; 2] = [&["run", "h", "--dry-run"], &["run", "h"]];
    for arguments in ways {
        let said = project.fails(arguments);
        let wanted = "1 of 4 rows were rejected, more than the fraction 0.1";
        assert!(said.contains(wanted), "{arguments:?}: {said}");
        assert_eq!(project.offline("h_v1"), before, "{arguments:?}");
    }
    set_limit(&project, "h", "0.1", "0.25");
    project.ok(&["run", "h", "--dry-run"]);
    project.ok(&["run", "h"]);
    assert_eq!(project.offline("h_v1").len(), 3);
}

#[test]
fn a_lowered_limit_of_rejected_rows_counts_for_what_fills_a_staged_version() {
    let project = Pass {
        group: "expectations = [{ column = \"v\", max = 100 }]",
        ..Pass::default()
    };
    let project = project.project().applied_with("in.csv", &rows(4, none));
    project.ok(&["run", "g"]);
    project.replace("[groups.g]", "[groups.g]\nversion = 2");
    project.ok(&["apply"]);
    project.write("in.csv", rows(4, none).replace("2.5\n", "200.5\n"));
    let (first, middle, last) = ("2024-01-01", "2024-01-03", "2024-01-05");
    let arguments = |from: &'static str, to: &'static str| {
        let command = ["backfill", "g", "--interval", "2d"];
        [&command[..], &["--from", from, "--to", to]].concat()
    };
    let report = project.json(&arguments(first, middle));
    assert_eq!(report["rows_rejected"], 1, "{report}");
    // One row of four was rejected, of which the run of the first interval allowed more.
    set_limit(&project, "g", "", "0.3");
    let report = project.json(&arguments(middle, last));
    assert_eq!(report["became_live"], false, "{report}");
    assert_eq!(
        report["missing"],
        json!({"from": "2024-01-01T00:00:00Z", "to": "2024-01-03T00:00:00Z"}),
        "{report}"
    );
    set_limit(&project, "g", "0.3", "0.2");
    let said = project.fails(&arguments(first, middle));
    assert!(said.contains("more than the fraction 0.2"), "{said}");
    set_limit(&project, "g", "0.2", "0.5");
    let report = project.json(&arguments(first, middle));
    assert_eq!(report["became_live"], true, "{report}");
}

#[test]
fn a_dry_run_over_an_interval_that_overlaps_another_one_fails_as_the_run_does() {
    let project = pass(COLUMNS, "in.csv");
    project.write("in.csv", rows(3, none));
    project.ok(&["run", "g", "--from", "2024-01-01", "--to", "2024-01-03"]);
    let ways: [&[&str]; 2] = [&["run", "g", "--dry-run"], &["run", "g"]];
    for arguments in ways {
        let said = project.fails(arguments);
        assert!(said.contains("which overlaps"), "{arguments:?}: {said}");
    }
}

/// A project that passes on a file with two notes of entity 1, the newer one of so many bytes, and
/// one of entity 2.
fn notes(bytes: usize) -> Project {
    let project = Project::new(
        r#"
[project]
name = "notes"
[entities.e]
keys = { id = "int64" }
[sources.s]
type = "files"
path = "in.parquet"
[groups.g]
entity = "e"
event_time = "at"
[pipelines.g]
source = "s"
group = "g"
[views.v]
lookups = [{ group = "g" }]
"#,
    );
    let newer = "x".repeat(bytes);
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 1, 2]));
    let times = [0, 1, 0].map(|micros| 1_704_067_200_000_000 + micros);
    let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
    let notes: ArrayRef = Arc::new(StringArray::from(vec!["a", newer.as_str(), "b"]));
    let columns = [
        ("id", ids),
        ("at", Arc::new(times) as ArrayRef),
        ("note", notes),
    ];
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    write_batch(&project.path().join("in.parquet"), &rows);
    project.applied()
}

/// The note of entity 1.
fn note(project: &Project) -> String {
    let features = project.json(&["get", "v", "id=1"]);
    features["features"]["g_note"].as_str().unwrap().to_owned()
}

/// If it were stored, every later request for its entity would be refused.
#[test]
fn a_row_that_no_request_could_look_up_is_rejected_by_runs() {
    let project = notes(33 << 20);
    for arguments in [&["run", "g", "--dry-run"][..], &["run", "g"]] {
        let output = project.command(arguments).output().unwrap();
        let said = text(&output);
        assert!(output.status.success(), "{said}");
        let wanted = "in.parquet:1: its row of group `g` takes 34603016 bytes, and";
        assert!(said.contains(wanted), "{arguments:?}: {said}");
    }
    assert_eq!(note(&project), "a");
    assert_eq!(project.offline("g_v1").len(), 2);
    assert_eq!(project.offline_rows("g_v1_quarantine").len(), 1);
}

/// DynamoDB has room for less of a row than a request may look up.
#[test]
fn a_row_that_the_online_store_has_no_room_for_is_rejected_by_runs() {
    let project = notes(5 << 20);
    let output = project.command(&["run", "g"]).output().unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    if are_embedded() {
        assert_eq!(note(&project).len(), 5 << 20);
        return;
    }
    let wanted = "in.parquet:1: its row of group `g` takes 5242888 bytes, and the online store keeps \
                  at most 4 MiB of a row";
    assert!(said.contains(wanted), "{said}");
    assert_eq!(note(&project), "a");
}

#[test]
fn rejected_rows_do_not_empty_an_interval_that_had_rows() {
    let project = pass(COLUMNS, "in.csv");
    project.write("in.csv", rows(20, none));
    let backfill = [
        "backfill",
        "g",
        "--from",
        "2024-01-01",
        "--to",
        "2024-01-21",
    ];
    project.ok(&backfill);
    let before = seen(&project);
    // One of twenty rows is unreadable, and all rows of its day.
    project.write("in.csv", rows(20, |id| id == 7));
    let said = project.fails(&backfill);
    assert!(said.contains("no row of [2024-01-07"), "{said}");
    assert!(said.contains("in.csv:8: field `at`"), "{said}");
    assert_eq!(seen(&project), before);
    let day = ["run", "g", "--from", "2024-01-07", "--to", "2024-01-08"];
    assert!(project.fails(&day).contains("no row of [2024-01-07"));
    assert_eq!(seen(&project), before);
    // An interval that had no rows may stay without any.
    let next = ["run", "g", "--from", "2024-02-01", "--to", "2024-02-02"];
    project.ok(&next);
}

#[test]
fn a_source_whose_rows_are_gone_does_not_empty_an_interval_that_had_rows() {
    let backfill: &[&str] = &[
        "backfill",
        "g",
        "--from",
        "2024-01-01",
        "--to",
        "2024-01-04",
    ];
    let month: &[&str] = &["run", "g", "--from", "2024-01-01", "--to", "2024-02-01"];
    let divided = [month, &["--processes", "2"]].concat();
    let dry = [month, &["--dry-run"]].concat();
    // The rows that remain, and what became of them.
    for (rest, ways, wanted) in [
        // An export that was cut to its header.
        (rows(0, none), vec![&["run", "g"][..]], "0 rows were read"),
        (
            rows(0, none),
            vec![month, &divided[..], &dry[..]],
            "0 rows were read",
        ),
        (rows(0, none), vec![backfill], "0 rows were read"),
        // All rows are of another time.
        (
            rows(3, none).replace("2024-", "1970-"),
            vec![month, &divided[..], &dry[..]],
            "3 rows were read, of which 3 are outside of it",
        ),
        // One day has lost its rows, and the others have not.
        (rows(2, none), vec![backfill], "no row of [2024-01-03"),
    ] {
        let project = pass(COLUMNS, "in.csv");
        project.write("in.csv", rows(3, none));
        project.ok(ways[0]);
        let before = seen(&project);
        assert_eq!(before.1.len(), 3);
        project.write("in.csv", rest);
        for way in &ways {
            let said = project.fails(way);
            for wanted in ["no row of ", wanted, "`max_rejects = 1`", "stays"] {
                assert!(said.contains(wanted), "{way:?}: {said}");
            }
            assert_eq!(seen(&project), before, "{way:?}");
        }
        // The user may want that, and says so.
        project.replace("group = \"g\"\n", "group = \"g\"\nmax_rejects = 1\n");
        project.ok(&["apply"]);
        project.ok(ways[0]);
        assert!(project.offline("g_v1").len() < 3, "{wanted}");
    }
}

#[test]
fn times_in_another_unit_than_the_declared_one_do_not_empty_an_interval() {
    let project = Pass {
        source: "type = \"files\"\npath = \"in.csv\"\ntimes = { at = { unit = \"ms\" } }",
        ..Pass::default()
    };
    let project = project.project().applied();
    project.write("in.csv", "id,at,v\n1,1704067200000,1.5\n");
    let year = ["run", "g", "--from", "2024-01-01", "--to", "2025-01-01"];
    project.ok(&year);
    let before = seen(&project);
    // The export counts seconds now.
    project.write("in.csv", "id,at,v\n1,1704067200,1.5\n");
    let said = project.fails(&year);
    assert!(
        said.contains("1 rows were read, of which 1 are outside"),
        "{said}"
    );
    assert_eq!(seen(&project), before);
}

#[test]
fn a_chained_run_follows_an_upstream_group_whose_rows_are_gone() {
    let project = chained("max_rejects = 1", "");
    project.write("in.csv", rows(0, none));
    project.ok(&["run", "g"]);
    project.ok(&["run", "h"]);
    assert!(project.offline("h_v1").is_empty());
}

#[test]
fn a_chained_run_that_rejects_most_rows_fails() {
    let project = chained("", "expectations = [{ column = \"v\", max = 100 }]");
    let before = project.offline("h_v1");
    project.write("in.csv", rows(3, none).replace(".5\n", "00.5\n"));
    project.ok(&["run", "g"]);
    let said = project.fails(&["run", "h"]);
    assert!(said.contains("3 of 3 rows were rejected"), "{said}");
    assert!(said.contains("`v` is 100.5, outside of … to 100"), "{said}");
    assert_eq!(project.offline("h_v1"), before);
}

#[test]
fn a_dry_run_reports_what_a_run_would_do_and_writes_nothing() {
    let project = pass(COLUMNS, "in.csv");
    project.write("in.csv", rows(10, |id| id == 3));
    let dry = project.json(&[
        "run",
        "g",
        "--dry-run",
        "--from",
        "2024-01-01",
        "--to",
        "2024-01-06",
    ]);
    for (name, wanted) in [
        ("rows_read", json!(10)),
        ("rows_to_write", json!(4)),
        ("rows_rejected", json!(1)),
        ("rows_outside", json!(5)),
        ("error", Json::Null),
    ] {
        assert_eq!(dry[name], wanted, "{name}: {dry}");
    }
    let place = dry["rejects"][0]["place"].as_str().unwrap();
    assert!(place.ends_with("in.csv:4"), "{dry}");
    let said = project.ok(&["run", "g", "--dry-run"]);
    assert!(
        said.contains("9 to write, 1 to reject, 0 outside; nothing was written"),
        "{said}"
    );
    assert_eq!(project.json(&["runs"]), json!([]));
    assert!(project.offline("g_v1").is_empty());
    assert_eq!(
        project.json(&["get", "v", "id=1"])["status"]["g_v"],
        "not_found"
    );
    // The run itself is not affected.
    assert_eq!(project.json(&["run", "g"])["rows_written"], 9);
}
