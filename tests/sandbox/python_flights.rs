//! The flights project, whose functions there are in Rust and in Python: both give the same bits.

use serde_json::{Value as Json, json};

use crate::harness::interpreted::copy_folder;
use crate::harness::{FLIGHTS_PIPELINES, Project, repository};

/// The time of runs and requests, when all flights have landed: rows say when they were written.
const NOW: &str = "2014-01-02T00:00:00Z,0";

/// The functions that both projects have.
const FUNCTIONS: [&str; 5] = [
    "airport_profile",
    "departure_features",
    "flight_outcome",
    "hourly_weather",
    "scheduled_flight",
];

/// What labels of the view `delay_model` have.
const LABELS: &str =
    "tailnum,carrier,flight,origin,dest,scheduled_departure,scheduled_arrival,arrived_late";

/// Makes a copy of the flights project in Python, without its model.
fn flights_in_python() -> Project {
    let folder = repository().join("functions/flights-python");
    let text = std::fs::read_to_string(folder.join("wafer.toml")).unwrap();
    let (definitions, _) = text.split_once("# A pipeline of scikit-learn").unwrap();
    let data = repository().join("functions/flights/data");
    let definitions = definitions.replace("../flights/data", &data.display().to_string());
    let project = Project::new(&definitions);
    copy_folder(&folder.join("features"), &project.path().join("features"));
    project
}

/// Runs a pipeline over all rows of its source, and returns how many it read, wrote and rejected.
fn run(project: &Project, pipeline: &str) -> [Json; 3] {
    let ran = project.json(&["run", pipeline, "--clock", NOW]);
    ["rows_read", "rows_written", "rows_rejected"].map(|count| ran[count].clone())
}

/// Returns all columns of the rows of a group, as the bytes of an Arrow file.
fn exported(project: &Project, group: &str) -> Vec<u8> {
    let file = project.at("rows.arrow");
    project.ok(&["export", &format!("{group}_v1"), "--out", &file]);
    std::fs::read(file).unwrap()
}

/// Makes a training set of all flights, and returns the bytes of its Arrow file.
fn training_set(project: &Project, labels: &str) -> Vec<u8> {
    let out = project.at("set.arrow");
    let options = ["--time", "scheduled_departure", "--out", out.as_str()];
    let made = ["training-set", "delay_model", "--labels", labels];
    project.ok(&[&made[..], &options].concat());
    std::fs::read(out).unwrap()
}

/// Returns requests for the features of real departures.
fn requests() -> Vec<Json> {
    let path = repository().join("functions/flights/data/departures.csv");
    let text = std::fs::read_to_string(path).unwrap();
    let row = |line: &str| {
        let [tailnum, carrier, _, origin, dest, departure, arrival]: [&str; 7] =
            line.split(',').collect::<Vec<_>>().try_into().unwrap();
        json!({
            "tailnum": tailnum, "carrier": carrier, "origin": origin, "dest": dest,
            "scheduled_departure": departure, "scheduled_arrival": arrival,
        })
    };
    text.lines().skip(1).take(500).map(row).collect()
}

/// Returns the answers to requests.
fn answers(project: &Project, requests: &[Json]) -> Vec<Json> {
    let server = project.serve(&["--clock", NOW]);
    let rows = server.features("delay_model", &json!(requests));
    server.stop();
    rows
}

/// All year, since clocks are changed in March and in November, and all groups: Python takes
/// minutes for them.
#[test]
fn flights_in_python_give_the_same_bits_as_in_rust() {
    if std::env::var_os("WAFER_TEST_PYTHON").is_none() {
        println!("skipped: it takes minutes; `cargo xtask python` does it");
        return;
    }
    let (rust, python) = (Project::flights().applied(), flights_in_python().applied());
    let signatures = [&rust, &python].map(|project| project.json(&["functions"]));
    for name in FUNCTIONS {
        let [in_rust, in_python] = signatures
            .each_ref()
            .map(|all| &all[name]["registered"]["signature"]);
        assert!(in_rust.is_object(), "{name}: {in_rust}");
        assert_eq!(in_python, in_rust, "{name}");
    }

    for pipeline in FLIGHTS_PIPELINES {
        let counts = run(&rust, pipeline);
        assert!(counts[1].as_u64().unwrap() >= 1_458, "{counts:?}");
        assert_eq!(run(&python, pipeline), counts, "{pipeline}");
        let is_same = exported(&python, pipeline) == exported(&rust, pipeline);
        assert!(is_same, "{pipeline}: rows differ");
    }

    let labels = rust.at("labels.parquet");
    rust.ok(&[
        "export",
        "scheduled_flight_v1",
        "--out",
        &labels,
        "--columns",
        LABELS,
    ]);
    let is_same = training_set(&python, &labels) == training_set(&rust, &labels);
    assert!(is_same, "training sets differ");

    let requests = requests();
    assert_eq!(answers(&python, &requests), answers(&rust, &requests));
}
