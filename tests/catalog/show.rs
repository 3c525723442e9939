//! Looking at what a project defines and holds: lists of definitions, rows, exports to the standard
//! output, and dropping what nothing uses any more.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value as Json, json};

use crate::harness::pass::{COLUMNS, Pass, pass};
use crate::harness::{Project, guest, text};

/// Three rows; the source has a column more than the function reads.
const ROWS: &str = "id,at,v,note\n\
                    1,2024-01-01T00:00:00Z,1.5,first\n\
                    2,2024-01-02T00:00:00Z,,\n\
                    3,2024-01-03T00:00:00Z,-0.5,\"with, comma\"\n";

/// A project whose group has three rows.
fn filled() -> Project {
    having(ROWS)
}

/// A project whose group has so many rows.
fn filled_with(rows: usize) -> Project {
    let row = |id: usize| format!("{id},2024-01-01T00:00:00Z,{id}.5\n");
    let rows: String = (0..rows).map(row).collect();
    having(&format!("id,at,v\n{rows}"))
}

/// A project whose group has the rows of a CSV file.
fn having(rows: &str) -> Project {
    let project = pass(COLUMNS, "in.csv");
    project.write("in.csv", rows);
    project.ok(&["run", "g"]);
    project
}

#[test]
fn rows_of_sources_groups_views_tables_and_files_are_shown() {
    let project = filled();
    let file = project.at("in.csv");
    for (arguments, wanted) in [
        (&["show", "s"][..], ROWS),
        (&["show", "source:s"], ROWS),
        (&["show", &file], ROWS),
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
    let folder = Project::new("this is not a project file");
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
        said.contains("a.csv:3: has 1 fields, and the header has 2"),
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
fn showing_unknown_things_and_columns_is_refused_with_the_reason() {
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
            "10001 rows are too many to show: at most 10000",
        ),
    ] {
        let said = project.fails(arguments);
        assert!(said.contains(wanted), "{arguments:?}: {said}");
    }
    // One name for several things.
    project.replace("[views.v]", "[views.g]");
    project.ok(&["apply"]);
    let said = project.fails(&["show", "g"]);
    assert!(
        said.contains("several things are named `g`: write `group:g` or `view:g`"),
        "{said}"
    );
}

/// A view of pairs of a shop and an account, of items, and of two functions. The group of pairs has
/// the entities; items and the field `rate` are known in requests only.
fn offers() -> Project {
    let project = Project::new(&format!(
        r#"
[project]
name = "offers"

[entities.pair]
keys = {{ shop = "int64", key_a = "utf8" }}

[entities.item]
keys = {{ item = "int64" }}

[sources.s]
type = "files"
path = "in.csv"

[functions.pairs]
component = "{pass}"
parameters = {{ columns = "shop:int64, key_a:utf8, at:timestamp, v:float64?" }}

[functions.items]
component = "{pass}"
parameters = {{ columns = "item:int64, at:timestamp, w:float64?" }}

[functions.offset]
component = "{offset}"
parameters = {{ offset = "0.25" }}

[functions.line]
component = "{line}"
assets = {{ model = "line.json" }}

[groups.pair]
entity = "pair"
event_time = "at"

[groups.item]
entity = "item"
event_time = "at"

[pipelines.pair]
source = "s"
function = "pairs"
group = "pair"

[pipelines.item]
source = "s"
function = "items"
group = "item"

[views.offer]
request = {{ rate = "float64" }}
lookups = [{{ group = "item" }}, {{ group = "pair" }}]
functions = ["offset", "line"]

[views.plain]
request = {{ key_a = "utf8" }}
functions = ["offset"]
"#,
        pass = guest("pass").display(),
        offset = guest("offset").display(),
        line = guest("linear").display(),
    ));
    let model = json!({"intercept": 0.5, "coefficients": {"rate": 2.0}});
    project.write("line.json", model.to_string());
    project.write(
        "in.csv",
        "shop,key_a,item,at,v,w\n\
         1,x,7,2024-01-01T00:00:00Z,1.5,10.5\n\
         2,x,8,2024-01-01T00:00:00Z,,20.5\n\
         1,y,7,2024-01-02T00:00:00Z,2.5,30.5\n\
         1,x,9,2024-01-03T00:00:00Z,3.5,40.5\n",
    );
    let project = project.applied();
    project.ok(&["run", "pair"]);
    project.ok(&["run", "item"]);
    project
}

#[test]
fn a_view_of_several_groups_is_shown_without_what_only_a_request_knows() {
    let project = offers();
    for (arguments, wanted) in [
        (
            &[][..],
            "shop,key_a,pair_v,offset\n1,x,3.5,0.25\n2,x,,0.25\n1,y,2.5,0.25\n",
        ),
        (
            &["--limit", "1", "--columns", "pair_v,shop"],
            "pair_v,shop\n3.5,1\n",
        ),
        (
            &["--where", "pair_v < 3", "--columns", "key_a"],
            "key_a\ny\n",
        ),
    ] {
        let shown = project.ok(&[&["show", "offer"][..], arguments].concat());
        assert_eq!(shown, wanted, "{arguments:?}");
    }
    // The vectors are those that requests are answered.
    let request = ["shop=1", "key_a=x", "item=7", "rate=1.5"];
    let answered = project.json(&[&["get", "offer"][..], &request].concat());
    let answered = &answered["features"];
    assert_eq!(
        (
            &answered["pair_v"],
            &answered["offset"],
            &answered["item_w"],
            &answered["prediction"]
        ),
        (&json!(3.5), &json!(0.25), &json!(30.5), &json!(3.5))
    );
    let output = project.command(&["show", "offer"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains(
            "left out are the inputs that only a request knows: `item`, `rate`, and the features that \
             need them: `item_w`, `prediction`"
        ),
        "{said}"
    );
    for (arguments, wanted) in [
        (
            &["show", "offer", "--columns", "rate"][..],
            "column `rate` of view `offer` is known in requests only",
        ),
        (
            &["show", "offer", "--where", "item_w > 1"],
            "column `item_w` of view `offer` needs `item`, known in requests only",
        ),
        (
            &["show", "plain"],
            "view `plain` looks up no group, so its entities are not known",
        ),
    ] {
        let said = project.fails(arguments);
        assert!(said.contains(wanted), "{arguments:?}: {said}");
    }
    let server = project.serve(&[]);
    let (status, answer) = server.get("/v1/views/offer/rows?limit=1&columns=shop,pair_v");
    assert_eq!(
        (status, &answer["rows"], &answer["left_out"]),
        (
            200,
            &json!([{"shop": 1, "pair_v": 3.5}]),
            &json!({
                "item": "is known in requests only",
                "rate": "is known in requests only",
                "item_w": "needs `item`, known in requests only",
                "prediction": "needs `rate`, known in requests only",
            })
        )
    );
    server.stop();
}

#[test]
fn a_request_reads_a_limited_number_of_rows_and_the_command_all() {
    let project = pass(COLUMNS, "in.csv");
    project.write("in.csv", format!("id\n{}8\n", "7\n".repeat(4_100_000)));
    let server = project.serve(&[]);
    let (status, answer) = server.get("/v1/sources/s/rows?limit=2&where=id%20%3D%207");
    assert_eq!(
        (status, &answer["rows"]),
        (200, &json!([{"id": 7}, {"id": 7}]))
    );
    // A request that is refused gives back its place, of which there are four.
    for _ in 0..4 {
        let (status, answer) = server.get("/v1/sources/s/rows?where=id%20%3D%208");
        assert_eq!(status, 400, "{answer}");
        let said = answer["error"]["message"].as_str().unwrap();
        assert!(
            said.starts_with("0 of the first 4")
                && said.contains("no more rows are read for a request"),
            "{said}"
        );
    }
    assert_eq!(server.get("/v1/sources/s/rows?limit=1").0, 200);
    let shown = project.ok(&["show", "s", "--where", "id = 8"]);
    assert_eq!(shown, "id\n8\n");
}

#[test]
fn nothing_is_written_when_rows_are_shown() {
    let project = Pass {
        source: "type = \"stream\"",
        ..Pass::default()
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
        (
            &["export", "g", "x.csv"],
            "there is no definition of table `g`: it was never applied",
        ),
        (&["export", "g_v2", "x.csv"], "; is `g_v1` meant?"),
    ] {
        let said = project.fails(arguments);
        assert!(said.contains(wanted), "{arguments:?}: {said}");
    }
}

/// Sends a signal to a process.
fn signal(child: &Child, signal: &str) {
    let sent = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
}

#[test]
fn an_export_that_is_interrupted_while_nobody_reads_it_ends_with_an_error() {
    // More than the pipe and all queues before it hold.
    let project = filled_with(400_000);
    for (sent, wanted) in [
        ("-INT", "interrupted; the output is not complete"),
        ("-TERM", "ended; the output is not complete"),
    ] {
        let mut child = project
            .command(&["export", "g_v1", "-", "--format", "ndjson"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It listens to signals before it writes anything.
        let mut out = child.stdout.take().unwrap();
        out.read_exact(&mut [0]).unwrap();
        signal(&child, sent);
        let mut said = String::new();
        let mut errors = child.stderr.take().unwrap();
        errors.read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{sent}: {said}");
        assert!(said.contains(wanted), "{sent}: {said}");
        drop(out);
    }
}

#[test]
fn an_export_to_a_file_that_is_interrupted_leaves_no_file() {
    let project = filled_with(400_000);
    let (out, part) = (project.at("out.csv"), project.at("out.csv.wafer-part"));
    let mut child = project
        .command(&["export", "g_v1", "--out", &out])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It listens to signals before it makes the file.
    while !Path::new(&part).exists() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    if child.try_wait().unwrap().is_none() {
        signal(&child, "-TERM");
    }
    let output = child.wait_with_output().unwrap();
    assert!(!Path::new(&part).exists());
    if output.status.success() {
        println!("skipped: the export was complete before it was interrupted");
        return;
    }
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("ended; nothing was written"));
    assert!(!Path::new(&out).exists());
}

#[test]
fn what_a_killed_export_leaves_is_removed_by_the_next_one() {
    let project = filled_with(400_000);
    let temporary = tempfile::tempdir().unwrap();
    // A file of the user with a name that is nearly the same.
    let own = project.write("out.csv.part", "of the user");
    let (out, part) = (project.at("out.csv"), project.at("out.csv.wafer-part"));
    let export = |out: &str| {
        let mut export = project.command(&["export", "g_v1", "--out", out]);
        export.env("TMPDIR", temporary.path());
        export.stdout(Stdio::null()).stderr(Stdio::null());
        export
    };
    let mut child = export(&out).spawn().unwrap();
    while !Path::new(&part).exists() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    if Path::new(&out).exists() {
        println!("skipped: the export was complete before it was killed");
        return;
    }
    assert!(Path::new(&part).exists());
    let other = export(&project.at("other.csv")).status().unwrap();
    assert!(other.success());
    assert!(!Path::new(&part).exists());
    let mut left = std::fs::read_dir(temporary.path()).unwrap().flatten();
    let is_work = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with("wafer-work-");
    assert!(!left.any(|entry| is_work(&entry.file_name())));
    assert!(export(&out).status().unwrap().success());
    let (out, other) = (std::fs::read(out).unwrap(), project.at("other.csv"));
    assert!(out == std::fs::read(other).unwrap());
    assert_eq!(std::fs::read_to_string(own).unwrap(), "of the user");
}

#[test]
fn an_export_ends_without_an_error_when_its_reader_has_gone_away() {
    let project = filled_with(100_000);
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
        ("/v1/groups/g/rows?limit=10001", 400, "too many to show"),
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
