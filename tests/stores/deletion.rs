//! Deletion of entities.

use serde_json::{Value as Json, json};

use crate::harness::ledger::{entry, ledger, lines, push, sums};
use crate::harness::pass::Pass;
use crate::harness::{Project, guest};

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
    // Events from before the deletion are not accepted online, and those from after it are.
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
    // This also holds when the entity has a newer row, and the refused event is not archived.
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
    // Rows of files from before the deletion are left out when the interval is run again.
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
            "key `key_b`: \"x\" is not int64",
        ),
        // A parser makes 1 of both, which is another entity.
        (
            vec![
                "delete",
                "account",
                "key_a=b",
                "key_b=1.0000000000000000001",
            ],
            "`key_b` has the number 1.0000000000000000001, which is not kept exactly",
        ),
        (
            vec![
                "delete",
                "account",
                "key_a=b",
                "key_b=0.99999999999999999999",
            ],
            "`key_b` has the number 0.99999999999999999999, which is not kept exactly",
        ),
        (
            vec!["delete", "account", "key_a=a", "key_a=b", "key_b=1"],
            "`key_a` is given twice",
        ),
    ] {
        let said = project.fails(&arguments);
        assert!(said.contains(wanted), "{said}");
    }
    assert_eq!(sums(&project, "b", now)["sums_small_sum_lifetime"], 24);
}

/// A deletion does not affect other entities with the same keys, or events of other sources with
/// the same identity.
#[test]
fn a_deletion_affects_one_entity_only() {
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
    let fact = |id: u32, key: &str| json!({"id": id, "key_a": key, "key_b": 1, "happened_at": "2020-01-01T00:00:00Z", "value": id, "score": null});
    server.events("users", &lines(&[fact(5, "x"), fact(6, "y")]));
    server.events("orders", &lines(&[fact(5, "x"), fact(6, "y")]));
    server.events("payments", &lines(&[fact(5, "y"), fact(7, "x")]));
    // Some rows are still in the outbox, or are being flushed.
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
        ("users_v1", &[" 6"][..]),
        ("users_events", &[" 6"]),
        ("orders_v1", &[" 5", " 6"]),
        ("orders_events", &[" 5", " 6"]),
        ("payments_v1", &[" 5"]),
        ("payments_events", &[" 5"]),
    ] {
        assert_eq!(ids(table), wanted, "{table}: {deletion}");
    }
    let value = |view: &str| {
        project.json(&["get", view, "key_a=x", "key_b=1"])["features"][format!("{view}s_value")]
            .clone()
    };
    assert_eq!((value("user"), value("order")), (Json::Null, json!(5)));
    // Earlier events of other entities are still accepted.
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

/// What counts is the entity that a rejected row names, and not how it writes the keys.
#[test]
fn rejected_rows_of_a_deleted_entity_are_deleted_however_their_keys_are_written() {
    let project = Pass {
        source: "type = \"stream\"",
        ..Pass::default()
    };
    let wrong = |id: &str| format!("{{\"id\":{id},\"at\":\"2024-01-01T00:00:00Z\",\"v\":\"x\"}}\n");
    let events = ["1", "1.0", "10e-1", "2"].map(wrong).concat();
    let project = project.project().applied_with("events.ndjson", &events);
    let file = project.at("events.ndjson");
    let pushed = project.command(&["push", "s", &file]).output().unwrap();
    assert!(!pushed.status.success());
    let aside = || project.offline_rows("g_v1_quarantine").len();
    assert_eq!(aside(), 4);
    project.ok(&["delete", "e", "id=1"]);
    assert_eq!(aside(), 1);
    project.ok(&["delete", "e", "id=2.0"]);
    assert_eq!(aside(), 0);
}
