//! Looking at what a project defines and holds: lists of definitions, rows, exports to the standard
//! output, and dropping what nothing uses any more.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use serde_json::{Value as Json, json};

use crate::harness::pass::{Pass, pass};
use crate::harness::{Project, text};

const COLUMNS: &str = "id:int64, at:timestamp, v:float64?";

/// Three rows; the source has a column more than the function reads.
const ROWS: &str = "id,at,v,note\n\
                    1,2024-01-01T00:00:00Z,1.5,first\n\
                    2,2024-01-02T00:00:00Z,,\n\
                    3,2024-01-03T00:00:00Z,-0.5,\"with, comma\"\n";

/// A project whose group has three rows.
fn filled() -> Project {
    let project = pass(COLUMNS, "in.csv");
    project.write("in.csv", ROWS);
    project.ok(&["run", "g"]);
    project
}

#[test]
fn rows_of_sources_groups_views_tables_and_files_are_shown() {
    let project = filled();
    let file = project.at("in.csv");
    let all = "id,at,v,note\n\
               1,2024-01-01T00:00:00Z,1.5,first\n\
               2,2024-01-02T00:00:00Z,,\n\
               3,2024-01-03T00:00:00Z,-0.5,\"with, comma\"\n";
    for (arguments, wanted) in [
        (&["show", "s"][..], all),
        (&["show", "source:s"], all),
        (&["show", &file], all),
        (
            &["show", "s", "--limit", "1"],
            "id,at,v,note\n1,2024-01-01T00:00:00Z,1.5,first\n",
        ),
        (&["show", "s", "--limit", "0"], "id,at,v,note\n"),
        (
            &["show", "g", "--columns", "v,id"],
            "v,id\n1.5,1\n,2\n-0.5,3\n",
        ),
        (&["show", "g_v1", "--columns", "id"], "id\n1\n2\n3\n"),
        (&["show", "v"], "id,g_v\n1,1.5\n2,\n3,-0.5\n"),
        (&["show", "v", "--where", "g_v is null"], "id,g_v\n2,\n"),
        (
            &[
                "show",
                "s",
                "--where",
                "v > -1",
                "--where",
                "at >= 2024-01-02T00:00:00Z",
                "--columns",
                "id",
            ],
            "id\n3\n",
        ),
        (
            &[
                "show",
                "s",
                "--where",
                "note = 'with, comma'",
                "--columns",
                "id",
            ],
            "id\n3\n",
        ),
        // The last of the wanted rows is followed by others that do not count.
        (
            &[
                "show",
                "g",
                "--where",
                "v = 1.5",
                "--limit",
                "1",
                "--columns",
                "id",
            ],
            "id\n1\n",
        ),
        (
            &[
                "show",
                "s",
                "--format",
                "ndjson",
                "--limit",
                "1",
                "--columns",
                "id,v",
            ],
            "{\"id\":1,\"v\":1.5}\n",
        ),
        (
            &["show", "g", "--format", "table", "--columns", "id,v"],
            "id  v\n1   1.5\n2   null\n3   -0.5\n",
        ),
    ] {
        assert_eq!(project.ok(arguments), wanted, "{arguments:?}");
    }
    let shown = project.json(&["show", "g", "--columns", "id,v", "--limit", "2"]);
    assert_eq!(
        shown["rows"],
        json!([{"id": 1, "v": 1.5}, {"id": 2, "v": null}])
    );
    assert_eq!(
        (&shown["kind"], &shown["name"], &shown["more"]),
        (&json!("group"), &json!("g"), &json!(true))
    );
    let shown = project
        .command(&["show", "g", "--limit", "2"])
        .output()
        .unwrap();
    let said = text(&shown);
    assert!(
        said.contains("there are more than these 2 rows; see --limit"),
        "{said}"
    );
    let arrow = project
        .command(&["show", "g", "--format", "arrow"])
        .output()
        .unwrap();
    assert!(arrow.status.success());
    assert_eq!(&arrow.stdout[..4], b"\xff\xff\xff\xff");
}

#[test]
fn a_file_is_shown_without_a_project_and_its_unreadable_rows_are_named() {
    let folder = Project::new("this is no project file");
    let file = folder.at("a.csv");
    folder.write("a.csv", "id,name\n1,x\n2\n3,y\n");
    let output = folder.command(&["show", &file]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "id,name\n1,x\n3,y\n"
    );
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("a.csv:3: has 1 fields, the header 2"),
        "{said}"
    );
    // A text from outside does not control the terminal.
    folder.write("b.csv", "id,name\n1,\"\u{1b}[2Jx\"\n");
    let shown = folder.ok(&["show", &folder.at("b.csv"), "--format", "table"]);
    assert_eq!(shown, "id  name\n1   \\u{1b}[2Jx\n");
    // Neither does the name of a column, nor does it pose as a line.
    folder.write("c.csv", "id,\"na\nerror: forged\"\n1,x\n");
    let shown = folder.ok(&["show", &folder.at("c.csv"), "--format", "table"]);
    assert_eq!(shown, "id  na\\nerror: forged\n1   x\n");
    // A single column keeps its nulls apart from its empty texts, and is read as it was written.
    folder.write("d.csv", "id,v\n1,a\n2,\n3,\"\"\n");
    let file = folder.at("d.csv");
    let one = folder.ok(&["show", &file, "--columns", "v", "--format", "csv"]);
    assert_eq!(one, "v\na\n\n\"\"\n");
    folder.write("e.csv", &one);
    let again = folder.ok(&["show", &folder.at("e.csv"), "--format", "csv"]);
    assert_eq!(again, one);
    for (file, wanted) in [
        ("nothing.csv", "there is no file"),
        ("nothing*.csv", "there are no files"),
    ] {
        let said = folder.fails(&["show", &folder.at(file)]);
        assert!(said.contains(wanted), "{said}");
    }
}

#[test]
fn what_cannot_be_shown_is_refused_with_the_reason() {
    let project = filled();
    project.write("nested.ndjson", "{\"id\":1}\n");
    for (arguments, wanted) in [
        (
            &["show", "gg"][..],
            "there is no source, group, view or table `gg`; did you mean `g`?",
        ),
        (&["show", "group:s"], "there is no feature group `s`"),
        (&["show", "table:g"], "no definition of table `g`"),
        (
            &["show", "g_v1_quarantine"],
            "table `g_v1_quarantine` has no rows yet",
        ),
        (
            &["show", "g", "--columns", "idd"],
            "group `g` has no column `idd`; is `id` meant?",
        ),
        (
            &["show", "g", "--columns", "id,id"],
            "column `id` is asked for twice",
        ),
        (
            &["show", "g", "--where", "w = 1"],
            "group `g` has no column `w`",
        ),
        (
            &["show", "g", "--where", "id = x"],
            "column `id`: `x` is not int64",
        ),
        (&["show", "g", "--where", "id"], "`id` is not a condition"),
        (
            &["show", "g", "--limit", "10001"],
            "10001 rows are too many to look at: at most 10000",
        ),
    ] {
        let said = project.fails(arguments);
        assert!(said.contains(wanted), "{arguments:?}: {said}");
    }
    // One name for several things, and a view whose entities no group has.
    project.replace("[views.v]", "[views.g]");
    project.replace(
        "lookups = [",
        "request = { rate = \"float64\" }\nlookups = [",
    );
    project.ok(&["apply"]);
    let said = project.fails(&["show", "g"]);
    assert!(
        said.contains("several things are named `g`: write `group:g` or `view:g`"),
        "{said}"
    );
    let said = project.fails(&["show", "view:g"]);
    assert!(
        said.contains("view `g` reads id, rate") && said.contains("`wafer get g …`"),
        "{said}"
    );
}

#[test]
fn nothing_is_written_when_rows_are_shown() {
    let project = Pass {
        columns: COLUMNS,
        source: "type = \"stream\"",
        group: "",
        pipeline: "",
    };
    let project = project.project().applied();
    let server = project.serve(&[]);
    let (status, _) = server.events("s", "{\"id\":1,\"at\":\"2024-01-01T00:00:00Z\",\"v\":1.5}");
    assert_eq!(status, 200);
    server.stop();
    let before = project.json(&["tables"]);
    for what in ["g", "s", "v"] {
        project.ok(&["show", what]);
    }
    assert_eq!(project.json(&["tables"]), before);
    assert_eq!(
        project.json(&["show", "s", "--columns", "payload"])["kind"],
        "source"
    );
}

#[test]
fn definitions_are_listed_with_what_uses_them() {
    let project = pass(COLUMNS, "in.csv");
    let groups = project.json(&["groups"]);
    let group = &groups[0];
    for (key, wanted) in [
        ("name", json!("g")),
        ("version", json!(1)),
        ("staged", Json::Null),
        ("table", json!("g_v1")),
        ("entity", json!("e")),
        ("pipeline", json!("g")),
        ("source", json!("s")),
        ("made_by", json!("f")),
        ("views", json!(["v"])),
    ] {
        assert_eq!(group[key], wanted, "{key}");
    }
    assert_eq!(group["features"][0]["name"], "v");
    assert_eq!(project.json(&["groups", "g"]), *group);
    let sources = project.json(&["sources"]);
    assert_eq!(
        (
            &sources[0]["name"],
            &sources[0]["type"],
            &sources[0]["groups"]
        ),
        (&json!("s"), &json!("files"), &json!(["g"]))
    );
    let view = project.json(&["views", "v"]);
    assert_eq!(
        (
            &view["inputs"][0]["name"],
            &view["features"][0]["name"],
            &view["groups"]
        ),
        (&json!("id"), &json!("g_v"), &json!(["g"]))
    );
    let text = project.ok(&["views", "v"]);
    assert!(text.contains("feature  g_v   float64?"), "{text}");
    for (arguments, wanted) in [
        (
            ["groups", "gg"],
            "there is no feature group `gg`; did you mean `g`?",
        ),
        (
            ["sources", "ss"],
            "there is no source `ss`; did you mean `s`?",
        ),
        (
            ["views", "vv"],
            "there is no feature view `vv`; did you mean `v`?",
        ),
    ] {
        let said = project.fails(&arguments);
        assert!(said.contains(wanted), "{said}");
    }
    let empty = Project::new("[project]\nname = \"empty\"\n");
    for command in ["groups", "sources", "views"] {
        assert!(
            empty.ok(&[command]).contains("nothing was applied yet"),
            "{command}"
        );
        assert_eq!(empty.json(&[command]), json!([]), "{command}");
    }
}

#[test]
fn a_table_is_exported_to_the_standard_output() {
    let project = filled();
    let exported = |arguments: &[&str]| {
        let mut all = vec!["export", "g_v1"];
        all.extend(arguments);
        project.ok(&all)
    };
    let columns = ["--columns", "id,v"];
    for (arguments, wanted) in [
        (&["-"][..], "id,v\n1,1.5\n2,\n3,-0.5\n"),
        (&["--out", "-"], "id,v\n1,1.5\n2,\n3,-0.5\n"),
        (&["-", "--limit", "2"], "id,v\n1,1.5\n2,\n"),
        (&["-", "--limit", "0"], "id,v\n"),
        (
            &["-", "--limit", "1", "--format", "ndjson"],
            "{\"id\":1,\"v\":1.5}\n",
        ),
    ] {
        assert_eq!(
            exported(&[arguments, &columns].concat()),
            wanted,
            "{arguments:?}"
        );
    }
    let out = project.at("out.csv");
    let said = exported(&["--out", &out, "--limit", "2"]);
    assert!(said.contains("2 rows"), "{said}");
    assert_eq!(std::fs::read_to_string(&out).unwrap().lines().count(), 3);
    for (arguments, wanted) in [
        (&["export", "g_v1"][..], "required arguments"),
        (
            &["export", "g_v1", "-", "--out", "x.csv"],
            "cannot be used with",
        ),
        (
            &["export", "g_v1", "-", "--format", "table"],
            "--format table is for `wafer show`",
        ),
        (
            &["export", "g_v1", "x.csv", "--format", "ndjson"],
            "--format is for the standard output",
        ),
    ] {
        let said = project.fails(arguments);
        assert!(said.contains(wanted), "{arguments:?}: {said}");
    }
}

#[test]
fn an_export_ends_without_an_error_when_its_reader_has_gone_away() {
    let project = pass(COLUMNS, "in.csv");
    let row = |id: usize| format!("{id},2024-01-01T00:00:00Z,{id}.5\n");
    let rows: String = (0..100_000).map(row).collect();
    project.write("in.csv", format!("id,at,v\n{rows}"));
    project.ok(&["run", "g"]);
    for format in ["csv", "ndjson", "arrow"] {
        let mut child = project
            .command(&["export", "g_v1", "-", "--format", format])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_until(b'\n', &mut Vec::new()).unwrap();
        drop(out);
        let mut said = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        assert!(child.wait().unwrap().success(), "{format}: {said}");
        assert_eq!(said, "", "{format}");
    }
}

#[test]
fn a_version_that_nothing_uses_is_dropped_and_its_number_is_not_used_again() {
    let project = filled();
    project.write("labels.csv", "id,event_timestamp\n1,2024-01-05T00:00:00Z\n");
    let set = project.training_set("v", "labels.csv", "t.csv");
    project.replace(
        "event_time = \"at\"\n",
        "event_time = \"at\"\nversion = 2\n",
    );
    let used = project.fails(&["drop", "g@1"]);
    assert!(
        used.contains("nothing was dropped: `g_v1` is used by the live definitions"),
        "{used}"
    );
    project.ok(&["apply", "--now"]);
    project.ok(&["run", "g"]);
    let said = project.fails(&["drop", "g_v1"]);
    let id = set["id"].as_str().unwrap();
    assert!(
        said.contains(&format!("`g_v1` is used by training set {id}")),
        "{said}"
    );
    project.ok(&["training-sets", "--delete", id]);
    let uses = project.json(&["drop"]);
    let users = |table: &str| {
        let uses = uses.as_array().unwrap().iter();
        let mut of_table = uses.filter(|found| found["table"] == table);
        of_table.next().unwrap()["used_by"].clone()
    };
    assert_eq!(users("g_v1"), json!([]));
    assert_eq!(users("g_v2"), json!(["the live definitions"]));
    let dropped = project.json(&["drop", "g@1"]);
    let names: Vec<&Json> = dropped
        .as_array()
        .unwrap()
        .iter()
        .map(|t| &t["table"])
        .collect();
    assert_eq!(names, ["g_v1", "g_v1_late", "g_v1_quarantine"]);
    assert_eq!(dropped[0]["rows"], 3);

    // What is live stays, and what was dropped is gone.
    assert_eq!(project.ok(&["show", "v"]), "id,g_v\n1,1.5\n2,\n3,-0.5\n");
    assert!(
        project
            .fails(&["show", "g_v1"])
            .contains("no source, group, view or table `g_v1`")
    );
    assert!(
        project
            .fails(&["drop", "g_v1"])
            .contains("there is no table `g_v1`")
    );
    let tables = project.json(&["tables"]);
    let tables: Vec<&Json> = tables
        .as_array()
        .unwrap()
        .iter()
        .map(|t| &t["table"])
        .collect();
    assert_eq!(tables, ["g_v2"]);
    project.replace("version = 2\n", "version = 1\n");
    let said = project.fails(&["apply"]);
    assert!(
        said.contains("table `g_v1` was dropped, and its name is not used again"),
        "{said}"
    );
}

#[test]
fn definitions_and_rows_are_there_over_http() {
    let project = filled();
    let server = project.serve(&[]);
    let get = |path: &str| server.get(path);
    let (status, groups) = get("/v1/groups");
    assert_eq!(
        (status, &groups["groups"]),
        (200, &project.json(&["groups"]))
    );
    assert_eq!(get("/v1/groups/g").1, groups["groups"][0]);
    assert_eq!(get("/v1/sources").1["sources"], project.json(&["sources"]));
    assert_eq!(get("/v1/tables").1["tables"], project.json(&["tables"]));
    let rows = json!([{"id": 1, "v": 1.5}]);
    for path in [
        "/v1/groups/g/rows?limit=1&columns=id,v",
        "/v1/sources/s/rows?columns=id&columns=v&where=id%20%3D%201",
        "/v1/tables/g_v1/rows?limit=1&columns=id,v&where=v%20is%20not%20null",
    ] {
        let (status, answer) = get(path);
        assert_eq!((status, &answer["rows"]), (200, &rows), "{path}");
    }
    let (_, answer) = get("/v1/views/v/rows?limit=1");
    assert_eq!(answer["rows"], json!([{"id": 1, "g_v": 1.5}]));
    assert_eq!(answer["more"], true);
    for (path, status, wanted) in [
        ("/v1/groups/gg", 404, "there is no feature group `gg`"),
        ("/v1/groups/gg/rows", 404, "there is no feature group `gg`"),
        ("/v1/sources/ss/rows", 404, "there is no source `ss`"),
        ("/v1/views/vv/rows", 404, "there is no feature view `vv`"),
        ("/v1/tables/gg/rows", 404, "no definition of table `gg`"),
        ("/v1/groups/g/rows?limit=10001", 400, "too many to look at"),
        (
            "/v1/groups/g/rows?limit=x",
            400,
            "limit: `x` is not a number of rows",
        ),
        (
            "/v1/groups/g/rows?where=id",
            400,
            "where: `id` is not a condition",
        ),
        ("/v1/groups/g/rows?columns=w", 400, "has no column `w`"),
        (
            "/v1/groups/g/rows?file=%2Fetc%2Fpasswd",
            400,
            "there is no parameter `file`",
        ),
    ] {
        let (found, answer) = get(path);
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert_eq!(found, status, "{path}: {answer}");
        assert!(message.contains(wanted), "{path}: {message}");
    }
}
