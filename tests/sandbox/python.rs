//! Functions in Python: a project of them from nothing to an endpoint, and what an author does
//! wrong.

use std::process::Command;
use std::sync::Once;

use serde_json::json;

use crate::harness::interpreted::{
    ask, check_endless_loop, check_failed_row, check_first_steps, check_state, new_project,
    of_guide, project,
};
use crate::harness::package_index::{cache_without_packages, package_index, wheel};
use crate::harness::{Project, text};

/// Compiles the interpreter, which takes a part of a minute, unless it was: otherwise each of the
/// tests that begin together would.
fn compile_interpreter() {
    static COMPILED: Once = Once::new();
    COMPILED.call_once(|| drop(new_project("python").applied()));
}

#[test]
fn a_new_python_project_serves_a_feature_and_takes_an_edit() {
    compile_interpreter();
    check_first_steps("python", "ride_features.py", ("* 60 if", "* 3600 if"));
}

#[test]
fn a_new_python_project_has_a_test_that_needs_no_sandbox() {
    compile_interpreter();
    let project = new_project("python");
    let run = "
import sys
if sys.version_info < (3, 11):
    sys.exit(77)
sys.path[:0] = ['.', 'sdk', 'tests']
import test_ride_features as tests
for name, test in sorted(vars(tests).items()):
    if name.startswith('test_'):
        test()
        print(name)
";
    let output = Command::new("python3")
        .args(["-B", "-c", run])
        .current_dir(project.path())
        .output();
    match output {
        Ok(output) if output.status.code() != Some(77) => {
            assert!(output.status.success(), "{}", text(&output));
            assert_eq!(text(&output).lines().count(), 2, "{}", text(&output));
        }
        _ => println!("skipped: there is no python3 of version 3.11 or later"),
    }
}

/// What each of the functions below begins with.
const HEAD: &str = "from dataclasses import dataclass
from datetime import datetime
import random
import wafer

@dataclass
class Thing:
    id: int
    at: datetime
    x: float

@dataclass
class Out:
    id: int
    at: datetime
    y: float | None

";

/// A function that is right.
const RIGHT: &str = "
@wafer.function
def right(thing: Thing) -> Out:
    return Out(thing.id, thing.at, thing.x)
";

/// The number of the first line behind [`HEAD`].
fn line() -> usize {
    HEAD.lines().count() + 1
}

#[test]
fn python_that_is_no_function_is_refused_when_it_is_registered() {
    compile_interpreter();
    let project = project(&[("f", "python = \"f.py\"\ninit_time = \"5s\"")]);
    let line = line();
    let at = |message: &str| {
        format!("function `f` could not be initialised: f.py, line {line}: {message}")
    };
    let without = |module: &str, what: &str| {
        at(&format!(
            "a function cannot import `{module}`: it has no {what}; what it needs are its inputs, \
             assets and parameters"
        ))
    };
    let check = |code: &[u8], wanted: &[&str]| {
        project.write("f.py", code);
        let said = project.fails(&["apply"]);
        for wanted in wanted {
            assert!(said.contains(wanted), "{wanted}: {said}");
        }
        assert!(said.len() < 8 << 10, "{}", said.len());
    };
    let behind_head = |code: &str, wanted: &[&str]| {
        check(format!("{HEAD}{code}").as_bytes(), wanted);
    };

    let place = format!("f.py\", line {line}");
    behind_head(
        "def f(:\n",
        &[
            "`f` could not be initialised: ",
            "SyntaxError: ",
            &format!("f.py, line {line}"),
        ],
    );
    behind_head(
        &format!("import absent\n{RIGHT}"),
        &[&place, "ModuleNotFoundError: No module named 'absent'"],
    );
    behind_head(
        "@wafer.function\ndef f(thing) -> Out: ...\n",
        &["parameter `thing` of function `f` has no type hint: name the dataclass of its rows"],
    );
    behind_head(
        "@wafer.function\ndef f(thing: Thing): ...\n",
        &["function `f` has no type hint for what it returns: `-> Output`, a dataclass"],
    );
    behind_head(
        "@wafer.function\ndef f(thing: Thing) -> dict[str, float]: ...\n",
        &[
            "what function `f` returns is `dict[str, float]`, and has to be a dataclass, whose fields \
           are columns",
        ],
    );
    behind_head(
        "def f(thing: Thing) -> Out: ...\n",
        &["`f` has no function: write `@wafer.function` above one"],
    );
    behind_head(
        &format!("{RIGHT}{}", RIGHT.replace("right", "left")),
        &["`f` has the functions `right`, `left`: say which, as in `python = \"FILE.py:right\"`"],
    );
    for (import, module, what) in [
        ("import os", "os", "files, processes or an environment"),
        ("import socket", "socket", "sockets"),
        ("import subprocess", "subprocess", "processes"),
        ("from ctypes import CDLL", "ctypes", "native code"),
        ("import threading", "threading", "threads"),
    ] {
        behind_head(&format!("{import}\n{RIGHT}"), &[&without(module, what)]);
    }
    check(b"x = '\xff'\n", &["f.py is not text in UTF-8: "]);
    behind_head(
        "while True: pass\n",
        &["took longer than 5s to initialise (setting `init_time`)"],
    );
    behind_head(
        "def again(): again()\nagain()\n",
        &["`f` could not be initialised: ", "RecursionError: "],
    );
    behind_head(
        "x = bytearray(1 << 30)\n",
        &["MemoryError; the setting `memory` of the function says how much there is"],
    );
    // The project is as good as ever.
    project.write("f.py", format!("{HEAD}{RIGHT}"));
    project.ok(&["apply"]);
}

/// A function that does something wrong for each value of `x` but 0.
const WRONG: &str = r#"@wafer.function
def wrong(thing: Thing) -> Out:
    if thing.x == 1:
        return Out(thing.id, thing.at, "one")
    if thing.x == 2:
        return (thing.id, thing.x)
    if thing.x == 3:
        raise ValueError("three is too much")
    if thing.x == 4:
        return wrong.function(thing)
    if thing.x == 5:
        bytearray(1 << 30)
    if thing.x == 6:
        random.random()
    if thing.x == 7:
        datetime.now()
    if thing.x == 8:
        open("/etc/passwd")
    if thing.x == 9:
        raise SystemExit(3)
    if thing.x == 10:
        __import__("cffi")
    return Out(thing.id, thing.at, thing.x)

@wafer.function
def spin(thing: Thing) -> Out:
    while True:
        pass
"#;

#[test]
fn rows_on_which_a_python_function_goes_wrong_fail_alone_with_the_reason() {
    compile_interpreter();
    let project = project(&[
        ("wrong", "python = \"f.py\"\nrequest_time = \"20s\""),
        ("spin", "python = \"f.py:spin\"\nrequest_time = \"300ms\""),
    ]);
    project.write("f.py", format!("{HEAD}{WRONG}"));
    project.ok(&["apply"]);
    let server = project.serve(&[]);
    let at = |behind: usize, message: &str| {
        format!("f.py, line {}, in wrong: {message}", line() + behind)
    };
    let nothing_there =
        "a function has no clock, randomness, files, environment, processes or sockets";
    for (x, start, end) in [
        (1.0, "field `y`: found str 'one', wanted float", ""),
        (2.0, "the function returned tuple (1, 2.0), wanted Out", ""),
        (3.0, &*at(7, "ValueError: three is too much"), ""),
        (4.0, &*at(9, "RecursionError: "), ""),
        (
            5.0,
            &*at(11, "MemoryError"),
            "the setting `memory` of the function says how much there is",
        ),
        (6.0, &*at(13, "`random.random` has no seed"), ""),
        (7.0, &*at(15, ""), nothing_there),
        (8.0, &*at(17, ""), nothing_there),
        (
            9.0,
            &*at(19, "SystemExit: 3; a function cannot end Python"),
            "",
        ),
        (
            10.0,
            &*at(
                21,
                "ImportError: a function cannot import `cffi`: it has no native code",
            ),
            "",
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
    let wanted = format!("things.csv:3: {}", at(7, "ValueError: three is too much"));
    assert!(
        said.contains(&wanted) && said.contains("2 written, 1 rejected"),
        "{said}"
    );
}

/// A function that counts the rows that it was called on.
const COUNT: &str = "
calls = 0

@wafer.function
def count(thing: Thing) -> Out:
    global calls
    calls += 1
    return Out(thing.id, thing.at, float(calls))
";

#[test]
fn state_in_a_global_of_a_python_module_does_not_survive_a_call() {
    compile_interpreter();
    let project = project(&[("count", "python = \"f.py\"")]);
    project.write("f.py", format!("{HEAD}{COUNT}"));
    check_state(&project);
}

/// A function of a package that has another number in each version.
const SHAPES: &str = "
import shape

@wafer.function
def sides(thing: Thing) -> Out:
    return Out(thing.id, thing.at, shape.SIDES)
";

/// Makes a project with two functions, whose files of requirements differ, and returns it with the
/// address of an index.
fn shapes() -> (Project, String) {
    let project = project(&[
        ("one", "python = \"f.py\"\nrequirements = \"one.txt\""),
        ("two", "python = \"f.py\"\nrequirements = \"two.txt\""),
    ]);
    project.write("f.py", format!("{HEAD}{SHAPES}"));
    project.write("one.txt", "shape==1.0  # round\n");
    project.write("two.txt", "Shape == 2\n");
    let index = package_index(vec![
        (
            "shape",
            vec![
                wheel(
                    "shape-1.0-py3-none-any.whl",
                    &[("shape/__init__.py", "SIDES = 1.0\n")],
                ),
                wheel(
                    "shape-2.0-py2.py3-none-any.whl",
                    &[("shape/__init__.py", "SIDES = 2.0\n")],
                ),
            ],
        ),
        (
            "fast",
            vec![wheel(
                "fast-1.0-cp314-cp314-manylinux_2_28_x86_64.whl",
                &[("fast.so", "")],
            )],
        ),
        ("source", vec![("source-1.0.tar.gz", Vec::new())]),
    ]);
    (project, index)
}

/// Runs a command with an index and a folder for packages, and returns whether it succeeded, and
/// what it said.
fn with_index(project: &Project, index: &str, arguments: &[&str]) -> (bool, String) {
    let output = project
        .command(arguments)
        .env("PIP_INDEX_URL", index)
        .env("WAFER_CACHE", cache_without_packages(project))
        .output()
        .unwrap();
    (output.status.success(), text(&output))
}

#[test]
fn two_python_functions_have_packages_of_their_own() {
    compile_interpreter();
    let (project, index) = shapes();
    let run = |arguments: &[&str]| with_index(&project, &index, arguments);
    let (planned, said) = run(&["plan", "--no-build"]);
    assert!(
        !planned
            && said.contains("functions.one.requirements: ")
            && said.contains("`shape==1.0` was not downloaded from the index ")
            && said.contains("run `wafer build`"),
        "{said}"
    );
    let (built, said) = run(&["build"]);
    assert!(built && said.contains("downloading shape 1.0"), "{said}");
    assert!(said.contains("downloading shape 2"), "{said}");
    let (applied, said) = run(&["apply"]);
    assert!(applied && !said.contains("downloading"), "{said}");
    let server = project.serve(&[]);
    for (view, sides) in [("one", 1.0), ("two", 2.0)] {
        let (_, answer) = ask(&server, view, 0.0);
        assert_eq!(answer["rows"][0]["features"]["y"], sides, "{answer}");
    }
}

#[test]
fn python_packages_that_cannot_be_used_are_refused_with_a_way_out() {
    compile_interpreter();
    let (project, index) = shapes();
    for (requirements, wanted) in [
        (
            "fast==1.0",
            "one.txt: the index INDEX: `fast` 1.0 has no wheel of pure Python (py3-none-any), but such as \
             `fast-1.0-cp314-cp314-manylinux_2_28_x86_64.whl`, and native code cannot run in the sandbox: \
             write what it is needed for in Python, or as a function in Rust; if it works without its \
             native part, put it into a folder by `pip install --no-binary :all: --target FOLDER \
             fast==1.0`, and name the folder by `requirements`",
        ),
        (
            "source==1.0",
            "one.txt: the index INDEX: `source` 1.0 is there as source only (`source-1.0.tar.gz`), which is \
             not built here: put it into a folder by `pip install --target FOLDER source==1.0`",
        ),
        ("shape==3", "one.txt: the index INDEX: it has no `shape` 3"),
        (
            "absent==1",
            "one.txt: the index INDEX: it has no package `absent`",
        ),
        (
            "shape>=1",
            "one.txt: line 1: `shape>=1` is not pinned to one version, as in `six==1.16.0`",
        ),
        (
            "shape==1.0 --hash=sha256:0000000000000000000000000000000000000000000000000000000000000000",
            "which is none of those behind `shape==1.0`",
        ),
    ] {
        project.write("one.txt", requirements);
        let (built, said) = with_index(&project, &index, &["build"]);
        let wanted = wanted.replace("INDEX", &index);
        assert!(!built && said.contains(&wanted), "{wanted}: {said}");
        assert!(said.contains("functions.one.requirements: "), "{said}");
    }
    // A folder of packages is taken as it is; of native code only the name.
    project.replace("requirements = \"one.txt\"", "requirements = \"vendored\"");
    std::fs::create_dir(project.path().join("vendored")).unwrap();
    project.write("vendored/fast.cpython-314-x86_64-linux-gnu.so", "\u{7f}ELF");
    project.write("f.py", format!("{HEAD}import fast\n{RIGHT}"));
    let (applied, said) = with_index(&project, &index, &["apply"]);
    assert!(
        !applied
            && said.contains(
                "`fast` is native code (site-packages/fast.cpython-314-x86_64-linux-gnu.so), which cannot \
                 run in the sandbox: only packages of pure Python can be dependencies"
            ),
        "{said}"
    );
    std::os::unix::fs::symlink("/etc", project.path().join("vendored/etc")).unwrap();
    let (built, said) = with_index(&project, &index, &["apply"]);
    assert!(
        !built
            && said
                .contains("vendored: `etc` is a symbolic link; put the file itself in its place"),
        "{said}"
    );
}

#[test]
fn the_guide_to_python_leads_to_an_endpoint() {
    compile_interpreter();
    let project = new_project("python");
    let append = |name: &str, text: &str| {
        let path = project.path().join(name);
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        std::fs::write(path, before + "\n" + text).unwrap();
    };
    append("ride_features.py", &of_guide("python.md", "def compared("));
    append("score.py", &of_guide("python.md", "def score("));
    append("wafer.toml", &of_guide("python.md", "[functions.compared]"));
    append("wafer.toml", &of_guide("python.md", "[functions.score]"));
    project.ok(&["apply"]);
    project.ok(&["run", "last_ride"]);
    let vector = project.json(&["get", "trip", "driver_id=7", "planned_km=20"]);
    assert_eq!(vector["features"]["times_as_far"], 1.6, "{vector}");

    project.write(
        "labels.csv",
        of_guide("python.md", "driver_id,event_timestamp,is_long"),
    );
    let set = project.training_set("driver", "labels.csv", "training.parquet");
    assert_eq!(set["rows"], 3, "{set}");
    project.push_model(
        "long_ride",
        "model.json",
        of_guide("python.md", "\"intercept\""),
    );
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
