//! `wafer replay`: events, requests and predictions of history, in the order of time.

use serde_json::json;

use crate::harness::pass::Pass;
use crate::harness::{Project, text};

#[test]
fn a_replay_of_two_days_serves_what_a_run_writes() {
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
        project.push_model("baseline", "line.json", model.to_string());
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
    // There is no skew: a training set has the values that were served.
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
    // A batch run over the same time makes the same rows as the replay.
    let batch = Project::flights().applied();
    batch.ok(&["run", "plane_outcome", "--to", "2013-01-04T05:00:00Z"]);
    assert_eq!(
        project.offline_digest("plane_outcome_v1"),
        batch.offline_digest("plane_outcome_v1")
    );
}

#[test]
fn replay_names_rows_that_cannot_be_replayed_and_refuses_requests_without_a_time() {
    let project = Pass {
        source: r#"
type = "stream"
path = "in.csv"
columns = { id = "int64", at = "timestamp", v = "float64?" }
"#,
        // It has no function, so that it reads the rows a second time.
        pipeline: r#"
[groups.h]
entity = "e"
event_time = "at"

[pipelines.h]
source = "s"
group = "h"
columns = { id = "id", at = "at", v = "v" }

[views.w]
request = { asked_at = "timestamp" }
lookups = [{ group = "g", as = "g" }]
"#,
        ..Pass::default()
    };
    let events = "id,at,v\n1,2024-01-01T00:00:00Z,0.5\n2,2024-01-01T00:00:00Z,x\n";
    let project = project.project().applied_with("in.csv", events);
    let server = project.serve(&["--clock", "2023-12-31T00:00:00Z,0"]);
    let requests = project.at("requests.csv");
    let replay = [
        "replay",
        "w",
        "--requests",
        &requests,
        "--time",
        "asked_at",
        "--from",
        "2024-01-01",
        "--to",
        "2024-01-02",
        "--server",
        &server.url,
    ];
    let asked = "id,asked_at\n1,2024-01-01T12:00:00Z\n";
    project.write("requests.csv", format!("{asked}1,\n"));
    let said = project.fails(&replay);
    assert!(
        said.contains("requests.csv:3: field `asked_at`: is null"),
        "{said}"
    );
    project.write("requests.csv", asked);
    let output = project.command(&replay).output().unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    for wanted in [
        "source `s`: rows that cannot be read or are refused are left out: 1; the first: ",
        "in.csv:3: field `v`: `x` is not float64",
        "events of `s`: 1 accepted, 1 already known, 0 rejected",
        "rows of `s` left out: 1\n",
        "requests: 1, 0 with anything from after their time",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
}
