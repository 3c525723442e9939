//! `wafer new` and `wafer doctor`: from nothing to a served feature.

use std::process::Command;

use serde_json::json;

use crate::harness::{BINARY, repository, text};

#[test]
fn a_new_project_serves_a_feature() {
    let folder = tempfile::tempdir().unwrap();
    let wafer = |arguments: &[&str]| {
        let mut command = Command::new(BINARY);
        command
            .current_dir(folder.path())
            .args(arguments)
            .env_remove("WAFER_STORE_PATH");
        if std::env::var_os("CARGO_TARGET_DIR").is_none() {
            // The target folder is shared, so that dependencies are compiled once for all tests.
            command.env("CARGO_TARGET_DIR", repository().join("target"));
        }
        let output = command.output().unwrap();
        (output.status.success(), text(&output))
    };
    let (made, said) = wafer(&["new", "my-rides"]);
    assert!(made, "{said}");
    let lock = || std::fs::read_to_string(folder.path().join("my-rides/Cargo.lock")).unwrap();
    let pinned = lock();
    for line in said
        .lines()
        .filter(|l| l.trim_start().starts_with("wafer "))
    {
        let command = line.split('#').next().unwrap().trim();
        let mut arguments = vec!["-C", "my-rides"];
        arguments.extend(command.split_whitespace().skip(1));
        let (done, said) = wafer(&arguments);
        assert!(done, "{command}: {said}");
    }
    assert_eq!(
        lock(),
        pinned,
        "the project is built with the versions that it was made with"
    );
    let (_, vector) = wafer(&[
        "-C",
        "my-rides",
        "--output",
        "json",
        "get",
        "driver",
        "driver_id=7",
    ]);
    let vector: serde_json::Value = serde_json::from_str(&vector).unwrap();
    assert_eq!(
        vector["features"],
        json!({"last_ride_distance_km": 12.5, "last_ride_speed_kmh": 30.0})
    );

    let (again, said) = wafer(&["new", "my-rides"]);
    assert!(!again && said.contains("is there already"), "{said}");
    let (odd, said) = wafer(&["new", "My Rides"]);
    assert!(!odd && said.contains("cannot name a project"), "{said}");
}

#[test]
fn doctor_reports_what_is_installed() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(BINARY)
        .current_dir(folder.path())
        .arg("doctor")
        .output()
        .unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    for wanted in ["WebAssembly", "sandbox", "make one with `wafer new NAME`"] {
        assert!(said.contains(wanted), "{said}");
    }
}
