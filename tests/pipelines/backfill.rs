//! Backfills, which run many intervals of a pipeline.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::harness::ledger::{MONTH_SPAN, backfill, count_of, ledger, month};
use crate::harness::{Project, Random, text};

#[test]
fn backfilled_intervals_are_written_once_and_replaced_when_their_inputs_change() {
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
    // With other inputs, the rows of the same intervals are replaced: each day has lost its first
    // row.
    let fewer: String = month()
        .lines()
        .enumerate()
        .filter(|(number, _)| number % 4 != 0)
        .map(|(_, line)| format!("{line}\n"))
        .collect();
    project.write("entries.ndjson", fewer);
    let changed = backfill(&project, "sums", &[]);
    assert_eq!(
        (&changed["written"], &changed["rows_written"]),
        (&json!(30), &json!(90))
    );
    assert_eq!(project.offline("sums_v1").len(), 90);
    assert_eq!(
        count_of(&project, "a"),
        30,
        "online rows of before are taken back"
    );
    // Intervals may not overlap existing ones in part.
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
    assert_eq!(project.offline("sums_v1").len(), 90);
}

/// A schedule of few minutes has thousands of intervals in a month. They are one piece if they have
/// few rows, and each row is visible from the end of its own interval on.
#[test]
fn many_intervals_with_few_rows_are_written_in_one_piece() {
    let project = ledger("");
    project.replace(
        "function = \"ledger\"\ngroup = \"sums\"",
        "function = \"ledger\"\ngroup = \"sums\"\nschedule = { cron = \"*/5 * * * *\", delay = \"10m\" }",
    );
    let project = project.applied_with("entries.ndjson", &month());
    let mut command = project.command(&[&["backfill", "sums"], &MONTH_SPAN[..]].concat());
    let said = text(&command.output().unwrap());
    assert!(
        said.contains("8,640 intervals in 1 piece, 1 pass over the source"),
        "it says how much work it is: {said}"
    );
    assert!(
        said.contains("8,640 intervals, 8,640 written, 120 rows"),
        "{said}"
    );
    let table = |project: &Project| {
        let tables = project.json(&["tables"]);
        let tables = tables.as_array().unwrap();
        let table = tables.iter().find(|table| table["table"] == "sums_v1");
        table.unwrap().clone()
    };
    assert_eq!(
        (&table(&project)["files"], &table(&project)["rows"]),
        (&json!(1), &json!(120))
    );
    for row in project.offline_rows("sums_v1") {
        let event = row["event_timestamp"].as_str().unwrap();
        let available = event.replace(":00:00Z", ":15:00Z");
        assert_eq!(row["available_timestamp"], available, "{row}");
    }
    assert_eq!(count_of(&project, "a"), 60);
    // What is written already is found as it is, also by a backfill of a part of it.
    let before = table(&project);
    for span in [MONTH_SPAN, ["--from", "2020-01-05", "--to", "2020-01-06"]] {
        let again = project.json(&[&["backfill", "sums"], &span[..]].concat());
        assert_eq!(again["written"], 0, "{again}");
        assert_eq!(table(&project), before);
    }
    // Further intervals are pieces of their own.
    let more = project.json(&[
        "backfill",
        "sums",
        "--from",
        "2020-01-01",
        "--to",
        "2020-02-10",
    ]);
    assert_eq!(
        (&more["intervals"], &more["written"], &more["rows_written"]),
        (&json!(11_520), &json!(2_880), &json!(0)),
        "{more}"
    );
    // With other inputs, the rows of all pieces are replaced.
    let fewer: String = month()
        .lines()
        .take(100)
        .map(|line| format!("{line}\n"))
        .collect();
    project.write("entries.ndjson", fewer);
    backfill(&project, "sums", &[]);
    assert_eq!(project.offline("sums_v1").len(), 100);
    assert_eq!(count_of(&project, "a"), 50);
}

#[test]
fn backfill_refuses_invalid_spans() {
    let project = ledger("").applied_with("entries.ndjson", "");
    for (arguments, wanted) in [
        (
            vec!["--from", "2020-02-01", "--to", "2020-01-01"],
            "is not before",
        ),
        (
            vec!["--from", "0000-01-01", "--to", "2020-01-01"],
            "`0000-01-01` is outside of the years 1 to 9999",
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
            vec![
                "--from",
                "2020-01-01",
                "--to",
                "2021-01-01",
                "--interval=-1s",
            ],
            "`-1s` is less than zero, which no duration is",
        ),
        (
            vec![
                "--from",
                "2020-01-01",
                "--to",
                "2021-01-01",
                "--interval=9999999999999d",
            ],
            "`9999999999999d` is more than 106751991d",
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

/// A backfill is killed again and again at random points. In the end the result is the same as that
/// of an undisturbed one.
#[test]
fn a_killed_backfill_is_continued() {
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
            .command(&[&["backfill", "sums"][..], &MONTH_SPAN].concat())
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
