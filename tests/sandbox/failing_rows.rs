//! Functions that panic on one row: the error names the row, and the place in the function's source.

use crate::harness::misbehaving::project;

/// Rows of which the one in line 9 has the id 7.
fn rows() -> String {
    let rows = (0..9_000).map(|id| {
        let id = if id == 7 { 7 } else { id + 100 };
        format!("{id},2013-01-01T00:00:00Z,0.5\n")
    });
    format!("id,at,x\n{}", rows.collect::<String>())
}

#[test]
fn run_names_the_row_on_which_its_function_panics_and_the_place_in_its_source() {
    let project = project("panic-on-seven", "").applied_with("things.csv", &rows());
    let said = project.fails(&["run", "thing"]);
    for wanted in [
        "things.csv:9: function `bad` trapped: ",
        "src/behaviours/call.rs:",
        "seven is too much",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    assert!(
        said.matches("seven is too much").count() < 6,
        "the search for the row is not logged: {said}"
    );
}

#[test]
fn check_names_the_row_on_which_the_function_panics() {
    let project = project("panic-on-seven", "");
    project.write("things.csv", rows());
    let said = project.fails(&["check"]);
    assert!(
        said.contains("row 7 of its source: function `bad` trapped: "),
        "{said}"
    );
}
