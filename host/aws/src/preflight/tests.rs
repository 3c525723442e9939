use serde_json::{Value as Json, json};

use super::*;

fn mapping(mapping: Json) -> Mapping {
    serde_json::from_value(mapping).unwrap()
}

fn of_queue() -> Json {
    json!({
        "EventSourceArn": "arn:aws:sqs:r:1:q", "State": "Enabled", "LastProcessingResult": "OK",
        "FunctionResponseTypes": ["ReportBatchItemFailures"], "ScalingConfig": {"MaximumConcurrency": 7},
    })
}

fn of_stream() -> Json {
    json!({
        "EventSourceArn": "arn:aws:kinesis:r:1:stream/s", "State": "Enabled", "ParallelizationFactor": 2,
        "FunctionResponseTypes": ["ReportBatchItemFailures"], "MaximumRecordAgeInSeconds": 43_200,
        "DestinationConfig": {"OnFailure": {"Destination": "arn:aws:s3:::b"}},
    })
}

/// Returns a mapping with another value of one field.
fn with(mut found: Json, field: &str, value: Json) -> Mapping {
    found[field] = value;
    mapping(found)
}

/// Checks that one fault is found, which says this, or none.
fn check(faults: &[String], wanted: Option<&str>) {
    match (faults, wanted) {
        ([], None) => {}
        ([fault], Some(wanted)) if fault.contains(wanted) => {}
        _ => panic!("{faults:?}, wanted {wanted:?}"),
    }
}

#[test]
fn account_needs_concurrency_beside_what_events_take() {
    let limit = |found: Json| -> AccountLimit { serde_json::from_value(found).unwrap() };
    let of = |all: u64, unreserved: u64| {
        limit(json!({"ConcurrentExecutions": all, "UnreservedConcurrentExecutions": unreserved}))
    };
    for (limit, events, run, wanted) in [
        (of(10, 10), 5, None, Ok("take 8 at most: 2 are left")),
        (
            of(10, 10),
            7,
            None,
            Err("has 10 invocations at a time in r"),
        ),
        (of(10, 10), 1_000, None, Err("may take 1003: a backlog")),
        // What other functions have reserved is not there for these.
        (
            of(1_000, 10),
            10,
            None,
            Err("--region r --service-code lambda --quota-code L-B99A9384"),
        ),
        (
            limit(json!({"ConcurrentExecutions": 50})),
            10,
            None,
            Ok("37 are left to requests and divided runs"),
        ),
        (
            of(10, 10),
            4,
            Some(2),
            Ok("3 are left to requests, of which a divided run takes 2"),
        ),
        (
            of(10, 10),
            4,
            Some(3),
            Err("a divided run, which takes 3 of them, leaves none"),
        ),
        (
            of(10, 10),
            4,
            Some(u64::MAX),
            Err("Until then set `concurrency` of the module `batch` below 3"),
        ),
        (of(10, 10), 7, Some(1), Err("a backlog leaves none")),
    ] {
        let taken = OtherInvocations {
            events,
            run,
            ..OtherInvocations::default()
        };
        match (check_concurrency(&limit, taken, "r"), wanted) {
            (Ok(found), Ok(wanted)) | (Err(found), Err(wanted)) => {
                assert!(found.contains(wanted), "{found}");
            }
            (found, wanted) => panic!("{found:?}, wanted {wanted:?}"),
        }
    }
}

#[test]
fn what_account_without_concurrency_is_told_to_do_is_possible() {
    let limit: AccountLimit = serde_json::from_value(json!({"ConcurrentExecutions": 10})).unwrap();
    let queue = |concurrency: u64| {
        let mut found = of_queue();
        found["ScalingConfig"]["MaximumConcurrency"] = json!(concurrency);
        found
    };
    for (mappings, run, wanted) in [
        (
            vec![queue(7)],
            None,
            "Until then set maximum_concurrency to 2",
        ),
        // Four queues take the least that AWS allows, or would if they were told to.
        (
            vec![queue(2); 4],
            None,
            "Until then have fewer queues and streams",
        ),
        (
            vec![queue(9); 4],
            None,
            "Until then have fewer queues and streams",
        ),
        (
            vec![of_stream(); 4],
            None,
            "Until then have fewer queues and streams",
        ),
        // One is left, which a run would take.
        (
            vec![queue(6)],
            Some(9),
            "Until then set maximum_concurrency to 2",
        ),
        (
            vec![of_stream(), of_stream(), queue(2)],
            Some(9),
            "Until then have fewer queues and streams",
        ),
        (
            vec![queue(2)],
            Some(9),
            "Until then set `concurrency` of the module `batch` below 5",
        ),
    ] {
        let taken = OtherInvocations {
            run,
            ..deployed(mappings, false).taken()
        };
        let said = check_concurrency(&limit, taken, "r").unwrap_err();
        assert!(said.contains(wanted), "{taken:?}: {said}");
    }
}

fn deployed(mappings: Vec<Json>, is_cut: bool) -> Deployed {
    Deployed {
        timeout: 60,
        mappings: Mappings {
            found: mappings.into_iter().map(mapping).collect(),
            is_cut,
        },
    }
}

/// A service may answer anything. What is not believable is compared all the same.
#[test]
fn largest_answers_are_compared_without_overflow() {
    let mut large = of_queue();
    large["ScalingConfig"] = json!({"MaximumConcurrency": u64::MAX});
    let taken = deployed(vec![large, of_queue(), of_stream()], false).taken();
    assert_eq!(taken.events, u64::MAX);
    let limit = json!({"ConcurrentExecutions": u64::MAX});
    let limit: AccountLimit = serde_json::from_value(limit).unwrap();
    let said = check_concurrency(&limit, taken, "r").unwrap_err();
    assert!(said.contains("a backlog leaves none"), "{said}");
    let settings = |visibility_timeout| QueueSettings {
        visibility_timeout,
        max_receive_count: Some(u64::MAX),
    };
    check(&faults_of_queue(&settings(u64::MAX), u64::MAX), None);
    let faults = faults_of_queue(&settings(u64::MAX - 1), u64::MAX);
    check(&faults, Some("set its visibility timeout"));
}

#[test]
fn mappings_that_were_not_looked_at_are_a_fault() {
    let found = deployed(vec![of_queue()], false).describe().unwrap();
    assert_eq!(found, "takes events; mappings: 1");
    let fault = deployed(vec![of_queue()], true).describe().unwrap_err();
    assert!(
        fault.contains("more mappings than the first 1, which"),
        "{fault}"
    );
}

#[test]
fn sources_without_a_mapping_are_a_fault() {
    let own = json!({"EventSourceArn": "arn:aws:sqs:r:1:wafer-p-clicks"});
    let consumer = json!({"EventSourceArn": "arn:aws:kinesis:r:1:stream/c/consumer/x:1"});
    let mut found = deployed(vec![own, of_queue(), of_stream(), consumer], false);
    let objects = Url::parse("s3://b").unwrap();
    let check = |found: &Deployed, event_sources: Option<&str>, source: &str| {
        let event_sources = event_sources.map(|text| EventSources::parse(text).unwrap());
        let deployment = Deployment {
            project: "p",
            streams: &[],
            event_sources: event_sources.as_ref(),
            state_machine: None,
            objects: &objects,
            limit: Duration::ZERO,
        };
        deployment.check_source(source, found)
    };
    for (event_sources, source, wanted) in [
        (None, "clicks", Ok("comes in by wafer-p-clicks")),
        (None, "visits", Err("from wafer-p-visits, which `terraform")),
        (Some(""), "visits", Ok("by HTTP alone")),
        (
            Some("arn:aws:kinesis:r:1:stream/s=visits"),
            "visits",
            Ok("comes in by arn:aws:kinesis:r:1:stream/s"),
        ),
        (
            Some("arn:aws:kinesis:r:1:stream/c=visits"),
            "visits",
            Ok("comes in by arn:aws:kinesis:r:1:stream/c"),
        ),
        (
            Some("arn:aws:sqs:r:1:q=visits;arn:aws:sqs:r:1:z=visits"),
            "visits",
            Err("takes its events from arn:aws:sqs:r:1:z: `terraform apply`"),
        ),
    ] {
        match (check(&found, event_sources, source), wanted) {
            (Ok(said), Ok(wanted)) | (Err(said), Err(wanted)) => {
                assert!(said.contains(wanted), "{said}");
            }
            (said, wanted) => panic!("{said:?}, wanted {wanted:?}"),
        }
    }
    found.mappings.is_cut = true;
    let said = check(&found, None, "visits").unwrap_err();
    assert!(
        said.contains("among the first 4, which were looked at, that takes"),
        "{said}"
    );
}

#[test]
fn mappings_take_as_much_as_they_are_limited_to() {
    assert_eq!(concurrency(&mapping(of_queue())), 7);
    assert_eq!(
        concurrency(&with(of_queue(), "ScalingConfig", Json::Null)),
        UNLIMITED
    );
    assert_eq!(concurrency(&mapping(of_stream())), 2);
}

#[test]
fn only_streams_take_more_with_each_shard() {
    let limit: AccountLimit = serde_json::from_value(json!({"ConcurrentExecutions": 50})).unwrap();
    for (mappings, wanted) in [
        (vec![of_queue()], "take 10 at most: 40 are left"),
        (
            vec![of_queue(), of_stream()],
            "take 12 at most, with one shard of each stream: 38 are left",
        ),
    ] {
        let taken = deployed(mappings, false).taken();
        let said = check_concurrency(&limit, taken, "r").unwrap();
        assert!(said.contains(wanted), "{said}");
    }
}

#[test]
fn faults_of_mappings_are_found() {
    check(&faults_of_mapping(&mapping(of_queue())), None);
    for (field, value, wanted) in [
        (
            "State",
            json!("Disabled"),
            "its mapping is Disabled (no reason is given)",
        ),
        (
            "LastProcessingResult",
            json!("PROBLEM: Function call failed"),
            "Lambda says PROBLEM: Function call failed",
        ),
        (
            "FunctionResponseTypes",
            json!([]),
            "lacks ReportBatchItemFailures",
        ),
        (
            "FunctionResponseTypes",
            Json::Null,
            "lacks ReportBatchItemFailures",
        ),
    ] {
        let faults = faults_of_mapping(&with(of_queue(), field, value));
        check(&faults, Some(wanted));
    }
}

#[test]
fn faults_of_queues_say_what_to_set() {
    for (visibility_timeout, max_receive_count, wanted) in [
        (360, Some(5), None),
        (359, Some(5), Some("to 360 seconds or more (it is 359)")),
        (360, None, Some("give it a dead-letter queue")),
        (360, Some(4), Some("to 5 or more (it is 4)")),
    ] {
        let settings = QueueSettings {
            visibility_timeout,
            max_receive_count,
        };
        check(&faults_of_queue(&settings, 60), wanted);
    }
}

#[test]
fn faults_of_streams_say_what_to_set() {
    let queue = json!({"OnFailure": {"Destination": "arn:aws:sqs:r:1:d"}});
    check(&faults_of_stream(&mapping(of_stream())), None);
    for (field, value, wanted) in [
        ("DestinationConfig", queue, "(it is arn:aws:sqs:r:1:d)"),
        ("DestinationConfig", Json::Null, "(it is nothing)"),
        (
            "MaximumRecordAgeInSeconds",
            json!(-1),
            "set its maximum record age",
        ),
        (
            "MaximumRecordAgeInSeconds",
            Json::Null,
            "set its maximum record age",
        ),
    ] {
        check(
            &faults_of_stream(&with(of_stream(), field, value)),
            Some(wanted),
        );
    }
}

#[test]
fn things_are_named_by_the_last_part_of_their_arn() {
    for (arn, wanted) in [
        ("arn:aws:sqs:r:1:q", "q"),
        ("arn:aws:kinesis:r:1:stream/s", "stream/s"),
        (
            "arn:aws:dynamodb:r:1:table/t/stream/2024-01-01T00:00:00.000",
            "table/t/stream/2024-01-01T00:00:00.000",
        ),
    ] {
        assert_eq!(name(arn), wanted);
    }
}

/// These numbers are in Terraform's modules as well.
#[test]
fn numbers_are_those_of_the_modules() {
    let main = include_str!("../../../../infra/modules/functions/main.tf");
    let variables = include_str!("../../../../infra/modules/functions/variables.tf");
    let example = include_str!("../../../../infra/flights/variables.tf");
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let default = "\"maximum_concurrency\" { type = number default =";
    for (text, wanted) in [
        (main, format!("visibility_timeout = {VISIBILITY_FACTOR} * ")),
        (main, format!("max_receive_count = {LEAST_RECEIVE_COUNT}")),
        (main, format!("maximum_concurrency = {FLUSHES} }}")),
        (variables, format!("{default} {CONCURRENCY} ")),
        (example, format!("{default} {CONCURRENCY} ")),
    ] {
        assert!(words(text).contains(&wanted), "{wanted}");
    }
}
