//! Feature vectors of a request.

use serde_json::json;

use crate::harness::Project;
use crate::harness::pass::Pass;

#[test]
fn feature_vectors_keep_the_order_of_the_request() {
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
fn large_integers_survive_events_and_feature_requests() {
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

#[test]
fn values_of_get_that_are_not_kept_exactly_are_refused() {
    let project = Pass {
        pipeline: r#"
[views.w]
request = { x = "float64" }
lookups = [{ group = "g", as = "g" }]
"#,
        ..Pass::default()
    };
    let rows = "id,at,v\n1,2024-01-01T00:00:00Z,1.5\n";
    let project = project.project().applied_with("in.csv", rows);
    project.ok(&["run", "g"]);
    for id in ["id=1", "id=1.0", "id=10e-1"] {
        assert_eq!(
            project.json(&["get", "v", id])["features"]["g_v"],
            1.5,
            "{id}"
        );
    }
    for (arguments, wanted) in [
        (
            &["v", "id=1.0000000000000000001"][..],
            "`id` has the number 1.0000000000000000001, which is not kept exactly",
        ),
        (
            &["v", "id=0.99999999999999999999"],
            "`id` has the number 0.99999999999999999999, which is not kept exactly",
        ),
        (
            &["w", "id=1", "x=9007199254740993.0"],
            "`x` has the number 9007199254740993.0, which is not kept exactly",
        ),
        (
            &["w", "id=1", "x=1e-400"],
            "`x` has the number 1e-400, which is not kept exactly",
        ),
        (&["v", "id=2", "id=1"], "`id` is given twice"),
    ] {
        let said = project.fails(&[&["get"][..], arguments].concat());
        assert!(said.contains(wanted), "{arguments:?}: {said}");
    }
}

#[test]
fn incomplete_feature_requests_are_refused_with_row_and_field() {
    let project = Project::flights().applied();
    let server = project.serve(&[]);
    let post =
        |body: String| server.post("/v1/views/arrival_delay/features", "application/json", body);
    let good = json!({
        "tailnum": "N1", "origin": "JFK", "dest": "LAX",
        "scheduled_departure": "2013-07-01T13:00:00Z", "scheduled_arrival": "2013-07-01T19:00:00Z",
    });
    assert_eq!(post(json!({ "rows": [good] }).to_string()).0, 200);
    let with = |name: &str, value: serde_json::Value| {
        let mut row = good.clone();
        row[name] = value;
        json!({ "rows": [good, row] }).to_string()
    };
    let mut lacking = good.clone();
    let value = lacking
        .as_object_mut()
        .unwrap()
        .remove("scheduled_arrival")
        .unwrap();
    let mut misspelt = lacking.clone();
    misspelt["scheduled_arival"] = value;
    for (body, wanted) in [
        (
            json!({ "rows": [good, lacking] }).to_string(),
            "row 1: field `scheduled_arrival` (timestamp): is missing",
        ),
        (
            json!({ "rows": [misspelt] }).to_string(),
            "is `scheduled_arival` meant?",
        ),
        (
            with("scheduled_arrival", json!("soon")),
            "row 1: field `scheduled_arrival` (timestamp): `soon` is not a time",
        ),
        (
            with("scheduled_arrival", json!(null)),
            "is null, and a function needs it",
        ),
        (
            with("tailnum", json!(7)),
            "row 1: field `tailnum` (utf8): 7 is not utf8",
        ),
        (
            json!({ "rows": [1] }).to_string(),
            "row 0 is not a JSON object",
        ),
        (json!({ "row": [] }).to_string(), "unknown field `row`"),
        ("{".to_owned(), "the body is not {\"rows\":[…]}"),
        (
            json!({ "rows": vec![1; 10_001] }).to_string(),
            "a request has at most 10000",
        ),
    ] {
        let (status, answer) = post(body);
        let message = answer["error"]["message"].as_str().unwrap();
        assert_eq!(status, 400);
        assert!(message.contains(wanted), "{message}\n  wanted: {wanted}");
    }
}
