//! What people and other programs need, and have by the policies of the module `access`: those who
//! only send a message or start an execution need the key, too.

use serde_json::Value as Json;

use super::evaluate::{Request, allows, lets};
use super::policy::Made;
use super::services::{ACCOUNT, BUCKET, REGION, key_uses, queue_arn, s3, table_arn, via};
use crate::harness::terraform;

/// The policies of all roles of people, and what Terraform made.
struct Access {
    made: Made,
    policies: Json,
}

impl Access {
    fn read() -> Option<Self> {
        let (made, policies) = (Made::read()?, terraform("access")?);
        Some(Self { made, policies })
    }

    fn policies(&self, roles: &[&str]) -> Vec<Json> {
        let policy = |role: &&str| self.policies[*role].as_str().unwrap();
        let texts = roles.iter().map(policy);
        texts
            .map(|text| serde_json::from_str(text).unwrap())
            .collect()
    }

    /// Checks that somebody with these roles may make the calls, and that what AWS asks of the key
    /// for these calls is allowed as well: by the roles, and by the key.
    fn allows(&self, roles: &[&str], requests: &[Request]) {
        let policies = self.policies(roles);
        let (key, of_key) = (self.made.key(), self.made.key_policy());
        let account = format!("arn:aws:iam::{ACCOUNT}:root");
        for request in requests {
            assert!(allows(&policies, request), "{roles:?}: {request:?}");
            for used in key_uses(request, key) {
                assert!(allows(&policies, &used), "{roles:?}: {used:?}");
                assert!(lets(&of_key, ("AWS", &account), &used), "{used:?}");
            }
        }
    }

    fn denies(&self, roles: &[&str], requests: &[Request]) {
        let policies = self.policies(roles);
        for request in requests {
            assert!(!allows(&policies, request), "{roles:?}: {request:?}");
        }
    }
}

fn url(action: &str, key: &str, value: &str) -> Request {
    let function = format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:wafer-flights-requests");
    Request::new(&format!("lambda:{action}"), &function).with(key, value)
}

fn states(action: &str, rest: &str) -> Request {
    let resource = format!("arn:aws:states:{REGION}:{ACCOUNT}:{rest}");
    Request::new(&format!("states:{action}"), &resource)
}

fn sqs(action: &str, queue: &str) -> Request {
    let queue = queue_arn(&format!("wafer-flights-{queue}"));
    Request::new(&format!("sqs:{action}"), &queue)
}

fn list_bucket(prefix: &str) -> Request {
    Request::new("s3:ListBucket", BUCKET)
        .with("s3:ResourceAccount", ACCOUNT)
        .with("s3:prefix", prefix)
}

/// The queue of messages that could not be taken in.
const SET_ASIDE: &str = "dead-events";
const MACHINE: &str = "stateMachine:wafer-flights-batch";
const EXECUTION: &str = "execution:wafer-flights-batch:1";
const PARTITION: &str = "execution:wafer-flights-batch/Partitions:1";

#[test]
fn iam_callers_of_the_url_may_ask_it_and_nothing_else() {
    let Some(access) = Access::read() else { return };
    let signed = url("InvokeFunctionUrl", "lambda:FunctionUrlAuthType", "AWS_IAM");
    let by_url = url("InvokeFunction", "lambda:InvokedViaFunctionUrl", "true");
    access.allows(&["callers"], &[signed, by_url]);
    let open = url("InvokeFunctionUrl", "lambda:FunctionUrlAuthType", "NONE");
    let directly = url("InvokeFunction", "lambda:InvokedViaFunctionUrl", "false");
    let unknown = url("InvokeFunction", "aws:ViaAWSService", "false");
    let table = Request::new("dynamodb:GetItem", &table_arn("flights"));
    access.denies(&["callers"], &[open, directly, unknown, table]);
}

#[test]
fn iam_senders_of_messages_have_the_key_by_way_of_the_queue_only() {
    let Some(access) = Access::read() else { return };
    let key = access.made.key();
    access.allows(&["senders"], &[sqs("SendMessage", "entries")]);
    access.denies(
        &["senders"],
        &[
            sqs("ReceiveMessage", "entries"),
            sqs("SendMessage", "outbox"),
            sqs("SendMessage", SET_ASIDE),
            Request::new("kms:GenerateDataKey", key),
            via("s3", "Decrypt", key),
            via("dynamodb", "Decrypt", key),
            s3("GetObject", "project/outbox/1"),
        ],
    );
}

#[test]
fn iam_starters_of_executions_have_the_key_for_this_state_machine_only() {
    let Some(access) = Access::read() else { return };
    let key = access.made.key();
    let looks = ["DescribeExecution", "GetExecutionHistory"];
    let mut requests = vec![states("StartExecution", MACHINE)];
    requests.extend(looks.map(|action| states(action, EXECUTION)));
    requests.extend(looks.map(|action| states(action, PARTITION)));
    access.allows(&["starters"], &requests);
    let other = states("StartExecution", "stateMachine:another");
    let mut requests = key_uses(&other, key);
    requests.extend([
        other,
        states("RedriveExecution", EXECUTION),
        states("StopExecution", EXECUTION),
        Request::new("kms:Decrypt", key),
        via("states", "Decrypt", key),
        via("sqs", "Decrypt", key),
    ]);
    access.denies(&["starters"], &requests);
}

#[test]
fn iam_redrivers_put_back_what_was_set_aside() {
    let Some(access) = Access::read() else { return };
    let roles = ["starters", "senders", "redrivers"];
    access.allows(
        &roles,
        &[
            states("RedriveExecution", EXECUTION),
            states("DescribeExecution", EXECUTION),
            sqs("StartMessageMoveTask", SET_ASIDE),
            sqs("ReceiveMessage", SET_ASIDE),
            sqs("DeleteMessage", SET_ASIDE),
            sqs("GetQueueAttributes", SET_ASIDE),
            sqs("SendMessage", "entries"),
            sqs("SendMessage", "outbox"),
            // Lambda keeps batches of streams outside of the project's folder.
            list_bucket("aws/lambda/"),
            s3("GetObject", "aws/lambda/mapping/shard/1"),
            s3("DeleteObject", "aws/lambda/mapping/shard/1"),
        ],
    );
    access.denies(
        &roles,
        &[
            list_bucket("project/"),
            s3("GetObject", "project/offline/sums_v1/1.parquet"),
            s3("PutObject", "aws/lambda/mapping/shard/1"),
            sqs("DeleteMessage", "entries"),
            sqs("PurgeQueue", SET_ASIDE),
            states("RedriveExecution", "execution:another:1"),
            states("UpdateStateMachine", MACHINE),
        ],
    );
}

#[test]
fn iam_readers_of_tables_see_no_other_folder() {
    let Some(access) = Access::read() else { return };
    let key = access.made.key();
    access.allows(
        &["readers"],
        &[
            s3("GetObject", "project/offline/sums_v1/1.parquet"),
            list_bucket("project/offline/sums_v1/_delta_log/"),
            // An object that is not there.
            list_bucket("project/offline/sums_v1/_delta_log/_last_checkpoint"),
        ],
    );
    access.denies(
        &["readers"],
        &[
            s3("PutObject", "project/offline/sums_v1/1.parquet"),
            s3("GetObject", "project/outbox/1"),
            s3("GetObject", "project/artifacts/1"),
            list_bucket("project/"),
            list_bucket(""),
            Request::new("s3:ListBucket", BUCKET),
            Request::new("kms:Decrypt", key),
            via("s3", "GenerateDataKey", key),
            via("dynamodb", "Decrypt", key),
            Request::new("dynamodb:GetItem", &table_arn("flights")),
        ],
    );
}

/// `wafer doctor --aws`, of a queue that is the project's and of one that is not.
#[test]
fn iam_deployers_may_what_doctor_asks_and_change_none_of_it() {
    let Some(access) = Access::read() else { return };
    let function = |action: &str, name: &str| {
        let function = format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:wafer-flights-{name}");
        Request::new(&format!("lambda:{action}"), &function)
    };
    let attributes = |queue: &str| Request::new("sqs:GetQueueAttributes", &queue_arn(queue));
    access.allows(
        &["deployers"],
        &[
            Request::new("lambda:GetAccountSettings", "*"),
            Request::new("lambda:ListEventSourceMappings", "*"),
            function("GetFunctionConfiguration", "events"),
            attributes("wafer-flights-entries"),
            attributes("mine"),
            states("DescribeStateMachine", MACHINE),
        ],
    );
    access.denies(
        &["deployers"],
        &[
            function("GetFunctionConfiguration", "requests"),
            function("GetFunction", "events"),
            function("UpdateFunctionConfiguration", "events"),
            function("InvokeFunction", "events"),
            Request::new("lambda:DeleteEventSourceMapping", "*"),
            attributes("another"),
            states("DescribeStateMachine", "stateMachine:another"),
            states("StartExecution", MACHINE),
            via("states", "Decrypt", access.made.key()),
        ],
    );
}

#[test]
fn iam_deployers_may_what_the_program_does_with_the_stores() {
    let Some(access) = Access::read() else { return };
    let key = access.made.key();
    let tables = ["GetItem", "BatchWriteItem", "Query", "UpdateItem"];
    let objects = ["GetObject", "PutObject", "DeleteObject"];
    let mut requests: Vec<_> = tables
        .map(|action| Request::new(&format!("dynamodb:{action}"), &table_arn("flights")))
        .into();
    for folder in ["artifacts", "offline", "outbox", "sources"] {
        let path = format!("project/{folder}/1");
        requests.extend(objects.map(|action| s3(action, &path)));
        requests.push(list_bucket(&format!("project/{folder}/")));
    }
    access.allows(&["deployers"], &requests);
    access.denies(
        &["deployers"],
        &[
            s3("PutObject", "another/artifacts/1"),
            list_bucket("another/"),
            Request::new("s3:PutBucketPolicy", BUCKET),
            Request::new("dynamodb:DeleteTable", &table_arn("flights")),
            Request::new("kms:Decrypt", key),
            via("sqs", "Decrypt", key),
            Request::new("kms:PutKeyPolicy", key),
            sqs("ReceiveMessage", "entries"),
        ],
    );
}
