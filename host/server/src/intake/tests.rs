use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, get, post};
use tower_service::Service as _;

use super::*;
use crate::connections::tests::connected;

fn intake(memory: u64, queue_timeout: Duration) -> Arc<Intake> {
    let options = ServerOptions {
        limits: ServerLimits {
            memory,
            queue_timeout,
            ..ServerLimits::default()
        },
        hosts: Hosts::Any,
    };
    Intake::new(options, WaitsFor::Store)
}

/// Returns a router whose only route, `/`, is worked on by an intake.
fn working(intake: &Arc<Intake>, route: MethodRouter) -> Router {
    let layer = from_fn_with_state(Arc::clone(intake), work);
    Router::new().route("/", route).layer(layer)
}

async fn send(router: &Router, body_bytes: usize) -> Response {
    let request = axum::http::Request::post("/");
    let request = request.body(Body::from(vec![b' '; body_bytes])).unwrap();
    router.clone().call(request).await.unwrap()
}

#[tokio::test]
async fn an_answer_is_charged_until_it_was_sent_however_small_its_request_is() {
    const MEMORY: u64 = 8 << 20;
    let intake = intake(MEMORY, Duration::ZERO);
    let large = || async { vec![0_u8; 3 << 20] };
    let router = working(&intake, get(large).post(large));
    let free = || intake.memory.free();
    let first = send(&router, 10).await;
    assert_eq!(
        (first.status(), free()),
        (StatusCode::OK, MEMORY - (3 << 20))
    );
    let get = axum::http::Request::get("/").body(Body::empty()).unwrap();
    let second = router.clone().call(get).await.unwrap();
    assert_eq!(free(), MEMORY - (6 << 20));
    let refused = send(&router, 10).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    drop(first);
    assert_eq!(send(&router, 10).await.status(), StatusCode::OK);
    let body = axum::body::to_bytes(second.into_body(), usize::MAX).await;
    assert_eq!((body.unwrap().len(), free()), (3 << 20, MEMORY));
}

#[tokio::test]
async fn byte_order_mark_before_a_body_is_skipped() {
    let intake = intake(8 << 20, Duration::ZERO);
    let echo = |payload: Payload| async move { payload.bytes };
    let router = working(&intake, post(echo));
    for (body, wanted) in [
        ("\u{feff}{}", "{}"),
        ("\u{feff}", ""),
        ("{}\u{feff}", "{}\u{feff}"),
        ("", ""),
    ] {
        let request = axum::http::Request::post("/").body(Body::from(body));
        let answer = router.clone().call(request.unwrap()).await.unwrap();
        let found = axum::body::to_bytes(answer.into_body(), usize::MAX).await;
        assert_eq!(found.unwrap(), wanted.as_bytes());
    }
}

#[tokio::test]
async fn small_answers_need_no_budget_and_charged_ones_are_charged_once() {
    const MEMORY: u64 = 8 << 20;
    let intake = intake(MEMORY, Duration::ZERO);
    let small = working(&intake, post(|| async { vec![0_u8; LARGE] }));
    let answer = send(&small, 10).await;
    assert_eq!(intake.memory.free(), MEMORY);
    drop(answer);
    let kept = |payload: Payload| async move {
        let charge = payload.charge(1 << 20)?;
        let response = vec![0_u8; 1 << 20].into_response();
        Ok::<_, Failure>(charged(response, charge))
    };
    let answer = send(&working(&intake, post(kept)), 10).await;
    assert_eq!(intake.memory.free(), MEMORY - (1 << 20));
    drop(answer);
    assert_eq!(intake.memory.free(), MEMORY);
}

/// Memory for as many large bodies as there are processors, and some more.
const MANY: u64 = 1 << 30;
/// What a body takes that is just large.
const JUST_LARGE: u64 = 8 * (LARGE as u64 + 1);

/// A request whose body has brought so many bytes, and brings no more.
fn begun(router: &Router, body_bytes: usize) -> tokio::task::JoinHandle<StatusCode> {
    let mut router = router.clone();
    let piece = Ok::<_, std::io::Error>(Bytes::from(vec![b' '; body_bytes]));
    let pieces = futures::stream::iter([piece]).chain(futures::stream::pending());
    let request = axum::http::Request::post("/").body(Body::from_stream(pieces));
    tokio::spawn(async move { router.call(request.unwrap()).await.unwrap().status() })
}

#[tokio::test]
async fn all_bodies_are_charged_together_while_they_come_in() {
    const BODY: usize = 60 << 10;
    const MEMORY: u64 = 20 * 8 * BODY as u64;
    let intake = intake(MEMORY, Duration::ZERO);
    let router = working(&intake, post(|| async {}));
    let others: Vec<_> = (0..20).map(|_| begun(&router, BODY)).collect();
    while intake.memory.free() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let refused = StatusCode::TOO_MANY_REQUESTS;
    assert_eq!(begun(&router, BODY).await.unwrap(), refused);
    assert_eq!(send(&router, TINY + 1).await.status(), refused);
    assert_eq!(send(&router, TINY).await.status(), StatusCode::OK);
    others.iter().for_each(tokio::task::JoinHandle::abort);
    while intake.memory.free() < MEMORY {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(send(&router, BODY).await.status(), StatusCode::OK);
    assert_eq!(intake.memory.free(), MEMORY);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_large_is_charged_until_its_handler_has_ended() {
    let intake = intake(MANY, Duration::ZERO);
    let (route, starts, may_end) = waiting();
    let router = working(&intake, route);
    let sent = tokio::spawn(async move { send(&router, LARGE).await.status() });
    tokio::task::block_in_place(|| starts.recv().unwrap());
    assert_eq!(intake.memory.free(), MANY - 8 * LARGE as u64);
    may_end.store(true, Ordering::Release);
    assert_eq!(sent.await.unwrap(), StatusCode::OK);
    assert_eq!(intake.memory.free(), MANY);
}

/// A route that says when it is worked on, and works until it is told to end.
fn waiting() -> (MethodRouter, mpsc::Receiver<()>, Arc<AtomicBool>) {
    let (started, starts) = mpsc::channel();
    let may_end = Arc::new(AtomicBool::new(false));
    let ends = Arc::clone(&may_end);
    let handler = move || {
        let (started, ends) = (started.clone(), Arc::clone(&ends));
        async move {
            let _ = started.send(());
            while !ends.load(Ordering::Acquire) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    };
    (post(handler), starts, may_end)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_gives_nothing_back_while_its_handler_runs() {
    let intake = intake(MANY, Duration::ZERO);
    let (route, starts, may_end) = waiting();
    let router = working(&intake, route);
    let client = tokio::spawn(async move { send(&router, LARGE + 1).await });
    tokio::task::block_in_place(|| starts.recv().unwrap());
    let (places, threads) = (&intake.places.free, &intake.threads.free);
    let (all_places, all_threads) = (places.available_permits(), threads.available_permits());
    assert_eq!(intake.memory.free(), MANY - JUST_LARGE);
    client.abort();
    assert!(client.await.unwrap_err().is_cancelled());
    assert_eq!(intake.memory.free(), MANY - JUST_LARGE);
    assert_eq!(places.available_permits(), all_places);
    assert_eq!(threads.available_permits(), all_threads);
    may_end.store(true, Ordering::Release);
    while intake.memory.free() < MANY {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_for_a_thread_leave_the_places_to_small_ones() {
    let intake = intake(MANY, Duration::from_secs(3_600));
    let (route, starts, may_end) = waiting();
    let router = working(&intake, route);
    let threads = intake.threads.free.available_permits();
    let places = intake.places.free.available_permits();
    let large = || {
        let router = router.clone();
        tokio::spawn(async move { send(&router, LARGE + 1).await.status() })
    };
    let working_ones: Vec<_> = (0..threads).map(|_| large()).collect();
    tokio::task::block_in_place(|| (0..threads).for_each(|_| starts.recv().unwrap()));
    let waiting_ones: Vec<_> = (0..4).map(|_| large()).collect();
    let all = (threads + waiting_ones.len()) as u64;
    while intake.memory.free() > MANY - all * JUST_LARGE {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Their bodies have come in. They would take their places now.
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(intake.places.free.available_permits(), places - threads);
    may_end.store(true, Ordering::Release);
    for answered in working_ones.into_iter().chain(waiting_ones) {
        assert_eq!(answered.await.unwrap(), StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_a_body_need_a_place_and_probes_do_not() {
    let options = ServerOptions {
        limits: ServerLimits {
            requests: 1,
            queue_timeout: Duration::ZERO,
            ..ServerLimits::default()
        },
        hosts: Hosts::Any,
    };
    let intake = Intake::new(options, WaitsFor::Store);
    let (route, starts, may_end) = waiting();
    let router = Router::new()
        .route("/", route)
        .route("/v1/tables", get(|| async {}))
        .route("/v2/health/ready", get(|| async {}))
        .layer(from_fn_with_state(Arc::clone(&intake), work));
    let status = |path: &'static str| {
        let mut router = router.clone();
        async move {
            let request = axum::http::Request::get(path).body(Body::empty());
            router.call(request.unwrap()).await.unwrap().status()
        }
    };
    let working = {
        let router = router.clone();
        tokio::spawn(async move { send(&router, 10).await.status() })
    };
    tokio::task::block_in_place(|| starts.recv().unwrap());
    assert_eq!(status("/v1/tables").await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(status("/v2/health/ready").await, StatusCode::OK);
    may_end.store(true, Ordering::Release);
    assert_eq!(working.await.unwrap(), StatusCode::OK);
    assert_eq!(status("/v1/tables").await, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn few_requests_compute_at_once_if_they_wait_for_processors_alone() {
    for waits_for in [WaitsFor::Processors, WaitsFor::Store] {
        let options = ServerOptions {
            limits: ServerLimits {
                requests: 1_000,
                queue_timeout: Duration::ZERO,
                ..ServerLimits::default()
            },
            hosts: Hosts::Any,
        };
        let intake = Intake::new(options, waits_for);
        assert_eq!(intake.computing.is_none(), waits_for == WaitsFor::Store);
        let (route, starts, may_end) = waiting();
        let layer = from_fn_with_state(Arc::clone(&intake), compute);
        let route = route.get(|| async {});
        let computing = Router::new().route("/", route).layer(layer);
        let others = working(&intake, post(|| async {}));
        let count = intake
            .computing
            .as_ref()
            .map_or(100, |places| places.free.available_permits());
        let begin = |body_bytes: usize| {
            let router = computing.clone();
            tokio::spawn(async move { send(&router, body_bytes).await.status() })
        };
        let mut begun: Vec<_> = (0..count).map(|_| begin(10)).collect();
        tokio::task::block_in_place(|| (0..count).for_each(|_| starts.recv().unwrap()));
        if intake.computing.is_some() {
            let refused = StatusCode::SERVICE_UNAVAILABLE;
            assert_eq!(send(&computing, 10).await.status(), refused);
        }
        assert_eq!(send(&others, 10).await.status(), StatusCode::OK);
        let described = axum::http::Request::get("/").body(Body::empty()).unwrap();
        let described = computing.clone().call(described).await.unwrap();
        assert_eq!(described.status(), StatusCode::OK);
        // It has a thread of its own, which others with large bodies need.
        begun.push(begin(LARGE + 1));
        tokio::task::block_in_place(|| starts.recv().unwrap());
        may_end.store(true, Ordering::Release);
        for answered in begun {
            assert_eq!(answered.await.unwrap(), StatusCode::OK);
        }
        assert_eq!(send(&computing, 10).await.status(), StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_wait_for_a_thread_only_as_long_as_for_a_place() {
    let intake = intake(MANY, Duration::ZERO);
    let (route, starts, may_end) = waiting();
    let router = working(&intake, route);
    let threads = intake.threads.free.available_permits();
    let working_ones: Vec<_> = (0..threads)
        .map(|_| {
            let router = router.clone();
            tokio::spawn(async move { send(&router, LARGE + 1).await.status() })
        })
        .collect();
    tokio::task::block_in_place(|| (0..threads).for_each(|_| starts.recv().unwrap()));
    let refused = send(&router, LARGE + 1).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    may_end.store(true, Ordering::Release);
    for answered in working_ones {
        assert_eq!(answered.await.unwrap(), StatusCode::OK);
    }
    assert_eq!(send(&router, 10).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_request_is_given_up_when_its_client_has_left() {
    let ends = Arc::new(AtomicBool::new(false));
    let is_over = Arc::clone(&ends);
    let handler = move || {
        let ends = Arc::clone(&ends);
        async move {
            while !ends.load(Ordering::Acquire) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    };
    let router = Router::new()
        .route("/v1/views", get(handler.clone()))
        .route("/v2/models", get(handler))
        .layer(from_fn(answered));
    let ask = |client: Client, path: &str| {
        let request = axum::http::Request::get(path).extension(client);
        let mut router = router.clone();
        tokio::spawn(router.call(request.body(Body::empty()).unwrap()))
    };
    for (path, wanted) in [
        (
            "/v1/views",
            r#"{"error":{"code":"invalid","message":"the client closed"#,
        ),
        ("/v2/models", r#"{"error":"the client closed"#),
    ] {
        let (client, end) = connected(Duration::ZERO).await;
        let asked = ask(client, path);
        drop(end);
        let response = asked.await.unwrap().unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let body = axum::body::to_bytes(response.into_body(), 4096).await;
        let body = String::from_utf8(body.unwrap().to_vec()).unwrap();
        assert!(body.starts_with(wanted), "{body}");
    }
    // One that has closed its side gets an answer that is there soon.
    let (client, end) = connected(Duration::from_secs(3_600)).await;
    let asked = ask(client, "/v1/views");
    drop(end);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!asked.is_finished());
    is_over.store(true, Ordering::Release);
    assert_eq!(asked.await.unwrap().unwrap().status(), StatusCode::OK);
}

#[test]
fn numbers_that_a_parser_makes_others_of_are_refused_by_name() {
    let long = "7".repeat(10_000);
    for (json, wanted) in [
        (r#"{"rows":[{"id":9007199254740993,"v":0.1}]}"#, None),
        (r#"{"rows":[{"id":7.0,"v":1e23,"w":-0.0}]}"#, None),
        (r#"{"rows":[{"id":18446744073709551615}]}"#, None),
        (r#"{"rows":[{"name":"9007199254740993.0"}]}"#, None),
        (
            r#"{"rows":[{"id":9007199254740993.0}]}"#,
            Some("has the number 9007199254740993.0, which"),
        ),
        (
            r#"{"rows":[{"id":123456789012345678901234567890}]}"#,
            Some("has the number 123456789012345678901234567890, which"),
        ),
        (
            r#"{"rows":[{"v":1e400}]}"#,
            Some("has the number 1e400, which"),
        ),
        (
            r#"{"rows":[{"v":1e-400}]}"#,
            Some("has the number 1e-400, which"),
        ),
        (&long, Some("has the number 7777")),
    ] {
        let payload = Payload::new(json.to_owned().into(), 1 << 20);
        match (payload.check_json(), wanted) {
            (Ok(()), None) => {}
            (Err(failure), Some(part)) => {
                assert_eq!(failure.status(), StatusCode::BAD_REQUEST);
                let message = failure.into_message();
                assert!(message.contains(part) && message.len() < 400, "{message}");
            }
            (found, wanted) => panic!("{json}: {found:?}, wanted {wanted:?}"),
        }
    }
}

#[tokio::test]
async fn a_panic_is_answered_in_the_form_of_the_protocol() {
    let panics = || async {
        if std::hint::black_box(true) {
            panic!("on purpose");
        }
    };
    let mut router = Router::new()
        .route("/v1/views", get(panics))
        .route("/v2/models", get(panics))
        .layer(from_fn(answered));
    for (path, wanted) in [
        ("/v1/views", r#"{"error":{"code":"internal","#),
        ("/v2/models", r#"{"error":"internal error"#),
    ] {
        let request = axum::http::Request::get(path).body(Body::empty()).unwrap();
        let response = router.call(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = axum::body::to_bytes(response.into_body(), 4096).await;
        let body = String::from_utf8(body.unwrap().to_vec()).unwrap();
        assert!(body.starts_with(wanted), "{body}");
    }
}
