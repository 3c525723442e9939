//! The policies that Terraform makes, and the grants in them that no call of the program shows.

use serde_json::Value as Json;

use super::Action;
use crate::harness::{are_on_aws, terraform};

/// Grants that no call of the program shows, because AWS makes the calls for a function, or because
/// only a failure leads to them. They are for all functions unless one is named.
pub(crate) const UNSEEN: [(&str, &str, &str); 34] = [
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
    // https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-create.html
    (
        "events",
        "kinesis:DescribeStream",
        "Lambda polls in the role's name",
    ),
    (
        "events",
        "kinesis:DescribeStreamSummary",
        "Lambda polls in the role's name",
    ),
    (
        "events",
        "kinesis:GetRecords",
        "Lambda polls in the role's name",
    ),
    (
        "events",
        "kinesis:GetShardIterator",
        "Lambda polls in the role's name",
    ),
    (
        "events",
        "kinesis:ListShards",
        "Lambda polls in the role's name",
    ),
    // https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-eventsourcemapping.html
    (
        "events",
        "dynamodb:DescribeStream",
        "Lambda polls in the role's name",
    ),
    (
        "events",
        "dynamodb:GetRecords",
        "Lambda polls in the role's name",
    ),
    (
        "events",
        "dynamodb:GetShardIterator",
        "Lambda polls in the role's name",
    ),
    (
        "events",
        "dynamodb:ListStreams",
        "Lambda polls in the role's name",
    ),
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
    // A process that finds a commit whose own process died finishes it.
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
    // If another invocation was faster with a partition, the files of the slower one are removed.
    ("runs", "s3:DeleteObject", "removes what came second"),
    // If the answer to the write of a commit is lost, the commit is read.
    ("requests", "s3:GetObject", "finishes others' commits"),
    ("events", "s3:GetObject", "finishes others' commits"),
];

pub(crate) fn policies() -> Option<Json> {
    if !are_on_aws() {
        return None;
    }
    terraform("policies")
}

fn list(value: &Json) -> Vec<&str> {
    match value {
        Json::Array(values) => values.iter().filter_map(Json::as_str).collect(),
        value => value.as_str().into_iter().collect(),
    }
}

/// Returns the grants of a policy: an action, and a pattern for the last part of the ARN.
pub(crate) fn grants(policy: &str) -> Vec<Action> {
    let policy: Json = serde_json::from_str(policy).unwrap();
    let mut grants = Vec::new();
    for statement in policy["Statement"].as_array().unwrap() {
        assert_eq!(statement["Effect"], "Allow");
        let condition = &statement["Condition"];
        let prefixes = &condition["StringLike"]["s3:prefix"];
        // Lambda looks at a bucket before it sets something aside there, by a request that no page
        // describes. It is allowed within the account.
        let in_account = !condition["StringEquals"]["s3:ResourceAccount"].is_null();
        for action in list(&statement["Action"]) {
            for resource in list(&statement["Resource"]) {
                let last = resource.rsplit(':').next().unwrap();
                let last = last.strip_prefix("table/").unwrap_or(last);
                match action {
                    "s3:ListBucket" => {
                        let patterns = match in_account {
                            true => vec!["*"],
                            false => list(prefixes),
                        };
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

/// Returns whether a grant allows an action that was seen.
pub(crate) fn allows((action, pattern): &Action, (wanted, resource): &Action) -> bool {
    let fits = match pattern.strip_suffix('*') {
        Some(start) => resource.starts_with(start),
        None => pattern == resource,
    };
    action == wanted && fits
}
