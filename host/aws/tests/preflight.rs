//! Checks of a deployment, with a server in front of the local S3 that answers as Lambda and SQS
//! do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value as Json, json};
use wafer_aws::{Deployment, EventSources, Step};
use wafer_core::SystemClock;

use crate::local::{account, folder, has};
use crate::proxy::{Call, Fate, Proxy};

/// What Lambda and SQS answer.
struct Services {
    concurrency: u64,
    /// Pages of the mappings of the function, or `None` if there is no function.
    mappings: Option<Vec<Json>>,
    /// The attributes of the queue `clicks`. There is no other.
    attributes: Json,
}

impl Services {
    fn fate(&self, call: &Call) -> Fate {
        let (path, query) = call
            .target
            .split_once('?')
            .unwrap_or((call.target.as_str(), ""));
        match (path, &self.mappings) {
            ("/2016-08-19/account-settings", _) => Fate::Answered(json!({
                "AccountLimit": {
                    "ConcurrentExecutions": self.concurrency, "TotalCodeSize": 80_530_636_800_u64,
                    "UnreservedConcurrentExecutions": self.concurrency,
                },
                "AccountUsage": {"FunctionCount": 3, "TotalCodeSize": 1},
            })),
            ("/2015-03-31/functions/wafer-p-events/configuration", None) => {
                Fate::Refused(404, "ResourceNotFoundException")
            }
            ("/2015-03-31/functions/wafer-p-events/configuration", Some(_)) => {
                Fate::Answered(json!({"FunctionName": "wafer-p-events", "Timeout": 60}))
            }
            ("/2015-03-31/event-source-mappings", Some(pages)) => page(pages, query),
            ("/", _) if call.action == "GetQueueAttributes" => self.queue(call.body()),
            _ => Fate::Forwarded,
        }
    }

    fn queue(&self, body: &[u8]) -> Fate {
        let asked: Json = serde_json::from_slice(body).unwrap();
        let url = asked["QueueUrl"].as_str().unwrap();
        match url.ends_with("/000000000000/clicks") {
            true => Fate::Answered(json!({"Attributes": self.attributes})),
            false => Fate::Refused(400, "QueueDoesNotExist"),
        }
    }
}

/// Returns the page of the mappings of `wafer-p-events` that a query asks for.
fn page(pages: &[Json], query: &str) -> Fate {
    let marker = |number: usize| format!("page/{number}=");
    let asked = (0..pages.len()).find(|&number| match number {
        0 => query == "FunctionName=wafer-p-events",
        _ => query == format!("FunctionName=wafer-p-events&Marker=page%2F{number}%3D"),
    });
    let Some(number) = asked else {
        return Fate::Refused(400, "InvalidParameterValueException");
    };
    let next = (number + 1 < pages.len()).then(|| marker(number + 1));
    Fate::Answered(json!({"EventSourceMappings": pages[number], "NextMarker": next}))
}

fn of_queue(name: &str) -> Json {
    json!({
        "UUID": "00000000-0000-0000-0000-000000000001", "BatchSize": 100,
        "EventSourceArn": format!("arn:aws:sqs:us-east-1:000000000000:{name}"),
        "State": "Enabled", "StateTransitionReason": "USER_INITIATED", "LastModified": 1_700_000_000.5,
        "FunctionResponseTypes": ["ReportBatchItemFailures"], "ScalingConfig": {"MaximumConcurrency": 5},
    })
}

fn of_stream(destination: &str) -> Json {
    json!({
        "UUID": "00000000-0000-0000-0000-000000000002", "BatchSize": 100, "ParallelizationFactor": 1,
        "EventSourceArn": "arn:aws:kinesis:us-east-1:000000000000:stream/visits",
        "State": "Enabled", "StateTransitionReason": "User action", "LastProcessingResult": "OK",
        "FunctionResponseTypes": ["ReportBatchItemFailures"], "MaximumRecordAgeInSeconds": 43_200,
        "DestinationConfig": {"OnFailure": {"Destination": destination}},
    })
}

fn attributes(visibility_timeout: &str) -> Json {
    json!({
        "VisibilityTimeout": visibility_timeout,
        "RedrivePolicy": r#"{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:dead","maxReceiveCount":5}"#,
    })
}

type Checks = BTreeMap<String, Result<String, String>>;

/// How long a check may take if all of them are answered.
const LONG: Duration = Duration::from_secs(60);

/// Where the events of both sources of project `p` come from.
const EVENT_SOURCES: &str = "arn:aws:sqs:us-east-1:000000000000:clicks=clicks;\
                             arn:aws:kinesis:us-east-1:000000000000:stream/visits=visits";

/// The state machine that divides the runs of project `p`.
const MACHINE: &str = "arn:aws:states:us-east-1:000000000000:stateMachine:wafer-p-batch";

/// Checks the deployment of project `p`, which has two sources of events, and of which nobody says
/// whether it has a state machine. Also returns for which service each call was signed.
async fn checked(
    limit: Duration,
    fate: impl Fn(&Call) -> Fate + Send + Sync + 'static,
) -> (Checks, Vec<String>) {
    checked_with_machine(None, limit, fate).await
}

async fn checked_with_machine(
    state_machine: Option<&str>,
    limit: Duration,
    fate: impl Fn(&Call) -> Fate + Send + Sync + 'static,
) -> (Checks, Vec<String>) {
    let signed = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&signed);
    let s3 = std::env::var("AWS_ENDPOINT_URL_S3").unwrap();
    let proxy = Proxy::new(&s3, move |call| {
        let authorization = call
            .headers
            .iter()
            .find(|(name, _)| name == "authorization");
        let authorization = authorization.map(|(_, value)| value.clone());
        seen.lock().unwrap().push(authorization.unwrap_or_default());
        fate(call)
    });
    let objects = folder();
    let event_sources = EventSources::parse(EVENT_SOURCES).unwrap();
    let deployment = Deployment {
        project: "p",
        streams: &["clicks", "visits"],
        event_sources: Some(&event_sources),
        state_machine,
        objects: &objects,
        limit,
    };
    let account = account().await.with_endpoint(&proxy.url);
    let mut ended = Vec::new();
    let mut tell = |step: Step<'_>| {
        if let Step::Ended(check) = step {
            ended.push(check.clone());
        }
    };
    let clock = SystemClock::new();
    let checks = deployment.check(&account, &clock, &mut tell).await;
    assert_eq!(checks, ended, "each check is told of as it ends");
    let checks = checks.into_iter().map(|check| (check.what, check.result));
    let signed = std::mem::take(&mut *signed.lock().unwrap());
    (checks.collect(), signed)
}

async fn checked_with(services: Services) -> (Checks, Vec<String>) {
    checked(LONG, move |call| services.fate(call)).await
}

fn names(checks: &Checks) -> Vec<&str> {
    checks.keys().map(String::as_str).collect()
}

#[tokio::test]
async fn deployment_is_found_as_the_modules_make_it() {
    if !has("AWS_ENDPOINT_URL_S3") {
        return;
    }
    let (checks, signed) = checked_with(Services {
        concurrency: 50,
        mappings: Some(vec![
            json!([of_queue("clicks")]),
            json!([of_stream("arn:aws:s3:::b")]),
        ]),
        attributes: attributes("360"),
    })
    .await;
    let wanted = [
        "bucket",
        "clicks",
        "concurrency",
        "credentials",
        "source clicks",
        "source visits",
        "stream/visits",
        "wafer-p-events",
    ];
    assert_eq!(names(&checks), wanted);
    for (what, result) in &checks {
        assert!(result.is_ok(), "{what}: {result:?}");
    }
    // 5 of the queue, 1 of the stream, 2 flushes and a schedule.
    let found = checks["concurrency"].as_ref().unwrap();
    assert!(found.contains("41 are left"), "{found}");
    for service in ["lambda", "sqs", "s3"] {
        let scope = format!("/us-east-1/{service}/aws4_request");
        assert!(signed.iter().any(|by| by.contains(&scope)), "{signed:?}");
    }
}

#[tokio::test]
async fn faults_of_a_deployment_are_reported_by_name() {
    if !has("AWS_ENDPOINT_URL_S3") {
        return;
    }
    let stream = of_stream("arn:aws:sqs:us-east-1:000000000000:dead");
    let (checks, _) = checked_with(Services {
        concurrency: 10,
        mappings: Some(vec![json!([of_queue("clicks"), of_queue("gone"), stream])]),
        attributes: attributes("30"),
    })
    .await;
    for (what, wanted) in [
        ("clicks", "set its visibility timeout to 360 seconds"),
        ("gone", "sqs:GetQueueAttributes of gone: there is none"),
        ("stream/visits", "make a bucket its destination on failure"),
        ("concurrency", "--quota-code L-B99A9384"),
    ] {
        let said = checks[what].as_ref().unwrap_err();
        assert!(said.contains(wanted), "{what}: {said}");
    }
}

#[tokio::test]
async fn deployment_can_be_checked_before_it_is_made() {
    if !has("AWS_ENDPOINT_URL_S3") {
        return;
    }
    for (concurrency, enough) in [(7, false), (10, true)] {
        let (checks, _) = checked_with(Services {
            concurrency,
            mappings: None,
            attributes: Json::Null,
        })
        .await;
        let wanted = ["bucket", "concurrency", "credentials", "wafer-p-events"];
        assert_eq!(names(&checks), wanted);
        let function = checks["wafer-p-events"].as_ref().unwrap();
        assert!(function.contains("is not there yet"), "{function}");
        // Two sources with a queue each take 2, flushes 2 and a schedule 1.
        assert_eq!(checks["concurrency"].is_ok(), enough, "{checks:?}");
    }
}

/// Returns what Step Functions says of a state machine that works on so many partitions at a time.
fn machine(concurrency: u64) -> Json {
    let partitions = json!({"Type": "Map", "MaxConcurrency": concurrency});
    let definition = json!({"StartAt": "Partitions", "States": {"Partitions": partitions}});
    json!({
        "stateMachineArn": MACHINE, "name": "wafer-p-batch", "status": "ACTIVE", "type": "STANDARD",
        "definition": definition.to_string(), "creationDate": 1_700_000_000.5,
        "roleArn": "arn:aws:iam::000000000000:role/wafer-p-batch",
    })
}

#[tokio::test]
async fn divided_run_that_leaves_no_concurrency_to_requests_is_found() {
    if !has("AWS_ENDPOINT_URL_S3") {
        return;
    }
    // 10 invocations, of which the queue takes 5, flushes 2 and a schedule 1.
    for (answer, machine_says, concurrency_says) in [
        (
            Fate::Answered(machine(1)),
            Ok("takes 1 invocations at a time"),
            Ok("2 are left to requests, of which a divided run takes 1 at most"),
        ),
        (
            Fate::Answered(machine(2)),
            Ok("takes 2 invocations at a time"),
            Err("a divided run, which takes 2 of them, leaves none to requests"),
        ),
        (
            Fate::Refused(400, "AccessDeniedException"),
            Err("\"states:DescribeStateMachine\", \"Resource\": \"arn:aws:states:"),
            Ok("2 are left to requests and divided runs"),
        ),
    ] {
        let services = Services {
            concurrency: 10,
            mappings: Some(vec![json!([of_queue("clicks")])]),
            attributes: attributes("360"),
        };
        let fate = move |call: &Call| match call.action.as_str() {
            "DescribeStateMachine" => answer.clone(),
            _ => services.fate(call),
        };
        let (checks, _) = checked_with_machine(Some(MACHINE), LONG, fate).await;
        for (what, wanted) in [
            ("stateMachine:wafer-p-batch", machine_says),
            ("concurrency", concurrency_says),
        ] {
            match (&checks[what], wanted) {
                (Ok(said), Ok(wanted)) | (Err(said), Err(wanted)) => {
                    assert!(said.contains(wanted), "{what}: {said}");
                }
                (said, wanted) => panic!("{what}: {said:?}, wanted {wanted:?}"),
            }
        }
    }
}

#[tokio::test]
async fn missing_permission_is_named_and_hides_nothing_else() {
    if !has("AWS_ENDPOINT_URL_S3") {
        return;
    }
    let services = Services {
        concurrency: 1_000,
        mappings: Some(Vec::new()),
        attributes: Json::Null,
    };
    let (checks, _) = checked(LONG, move |call| {
        match call.target.contains("/functions/") {
            true => Fate::Refused(403, "AccessDeniedException"),
            false => services.fate(call),
        }
    })
    .await;
    let said = checks["wafer-p-events"].as_ref().unwrap_err();
    assert!(said.contains("lambda:GetFunctionConfiguration"), "{said}");
    for what in ["bucket", "concurrency"] {
        assert!(checks[what].is_ok(), "{checks:?}");
    }
}

#[tokio::test]
async fn source_whose_mapping_is_gone_is_found_and_mappings_beyond_the_first_are_named() {
    if !has("AWS_ENDPOINT_URL_S3") {
        return;
    }
    let mut pages = vec![json!([of_queue("clicks")])];
    pages.resize(11, json!([]));
    let (checks, _) = checked_with(Services {
        concurrency: 1_000,
        mappings: Some(pages),
        attributes: attributes("360"),
    })
    .await;
    assert!(checks["source clicks"].is_ok(), "{checks:?}");
    for (what, wanted) in [
        ("source visits", "stream/visits: `terraform apply`"),
        ("wafer-p-events", "has more mappings than the first 1,"),
    ] {
        let said = checks[what].as_ref().unwrap_err();
        assert!(said.contains(wanted), "{what}: {said}");
    }
}

/// Whatever does not answer is named, asked once, and holds up nothing else.
#[tokio::test]
async fn services_that_give_no_answer_are_named() {
    if !has("AWS_ENDPOINT_URL_S3") {
        return;
    }
    let services = Services {
        concurrency: 1_000,
        mappings: Some(vec![json!([of_queue("clicks"), of_queue("others")])]),
        attributes: Json::Null,
    };
    let limit = Duration::from_secs(5);
    let (checks, _) = checked(limit, move |call| match services.fate(call) {
        // S3.
        Fate::Forwarded => Fate::Silent,
        _ if call.action == "GetQueueAttributes" => Fate::Silent,
        fate => fate,
    })
    .await;
    for (what, wanted) in [
        ("bucket", "S3 gave no answer within 5 seconds"),
        ("clicks", "SQS gave no answer within 5 seconds"),
        ("others", "was not looked at, because SQS gave no answer"),
    ] {
        let said = checks[what].as_ref().unwrap_err();
        assert!(said.contains(wanted), "{what}: {said}");
    }
}

#[tokio::test]
async fn web_pages_in_the_place_of_answers_are_called_so() {
    if !has("AWS_ENDPOINT_URL_S3") {
        return;
    }
    let (checks, _) = checked(LONG, |_| Fate::Page).await;
    for what in ["bucket", "concurrency", "wafer-p-events"] {
        let said = checks[what].as_ref().unwrap_err();
        assert!(
            said.contains("the answer is a page of HTML and not one of the service (status 200"),
            "{said}"
        );
    }
}
