//! Several processes that share one store.

use std::process::Stdio;

use serde_json::json;

use crate::harness::ledger::ledger;
use crate::harness::{Project, text};

#[test]
fn runs_and_pushes_work_beside_a_server() {
    let project = Project::flights().applied();
    let server = project.serve(&[]);
    let request = json!([{
        "tailnum": "N14228", "origin": "EWR", "dest": "IAH",
        "scheduled_departure": "2013-01-01T10:15:00Z", "scheduled_arrival": "2013-01-01T14:19:00Z",
    }]);
    let before = server.features("arrival_delay", &request);
    assert_eq!(before[0]["status"]["origin_lat"], "not_found");

    let mut run = project
        .command(&["run", "plane_outcome"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    project.ok(&["run", "airport"]);
    // A process reads what another one wrote at once.
    let after = server.features("arrival_delay", &request);
    assert_eq!(after[0]["status"]["origin_lat"], "present");
    for hour in 0..20 {
        let event = json!({"origin": "EWR", "time_hour": format!("2013-01-01T{hour:02}:00:00Z"), "temp": hour});
        assert_eq!(server.events("weather_reports", &event.to_string()).0, 200);
    }
    let file = project.write(
        "e.ndjson",
        json!({"origin": "EWR", "time_hour": "2013-01-01T21:00:00Z"}).to_string(),
    );
    project.ok(&["push", "weather_reports", file.to_str().unwrap()]);
    assert!(run.wait().unwrap().success());
    let rows = server.features("arrival_delay", &request);
    assert_eq!(
        rows[0]["event_timestamp"]["weather"],
        "2013-01-01T21:00:00Z"
    );
    assert!(rows[0]["event_timestamp"]["plane"].is_string());
    server.stop();
    assert_eq!(project.offline("airport_weather_v1").len(), 21);
    assert_eq!(project.offline("plane_outcome_v1").len(), 328_063);
}

#[test]
fn one_of_several_runs_of_a_pipeline_gets_the_lease() {
    let project = Project::flights().applied();
    let start = || {
        project
            .command(&["run", "plane_outcome"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let outputs: Vec<_> = [start(), start(), start()]
        .map(|run| run.wait_with_output().unwrap())
        .into();
    assert!(outputs.iter().any(|o| o.status.success()));
    for output in outputs.iter().filter(|o| !o.status.success()) {
        assert!(text(output).contains("is being run by"), "{}", text(output));
    }
    assert_eq!(project.offline("plane_outcome_v1").len(), 328_063);
}

#[test]
fn a_server_reads_definitions_that_are_applied_beside_it() {
    let project = Project::flights();
    let server = project.serve(&[]);
    assert_eq!(server.get("/v1/views/arrival_delay").0, 404);
    project.ok(&["apply"]);
    let appeared = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        server.get("/v1/views/arrival_delay").0 == 200
    });
    assert!(appeared);
}

#[test]
fn a_project_that_is_applied_from_one_folder_runs_from_another() {
    let project = ledger("");
    project.write("entries.ndjson", "");
    let run = |folder: &std::path::Path, arguments: &[&str]| {
        let output = crate::harness::wafer()
            .current_dir(folder)
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", crate::harness::text(&output));
    };
    let name = project.path().file_name().unwrap().to_str().unwrap();
    run(project.path().parent().unwrap(), &["-C", name, "apply"]);
    run(project.path(), &["run", "sums"]);
}
