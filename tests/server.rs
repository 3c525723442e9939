//! What a client of the HTTP edge sees.

use serde_json::json;

use crate::harness::Project;

const CLOUD_EVENT: &str = r#"{"specversion":"1.0","id":"1","source":"/EWR","type":"report","data":{"origin":"EWR","time_hour":"2013-01-01T06:00:00Z","temp":50}}"#;

#[test]
fn vectors_keep_the_order_of_the_request() {
    let project = Project::flights().applied();
    project.ok(&["run", "airport"]);
    let server = project.serve(&[]);
    let row = |origin: Option<&str>| {
        json!({
            "tailnum": "nobody", "origin": origin, "dest": "LAX",
            "scheduled_departure": "2013-07-01T13:00:00Z", "scheduled_arrival": "2013-07-01T19:00:00Z",
        })
    };
    let rows = server.features(
        "arrival_delay",
        &json!([
            row(Some("JFK")),
            row(Some("nowhere")),
            row(None),
            row(Some("EWR")),
            row(Some("JFK"))
        ]),
    );
    let names: Vec<_> = rows.iter().map(|r| &r["features"]["origin_name"]).collect();
    let (jfk, ewr) = (json!("John F Kennedy Intl"), json!("Newark Liberty Intl"));
    assert_eq!(names, [&jfk, &json!(null), &json!(null), &ewr, &jfk]);
    let statuses: Vec<_> = rows
        .iter()
        .map(|r| r["status"]["origin_name"].as_str().unwrap())
        .collect();
    assert_eq!(
        statuses,
        ["present", "not_found", "not_found", "present", "present"]
    );
    assert_eq!(
        rows[1]["status"]["distance_km"], "null",
        "the function ran, over what there is"
    );
    assert_eq!(rows[1]["event_timestamp"]["origin"], json!(null));
    assert_eq!(rows[0], rows[4]);
    assert!(server.features("arrival_delay", &json!([])).is_empty());
}

#[test]
fn events_are_readable_when_they_are_answered() {
    let project = Project::flights().applied();
    let server = project.serve(&["--clock", "2013-01-01T12:00:00Z,0"]);
    let request = json!([{
        "tailnum": "N1", "origin": "EWR", "dest": "LAX",
        "scheduled_departure": "2013-07-01T13:00:00Z", "scheduled_arrival": "2013-07-01T19:00:00Z",
    }]);
    let weather = || {
        let row = server.features("arrival_delay", &request).remove(0);
        (
            row["features"]["weather_temperature_c"].clone(),
            row["status"]["weather_temperature_c"].clone(),
        )
    };
    let push = |hour: &str, temp: f64| {
        let event =
            json!({"origin": "EWR", "time_hour": format!("2013-01-01T{hour}:00Z"), "temp": temp});
        assert_eq!(server.events("weather_reports", &event.to_string()).0, 200);
    };
    assert_eq!(weather(), (json!(null), json!("not_found")));
    push("06:00", 50.0);
    assert_eq!(weather(), (json!(10.0), json!("present")));
    push("05:00", 14.0);
    assert_eq!(weather().0, 10.0, "an older report changes nothing online");
    push("07:00", 59.0);
    assert_eq!(weather().0, 15.0);
    // Early, but within the allowed five minutes: kept until it is due.
    push("12:03", 68.0);
    assert_eq!(weather().0, 15.0);
    server.set_clock("2013-01-01T12:03:00Z");
    assert_eq!(weather().0, 20.0);
    // Six hours later it has expired.
    server.set_clock("2013-01-01T18:03:00Z");
    assert_eq!(weather(), (json!(20.0), json!("present")));
    server.set_clock("2013-01-01T18:03:00.000001Z");
    assert_eq!(weather(), (json!(null), json!("expired")));
    server.stop();
    let rows = project.offline_rows("airport_weather_v1");
    assert_eq!(rows.len(), 4);
    for row in rows {
        let (event, available) = (
            row["event_timestamp"].as_str().unwrap(),
            row["available_timestamp"].as_str().unwrap(),
        );
        assert_eq!(
            available,
            event.max("2013-01-01T12:00:00Z"),
            "the later of the fact and its arrival"
        );
        assert_eq!(row["created_timestamp"], "2013-01-01T12:00:00Z");
    }
}

#[test]
fn cloud_events_in_every_binding() {
    let project = Project::flights().applied();
    let server = project.serve(&[]);
    let path = "/v1/sources/weather_reports/events";
    let (status, answer) = server.post(path, "application/cloudevents+json", CLOUD_EVENT);
    assert_eq!((status, &answer["accepted"]), (200, &json!(1)), "{answer}");
    let again = format!(
        "[{CLOUD_EVENT},{}]",
        CLOUD_EVENT
            .replace("\"1\"", "\"2\"")
            .replace("06:00", "07:00")
    );
    let (_, answer) = server.post(path, "application/cloudevents-batch+json", again);
    assert_eq!(
        (&answer["duplicate"], &answer["accepted"]),
        (&json!(1), &json!(1))
    );
    let headers = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "2"),
        ("ce-source", "/EWR"),
        ("ce-type", "report"),
    ];
    let (_, answer) = server.post_with(
        path,
        &headers,
        "{\"origin\":\"EWR\",\"time_hour\":\"2013-01-01T09:00:00Z\"}",
    );
    assert_eq!(
        answer["events"],
        json!([{"status": "duplicate"}]),
        "the same event in another binding"
    );
    server.stop();
    assert_eq!(project.offline("airport_weather_v1").len(), 2);
}

#[test]
fn every_error_has_the_same_shape() {
    let project = Project::flights().applied();
    let server = project.serve(&[]);
    let json_type = "application/json";
    for ((status, answer), wanted_status, wanted_code) in [
        (server.get("/nowhere"), 404, "not_found"),
        (server.get("/v1/views/none"), 404, "not_found"),
        (
            server.get("/v1/sources/weather_reports/events"),
            405,
            "method_not_allowed",
        ),
        (
            server.post("/v1/views/none/features", json_type, "{\"rows\":[]}"),
            404,
            "not_found",
        ),
        (
            server.post("/v1/sources/none/events", json_type, "{}"),
            404,
            "not_found",
        ),
        (
            server.post("/v1/sources/airports/events", json_type, "{}"),
            400,
            "invalid",
        ),
        (
            server.post("/v1/sources/weather_reports/events", "image/png", "{}"),
            415,
            "unsupported_media_type",
        ),
        (
            server.post(
                "/v1/views/arrival_delay/features",
                json_type,
                vec![b' '; 65 << 20],
            ),
            413,
            "invalid",
        ),
        (
            server.post("/v1/clock", json_type, "{\"now\":\"2013-01-01T00:00:00Z\"}"),
            409,
            "conflict",
        ),
    ] {
        assert_eq!(
            (status, answer["error"]["code"].as_str()),
            (wanted_status, Some(wanted_code)),
            "{answer}"
        );
        assert!(!answer["error"]["message"].as_str().unwrap().is_empty());
    }
}

#[test]
fn a_clock_that_was_given_can_be_moved_on_and_not_back() {
    let project = Project::flights().applied();
    let server = project.serve(&["--clock", "2013-01-01T00:00:00Z,0"]);
    assert_eq!(server.get("/v1/clock").1["now"], "2013-01-01T00:00:00Z");
    server.set_clock("2013-01-02T00:00:00Z");
    server.set_clock("2013-01-01T12:00:00Z");
    assert_eq!(server.get("/v1/clock").1["now"], "2013-01-02T00:00:00Z");
    assert_eq!(server.get("/healthz").0, 200);
    assert_eq!(server.get("/readyz").0, 200);
    let views = server.get("/v1/views").1;
    assert_eq!(views["views"][0]["name"], "arrival_delay");
    let view = server.get("/v1/views/arrival_delay").1;
    assert_eq!(view["inputs"].as_array().unwrap().len(), 5);
    assert_eq!(view["features"].as_array().unwrap().len(), 35);
}

#[test]
fn large_integers_survive_the_round_trip() {
    let project = Project::flights().applied();
    let server = project.serve(&[]);
    let large = 9_007_199_254_740_993_i64;
    let event = json!({
        "tailnum": "N1", "carrier": "XX", "flight": large, "origin": "EWR", "dest": "IAH",
        "time_hour": "2013-01-01T10:00:00Z", "minute": 15, "dep_delay": 2, "arr_time": 830,
    });
    assert_eq!(server.events("landed_flights", &event.to_string()).0, 200);
    let request = json!([{
        "tailnum": "N1", "origin": "EWR", "dest": "IAH",
        "scheduled_departure": "2013-07-01T13:00:00Z", "scheduled_arrival": "2013-07-01T19:00:00Z",
    }]);
    let rows = server.features("arrival_delay", &request);
    assert_eq!(rows[0]["status"]["plane_flight"], "expired");
    server.stop();
    assert_eq!(
        project.offline_rows("plane_outcome_v1")[0]["flight"].as_i64(),
        Some(large)
    );
    let server = project.serve(&["--clock", "2013-01-02T00:00:00Z,0"]);
    assert_eq!(
        server.features("arrival_delay", &request)[0]["features"]["plane_flight"].as_i64(),
        Some(large)
    );
}
