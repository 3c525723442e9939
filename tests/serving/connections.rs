//! Connections that are slow, too many, or still open when the server is stopped.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::harness::misbehaving::{project, request};
use crate::harness::{Project, read_answer, wait_for};

/// Makes a project whose server has some settings, and applies it.
fn with_settings(settings: &str) -> Project {
    let project = project("well", "");
    project.replace(
        "[entities.thing]",
        &format!("[server]\n{settings}\n[entities.thing]"),
    );
    project.applied()
}

/// The head of a request whose body has 100 bytes.
const HEAD: &str = "POST /v1/views/thing/features HTTP/1.1\r\nhost: localhost\r\n\
    content-type: application/json\r\ncontent-length: 100\r\n\r\n";

#[test]
fn slow_headers_and_idle_connections_are_closed() {
    let project = with_settings("header_timeout = \"1s\"");
    let server = project.serve(&[]);
    for start in [
        "",
        "GET /heal",
        "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ] {
        let mut stream = server.connect();
        stream.write_all(start.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // This ends when the server closes the connection.
        let ended = stream.read_to_end(&mut answer);
        let is_reset = |e: &std::io::Error| e.kind() == ErrorKind::ConnectionReset;
        assert!(
            ended.as_ref().is_ok() || ended.as_ref().is_err_and(is_reset),
            "{ended:?}"
        );
        assert_eq!(
            answer.starts_with(b"HTTP/1.1 200"),
            start.ends_with("\r\n\r\n")
        );
    }
}

#[test]
fn slow_bodies_are_answered_and_fast_ones_are_not_held_up() {
    let project = with_settings("body_timeout = \"1s\"");
    let server = project.serve(&[]);
    let mut slow = server.connect();
    slow.write_all(HEAD.as_bytes()).unwrap();
    slow.write_all(b"{\"rows\"").unwrap();
    assert_eq!(request(&server, 3).0, 200);
    slow.shutdown(Shutdown::Write).ok();
    let mut stalled = server.connect();
    stalled
        .write_all(
            HEAD.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n")
                .as_bytes(),
        )
        .unwrap();
    stalled.write_all(b"{\"rows\"").unwrap();
    let (status, answer) = read_answer(&mut stalled);
    assert_eq!(status, 408, "{answer}");
    assert_eq!(answer["error"]["code"], "too_slow");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("server.body_timeout"), "{message}");
}

#[test]
fn clients_that_do_not_read_their_answers_are_cut_off() {
    let project = with_settings("write_timeout = \"1s\"");
    let server = project.serve(&[]);
    let rows: Vec<_> = (0..10_000)
        .map(|id| json!({"id": id, "at": "2013-01-01T00:00:00Z", "x": 0.5}))
        .collect();
    let body = json!({ "rows": rows }).to_string();
    let head = HEAD.replace(
        "content-length: 100",
        &format!("content-length: {}", body.len()),
    );
    let mut stream = server.connect();
    stream
        .set_write_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    // Answers pile up, as none of them is read, until the server writes no more.
    let request = [head.as_bytes(), body.as_bytes()].concat();
    let mut left: &[u8] = &[];
    wait_for("the end of the connection", || {
        if left.is_empty() {
            left = &request;
        }
        match stream.write(left) {
            Ok(written) => {
                left = &left[written..];
                false
            }
            Err(error) => matches!(
                error.kind(),
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
            ),
        }
    });
    assert_eq!(server.get("/healthz").0, 200);
}

#[test]
fn connections_beyond_the_limit_are_told_so() {
    let project = with_settings("connections = 2");
    let server = project.serve(&[]);
    let health = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let mut open: Vec<_> = (0..2).map(|_| server.connect()).collect();
    let (status, answer) = server.raw(health);
    assert_eq!(status, 503, "{answer}");
    assert_eq!(answer["error"]["code"], "unavailable");
    open.pop();
    wait_for("a free place", || server.raw(health).0 == 200);
}

#[test]
fn many_connections_are_told_at_once_that_there_are_too_many() {
    let project = with_settings("connections = 1");
    let server = project.serve(&[]);
    let open = server.connect();
    // None of them reads before all of them have asked, and each has a body that is not read.
    let request = [HEAD.as_bytes(), &[b' '; 100]].concat();
    let mut refused: Vec<_> = (0..200).map(|_| server.connect()).collect();
    for stream in &mut refused {
        stream.write_all(&request).unwrap();
    }
    for stream in &mut refused {
        let (status, answer) = read_answer(stream);
        assert_eq!(status, 503, "{answer}");
        assert_eq!(answer["error"]["code"], "unavailable");
    }
    drop((refused, open));
    wait_for("a free place", || {
        let health = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        server.raw(health).0 == 200
    });
}

#[test]
fn requests_that_never_get_to_a_route_are_answered() {
    let project = with_settings("header_timeout = \"1s\"");
    let server = project.serve(&[]);
    let http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let (status, answer) = server.raw(http2);
    assert_eq!(status, 505, "{answer}");
    assert_eq!(answer["error"]["code"], "unsupported_version");
    let (status, answer) = server.raw(b"GET /healthz HTTP/1.1\r\nhost: loc");
    assert_eq!(status, 408, "{answer}");
    assert_eq!(answer["error"]["code"], "too_slow");
    let mut cut = server.connect();
    cut.write_all(b"GET /healthz HTTP/1.1\r\nhost: loc")
        .unwrap();
    cut.shutdown(Shutdown::Write).unwrap();
    let (status, answer) = read_answer(&mut cut);
    assert_eq!(status, 400, "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("ended within its headers"), "{message}");
    assert_eq!(server.raw(b"no request\r\n\r\n"), (400, Json::from("")));
    // Nobody asked anything.
    let mut idle = server.connect();
    let mut answer = Vec::new();
    idle.read_to_end(&mut answer).unwrap();
    assert!(answer.is_empty());
}

#[test]
fn headers_have_exactly_the_limits_that_are_documented() {
    const LIMIT: usize = 64 << 10;
    let project = project("well", "").applied();
    let server = project.serve(&[]);
    let start = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";
    let filled = |bytes: usize| {
        let filler = bytes - start.len() - "x: \r\n\r\n".len();
        format!("{start}x: {}\r\n\r\n", "y".repeat(filler))
    };
    let long_target = |bytes: usize| {
        let filler = bytes - start.len() - "?\r\n".len();
        start.replace(" HTTP", &format!("?{} HTTP", "y".repeat(filler))) + "\r\n"
    };
    let counted = |headers: usize| {
        let more: String = (2..headers).map(|n| format!("x{n}: y\r\n")).collect();
        format!("{start}{more}\r\n")
    };
    assert_eq!(
        (filled(LIMIT).len(), long_target(LIMIT).len()),
        (LIMIT, LIMIT)
    );
    for (name, request, wanted) in [
        ("headers", filled(LIMIT), 200),
        ("headers", filled(LIMIT + 1), 431),
        ("headers", filled(LIMIT + 5_000), 431),
        ("headers", filled(2 * LIMIT - 1), 431),
        ("headers", filled(4 * LIMIT), 431),
        ("a target", long_target(LIMIT), 200),
        ("a target", long_target(LIMIT + 1), 431),
        ("a number of headers", counted(100), 200),
        ("a number of headers", counted(101), 431),
    ] {
        let (status, answer) = server.raw(request.as_bytes());
        assert_eq!(status, wanted, "{name}, {} bytes: {answer}", request.len());
        assert!(status == 200 || answer == "", "{name}: {answer}");
    }
    // What is refused before its end is answered as well.
    let mut begun = server.connect();
    begun
        .write_all(&filled(LIMIT + 1_000).as_bytes()[..LIMIT + 1])
        .unwrap();
    assert_eq!(read_answer(&mut begun).0, 431);
}

#[test]
fn requests_wait_for_a_place_and_are_refused_when_that_takes_too_long() {
    let project = project("spin-in-call", "request_time = \"500ms\"");
    project.replace(
        "[entities.thing]",
        "[server]\nrequests = 1\nqueue_timeout = \"0s\"\n[entities.thing]",
    );
    let project = project.applied();
    let server = project.serve(&[]);
    let answers: Vec<_> = std::thread::scope(|scope| {
        let ask = || scope.spawn(|| request(&server, 1));
        let asked: Vec<_> = (0..8).map(|_| ask()).collect();
        asked
            .into_iter()
            .map(|answer| answer.join().unwrap())
            .collect()
    });
    let refused = answers.iter().filter(|(status, _)| *status == 503);
    let refused: Vec<_> = refused.collect();
    assert!(
        !refused.is_empty() && refused.len() < answers.len(),
        "{answers:?}"
    );
    for (_, answer) in refused {
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains("server.requests"), "{message}");
    }
    // Those that were worked on ran out of their own time.
    for (status, answer) in answers.iter().filter(|(status, _)| *status != 503) {
        assert_eq!(*status, 500);
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains("ran longer than 500ms"), "{message}");
    }
}

#[test]
fn clients_that_close_their_side_after_the_request_are_answered() {
    let project = project("well", "").applied();
    let server = project.serve(&[]);
    let ask = |version: &str, path: &str, media_type: &str, body: &str| {
        let head = format!(
            "POST {path} HTTP/{version}\r\nhost: localhost\r\ncontent-type: {media_type}\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = server.connect();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        read_answer(&mut stream)
    };
    let row = json!({"id": 1, "at": "2013-01-01T00:00:00Z", "x": 0.5});
    // A long answer of HTTP/1.1 is in chunks.
    for (version, count) in [("1.1", 1), ("1.0", 1), ("1.0", 10_000)] {
        let body = json!({ "rows": vec![&row; count] }).to_string();
        let path = "/v1/views/thing/features";
        let (status, answer) = ask(version, path, "application/json", &body);
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["rows"].as_array().unwrap().len(), count);
    }
    let (path, event) = ("/v1/sources/things/events", row.to_string());
    let (status, answer) = ask("1.1", path, "application/x-ndjson", &event);
    assert_eq!((status, &answer["accepted"]), (200, &json!(1)), "{answer}");
    let health = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut stream = server.connect();
    stream.write_all(health.repeat(2).as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
    // Making a training set takes long, and would be for nobody if the client had left.
    let labels = "id,at,x\n1,2013-01-01T00:00:00Z,0.5\n";
    let path = "/v1/views/last/training-set?time=at";
    let (status, answer) = ask("1.1", path, "text/csv", labels);
    assert_eq!(status, 400, "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("keep the connection open"), "{message}");
    // Its request is not whole.
    let mut stream = server.connect();
    stream.write_all(HEAD.as_bytes()).unwrap();
    stream.write_all(b"{\"rows\"").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let (status, answer) = read_answer(&mut stream);
    assert_eq!(status, 400, "{answer}");
}

#[test]
fn a_stopped_server_waits_for_requests_only_for_a_while() {
    let project = with_settings("drain_timeout = \"1s\"");
    let server = project.serve(&[]);
    let mut slow = server.connect();
    slow.write_all(HEAD.as_bytes()).unwrap();
    let _idle = server.connect();
    assert_eq!(request(&server, 1).0, 200);
    server.stop();
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest);
    assert!(rest.is_empty());
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    let project = with_settings("drain_timeout = \"1d\"\nbody_timeout = \"1d\"");
    let mut server = project.serve(&[]);
    let mut slow = server.connect();
    slow.write_all(HEAD.as_bytes()).unwrap();
    assert_eq!(request(&server, 1).0, 200);
    let mut code = None;
    wait_for("the end of the server", || {
        server.terminate();
        code = server.exit_code();
        code.is_some()
    });
    assert_eq!(code, Some(128 + 15));
}
