//! The Lambda function, driven through a Runtime API on this machine by events as
//! AWS sends them. On the stores on AWS only.
//!
//! API: <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value as Json, json};

use crate::backfill::wait_for;
use crate::harness::{BINARY, Project, is_cloud};
use crate::models::{PUSHED, accounts, released, request};
use crate::training::{entry, ledger};

/// The program that Lambda starts: the one beside `wafer`, or one that was packaged.
pub(crate) fn bootstrap() -> PathBuf {
    if let Some(packaged) = std::env::var_os("WAFER_TEST_BOOTSTRAP") {
        return packaged.into();
    }
    let path = Path::new(BINARY).with_file_name("bootstrap");
    assert!(path.is_file(), "build the whole workspace first");
    path
}

fn is_elsewhere() -> bool {
    if !is_cloud() {
        println!("skipped: functions run on the stores on AWS; `cargo xtask test` does both");
    }
    !is_cloud()
}

/// A function with its Runtime API; ends with its test.
pub(crate) struct Lambda {
    child: Child,
    events: Sender<Json>,
    answers: Receiver<(String, Json)>,
}

impl Drop for Lambda {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Lambda {
    pub(crate) fn start(project: &Project, more: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (events, next) = channel();
        let (answered, answers) = channel();
        let next = Arc::new(Mutex::new(next));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (next, answered) = (Arc::clone(&next), answered.clone());
                std::thread::spawn(move || serve(client.unwrap(), &next, &answered));
            }
        });
        let (online, objects) = project.cloud_urls();
        let child = Command::new(bootstrap())
            .env("AWS_LAMBDA_RUNTIME_API", address)
            .env("AWS_LAMBDA_FUNCTION_NAME", "wafer")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "log")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", "log")
            .env("WAFER_PROJECT", "ledger")
            .env("WAFER_STORE_ONLINE", online)
            .env("WAFER_STORE_OBJECTS", objects)
            .env("WAFER_COPIES", project.path().join("copies"))
            .envs(more.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            child,
            events,
            answers,
        }
    }

    fn invoke(&self, event: Json) -> (String, Json) {
        self.events.send(event).unwrap();
        self.answer()
    }

    fn answer(&self) -> (String, Json) {
        self.answers.recv_timeout(Duration::from_secs(60)).unwrap()
    }

    /// Invokes what must succeed.
    pub(crate) fn ok(&self, event: Json) -> Json {
        let (kind, answer) = self.invoke(event);
        assert_eq!(kind, "response", "{answer}");
        answer
    }
}

/// One connection of the Runtime API.
fn serve(client: TcpStream, next: &Mutex<Receiver<Json>>, answered: &Sender<(String, Json)>) {
    let mut writer = client.try_clone().unwrap();
    let mut reader = BufReader::new(client);
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        let target = first
            .split_whitespace()
            .nth(1)
            .unwrap_or_default()
            .to_owned();
        let body = body(&mut reader);
        let answer = if target.ends_with("/invocation/next") {
            let Ok(event) = next.lock().unwrap().recv() else {
                return;
            };
            let event = event.to_string();
            format!(
                "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: 8476a536-e9f4-11e8-9739-2dfe598c3fcd\r\n\
                 Lambda-Runtime-Deadline-Ms: 9999999999999\r\n\
                 Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:000000000000:function:wafer\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{event}",
                event.len()
            )
        } else {
            let kind = target.rsplit('/').next().unwrap_or_default().to_owned();
            let answer = serde_json::from_slice(&body).unwrap_or(Json::Null);
            let _ = answered.send((kind, answer));
            "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n".to_owned()
        };
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn body(reader: &mut BufReader<TcpStream>) -> Vec<u8> {
    let (mut length, mut chunked) = (0, false);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.trim_end().to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        chunked |= line.starts_with("transfer-encoding:") && line.contains("chunked");
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    while chunked {
        let mut size = String::new();
        reader.read_line(&mut size).unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).unwrap();
        body.extend_from_slice(&chunk[..size]);
        chunked = size > 0;
    }
    body
}

/// A request as function URLs and API Gateway's HTTP APIs send it.
pub(crate) fn request_v2(method: &str, path: &str, body: &str) -> Json {
    json!({
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "",
        "headers": {"content-type": "application/json", "host": "abc.lambda-url.us-east-1.on.aws"},
        "requestContext": {
            "accountId": "anonymous", "apiId": "abc", "domainName": "abc.lambda-url.us-east-1.on.aws",
            "domainPrefix": "abc", "requestId": "id", "routeKey": "$default", "stage": "$default",
            "time": "12/Mar/2024:19:03:58 +0000", "timeEpoch": 1_583_348_638_390_i64,
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "t"},
        },
        "body": body, "isBase64Encoded": false,
    })
}

/// A request as API Gateway's REST APIs send it.
fn request_v1(method: &str, path: &str, body: &str) -> Json {
    json!({
        "resource": "/{proxy+}", "path": path, "httpMethod": method,
        "headers": {"Content-Type": "application/json", "Host": "x.execute-api.us-east-1.amazonaws.com"},
        "multiValueHeaders": {"Content-Type": ["application/json"]},
        "queryStringParameters": null, "multiValueQueryStringParameters": null, "pathParameters": {"proxy": path},
        "stageVariables": null,
        "requestContext": {
            "accountId": "000000000000", "apiId": "x", "httpMethod": method, "identity": {"sourceIp": "127.0.0.1"},
            "path": path, "protocol": "HTTP/1.1", "requestId": "id", "resourceId": "r", "resourcePath": "/{proxy+}",
            "stage": "prod",
        },
        "body": body, "isBase64Encoded": false,
    })
}

const QUEUE: &str = "arn:aws:sqs:us-east-1:000000000000:entries";
const STREAM: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/entries";
const CHANGES: &str = "arn:aws:dynamodb:us-east-1:000000000000:table/entries/stream/2024";

pub(crate) fn message(id: &str, body: &str) -> Json {
    json!({
        "messageId": id, "receiptHandle": "r", "body": body, "attributes": {"ApproximateReceiveCount": "1"},
        "messageAttributes": {}, "md5OfBody": "x", "eventSource": "aws:sqs", "eventSourceARN": QUEUE,
        "awsRegion": "us-east-1",
    })
}

pub(crate) fn event(key: &str, number: i64) -> String {
    entry(key, "2020-01-01T00:00:00Z", number, 1.0, "x").to_string()
}

fn count(lambda: &Lambda, key: &str) -> Json {
    let body = json!({"rows": [{"key_a": key, "key_b": 1}]}).to_string();
    let answer = lambda.ok(request_v2("POST", "/v1/views/account/features", &body));
    assert_eq!(answer["statusCode"], 200, "{answer}");
    let answer: Json = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
    answer["rows"][0]["features"]["sums_count_lifetime"].clone()
}

#[test]
fn a_function_answers_requests_and_takes_events_in() {
    if is_elsewhere() {
        return;
    }
    let project = ledger("").applied_with("entries.ndjson", "");
    let sources = format!("{QUEUE}=entries;{STREAM}=entries;{CHANGES}=entries");
    let lambda = Lambda::start(&project, &[("WAFER_EVENT_SOURCES", &sources)]);
    // Requests of both kinds of gateways, good and bad ones.
    let path = "/v1/sources/entries/events";
    let answer = lambda.ok(request_v2("POST", path, &event("a", 1)));
    assert_eq!(answer["statusCode"], 200, "{answer}");
    let answer = lambda.ok(request_v1("POST", path, &event("a", 2)));
    assert_eq!(answer["statusCode"], 200, "{answer}");
    assert_eq!(count(&lambda, "a"), 2);
    let answer = lambda.ok(request_v1("GET", "/v1/views/acount", ""));
    assert_eq!(answer["statusCode"], 404);
    assert!(
        answer["body"]
            .as_str()
            .unwrap()
            .contains("there is no feature view `acount`"),
        "{answer}"
    );
    // Of a batch, what cannot be read comes again, and the rest does not.
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
    // The same content in another message is another event.
    lambda.ok(json!({"Records": [message("m4", &event("b", 1))]}));
    assert_eq!(count(&lambda, "b"), 3);
    let record = |number: i64, data: &str| {
        json!({
            "kinesis": {
                "kinesisSchemaVersion": "1.0", "partitionKey": "p", "sequenceNumber": number.to_string(),
                "data": data, "approximateArrivalTimestamp": 1_545_084_650.987,
            },
            "eventSource": "aws:kinesis", "eventVersion": "1.0", "eventID": format!("shardId-000000000000:{number}"),
            "eventName": "aws:kinesis:record", "invokeIdentityArn": "arn:aws:iam::0:role/r",
            "awsRegion": "us-east-1", "eventSourceARN": STREAM,
        })
    };
    let answer = lambda.ok(json!({"Records": [
        record(1, &BASE64.encode(event("c", 1))),
        record(2, "!"),
        record(3, &BASE64.encode(event("c", 3))),
    ]}));
    assert_eq!(
        answer,
        json!({"batchItemFailures": [{"itemIdentifier": "2"}]})
    );
    assert_eq!(count(&lambda, "c"), 2);
    let typed: Json = serde_json::from_str::<Json>(&event("d", 1)).unwrap();
    let typed: serde_json::Map<String, Json> = typed
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| {
            let value = match value {
                Json::Number(number) => json!({"N": number.to_string()}),
                other => json!({"S": other}),
            };
            (name.clone(), value)
        })
        .collect();
    let answer = lambda.ok(json!({"Records": [{
        "eventID": "1", "eventName": "INSERT", "eventVersion": "1.1", "eventSource": "aws:dynamodb",
        "awsRegion": "us-east-1", "eventSourceARN": CHANGES,
        "dynamodb": {"Keys": {"key_a": {"S": "d"}}, "NewImage": typed, "SequenceNumber": "111", "SizeBytes": 26,
                     "StreamViewType": "NEW_AND_OLD_IMAGES"},
    }]}));
    assert_eq!(answer, json!({"batchItemFailures": []}));
    assert_eq!(count(&lambda, "d"), 1);
    // A queue of which nobody said whose it is.
    let mut stray = message("m9", &event("e", 1));
    stray["eventSourceARN"] = "arn:aws:sqs:us-east-1:000000000000:other".into();
    let answer = lambda.ok(json!({"Records": [stray]}));
    assert_eq!(
        answer,
        json!({"batchItemFailures": [{"itemIdentifier": "m9"}]})
    );
    // What S3 says of the outbox brings it to the tables; so does a schedule.
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
    assert_eq!(project.offline_rows("sums_v1").len(), 8);
    // Of what else is in the bucket, and of the queue being tried out, nothing follows.
    let mut other = stored;
    other["Records"][0]["s3"]["object"]["key"] = "project/offline/x".into();
    let test = json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": bucket});
    for (id, body) in [("n2", other), ("n3", test)] {
        let answer = lambda.ok(of_s3(id, &body));
        assert_eq!(answer, json!({"batchItemFailures": []}));
    }
    let answer = lambda.ok(json!({"wafer": {"flush": {}}}));
    assert_eq!(answer, json!({"rows": 0, "busy": false}));
    // What nobody knows is an error of that invocation alone.
    let (kind, said) = lambda.invoke(json!({"what": 1}));
    assert_eq!(kind, "error");
    assert!(
        said.to_string().contains("an event with what is nothing"),
        "{said}"
    );
    assert_eq!(count(&lambda, "a"), 2);
}

#[test]
fn a_function_takes_up_what_is_applied_and_runs_what_is_due() {
    if is_elsewhere() {
        return;
    }
    let project = ledger("").applied_with("entries.ndjson", &format!("{}\n", event("a", 1)));
    let lambda = Lambda::start(&project, &[]);
    assert_eq!(count(&lambda, "a"), Json::Null);
    project.replace(
        "function = \"ledger\"\ngroup = \"sums\"",
        "function = \"ledger\"\ngroup = \"sums\"\nschedule = { cron = \"0 0 * * *\", delay = \"1h\", catch_up = 2 }",
    );
    project.ok(&["apply"]);
    // It was applied long ago.
    let server = project.serve(&["--clock", "2020-01-02T12:00:00Z,0"]);
    wait_for("the schedule", || {
        project.json(&["schedules"])[0]["state"]["done"] == "2020-01-02T00:00:00Z"
    });
    drop(server);
    std::thread::sleep(Duration::from_millis(1_100));
    let tick = json!({"wafer": {"tick": {"pipeline": "sums"}}});
    let answer = lambda.ok(tick.clone());
    let ran = answer["ran"].as_array().unwrap();
    assert_eq!(ran.len(), 2, "as many as are caught up: {answer}");
    assert!(
        ran.iter().all(|run| run["state"] == "succeeded"),
        "{answer}"
    );
    assert_eq!(lambda.ok(tick)["ran"], json!([]));
    let (kind, said) = lambda.invoke(json!({"wafer": {"tick": {"pipeline": "sum"}}}));
    assert_eq!(kind, "error");
    assert!(said.to_string().contains("did you mean `sums`"), "{said}");
}

#[test]
fn a_function_says_what_is_wrong_with_its_deployment() {
    if is_elsewhere() {
        return;
    }
    let project = ledger("").applied_with("entries.ndjson", "");
    for (setting, value, wanted) in [
        ("WAFER_PROJECT", "", "WAFER_PROJECT is not set"),
        (
            "WAFER_PROJECT",
            "other",
            "belongs to project `ledger`, not to `other`",
        ),
        (
            "WAFER_STORE_ONLINE",
            "dynamodb://nothing",
            "there is no DynamoDB table `nothing`",
        ),
        ("WAFER_STORE_ONLINE", "nothing", "which is no URL"),
        ("WAFER_EVENT_SOURCES", "queue", "write ARN=SOURCE"),
    ] {
        let mut lambda = Lambda::start(&project, &[(setting, value)]);
        assert!(!lambda.child.wait().unwrap().success());
        let mut said = String::new();
        let mut log = lambda.child.stderr.take().unwrap();
        log.read_to_string(&mut said).unwrap();
        assert!(said.contains(wanted), "{said}");
    }
    // Code that was compiled by another version is not run, and not looked for in vain.
    project.remove_compiled_code();
    let lambda = Lambda::start(&project, &[]);
    let body = json!({"rows": [{"key_a": "a", "key_b": 1}]}).to_string();
    for _ in 0..2 {
        let answer = lambda.ok(request_v2(
            "POST",
            "/v1/sources/entries/events",
            &event("a", 1),
        ));
        assert_eq!(answer["statusCode"], 500, "{answer}");
        let said = answer["body"].as_str().unwrap();
        assert!(
            said.contains("this program has no compiler: run `wafer deploy`"),
            "{said}"
        );
    }
    // Views without functions are answered all the same.
    let answer = lambda.ok(request_v2("POST", "/v1/views/account/features", &body));
    assert_eq!(answer["statusCode"], 200, "{answer}");
}

/// Endpoints: what they log is written between two invocations, and shadows are asked then.
#[test]
fn endpoints_answer_and_log_and_pipelines_predict() {
    if is_elsewhere() {
        return;
    }
    let scores = r#"
[sources.due]
type = "files"
path = "due.csv"

[groups.scores]
entity = "account"
event_time = "due_at"

[pipelines.scores]
source = "due"
model = "line"
group = "scores"

"#;
    let project = accounts(&format!("{scores}{PUSHED}"));
    let due = "key_a,key_b,due_at\nk001,1,2020-01-02T00:00:00Z\nk002,1,2020-01-02T00:00:00Z\n";
    let url = project.write_object("due.csv", due);
    project.replace("path = \"due.csv\"", &format!("path = \"{url}\""));
    project.ok(&["apply"]);
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
    let lambda = Lambda::start(&project, &[]);
    let body = request(&["k001", "nobody"]).to_string();
    for _ in 0..3 {
        let answer = lambda.ok(request_v2("POST", "/v2/models/line/infer", &body));
        assert_eq!(answer["statusCode"], 200, "{answer}");
        let answer: Json = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
        assert_eq!(answer["outputs"][0]["data"], json!([1.0, 1.0]));
    }
    let task = |name: &str, more: Json| lambda.ok(json!({"wafer": {name: more}}));
    let run = task("plan", json!({"pipeline": "scores"}))["run"].clone();
    task("partition", json!({"run": run, "partition": 0}));
    task("commit", json!({"run": run}));
    task("online", json!({"run": run, "partition": 0}));
    let done = task("finish", json!({"run": run}));
    assert_eq!(done["ran"]["rows_written"], 2, "{done}");
    drop(lambda);
    let report = project.json(&["skew", "line"]);
    assert_eq!(
        (&report["rows"], &report["mismatches"]),
        (&json!(12), &json!(0)),
        "{report}"
    );
    let predictions = project.offline("scores_v1");
    assert_eq!(predictions.len(), 2);
    assert!(
        predictions[0].contains("\"prediction\":2.0"),
        "{predictions:?}"
    );
}

/// A program that is warm takes up a switch; errors and binary tensors go through Lambda's
/// own format.
#[test]
fn a_function_that_is_warm_takes_up_a_switch() {
    if is_elsewhere() {
        return;
    }
    let project = accounts(PUSHED);
    released(&project, 2);
    let route = |routes: &[&str]| {
        let fixed = ["endpoints", "set", "line"];
        project.ok(&[&fixed[..], routes, &["--log", "0"]].concat());
    };
    route(&["r1"]);
    let lambda = Lambda::start(&project, &[]);
    let infer = |request: &Json| {
        let path = "/v2/models/line/infer";
        let answer = lambda.ok(request_v2("POST", path, &request.to_string()));
        assert_eq!(answer["statusCode"], 200, "{answer}");
        answer
    };
    let data = |keys: &[&str]| -> Json {
        let answer = infer(&request(keys));
        let answer: Json = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
        answer["outputs"][0]["data"].clone()
    };
    assert_eq!(data(&["k001"]), json!([1.0]));
    let mut binary = request(&["k001"]);
    binary["parameters"] = json!({"binary_data_output": true});
    let answer = infer(&binary);
    assert_eq!(answer["isBase64Encoded"], true, "{answer}");
    let body = BASE64.decode(answer["body"].as_str().unwrap()).unwrap();
    let header = answer["headers"]["inference-header-content-length"].as_str();
    let header: usize = header.unwrap().parse().unwrap();
    assert_eq!(body[header..], 1.0f64.to_le_bytes());
    let answer = lambda.ok(request_v2("POST", "/v2/models/lien/infer", "{}"));
    assert_eq!(answer["statusCode"], 400, "{answer}");
    let answer = lambda.ok(request_v2("GET", "/v2/models/lien", ""));
    assert_eq!(answer["statusCode"], 404, "{answer}");
    assert!(answer["body"].as_str().unwrap().starts_with("{\"error\":"));
    let takes_up = |wanted: Json| {
        (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            data(&["k001"]) == wanted
        })
    };
    route(&["r2"]);
    assert!(takes_up(json!([2.0])));
    project.ok(&["endpoints", "rollback", "line"]);
    assert!(takes_up(json!([1.0])));
    route(&["r1=50", "r2=50", "--key", "key_a"]);
    let keys: Vec<String> = (0..40).map(|n| format!("k{n:03}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let both = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        let data = data(&keys);
        let data = data.as_array().unwrap();
        data.contains(&json!(1.0)) && data.contains(&json!(2.0))
    });
    assert!(both);
    assert_eq!(data(&keys), data(&keys));
}

/// A run that is divided among invocations, as a state machine asks for it: repeated,
/// out of order, and interrupted.
#[test]
fn runs_are_divided_among_invocations() {
    if is_elsewhere() {
        return;
    }
    let divided = ledger("");
    let whole = ledger("");
    let entries = |file: i64, salt: i64| -> String {
        let rows = (0..50).map(|n| {
            let time = format!("2020-01-{:02}T{:02}:00:00Z", n % 28 + 1, file);
            let key = format!("k{}", n % 7);
            format!("{}\n", entry(&key, &time, n + salt, n as f64, "x"))
        });
        rows.chain(["{oops\n".to_owned()]).collect()
    };
    for project in [&divided, &whole] {
        for file in 0..5 {
            let url = project.write_object(&format!("in/{file}.ndjson"), &entries(file, 0));
            if file == 0 {
                let pattern = url.replace("0.ndjson", "*.ndjson");
                project.replace(
                    "path = \"entries.ndjson\"",
                    &format!("path = \"{pattern}\""),
                );
            }
        }
        project.ok(&["apply"]);
    }
    let lambda = Lambda::start(&divided, &[]);
    let task = |name: &str, more: Json| lambda.ok(json!({"wafer": {name: more}}));
    let fails = |name: &str, more: Json| {
        let (kind, answer) = lambda.invoke(json!({"wafer": {name: more}}));
        assert_eq!(kind, "error", "{answer}");
        let text = |field: &str| answer[field].as_str().unwrap().to_owned();
        (text("errorType"), text("errorMessage"))
    };
    let plan = |pipeline: &str| {
        task(
            "plan",
            json!({"pipeline": pipeline, "partition_bytes": 1, "execution": "e"}),
        )
    };
    for pipeline in ["sums", "last_entry"] {
        let planned = plan(pipeline);
        assert_eq!(planned["partitions"], json!([0, 1, 2, 3, 4]));
        let run = &planned["run"];
        assert_eq!(plan(pipeline), planned, "asked once more");
        // Nobody else runs it meanwhile.
        let (kind, said) = fails("plan", json!({"pipeline": pipeline}));
        assert_eq!(kind, "Wafer.Conflict");
        assert!(said.contains("is being run by distributed run"), "{said}");
        let said = divided.fails(&["run", pipeline]);
        assert!(said.contains("is being run by distributed run"), "{said}");
        // In any order, some twice, and not before all are there.
        for partition in [4, 2, 0, 2, 1] {
            task("partition", json!({"run": run, "partition": partition}));
        }
        let (kind, said) = fails("commit", json!({"run": run}));
        assert_eq!(kind, "Wafer.Conflict");
        assert!(said.contains("4 of 5 partitions"), "{said}");
        task("partition", json!({"run": run, "partition": 3}));
        for _ in 0..2 {
            let committed = task("commit", json!({"run": run}));
            assert_eq!(committed["partitions"], json!([0, 1, 2, 3, 4]));
        }
        for partition in [3, 3, 0, 1, 4, 2, 0] {
            task("online", json!({"run": run, "partition": partition}));
        }
        let done = task("finish", json!({"run": run}));
        assert_eq!(done["ran"]["state"], "succeeded", "{done}");
        assert_eq!(task("finish", json!({"run": run})), done, "asked once more");
        let (kind, _) = fails("commit", json!({"run": run}));
        assert_eq!(kind, "Wafer.Conflict", "it is over");
        let one = whole.json(&["run", pipeline]);
        for count in ["rows_read", "rows_written", "rows_rejected", "generation"] {
            assert_eq!(done["ran"][count], one[count], "{count}");
        }
        let said = divided.ok(&["run", pipeline]);
        assert!(said.contains("nothing changed"), "{said}");
        assert_eq!(plan(pipeline), json!({"run": null, "partitions": []}));
    }
    let vectors = |project: &Project| -> Vec<Json> {
        let vector = |n: i64| {
            let key = format!("key_a=k{n}");
            let clock = ["--clock", "2020-01-30T00:00:00Z,0"];
            project.json(&[&["get", "account", &key, "key_b=1"], &clock[..]].concat())
        };
        (0..7).map(|n| vector(n)["features"].clone()).collect()
    };
    let same = |what: &str| {
        assert_eq!(
            divided.offline("sums_v1"),
            whole.offline("sums_v1"),
            "{what}"
        );
        assert_eq!(vectors(&divided), vectors(&whole), "{what}");
    };
    same("at first");
    // Other content: what the interval had is replaced. The run fails, and is taken up.
    for project in [&divided, &whole] {
        project.write_object("in/2.ndjson", &entries(2, 1_000));
    }
    let run = plan("sums")["run"].clone();
    task("partition", json!({"run": run, "partition": 1}));
    let cause = r#"{"errorMessage": "the sky fell"}"#;
    task(
        "fail",
        json!({"run": run, "error": {"Error": "x", "Cause": cause}}),
    );
    let runs = divided.json(&["runs"]);
    assert_eq!(runs[0]["error"], "the sky fell", "{}", runs[0]);
    let planned = plan("sums");
    assert_eq!(planned["run"], run, "what was done of it stays done");
    for partition in 0..5 {
        task("partition", json!({"run": run, "partition": partition}));
    }
    // It had other rows before: everything goes online at once.
    assert_eq!(task("commit", json!({"run": run}))["partitions"], json!([]));
    task("finish", json!({"run": run}));
    whole.ok(&["run", "sums"]);
    same("after a change");
    // Definitions that change while a run is under way stop it.
    divided.write_object("in/3.ndjson", &entries(3, 9));
    let run = plan("last_entry")["run"].clone();
    divided.replace("[groups.last_entry]", "[groups.last_entry]\nexpectations = [{ column = \"small\", not_null = true, policy = \"warn\" }]");
    divided.ok(&["apply"]);
    std::thread::sleep(Duration::from_millis(1_100));
    let (kind, said) = fails("partition", json!({"run": run, "partition": 0}));
    assert_eq!(kind, "Wafer.Conflict");
    assert!(
        said.contains("definitions of pipeline `last_entry` changed"),
        "{said}"
    );
}
