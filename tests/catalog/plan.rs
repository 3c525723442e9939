//! Plans: what `wafer apply` would change, and what it refuses.

use serde_json::json;

use crate::harness::ledger::{ledger, three_entries};
use crate::harness::{Project, guest, text};

#[test]
fn plan_says_what_apply_would_change() {
    let project = Project::flights();
    let plan = project.json(&["plan"]);
    assert_eq!(plan["changes"].as_array().unwrap().len(), 29);
    assert!(
        project.json(&["functions"]).as_object().unwrap().is_empty(),
        "a plan makes nothing live"
    );
    project.ok(&["apply"]);
    assert!(project.ok(&["plan"]).contains("nothing would change"));

    project.replace("ttl = \"6h\"", "ttl = \"7h\"");
    project.replace("[sources.airports]", "[sources.fields]");
    project.replace("source = \"airports\"", "source = \"fields\"");
    let changes = project.ok(&["plan"]);
    for line in [
        "~ group airport_weather  (ttl)",
        "+ source fields",
        "- source airports",
        "~ pipeline airport  (source)",
    ] {
        assert!(changes.contains(line), "{changes}");
    }

    // The columns of a version of a group never change.
    project.replace(
        "event_time = \"arrived_at\"",
        "event_time = \"departed_at\"",
    );
    let said = project.fails(&["plan"]);
    assert!(
        said.contains("groups.plane_outcome: its columns changed") && said.contains("version = 2"),
        "{said}"
    );
    project.replace(
        "event_time = \"departed_at\"",
        "event_time = \"departed_at\"\nversion = 2",
    );
    assert!(project.ok(&["apply"]).contains("~ group plane_outcome"));
}

#[test]
fn plan_warns_of_sources_without_files_and_check_of_rows_that_it_cannot_read() {
    let project = ledger("");
    let plan = project.json(&["plan"]);
    let warnings = plan["warnings"].to_string();
    assert!(
        warnings.contains("sources.entries.path: there is no file"),
        "{warnings}"
    );
    project.write("entries.ndjson", three_entries());
    assert_eq!(project.json(&["plan"])["warnings"], json!([]));
    assert!(project.ok(&["check"]).contains("everything fits"));
    // One row of four cannot be read.
    project.write(
        "entries.ndjson",
        format!("{{\"small\": \"x\"}}\n{}", three_entries()),
    );
    let said = project.ok(&["check"]);
    assert!(
        said.contains("1 of the first rows of source `entries` cannot be read")
            && said.contains("entries.ndjson:1: ")
            && !said.contains("everything fits"),
        "{said}"
    );
    // No row can be read.
    project.write("entries.ndjson", "{\"small\": \"x\"}\n");
    let said = project.fails(&["check"]);
    assert!(
        said.contains("no row of source `entries` can be read")
            && !said.contains("everything fits"),
        "{said}"
    );
}

#[test]
fn check_names_a_source_whose_files_cannot_be_listed() {
    // Its columns are passed on, so that no function is called on its rows.
    let project = Project::new(
        r#"
[project]
name = "links"
[entities.thing]
keys = { id = "int64" }
[sources.things]
type = "files"
path = "in/**/*.csv"
columns = { id = "int64", at = "timestamp", x = "float64?" }
[groups.g]
entity = "thing"
event_time = "at"
[pipelines.g]
source = "things"
group = "g"
"#,
    );
    let at = |name: &str| project.path().join(name);
    std::fs::create_dir(at("in")).unwrap();
    // A source may have no files yet.
    let said = text(&project.command(&["check"]).output().unwrap());
    assert!(
        said.contains("warning: sources.things.path: there are no files")
            && said
                .contains("pipeline `g`: no row of source `things` was read: there are no files")
            && !said.contains("everything fits"),
        "{said}"
    );
    project.write("in/a.csv", "id,at,x\n1,2024-01-01T00:00:00Z,0.5\n");
    project.ok(&["apply"]);
    for (link, to, wanted) in [
        ("in/back", "in", "in/back leads back to "),
        ("in/loop", "in/loop", "in/loop cannot be read"),
        (
            "in/gone.csv",
            "nothing",
            "in/gone.csv is a link that leads to nothing",
        ),
    ] {
        std::os::unix::fs::symlink(at(to), at(link)).unwrap();
        let said = project.fails(&["check"]);
        assert!(
            said.contains("sources.things.path: its files cannot be listed")
                && said.contains(wanted)
                && !said.contains("everything fits"),
            "{said}"
        );
        let said = project.fails(&["run", "g"]);
        assert!(said.contains(wanted), "{said}");
        std::fs::remove_file(at(link)).unwrap();
    }
    // A link to another folder is followed.
    std::fs::create_dir(at("out")).unwrap();
    project.write("out/b.csv", "id,at,x\n2,2024-01-01T00:00:00Z,0.5\n");
    std::os::unix::fs::symlink(at("out"), at("in/more")).unwrap();
    assert!(project.ok(&["check"]).contains("everything fits"));
    assert_eq!(project.json(&["run", "g"])["rows_written"], 2);
}

#[test]
fn check_reads_the_rows_of_every_pipeline_whatever_makes_them() {
    let pipeline = |name: &str, more: &str| {
        format!(
            "[groups.{name}]\nentity = \"thing\"\nevent_time = \"at\"\n\
             [pipelines.{name}]\ngroup = \"{name}\"\n{more}\n"
        )
    };
    let declared = "columns = { id = \"int64\", at = \"timestamp\", v = \"float64?\" }";
    let project = Project::new(&format!(
        r#"
[project]
name = "several"
[entities.thing]
keys = {{ id = "int64" }}
[sources.good]
type = "files"
path = "good.csv"
[sources.bad]
type = "files"
path = "bad.csv"
{declared}
[sources.rows]
type = "table"
group = "a"
[functions.f]
component = "{}"
parameters = {{ columns = "id:int64, at:timestamp, v:float64?" }}
{}{}{}{}
"#,
        guest("pass").display(),
        pipeline("a", "source = \"good\"\nfunction = \"f\""),
        pipeline("b", "source = \"bad\"\nfunction = \"f\""),
        pipeline("c", "source = \"bad\""),
        pipeline("d", "source = \"rows\"\nfunction = \"f\""),
    ));
    let good = "id,at,v\n1,2024-01-01T00:00:00Z,0.5\n";
    project.write("good.csv", good);
    project.write("bad.csv", format!("{good}2,2024-01-01T00:00:00Z,x\n"));
    let said = project.ok(&["check"]);
    for wanted in [
        "the columns fit, but not all rows:",
        "function `f`: 1 of the first rows of source `bad` cannot be read; the first: ",
        "pipeline `c`: 1 of the first rows of source `bad` cannot be read; the first: ",
        "bad.csv:3: field `v`: `x` is not float64",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    assert!(!said.contains("source `good`"), "{said}");
    // Only a run reads the table of a group, and that is no fault.
    assert!(!said.contains("source `rows`"), "{said}");
    let checked = project.json(&["check"]);
    let of_table = checked.as_array().unwrap().iter();
    let mut of_table = of_table.filter(|checked| checked["source"] == "rows");
    assert_eq!(
        of_table.next().unwrap()["left_to_runs"],
        "it is the table of a group"
    );
    project.write("bad.csv", good);
    assert!(project.ok(&["check"]).contains("everything fits"));
    project.write("bad.csv", "id,at,v\n2,2024-01-01T00:00:00Z,x\n");
    let said = project.fails(&["check"]);
    for wanted in [
        "function `f`: no row of source `bad` can be read; the first: ",
        "pipeline `c`: no row of source `bad` can be read; the first: ",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    project.write("bad.csv", good);
    project.write("good.csv", "id,at,v\n");
    let said = project.ok(&["check"]);
    assert!(
        said.contains("function `f`: no row of source `good` was read: it has no rows")
            && !said.contains("source `bad`"),
        "{said}"
    );
}
