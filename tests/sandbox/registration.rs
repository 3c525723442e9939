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
    ] {
        let said = project(mode, settings).fails(&["apply"]);
        assert!(said.contains(wanted), "{mode}: {said}");
    }
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
