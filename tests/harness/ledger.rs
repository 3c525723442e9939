//! The project `ledger`: a stream of events with two join keys, a group of the newest event and a
//! group of aggregates over windows.

use serde_json::{Value as Json, json};

use super::{Project, guest};

/// Makes the project `ledger`, with more settings of its source.
pub(crate) fn ledger(extra: &str) -> Project {
    Project::new(&format!(
        r#"
[project]
name = "ledger"

[entities.account]
keys = {{ key_a = "utf8", key_b = "int64" }}

[sources.entries]
type = "stream"
path = "entries.ndjson"
{extra}

[functions.ledger]
component = "{}"

[groups.last_entry]
entity = "account"
event_time = "happened_at"
ttl = "10d"

[groups.sums]
entity = "account"
event_time = "happened_at"
aggregates = [
  {{ function = "count", windows = ["20m", "2h", "1d", "lifetime"] }},
  {{ function = ["count", "sum", "mean", "min", "max", "first", "last", "stddev", "variance", "count_distinct", "approx_count_distinct"], column = "small", windows = ["20m", "2h", "1d", "lifetime"] }},
  {{ function = ["sum", "mean", "min", "max", "stddev"], column = "amount", windows = ["20m", "2h", "1d", "lifetime"] }},
  {{ function = ["sum"], column = "amount", windows = ["3h"], exact = true }},
  {{ function = ["first_k", "last_k", "top_k"], k = 3, column = "label_text", windows = ["2h", "lifetime"] }},
  {{ function = "approx_quantile", quantile = 0.5, column = "amount", windows = ["2h", "1d"] }},
]

[pipelines.last_entry]
source = "entries"
function = "ledger"
group = "last_entry"

[pipelines.sums]
source = "entries"
function = "ledger"
group = "sums"

[views.account]
lookups = [{{ group = "last_entry", as = "last" }}, {{ group = "sums" }}]
"#,
        guest("ledger").display()
    ))
}

/// Returns an event.
pub(crate) fn entry(key: &str, happened_at: &str, small: i64, amount: f64, text: &str) -> Json {
    json!({"key_a": key, "key_b": 1, "happened_at": happened_at, "small": small, "amount": amount, "wild": null, "label_text": text})
}

/// Formats events as NDJSON.
pub(crate) fn lines(entries: &[Json]) -> String {
    entries.iter().map(|e| format!("{e}\n")).collect()
}

/// Returns an event of 1 January 2020 as text.
pub(crate) fn event(key: &str, number: i64) -> String {
    entry(key, "2020-01-01T00:00:00Z", number, 1.0, "x").to_string()
}

/// Returns two events of the key `a` and one of `b`, as NDJSON.
pub(crate) fn three_entries() -> String {
    lines(&[
        entry("a", "2020-01-01T00:00:00Z", 1, 0.1, "x"),
        entry("a", "2020-01-02T00:00:00Z", (1 << 53) + 1, 0.2, "y"),
        entry("b", "2020-01-01T12:00:00Z", 7, 1.5, "z"),
    ])
}

/// Returns events of thirty days, several each day, as NDJSON.
pub(crate) fn month() -> String {
    let entries: Vec<Json> = (0..120)
        .map(|n| {
            let time = format!("2020-01-{:02}T{:02}:00:00Z", n / 4 + 1, n % 4 * 6);
            entry(["a", "b"][n % 2], &time, n as i64, n as f64 * 0.1, "x")
        })
        .collect();
    lines(&entries)
}

/// The span of the events of [`month`].
pub(crate) const MONTH_SPAN: [&str; 4] = ["--from", "2020-01-01", "--to", "2020-01-31"];

/// Backfills the span of [`month`], and returns the report.
pub(crate) fn backfill(project: &Project, pipeline: &str, more: &[&str]) -> Json {
    let mut arguments = vec!["backfill", pipeline];
    arguments.extend(MONTH_SPAN);
    arguments.extend(more);
    project.json(&arguments)
}

/// Pushes events at a time, and returns the summary.
pub(crate) fn push(project: &Project, entries: &[Json], clock: &str) -> Json {
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
    // The exit code says whether events were rejected, so that it may be a failure.
    let output = project.command(&arguments).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Returns the features of a key at a time.
pub(crate) fn sums(project: &Project, key: &str, clock: &str) -> Json {
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

/// Returns the number of events that the group `sums` has of a key at the end of [`month`].
pub(crate) fn count_of(project: &Project, key: &str) -> Json {
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

/// Returns the records of the runs that succeeded, newest first.
pub(crate) fn succeeded(project: &Project) -> Vec<Json> {
    let runs = project.json(&["runs", "--limit", "1000"]);
    let runs = runs.as_array().unwrap().iter();
    runs.filter(|run| run["state"] == "succeeded")
        .cloned()
        .collect()
}

/// Writes files of events to the project's bucket, and makes them the files of its source.
pub(crate) fn entries_on_s3(
    project: &Project,
    folder: &str,
    files: impl IntoIterator<Item = String>,
) {
    for (number, content) in files.into_iter().enumerate() {
        let url = project.write_object(&format!("{folder}/{number}.ndjson"), &content);
        if number == 0 {
            let pattern = url.replace("0.ndjson", "*.ndjson");
            project.replace(
                "path = \"entries.ndjson\"",
                &format!("path = \"{pattern}\""),
            );
        }
    }
}
