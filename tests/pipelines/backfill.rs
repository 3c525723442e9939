//! Backfills, which run many intervals of a pipeline.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::harness::ledger::{MONTH_SPAN, backfill, count_of, ledger, month};
use crate::harness::{Project, Random};

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
    // With other inputs, the rows of the same intervals are replaced.
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
    assert_eq!(project.offline("sums_v1").len(), 100);
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
