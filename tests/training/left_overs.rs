//! Training sets that fail, are killed, or that nobody waits for: nothing of them is left.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use crate::harness::ledger::{ledger, three_entries};
use crate::harness::{Project, text};

fn filled() -> Project {
    let project = ledger("").applied_with("entries.ndjson", &three_entries());
    project.ok(&["run", "last_entry"]);
    project.ok(&["run", "sums"]);
    project
}

/// Labels that take some time to be joined.
fn many_labels() -> String {
    let rows = (0..400_000).map(|n| format!("a,1,2020-01-02T00:00:{:02}Z\n", n % 60));
    format!("key_a,key_b,event_timestamp\n{}", rows.collect::<String>())
}

/// Returns how many versions of tables are pinned.
fn pinned(project: &Project) -> usize {
    let tables = project.json(&["tables"]);
    let tables = tables.as_array().unwrap();
    let pinned = tables.iter().map(|table| &table["pinned"]);
    pinned
        .map(|versions| versions.as_array().unwrap().len())
        .sum()
}

/// Returns the files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

#[test]
fn a_training_set_that_fails_leaves_nothing() {
    if !crate::harness::are_embedded() {
        return;
    }
    let project = filled();
    let artifacts = project.path().join(".wafer/artifacts");
    let before = files(&artifacts);
    let labels = "key_a,key_b,event_timestamp\na,1,2020-01-02T00:00:00Z\na,1,\n";
    project.write("labels.csv", labels);
    let said = project.fails(&[
        "training-set",
        "account",
        "--labels",
        &project.at("labels.csv"),
        "--out",
        &project.at("out.parquet"),
    ]);
    assert!(said.contains("row 1: is null"), "{said}");
    assert_eq!(files(&artifacts), before, "the labels are not kept");
    assert_eq!(pinned(&project), 0);
    for file in ["out.parquet", "out.parquet.wafer-part"] {
        assert!(!project.path().join(file).exists(), "{file}");
    }
    assert_eq!(project.json(&["training-sets"]), Json::Array(Vec::new()));
}

#[test]
fn labels_are_not_overwritten_by_the_training_set_made_of_them() {
    let project = filled();
    let labels = "key_a,key_b,event_timestamp\na,1,2020-01-02T00:00:00Z\n";
    project.write("labels.csv", labels);
    std::fs::create_dir(project.path().join("sub")).unwrap();
    let path = |name: &str| project.path().join(name);
    std::os::unix::fs::symlink(path("labels.csv"), path("link.csv")).unwrap();
    std::fs::hard_link(path("labels.csv"), path("hard.csv")).unwrap();
    for out in ["labels.csv", "sub/../labels.csv", "link.csv", "hard.csv"] {
        let said = project.fails(&[
            "training-set",
            "account",
            "--labels",
            &project.at("labels.csv"),
            "--out",
            &project.at(out),
        ]);
        assert!(said.contains("is the file of the labels"), "{out}: {said}");
        let found = std::fs::read_to_string(path("labels.csv")).unwrap();
        assert_eq!(found, labels, "{out}");
    }
    project.training_set("account", "labels.csv", "sub/labels.csv");
}

#[test]
fn files_of_sources_are_not_overwritten_by_training_sets_and_exports() {
    let project = filled();
    let labels = "key_a,key_b,event_timestamp\na,1,2020-01-02T00:00:00Z\n";
    project.write("labels.csv", labels);
    let path = |name: &str| project.path().join(name);
    std::os::unix::fs::symlink(path("entries.ndjson"), path("link.csv")).unwrap();
    std::fs::hard_link(path("entries.ndjson"), path("hard.csv")).unwrap();
    let check_refused = |out: &str| {
        let (labels, out) = (project.at("labels.csv"), project.at(out));
        let set = ["training-set", "account", "--labels", &labels];
        let export = ["export", "last_entry_v1"];
        for command in [&set[..], &export] {
            let said = project.fails(&[command, &["--out", &out]].concat());
            let wanted = "is a file that source `entries` reads: name another file";
            assert!(said.contains(wanted), "{command:?}: {said}");
            let found = std::fs::read_to_string(path("entries.ndjson")).unwrap();
            assert_eq!(found, three_entries(), "{command:?}");
        }
    };
    check_refused("entries.ndjson");
    check_refused("link.csv");
    check_refused("hard.csv");
    project.replace("\"entries.ndjson\"", "\"*.ndjson\"");
    check_refused("entries.ndjson");
    project.ok(&["export", "last_entry_v1", "--out", &project.at("rows.csv")]);
    project.training_set("account", "labels.csv", "rows.csv");
}

#[test]
fn files_of_applied_sources_are_not_overwritten_until_the_project_file_is_applied() {
    let project = filled();
    let content = || std::fs::read_to_string(project.path().join("entries.ndjson")).unwrap();
    let out = project.at("entries.ndjson");
    let export = ["export", "last_entry_v1", "--out", &out];
    project.replace("\"entries.ndjson\"", "\"elsewhere/*.ndjson\"");
    let said = project.fails(&export);
    let wanted = "is a file that the applied source `entries` reads: name another file";
    assert!(said.contains(wanted), "{said}");
    assert_eq!(content(), three_entries());
    project.ok(&["apply"]);
    project.ok(&export);
    assert_ne!(content(), three_entries());
}

/// Sources, a function and models with files of their own. The files of `nowhere` do not exist.
const MORE: &str = r#"
[sources.lake]
type = "files"
path = "lake"

[sources.pattern]
type = "files"
path = "in/**/*.csv"

[sources.nowhere]
type = "files"
path = "nowhere/*.csv"

[sources.dl]
type = "delta"
path = "dl"

[functions.other]
component = "other.wasm"

[models.guess]
view = "account"
function = "other"
training = { labels = "training.csv" }

[models.again]
view = "account"
function = "other"
training = { labels = "in/labels.csv" }
"#;

#[test]
fn what_the_project_reads_and_keeps_is_not_overwritten_by_training_sets_and_exports() {
    let project = filled();
    project.write(
        "labels.csv",
        "key_a,key_b,event_timestamp\na,1,2020-01-02T00:00:00Z\n",
    );
    for folder in ["lake/day=1", "in/a", "dl/_delta_log", "dl/day=1"] {
        std::fs::create_dir_all(project.path().join(folder)).unwrap();
    }
    for file in [
        "other.wasm",
        "training.csv",
        "in/a/b.csv",
        "in/labels.csv",
        "dl/day=1/a.csv",
        "dl/day=1/_b.csv",
    ] {
        project.write(file, "content");
    }
    let path = |name: &str| project.path().join(name);
    std::os::unix::fs::symlink(path("dl"), path("link")).unwrap();
    let settings = std::fs::read_to_string(path("wafer.toml")).unwrap();
    project.write("wafer.toml", settings + MORE);
    let labels = project.at("labels.csv");
    let set = ["training-set", "account", "--labels", &labels];
    let export = ["export", "last_entry_v1"];
    let check_refused = |command: &[&str], out: &str, wanted: &str| {
        let before = std::fs::read(path(out)).ok();
        let said = project.fails(&[command, &["--out", &project.at(out)]].concat());
        assert!(said.contains(wanted), "{command:?}, {out}: {said}");
        assert_eq!(std::fs::read(path(out)).ok(), before, "{command:?}, {out}");
    };
    let mut cases = vec![
        ("wafer.toml", "is the project file: name another file"),
        ("other.wasm", "is the component of function `other`"),
        ("in/a/b.csv", "is a file that source `pattern` reads"),
        ("in/c.csv", "would be a file that source `pattern` reads"),
        ("lake/c.csv", "would be a file that source `lake` reads"),
        ("lake/day=1/c.csv", "would be a file that source `lake`"),
        ("dl/day=1/a.csv", "is a file of the table that source `dl`"),
        ("link/day=1/_b.csv", "is a file of the table that source"),
        ("dl/c.csv", "is inside the folder of the table that source"),
    ];
    if crate::harness::are_embedded() {
        cases.push((".wafer/c.csv", "is inside the store"));
    }
    for (out, wanted) in cases {
        check_refused(&set, out, wanted);
        check_refused(&export, out, wanted);
    }
    let wanted = "is the file of the labels of model `guess`";
    check_refused(&set, "training.csv", wanted);
    // Labels are made by exports, unless a source reads them.
    let wanted = "is a file that source `pattern` reads";
    check_refused(&export, "in/labels.csv", wanted);
    for out in ["training.csv", "in/c.ndjson", "out.csv", "out.csv"] {
        project.ok(&["export", "last_entry_v1", "--out", &project.at(out)]);
    }
    // Files that cannot be listed may be the one that exists.
    std::os::unix::fs::symlink(path("in"), path("in/a/back")).unwrap();
    let wanted = "the files of source `pattern` cannot be listed";
    check_refused(&export, "out.csv", wanted);
    check_refused(&set, "out.csv", "in/a/back leads back to ");
}

#[test]
fn pins_of_a_killed_process_are_removed_by_the_next_one() {
    let project = filled();
    project.write("labels.csv", many_labels());
    let start = Instant::now();
    let mut was_pinned = false;
    while !was_pinned && start.elapsed() < Duration::from_secs(60) {
        let mut making = project
            .command(&["training-set", "account"])
            .args(["--labels", &project.at("labels.csv")])
            .args(["--out", &project.at("out.parquet")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(300));
        making.kill().unwrap();
        making.wait().unwrap();
        was_pinned = pinned(&project) > 0;
    }
    if !was_pinned {
        println!("skipped: no process was killed while it had a pin");
        return;
    }
    project.ok(&["compact"]);
    assert_eq!(pinned(&project), 0);
}

#[test]
fn temporary_folders_of_killed_processes_are_removed_by_the_next_one() {
    let project = filled();
    project.write(
        "labels.csv",
        "key_a,key_b,event_timestamp\na,1,2020-01-02T00:00:00Z\n",
    );
    let temporary = tempfile::tempdir().unwrap();
    let abandoned = temporary.path().join("wafer-work-abandoned");
    std::fs::create_dir(&abandoned).unwrap();
    std::fs::write(abandoned.join("labels.csv"), "labels").unwrap();
    std::fs::write(temporary.path().join("of-others"), "stays").unwrap();
    let made = project
        .command(&["training-set", "account"])
        .args(["--labels", &project.at("labels.csv")])
        .args(["--out", &project.at("out.parquet")])
        .env("TMPDIR", temporary.path())
        .status()
        .unwrap();
    assert!(made.success());
    assert!(!abandoned.exists());
    assert!(temporary.path().join("of-others").exists());
}

#[test]
fn an_interrupted_training_set_leaves_no_file() {
    let project = filled();
    project.write("labels.csv", many_labels());
    let making = project
        .command(&["training-set", "account"])
        .args(["--labels", &project.at("labels.csv")])
        .args(["--out", &project.at("out.parquet")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(400));
    let interrupted = Command::new("kill")
        .args(["-INT", &making.id().to_string()])
        .status();
    assert!(interrupted.unwrap().success());
    let output = making.wait_with_output().unwrap();
    // A signal ends a process that does not listen to signals yet.
    if output.status.code().is_none_or(|code| code == 0) {
        println!(
            "skipped: it was interrupted too early or too late: {}",
            output.status
        );
        return;
    }
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("interrupted; nothing was written"));
    for file in ["out.parquet", "out.parquet.wafer-part"] {
        assert!(!project.path().join(file).exists(), "{file}");
    }
}

#[test]
fn a_client_that_goes_away_leaves_neither_pin_nor_labels() {
    if !crate::harness::are_embedded() {
        return;
    }
    let project = filled();
    let artifacts = project.path().join(".wafer/artifacts");
    let before = files(&artifacts);
    let server = project.serve(&[]);
    let labels = many_labels();
    let mut client = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    let head = format!(
        "POST /v1/views/account/training-set HTTP/1.1\r\nhost: {}\r\ncontent-type: text/csv\r\n\
         content-length: {}\r\n\r\n",
        server.url.trim_start_matches("http://"),
        labels.len()
    );
    client.write_all(head.as_bytes()).unwrap();
    client.write_all(labels.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    drop(client);
    let start = Instant::now();
    loop {
        let sets = project.json(&["training-sets"]);
        if !sets.as_array().unwrap().is_empty() {
            println!("skipped: the training set was made before its client went away");
            return;
        }
        if pinned(&project) == 0 && files(&artifacts) == before {
            break;
        }
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "{} versions are pinned",
            pinned(&project)
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    server.stop();
    assert_eq!(pinned(&project), 0);
    assert_eq!(files(&artifacts), before);
}
