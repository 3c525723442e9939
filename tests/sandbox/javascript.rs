//! Functions in JavaScript: a project of them from nothing to an endpoint, what an author may
//! write, and what an author does wrong.

use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::{Value as Json, json};

use crate::harness::interpreted::{
    ask, check_answer, check_endless_loop, check_failed_row, check_first_steps, check_state,
    new_project, of_guide, project,
};
use crate::harness::{Project, text};

#[test]
fn a_new_javascript_project_serves_a_feature_and_takes_an_edit() {
    check_first_steps("javascript", "ride_features.js", ("* 60 :", "* 3600 :"));
}

#[test]
fn a_new_javascript_project_has_a_test_that_needs_no_sandbox() {
    let project = new_project("javascript");
    // What `npm install` does.
    std::fs::create_dir(project.path().join("node_modules")).unwrap();
    symlink("../sdk", project.path().join("node_modules/wafer")).unwrap();
    let output = Command::new("node")
        .args(["--test", "--test-reporter=tap"])
        .current_dir(project.path())
        .output();
    match output {
        Ok(output) => {
            let said = text(&output);
            assert!(output.status.success(), "{said}");
            assert!(
                said.contains("# pass 2") && said.contains("# fail 0"),
                "{said}"
            );
        }
        Err(_) => println!("skipped: there is no node"),
    }
}

/// What each of the functions below begins with.
const HEAD: &str = "import { fn, types as t } from 'wafer';

const inputs = { id: t.int64, at: t.timestamp, x: t.float64 };
const outputs = { id: t.int64, at: t.timestamp, y: t.nullable(t.float64) };

";

/// A function that is right.
const RIGHT: &str = "
export default fn({ inputs, outputs }, ({ id, at, x }) => ({ id, at, y: x }));
";

/// Returns the place of a line, which is so many behind [`HEAD`] and the first one.
fn place(behind: usize) -> String {
    format!("f.js, line {}", HEAD.lines().count() + 1 + behind)
}

#[test]
fn javascript_that_is_no_function_is_refused_when_it_is_registered() {
    let project = project(&[("f", "javascript = \"f.js\"\ninit_time = \"5s\"")]);
    let check = |code: &[u8], wanted: &[&str]| {
        project.write("f.js", code);
        let said = project.fails(&["apply"]);
        for wanted in wanted {
            assert!(said.contains(wanted), "{wanted}: {said}");
        }
        assert!(said.len() < 8 << 10, "{}", said.len());
    };
    let behind_head = |code: &str, wanted: &[&str]| {
        let initialised = ["function `f` could not be initialised: "];
        check(
            format!("{HEAD}{code}").as_bytes(),
            &[&initialised, wanted].concat(),
        );
    };
    let first = place(0);
    behind_head(
        "export default fn({ inputs, outputs }, (;\n",
        &["SyntaxError: ", &first],
    );
    for module in ["lodash", "./absent.js", "node:fs"] {
        let import = format!("import '{module}';\n{RIGHT}");
        behind_head(&import, &[&format!("f.js: cannot import `{module}`: ")]);
    }
    behind_head("absent();\n", &["ReferenceError: ", "absent", &first]);
    behind_head(
        "export const right = 1;\n",
        &["`f.js` has no function: write `export default fn("],
    );
    behind_head(
        &RIGHT.replace("default", "const right ="),
        &["none of them is its default export: say which, as in `javascript = \"f.js:right\"`"],
    );
    behind_head(
        "export default fn({ inputs, outputs: { y: 'float64' } }, (row) => row);\n",
        &[&first, "column `y` of `outputs` is string \"float64\""],
    );
    behind_head(
        "export default fn({ inputs, outputs }, async (row) => row);\n",
        &[&first, "a function cannot be `async`"],
    );
    let without = |code: &str, what: &str| {
        behind_head(code, &[&format!("{first}: {what}")]);
    };
    without("Date.now();\n", "`Date.now()`: a function has no clock");
    without("new Date();\n", "`new Date()`: a function has no clock");
    without(
        "Math.random();\n",
        "`Math.random()`: a function has no randomness",
    );
    behind_head(
        "const again = () => 1 + again();\nagain();\n",
        &["RangeError: ", &first],
    );
    behind_head(
        "new Uint8Array(1 << 30);\n",
        &["the setting `memory` of the function says how much there is"],
    );
    check(
        format!("{HEAD}while (true);\n").as_bytes(),
        &["took longer than 5s to initialise (setting `init_time`)"],
    );
    check(
        b"// \xff\n",
        &[
            "functions.f.javascript: ",
            "f.js: it is not text in UTF-8: byte 4 of it, 0xff, belongs to no character",
        ],
    );
    // The project is as good as ever.
    project.write("f.js", format!("{HEAD}{RIGHT}"));
    project.ok(&["apply"]);
}

/// Functions of which one does something wrong for each value of `x` but 0.
const WRONG: &str = r#"export const wrong = fn({ inputs, outputs }, ({ id, at, x }) => {
  if (x === 1) return { id, at, y: "one" };
  if (x === 2) return 2;
  if (x === 3) throw new Error("three is too much");
  if (x === 4) return again(x);
  if (x === 5) new Uint8Array(1 << 30);
  if (x === 6) Math.random();
  if (x === 7) Date.now();
  if (x === 8) new Date();
  if (x === 9) return { id: Number(id), at, y: x };
  if (x === 10) throw { no: "error" };
  if (x === 11) return { id, at };
  if (x === 12) process.exit(3);
  return { id, at, y: x };
});
const again = (x) => 1 + again(x);

export const spin = fn({ inputs, outputs }, () => {
  while (true);
});
"#;

#[test]
fn rows_on_which_a_javascript_function_goes_wrong_fail_alone_with_the_reason() {
    let project = project(&[
        (
            "wrong",
            "javascript = \"f.js:wrong\"\nrequest_time = \"20s\"",
        ),
        (
            "spin",
            "javascript = \"f.js:spin\"\nrequest_time = \"300ms\"",
        ),
    ]);
    project.write("f.js", format!("{HEAD}{WRONG}"));
    project.ok(&["apply"]);
    let server = project.serve(&[]);
    let at = |behind: usize, message: &str| format!("{}: {message}", place(behind));
    for (x, start, end) in [
        (1.0, "field `y`: found string \"one\", wanted a number", ""),
        (2.0, "the function returned number 2, wanted an object", ""),
        (3.0, &*at(3, "Error: three is too much"), ""),
        (4.0, &*place(15), "RangeError: "),
        (
            5.0,
            &*place(5),
            "the setting `memory` of the function says how much there is",
        ),
        (
            6.0,
            &*at(6, "`Math.random()`: a function has no randomness"),
            "",
        ),
        (7.0, &*at(7, "`Date.now()`: a function has no clock"), ""),
        (8.0, &*at(8, "`new Date()`: a function has no clock"), ""),
        (9.0, "field `id`: found number 1, wanted a bigint", ""),
        (
            10.0,
            "object {\"no\":\"error\"} was thrown, ",
            "throw an Error",
        ),
        (
            11.0,
            "field `y`: found undefined, wanted a number or null",
            "",
        ),
        (
            12.0,
            &*at(12, "ReferenceError: "),
            "what it needs are parameters",
        ),
    ] {
        check_failed_row(&server, x, start, end);
    }
    check_endless_loop(&server);
    server.stop();

    project.write(
        "things.csv",
        "id,at,x\n1,2013-01-01T00:00:00Z,0.5\n2,2013-01-01T00:00:01Z,3\n3,2013-01-01T00:00:02Z,0\n",
    );
    let output = project.command(&["run", "thing"]).output().unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    let wanted = format!("things.csv:3: {}", at(3, "Error: three is too much"));
    assert!(
        said.contains(&wanted) && said.contains("2 written, 1 rejected"),
        "{said}"
    );
}

#[test]
fn check_says_what_the_first_row_error_is_and_drops_what_the_function_logs() {
    let project = project(&[("wrong", "javascript = \"f.js:wrong\"")]);
    project.write("f.js", format!("{HEAD}{WRONG}"));
    let rows = (0..9).map(|id| format!("{id},2013-01-01T00:00:00Z,{}\n", id % 4 * 3));
    project.write(
        "things.csv",
        format!("id,at,x\n{}", rows.collect::<String>()),
    );
    let output = project.command(&["check"]).output().unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    let message = format!("{}: Error: three is too much", place(3));
    let wanted =
        format!("the first row error of function `wrong`: row 1 of its source: {message}\n");
    assert!(said.contains(&wanted), "{said}");
    assert!(!said.contains("function="), "{said}");
    let checked = project.json(&["check"]);
    assert_eq!(checked[0]["row_errors"], 6, "{checked}");
    let said = text(&project.command(&["check", "-v"]).output().unwrap());
    assert!(said.contains("function="), "{said}");
}

/// A function that counts the rows that it was called on.
const COUNT: &str = "
let calls = 0;
export default fn({ inputs, outputs }, ({ id, at }) => ({ id, at, y: ++calls }));
";

#[test]
fn state_in_a_variable_of_a_javascript_module_does_not_survive_a_call() {
    let project = project(&[("count", "javascript = \"f.js\"")]);
    project.write("f.js", format!("{HEAD}{COUNT}"));
    check_state(&project);
}

/// Functions in each form. `scaled` has an asset and a parameter.
const FORMS: &str = r#"
export const filtered = fn({ inputs, outputs, filter: true }, ({ id, at, x }) =>
  x < 0 ? null : { id, at, y: x });

export const doubled = fn({ inputs, outputs, many: true }, function* ({ id, at, x }) {
  for (let n = 0n; n < 2n; n++) yield { id: id * 2n + n, at, y: x };
});

export const listed = fn({ inputs, outputs, many: true }, ({ id, at, x }) =>
  x < 0 ? [] : [{ id, at, y: x }, { id: id + 100n, at, y: null }]);

export const whole = fn({ inputs, outputs, columns: true }, ({ columns: { id, at, x } }) =>
  ({ id, at, y: x.map((value) => value + 1) }));

export const scaled = fn(
  {
    inputs,
    outputs,
    init: (assets, parameters) => assets.table.length * Number(parameters.factor),
  },
  ({ id, at, x }, scale) => ({ id, at, y: x * scale }),
);
"#;

#[test]
fn every_form_of_a_javascript_function_writes_its_rows() {
    for (name, wanted) in [
        ("filtered", &["1 0.5", "3 2.0"][..]),
        (
            "doubled",
            &["2 0.5", "3 0.5", "4 -1.0", "5 -1.0", "6 2.0", "7 2.0"],
        ),
        ("listed", &["1 0.5", "101 null", "103 null", "3 2.0"]),
        ("whole", &["1 1.5", "2 0.0", "3 3.0"]),
        ("scaled", &["1 5.0", "2 -10.0", "3 20.0"]),
    ] {
        let mut keys = format!("javascript = \"f.js:{name}\"\n");
        if name == "scaled" {
            keys += "assets = { table = \"table.txt\" }\nparameters = { factor = 2 }\n";
        }
        let project = Project::new(&pipeline(&keys));
        project.write("table.txt", "12345");
        project.write("f.js", format!("{HEAD}{FORMS}"));
        project.write(
            "things.csv",
            "id,at,x\n1,2013-01-01T00:00:00Z,0.5\n2,2013-01-01T00:00:01Z,-1\n3,2013-01-01T00:00:02Z,2\n",
        );
        project.ok(&["apply"]);
        project.ok(&["check"]);
        project.ok(&["run", "thing"]);
        let rows = project.offline_rows("thing_v1").into_iter();
        let mut rows: Vec<String> = rows
            .map(|row| format!("{} {}", row["id"], row["y"]))
            .collect();
        rows.sort();
        assert_eq!(rows, wanted, "{name}");
    }
}

/// Returns a project file with one function, which has a pipeline and no view.
fn pipeline(keys: &str) -> String {
    format!(
        "[project]\nname = \"interpreted\"\n[entities.thing]\nkeys = {{ id = \"int64\" }}\n\
         [sources.things]\ntype = \"stream\"\npath = \"things.csv\"\n\
         [functions.f]\n{keys}\n[groups.thing]\nentity = \"thing\"\nevent_time = \"at\"\n\
         [pipelines.thing]\nsource = \"things\"\nfunction = \"f\"\ngroup = \"thing\"\n"
    )
}

/// A function of numbers whose last bits depend on how they are computed, and of integers that no
/// double has.
const BITS: &str = "
export default fn(
  { inputs, outputs: { ...outputs, id: t.int64, z: t.int64 } },
  ({ id, at, x }) => ({ id, at, y: Math.sin(x) * 1e15 + Math.exp(x / 7), z: (1n << 62n) + id }),
);
";

#[test]
fn a_javascript_function_gives_the_same_bytes_in_runs_pushes_and_requests() {
    let rows: Vec<(i64, f64)> = (0..300).map(|n| (n, n as f64 * 0.37 - 40.0)).collect();
    let time = |id: i64| format!("2013-01-01T00:{:02}:{:02}Z", id / 60, id % 60);
    let of_function = || {
        let project = project(&[("f", "javascript = \"f.js\"")]);
        project.write("f.js", format!("{HEAD}{BITS}"));
        project.applied()
    };
    let batch = of_function();
    let lines = rows.iter();
    let lines = lines.map(|(id, x)| format!("{id},{},{x}\n", time(*id)));
    batch.write(
        "things.csv",
        format!("id,at,x\n{}", lines.collect::<String>()),
    );
    batch.ok(&["run", "thing"]);
    let written = batch.offline("thing_v1");
    assert_eq!(written.len(), rows.len());

    let events = of_function();
    let server = events.serve(&[]);
    for rows in rows.rchunks(37) {
        let lines = rows.iter();
        let lines = lines.map(|(id, x)| json!({"id": id, "at": time(*id), "x": x}).to_string());
        let lines: Vec<String> = lines.collect();
        let (status, answer) = server.events("things", &lines.join("\n"));
        assert_eq!((status, &answer["rejected"]), (200, &json!(0)), "{answer}");
    }
    let asked = rows.iter();
    let asked = asked.map(|(id, x)| json!({"id": id, "at": time(*id), "x": x}));
    let answers = server.features("f", &Json::Array(asked.collect()));
    server.stop();
    assert_eq!(events.offline("thing_v1"), written);

    let mut rows = batch.offline_rows("thing_v1");
    rows.sort_by_key(|row| row["id"].as_i64());
    for (row, answer) in rows.iter().zip(&answers) {
        let features = &answer["features"];
        let id = row["id"].as_i64().unwrap();
        assert_eq!(features["y"], row["y"], "{answer}");
        assert_eq!(features["z"], json!((1_i64 << 62) + id), "{answer}");
        assert_eq!(row["z"], features["z"], "{row}");
    }
    assert_eq!(rows.len(), answers.len());
}

#[test]
fn an_edit_of_a_javascript_function_compiles_nothing() {
    let project = project(&[
        ("one", "javascript = \"f.js\""),
        ("two", "javascript = \"g.js\""),
    ]);
    project.write("f.js", format!("{HEAD}{RIGHT}"));
    project.write("g.js", format!("{HEAD}{RIGHT}"));
    project.ok(&["apply"]);
    let compiled = project.compiled_code();
    assert!(!compiled.is_empty());
    project.write("g.js", format!("{HEAD}{}", RIGHT.replace("y: x", "y: -x")));
    let said = project.ok(&["plan"]);
    assert!(
        said.contains("function two") && !said.contains("function one"),
        "{said}"
    );
    project.ok(&["apply"]);
    assert_eq!(project.compiled_code(), compiled);
    let server = project.serve(&[]);
    check_answer(&server, "one", 0.5, 0.5);
    check_answer(&server, "two", 0.5, -0.5);
}

#[test]
fn a_folder_of_javascript_modules_is_a_function_and_packages_are_refused_with_a_way_out() {
    let project = project(&[("f", "javascript = \"rides\"")]);
    let write = |path: &str, content: &str| {
        let path = project.path().join("rides").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    };
    write("index.js", "export { default } from './lib/right.mjs';\n");
    write(
        "lib/right.mjs",
        &format!(
            "{HEAD}import {{ half }} from '../half.js';\n{}",
            RIGHT.replace("y: x", "y: half(x)")
        ),
    );
    write("half.js", "export const half = (x) => x / 2;\n");
    project.ok(&["apply"]);
    let server = project.serve(&[]);
    check_answer(&server, "f", 3.0, 1.5);
    server.stop();

    // An error names the module that it is in.
    write("half.js", "export const half = (x) =>\n  x.half();\n");
    project.ok(&["apply"]);
    let server = project.serve(&[]);
    let (_, answer) = ask(&server, "f", 3.0);
    let message = answer["rows"][0]["errors"]["f"].as_str().unwrap();
    assert!(
        message.contains("half.js, line 2") && message.contains("TypeError: "),
        "{message}"
    );
    server.stop();

    write(
        "half.js",
        "import 'left-pad';\nexport const half = (x) => x;\n",
    );
    let said = project.fails(&["apply"]);
    assert!(
        said.contains("half.js: cannot import `left-pad`: ") && said.contains("esbuild"),
        "{said}"
    );
    write("node_modules/left-pad/index.js", "");
    let said = project.fails(&["apply"]);
    assert!(
        said.contains("functions.f.javascript: ")
            && said
                .contains("rides: it has a folder `node_modules`, and packages are not looked up")
            && said.contains("esbuild index.js --bundle"),
        "{said}"
    );
    project.replace("javascript = \"rides\"", "javascript = \"rides.ts\"");
    project.write("rides.ts", "");
    let said = project.fails(&["apply"]);
    assert!(
        said.contains("rides.ts: it is TypeScript, whose types have to be stripped"),
        "{said}"
    );
}

#[test]
fn the_guide_to_javascript_leads_to_an_endpoint() {
    let project = new_project("javascript");
    let append = |name: &str, text: &str| {
        let path = project.path().join(name);
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        std::fs::write(path, before + "\n" + text).unwrap();
    };
    let of_guide = |start: &str| of_guide("javascript.md", start);
    append("ride_features.js", &of_guide("export const compared"));
    append("score.js", &of_guide("JSON.parse"));
    append("wafer.toml", &of_guide("[functions.compared]"));
    append("wafer.toml", &of_guide("[functions.score]"));
    project.ok(&["apply"]);
    project.ok(&["run", "last_ride"]);
    let vector = project.json(&["get", "trip", "driver_id=7", "planned_km=20"]);
    assert_eq!(vector["features"]["times_as_far"], 1.6, "{vector}");

    project.write("labels.csv", of_guide("driver_id,event_timestamp,is_long"));
    let set = project.training_set("driver", "labels.csv", "training.parquet");
    assert_eq!(set["rows"], 3, "{set}");
    project.push_model("long_ride", "model.json", of_guide("\"intercept\""));
    project.ok(&["release", "create", "--model", "long_ride@1"]);
    project.ok(&["endpoints", "set", "long", "r1"]);
    let server = project.serve(&[]);
    let body = json!({"inputs": [
        {"name": "driver_id", "datatype": "INT64", "shape": [1], "data": [7]},
    ]});
    let (status, answer) = server.post(
        "/v2/models/long/infer",
        "application/json",
        body.to_string(),
    );
    assert_eq!(status, 200, "{answer}");
    let prediction = answer["outputs"][0]["data"][0].as_f64().unwrap();
    // The logistic function of 0.2 · 12.5 - 2.
    assert!((prediction - 0.622_459_331).abs() < 1e-6, "{answer}");
}
