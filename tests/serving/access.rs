//! Who may ask a server: pages of other sites may not, and only the same machine moves the clock.

use serde_json::json;

use crate::harness::ledger::{event, ledger};

const EVENTS: &str = "/v1/sources/entries/events";

#[test]
fn requests_of_other_sites_are_refused_on_every_route() {
    let project = ledger("").applied();
    project.replace(
        "[entities.account]",
        "[server]\nhosts = [\"wafer.example\"]\n\n[entities.account]",
    );
    let server = project.serve(&["--host", "other.example"]);
    let body = event("a", 1);
    let own = server.url.trim_start_matches("http://").to_owned();
    let post = |path: &str, host: &str, origin: &str| {
        let origin = match origin {
            "" => String::new(),
            origin => format!("origin: {origin}\r\n"),
        };
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: {host}\r\n{origin}content-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        server.raw(request.as_bytes())
    };
    for (host, origin, wanted) in [
        (own.as_str(), "", 200),
        ("localhost", "", 200),
        ("wafer.example", "", 200),
        ("other.example:80", "", 200),
        (&own, &server.url, 200),
        (&own, "https://wafer.example", 200),
        ("evil.example", "", 403),
        (&own, "http://evil.example", 403),
        (&own, "null", 403),
        (&own, "http://localhost:1", 403),
    ] {
        let (status, answer) = post(EVENTS, host, origin);
        assert_eq!(status, wanted, "{host} {origin}: {answer}");
        if wanted == 403 {
            assert_eq!(answer["error"]["code"], "forbidden");
            let message = answer["error"]["message"].as_str().unwrap();
            assert!(
                message.contains("server") && message.contains("--host"),
                "{message}"
            );
        }
    }
    for path in [
        "/v1/views/account/features",
        "/v1/views/account/training-set",
        "/v1/clock",
        "/get-online-features",
        "/write-to-online-store",
        "/push",
        "/v2/models/none/infer",
    ] {
        assert_eq!(post(path, "evil.example", "").0, 403, "{path}");
        assert_eq!(post(path, &own, "http://evil.example").0, 403, "{path}");
    }
    for path in ["/metrics", "/v1/views", "/v1/clock", "/v2"] {
        let head = "host: evil.example\r\nconnection: close";
        let request = format!("GET {path} HTTP/1.1\r\n{head}\r\n\r\n");
        assert_eq!(server.raw(request.as_bytes()).0, 403, "{path}");
    }
    // Whoever watches over the server may know it by any name.
    for path in ["/health", "/healthz", "/readyz"] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: pod-7\r\nconnection: close\r\n\r\n");
        assert_eq!(server.raw(request.as_bytes()).0, 200, "{path}");
    }
}

#[test]
fn requests_name_one_host_and_mean_it() {
    let project = ledger("").applied();
    let server = project.serve(&[]);
    for (line, hosts, wanted) in [
        ("GET /v1/views HTTP/1.1", &["localhost"][..], 200),
        ("GET /v1/views HTTP/1.1", &[], 400),
        ("GET /v1/views HTTP/1.1", &["localhost", "localhost"], 400),
        ("GET /v1/views HTTP/1.1", &[""], 400),
        ("GET /v1/views HTTP/1.0", &[], 200),
        ("GET /v1/views HTTP/1.0", &["localhost", "localhost"], 400),
        ("GET /healthz HTTP/1.1", &["pod-7"], 200),
        ("GET /healthz HTTP/1.1", &[], 400),
        ("GET /healthz HTTP/1.1", &["pod-7", "pod-7"], 400),
        ("GET /nowhere HTTP/1.1", &[], 400),
        ("GET /v2 HTTP/1.1", &[], 400),
        (
            "GET http://localhost/v1/views HTTP/1.1",
            &["localhost"],
            200,
        ),
        ("GET http://localhost/v1/views HTTP/1.1", &[], 400),
        (
            "GET http://evil.example/v1/views HTTP/1.1",
            &["localhost"],
            403,
        ),
        (
            "GET http://localhost/v1/views HTTP/1.1",
            &["evil.example"],
            403,
        ),
        (
            "GET http://user@localhost/v1/views HTTP/1.1",
            &["localhost"],
            400,
        ),
    ] {
        let hosts: String = hosts
            .iter()
            .map(|host| format!("host: {host}\r\n"))
            .collect();
        let request = format!("{line}\r\n{hosts}connection: close\r\n\r\n");
        let (status, answer) = server.raw(request.as_bytes());
        assert_eq!(status, wanted, "{request}: {answer}");
        if status == 400 {
            let is_text = answer["error"].is_string();
            assert_eq!(is_text, line.contains("/v2"), "{request}: {answer}");
        }
    }
}

#[test]
fn writes_need_a_content_type_that_no_form_has() {
    let project = ledger("").applied();
    let server = project.serve(&["--clock", "2020-01-03T00:00:00Z,0"]);
    let frame = json!({"key_a": ["a"], "key_b": [1], "event_timestamp": ["2020-01-01T00:00:00Z"]});
    let write = json!({"feature_view_name": "last_entry", "df": frame}).to_string();
    let push = json!({"push_source_name": "entries", "df": frame}).to_string();
    let clock = json!({"now": "2020-01-03T00:00:01Z"}).to_string();
    let labels = "key_a,key_b,event_timestamp\na,1,2020-01-02T00:00:00Z\n".to_owned();
    for (path, body) in [
        (EVENTS, &event("a", 1)),
        ("/write-to-online-store", &write),
        ("/push", &push),
        ("/v1/clock", &clock),
        ("/v1/views/account/training-set", &labels),
    ] {
        for media_type in [
            "text/plain",
            "text/plain;charset=application/json",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "",
        ] {
            let (status, answer) = server.post(path, media_type, body);
            assert_eq!(status, 415, "{path} {media_type}: {answer}");
            assert_eq!(answer["error"]["code"], "unsupported_media_type");
        }
    }
    assert_eq!(server.get("/v1/clock").1["now"], "2020-01-03T00:00:00Z");
    let vector = server.features("account", &json!([{"key_a": "a", "key_b": 1}]));
    assert_eq!(vector[0]["status"]["last_small"], "not_found", "{vector:?}");
    assert_eq!(
        server.post(EVENTS, "application/json", event("a", 1)).0,
        200
    );
    assert_eq!(server.post("/v1/clock", "application/json", &clock).0, 200);
}

#[test]
fn the_clock_is_not_set_to_what_could_not_be_undone() {
    let project = ledger("").applied();
    let server = project.serve(&["--clock", "2020-01-03T00:00:00Z,0"]);
    for now in ["9999-12-31T23:59:59Z", "2262-01-01T00:00:00Z"] {
        let body = json!({ "now": now }).to_string();
        let (status, answer) = server.post("/v1/clock", "application/json", body);
        assert_eq!(status, 400, "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains("at most a day ahead"), "{message}");
    }
    assert_eq!(server.get("/v1/clock").1["now"], "2020-01-03T00:00:00Z");
}

#[test]
fn a_server_warns_when_other_machines_can_reach_it() {
    let project = ledger("").applied();
    let warning = "warning: other machines can reach this server";
    let open = project.serve_at("0.0.0.0:0", &[]);
    assert!(open.greeting.contains(warning), "{}", open.greeting);
    let closed = project.serve(&[]);
    assert!(!closed.greeting.contains("warning"), "{}", closed.greeting);
}
