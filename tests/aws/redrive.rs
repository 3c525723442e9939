//! `wafer redrive`: batches of streams that Lambda gave up, as it keeps them in the bucket.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value as Json, json};
use wafer_core::Timestamp;

use crate::harness::lambda::{CHANGES, Lambda, QUEUE, STREAM, count, of_dynamodb, of_kinesis};
use crate::harness::ledger::{event, ledger};
use crate::harness::{Project, are_on_aws, text};

/// Writes an object of a mapping as Lambda names it, and returns its URL.
fn write(project: &Project, number: u32, content: &str) -> String {
    let key = format!(
        "aws/lambda/00000000-0000-0000-0000-00000000000{number}/shardId-000000000000/2024/01/01/\
         2024-01-01T00.00.00-{number}"
    );
    project.write_object(&key, content)
}

/// Returns the number of records of a payload, which is JSON or the text of it.
fn size(payload: &Json) -> usize {
    let text = payload.as_str().map(str::to_owned);
    let text = text.unwrap_or_else(|| payload.to_string());
    let payload: Json = serde_json::from_str(&text).unwrap();
    payload["Records"].as_array().unwrap().len()
}

/// Returns what Lambda writes of a batch. Without records it is what it sends to a queue.
fn batch(info: &str, stream: &str, arrived: &str, payload: Option<Json>) -> String {
    let size = payload.as_ref().map_or(3, size);
    let mut object = json!({
        "requestContext": {
            "requestId": "c9b8fa9f-5a7f-4a9c-af9c-0c604cde93a5", "condition": "RetryAttemptsExhausted",
            "functionArn": "arn:aws:lambda:us-east-1:000000000000:function:wafer", "approximateInvokeCount": 11,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": null},
        "version": "1.0",
        "timestamp": arrived,
        info: {
            "shardId": "shardId-000000000000", "startSequenceNumber": "2", "endSequenceNumber": "4",
            "approximateArrivalOfFirstRecord": arrived, "approximateArrivalOfLastRecord": arrived,
            "batchSize": size, "streamArn": stream,
        },
    });
    if let Some(payload) = payload {
        object["payload"] = payload;
    }
    object.to_string()
}

/// Runs the command, and returns its exit code and what it printed.
fn redrive(project: &Project, sources: &str, more: &[&str]) -> (Option<i32>, Json) {
    let arguments = [&["redrive", "--output", "json"], more].concat();
    let mut command = project.command(&arguments);
    let output = command
        .env("WAFER_EVENT_SOURCES", sources)
        .output()
        .unwrap();
    let printed = serde_json::from_slice(&output.stdout);
    let printed = printed.unwrap_or_else(|e| panic!("{e}: {}", text(&output)));
    (output.status.code(), printed)
}

/// Returns the present time as text.
fn now() -> String {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    Timestamp::from_micros(since.as_micros() as i64).to_string()
}

/// Returns the reasons for which something was left.
fn reasons(report: &Json) -> Vec<&str> {
    let left = report["left_by_name"].as_array().unwrap().iter();
    left.map(|left| left["reason"].as_str().unwrap()).collect()
}

#[test]
fn batches_that_lambda_gave_up_are_taken_in_once_and_what_cannot_be_read_stays() {
    if !are_on_aws() {
        return;
    }
    let project = ledger("\n[sources.others]\ntype = \"stream\"\npath = \"others.ndjson\"");
    project.write("others.ndjson", "");
    let project = project.applied_with("entries.ndjson", "");
    let sources = format!("{STREAM}=entries;{CHANGES}=entries;{QUEUE}=others");
    let lambda = Lambda::start(&project, &[("WAFER_EVENT_SOURCES", &sources)]);
    let record = |number: i64, key: &str| of_kinesis(number, &BASE64.encode(event(key, 1)));
    let damaged = of_kinesis(2, "!");
    // A record that cannot be read holds up those behind it, which are taken in nevertheless.
    let delivered = [record(1, "a"), damaged.clone(), record(3, "b")];
    let answer = lambda.ok(json!({"Records": delivered}));
    let failures = json!({"batchItemFailures": [{"itemIdentifier": "2"}]});
    assert_eq!(answer, failures);
    let now = now();
    // The documentation says that the records are text, and they have been seen as JSON.
    let given_up = json!({"Records": [damaged, record(3, "b"), record(4, "c")]});
    let given_up = Some(json!(given_up.to_string()));
    let kept = write(
        &project,
        1,
        &batch("KinesisBatchInfo", STREAM, &now, given_up),
    );
    let mut removed = of_dynamodb(2, &event("d", 2));
    removed["eventName"] = json!("REMOVE");
    let changes = json!({"Records": [of_dynamodb(1, &event("d", 1)), removed]});
    write(
        &project,
        2,
        &batch("DDBStreamBatchInfo", CHANGES, &now, Some(changes)),
    );
    write(&project, 3, "{oops");
    write(&project, 4, &batch("KinesisBatchInfo", STREAM, &now, None));
    let old = json!({"Records": [record(5, "e")]});
    let forgotten = batch(
        "KinesisBatchInfo",
        STREAM,
        "2020-01-01T00:00:00Z",
        Some(old),
    );
    write(&project, 5, &forgotten);
    let other = json!({"Records": []});
    let other = batch(
        "KinesisBatchInfo",
        "arn:aws:kinesis:r:0:stream/other",
        &now,
        Some(other),
    );
    write(&project, 6, &other);

    let counts = |report: &Json| {
        [
            "batches",
            "readable",
            "accepted",
            "duplicate",
            "removed",
            "left",
        ]
        .map(|name| report[name].as_u64().unwrap())
    };
    let (code, report) = redrive(&project, &sources, &["--dry-run"]);
    assert_eq!(
        (code, counts(&report)),
        (Some(2), [6, 3, 0, 0, 0, 5]),
        "{report}"
    );
    assert_eq!(count(&lambda, "c"), Json::Null);
    assert_eq!(project.objects("aws/lambda/").len(), 6);

    let (code, report) = redrive(&project, &sources, &[]);
    assert_eq!(
        (code, counts(&report)),
        (Some(2), [6, 3, 2, 1, 1, 5]),
        "{report}"
    );
    assert_eq!(
        ["a", "b", "c", "d"].map(|key| count(&lambda, key)),
        [1, 1, 1, 1].map(Json::from)
    );
    assert_eq!(project.objects("aws/lambda/").len(), 5);
    let left = &report["left_by_name"];
    assert_eq!(
        (&left[0]["file"], &left[0]["event"]),
        (&json!(kept), &json!("2"))
    );
    for (number, reason) in [
        "is not Base64",
        "is not a failed batch: ",
        "needs a bucket as its destination",
        "remembers identities for 7d",
        "whose events no source takes",
    ]
    .into_iter()
    .enumerate()
    {
        let said = left[number]["reason"].as_str().unwrap();
        assert!(said.contains(reason), "{said}");
    }

    let (code, report) = redrive(&project, &sources, &[]);
    assert_eq!(
        (code, counts(&report)),
        (Some(2), [5, 2, 0, 2, 0, 5]),
        "{report}"
    );
    assert_eq!(
        ["b", "c", "d"].map(|key| count(&lambda, key)),
        [1, 1, 1].map(Json::from)
    );
    let (_, report) = redrive(&project, &sources, &["others", "--dry-run"]);
    assert_eq!(
        (&report["readable"], &report["of_other_sources"]),
        (&json!(0), &json!(2))
    );

    let (_, report) = redrive(&project, &sources, &["--accept-forgotten"]);
    assert_eq!(counts(&report), [5, 3, 1, 2, 1, 4], "{report}");
    assert_eq!(project.objects("aws/lambda/").len(), 4);
    assert_eq!(project.offline_rows("sums_v1").len(), 5);
}

#[test]
fn batches_that_are_not_whole_or_of_several_streams_stay_and_nothing_of_them_is_taken_in() {
    if !are_on_aws() {
        return;
    }
    let project = ledger("").applied_with("entries.ndjson", "");
    let sources = format!("{STREAM}=entries;{CHANGES}=entries");
    let record = |number: i64, key: &str| of_kinesis(number, &BASE64.encode(event(key, 1)));
    let whole = |records: &[Json]| {
        let payload = json!({"Records": records});
        batch("KinesisBatchInfo", STREAM, &now(), Some(payload))
    };
    let short = whole(&[record(1, "a"), record(2, "a")]);
    let short = short.replace("\"batchSize\":2", "\"batchSize\":3");
    let short = write(&project, 1, &short);
    let mixed = whole(&[record(3, "a"), of_dynamodb(4, &event("a", 1))]);
    let mixed = write(&project, 2, &mixed);
    let (code, report) = redrive(&project, &sources, &[]);
    let counts = ["batches", "readable", "accepted", "removed", "left"];
    let counts = counts.map(|name| report[name].as_u64().unwrap());
    assert_eq!((code, counts), (Some(2), [2, 0, 0, 0, 2]), "{report}");
    for (number, (file, wanted)) in [
        (short, "has 2 records, and its batchSize is 3"),
        (mixed, "a record whose eventSourceARN is `arn:aws:dynamodb:"),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(report["left_by_name"][number]["file"], json!(file));
        let said = reasons(&report)[number];
        assert!(said.contains(wanted), "{said}");
    }
    assert_eq!(project.objects("aws/lambda/").len(), 2);
}

#[test]
fn objects_that_stay_keep_no_batch_from_being_taken_in() {
    if !are_on_aws() {
        return;
    }
    let project = ledger("").applied_with("entries.ndjson", "");
    let sources = format!("{STREAM}=entries");
    let bucket = project.bucket();
    project.write_object("aws/lambda/00%20notes.txt", "notes");
    project.write_object("aws/lambda/00line%0Abreak", "x");
    write(&project, 0, "{oops");
    for (number, key) in [(1_u32, "a"), (2, "b")] {
        let record = of_kinesis(i64::from(number), &BASE64.encode(event(key, 1)));
        let payload = json!({"Records": [record]});
        let content = batch("KinesisBatchInfo", STREAM, &now(), Some(payload));
        write(&project, number, &content);
    }
    // What stays does not count for the limit, so that each run gets on.
    for (accepted, not_looked_at) in [(1, 1), (1, 0), (0, 0)] {
        let (code, report) = redrive(&project, &sources, &["--limit", "1"]);
        let counts = ["accepted", "removed", "left", "not_looked_at"];
        let counts = counts.map(|name| report[name].as_u64().unwrap());
        let wanted = [accepted, accepted, 3, not_looked_at];
        assert_eq!((code, counts), (Some(2), wanted), "{report}");
        let odd = &report["left_by_name"][0];
        let name = format!("s3://{bucket}/aws/lambda/00line\nbreak");
        assert_eq!(odd["file"], json!(name));
        let said = reasons(&report)[0];
        assert!(said.contains("has a name that is not a path"), "{said}");
    }
    // People see the name escaped, in one line.
    let mut command = project.command(&["redrive"]);
    let output = command.env("WAFER_EVENT_SOURCES", &sources).output();
    let said = text(&output.unwrap());
    let wanted = format!("left s3://{bucket}/aws/lambda/00line\\nbreak: has a name");
    assert!(said.contains(&wanted), "{said}");
}

#[test]
fn sources_that_take_no_events_are_refused_by_name() {
    if !are_on_aws() {
        return;
    }
    let project = ledger("").applied_with("entries.ndjson", "");
    let right = format!("{STREAM}=entries");
    for (sources, more, wanted) in [
        (
            format!("{right};{QUEUE}=entriez"),
            None,
            "names the source `entriez`, which takes no events here; the known ones are entries",
        ),
        (
            right.clone(),
            Some("entriez"),
            "names no source `entriez`; it names entries",
        ),
        (
            String::new(),
            Some("entries"),
            "names no source `entries`; it names none, so that all events come by HTTP",
        ),
        (
            " ; ".to_owned(),
            Some("entries"),
            "names no source `entries`; it names none, so that all events come by HTTP",
        ),
        (
            format!("{right};{right}"),
            None,
            "gives the same ARN to source `entries`",
        ),
    ] {
        let arguments: Vec<&str> = ["redrive"].into_iter().chain(more).collect();
        let mut command = project.command(&arguments);
        let output = command.env("WAFER_EVENT_SOURCES", &sources).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let said = text(&output);
        assert!(said.contains(wanted), "{said}");
    }
}

/// A process that is killed after the events were accepted leaves their rows in the outbox.
#[test]
fn repeated_redrive_flushes_what_a_killed_one_accepted() {
    if !are_on_aws() {
        return;
    }
    let project = ledger("").applied_with("entries.ndjson", "");
    let sources = format!("{STREAM}=entries");
    let records = json!({"Records": [of_kinesis(1, &BASE64.encode(event("a", 1)))]});
    let mut lambda = Lambda::start(&project, &[("WAFER_EVENT_SOURCES", &sources)]);
    lambda.ok(records.clone());
    lambda.child.kill().unwrap();
    lambda.child.wait().unwrap();
    assert!(!project.keys("project/outbox/").is_empty());
    let content = batch("KinesisBatchInfo", STREAM, &now(), Some(records));
    write(&project, 1, &content);
    // A look changes nothing.
    redrive(&project, &sources, &["--dry-run"]);
    assert!(!project.keys("project/outbox/").is_empty());
    let (code, report) = redrive(&project, &sources, &[]);
    let counts = ["accepted", "duplicate", "removed"];
    let counts = counts.map(|name| report[name].as_u64().unwrap());
    assert_eq!((code, counts), (Some(0), [0, 1, 1]), "{report}");
    assert_eq!(project.offline_rows("sums_v1").len(), 1);
}

#[test]
fn redrive_prints_the_commands_for_queues_or_what_is_missing() {
    let project = ledger("");
    project.write("entries.ndjson", "");
    let mut command = project.command(&["redrive"]);
    let output = command.env_remove("WAFER_EVENT_SOURCES").output().unwrap();
    let said = text(&output);
    if !cfg!(feature = "aws") {
        assert!(said.contains("built without AWS"), "{said}");
        return;
    }
    if !are_on_aws() {
        assert!(
            said.contains("the stores of this project are not on AWS"),
            "{said}"
        );
        return;
    }
    assert!(said.contains("WAFER_EVENT_SOURCES is not set"), "{said}");
    project.ok(&["apply"]);
    let queue = QUEUE.replace("entries", "wafer-ledger-entries");
    let (code, report) = redrive(&project, &format!("{queue}=entries"), &[]);
    let dead = QUEUE.replace("entries", "wafer-ledger-dead-events");
    let wanted = format!("aws sqs start-message-move-task --region us-east-1 --source-arn {dead}");
    assert_eq!((code, &report["queues"]), (Some(0), &json!([wanted])));
}
