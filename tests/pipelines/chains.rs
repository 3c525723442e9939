//! Chained pipelines, whose source is the group of another pipeline.

use serde_json::json;

use crate::harness::guest;
use crate::harness::ledger::ledger;

/// The rows of a chained pipeline are visible no earlier than the upstream rows that they were made
/// from.
#[test]
fn a_chained_pipeline_follows_the_rows_of_its_upstream_group() {
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
    // When upstream rows are replaced, the rows made of them are replaced.
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
    // The upstream group must have the columns that the function reads.
    project.replace(
        "group = \"facts\"\n[sources",
        "group = \"last_entry\"\n[sources",
    );
    let said = project.fails(&["apply"]);
    assert!(said.contains("pipelines.copied: function `facts` reads `value` (int64), and group `last_entry` has no such column"), "{said}");
}
