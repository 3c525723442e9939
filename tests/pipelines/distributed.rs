//! Distributed runs, whose input is divided among processes. They have the same result as runs of
//! one process, whatever happens to the processes.

use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::harness::ledger::{entry, ledger, lines};
use crate::harness::{Project, Random};

const FILES: usize = 9;

/// The same clock for all runs, so that rows are equal in all columns.
const CLOCK: [&str; 2] = ["--clock", "2020-03-01T00:00:00Z,0"];

/// Returns the content of a file. Some of its lines cannot be read, and some have no time.
fn file(number: usize, salt: i64) -> String {
    let mut text = String::new();
    for n in 0..400 {
        let n = i64::try_from(number).unwrap() * 400 + n;
        let key = format!("k{}", n * 7 % 50);
        let time = format!(
            "2020-01-{:02}T{:02}:{:02}:00Z",
            n % 28 + 1,
            n / 7 % 24,
            n % 60
        );
        let row = entry(
            &key,
            &time,
            n * 31 + salt,
            n as f64 / 8.0,
            &format!("t{}", n % 9),
        );
        text += &lines(&[row]);
    }
    text += "{oops\n";
    text += &lines(&[json!({"key_a": "a", "key_b": 1, "happened_at": null, "small": 1})]);
    text
}

fn project() -> Project {
    let project = ledger("");
    std::fs::create_dir(project.path().join("in")).unwrap();
    for number in 0..FILES {
        project.write(&format!("in/{number}.ndjson"), file(number, 0));
    }
    project.replace("path = \"entries.ndjson\"", "path = \"in/*.ndjson\"");
    project.applied()
}

fn run(project: &Project, pipeline: &str, more: &[&str]) -> Json {
    project.json(&[&["run", pipeline], &CLOCK[..], more].concat())
}

const DIVIDED: [&str; 4] = ["--processes", "3", "--partition-size", "50KiB"];

/// Returns everything that is visible of what the runs wrote.
fn everything(project: &Project) -> Json {
    let rows = |table: &str| {
        let mut rows: Vec<String> = project
            .offline_rows(table)
            .iter()
            .map(Json::to_string)
            .collect();
        rows.sort();
        rows
    };
    let tables = ["sums_v1", "last_entry_v1", "sums_v1_quarantine"].map(rows);
    let vectors: Vec<Json> = (0..50)
        .map(|n| {
            let key = format!("key_a=k{n}");
            let get = [
                "get",
                "account",
                &key,
                "key_b=1",
                "--clock",
                "2020-01-20T00:00:00Z,0",
            ];
            project.json(&get)["features"].clone()
        })
        .collect();
    json!([tables, vectors])
}

/// Returns the counts of rows in a record.
fn counts(record: &Json) -> Json {
    let names = [
        "generation",
        "rows_read",
        "rows_written",
        "rows_outside",
        "rows_rejected",
        "rejects",
        "warnings",
        "state",
        "inputs",
    ];
    names.iter().map(|name| record[name].clone()).collect()
}

#[test]
fn distributed_runs_have_the_result_of_one_process() {
    let (whole, divided) = (project(), project());
    for pipeline in ["sums", "last_entry"] {
        let one = run(&whole, pipeline, &[]);
        // The place of a quarantined row contains the path of the project.
        let mut several = run(&divided, pipeline, &DIVIDED).to_string();
        several = several.replace(&divided.at(""), &whole.at(""));
        let several: Json = serde_json::from_str(&several).unwrap();
        assert_eq!(one["rows_rejected"], 2 * FILES);
        assert_eq!(counts(&one), counts(&several));
        assert_eq!(
            one["online_applied"], several["online_applied"],
            "both are new, so nothing was older"
        );
    }
    let seen = |project: &Project| everything(project).to_string();
    let same = |text: String| text.replace(&divided.at(""), &whole.at(""));
    assert_eq!(seen(&whole), same(seen(&divided)));
    // Each kind of run recognises the work of the other.
    let said = divided.ok(&[&["run", "sums"], &CLOCK[..]].concat());
    assert!(said.contains("nothing changed since run"), "{said}");
    let said = whole.ok(&[&["run", "sums"], &CLOCK[..], &DIVIDED].concat());
    assert!(said.contains("nothing changed since run"), "{said}");
    // Other content of one file replaces the interval.
    for project in [&whole, &divided] {
        project.write("in/4.ndjson", file(4, 1));
    }
    let one = run(&whole, "sums", &[]);
    let several = run(&divided, "sums", &DIVIDED);
    assert_eq!(
        (&one["generation"], &several["generation"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(seen(&whole), same(seen(&divided)));
}

fn children(parent: u32) -> Vec<u32> {
    let path = format!("/proc/{parent}/task");
    let tasks = std::fs::read_dir(path).into_iter().flatten().flatten();
    let lists = tasks.map(|task| std::fs::read_to_string(task.path().join("children")));
    let lists = lists.filter_map(Result::ok).collect::<Vec<_>>().join(" ");
    lists
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

fn kill(pid: u32) {
    let killed = std::process::Command::new("kill")
        .args(["-KILL", &pid.to_string()])
        .stderr(Stdio::null())
        .status();
    assert!(killed.is_ok());
}

fn start(project: &Project) -> Child {
    project
        .command(&[&["run", "sums"], &CLOCK[..], &DIVIDED].concat())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn killed_processes_of_a_distributed_run_change_nothing() {
    let mut random = Random::new();
    let (whole, divided) = (project(), project());
    run(&whole, "sums", &[]);
    run(&whole, "last_entry", &[]);
    run(&divided, "last_entry", &DIVIDED);
    for attempt in 1..=8 {
        let mut driver = start(&divided);
        std::thread::sleep(Duration::from_millis(random.below(60 * attempt)));
        let workers = children(driver.id());
        if !workers.is_empty() && random.below(2) == 0 {
            // One of the workers is killed: the others go on, and it is replaced.
            kill(workers[usize::try_from(random.below(workers.len() as u64)).unwrap()]);
            std::thread::sleep(Duration::from_millis(random.below(60)));
        }
        driver.kill().unwrap();
        driver.wait().unwrap();
        let rows = divided.offline("sums_v1").len();
        assert!(rows == 0 || rows == 400 * FILES, "{rows} rows");
    }
    let record = run(&divided, "sums", &DIVIDED);
    assert_eq!(record["generation"], 1, "the inputs never changed");
    let seen = everything(&divided).to_string();
    assert_eq!(
        everything(&whole).to_string(),
        seen.replace(&divided.at(""), &whole.at(""))
    );
}

#[test]
fn a_killed_worker_of_a_distributed_run_is_replaced() {
    let project = project();
    let mut driver = start(&project);
    let mut killed = 0;
    // Two kills cannot make a partition fail for good, even if both hit the same one.
    while killed < 2 && driver.try_wait().unwrap().is_none() {
        if let [first, ..] = children(driver.id())[..] {
            kill(first);
            killed += 1;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(driver.wait().unwrap().success());
    println!("{killed} workers were killed");
    assert_eq!(project.offline("sums_v1").len(), 400 * FILES);
}

#[test]
fn errors_of_a_distributed_run_say_why() {
    let project = project();
    let fails =
        |pipeline: &str| project.fails(&[&["run", pipeline], &CLOCK[..], &DIVIDED].concat());
    project.replace(
        "[groups.last_entry]",
        "[groups.last_entry]\nexpectations = [{ column = \"small\", unique = true, policy = \"warn\" }]",
    );
    project.ok(&["apply"]);
    let said = fails("last_entry");
    assert!(
        said.contains("expects values of `small` to be unique"),
        "{said}"
    );
    project.replace(
        "unique = true, policy = \"warn\"",
        "min = 0, policy = \"fail\"",
    );
    project.ok(&["apply"]);
    project.write(
        "in/6.ndjson",
        lines(&[entry("a", "2020-01-01T00:00:00Z", -1, 0.5, "x")]),
    );
    let said = fails("last_entry");
    assert!(said.contains("in/6.ndjson:1"), "{said}");
    assert!(project.offline("last_entry_v1").is_empty());
    let runs = project.json(&["runs"]);
    assert_eq!(runs[0]["state"], "failed", "{runs}");
    // The run goes on once the file is corrected.
    project.write("in/6.ndjson", file(6, 0));
    let record = run(&project, "last_entry", &DIVIDED);
    assert_eq!(record["rows_written"], 400 * FILES);
    // A null fraction is checked over all partitions together.
    project.replace(
        "min = 0, policy = \"fail\"",
        "null_fraction = 0.0, policy = \"fail\"",
    );
    project.replace("column = \"small\"", "column = \"label_text\"");
    project.ok(&["apply"]);
    let none = json!({"key_a": "n", "key_b": 1, "happened_at": "2020-01-01T00:00:00Z", "small": 1, "amount": 1.0});
    project.write("in/7.ndjson", lines(&[none]));
    let said = fails("last_entry");
    assert!(
        said.contains("1 of 3201 values of `label_text` are null"),
        "{said}"
    );
}
