//! Requests and events that reach the Lambda function through each trigger.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value as Json, json};

use crate::harness::lambda::{
    CHANGES, Lambda, QUEUE, STREAM, count, encoded, message, of_dynamodb, of_kinesis, request_v1,
    request_v2,
};
use crate::harness::ledger::{event, ledger};
use crate::harness::{are_on_aws, wait_for};

#[test]
fn a_function_answers_requests_and_ingests_events_of_every_trigger() {
    if !are_on_aws() {
        return;
    }
    let project = ledger("").applied_with("entries.ndjson", "");
    let fifo = format!("{QUEUE}.fifo");
    let sources = format!("{QUEUE}=entries;{fifo}=entries;{STREAM}=entries;{CHANGES}=entries");
    let lambda = Lambda::start(&project, &[("WAFER_EVENT_SOURCES", &sources)]);
    // Requests come from both kinds of gateways, and may fail.
    let path = "/v1/sources/entries/events";
    let answer = lambda.ok(request_v2("POST", path, &event("a", 1)));
    assert_eq!(answer["statusCode"], 200, "{answer}");
    let answer = lambda.ok(request_v1("POST", path, &event("a", 2)));
    assert_eq!(answer["statusCode"], 200, "{answer}");
    assert_eq!(count(&lambda, "a"), 2);
    // Their bodies may be encoded, also those of forms, which events are never taken from.
    for (number, request) in [
        (1, request_v1("POST", path, &event("g", 1))),
        (2, request_v2("POST", path, &event("g", 2))),
    ] {
        let answer = lambda.ok(encoded(request));
        assert_eq!(answer["statusCode"], 200, "{answer}");
        assert_eq!(count(&lambda, "g"), number);
    }
    let form = |path: &str, body: &str| {
        let mut request = encoded(request_v2("POST", path, body));
        request["headers"]["content-type"] = json!("application/x-www-form-urlencoded");
        lambda.ok(request)
    };
    let answer = form(path, &event("g", 3));
    assert_eq!(answer["statusCode"], 415, "{answer}");
    let rows = json!({"rows": [{"key_a": "g", "key_b": 1}]}).to_string();
    let answer = form("/v1/views/account/features", &rows);
    assert_eq!(answer["statusCode"], 200, "{answer}");
    let answer = lambda.ok(request_v1("GET", "/v1/views/acount", ""));
    assert_eq!(answer["statusCode"], 404);
    assert!(
        answer["body"]
            .as_str()
            .unwrap()
            .contains("there is no feature view `acount`"),
        "{answer}"
    );
    // Only the records of a batch that cannot be read are delivered again.
    let batch = json!({"Records": [
        message("m1", &event("b", 1)),
        message("m2", "{oops"),
        message("m3", &event("b", 2)),
    ]});
    for _ in 0..2 {
        let answer = lambda.ok(batch.clone());
        assert_eq!(
            answer,
            json!({"batchItemFailures": [{"itemIdentifier": "m2"}]})
        );
        assert_eq!(count(&lambda, "b"), 2, "also when it is delivered twice");
    }
    // Another message with the same content is another event.
    lambda.ok(json!({"Records": [message("m4", &event("b", 1))]}));
    assert_eq!(count(&lambda, "b"), 3);
    // A FIFO queue also delivers again what is behind them in their groups.
    let of_group = |id: &str, group: &str, body: &str| {
        let mut message = message(id, body);
        message["eventSourceARN"] = json!(fifo);
        message["attributes"]["MessageGroupId"] = json!(group);
        message
    };
    let answer = lambda.ok(json!({"Records": [
        of_group("g1", "x", &event("f", 1)),
        of_group("g2", "x", "{oops"),
        of_group("g3", "y", &event("f", 2)),
        of_group("g4", "x", &event("f", 3)),
    ]}));
    let failures =
        json!({"batchItemFailures": [{"itemIdentifier": "g2"}, {"itemIdentifier": "g4"}]});
    assert_eq!(answer, failures);
    assert_eq!(count(&lambda, "f"), 2);
    let answer = lambda.ok(json!({"Records": [
        of_kinesis(1, &BASE64.encode(event("c", 1))),
        of_kinesis(2, "!"),
        of_kinesis(3, &BASE64.encode(event("c", 3))),
    ]}));
    assert_eq!(
        answer,
        json!({"batchItemFailures": [{"itemIdentifier": "2"}]})
    );
    assert_eq!(count(&lambda, "c"), 2);
    let answer = lambda.ok(json!({"Records": [of_dynamodb(1, &event("d", 1))]}));
    assert_eq!(answer, json!({"batchItemFailures": []}));
    assert_eq!(count(&lambda, "d"), 1);
    // This queue is not mapped to a source.
    let mut stray = message("m9", &event("e", 1));
    stray["eventSourceARN"] = "arn:aws:sqs:us-east-1:000000000000:other".into();
    let answer = lambda.ok(json!({"Records": [stray]}));
    assert_eq!(
        answer,
        json!({"batchItemFailures": [{"itemIdentifier": "m9"}]})
    );
    // A notification about the outbox flushes it, and so does a schedule.
    let bucket = project.bucket();
    let stored = json!({"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": {
        "bucket": {"name": bucket}, "object": {"key": "project/outbox/1", "size": 1}}}]});
    let of_s3 = |id: &str, body: &Json| {
        let mut message = message(id, &body.to_string());
        message["eventSourceARN"] = "arn:aws:sqs:us-east-1:000000000000:notifications".into();
        json!({"Records": [message]})
    };
    let answer = lambda.ok(of_s3("n1", &stored));
    assert_eq!(answer, json!({"batchItemFailures": []}));
    assert_eq!(project.offline_rows("sums_v1").len(), 12);
    wait_for("the age of the outbox", || lambda.outbox_ages() == [0.0]);
    // Notifications about other objects, and the test event of S3, are ignored.
    let mut other = stored;
    other["Records"][0]["s3"]["object"]["key"] = "project/offline/x".into();
    let test = json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": bucket});
    for (id, body) in [("n2", other), ("n3", test)] {
        let answer = lambda.ok(of_s3(id, &body));
        assert_eq!(answer, json!({"batchItemFailures": []}));
    }
    let answer = lambda.ok(json!({"wafer": {"flush": {}}}));
    assert_eq!(answer, json!({"rows": 0, "busy": false}));
    // An unknown event fails only its own invocation.
    let (kind, said) = lambda.invoke(json!({"what": 1}));
    assert_eq!(kind, "error");
    assert!(
        said.to_string()
            .contains("an event with what is of a kind that this function does not know"),
        "{said}"
    );
    assert_eq!(count(&lambda, "a"), 2);
    // The machine gave the sandboxes' pool the address space that it reserves.
    assert!(!lambda.has_logged("allocating one by one"));
}
