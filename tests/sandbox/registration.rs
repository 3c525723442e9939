//! Functions that are refused when they are registered or checked, with the reason.

use crate::harness::misbehaving::{ROWS, project};

#[test]
fn registration_refuses_a_function_with_the_reason() {
    for (mode, settings, wanted) in [
        (
            "refuse-init",
            "",
            "function `bad` could not be initialised: I would rather not",
        ),
        (
            "spin-in-init",
            "init_time = \"200ms\"",
            "took longer than 200ms to initialise (setting `init_time`)",
        ),
        (
            "spin-in-describe",
            "init_time = \"200ms\"",
            "took longer than 200ms to initialise (setting `init_time`)",
        ),
        ("panic-in-init", "", "function `bad` trapped"),
        ("panic-in-describe", "", "function `bad` trapped"),
        (
            "grow-in-init",
            "memory = \"32 MiB\"",
            "needs more memory than 32 MiB (setting `memory`)",
        ),
        (
            "same-name-twice",
            "",
            "function `bad` describes itself wrongly: inputs: column `id` is there twice",
        ),
        ("bad-name", "", "`no such-name` is not a column name"),
        (
            "bad-vector",
            "",
            "column `v`: a vector cannot have 0 numbers",
        ),
        (
            "large-refusal-in-init",
            "",
            "function `bad` could not be initialised: xx",
        ),
        ("large-doc", "", "its columns and their documentation take"),
    ] {
        let said = project(mode, settings).fails(&["apply"]);
        assert!(said.contains(wanted), "{mode}: {said}");
        assert!(said.len() < 8 << 10, "{mode}: {}", said.len());
    }
}

#[test]
fn log_messages_of_initialisation_are_counted_even_if_they_are_empty() {
    let project = project("empty-log-flood-in-init", "");
    let output = project.command(&["apply"]).output().unwrap();
    assert!(output.status.success());
    let log = String::from_utf8(output.stderr).unwrap();
    let lines = log
        .lines()
        .filter(|line| line.contains("function="))
        .count();
    assert!((2..=1_025).contains(&lines), "{lines}");
}

#[test]
fn a_function_that_depends_on_neighbouring_rows_fails_its_check() {
    let project = project("neighbours", "");
    project.write("things.csv", ROWS);
    let said = project.fails(&["check"]);
    assert!(
        said.contains("gives another result for row 0 cut into other batches"),
        "{said}"
    );
}
