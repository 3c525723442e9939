//! The policies that Terraform makes are compared with the calls that the program makes: functions
//! on AWS must be allowed to make these, and no others. Policies are evaluated with their
//! conditions, as IAM does, and so are the calls of the key that AWS makes for the caller.

mod calls;
mod evaluate;
mod people;
mod policy;
mod roles;
mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value as Json, json};

use self::calls::Seen;
use self::evaluate::{Request, allows, applies};
use self::policy::{Made, UNSEEN, grants};
use self::services::key_uses;
use crate::harness::Project;
use crate::harness::accounts::{logged, request};
use crate::harness::lambda::{Lambda, message, request_v2};
use crate::harness::ledger::{entries_on_s3, entry, event};
use crate::harness::proxy::Proxy;

/// Starts a function of a kind, and records its calls.
fn start(
    project: &Project,
    seen: &BTreeMap<&str, Seen>,
    function: &str,
    sources: &str,
) -> (Lambda, [Proxy; 2]) {
    let (dynamo, s3) = seen[function].proxies();
    let copies = project.at(function);
    let settings = [
        ("AWS_ENDPOINT_URL_DYNAMODB", dynamo.url.as_str()),
        ("AWS_ENDPOINT_URL_S3", s3.url.as_str()),
        ("WAFER_EVENT_SOURCES", sources),
        // Functions on AWS do not share copies of artifacts.
        ("WAFER_COPIES", copies.as_str()),
    ];
    (Lambda::start(project, &settings), [dynamo, s3])
}

fn large(key: &str, number: i64) -> String {
    let text = "x".repeat(100 << 10);
    entry(key, "2020-01-01T00:00:00Z", number, 1.0, &text).to_string()
}

/// Returns pushes of every kind: new ones, a repeated one, and two large ones of the same key.
fn pushes() -> Vec<String> {
    vec![
        event("a", 1),
        event("a", 1),
        large("b", 1),
        large("b", 2),
        event("c", 3),
    ]
}

#[test]
fn iam_policies_allow_what_functions_do_and_nothing_else() {
    let Some(made) = Made::read() else { return };
    let project = logged(2, &["r1", "--shadow", "r2"]);
    let rows: String = (0..20)
        .map(|n| format!("{}\n", event(&format!("k{n}"), n)))
        .collect();
    entries_on_s3(&project, "project/sources/in", vec![rows; 3]);
    project.replace(
        "function = \"ledger\"\ngroup = \"last_entry\"",
        "function = \"ledger\"\ngroup = \"last_entry\"\nschedule = { cron = \"0 0 1 1 *\", delay = \"1h\" }",
    );
    project.ok(&["apply"]);
    let bucket = project.bucket();
    let seen: BTreeMap<&str, Seen> = ["requests", "events", "flush", "runs"]
        .map(|f| (f, Seen::default()))
        .into();

    let (requests, _of_requests) = start(&project, &seen, "requests", "");
    for body in pushes() {
        let answer = requests.ok(request_v2("POST", "/v1/sources/entries/events", &body));
        assert_eq!(answer["statusCode"], 200, "{answer}");
    }
    let body = json!({"rows": [{"key_a": "a", "key_b": 1}]}).to_string();
    requests.ok(request_v2("POST", "/v1/views/account/features", &body));
    requests.ok(request_v2("GET", "/metrics", ""));
    // These requests read features, call a model and a shadow release, and are logged.
    let body = request(&["a", "b"]).to_string();
    for _ in 0..2 {
        let answer = requests.ok(request_v2("POST", "/v2/models/line/infer", &body));
        assert_eq!(answer["statusCode"], 200, "{answer}");
    }

    let queue = "arn:aws:sqs:us-east-1:000000000000:entries";
    let (lambda, _proxies) = start(&project, &seen, "events", &format!("{queue}=entries"));
    for (number, body) in pushes().iter().enumerate() {
        // Each message is delivered twice, as a queue may do.
        for _ in 0..2 {
            let answer = lambda.ok(json!({"Records": [message(&format!("m{number}"), body)]}));
            assert_eq!(answer, json!({"batchItemFailures": []}));
        }
    }

    let (lambda, _proxies) = start(&project, &seen, "flush", "");
    let stored = json!({"Records": [{"eventSource": "aws:s3", "eventSourceARN": "", "s3": {
        "bucket": {"name": bucket}, "object": {"key": "project/outbox/1"}}}]});
    lambda.ok(stored);

    // This event stays in the outbox until the next tick.
    requests.ok(request_v2(
        "POST",
        "/v1/sources/entries/events",
        &event("late", 1),
    ));
    let (lambda, _proxies) = start(&project, &seen, "runs", "");
    let task = |name: &str, more: Json| lambda.task(name, more);
    task("tick", json!({}));
    for _ in 0..2 {
        let planned = task("plan", json!({"pipeline": "sums", "partition_bytes": 1}));
        let run = &planned["run"];
        for partition in planned["partitions"].as_array().unwrap() {
            task("partition", json!({"run": run, "partition": partition}));
            // The partition has a result already, so that the files of the second attempt are
            // removed.
            task("partition", json!({"run": run, "partition": partition}));
        }
        let committed = task("commit", json!({"run": run}));
        for partition in committed["partitions"].as_array().unwrap() {
            task("online", json!({"run": run, "partition": partition}));
        }
        task("finish", json!({"run": run}));
        // A changed file makes the next run replace the rows of this one.
        project.write_object(
            "project/sources/in/1.ndjson",
            format!("{}\n", event("z", 1)),
        );
    }

    std::thread::sleep(Duration::from_millis(200));
    // Whoever opens a table looks for its checkpoint, and a young one has none.
    let is_listed = |request: &Request| {
        let shown = format!("{request:?}");
        request.action == "s3:ListBucket" && shown.contains("_delta_log/_last_checkpoint")
    };
    let seen_by_flush = seen["flush"].0.lock().unwrap().clone();
    assert!(seen_by_flush.iter().any(is_listed), "{seen_by_flush:#?}");
    let problems: Vec<String> = seen
        .iter()
        .flat_map(|(function, seen)| {
            // These names are those that Terraform was given.
            let policy = made.function(function).to_string();
            let policy = policy.replace("flights-bucket", bucket);
            let policy = policy.replace("table/flights\"", &format!("table/{bucket}\""));
            let policy: Json = serde_json::from_str(&policy).unwrap();
            compare(function, &policy, &seen.0.lock().unwrap(), made.key())
        })
        .collect();
    assert!(problems.is_empty(), "{problems:#?}");
}

/// Compares the policy of a function with the calls that it made, and returns the differences.
fn compare(function: &str, policy: &Json, seen: &BTreeSet<Request>, key: &str) -> Vec<String> {
    let grants = grants(policy);
    println!(
        "{function}: {} calls seen, {} grants",
        seen.len(),
        grants.len()
    );
    let needed = seen
        .iter()
        .flat_map(|request| std::iter::once(request.clone()).chain(key_uses(request, key)));
    let missing = needed
        .filter(|request| !allows([policy], request))
        .map(|request| format!("{function} does {request:?}, which is not granted"));
    let unused = grants
        .iter()
        .filter(|grant| !is_used(function, grant, seen))
        .map(|grant| format!("{function} is granted {grant}, which it never does"));
    missing.chain(unused).collect()
}

/// Returns whether a function made a call that a grant is for, or there is a reason why not.
fn is_used(function: &str, grant: &Json, seen: &BTreeSet<Request>) -> bool {
    let is_explained = UNSEEN
        .iter()
        .any(|(of, action, _)| (of.is_empty() || *of == function) && grant["Action"] == *action);
    let resource = grant["Resource"].as_str().unwrap();
    // The first process that opens the store checks that it supports conditional writes.
    let is_probe = resource.contains("/probe/");
    // Lambda itself sets aside what fails of streams, in the role's name:
    // https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html
    let is_set_aside = resource.ends_with("/aws/lambda/*");
    let is_seen = seen.iter().any(|request| applies(grant, request));
    is_explained || is_probe || is_set_aside || is_seen
}
