//! The flights project, from its files to feature vectors.

use serde_json::json;

use crate::harness::Project;

#[test]
fn all_pipelines_run_on_the_real_data() {
    let project = Project::flights().applied();
    let run = |pipeline| project.json(&["run", pipeline]);

    let record = run("plane_outcome");
    assert_eq!(record["rows_read"], 336_776);
    assert_eq!(record["rows_written"], 328_063, "every flight that arrived");
    assert_eq!(
        (&record["rows_rejected"], &record["state"]),
        (&json!(0), &json!("succeeded"))
    );
    assert_eq!(run("airport_weather")["rows_written"], 26_115);
    assert_eq!(run("airport")["rows_written"], 1_458);

    let at = "2013-07-01T13:00:00Z,0";
    let vector = project.json(&[
        "get",
        "arrival_delay",
        "--clock",
        at,
        "tailnum=N14228",
        "origin=JFK",
        "dest=LAX",
        "scheduled_departure=2013-07-01T13:00:00Z",
        "scheduled_arrival=2013-07-01T19:00:00Z",
    ]);
    assert_eq!(vector["features"]["local_hour"], 9);
    assert_eq!(vector["features"]["origin_name"], "John F Kennedy Intl");
    assert_eq!(vector["status"]["distance_km"], "present");
    // The newest row is of December: from July it is in the future, and a
    // batch run over all time is no way to live through history.
    assert_eq!(vector["event_timestamp"]["origin"], "2013-01-01T00:00:00Z");
}

#[test]
fn known_flights_come_out_right() {
    let project = Project::flights().applied();
    project.ok(&[
        "run",
        "plane_outcome",
        "--from",
        "2013-01-01",
        "--to",
        "2013-01-02",
    ]);
    let rows = project.offline_rows("plane_outcome_v1");
    // UA 1545 of 1 January, Newark to Houston: off the gate at 5:17 Eastern,
    // at the gate at 8:30 Central, 11 minutes late.
    let flight = rows.iter().find(|r| r["tailnum"] == "N14228").unwrap();
    assert_eq!(flight["event_timestamp"], "2013-01-01T14:30:00Z");
    assert_eq!(flight["departed_at"], "2013-01-01T10:17:00Z");
    assert_eq!(
        (&flight["arr_delay_minutes"], &flight["recovered_minutes"]),
        (&json!(11), &json!(-9))
    );
    assert_eq!(
        flight["available_timestamp"], flight["event_timestamp"],
        "the source has no delay"
    );
    assert!(
        rows.iter()
            .all(|r| r["event_timestamp"].as_str().unwrap() < "2013-01-02")
    );
}

#[test]
fn the_same_run_again_is_no_run() {
    let project = Project::flights().applied();
    let first = project.json(&["run", "airport"]);
    let table = project.offline_rows("airport_v1");
    assert!(project.ok(&["run", "airport"]).contains("nothing to do"));
    assert_eq!(project.json(&["run", "airport"])["id"], first["id"]);
    assert_eq!(project.offline_rows("airport_v1").len(), table.len());
    assert_eq!(project.json(&["runs"]).as_array().unwrap().len(), 1);

    // Other inputs replace what the interval had.
    project.replace(
        "valid_from_seconds = 1356998400",
        "valid_from_seconds = 1356998401",
    );
    project.ok(&["apply"]);
    let second = project.json(&["run", "airport"]);
    assert_eq!(second["generation"], 2);
    let rows = project.offline_rows("airport_v1");
    assert_eq!(rows.len(), table.len());
    assert!(
        rows.iter()
            .all(|r| r["event_timestamp"] == "2013-01-01T00:00:01Z")
    );
    assert_eq!(
        project.json(&["runs", "airport"]).as_array().unwrap().len(),
        2
    );
}

#[test]
fn intervals_may_touch_but_not_overlap() {
    let project = Project::flights().applied();
    let run = |from, to| ["run", "airport_weather", "--from", from, "--to", to];
    project.ok(&run("2013-01-01", "2013-01-02"));
    project.ok(&run("2013-01-02", "2013-01-03"));
    let said = project.fails(&run("2013-01-02T12:00:00Z", "2013-01-04"));
    assert!(
        said.contains("overlaps") && said.contains("2013-01-02"),
        "{said}"
    );
    let whole = Project::flights().applied();
    whole.ok(&[
        "run",
        "airport_weather",
        "--from",
        "2013-01-01",
        "--to",
        "2013-01-03",
    ]);
    assert_eq!(
        project.offline("airport_weather_v1"),
        whole.offline("airport_weather_v1")
    );
}

#[test]
fn two_days_are_lived_through() {
    let project = Project::flights().applied();
    let start = "2013-01-02T05:00:00Z";
    let clock = format!("{start},0");
    project.ok(&["run", "airport", "--clock", &clock]);
    for pipeline in [
        "plane_outcome",
        "route_delays",
        "carrier_delays",
        "origin_delays",
        "plane_delays",
        "airport_weather",
    ] {
        project.ok(&["run", pipeline, "--to", start, "--clock", &clock]);
    }
    let of = |route: f64, plane: f64| {
        json!({
            "intercept": 5,
            "coefficients": {"route_arr_delay_minutes_mean_7d": route, "plane_dep_delay_minutes": plane,
                "weather_wind_speed_ms": 0.1, "distance_km": 0.001},
            "missing": {"route_arr_delay_minutes_mean_7d": 0, "plane_dep_delay_minutes": 0,
                "weather_wind_speed_ms": 0, "distance_km": 0},
        })
    };
    for (name, model) in [("r1", of(0.7, 0.5)), ("r2", of(1.0 / 3.0, 0.1))] {
        let file = project.write("line.json", model.to_string());
        let file = file.display().to_string();
        project.ok(&["models", "push", "baseline", "--artifact", &file]);
        project.ok(&["release", "create", name, "--model", "baseline"]);
    }
    project.ok(&[
        "endpoints",
        "set",
        "delay",
        "r1=60",
        "r2=40",
        "--key",
        "tailnum",
        "--log",
        "100",
    ]);
    let server = project.serve(&["--clock", &clock]);
    let requests = project.path().join("data/departures.csv");
    let replay = [
        "replay",
        "arrival_delay",
        "--requests",
        requests.to_str().unwrap(),
        "--time",
        "scheduled_departure",
        "--from",
        start,
        "--to",
        "2013-01-04T05:00:00Z",
        "--endpoint",
        "delay",
        "--server",
        &server.url,
    ];
    let summary = project.json(&replay);
    let predictions = &summary["predictions"];
    let predicted = ["r1", "r2"].map(|release| predictions[release].as_u64().unwrap());
    assert_eq!(
        predicted[0] + predicted[1],
        summary["requests"].as_u64().unwrap()
    );
    assert!(predicted.iter().all(|rows| *rows > 500), "{predictions}");
    assert_eq!(summary["from_the_future"], 0);
    assert_eq!(summary["events"]["weather_reports"]["accepted"], 144);
    assert_eq!(summary["events"]["landed_flights"]["rejected"], 0);
    let requests = summary["requests"].as_u64().unwrap();
    assert!(requests > 1_800, "{requests}");
    let status =
        |feature: &str, status: &str| summary["status"][feature][status].as_u64().unwrap_or(0);
    assert_eq!(status("weather_temperature_c", "present"), requests);
    assert!(status("plane_dep_delay_minutes", "present") > requests / 2);
    assert_eq!(status("local_hour", "present"), requests);
    server.stop();
    // Neither is there any skew: what was served is what a training set has.
    let skew = project.json(&["skew", "delay"]);
    assert_eq!(
        (&skew["rows"], &skew["mismatches"]),
        (&summary["requests"], &json!(0)),
        "{skew}"
    );
    for release in skew["releases"].as_array().unwrap() {
        for value in release["values"].as_array().unwrap() {
            assert_eq!(value["timing"], 0, "{value}");
        }
    }
    // What was lived through is what a batch run makes of the same time.
    let batch = Project::flights().applied();
    batch.ok(&["run", "plane_outcome", "--to", "2013-01-04T05:00:00Z"]);
    assert_eq!(
        project.offline_digest("plane_outcome_v1"),
        batch.offline_digest("plane_outcome_v1")
    );
}

/// The whole way on the real data: labels, trees that are trained in the sandbox, and how much
/// better they are than what is simple.
#[test]
fn late_arrivals_are_learned() {
    let project = Project::flights().applied();
    for pipeline in [
        "airport",
        "airport_weather",
        "plane_outcome",
        "route_delays",
        "carrier_delays",
        "origin_delays",
        "plane_delays",
        "scheduled_flight",
    ] {
        project.ok(&["run", pipeline]);
    }
    let labels = project.at("labels.parquet");
    let columns =
        "tailnum,carrier,flight,origin,dest,scheduled_departure,scheduled_arrival,arrived_late";
    project.ok(&[
        "export",
        "scheduled_flight_v1",
        "--out",
        &labels,
        "--columns",
        columns,
    ]);
    let trained = project.json(&[
        "train",
        "late_arrival",
        "--labels",
        &labels,
        "--set",
        "trees=40",
    ]);
    let version = &trained["version"];
    let metric =
        |version: &serde_json::Value, name: &str| version["metrics"][name].as_f64().unwrap();
    let auc = metric(version, "test_auc");
    assert!(auc > 0.70, "{auc}");
    let set = version["training_set"].as_str().unwrap();
    let baseline = |factor: f64| {
        let route = "route_arr_delay_minutes_mean_30d";
        let model = json!({"intercept": -1.5, "coefficients": {route: factor}, "missing": {route: 0}, "link": "logistic"});
        let file = project.write("line.json", model.to_string());
        let file = file.display().to_string();
        let version = project.json(&[
            "models",
            "push",
            "baseline",
            "--artifact",
            &file,
            "--training-set",
            set,
        ]);
        metric(&version, "test_auc")
    };
    let (constant, route) = (baseline(0.0), baseline(0.05));
    assert_eq!(constant, 0.5);
    assert!(constant < route && route + 0.05 < auc, "{route} {auc}");
}

#[test]
fn plans_say_what_would_change() {
    let project = Project::flights();
    let plan = project.json(&["plan"]);
    assert_eq!(plan["changes"].as_array().unwrap().len(), 29);
    assert!(
        project.json(&["functions"]).as_object().unwrap().is_empty(),
        "a plan makes nothing live"
    );
    project.ok(&["apply"]);
    assert!(project.ok(&["plan"]).contains("nothing would change"));

    project.replace("ttl = \"6h\"", "ttl = \"7h\"");
    project.replace("[sources.airports]", "[sources.fields]");
    project.replace("source = \"airports\"", "source = \"fields\"");
    let changes = project.ok(&["plan"]);
    for line in [
        "~ group airport_weather  (ttl)",
        "+ source fields",
        "- source airports",
        "~ pipeline airport  (source)",
    ] {
        assert!(changes.contains(line), "{changes}");
    }

    // Columns of a version never change.
    project.replace(
        "event_time = \"arrived_at\"",
        "event_time = \"departed_at\"",
    );
    let said = project.fails(&["plan"]);
    assert!(
        said.contains("groups.plane_outcome: its columns changed") && said.contains("version = 2"),
        "{said}"
    );
    project.replace(
        "event_time = \"departed_at\"",
        "event_time = \"departed_at\"\nversion = 2",
    );
    assert!(project.ok(&["apply"]).contains("~ group plane_outcome"));
}

#[test]
fn functions_are_listed_with_their_documentation() {
    let project = Project::flights().applied();
    let functions = project.ok(&["functions"]);
    assert!(functions.contains("Distance, course, local time and scheduled speed of a departure."));
    assert!(functions.contains("Great-circle distance from origin to destination, km."));
    let json = project.json(&["functions", "flight_outcome"]);
    assert_eq!(
        json["flight_outcome"]["registered"]["signature"]["mapping"],
        "one_to_many"
    );
    assert!(
        project
            .fails(&["functions", "nothing"])
            .contains("there is no function `nothing`")
    );
}

#[test]
fn the_repository_s_functions_pass_their_check() {
    let project = Project::flights();
    let checked = project.json(&["check"]);
    let names: Vec<_> = checked
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["function"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "airport_profile",
            "departure_features",
            "flight_outcome",
            "hourly_weather",
            "scheduled_flight"
        ]
    );
    assert!(
        !project.path().join(".wafer").exists(),
        "a check writes nothing"
    );
}

/// What a failed run left of an earlier one is not forgotten: another interval
/// over the same rows would double them.
#[test]
fn a_failed_repetition_still_guards_its_interval() {
    let project = Project::flights();
    let good = "faa,name,lat,lon,alt,tz,dst\nJFK,Kennedy,40.6,-73.8,13,-5,A\n";
    project.write("airports.csv", good);
    project.replace("data/airports.parquet", "airports.csv");
    project.ok(&["apply"]);
    project.ok(&["run", "airport"]);
    project.write("airports.csv", "faa\nJFK\n");
    project.fails(&["run", "airport"]);
    project.write("airports.csv", good.replace("Kennedy", "John F. Kennedy"));
    let said = project.fails(&[
        "run",
        "airport",
        "--from",
        "2013-01-01",
        "--to",
        "2013-02-01",
    ]);
    assert!(said.contains("overlaps"), "{said}");
    let record = project.json(&["run", "airport"]);
    assert_eq!(
        (&record["generation"], &record["error"]),
        (&json!(3), &json!(null))
    );
    assert_eq!(project.offline("airport_v1").len(), 1);
}
