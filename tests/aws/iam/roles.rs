//! What the roles of the project may do and may not do, and what services of AWS may do with what
//! is the project's, with the conditions of their policies.

use serde_json::Value as Json;

use super::evaluate::{Request, allows, lets};
use super::policy::Made;
use super::services::{
    ACCOUNT, BUCKET, REGION, in_context, key_uses, queue_arn, s3, table_arn, via,
};

const FUNCTIONS: [&str; 4] = ["requests", "events", "flush", "runs"];
/// The queue of what schedules and runs could not do.
const SET_ASIDE: &str = "wafer-flights-dead-runs";
const OTHERS_ACCOUNT: &str = "999999999999";

/// Checks each call with a policy, and names the calls that come out otherwise.
fn check(who: &str, policy: &Json, wanted: bool, requests: &[Request]) {
    let wrong = requests.iter();
    let wrong = wrong.filter(|request| allows([policy], request) != wanted);
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{who}: not {wanted}: {wrong:#?}");
}

fn function_arn(name: &str) -> String {
    format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:wafer-flights-{name}")
}

/// Returns the call of the key by which Lambda reads the settings of a function:
/// <https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars-encryption.html>
fn settings(key: &str, function: &str) -> Request {
    let request = Request::new("kms:Decrypt", key);
    in_context(request, "aws:lambda:FunctionArn", &function_arn(function))
}

fn list_bucket() -> Request {
    Request::new("s3:ListBucket", BUCKET).with("s3:ResourceAccount", ACCOUNT)
}

/// Returns the calls that list what is not the project's in the bucket.
fn list_whole_bucket() -> [Request; 3] {
    [
        list_bucket(),
        list_bucket().with("s3:prefix", ""),
        list_bucket().with("s3:prefix", "another/"),
    ]
}

#[test]
fn iam_functions_use_their_stores_and_the_key_by_way_of_them() {
    let Some(made) = Made::read() else { return };
    let key = made.key();
    for function in FUNCTIONS {
        let mut requests = vec![
            Request::new("dynamodb:GetItem", &table_arn("flights")),
            s3("GetObject", "project/outbox/1"),
            s3("PutObject", "project/probe/1"),
        ];
        let uses: Vec<_> = requests.iter().flat_map(|r| key_uses(r, key)).collect();
        requests.extend(uses);
        requests.push(list_bucket().with("s3:prefix", "project/outbox/"));
        // An object that is not there.
        requests.push(list_bucket().with("s3:prefix", "project/outbox/1"));
        requests.push(settings(key, function));
        let log = format!("log-group:/aws/lambda/wafer-flights-{function}:log-stream:x");
        let log = format!("arn:aws:logs:{REGION}:{ACCOUNT}:{log}");
        requests.push(Request::new("logs:PutLogEvents", &log));
        check(function, &made.function(function), true, &requests);
    }
    let received = Request::new("sqs:ReceiveMessage", &queue_arn("wafer-flights-entries"));
    let mut requests = key_uses(&received, key);
    requests.push(received);
    check("events", &made.function("events"), true, &requests);
    let set_aside = Request::new("sqs:SendMessage", &queue_arn(SET_ASIDE));
    let mut requests = key_uses(&set_aside, key);
    requests.push(set_aside);
    check("runs", &made.function("runs"), true, &requests);
}

#[test]
fn iam_functions_reach_nothing_of_others_and_never_the_key_itself() {
    let Some(made) = Made::read() else { return };
    let key = made.key();
    let elsewhere = |service: &str| {
        let service = format!("{service}.eu-west-1.amazonaws.com");
        via("s3", "Decrypt", key).with("kms:ViaService", &service)
    };
    for (number, function) in FUNCTIONS.iter().enumerate() {
        let neighbour = FUNCTIONS[(number + 1) % FUNCTIONS.len()];
        let requests = [
            Request::new("kms:Decrypt", key),
            Request::new("kms:GenerateDataKey", key),
            via("secretsmanager", "Decrypt", key),
            via("states", "Decrypt", key),
            elsewhere("s3"),
            elsewhere("dynamodb"),
            settings(key, neighbour),
            Request::new("kms:CreateGrant", key).with("kms:ViaService", "s3"),
            Request::new("kms:ScheduleKeyDeletion", key),
            via(
                "s3",
                "Decrypt",
                "arn:aws:kms:us-east-1:123456789012:key/another",
            ),
            Request::new("s3:ListBucket", "arn:aws:s3:::another")
                .with("s3:prefix", "project/outbox/"),
            s3("GetObject", "another/outbox/1"),
            s3("GetObject", "outbox/1"),
            s3("PutObject", "project/sources/1"),
            s3("DeleteObject", "project/artifacts/1"),
            Request::new("s3:GetObject", "arn:aws:s3:::another/project/outbox/1"),
            Request::new("s3:DeleteBucket", BUCKET),
            Request::new("dynamodb:GetItem", &table_arn("another")),
            Request::new("dynamodb:Scan", &table_arn("flights")),
            Request::new("dynamodb:DeleteTable", &table_arn("flights")),
            Request::new("sqs:SendMessage", &queue_arn("wafer-flights-entries")),
            Request::new("lambda:InvokeFunction", &function_arn(neighbour)),
            Request::new(
                "iam:PassRole",
                "arn:aws:iam::123456789012:role/wafer-flights-runs",
            ),
        ];
        check(function, &made.function(function), false, &requests);
    }
    let tables = [
        s3("GetObject", "project/offline/t/1"),
        s3("PutObject", "project/offline/t/1"),
    ];
    for function in ["requests", "events"] {
        check(function, &made.function(function), false, &tables);
    }
    for function in ["requests", "flush", "runs"] {
        check(
            function,
            &made.function(function),
            false,
            &list_whole_bucket(),
        );
    }
    let set_aside = [Request::new("sqs:SendMessage", &queue_arn(SET_ASIDE))];
    check("flush", &made.function("flush"), false, &set_aside);
    check(
        "flush",
        &made.function("flush"),
        false,
        &[s3("GetObject", "project/artifacts/1")],
    );
}

/// Lambda sets aside what fails of streams in the role's name. It looks at the bucket before, by a
/// request that no page describes, so that `events` may list all of it.
#[test]
fn iam_batches_of_streams_are_set_aside_in_this_account_by_events_alone() {
    let Some(made) = Made::read() else { return };
    let events = made.function("events");
    let batch = "aws/lambda/mapping/shard/1";
    let set_aside = s3("PutObject", batch);
    let mut requests = key_uses(&set_aside, made.key());
    requests.push(set_aside.clone());
    requests.extend(list_whole_bucket());
    check("events", &events, true, &requests);
    let of_others = |request: Request| request.with("s3:ResourceAccount", OTHERS_ACCOUNT);
    let denied = [
        of_others(set_aside.clone()),
        of_others(list_bucket()),
        s3("GetObject", batch),
        s3("DeleteObject", batch),
    ];
    check("events", &events, false, &denied);
    for function in ["requests", "flush", "runs"] {
        let policy = made.function(function);
        check(function, &policy, false, std::slice::from_ref(&set_aside));
    }
}

/// A call of a service by itself, for a resource in an account.
fn by_service(action: &str, resource: &str, source: &str, account: &str) -> Request {
    Request::new(action, resource)
        .with("aws:SourceArn", source)
        .with("aws:SourceAccount", account)
}

#[test]
fn iam_notifications_come_from_the_bucket_of_this_account_only() {
    let Some(made) = Made::read() else { return };
    let policy = made.policy("module.functions.aws_sqs_queue_policy.outbox", "policy");
    let queue = queue_arn("wafer-flights-outbox");
    let send = |source: &str, account: &str| by_service("sqs:SendMessage", &queue, source, account);
    let s3 = ("Service", "s3.amazonaws.com");
    assert!(lets(&policy, s3, &send(BUCKET, ACCOUNT)));
    assert!(!lets(&policy, s3, &send("arn:aws:s3:::another", ACCOUNT)));
    // Somebody else may get the bucket's name after it was removed.
    assert!(!lets(&policy, s3, &send(BUCKET, OTHERS_ACCOUNT)));
    assert!(!lets(&policy, s3, &Request::new("sqs:SendMessage", &queue)));
    let sns = ("Service", "sns.amazonaws.com");
    assert!(!lets(&policy, sns, &send(BUCKET, ACCOUNT)));
    let receive = by_service("sqs:ReceiveMessage", &queue, BUCKET, ACCOUNT);
    assert!(!lets(&policy, s3, &receive));
}

#[test]
fn iam_key_is_for_services_that_work_for_this_account() {
    let Some(made) = Made::read() else { return };
    let (key, policy) = (made.key(), made.key_policy());
    let use_of = |action: &str, account: &str| {
        Request::new(&format!("kms:{action}"), key).with("aws:SourceAccount", account)
    };
    for (service, action) in [
        // Notifications are written to an encrypted queue:
        // https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html
        ("s3", "GenerateDataKey"),
        ("s3", "Decrypt"),
        // Alarms are raised through an encrypted topic:
        // https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html
        ("cloudwatch", "GenerateDataKey"),
        ("cloudwatch", "Decrypt"),
        ("delivery.logs", "Decrypt"),
    ] {
        let service = format!("{service}.amazonaws.com");
        let principal = ("Service", service.as_str());
        assert!(
            lets(&policy, principal, &use_of(action, ACCOUNT)),
            "{service}"
        );
        let others = use_of(action, OTHERS_ACCOUNT);
        assert!(!lets(&policy, principal, &others), "{service}");
        let without = Request::new(&format!("kms:{action}"), key);
        assert!(!lets(&policy, principal, &without), "{service}");
        let delete = use_of("ScheduleKeyDeletion", ACCOUNT);
        assert!(!lets(&policy, principal, &delete), "{service}");
    }
    let ec2 = ("Service", "ec2.amazonaws.com");
    assert!(!lets(&policy, ec2, &use_of("Decrypt", ACCOUNT)));
    // https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/encrypt-log-data-kms.html
    let log = |account: &str, region: &str| {
        let group = format!("arn:aws:logs:{region}:{account}:log-group:/aws/lambda/f");
        in_context(
            Request::new("kms:GenerateDataKey", key),
            "aws:logs:arn",
            &group,
        )
    };
    let logs = ("Service", "logs.us-east-1.amazonaws.com");
    assert!(lets(&policy, logs, &log(ACCOUNT, REGION)));
    assert!(!lets(&policy, logs, &log(OTHERS_ACCOUNT, REGION)));
    assert!(!lets(&policy, logs, &log(ACCOUNT, "eu-west-1")));
    let logs = ("Service", "logs.eu-west-1.amazonaws.com");
    assert!(!lets(&policy, logs, &log(ACCOUNT, REGION)));
    // All others in the account have what its own policies say, and nobody else has anything.
    let account = |id: &str| format!("arn:aws:iam::{id}:root");
    let decrypt = Request::new("kms:Decrypt", key);
    assert!(lets(&policy, ("AWS", &account(ACCOUNT)), &decrypt));
    assert!(!lets(&policy, ("AWS", &account(OTHERS_ACCOUNT)), &decrypt));
}

#[test]
fn iam_bucket_refuses_requests_without_tls() {
    let Some(made) = Made::read() else { return };
    let policy = made.policy("module.storage.aws_s3_bucket_policy.this", "policy");
    let runs = made.function("runs");
    let read = |tls: &str| s3("GetObject", "project/offline/t").with("aws:SecureTransport", tls);
    assert!(allows([&runs], &read("false")));
    // A denial of the bucket counts more than what the role is allowed.
    assert!(allows([&runs, &policy], &read("true")));
    assert!(!allows([&runs, &policy], &read("false")));
}

#[test]
fn iam_roles_are_assumed_by_their_service_for_this_account() {
    let Some(made) = Made::read() else { return };
    let assume = |account: &str| by_service("sts:AssumeRole", "role", "arn", account);
    let trust = |role: &str| made.policy(role, "assume_role_policy");
    for (role, service) in [
        ("module.functions.aws_iam_role.scheduler", "scheduler"),
        ("module.batch.aws_iam_role.scheduler", "scheduler"),
        ("module.batch.aws_iam_role.this", "states"),
    ] {
        let service = format!("{service}.amazonaws.com");
        let principal = ("Service", service.as_str());
        assert!(lets(&trust(role), principal, &assume(ACCOUNT)), "{role}");
        let others = assume(OTHERS_ACCOUNT);
        assert!(!lets(&trust(role), principal, &others), "{role}");
        let lambda = ("Service", "lambda.amazonaws.com");
        assert!(!lets(&trust(role), lambda, &assume(ACCOUNT)), "{role}");
    }
    for function in FUNCTIONS {
        let role = format!("module.functions.aws_iam_role.this[\"{function}\"]");
        let lambda = ("Service", "lambda.amazonaws.com");
        assert!(lets(&trust(&role), lambda, &assume(ACCOUNT)), "{role}");
        let states = ("Service", "states.amazonaws.com");
        assert!(!lets(&trust(&role), states, &assume(ACCOUNT)), "{role}");
    }
}

/// AWS's page on encryption warns of `kms:ViaService` in the role of a state machine, so these
/// roles may use the key in any way; only their services can assume them.
#[test]
fn iam_schedules_and_the_state_machine_start_what_is_theirs() {
    let Some(made) = Made::read() else { return };
    let key = made.key();
    let machine = format!("arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:wafer-flights-batch");
    let execution = machine.replace(":stateMachine:", ":execution:");
    let invoke = |name: &str| Request::new("lambda:InvokeFunction", &function_arn(name));
    let start = Request::new("states:StartExecution", &machine);
    let set_aside = Request::new("sqs:SendMessage", &queue_arn(SET_ASIDE));
    // https://docs.aws.amazon.com/scheduler/latest/UserGuide/encryption-rest.html
    let schedule = |group: &str| {
        let arn = format!("arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule/{group}/all");
        in_context(
            Request::new("kms:Decrypt", key),
            "aws:scheduler:schedule:arn",
            &arn,
        )
    };

    let ticks = made.policy("module.functions.aws_iam_role_policy.scheduler", "policy");
    let mut allowed = key_uses(&set_aside, key);
    allowed.extend([invoke("runs"), set_aside.clone(), schedule("wafer-flights")]);
    check("schedules", &ticks, true, &allowed);
    let denied = [
        invoke("requests"),
        start.clone(),
        Request::new("kms:CreateGrant", key),
    ];
    check("schedules", &ticks, false, &denied);

    let looks = made.policy("module.batch.aws_iam_role_policy.scheduler", "policy");
    let mut allowed = key_uses(&set_aside, key);
    allowed.extend(key_uses(&start, key));
    allowed.extend([start.clone(), set_aside, schedule("wafer-flights-batch")]);
    check("schedules of runs", &looks, true, &allowed);
    let another = Request::new("states:StartExecution", &format!("{machine}2"));
    check(
        "schedules of runs",
        &looks,
        false,
        &[invoke("runs"), another.clone()],
    );

    let divided = made.policy("module.batch.aws_iam_role_policy.this", "policy");
    let partition = format!("{execution}/Partitions:1");
    let redrive = |arn: &str| Request::new("states:RedriveExecution", arn);
    let mut allowed = key_uses(&start, key);
    allowed.extend([
        invoke("runs"),
        start,
        redrive(&partition),
        Request::new("states:DescribeExecution", &partition),
        Request::new("states:StopExecution", &partition),
    ]);
    check("state machine", &divided, true, &allowed);
    let whole = redrive(&format!("{execution}:1"));
    check(
        "state machine",
        &divided,
        false,
        &[invoke("events"), another, whole],
    );
}
