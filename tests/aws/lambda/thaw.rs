//! A function that is frozen between two invocations, while its connections go.

use std::time::Duration;

use serde_json::json;

use crate::harness::lambda::{Lambda, QUEUE, count, message, request_v2};
use crate::harness::ledger::{event, ledger};
use crate::harness::relay::{Faults, Relay};
use crate::harness::{are_on_aws, endpoint};

/// Returns how long the function is frozen: for a moment, or for as many seconds as
/// `WAFER_TEST_FROZEN` says. `cargo xtask slow` freezes it for minutes.
fn frozen() -> Duration {
    let seconds = std::env::var("WAFER_TEST_FROZEN").ok();
    let seconds = seconds.map_or(0.2, |seconds| seconds.parse().unwrap());
    Duration::from_secs_f64(seconds)
}

/// After a moment, connections are used that are gone. After minutes, the function opens new ones.
#[test]
fn a_thawed_function_answers_at_once_although_its_connections_are_gone() {
    if !are_on_aws() {
        return;
    }
    let project = ledger("").applied_with("entries.ndjson", "");
    let [dynamodb, s3] =
        ["DYNAMODB", "S3"].map(|service| Relay::new(&endpoint(service), Faults::default()));
    let lambda = Lambda::start(
        &project,
        &[
            ("WAFER_EVENT_SOURCES", &format!("{QUEUE}=entries")),
            ("AWS_ENDPOINT_URL_DYNAMODB", &dynamodb.url),
            ("AWS_ENDPOINT_URL_S3", &s3.url),
        ],
    );
    let mut pushed = 0;
    let mut push_batch = || {
        let messages = [1, 2].map(|n| {
            let number = pushed + n;
            message(&format!("m{number}"), &event("a", number))
        });
        pushed += 2;
        let answer = lambda.ok(json!({ "Records": messages }));
        assert_eq!(answer, json!({"batchItemFailures": []}));
        pushed
    };
    let mut wanted = push_batch();
    assert_eq!(count(&lambda, "a"), wanted);
    let ways: [fn(&Relay); 3] = [Relay::forget, Relay::reset, Relay::swallow];
    for lose in ways {
        let freeze = || {
            lambda.freeze();
            lose(&dynamodb);
            lose(&s3);
            std::thread::sleep(frozen());
            lambda.thaw();
        };
        freeze();
        wanted = push_batch();
        freeze();
        assert_eq!(count(&lambda, "a"), wanted);
        freeze();
        let path = "/v1/sources/entries/events";
        let answer = lambda.ok(request_v2("POST", path, &event("b", wanted)));
        assert_eq!(answer["statusCode"], 200, "{answer}");
    }
    freeze_and_flush(&lambda, [&dynamodb, &s3]);
    let rows = project.offline_rows("sums_v1").len() as i64;
    assert_eq!(rows, wanted + ways.len() as i64);
    for relay in [dynamodb, s3] {
        assert!(relay.resets() > 0, "no connection was lost");
    }
}

/// Flushes what was pushed, on connections that are gone.
fn freeze_and_flush(lambda: &Lambda, relays: [&Relay; 2]) {
    lambda.freeze();
    for relay in relays {
        relay.forget();
    }
    std::thread::sleep(frozen());
    lambda.thaw();
    let answer = lambda.task("flush", json!({}));
    assert_eq!(answer["busy"], json!(false), "{answer}");
}
