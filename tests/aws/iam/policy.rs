//! The policies that Terraform makes, and the grants in them that no call of the program shows.

use serde_json::Value as Json;

use super::evaluate::{list, statements};
use crate::harness::{are_on_aws, terraform};

/// Grants that no call of the program shows, because AWS makes the calls for a function, or because
/// only a failure leads to them. They are for all functions unless one is named.
pub(crate) const UNSEEN: [(&str, &str, &str); 36] = [
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
    // Definitions had an object each once, and are listed until they are applied again.
    (
        "events",
        "dynamodb:Query",
        "reads definitions that an earlier version wrote",
    ),
    (
        "flush",
        "dynamodb:Query",
        "reads definitions that an earlier version wrote",
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

/// What Terraform made for the flights project, in the place of AWS: an account, its region and all
/// policies in it.
pub(crate) struct Made(Json);

impl Made {
    /// Returns `None`, and says so, if Terraform did not run, or for tests of the embedded stores,
    /// which have nothing to do with it.
    pub(crate) fn read() -> Option<Self> {
        if !are_on_aws() {
            return None;
        }
        terraform("state").map(Self)
    }

    /// Returns an attribute of a resource, which is named by its address.
    pub(crate) fn text(&self, address: &str, attribute: &str) -> &str {
        let found = resource(&self.0["values"]["root_module"], address);
        let found = found.unwrap_or_else(|| panic!("there is no {address}"));
        found["values"][attribute].as_str().unwrap()
    }

    /// Returns a policy that is an attribute of a resource.
    pub(crate) fn policy(&self, address: &str, attribute: &str) -> Json {
        serde_json::from_str(self.text(address, attribute)).unwrap()
    }

    /// Returns the policy of one of the four functions.
    pub(crate) fn function(&self, name: &str) -> Json {
        let address = format!("module.functions.aws_iam_role_policy.this[\"{name}\"]");
        self.policy(&address, "policy")
    }

    /// Returns the policy of the key.
    pub(crate) fn key_policy(&self) -> Json {
        self.policy("module.storage.aws_kms_key.this", "policy")
    }

    /// Returns the ARN of the key that everything is encrypted with.
    pub(crate) fn key(&self) -> &str {
        self.text("module.storage.aws_kms_key.this", "arn")
    }
}

/// Finds a resource in a module of Terraform's state, and in the modules in it.
fn resource<'a>(module: &'a Json, address: &str) -> Option<&'a Json> {
    let mut own = module["resources"].as_array().into_iter().flatten();
    let mut inner = module["child_modules"].as_array().into_iter().flatten();
    own.find(|resource| resource["address"] == address)
        .or_else(|| inner.find_map(|module| resource(module, address)))
}

/// Returns the grants of a policy: statements that allow one action on one resource.
pub(crate) fn grants(policy: &Json) -> Vec<Json> {
    let mut grants = Vec::new();
    for statement in statements(policy) {
        assert_eq!(statement["Effect"], "Allow");
        for action in list(&statement["Action"]) {
            for resource in list(&statement["Resource"]) {
                let mut grant = statement.clone();
                grant["Action"] = action.into();
                grant["Resource"] = resource.into();
                grants.push(grant);
            }
        }
    }
    grants
}
