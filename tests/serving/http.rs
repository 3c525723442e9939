//! The HTTP interface as a whole: the shape of errors, the clock, and the lists of views.

use crate::harness::Project;

#[test]
fn every_http_error_has_the_same_shape() {
    let project = Project::flights().applied();
    let server = project.serve(&[]);
    let json_type = "application/json";
    for ((status, answer), wanted_status, wanted_code) in [
        (server.get("/nowhere"), 404, "not_found"),
        (server.get("/v1/views/none"), 404, "not_found"),
        (server.get("/v1/groups/none"), 404, "not_found"),
        (server.get("/v1/tables/none/rows"), 404, "not_found"),
        (
            server.get("/v1/groups/airport/rows?limit=x"),
            400,
            "invalid",
        ),
        (
            server.get("/v1/views/arrival_delay/rows?where=%21"),
            400,
            "invalid",
        ),
        (server.get("/v1/views/%ff"), 400, "invalid"),
        (
            server.post("/v1/views/%ff/features", json_type, "{\"rows\":[]}"),
            400,
            "invalid",
        ),
        (
            server.post("/v1/sources/%ff/events", json_type, "{}"),
            400,
            "invalid",
        ),
        (
            server.post("/v1/views/none/training-set?sed=1", "text/csv", "a\n1\n"),
            400,
            "invalid",
        ),
        (
            server.post("/v1/views/none/training-set?seed=x", "text/csv", "a\n1\n"),
            400,
            "invalid",
        ),
        // A parameter that would do nothing is refused, before the view is looked for.
        (
            server.post("/v1/views/none/training-set?seed=1", "text/csv", "a\n1\n"),
            400,
            "invalid",
        ),
        (
            server.post(
                "/v1/views/none/training-set?split_by=time",
                "text/csv",
                "a\n1\n",
            ),
            400,
            "invalid",
        ),
        (
            server.post("/v1/views/none/training-set", "image/png", "a\n1\n"),
            415,
            "unsupported_media_type",
        ),
        (
            server.post_with(
                "/v1/sources/weather_reports/events",
                &[("content-type", json_type), ("content-encoding", "br")],
                "{}",
            ),
            415,
            "unsupported_media_type",
        ),
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
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(!message.is_empty() && !message.contains("  "), "{message}");
    }
}

#[test]
fn the_clock_of_a_server_can_be_set_forward_but_not_back() {
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
