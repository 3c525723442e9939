//! The Lambda function, which gets events in the form that AWS sends them, from a Runtime API on
//! this machine. It runs on the stores on AWS only.
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
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value as Json, json};

use super::{BINARY, Project};

/// Returns the program that Lambda starts: the one beside `wafer`, or one that was packaged.
pub(crate) fn bootstrap() -> PathBuf {
    if let Some(packaged) = std::env::var_os("WAFER_TEST_BOOTSTRAP") {
        return packaged.into();
    }
    let path = Path::new(BINARY).with_file_name("bootstrap");
    assert!(path.is_file(), "build the whole workspace first");
    path
}

/// Returns the memory of the function in MiB. A machine that takes the program's place has as much.
fn memory() -> String {
    std::env::var("WAFER_TEST_MEMORY").unwrap_or_else(|_| "512".to_owned())
}

/// A function with its Runtime API. It is killed when this is dropped.
pub(crate) struct Lambda {
    pub(crate) child: Child,
    events: Sender<Json>,
    answers: Receiver<(String, Json)>,
    /// The lines that the function has written to its standard output by now.
    lines: Arc<Mutex<Vec<String>>>,
}

impl Drop for Lambda {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Lambda {
    /// Starts the function of a project, with more environment variables.
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
        let mut child = Command::new(bootstrap())
            .env("AWS_LAMBDA_RUNTIME_API", address)
            .env("AWS_LAMBDA_FUNCTION_NAME", "wafer")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", memory())
            .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "log")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", "log")
            .env("WAFER_PROJECT", "ledger")
            .env("WAFER_STORE_ONLINE", online)
            .env("WAFER_STORE_OBJECTS", objects)
            .env("WAFER_COPIES", project.path().join("copies"))
            .envs(more.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let written = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                written.lock().unwrap().push(line);
            }
        });
        Self {
            child,
            events,
            answers,
            lines,
        }
    }

    /// Returns the ages of the outbox, in seconds, that the function has told CloudWatch by now.
    pub(crate) fn outbox_ages(&self) -> Vec<f64> {
        let lines = self.lines.lock().unwrap();
        let documents = lines.iter().filter_map(|line| {
            let document: Json = serde_json::from_str(line).ok()?;
            document.get("_aws")?;
            Some(document)
        });
        let ages = documents.map(|document| document["OutboxAge"].as_f64().unwrap());
        ages.collect()
    }

    /// Returns whether the function has logged a line with this text by now.
    pub(crate) fn has_logged(&self, text: &str) -> bool {
        let lines = self.lines.lock().unwrap();
        lines.iter().any(|line| line.contains(text))
    }

    /// Invokes the function, and returns the kind of the answer, `response` or `error`, and the
    /// answer.
    pub(crate) fn invoke(&self, event: Json) -> (String, Json) {
        self.events.send(event).unwrap();
        self.answer()
    }

    /// Waits for an answer. An emulated machine that takes the program's place starts in half a
    /// minute, and takes longer where other programs need the processors.
    fn answer(&self) -> (String, Json) {
        self.answers.recv_timeout(Duration::from_secs(300)).unwrap()
    }

    /// Invokes the function, which must succeed, and returns the answer.
    pub(crate) fn ok(&self, event: Json) -> Json {
        let (kind, answer) = self.invoke(event);
        assert_eq!(kind, "response", "{answer}");
        answer
    }

    /// Ends the environment, as Lambda does when it does not need it any longer, and waits for the
    /// end of the program.
    pub(crate) fn end(mut self) {
        self.signal(Signal::TERM);
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
    }

    /// Lets the environment know of its end, without waiting for the end of the program.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Returns whether the function has written a text to its standard output.
    pub(crate) fn has_said(&self, text: &str) -> bool {
        let lines = self.lines.lock().unwrap();
        lines.iter().any(|line| line.contains(text))
    }

    /// Stops the process, as Lambda freezes an environment between two invocations.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets the process go on.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Invokes the function with a task, such as a part of a run. It must succeed.
    pub(crate) fn task(&self, name: &str, task: Json) -> Json {
        self.ok(json!({"wafer": {name: task}}))
    }
}

/// Serves one connection of the Runtime API.
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
        let answer = if target.ends_with("/extension/register") {
            assert_eq!(body, br#"{"events":[]}"#);
            "HTTP/1.1 200 OK\r\nLambda-Extension-Identifier: 1\r\nContent-Length: 2\r\n\r\n{}"
                .to_owned()
        } else if target.ends_with("/extension/event/next") {
            // There never is one.
            loop {
                std::thread::park();
            }
        } else if target.ends_with("/invocation/next") {
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

/// Reads the body of a request, which may be chunked.
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

/// Returns a request in the form of function URLs and of the HTTP APIs of API Gateway.
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

/// Returns a request in the form of the REST APIs of API Gateway.
pub(crate) fn request_v1(method: &str, path: &str, body: &str) -> Json {
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

/// Returns a request with its body in Base64, in which bodies come that are not known to be text.
pub(crate) fn encoded(mut request: Json) -> Json {
    let body = STANDARD.encode(request["body"].as_str().unwrap());
    request["body"] = body.into();
    request["isBase64Encoded"] = true.into();
    request
}

/// The ARN of the queue that messages of [`message`] come from.
pub(crate) const QUEUE: &str = "arn:aws:sqs:us-east-1:000000000000:entries";

/// Returns a message of the queue.
pub(crate) fn message(id: &str, body: &str) -> Json {
    json!({
        "messageId": id, "receiptHandle": "r", "body": body, "attributes": {"ApproximateReceiveCount": "1"},
        "messageAttributes": {}, "md5OfBody": "x", "eventSource": "aws:sqs", "eventSourceARN": QUEUE,
        "awsRegion": "us-east-1",
    })
}

/// The ARN of the stream of Kinesis that records of [`of_kinesis`] come from.
pub(crate) const STREAM: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/entries";

/// Returns a record of Kinesis with this data, which it has in Base64.
pub(crate) fn of_kinesis(number: i64, data: &str) -> Json {
    json!({
        "kinesis": {
            "kinesisSchemaVersion": "1.0", "partitionKey": "p", "sequenceNumber": number.to_string(),
            "data": data, "approximateArrivalTimestamp": 1_545_084_650.987,
        },
        "eventSource": "aws:kinesis", "eventVersion": "1.0", "eventID": format!("shardId-000000000000:{number}"),
        "eventName": "aws:kinesis:record", "invokeIdentityArn": "arn:aws:iam::0:role/r",
        "awsRegion": "us-east-1", "eventSourceARN": STREAM,
    })
}

/// The ARN of the stream of DynamoDB that records of [`of_dynamodb`] come from.
pub(crate) const CHANGES: &str =
    "arn:aws:dynamodb:us-east-1:000000000000:table/entries/stream/2024";

/// Returns a record of DynamoDB Streams: a row with the fields of an event was inserted.
pub(crate) fn of_dynamodb(number: i64, event: &str) -> Json {
    let event: Json = serde_json::from_str(event).unwrap();
    let fields = event.as_object().unwrap().iter();
    let typed = fields.map(|(name, value)| match value {
        Json::Number(number) => (name.clone(), json!({"N": number.to_string()})),
        Json::String(text) => (name.clone(), json!({"S": text})),
        Json::Null => (name.clone(), json!({"NULL": true})),
        other => panic!("no value of an event is {other}"),
    });
    let row: serde_json::Map<String, Json> = typed.collect();
    json!({
        "eventID": number.to_string(), "eventName": "INSERT", "eventVersion": "1.1", "eventSource": "aws:dynamodb",
        "awsRegion": "us-east-1", "eventSourceARN": CHANGES,
        "dynamodb": {
            "Keys": {"key_a": row["key_a"]}, "NewImage": row, "SequenceNumber": format!("{number}11"),
            "SizeBytes": 26, "StreamViewType": "NEW_AND_OLD_IMAGES",
        },
    })
}

/// Returns the number of entries that the group `sums` has of a key, by a request for features.
pub(crate) fn count(lambda: &Lambda, key: &str) -> Json {
    let body = json!({"rows": [{"key_a": key, "key_b": 1}]}).to_string();
    let answer = lambda.ok(request_v2("POST", "/v1/views/account/features", &body));
    assert_eq!(answer["statusCode"], 200, "{answer}");
    let answer: Json = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
    answer["rows"][0]["features"]["sums_count_lifetime"].clone()
}
