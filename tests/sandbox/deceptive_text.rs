//! Text that came from outside cannot control a terminal, nor pose as a line of Wafer's own: not in
//! results, errors and logs. JSON has it as it is.

use std::process::{Command, Stdio};

use serde_json::json;

use crate::harness::misbehaving::{ROWS, project};
use crate::harness::pass::pass;
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

/// Runs a command on a terminal of its own. Returns whether it succeeded, and what the terminal
/// got; `None` if there is no program that makes terminals.
fn on_terminal(project: &Project, arguments: &[&str]) -> Option<(bool, String)> {
    let command = project.command(arguments);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(|word| wafer_core::shell_word(word.to_str().unwrap()).into_owned());
    let line = words.collect::<Vec<_>>().join(" ");
    let mut terminal = Command::new("script");
    terminal.args(["-qec", &line, "/dev/null"]);
    terminal.stdin(Stdio::null()).env("SHELL", "/bin/sh");
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => terminal.env(name, value),
            None => terminal.env_remove(name),
        };
    }
    match terminal.output() {
        Ok(output) => Some((output.status.success(), text(&output))),
        Err(e) => {
            println!("skipped: `script` of util-linux cannot be run: {e}");
            None
        }
    }
}

#[test]
fn rows_in_a_format_of_files_are_not_written_to_a_terminal() {
    const CLEAR: &str = "\u{1b}[2J";
    let project = pass("id:int64, at:timestamp, v:utf8?", "in.csv");
    let rows = format!("id,at,v\n1,2024-01-01T00:00:00Z,a{CLEAR}b\n");
    project.write("in.csv", rows);
    project.ok(&["run", "g"]);
    // A pipe gets the values as they are.
    for format in ["csv", "ndjson"] {
        let formatted = ["--format", format];
        for command in [&["export", "g_v1", "-"][..], &["show", "g_v1"]] {
            let said = project.ok(&[command, &formatted[..]].concat());
            let value = match format {
                "csv" => format!("a{CLEAR}b"),
                _ => serde_json::to_string(&format!("a{CLEAR}b")).unwrap(),
            };
            assert!(said.contains(&value), "{command:?}: {said:?}");
        }
    }
    let file = project.at("in.csv");
    for (arguments, succeeds, wanted) in [
        (&["show", "g_v1"][..], true, r"a\u{1b}[2Jb"),
        (&["show", file.as_str()], true, r"a\u{1b}[2Jb"),
        (&["show", "g_v1", "--format", "csv"], false, "is a terminal"),
        (
            &["show", "g_v1", "--format", "arrow"],
            false,
            "is a terminal",
        ),
        (&["export", "g_v1", "-"], false, "is a terminal"),
        (
            &["export", "g_v1", "-", "--format", "ndjson"],
            false,
            "or look at rows with `wafer show`",
        ),
    ] {
        let Some((succeeded, shown)) = on_terminal(&project, arguments) else {
            return;
        };
        assert_eq!(succeeded, succeeds, "{arguments:?}: {shown:?}");
        assert!(shown.contains(wanted), "{arguments:?}: {shown:?}");
        assert!(!shown.contains(CLEAR), "{arguments:?}: {shown:?}");
    }
}
