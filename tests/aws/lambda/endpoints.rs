//! Endpoints that the Lambda function serves.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value as Json, json};

use crate::harness::accounts::{
    PUSHED, SCORES, accounts, push_and_release, request, route_and_log,
};
use crate::harness::lambda::{Lambda, request_v2};
use crate::harness::relay::{Faults, Relay};
use crate::harness::request_log::logged_rows;
use crate::harness::{Project, are_on_aws, endpoint, wait_for};

/// The request log is written between two invocations, and shadow releases are asked then as well.
#[test]
fn endpoints_answer_and_log_requests_and_pipelines_predict() {
    if !are_on_aws() {
        return;
    }
    let project = accounts(&format!("{SCORES}{PUSHED}"));
    let due = "key_a,key_b,due_at\nk001,1,2020-01-02T00:00:00Z\nk002,1,2020-01-02T00:00:00Z\n";
    let url = project.write_object("due.csv", due);
    project.replace("path = \"due.csv\"", &format!("path = \"{url}\""));
    project.ok(&["apply"]);
    push_and_release(&project, 2);
    route_and_log(&project, &["r1", "--shadow", "r2"]);
    let lambda = Lambda::start(&project, &[]);
    let body = request(&["k001", "nobody"]).to_string();
    for _ in 0..3 {
        let answer = lambda.ok(request_v2("POST", "/v2/models/line/infer", &body));
        assert_eq!(answer["statusCode"], 200, "{answer}");
        let answer: Json = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
        assert_eq!(answer["outputs"][0]["data"], json!([1.0, 1.0]));
    }
    let task = |name: &str, more: Json| lambda.task(name, more);
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

/// Makes a project whose endpoint logs all requests, and has a function answer three of them, with
/// three logged rows each.
fn three_requests(log_within: &str) -> (Project, Lambda) {
    three_requests_with(log_within, &[])
}

/// The same, with more environment variables of the function.
fn three_requests_with(log_within: &str, variables: &[(&str, &str)]) -> (Project, Lambda) {
    let project = accounts(PUSHED);
    push_and_release(&project, 2);
    let fixed = ["endpoints", "set", "line", "r1", "--shadow", "r2"];
    let logged = ["--log", "100", "--log-within", log_within];
    project.ok(&[&fixed[..], &logged].concat());
    let lambda = Lambda::start(&project, variables);
    for number in 0..3 {
        let body = request(&[&format!("k{number:03}"), "nobody", "k200"]).to_string();
        let answer = lambda.ok(request_v2("POST", "/v2/models/line/infer", &body));
        assert_eq!(answer["statusCode"], 200, "{answer}");
    }
    (project, lambda)
}

/// Returns the number of commits in the outbox, of which each was an object on S3.
fn commits(project: &Project) -> usize {
    project.keys("project/outbox/").len()
}

/// The rows of several requests wait in an environment, and are written as one commit when it ends.
#[test]
fn logged_rows_wait_for_each_other_and_are_written_when_the_environment_ends() {
    if !are_on_aws() {
        return;
    }
    let (project, lambda) = three_requests("1h");
    assert_eq!(commits(&project), 0);
    lambda.end();
    assert_eq!(commits(&project), 1);
    // Each row of each request is there once, and once by the shadow, with the time of the request.
    let report = project.json(&["skew", "line"]);
    assert_eq!(
        (&report["rows"], &report["mismatches"]),
        (&json!(18), &json!(0)),
        "{report}"
    );
    let rows = logged_rows(&project);
    let requests = |name: &str| {
        let values: BTreeSet<&str> = rows.iter().filter_map(|row| row[name].as_str()).collect();
        values.len()
    };
    assert_eq!((rows.len(), requests("log_request")), (18, 3));
    assert_eq!(requests("event_timestamp"), 3);
}

/// Lambda kills the program soon after it has let it know, so it must say in time what is lost.
#[test]
fn an_environment_that_ends_says_how_many_logged_rows_are_left_if_s3_is_gone() {
    if !are_on_aws() {
        return;
    }
    let s3 = Relay::new(&endpoint("S3"), Faults::default());
    let (project, lambda) = three_requests_with("1h", &[("AWS_ENDPOINT_URL_S3", &s3.url)]);
    drop(s3);
    lambda.terminate();
    wait_for("the number of rows", || {
        lambda.has_said("have not confirmed 18 rows of the request log")
    });
    drop(lambda);
    assert_eq!(commits(&project), 0);
}

/// An environment that is killed loses the rows that wait, and nothing else.
#[test]
fn rows_that_wait_are_lost_with_an_environment_that_is_killed() {
    if !are_on_aws() {
        return;
    }
    let (project, lambda) = three_requests("1h");
    drop(lambda);
    assert_eq!(commits(&project), 0);
    let (project, lambda) = three_requests("0s");
    // The rows of a request are written before the next one is answered. Those of the last one may
    // not be written yet.
    drop(lambda);
    assert!(
        (2..=3).contains(&commits(&project)),
        "{}",
        commits(&project)
    );
}

/// A running function applies a switch of an endpoint. Errors and binary tensors pass through the
/// format of Lambda.
#[test]
fn a_running_function_applies_a_switch_of_an_endpoint() {
    if !are_on_aws() {
        return;
    }
    let project = accounts(PUSHED);
    push_and_release(&project, 2);
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
