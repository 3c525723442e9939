//! Expectations: rows that break one go to the quarantine table, or fail the run.

use serde_json::{Value as Json, json};

use crate::harness::Project;
use crate::harness::ledger::{entry, ledger, lines};
use crate::harness::pass::Pass;

/// Makes the project `ledger` with expectations of the group `sums`.
fn ledger_with_expectations(expectations: &str) -> Project {
    let project = ledger("");
    project.replace(
        "[groups.sums]\n",
        &format!("[groups.sums]\nexpectations = [{expectations}]\n"),
    );
    project
}

#[test]
fn rows_that_break_expectations_go_to_quarantine_with_the_reason() {
    let rules = r#"
  { column = "small", min = 0, max = 9007199254740993 },
  { column = "label_text", values = ["x", "y"] },
  { column = "amount", not_null = true, policy = "warn" },
  { column = "small", unique = true },
"#;
    let day = |n: usize| format!("2020-01-01T00:0{n}:00Z");
    let mut missing = entry("a", &day(4), 4, 0.0, "x");
    missing["amount"] = Json::Null;
    let entries = [
        entry("a", &day(0), (1 << 53) + 1, 1.0, "x"),
        entry("a", &day(1), (1 << 53) + 2, 1.0, "x"),
        entry("a", &day(2), -1, 1.0, "x"),
        entry("a", &day(3), 3, 1.0, "z"),
        missing,
        entry("a", &day(5), 3, 1.0, "y"),
        entry("a", &day(6), 3, 1.0, "y"),
    ];
    let project = ledger_with_expectations(rules);
    // Four of the seven rows break an expectation.
    project.replace(
        "[pipelines.sums]\n",
        "[pipelines.sums]\nmax_rejects = 0.6\n",
    );
    let project = project.applied_with("entries.ndjson", &lines(&entries));
    let record = project.json(&["run", "sums"]);
    assert_eq!(
        ["rows_written", "rows_rejected", "rows_warned"].map(|name| record[name].clone()),
        [json!(3), json!(4), json!(1)],
        "{record}"
    );
    let aside = project.offline_rows("sums_v1_quarantine");
    let mut reasons: Vec<&str> = aside
        .iter()
        .map(|row| row["reason"].as_str().unwrap())
        .collect();
    reasons.sort_unstable();
    assert_eq!(
        reasons,
        [
            "`label_text` is `z`, not an allowed value",
            "`small` has a value that was there before",
            "`small` is -1, outside of 0 to 9007199254740993",
            "`small` is 9007199254740994, outside of 0 to 9007199254740993",
        ]
    );
    let minus = aside
        .iter()
        .find(|row| row["reason"].as_str().unwrap().contains("-1"))
        .unwrap();
    assert!(
        minus["place"]
            .as_str()
            .unwrap()
            .ends_with("entries.ndjson:3"),
        "{minus}"
    );
    let row: Json = serde_json::from_str(minus["row"].as_str().unwrap()).unwrap();
    assert_eq!(row["small"], -1);
    // Rows that are run again, or pushed as events, are in quarantine only once.
    project.ok(&["run", "sums"]);
    for _ in 0..2 {
        let output = project
            .command(&[
                "push",
                "entries",
                &project.at("entries.ndjson"),
                "--clock",
                "2020-01-01T01:00:00Z,0",
            ])
            .output()
            .unwrap();
        assert_eq!(
            output.status.code(),
            Some(2),
            "{}",
            crate::harness::text(&output)
        );
    }
    // Uniqueness is checked in runs only. Events that break one of the other three are refused.
    assert_eq!(project.offline_rows("sums_v1_quarantine").len(), 4 + 3);
}

#[test]
fn a_run_that_breaks_an_expectation_about_all_its_rows_commits_nothing() {
    let entries: Vec<Json> = (0..10)
        .map(|n| {
            let mut entry = entry("a", &format!("2020-01-01T00:0{n}:00Z"), n, 1.0, "x");
            if n < 3 {
                entry["amount"] = Json::Null;
            }
            entry
        })
        .collect();
    let rule = |most: &str, policy: &str| {
        format!(r#"{{ column = "amount", null_fraction = {most}, policy = "{policy}" }}"#)
    };
    let failing = ledger_with_expectations(&rule("0.2", "fail"))
        .applied_with("entries.ndjson", &lines(&entries));
    let said = failing.fails(&["run", "sums"]);
    assert!(
        said.contains("3 of 10 values of `amount` are null, more than the fraction 0.2"),
        "{said}"
    );
    assert!(failing.offline("sums_v1").is_empty());
    assert_eq!(failing.json(&["runs"])[0]["state"], "failed");
    let warning = ledger_with_expectations(&rule("0.2", "warn"))
        .applied_with("entries.ndjson", &lines(&entries));
    let said = warning.ok(&["run", "sums"]);
    assert!(said.contains("warning: 3 of 10 values"), "{said}");
    let fine = ledger_with_expectations(&rule("0.3", "fail"))
        .applied_with("entries.ndjson", &lines(&entries));
    fine.ok(&["run", "sums"]);
    for (rules, wanted) in [
        (
            r#"{ column = "amont", min = 0 }"#,
            "has no output `amont`; did you mean `amount`?",
        ),
        (r#"{ column = "amount" }"#, "has one rule"),
        (
            r#"{ column = "label_text", min = 0 }"#,
            "a range is for numbers, not utf8",
        ),
        (
            r#"{ column = "amount", null_fraction = 0.5 }"#,
            "policy = \"warn\" or \"fail\"",
        ),
        (r#"{ column = "label_text", regex = "(" }"#, "unclosed"),
    ] {
        let project = ledger_with_expectations(rules);
        project.write("entries.ndjson", "");
        let said = project.fails(&["apply"]);
        assert!(said.contains(wanted), "{said}");
    }
}

/// Lists and vectors can be counted, and be required, although their values are not single.
#[test]
fn lists_and_vectors_are_counted_and_may_be_required() {
    for (column, value) in [
        ("ints", "[1,2]"),
        ("texts", "[\"\"a\"\"]"),
        ("vector2", "[0.5,1]"),
    ] {
        let group = |rule: &str| {
            format!(
                "expectations = [{{ column = \"c\", {rule} }}]\n\
                 aggregates = [{{ function = \"count\", column = \"c\", windows = [\"1d\"] }}]"
            )
        };
        for (rule, rejected) in [
            ("not_null = true", 1),
            ("null_fraction = 0.5, policy = \"fail\"", 0),
        ] {
            let project = Pass {
                columns: &format!("id:int64, at:timestamp, c:{column}?"),
                group: &group(rule),
                ..Pass::default()
            };
            let project = project.project();
            let row = |hour: u32, value: &str| format!("1,2024-01-01T0{hour}:00:00Z,{value}\n");
            let value = format!("\"{value}\"");
            let rows = [row(1, &value), row(2, ""), row(3, &value)].concat();
            project.write("in.csv", format!("id,at,c\n{rows}"));
            project.ok(&["apply"]);
            let record = project.json(&["run", "g"]);
            assert_eq!(
                record["rows_rejected"], rejected,
                "{column} {rule}: {record}"
            );
            // Online and offline count the same.
            let at = ["get", "v", "id=1", "--clock", "2024-01-01T12:00:00Z,0"];
            let features = project.json(&at);
            assert_eq!(features["features"]["g_c_count_1d"], 2, "{column} {rule}");
            project.write("labels.csv", "id,event_timestamp\n1,2024-01-01T12:00:00Z\n");
            project.training_set("v", "labels.csv", "t.csv");
            let set = std::fs::read_to_string(project.path().join("t.csv")).unwrap();
            assert_eq!(
                set.lines().nth(1).unwrap().rsplit(',').next(),
                Some("2"),
                "{set}"
            );
        }
    }
}
