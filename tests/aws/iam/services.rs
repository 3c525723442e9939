//! How the services of AWS use a key for those who call them, as their pages say.

use super::evaluate::Request;

/// The account that Terraform made everything in.
pub(crate) const ACCOUNT: &str = "123456789012";
pub(crate) const REGION: &str = "us-east-1";
/// The ARN of the bucket that Terraform made.
pub(crate) const BUCKET: &str = "arn:aws:s3:::flights-bucket";

/// Returns the ARN of a table.
pub(crate) fn table_arn(name: &str) -> String {
    format!("arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{name}")
}

/// Returns the ARN of a queue.
pub(crate) fn queue_arn(name: &str) -> String {
    format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{name}")
}

/// Returns a call about an object in the bucket.
pub(crate) fn s3(action: &str, path: &str) -> Request {
    Request::new(&format!("s3:{action}"), &format!("{BUCKET}/{path}"))
        .with("s3:ResourceAccount", ACCOUNT)
}

/// Returns a call of the key by a service for whoever called the service, in which
/// `kms:ViaService` names the service.
///
/// <https://docs.aws.amazon.com/kms/latest/developerguide/conditions-kms.html>
pub(crate) fn via(service: &str, action: &str, key: &str) -> Request {
    Request::new(&format!("kms:{action}"), key)
        .with(
            "kms:ViaService",
            &format!("{service}.{REGION}.amazonaws.com"),
        )
        .with("kms:CallerAccount", ACCOUNT)
        .with("aws:ViaAWSService", "true")
}

/// Returns a call of the key with a value of its encryption context.
pub(crate) fn in_context(request: Request, name: &str, value: &str) -> Request {
    request.with(&format!("kms:EncryptionContext:{name}"), value)
}

/// Returns the calls of the key that AWS makes for the caller of a request.
pub(crate) fn key_uses(request: &Request, key: &str) -> Vec<Request> {
    let (service, action) = request.action.split_once(':').unwrap();
    let resource = request.resource.as_str();
    let calls: &[&str] = match (service, action) {
        // A key may be used for a part of an object, and read again for the next one:
        // https://docs.aws.amazon.com/kms/latest/developerguide/services-s3.html
        ("s3", "PutObject") | ("sqs", "SendMessage") => &["GenerateDataKey", "Decrypt"],
        ("s3", "GetObject") | ("sqs", "ReceiveMessage") | ("dynamodb", _) => &["Decrypt"],
        ("states", "StartExecution" | "RedriveExecution") => &["GenerateDataKey", "Decrypt"],
        ("states", "DescribeExecution" | "DescribeStateMachine" | "GetExecutionHistory") => {
            &["Decrypt"]
        }
        _ => &[],
    };
    let made = |call: &&str| with_encryption(via(service, call, key), service, resource);
    calls.iter().map(made).collect()
}

/// Returns a call of the key with the encryption context of a service, for what it acts on.
fn with_encryption(request: Request, service: &str, resource: &str) -> Request {
    match service {
        // The bucket has a key of its own, so its ARN takes the place of the object's:
        // https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-key.html
        "s3" => in_context(request, "aws:s3:arn", resource.split('/').next().unwrap()),
        // https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/encryption.howitworks.html
        "dynamodb" => {
            let table = resource.split("table/").nth(1).unwrap();
            let request = in_context(request, "aws:dynamodb:tableName", table);
            in_context(request, "aws:dynamodb:subscriberId", ACCOUNT)
        }
        // https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html
        "sqs" => in_context(request, "aws:sqs:arn", resource),
        // https://docs.aws.amazon.com/step-functions/latest/dg/encryption-at-rest.html
        "states" => {
            let machine = resource.replace(":execution:", ":stateMachine:");
            let parts: Vec<&str> = machine.splitn(8, ':').take(7).collect();
            in_context(request, "aws:states:stateMachineArn", &parts.join(":"))
        }
        _ => request,
    }
}
