//! `wafer new` and `wafer doctor`: from nothing to a served feature.

use serde_json::json;

use crate::harness::run_in;

#[test]
fn a_new_project_serves_a_feature() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| run_in(folder.path(), arguments);
    let (made, said) = run(&["new", "my-rides"]);
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
        let (done, said) = run(&arguments);
        assert!(done, "{command}: {said}");
    }
    assert_eq!(
        lock(),
        pinned,
        "the project is built with the versions that it was made with"
    );
    let (_, vector) = run(&[
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

    let (again, said) = run(&["new", "my-rides"]);
    assert!(!again && said.contains("is there already"), "{said}");
    let (odd, said) = run(&["new", "My Rides"]);
    assert!(!odd && said.contains("cannot name a project"), "{said}");
}

#[test]
fn doctor_reports_what_is_installed() {
    let folder = tempfile::tempdir().unwrap();
    let (is_well, said) = run_in(folder.path(), &["doctor"]);
    assert!(is_well, "{said}");
    for wanted in [
        "WebAssembly",
        "Python             CPython 3.14 in this program (component ",
        "JavaScript         QuickJS-ng 0.16 in this program (component ",
        "sandbox",
        "make one with `wafer new NAME`",
    ] {
        assert!(said.contains(wanted), "{said}");
    }
}

/// Runs `wafer new` in a folder, and returns whether it succeeded, and what it said.
fn new_in(folder: &std::path::Path, arguments: &[&str]) -> (bool, String) {
    run_in(folder, &[&["new"][..], arguments].concat())
}

#[test]
fn a_project_is_made_from_a_file_without_code() {
    let folder = tempfile::tempdir().unwrap();
    let rows = "Customer Id,ordered at,Price (EUR),zip\n\
                1,2024-07-01 12:00,1.5,02134\n2,2024-07-01 13:00,,10001\n";
    std::fs::write(folder.path().join("orders.csv"), rows).unwrap();
    let (made, said) = new_in(folder.path(), &["--from", "orders.csv"]);
    assert!(
        !made && said.contains("name no time zone") && said.contains("--zone"),
        "{said}"
    );
    let arguments = ["--from", "orders.csv", "--zone", "Europe/Berlin"];
    let (made, said) = new_in(folder.path(), &arguments);
    assert!(made, "{said}");
    assert!(
        said.contains("the join key is `Customer_Id`, the event time `ordered_at`"),
        "{said}"
    );
    let orders = folder.path().join("orders");
    for arguments in [&["apply"][..], &["run", "orders"]] {
        let (done, said) = run_in(&orders, arguments);
        assert!(done, "{said}");
    }
    let (found, said) = run_in(
        &orders,
        &["get", "orders", "Customer_Id=1", "--output", "json"],
    );
    assert!(found, "{said}");
    assert!(said.contains("02134") && said.contains("1.5"), "{said}");
    let (made, said) = new_in(folder.path(), &arguments);
    assert!(!made && said.contains("orders is there already"), "{said}");
}

#[test]
fn columns_without_values_are_texts_and_no_keys_and_are_told() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content, without) in [
        (
            "in.csv",
            "user_id,item,at,note\n,7,2024-01-01T00:00:00Z,\n",
            "`user_id`, `note`",
        ),
        // Fields of JSON objects have no order.
        (
            "in.ndjson",
            "{\"user_id\":null,\"item\":7,\"at\":\"2024-01-01T00:00:00Z\",\"note\":null}\n",
            "`note`, `user_id`",
        ),
    ] {
        std::fs::write(folder.path().join(name), content).unwrap();
        let project = name.replace('.', "-");
        let (made, said) = new_in(folder.path(), &[project.as_str(), "--from", name]);
        assert!(made, "{said}");
        let untold =
            format!("no values of {without}, so that nothing tells their types, and they are utf8");
        for wanted in ["the join key is `item`", &untold] {
            assert!(said.contains(wanted), "{name}: {said}");
        }
        let toml = std::fs::read_to_string(folder.path().join(project).join("wafer.toml"));
        let toml = toml.unwrap();
        assert!(toml.contains("\"note\" = \"utf8?\""), "{toml}");
    }
}

#[test]
fn files_that_no_project_can_be_made_of_say_why() {
    let folder = tempfile::tempdir().unwrap();
    for (content, arguments, wanted) in [
        ("", &[][..], "the file has no columns: it is empty"),
        ("id,v\n1,2\n", &[][..], "the file has no column of times"),
        (
            "id,at\n1,1704067200\n",
            &["--time", "at"],
            "say with --unit in which unit it counts",
        ),
        (
            "id,at\n1,2024-01-01\n",
            &["--time", "when"],
            "--time: the file has no column `when`",
        ),
        (
            "id,at\n1,2024-01-01\n",
            &["--time", "at"],
            "--time: column `at` has dates; say with --zone",
        ),
        (
            "id,at\n1,2024-01-01T00:00:00Z\n",
            &["--key", "ip"],
            "--key: the file has no column `ip`",
        ),
        (
            "v,at\n1.5,2024-01-01T00:00:00Z\n",
            &[],
            "the file has no column that can be a join key",
        ),
        ("at\n2024-01-01T00:00:00Z\n", &[], "fewer than two columns"),
    ] {
        std::fs::write(folder.path().join("in.csv"), content).unwrap();
        let mut all = vec!["p", "--from", "in.csv"];
        all.extend(arguments);
        let (made, said) = new_in(folder.path(), &all);
        assert!(!made && said.contains(wanted), "{content}: {said}");
        assert!(!folder.path().join("p").exists());
    }
}
