//! Text that came from outside cannot control a terminal, nor pose as a line of Wafer's own: not in
//! results, errors and logs. JSON has it as it is.

use serde_json::json;

use crate::harness::misbehaving::{ROWS, project};
use crate::harness::{Project, text};

/// What the function of mode `deceptive-text` says everywhere.
const DECEPTIVE: &str = "a\u{1b}[2J\u{9b}2J\u{202e}b\nerror: forged";
/// How it is shown within a line.
const SHOWN: &str = r"a\u{1b}[2J\u{9b}2J\u{202e}b\nerror: forged";

/// Runs a command, and returns what it printed, which must be harmless.
fn said(project: &Project, arguments: &[&str]) -> String {
    let said = text(&project.command(arguments).output().unwrap());
    let is_harmful = |c: char| c != '\n' && c.is_control() || c == '\u{202e}';
    assert!(!said.contains(is_harmful), "{arguments:?}: {said:?}");
    assert!(
        !said.lines().any(|line| line.starts_with("error: forged")),
        "{arguments:?}: {said}"
    );
    said
}

#[test]
fn what_a_function_says_is_escaped_for_people_and_exact_for_programs() {
    let project = project("deceptive-text", "");
    project.write("things.csv", ROWS);
    said(&project, &["apply"]);

    let functions = said(&project, &["functions"]);
    assert!(
        functions.contains(r"a\u{1b}[2J\u{9b}2J\u{202e}b"),
        "{functions}"
    );
    let functions = project.json(&["functions"]);
    let signature = &functions["bad"]["registered"]["signature"];
    assert_eq!(signature["doc"], DECEPTIVE);

    // The function also writes the text to its log.
    let ran = said(&project, &["run", "thing"]);
    assert!(ran.contains(SHOWN), "{ran}");

    let get = ["get", "thing", "id=1", "at=2013-01-01T00:00:00Z", "x=1"];
    let shown = said(&project, &get);
    assert!(shown.contains(SHOWN), "{shown}");
    let vector = project.json(&get);
    assert_eq!(vector["features"]["text"], DECEPTIVE);
    // JSON on a terminal is harmless as well.
    said(&project, &[&get[..], &["--output", "json"]].concat());
}

#[test]
fn errors_of_functions_are_escaped_wherever_they_are_shown() {
    let refused = project("deceptive-refusal", "");
    refused.write("things.csv", ROWS);
    said(&refused, &["apply"]);
    let shown = said(&refused, &["run", "thing"]);
    assert!(shown.contains("refused the batch: a"), "{shown}");
    let runs = said(&refused, &["runs"]);
    assert!(runs.contains(SHOWN), "{runs}");
    assert_eq!(runs.lines().count(), 2, "{runs}");
    let error = refused.json(&["runs"])[0]["error"].clone();
    assert!(error.as_str().unwrap().contains(DECEPTIVE), "{error}");

    let rejected = project("deceptive-row-error", "");
    rejected.write("things.csv", ROWS);
    said(&rejected, &["apply"]);
    let shown = said(&rejected, &["run", "thing"]);
    assert!(shown.contains(SHOWN), "{shown}");
    let get = ["get", "thing", "id=1", "at=2013-01-01T00:00:00Z", "x=1"];
    let shown = said(&rejected, &get);
    assert!(shown.contains(SHOWN), "{shown}");
    let vector = rejected.json(&get);
    assert_eq!(vector["errors"], json!({ "bad": DECEPTIVE }));
    // A dry run prints the error that a run would end with among its results.
    rejected.replace(
        "group = \"thing\"\n",
        "group = \"thing\"\nmax_rejects = 0\n",
    );
    said(&rejected, &["apply"]);
    let shown = said(&rejected, &["run", "thing", "--dry-run"]);
    let (_, error) = shown.split_once("The run would fail: ").unwrap();
    assert!(error.contains(SHOWN), "{shown}");
}

#[test]
fn values_and_names_of_files_are_escaped_in_messages() {
    let project = project("well", "");
    std::fs::create_dir(project.path().join("data")).unwrap();
    project.replace("path = \"things.csv\"", "path = \"data/*.csv\"");
    let name = "data/a\u{1b}[2J\nerror: forged.csv";
    let value = "1\u{1b}]0;title\u{7}";
    project.write(name, format!("{ROWS}4,2013-01-01T00:00:00Z,{value}\n"));
    said(&project, &["apply"]);
    let shown = said(&project, &["run", "thing"]);
    assert!(
        shown.contains(r"data/a\u{1b}[2J\nerror: forged.csv:5"),
        "{shown}"
    );

    project.write(
        "events.ndjson",
        "{\"id\": \"\\u001b[2J\\nerror: forged\"}\n\u{1b}[2J\n",
    );
    let shown = said(&project, &["push", "things", &project.at("events.ndjson")]);
    assert!(shown.contains("2 rejected"), "{shown}");
}
