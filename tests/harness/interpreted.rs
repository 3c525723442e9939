//! Projects whose functions are modules of a language that has an interpreter in the program.

use std::path::Path;

use serde_json::{Value as Json, json};

use super::{Project, Server, run_in};

/// Makes a project with the files that `wafer new --lang` makes for a language.
pub(crate) fn new_project(language: &str) -> Project {
    let folder = tempfile::tempdir().unwrap();
    let (done, said) = run_in(folder.path(), &["new", "rides", "--lang", language]);
    assert!(done, "{said}");
    let made = folder.path().join("rides");
    let toml = std::fs::read_to_string(made.join("wafer.toml")).unwrap();
    let project = Project::new(&toml);
    copy_folder(&made, project.path());
    project
}

/// Copies a folder with everything in it.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &to),
            false => {
                std::fs::copy(entry.path(), &to).unwrap();
            }
        }
    }
}

/// Goes the first steps with a new project: its feature is served after a run and after an event,
/// and after an edit of the function's file, in which one text takes the place of another so that
/// speeds are sixty times as high.
pub(crate) fn check_first_steps(language: &str, file: &str, (from, to): (&str, &str)) {
    let project = new_project(language);
    let said = project.ok(&["apply"]);
    assert!(said.contains("+ function ride_features"), "{said}");
    let said = project.ok(&["run", "last_ride"]);
    assert!(
        said.contains("5 rows read, 4 written, 0 rejected"),
        "{said}"
    );
    let vector = project.json(&["get", "driver", "driver_id=7"]);
    assert_eq!(
        vector["features"],
        json!({"last_ride_distance_km": 12.5, "last_ride_speed_kmh": 30.0})
    );
    assert!(project.ok(&["check"]).contains("everything fits"));

    let server = project.serve(&[]);
    let event =
        r#"{"driver_id": 7, "ended_at": "2026-01-05T11:00:00Z", "distance_km": 9, "minutes": 20}"#;
    let (status, answer) = server.events("rides", event);
    assert_eq!((status, &answer["accepted"]), (200, &json!(1)), "{answer}");
    let rows = server.features("driver", &json!([{"driver_id": 7}]));
    assert_eq!(
        rows[0]["features"],
        json!({"last_ride_distance_km": 9.0, "last_ride_speed_kmh": 27.0})
    );
    server.stop();

    let path = project.path().join(file);
    let code = std::fs::read_to_string(&path).unwrap();
    assert!(code.contains(from), "{code}");
    std::fs::write(&path, code.replace(from, to)).unwrap();
    let said = project.ok(&["plan"]);
    assert!(said.contains("function ride_features"), "{said}");
    project.ok(&["apply"]);
    project.ok(&["run", "last_ride"]);
    let other = project.json(&["get", "driver", "driver_id=9"]);
    let speed = other["features"]["last_ride_speed_kmh"].as_f64().unwrap();
    assert!(speed > 2_000.0, "{speed}");
}

/// Makes a project with some functions, each as its name and its other keys, which is called by the
/// view of its name. The first of them also has a pipeline.
pub(crate) fn project(functions: &[(&str, &str)]) -> Project {
    let mut toml = r#"
[project]
name = "interpreted"
[entities.thing]
keys = { id = "int64" }
[sources.things]
type = "stream"
path = "things.csv"
[groups.thing]
entity = "thing"
event_time = "at"
"#
    .to_owned();
    let (first, _) = functions[0];
    toml += &format!(
        "[pipelines.thing]\nsource = \"things\"\nfunction = \"{first}\"\ngroup = \"thing\"\n"
    );
    for (name, keys) in functions {
        toml += &format!(
            "[functions.{name}]\n{keys}\n[views.{name}]\n\
             request = {{ id = \"int64\", at = \"timestamp\", x = \"float64\" }}\n\
             functions = [\"{name}\"]\n"
        );
    }
    Project::new(&toml)
}

/// Asks for the features of one row, and returns the status and the answer.
pub(crate) fn ask(server: &Server, view: &str, x: f64) -> (u16, Json) {
    let row = json!({"id": 1, "at": "2013-01-01T00:00:00Z", "x": x});
    server.post(
        &format!("/v1/views/{view}/features"),
        "application/json",
        json!({ "rows": [row] }).to_string(),
    )
}

/// Checks that a loop without an end in the function `spin` exceeds its limit of 300 ms in a
/// request, and fails nothing else.
pub(crate) fn check_endless_loop(server: &Server) {
    let (status, answer) = ask(server, "spin", 0.0);
    assert_eq!(status, 500, "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("function `spin` ran longer than 300ms (setting `request_time`)"),
        "{message}"
    );
    check_answer(server, "wrong", 0.5, 0.5);
}

/// Checks the value `y` that a function answers for a value of `x`.
pub(crate) fn check_answer(server: &Server, view: &str, x: f64, y: f64) {
    let (status, answer) = ask(server, view, x);
    assert_eq!(
        (status, &answer["rows"][0]["features"]["y"]),
        (200, &json!(y)),
        "{answer}"
    );
}

/// Checks that the function `wrong` fails the row for a value of `x` alone, with a message that
/// begins and ends so.
pub(crate) fn check_failed_row(server: &Server, x: f64, start: &str, end: &str) {
    let (status, answer) = ask(server, "wrong", x);
    assert_eq!(status, 200, "{x}: {answer}");
    let row = &answer["rows"][0];
    assert_eq!(row["status"]["y"], "error", "{x}: {answer}");
    let message = row["errors"]["wrong"].as_str().unwrap();
    assert!(
        message.starts_with(start) && message.contains(end),
        "{x}: {message}"
    );
}

/// Checks that state in a global of a module, in which the function `count` counts the rows that it
/// was called on, does not survive a call. Within a call it makes rows depend on each other, which
/// `wafer check` finds.
pub(crate) fn check_state(project: &Project) {
    project.ok(&["apply"]);
    let server = project.serve(&[]);
    for _ in 0..3 {
        check_answer(&server, "count", 0.0, 1.0);
    }
    server.stop();
    let rows = (0..9).map(|id| format!("{id},2013-01-01T00:00:00Z,0\n"));
    project.write(
        "things.csv",
        format!("id,at,x\n{}", rows.collect::<String>()),
    );
    let said = project.fails(&["check"]);
    assert!(said.contains("gives another result for row"), "{said}");
}

/// Returns the block of code in a guide that has a text: what the guide adds to a new project.
pub(crate) fn of_guide(guide: &str, start: &str) -> String {
    let guide = std::fs::read_to_string(super::repository().join("docs").join(guide)).unwrap();
    let mut blocks = guide.split("```").skip(1).step_by(2);
    let block = blocks.find(|block| block.contains(start)).unwrap();
    let (_, code) = block.split_once('\n').unwrap();
    code.to_owned()
}
