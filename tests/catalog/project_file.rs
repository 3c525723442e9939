//! The project file: its mistakes are named, with suggestions for what may have been meant.

use crate::harness::Project;

#[test]
fn mistakes_in_a_project_file_are_named() {
    let project = Project::flights();
    project.replace("ttl = \"30d\"", "tll = \"30d\"");
    let said = project.fails(&["apply"]);
    assert!(
        said.contains("wafer.toml:") && said.contains("unknown key `tll`; did you mean `ttl`?"),
        "{said}"
    );
    let nowhere = Project::new("");
    std::fs::remove_file(nowhere.path().join("wafer.toml")).unwrap();
    let said = nowhere.fails(&["plan"]);
    assert!(
        said.contains("cannot read") && said.contains("wafer new"),
        "{said}"
    );
}

#[test]
fn unknown_names_suggest_known_ones() {
    let project = Project::flights().applied();
    assert!(
        project
            .fails(&["run", "plane_outcom"])
            .contains("there is no pipeline `plane_outcom`; did you mean `plane_outcome`?")
    );
    assert!(
        project
            .fails(&["get", "arrival_dela"])
            .contains("did you mean `arrival_delay`?")
    );
    project.write("e.ndjson", "{}");
    let file = project.path().join("e.ndjson");
    let file = file.to_str().unwrap();
    assert!(
        project
            .fails(&["push", "weather_report", file])
            .contains("did you mean `weather_reports`?")
    );
    assert!(
        project
            .fails(&["push", "airports", file])
            .contains("takes no events; only a source")
    );
    let fresh = Project::flights();
    assert!(
        fresh
            .fails(&["run", "airport"])
            .contains("run `wafer apply`")
    );
}

#[test]
fn a_source_at_a_url_that_is_not_read_is_refused_with_the_form() {
    let project = Project::new(
        "[project]\nname = \"p\"\n\n[sources.s]\ntype = \"files\"\npath = \"http://h/x.csv\"\n",
    );
    let said = project.fails(&["apply"]);
    let wanted = "sources.s.path: `http://h/x.csv` is neither a path nor of the form \
                  s3://BUCKET/FOLDER";
    assert!(said.contains(wanted), "{said}");
    let said = project.fails(&["show", "http://h/x.csv"]);
    let wanted = "`http://h/x.csv` is not of the form s3://BUCKET/FOLDER";
    assert!(said.contains(wanted), "{said}");
}
