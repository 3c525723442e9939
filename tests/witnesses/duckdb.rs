//! Training sets are compared with results of DuckDB and of exact arithmetic in Python.

use std::path::Path;
use std::process::Command;

use crate::harness::{Project, Random, guest, repository, text, witness_python};

const COLUMNS: [&str; 4] = ["small", "amount", "wild", "label_text"];

const SPANS: [(&str, bool); 6] = [
    ("20m", false),
    ("2h", false),
    ("3h", true),
    ("13h", false),
    ("12d", false),
    ("lifetime", false),
];

/// Returns the aggregates of a column that the oracle can compute.
fn functions(column: &str) -> &'static [&'static str] {
    match column {
        "label_text" => &["count", "count_distinct", "first", "last"],
        "wild" => &[
            "count",
            "sum",
            "mean",
            "min",
            "max",
            "count_distinct",
            "first",
            "last",
        ],
        _ => &[
            "count",
            "sum",
            "mean",
            "min",
            "max",
            "stddev",
            "variance",
            "count_distinct",
            "first",
            "last",
        ],
    }
}

fn project(delay: &str) -> Project {
    let mut aggregates = String::new();
    for (span, exact) in SPANS {
        aggregates +=
            &format!(r#"  {{ function = "count", windows = ["{span}"], exact = {exact} }},"#);
        for column in COLUMNS {
            aggregates += &format!(
                "\n  {{ function = {:?}, column = \"{column}\", windows = [\"{span}\"], exact = {exact} }},",
                functions(column)
            );
        }
        aggregates += "\n";
    }
    Project::new(&format!(
        r#"
[project]
name = "oracle"
[entities.pair]
keys = {{ key_a = "utf8", key_b = "int64" }}
[sources.events]
type = "files"
path = "data/events.parquet"
delay = "{delay}"
[sources.facts]
type = "files"
path = "data/facts.parquet"
delay = "{delay}"
[functions.ledger]
component = "{}"
[functions.facts]
component = "{}"
[groups.events]
entity = "pair"
event_time = "happened_at"
aggregates = [
{aggregates}]
[groups.facts]
entity = "pair"
event_time = "happened_at"
[groups.fresh]
entity = "pair"
event_time = "happened_at"
ttl = "1h"
[pipelines.events]
source = "events"
function = "ledger"
group = "events"
[pipelines.facts]
source = "facts"
function = "facts"
group = "facts"
[pipelines.fresh]
source = "facts"
function = "facts"
group = "fresh"
[views.all]
lookups = [{{ group = "facts", as = "fact" }}, {{ group = "fresh" }}, {{ group = "events", as = "win" }}]
"#,
        guest("ledger").display(),
        guest("facts").display()
    ))
}

/// Runs the oracle, which must succeed, and returns what it printed.
fn oracle(python: &Path, arguments: &[&str]) -> String {
    let script = repository().join("tests/oracle/oracle.py");
    let output = Command::new(python)
        .arg(script)
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    text(&output)
}

#[test]
fn duckdb_agrees_on_training_sets_of_generated_data() {
    let Some(python) = witness_python() else {
        return;
    };
    if !crate::harness::are_embedded() {
        return;
    }
    let seed = Random::new().below(1_000_000).to_string();
    // A delay shows mistakes about available times. Without one, mistakes about event times show.
    for delay in ["0s", "10m"] {
        let project = project(delay);
        let folder = project.path().display().to_string();
        oracle(
            &python,
            &[
                "generate", &folder, "--seed", &seed, "--events", "20000", "--facts", "15000",
                "--labels", "5000",
            ],
        );
        let project = project.applied();
        project.ok(&["run", "events"]);
        project.ok(&["run", "fresh"]);
        // The backfill makes many commits, as in practice.
        project.ok(&[
            "backfill",
            "facts",
            "--from",
            "1900-01-01",
            "--to",
            "2100-01-01",
            "--interval",
            "1000d",
        ]);
        // With little memory, the join works in bands of labels and in parts of the entities.
        project.ok(&[
            "training-set",
            "all",
            "--labels",
            &project.at("data/labels.parquet"),
            "--out",
            &project.at("small.parquet"),
            "--memory",
            "4MiB",
        ]);
        project.training_set("all", "data/labels.parquet", "result.parquet");
        let read = |name: &str| std::fs::read(project.path().join(name)).unwrap();
        assert_eq!(
            read("small.parquet"),
            read("result.parquet"),
            "memory changes nothing"
        );
        check(&python, &project, &project.path().join("result.parquet"));
    }
}

fn check(python: &Path, project: &Project, result: &Path) {
    let spans: Vec<String> = SPANS
        .iter()
        .map(|(span, exact)| format!("{span}{}", if *exact { "-exact" } else { "" }))
        .collect();
    let said = oracle(
        python,
        &[
            "check",
            &project.path().display().to_string(),
            &result.display().to_string(),
            "--plain",
            "fact=facts_v1",
            "--plain",
            "fresh=fresh_v1,3600",
            "--windows",
            "win=events_v1",
            "--columns",
            &COLUMNS.join(","),
            "--spans",
            &spans.join(","),
        ],
    );
    println!("{said}");
}

/// The training set has all flights of 2013. At scheduled departure, only facts are known that had
/// happened and arrived by then.
#[test]
fn duckdb_agrees_on_the_training_set_of_the_flights() {
    let Some(python) = witness_python() else {
        return;
    };
    if !crate::harness::are_embedded() {
        return;
    }
    let project = Project::flights().applied();
    project.run_flights();
    let columns =
        "tailnum,carrier,flight,origin,dest,scheduled_departure,scheduled_arrival,arrival_delay";
    project.ok(&[
        "export",
        "scheduled_flight_v1",
        "--out",
        &project.at("labels.parquet"),
        "--columns",
        columns,
    ]);
    let set = project.json(&[
        "training-set",
        "delay_model",
        "--labels",
        &project.at("labels.parquet"),
        "--time",
        "scheduled_departure",
        "--out",
        &project.at("training.parquet"),
    ]);
    assert_eq!(
        (&set["rows"], &set["function_errors"]),
        (&336_776.into(), &0.into())
    );
    let script = repository().join("tests/oracle/flights.py");
    let output = Command::new(python)
        .arg(script)
        .args([project.path(), &project.path().join("training.parquet")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    println!("{}", text(&output));
}

/// The oracle itself is compared with a simple loop.
#[test]
fn the_oracle_finds_mistakes() {
    let Some(python) = witness_python() else {
        return;
    };
    oracle(&python, &["self-test", "--seeds", "2"]);
}
