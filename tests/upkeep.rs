//! Late rows, rows that are set aside, deleted entities, tables kept in order,
//! chained pipelines, columns that are added.

use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::harness::{Project, Random, guest, rows_of};
use crate::training::{entry, ledger, lines};

fn push(project: &Project, entries: &[Json], clock: &str) -> Json {
    let file = project.write("push.ndjson", lines(entries));
    let clock = format!("{clock},0");
    let arguments = [
        "push",
        "entries",
        file.to_str().unwrap(),
        "--clock",
        &clock,
        "--output",
        "json",
    ];
    // It says by its status whether some were rejected.
    let output = project.command(&arguments).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

fn sums(project: &Project, key: &str, clock: &str) -> Json {
    let key = format!("key_a={key}");
    project.json(&[
        "get",
        "account",
        &key,
        "key_b=1",
        "--clock",
        &format!("{clock},0"),
    ])["features"]
        .clone()
}

#[test]
fn late_events_are_counted_and_those_too_late_are_healed() {
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
    // It is known from the heal on, not before.
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
fn pushed_history_is_dated_as_history() {
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

fn expecting(expectations: &str) -> Project {
    let project = ledger("");
    project.replace(
        "[groups.sums]\n",
        &format!("[groups.sums]\nexpectations = [{expectations}]\n"),
    );
    project
}

#[test]
fn rows_that_break_expectations_are_set_aside_with_the_reason() {
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
    let project = expecting(rules).applied_with("entries.ndjson", &lines(&entries));
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
    // Again, and as events: set aside once each.
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
    // Uniqueness is of a run; the three others are refused as events as well.
    assert_eq!(project.offline_rows("sums_v1_quarantine").len(), 4 + 3);
}

#[test]
fn a_run_that_breaks_an_expectation_for_all_rows_commits_nothing() {
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
    let failing = expecting(&rule("0.2", "fail")).applied_with("entries.ndjson", &lines(&entries));
    let said = failing.fails(&["run", "sums"]);
    assert!(
        said.contains("3 of 10 values of `amount` are null, more than the fraction 0.2"),
        "{said}"
    );
    assert!(failing.offline("sums_v1").is_empty());
    assert_eq!(failing.json(&["runs"])[0]["state"], "failed");
    let warning = expecting(&rule("0.2", "warn")).applied_with("entries.ndjson", &lines(&entries));
    let said = warning.ok(&["run", "sums"]);
    assert!(said.contains("warning: 3 of 10 values"), "{said}");
    let fine = expecting(&rule("0.3", "fail")).applied_with("entries.ndjson", &lines(&entries));
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
        let project = expecting(rules);
        project.write("entries.ndjson", "");
        let said = project.fails(&["apply"]);
        assert!(said.contains(wanted), "{said}");
    }
}

#[test]
fn a_deleted_entity_is_gone_and_stays_gone() {
    let project = ledger("").applied_with(
        "entries.ndjson",
        &lines(&[
            entry("a", "2020-01-01T00:00:00Z", 1, 1.0, "x"),
            entry("b", "2020-01-01T00:00:00Z", 2, 1.0, "x"),
        ]),
    );
    project.ok(&["run", "sums"]);
    project.ok(&["run", "last_entry"]);
    push(
        &project,
        &[
            entry("a", "2020-01-02T00:00:00Z", 3, 1.0, "x"),
            entry("b", "2020-01-02T00:00:00Z", 4, 1.0, "x"),
        ],
        "2020-01-02T00:00:00Z",
    );
    let deletion = project.json(&[
        "delete",
        "account",
        "key_a=a",
        "key_b=1",
        "--clock",
        "2020-01-03T00:00:00Z,0",
    ]);
    assert_eq!(
        (
            &deletion["rows"]["sums_v1"],
            &deletion["rows"]["last_entry_v1"],
            &deletion["rows"]["entries_events"]
        ),
        (&json!(2), &json!(2), &json!(1)),
        "{deletion}"
    );
    for table in ["sums_v1", "last_entry_v1"] {
        let rows = project.offline_rows(table);
        assert_eq!(rows.len(), 2);
        assert!(rows.iter().all(|row| row["key_a"] == "b"));
    }
    assert_eq!(project.offline_rows("entries_events").len(), 1);
    let now = "2020-01-04T00:00:00Z";
    assert_eq!(sums(&project, "a", now)["sums_count_lifetime"], Json::Null);
    assert_eq!(sums(&project, "b", now)["sums_count_lifetime"], 2);
    // Facts of before stay out online, those of after come in.
    push(
        &project,
        &[entry("a", "2020-01-02T12:00:00Z", 5, 1.0, "x")],
        now,
    );
    assert_eq!(sums(&project, "a", now)["sums_count_lifetime"], Json::Null);
    push(
        &project,
        &[entry("a", "2020-01-04T00:00:00Z", 6, 1.0, "x")],
        now,
    );
    assert_eq!(sums(&project, "a", now)["sums_small_sum_lifetime"], 6);
    // Also now that there is something newer; and what they say is not kept.
    let report = push(
        &project,
        &[entry("a", "2020-01-02T13:00:00Z", 50, 1.0, "x")],
        now,
    );
    assert_eq!(
        (&report["accepted"], &report["rejected"]),
        (&json!(0), &json!(1))
    );
    let said = report.to_string();
    assert!(
        said.contains("its entity was deleted after it happened"),
        "{said}"
    );
    assert_eq!(sums(&project, "a", now)["sums_small_sum_lifetime"], 6);
    // Nor do they come from files, with the other rows of an interval that is run again.
    project.write(
        "entries.ndjson",
        lines(&[
            entry("a", "2020-01-01T00:00:00Z", 1, 1.0, "x"),
            entry("b", "2020-01-01T00:00:00Z", 20, 1.0, "x"),
        ]),
    );
    let run = project.json(&["run", "sums"]);
    assert_eq!(
        (&run["rows_written"], &run["rows_deleted"]),
        (&json!(1), &json!(1))
    );
    project.ok(&["materialize", "sums"]);
    assert_eq!(sums(&project, "a", now)["sums_small_sum_lifetime"], 6);
    assert_eq!(sums(&project, "b", now)["sums_small_sum_lifetime"], 24);
    let texts: Vec<String> = ["sums_v1", "last_entry_v1", "entries_events"]
        .iter()
        .flat_map(|table| project.offline_rows(table))
        .map(|row| row.to_string())
        .collect();
    let of_before = |text: &&String| text.contains("2020-01-02T1") || text.contains("\"small\":50");
    assert_eq!(texts.iter().filter(of_before).count(), 0, "{texts:?}");
    for (arguments, wanted) in [
        (
            vec!["delete", "acount", "key_a=a"],
            "no feature group describes an entity `acount`",
        ),
        (
            vec!["delete", "account", "key_a=a"],
            "the join keys of entity `account` are key_a, key_b",
        ),
        (
            vec!["delete", "account", "key_a=a", "key_b=x"],
            "`x` is no value",
        ),
    ] {
        let said = project.fails(&arguments);
        assert!(said.contains(wanted), "{said}");
    }
}

/// Whatever is killed, whenever, and repeated: every event counts once.
#[test]
fn upkeep_that_is_killed_loses_nothing_and_doubles_nothing() {
    let mut random = Random::new();
    let event =
        |id: i64, time: String| entry(&format!("k{}", id % 5), &time, id, 1.0, &id.to_string());
    let history: Vec<Json> = (0..400)
        .map(|id| {
            event(
                id,
                format!("2019-12-{:02}T{:02}:00:00Z", 1 + id % 28, id % 24),
            )
        })
        .collect();
    // Every fourth comes too late.
    let pushed: Vec<Json> = (400..800)
        .map(|id| {
            event(
                id,
                format!(
                    "2020-01-{:02}T{:02}:30:{:02}Z",
                    2 - i64::from(id % 4 == 0),
                    11,
                    id % 60
                ),
            )
        })
        .collect();
    let project = ledger("lateness = \"1h\"").applied_with("entries.ndjson", &lines(&history));
    let file = project.write("push.ndjson", lines(&pushed));
    let commands: [&[&str]; 6] = [
        &[
            "push",
            "entries",
            file.to_str().unwrap(),
            "--clock",
            "2020-01-02T12:00:00Z,0",
        ],
        // On the same day: what is long past by the clock of a run, its store forgets.
        &[
            "run",
            "sums",
            "--to",
            "2020-01-01",
            "--clock",
            "2020-01-02T12:00:00Z,0",
        ],
        &["heal", "sums", "--clock", "2020-01-03T00:00:00Z,0"],
        &["compact", "--horizon", "0s"],
        &["materialize", "sums"],
        &[
            "delete",
            "account",
            "key_a=k3",
            "key_b=1",
            "--clock",
            "2020-01-04T00:00:00Z,0",
        ],
    ];
    let mut kill = |command: &[&str]| {
        let mut run = project
            .command(command)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(random.below(120)));
        let _ = run.kill();
        run.wait().unwrap();
        random.below(commands.len() as u64 - 1) as usize
    };
    let mut next = 0;
    for _ in 0..40 {
        next = kill(commands[next]);
    }
    // In an order in which each has something to do; and once more, for nothing.
    for command in [0, 1, 2, 3, 0, 1, 2, 3] {
        project.ok(commands[command]);
    }
    let found = |key: i64| {
        let features = sums(&project, &format!("k{key}"), "2020-01-05T00:00:00Z");
        (
            features["sums_count_lifetime"].clone(),
            features["sums_small_sum_lifetime"].clone(),
        )
    };
    let of_key = |key: i64| (0..800).filter(move |id| id % 5 == key);
    let wanted = |key: i64| (json!(160), json!(of_key(key).sum::<i64>()));
    for key in 0..5 {
        assert_eq!(found(key), wanted(key), "k{key}");
    }
    let values = || -> Vec<i64> {
        let rows = project.offline_rows("sums_v1").into_iter();
        let mut values: Vec<i64> = rows.map(|row| row["small"].as_i64().unwrap()).collect();
        values.sort_unstable();
        values
    };
    assert_eq!(values(), (0..800).collect::<Vec<_>>());
    for _ in 0..4 {
        kill(commands[5]);
    }
    project.ok(commands[5]);
    project.ok(commands[4]);
    assert_eq!(found(3), (Json::Null, Json::Null));
    for key in [0, 1, 2, 4] {
        assert_eq!(
            found(key),
            wanted(key),
            "k{key}, of which nothing was deleted"
        );
    }
    assert_eq!(
        values(),
        (0..800).filter(|id| id % 5 != 3).collect::<Vec<_>>()
    );
    let raw = project.offline_rows("entries_events");
    assert!(
        raw.iter()
            .all(|row| !row["payload"].as_str().unwrap().contains("\"k3\""))
    );
    assert_eq!(raw.len(), 320);
}

/// Others that are alike stay: entities with the same keys, events of another source
/// with the same identity.
#[test]
fn a_deletion_is_of_one_entity_alone() {
    let ledger = |name: &str, entity: &str| {
        format!(
            r#"
[sources.{name}]
type = "stream"
id = "id"
[groups.{name}]
entity = "{entity}"
event_time = "happened_at"
[pipelines.{name}]
source = "{name}"
function = "facts"
group = "{name}"
"#
        )
    };
    let project = Project::new(&format!(
        r#"
[project]
name = "alike"
[entities.user]
keys = {{ key_a = "utf8", key_b = "int64" }}
[entities.order]
keys = {{ key_a = "utf8", key_b = "int64" }}
[functions.facts]
component = "{}"
{}{}{}
[views.user]
lookups = [{{ group = "users" }}]
[views.order]
lookups = [{{ group = "orders" }}]
"#,
        guest("facts").display(),
        ledger("users", "user"),
        ledger("orders", "order"),
        ledger("payments", "user"),
    ));
    project.ok(&["apply"]);
    let server = project.serve(&["--clock", "2020-01-02T00:00:00Z,0"]);
    let fact = |id: u32, key: &str| json!({"id": id, "key_a": key, "key_b": 1, "happened_at": "2020-01-01", "value": id, "score": null});
    server.events("users", &lines(&[fact(5, "x"), fact(6, "y")]));
    server.events("orders", &lines(&[fact(5, "x"), fact(6, "y")]));
    server.events("payments", &lines(&[fact(5, "y"), fact(7, "x")]));
    // Rows are in the outbox still, or on their way.
    let deletion = project.json(&[
        "delete",
        "user",
        "key_a=x",
        "key_b=1",
        "--clock",
        "2020-01-03,0",
    ]);
    server.stop();
    let ids = |table: &str| -> Vec<String> {
        let rows = project.offline_rows(table).into_iter();
        let mut ids: Vec<String> = rows
            .map(|row| row["event_id"].as_str().unwrap().to_owned())
            .collect();
        ids.sort();
        ids
    };
    for (table, wanted) in [
        ("users_v1", &["6"][..]),
        ("users_events", &["6"]),
        ("orders_v1", &["5", "6"]),
        ("orders_events", &["5", "6"]),
        ("payments_v1", &["5"]),
        ("payments_events", &["5"]),
    ] {
        assert_eq!(ids(table), wanted, "{table}: {deletion}");
    }
    let value = |view: &str| {
        project.json(&["get", view, "key_a=x", "key_b=1"])["features"][format!("{view}s_value")]
            .clone()
    };
    assert_eq!((value("user"), value("order")), (Json::Null, json!(5)));
    // What another entity had before is still taken in.
    let file = project.write("push.ndjson", lines(&[fact(8, "x")]));
    let push = |source: &str| {
        let arguments = [
            "push",
            source,
            file.to_str().unwrap(),
            "--output",
            "json",
            "--clock",
            "2020-01-04,0",
        ];
        let output = project.command(&arguments).output().unwrap();
        serde_json::from_slice::<Json>(&output.stdout).unwrap()["accepted"].clone()
    };
    assert_eq!((push("users"), push("orders")), (json!(0), json!(1)));
}

#[test]
fn tables_are_compacted_beside_writers() {
    let project = ledger("").applied_with("entries.ndjson", "");
    let server = project.serve(&["--clock", "2020-01-01T00:00:00Z,0"]);
    let mut pushed = 0;
    for round in 0..6 {
        for _ in 0..5 {
            let time = format!("2020-01-01T00:{:02}:{:02}Z", pushed / 60, pushed % 60);
            server.set_clock(&time);
            assert_eq!(
                server
                    .events(
                        "entries",
                        &entry(["b", "a"][pushed % 2], &time, pushed as i64, 1.0, "x").to_string()
                    )
                    .0,
                200
            );
            pushed += 1;
            std::thread::sleep(Duration::from_millis(if round < 3 { 250 } else { 20 }));
        }
        if round > 2 {
            project.ok(&["compact", "--horizon", "0s"]);
        }
    }
    server.stop();
    let before = project.offline("sums_v1");
    assert_eq!(before.len(), pushed);
    let report = project.json(&["compact", "sums_v1", "--horizon", "0s"]);
    assert_eq!(report[0]["table"], "sums_v1");
    assert_eq!(project.offline("sums_v1"), before);
    let table = project.json(&["tables"]);
    let table = table
        .as_array()
        .unwrap()
        .iter()
        .find(|t| t["table"] == "sums_v1")
        .unwrap();
    assert_eq!(
        (&table["files"], &table["rows"], &table["entities"]),
        (&json!(1), &json!(pushed), &json!(2)),
        "{table}"
    );
    // Sorted by key and time.
    let rows = project.offline_rows("sums_v1");
    let order: Vec<(String, String)> = rows
        .iter()
        .map(|row| (row["key_a"].to_string(), row["event_timestamp"].to_string()))
        .collect();
    assert!(order.is_sorted(), "{order:?}");
    if crate::harness::are_embedded() {
        let on_disk = walk(&project.path().join(".wafer/offline/sums_v1/events"));
        assert_eq!(on_disk, 1, "old files are gone");
    }
    let said = project.fails(&["compact", "sum_v1"]);
    assert!(
        said.contains("there is no definition of table `sum_v1`"),
        "{said}"
    );
}

/// Number of files below a folder.
fn walk(folder: &std::path::Path) -> usize {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| if path.is_dir() { walk(&path) } else { 1 })
        .sum()
}

/// A pipeline over another group's rows: its rows are visible no earlier than those
/// that they were made from.
#[test]
fn pipelines_are_chained() {
    let project = ledger("delay = \"1h\"");
    project.replace(
        "[views.account]",
        &format!(
            r#"[entities.ledger_day]
keys = {{ key_a = "utf8", key_b = "int64" }}
[sources.known_facts]
type = "table"
group = "facts"
[sources.raw_facts]
type = "files"
path = "facts.ndjson"
delay = "1h"
[functions.facts]
component = "{}"
[groups.facts]
entity = "account"
event_time = "happened_at"
[groups.copied]
entity = "ledger_day"
event_time = "happened_at"
[pipelines.facts]
source = "raw_facts"
function = "facts"
group = "facts"
[pipelines.copied]
source = "known_facts"
function = "facts"
group = "copied"
[views.account]"#,
            guest("facts").display()
        ),
    );
    let fact = |time: &str, value: i64| {
        json!({"key_a": "a", "key_b": 1, "happened_at": time, "value": value, "score": 0.5})
            .to_string()
            + "\n"
    };
    project.write("entries.ndjson", "");
    let project = project.applied_with("facts.ndjson", &fact("2020-01-01T00:00:00Z", 1));
    project.ok(&["run", "facts"]);
    assert_eq!(project.json(&["run", "copied"])["rows_written"], 1);
    let again = project.ok(&["run", "copied"]);
    assert!(again.contains("nothing changed"), "{again}");
    let copied = &project.offline_rows("copied_v1")[0];
    let original = &project.offline_rows("facts_v1")[0];
    assert_eq!(original["available_timestamp"], "2020-01-01T01:00:00Z");
    for column in [
        "event_timestamp",
        "available_timestamp",
        "event_id",
        "value",
        "score",
    ] {
        assert_eq!(copied[column], original[column], "{column}");
    }
    // Other rows above, other rows below.
    project.write(
        "facts.ndjson",
        fact("2020-01-01T00:00:00Z", 5) + &fact("2020-01-02T00:00:00Z", 6),
    );
    project.ok(&["run", "facts"]);
    assert_eq!(project.json(&["run", "copied"])["rows_written"], 2);
    let mut values: Vec<i64> = project
        .offline_rows("copied_v1")
        .iter()
        .filter_map(|row| row["value"].as_i64())
        .collect();
    values.sort_unstable();
    assert_eq!(values, [5, 6]);
    // What the function reads must be there.
    project.replace(
        "group = \"facts\"\n[sources",
        "group = \"last_entry\"\n[sources",
    );
    let said = project.fails(&["apply"]);
    assert!(said.contains("pipelines.copied: function `facts` reads `value` (int64), and group `last_entry` has no such column"), "{said}");
}

/// A nullable column may be added to a version that is in use; rows of before have
/// nulls in it.
#[test]
fn nullable_columns_are_added_to_a_version() {
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
    // `amount` comes between the two in the function; in the table it comes last.
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
    // Taking one away, or changing a windowed group's aggregates, needs a version.
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

/// Raw events are kept: a group that is added later has them too.
#[test]
fn raw_events_fill_groups_that_come_later() {
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
    // It was visible when it came in, under its own identity.
    assert_eq!(rows[0]["available_timestamp"], "2020-01-01T00:00:10Z");
    let archived: Vec<Json> = project
        .offline_rows("entries_events")
        .iter()
        .map(|row| row["event_id"].clone())
        .collect();
    assert!(archived.contains(&rows[0]["event_id"]) && archived.contains(&rows[1]["event_id"]));
}
