//! Functions on AWS may do what they do, and nothing else: the policies that Terraform
//! makes are compared with the calls that the program makes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value as Json, json};
use url::form_urlencoded;

use crate::harness::{Project, is_cloud, terraform};
use crate::lambda::{Lambda, event, message, request_v2};
use crate::models::{PUSHED, accounts, released, request};
use crate::proxy::{Call, Fate, Proxy};
use crate::training::entry;

/// An action of IAM, and the last part of the resource's ARN.
type Action = (String, String);

/// Grants that no call of the program shows, for all functions unless one is named:
/// what AWS does for them, and what only follows from a failure.
const UNSEEN: [(&str, &str, &str); 25] = [
    // https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/encryption.usagenotes.html
    // https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html
    (
        "",
        "kms:Decrypt",
        "AWS decrypts what it reads for the caller",
    ),
    (
        "",
        "kms:DescribeKey",
        "DynamoDB looks at the key for the caller",
    ),
    ("", "kms:Encrypt", "DynamoDB encrypts for the caller"),
    (
        "",
        "kms:GenerateDataKey",
        "S3 encrypts objects for the caller",
    ),
    (
        "",
        "kms:ReEncryptFrom",
        "DynamoDB rotates keys for the caller",
    ),
    (
        "",
        "kms:ReEncryptTo",
        "DynamoDB rotates keys for the caller",
    ),
    // https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs.html
    (
        "",
        "logs:CreateLogStream",
        "Lambda writes the log in the role's name",
    ),
    (
        "",
        "logs:PutLogEvents",
        "Lambda writes the log in the role's name",
    ),
    // https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
    (
        "",
        "sqs:ChangeMessageVisibility",
        "Lambda polls in the role's name",
    ),
    ("", "sqs:DeleteMessage", "Lambda polls in the role's name"),
    (
        "",
        "sqs:GetQueueAttributes",
        "Lambda polls in the role's name",
    ),
    ("", "sqs:ReceiveMessage", "Lambda polls in the role's name"),
    // https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
    (
        "runs",
        "sqs:SendMessage",
        "Lambda sets aside what failed, in the role's name",
    ),
    // https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
    (
        "requests",
        "s3:ListBucket",
        "without it an object that is not there is refused, not missing",
    ),
    (
        "events",
        "s3:ListBucket",
        "without it an object that is not there is refused, not missing",
    ),
    (
        "",
        "s3:AbortMultipartUpload",
        "only of a large file whose upload failed",
    ),
    // Whoever comes across a commit whose process died does what that left undone.
    (
        "requests",
        "dynamodb:UpdateItem",
        "finishes others' commits",
    ),
    ("events", "dynamodb:UpdateItem", "finishes others' commits"),
    ("flush", "dynamodb:UpdateItem", "finishes others' commits"),
    (
        "flush",
        "dynamodb:BatchWriteItem",
        "finishes others' commits: large values",
    ),
    (
        "runs",
        "dynamodb:BatchWriteItem",
        "large values, and groups that are made anew",
    ),
    ("runs", "dynamodb:UpdateItem", "finishes others' commits"),
    // Files of a partition that another invocation was faster with.
    ("runs", "s3:DeleteObject", "removes what came second"),
    // Another look at a commit of which it is not known whether it is there.
    ("requests", "s3:GetObject", "finishes others' commits"),
    ("events", "s3:GetObject", "finishes others' commits"),
];

fn policies() -> Option<Json> {
    if !is_cloud() {
        println!("skipped: it is about AWS; `cargo xtask test` does it");
        return None;
    }
    terraform("policies")
}

/// What a function was seen to do.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<BTreeSet<Action>>>);

impl Seen {
    fn note(&self, service: &str, action: &str, resource: &str) {
        let action = format!("{service}:{action}");
        self.0.lock().unwrap().insert((action, resource.to_owned()));
    }

    /// A proxy before DynamoDB and one before S3.
    fn proxies(&self) -> (Proxy, Proxy) {
        let at = |service: &str| std::env::var(format!("AWS_ENDPOINT_URL_{service}")).unwrap();
        let (table, objects) = (self.clone(), self.clone());
        let dynamo = Proxy::new(&at("DYNAMODB"), move |call| {
            let body: Json = serde_json::from_slice(call.body()).unwrap();
            let tables = match (&body["TableName"], body["RequestItems"].as_object()) {
                (Json::String(table), _) => vec![table.clone()],
                (_, Some(requests)) => requests.keys().cloned().collect(),
                _ => panic!("{body}"),
            };
            for name in tables {
                table.note("dynamodb", &call.action, &name);
            }
            Fate::Through
        });
        let s3 = Proxy::new(&at("S3"), move |call| {
            for (action, resource) in of_s3(call) {
                objects.note("s3", action, &resource);
            }
            Fate::Through
        });
        (dynamo, s3)
    }
}

/// The actions of a request to S3:
/// <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html>
fn of_s3(call: &Call) -> Vec<(&'static str, String)> {
    let (path, query) = call.target.split_once('?').unwrap_or((&call.target, ""));
    let query: BTreeMap<_, _> = form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect();
    let path = path.trim_matches('/');
    let bucket = path.split('/').next().unwrap_or_default();
    let has = |name: &str| query.contains_key(name);
    match call.action.as_str() {
        "GET" if has("list-type") => {
            let prefix = query.get("prefix").map_or("", String::as_str);
            vec![("ListBucket", format!("{bucket}/{prefix}"))]
        }
        "GET" | "HEAD" => vec![("GetObject", path.to_owned())],
        "DELETE" if has("uploadId") => vec![("AbortMultipartUpload", path.to_owned())],
        "DELETE" => vec![("DeleteObject", path.to_owned())],
        // Many at once: the keys are in the body.
        "POST" if has("delete") => {
            let body = String::from_utf8_lossy(call.body()).into_owned();
            let keys = body.split("<Key>").skip(1);
            let key = |rest: &str| format!("{bucket}/{}", rest.split("</Key>").next().unwrap());
            keys.map(|rest| ("DeleteObject", key(rest))).collect()
        }
        // Uploads in parts, too.
        "PUT" | "POST" => vec![("PutObject", path.to_owned())],
        other => panic!("{other} {}", call.target),
    }
}

fn list(value: &Json) -> Vec<&str> {
    match value {
        Json::Array(values) => values.iter().filter_map(Json::as_str).collect(),
        value => value.as_str().into_iter().collect(),
    }
}

/// A grant: an action, and a pattern for the last part of the ARN.
fn grants(policy: &str) -> Vec<Action> {
    let policy: Json = serde_json::from_str(policy).unwrap();
    let mut grants = Vec::new();
    for statement in policy["Statement"].as_array().unwrap() {
        assert_eq!(statement["Effect"], "Allow");
        let prefixes = &statement["Condition"]["StringLike"]["s3:prefix"];
        for action in list(&statement["Action"]) {
            for resource in list(&statement["Resource"]) {
                let last = resource.rsplit(':').next().unwrap();
                match action {
                    "s3:ListBucket" => {
                        let patterns = list(prefixes);
                        assert!(!patterns.is_empty(), "{statement}");
                        let pattern = |prefix: &str| format!("{last}/{prefix}");
                        let all = patterns.into_iter().map(pattern);
                        grants.extend(all.map(|pattern| (action.to_owned(), pattern)));
                    }
                    _ => grants.push((action.to_owned(), last.to_owned())),
                }
            }
        }
    }
    grants
}

fn allows((action, pattern): &Action, (wanted, resource): &Action) -> bool {
    let fits = match pattern.strip_suffix('*') {
        Some(start) => resource.starts_with(start),
        None => pattern == resource,
    };
    action == wanted && fits
}

/// A function of some kind, whose calls are noted.
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
        // On AWS they have no copies in common.
        ("WAFER_COPIES", copies.as_str()),
    ];
    (Lambda::start(project, &settings), [dynamo, s3])
}

fn large(key: &str, number: i64) -> String {
    let text = "x".repeat(100 << 10);
    entry(key, "2020-01-01T00:00:00Z", number, 1.0, &text).to_string()
}

/// Pushes of every kind: new, repeated, large and larger.
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
fn functions_may_do_what_they_do_and_nothing_else() {
    let Some(policies) = policies() else { return };
    let project = accounts(PUSHED);
    released(&project, 2);
    project.ok(&[
        "endpoints",
        "set",
        "line",
        "r1",
        "--shadow",
        "r2",
        "--log",
        "100",
    ]);
    for file in 0..3 {
        let rows = (0..20).map(|n| format!("{}\n", event(&format!("k{n}"), n)));
        let url = project.write_object(
            &format!("project/sources/in/{file}.ndjson"),
            &rows.collect::<String>(),
        );
        if file == 0 {
            let pattern = url.replace("0.ndjson", "*.ndjson");
            project.replace(
                "path = \"entries.ndjson\"",
                &format!("path = \"{pattern}\""),
            );
        }
    }
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
    // Features, a model, a shadow, and what is logged of it all.
    let body = request(&["a", "b"]).to_string();
    for _ in 0..2 {
        let answer = requests.ok(request_v2("POST", "/v2/models/line/infer", &body));
        assert_eq!(answer["statusCode"], 200, "{answer}");
    }

    let queue = "arn:aws:sqs:us-east-1:000000000000:entries";
    let (lambda, _proxies) = start(&project, &seen, "events", &format!("{queue}=entries"));
    for (number, body) in pushes().iter().enumerate() {
        // Each twice, as queues may deliver.
        for _ in 0..2 {
            let answer = lambda.ok(json!({"Records": [message(&format!("m{number}"), body)]}));
            assert_eq!(answer, json!({"batchItemFailures": []}));
        }
    }

    let (lambda, _proxies) = start(&project, &seen, "flush", "");
    let stored = json!({"Records": [{"eventSource": "aws:s3", "eventSourceARN": "", "s3": {
        "bucket": {"name": bucket}, "object": {"key": "project/outbox/1"}}}]});
    lambda.ok(stored);

    // Something that waits for the regular look.
    requests.ok(request_v2(
        "POST",
        "/v1/sources/entries/events",
        &event("late", 1),
    ));
    let (lambda, _proxies) = start(&project, &seen, "runs", "");
    let task = |name: &str, more: Json| lambda.ok(json!({"wafer": {name: more}}));
    task("tick", json!({}));
    for _ in 0..2 {
        let planned = task("plan", json!({"pipeline": "sums", "partition_bytes": 1}));
        let run = &planned["run"];
        for partition in planned["partitions"].as_array().unwrap() {
            task("partition", json!({"run": run, "partition": partition}));
            // Its result is there: what is written a second time is removed.
            task("partition", json!({"run": run, "partition": partition}));
        }
        let committed = task("commit", json!({"run": run}));
        for partition in committed["partitions"].as_array().unwrap() {
            task("online", json!({"run": run, "partition": partition}));
        }
        task("finish", json!({"run": run}));
        // What it made is replaced.
        project.write_object(
            "project/sources/in/1.ndjson",
            &format!("{}\n", event("z", 1)),
        );
    }

    std::thread::sleep(Duration::from_millis(200));
    let mut problems = Vec::new();
    for (function, seen) in &seen {
        let seen = seen.0.lock().unwrap();
        let policy = policies[*function].as_str().unwrap();
        // The names that Terraform was given.
        let policy = policy.replace("flights-bucket", bucket);
        let policy = policy.replace(":flights\"", &format!(":{bucket}\""));
        let grants = grants(&policy);
        println!(
            "{function}: {} actions seen, {} grants",
            seen.len(),
            grants.len()
        );
        for action in seen.iter() {
            if !grants.iter().any(|grant| allows(grant, action)) {
                problems.push(format!("{function} does {action:?}, which is not granted"));
            }
        }
        for grant in &grants {
            let is_seen = seen.iter().any(|action| allows(grant, action));
            let is_explained = UNSEEN
                .iter()
                .any(|(of, action, _)| (of.is_empty() || of == function) && *action == grant.0);
            // The store is tried out by whoever opens it first.
            let is_probe = grant.1.contains("/probe/");
            if !is_seen && !is_explained && !is_probe {
                problems.push(format!(
                    "{function} is granted {grant:?}, which it never does"
                ));
            }
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
}
