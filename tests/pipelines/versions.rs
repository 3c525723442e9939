//! New versions of a group, columns that are added to a version, and groups that are added later.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value as Json, json};

use crate::harness::ledger::{backfill, count_of, entry, ledger, lines, month, push, sums};
use crate::harness::rows_of;

/// A new version is filled beside the live one, from files and from archived raw events, and
/// becomes live when it is complete.
#[test]
fn a_new_version_of_a_group_is_backfilled_beside_the_live_one() {
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
    // The new version has one more aggregate.
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
    let plan = project.ok(&["plan"]);
    assert!(
        plan.contains("all of it is applied already, and staged") && plan.contains("sums_v2"),
        "{plan}"
    );
    // Events that come in meanwhile are written to both versions.
    push("meanwhile.ndjson", 29, 2_000);
    assert_eq!(count_of(&project, "a"), 62);
    // A part of the history is not enough for the new version to become live.
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

/// A push that began before a new version was staged goes on by the definitions that it knows,
/// until it looks for others. Wherever its events went, they are in the new version when that is
/// live.
#[test]
fn events_of_a_push_that_began_before_a_new_version_was_staged_are_in_it() {
    let project = ledger("").applied_with("entries.ndjson", "");
    let clock = "2020-01-30T23:59:30Z,0";
    let mut push = project
        .command(&["push", "entries", "-", "--clock", clock])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut events = push.stdin.take().unwrap();
    // As many events as are pushed at once.
    let first: Vec<Json> = (0..1_000)
        .map(|n| {
            let time = format!("2020-01-10T00:{:02}:{:02}Z", n / 60, n % 60);
            entry("a", &time, n, 1.0, "x")
        })
        .collect();
    events.write_all(lines(&first).as_bytes()).unwrap();
    let are_in = (0..600).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        count_of(&project, "a") == 1_000
    });
    assert!(are_in);
    // No row of the old version is in its table yet: all of them are in the outbox.
    project.replace("[groups.sums]\n", "[groups.sums]\nversion = 2\n");
    let said = project.ok(&["apply"]);
    assert!(said.contains("sums_v2"), "{said}");
    let last = entry("a", "2020-01-20T00:00:00Z", 1_000, 1.0, "x");
    events.write_all(lines(&[last]).as_bytes()).unwrap();
    drop(events);
    assert!(push.wait().unwrap().success());

    let fill =
        |from: &str, to: &str| project.json(&["backfill", "sums", "--from", from, "--to", to]);
    let report = fill("2020-01-10", "2020-01-11");
    assert_eq!(report["became_live"], false, "{report}");
    assert_eq!(
        report["missing"],
        // The statistics of a Delta table have milliseconds, the greatest of a file rounded up.
        json!({"from": "2020-01-11T00:00:00Z", "to": "2020-01-20T00:00:00.001Z"}),
        "{report}"
    );
    let report = fill("2020-01-11", "2020-01-21");
    assert_eq!(report["became_live"], true, "{report}");
    assert_eq!(count_of(&project, "a"), 1_001);
    assert_eq!(project.offline("sums_v1"), project.offline("sums_v2"));
}

/// A new version of a group without rows is live after `wafer apply`, which waits until no event
/// can be missing in it, and says so. An event that comes in meanwhile is filled in.
#[test]
fn events_that_come_in_while_an_empty_version_is_replaced_are_in_the_new_one() {
    let project = ledger("").applied_with("entries.ndjson", "");
    let apply = |version: &str| {
        project.replace("[groups.sums]\n", &format!("[groups.sums]\n{version}\n"));
        project.command(&["apply"])
    };
    let output = apply("version = 2").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("s until every process writes events to the new version of sums"),
        "{said}"
    );
    let live = project.json(&["plan"]);
    assert_eq!(live["changes"], json!([]), "{live}");

    project.replace("[groups.sums]\nversion = 2\n", "[groups.sums]\n");
    let mut applying = apply("version = 3").stdout(Stdio::null()).spawn().unwrap();
    let mut accepted = 0;
    for number in 0..1_440 {
        let time = format!("2020-01-10T{:02}:{:02}:00Z", number / 60, number % 60);
        let file = project.write("push.ndjson", lines(&[entry("a", &time, number, 1.0, "x")]));
        let file = file.to_str().unwrap();
        let arguments = ["push", "entries", file, "--clock", "2020-01-30T23:59:30Z,0"];
        // One that takes too long is refused, and none of it is durable.
        let output = project.command(&arguments).output().unwrap();
        accepted += i32::from(output.status.success());
        if applying.try_wait().unwrap().is_some() {
            break;
        }
    }
    assert!(applying.wait().unwrap().success());
    let changes = &project.json(&["plan"])["changes"];
    if *changes != json!([]) {
        let span = ["--from", "2020-01-10", "--to", "2020-01-11"];
        let report = project.json(&[&["backfill", "sums"][..], &span[..]].concat());
        assert_eq!(report["became_live"], true, "{report}");
    }
    assert_eq!(count_of(&project, "a"), accepted);
    assert_eq!(project.json(&["plan"])["changes"], json!([]));
}

/// A nullable column may be added to a version that is in use. It is null in earlier rows.
#[test]
fn nullable_columns_are_added_to_a_version_of_a_group() {
    let project = ledger("");
    project.replace(
        "[groups.last_entry]\n",
        "[groups.last_entry]\ncolumns = [\"small\", \"label_text\"]\n",
    );
    let project = project.applied_with(
        "entries.ndjson",
        &lines(&[entry("a", "2020-01-01T00:00:00Z", 1, 2.5, "x")]),
    );
    project.ok(&["run", "last_entry", "--to", "2020-01-02"]);
    // In the function, `amount` is between the two other columns. In the table it is the last one.
    project.replace(
        "columns = [\"small\", \"label_text\"]",
        "columns = [\"small\", \"amount\", \"label_text\"]",
    );
    project.ok(&["apply"]);
    let vector = |clock: &str| sums(&project, "a", clock);
    let old = vector("2020-01-01T12:00:00Z");
    assert_eq!(
        (
            &old["last_small"],
            &old["last_amount"],
            &old["last_label_text"]
        ),
        (&json!(1), &Json::Null, &json!("x"))
    );
    push(
        &project,
        &[entry("a", "2020-01-03T00:00:00Z", 2, 7.5, "y")],
        "2020-01-03T00:00:00Z",
    );
    let new = vector("2020-01-03T00:00:00Z");
    assert_eq!(
        (
            &new["last_small"],
            &new["last_amount"],
            &new["last_label_text"]
        ),
        (&json!(2), &json!(7.5), &json!("y"))
    );
    project.write(
        "labels.csv",
        "key_a,key_b,event_timestamp\na,1,2020-01-02T00:00:00Z\na,1,2020-01-03T00:00:00Z\n",
    );
    project.training_set("account", "labels.csv", "out.parquet");
    let rows = rows_of(&project.path().join("out.parquet"));
    assert_eq!(
        [&rows[0]["last_amount"], &rows[1]["last_amount"]],
        [&Json::Null, &json!(7.5)]
    );
    // Removing a column, or changing the aggregates of a group, needs a new version.
    project.replace(
        "columns = [\"small\", \"amount\", \"label_text\"]",
        "columns = [\"small\"]",
    );
    assert!(project.fails(&["apply"]).contains("set `version = 2`"));
    project.replace(
        "columns = [\"small\"]",
        "columns = [\"small\", \"amount\", \"label_text\"]",
    );
    project.replace(r#"windows = ["3h"]"#, r#"windows = ["4h"]"#);
    assert!(
        project
            .fails(&["apply"])
            .contains("its aggregates changed, and version 1 is in use")
    );
}

/// A group that is added later is filled from the archived raw events.
#[test]
fn raw_events_fill_groups_that_are_added_later() {
    let project = ledger("").applied_with("entries.ndjson", "");
    push(
        &project,
        &[entry("a", "2020-01-01T00:00:00Z", 1, 1.0, "x")],
        "2020-01-01T00:00:10Z",
    );
    assert_eq!(project.offline_rows("entries_events").len(), 1);
    project.replace(
        "[pipelines.sums]",
        "[groups.again]\nentity = \"account\"\nevent_time = \"happened_at\"\n[pipelines.again]\nsource = \"entries\"\nfunction = \"ledger\"\ngroup = \"again\"\n[pipelines.sums]",
    );
    project.ok(&["apply"]);
    push(
        &project,
        &[entry("a", "2020-01-02T00:00:00Z", 2, 1.0, "x")],
        "2020-01-02T00:00:10Z",
    );
    let record = project.json(&["run", "again", "--archive"]);
    assert_eq!(record["rows_written"], 1);
    let mut rows = project.offline_rows("again_v1");
    rows.sort_by_key(|row| row["small"].as_i64());
    assert_eq!(rows.len(), 2);
    // An archived event keeps its available time and its identity.
    assert_eq!(rows[0]["available_timestamp"], "2020-01-01T00:00:10Z");
    let archived: Vec<Json> = project
        .offline_rows("entries_events")
        .iter()
        .map(|row| row["event_id"].clone())
        .collect();
    assert!(archived.contains(&rows[0]["event_id"]) && archived.contains(&rows[1]["event_id"]));
}
