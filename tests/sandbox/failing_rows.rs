//! Functions that panic on one row: the error names the row, the place in the function's source,
//! and what to do if the function asked for what is not in a sandbox.

use crate::harness::accounts::trapping_model;
use crate::harness::{Project, guest, misbehaving, text};

/// Makes a project whose function panics on the ids 7 and 8, with 9,000 rows of which the one in
/// line 9 has the given id.
fn project(id: u32) -> Project {
    let project = Project::new(&format!(
        r#"
[project]
name = "brittle"
[entities.thing]
keys = {{ id = "int64" }}
[sources.things]
type = "files"
path = "things.csv"
[functions.brittle]
component = "{}"
[groups.thing]
entity = "thing"
event_time = "at"
[pipelines.thing]
source = "things"
function = "brittle"
group = "thing"
"#,
        guest("brittle").display()
    ));
    let rows = (0..9_000).map(|row| {
        let id = if row == 7 { id } else { row + 100 };
        format!("{id},2013-01-01T00:00:00Z,0.5\n")
    });
    let rows = format!("id,at,x\n{}", rows.collect::<String>());
    project.write("things.csv", rows);
    project.applied()
}

/// Runs a command that must fail, and returns what it said: the message of a panic of the function,
/// among others.
fn refused(project: &Project, arguments: &[&str]) -> String {
    let output = project.command(arguments).output().unwrap();
    let said = text(&output);
    assert!(!output.status.success(), "{said}");
    said
}

#[test]
fn run_names_the_row_on_which_its_function_panics_and_the_place_in_its_source() {
    let project = project(7);
    let said = refused(&project, &["run", "thing"]);
    for wanted in [
        "things.csv:9: function `brittle` trapped: ",
        "src/lib.rs:21:",
        "seven is too much",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    assert!(
        said.matches("seven is too much").count() < 6,
        "the search for the row is not logged: {said}"
    );
    let said = refused(&project, &["check"]);
    assert!(
        said.contains("row 7 of its source: function `brittle` trapped: "),
        "{said}"
    );
}

#[test]
fn run_names_the_row_for_which_its_function_takes_too_much_memory() {
    let project = misbehaving::project("texts-as-asked", "memory = \"8 MiB\"");
    let row = |id: usize| {
        format!(
            "{id},2013-01-01T00:00:00Z,{}\n",
            if id == 7 { 9e6 } else { 1.0 }
        )
    };
    let rows: String = (0..20).map(row).collect();
    project.write("things.csv", format!("id,at,x\n{rows}"));
    let said = refused(&project.applied(), &["run", "thing"]);
    let wanted = "things.csv:9: function `bad` needs more memory than 8 MiB (setting `memory`)";
    assert!(said.contains(wanted), "{said}");
}

#[test]
fn run_says_what_to_do_without_a_clock() {
    let said = refused(&project(8), &["run", "thing"]);
    for wanted in [
        "things.csv:9: function `brittle` trapped: ",
        "a function has no clock: take the time as a field of its row",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
}

#[test]
fn batch_inference_names_the_row_on_which_its_model_panics() {
    let project = trapping_model();
    project.write(
        "due.csv",
        "key_a,key_b,due_at\n\
         k003,1,2020-01-02T00:00:00Z\n\
         k005,1,2020-01-02T00:00:00Z\n\
         trap,1,2020-01-02T00:00:00Z\n\
         k007,1,2020-01-02T00:00:00Z\n",
    );
    let said = refused(&project, &["run", "scores"]);
    for wanted in [
        "due.csv:4: function `offset` trapped: ",
        "there is no such account",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
}

#[test]
fn evaluation_names_the_row_on_which_its_model_panics() {
    let project = trapping_model();
    project.write(
        "trap.csv",
        "key_a,key_b,event_timestamp,y\n\
         k003,1,2020-01-02T00:00:00Z,0\n\
         k005,1,2020-01-02T00:00:00Z,1\n\
         trap,1,2020-01-02T00:00:00Z,1\n\
         k007,1,2020-01-02T00:00:00Z,0\n",
    );
    let set = project.training_set("account", "trap.csv", "trap.parquet");
    let set = set["id"].as_str().unwrap();
    let evaluate = ["models", "evaluate", "line@1", "--training-set", set];
    let said = refused(&project, &evaluate);
    let wanted = format!("training set `{set}`, row 2: function `offset` trapped: ");
    assert!(said.contains(&wanted), "{said}");
}
