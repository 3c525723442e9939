//! Errors of S3, with advice on how to fix them.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use wafer_store::{Error, Kind, Result};

use crate::call::statement;
use crate::page::page_of;

/// Codes of S3 with which it does not accept the credentials of a request.
const CREDENTIAL_CODES: [&str; 7] = [
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "NotSignedUp",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
];

/// What to do about a bucket that does not exist.
pub(crate) const NO_BUCKET: &str = ": there is no such bucket. Make it by `terraform apply` in infra/, or \
                                    correct `store.objects` or AWS_REGION";

/// What to do about credentials that AWS does not accept.
pub(crate) const BAD_CREDENTIALS: &str = ": AWS does not accept the credentials; look at AWS_PROFILE, \
                                          AWS_ACCESS_KEY_ID or the role, and at this machine's clock";

/// What to do about a bucket that is in another region.
pub(crate) const OTHER_REGION: &str = ": the bucket is in another region. Correct AWS_REGION, `region` in \
                                       the AWS profile, or `?region=` in `store.online`";

/// Converts an error of S3, with advice on how to fix it.
pub(crate) fn failed<E>(action: &str, error: SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let (kind, advice) = match (page_of(&error), error.raw_response()) {
        (Some((kind, said)), _) => (kind, format!(": {said}")),
        (None, Some(response)) => judge(action, response.status().as_u16(), error.code()),
        (None, None) if matches!(error, SdkError::ConstructionFailure(_)) => {
            (Kind::Internal, String::new())
        }
        (None, None) => (Kind::Unavailable, String::new()),
    };
    Error::caused(kind, format!("cannot {action}{advice}"), error)
}

/// Returns the kind of an error and the advice, from the status and the error code of an answer.
/// Answers without a body, such as those to `HEAD`, have no code.
fn judge(action: &str, status: u16, code: Option<&str>) -> (Kind, String) {
    match (status, code.unwrap_or_default()) {
        (_, "NoSuchBucket") => (Kind::NotFound, NO_BUCKET.to_owned()),
        (301 | 307, _) | (_, "PermanentRedirect" | "AuthorizationHeaderMalformed") => {
            (Kind::Invalid, OTHER_REGION.to_owned())
        }
        (401, _) => (Kind::Internal, BAD_CREDENTIALS.to_owned()),
        (_, code) if CREDENTIAL_CODES.contains(&code) => {
            (Kind::Internal, BAD_CREDENTIALS.to_owned())
        }
        (403, _) | (_, "AccessDenied") => (Kind::Internal, format!(": {}", not_allowed(action))),
        (404, _) => (Kind::NotFound, String::new()),
        (409 | 412, _) => (Kind::Conflict, String::new()),
        (408 | 429 | 500.., _) => (Kind::Unavailable, String::new()),
        _ => (Kind::Internal, String::new()),
    }
}

/// Returns the answer, or `None` if there is no such object.
pub(super) fn unless_missing<T, E>(
    result: Result<T, SdkError<E, HttpResponse>>,
    action: &str,
) -> Result<Option<T>>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match result {
        Ok(found) => Ok(Some(found)),
        Err(e) if is_missing(&e) => Ok(None),
        Err(e) => Err(failed(action, e)),
    }
}

/// Returns whether there is no such object, in a bucket that exists. Only S3 can tell.
pub(super) fn is_missing<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    status(error) == Some(404) && error.code() != Some("NoSuchBucket") && page_of(error).is_none()
}

/// Returns the HTTP status of the answer, if there was one.
pub(super) fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error
        .raw_response()
        .map(|response| response.status().as_u16())
}

/// Returns the advice for a missing permission: the IAM statements that the role needs for the
/// S3 URL that occurs in `action`.
pub(crate) fn not_allowed(action: &str) -> String {
    let url = action
        .split([' ', ','])
        .find(|word| word.starts_with("s3://"));
    let path = url.map_or("BUCKET/FOLDER", |url| url.trim_start_matches("s3://"));
    let bucket = path.split('/').next().unwrap_or(path);
    let objects = format!("arn:aws:s3:::{path}/*");
    let actions = [
        "s3:GetObject",
        "s3:PutObject",
        "s3:DeleteObject",
        "s3:AbortMultipartUpload",
    ];
    let mut statements = actions.map(|action| statement(action, &objects)).to_vec();
    // Without this permission, S3 answers 403 instead of 404 for objects that do not exist.
    statements.push(statement(
        "s3:ListBucket",
        &format!("arn:aws:s3:::{bucket}"),
    ));
    format!(
        "it is not allowed. The role needs {} (in China arn:aws-cn, in GovCloud arn:aws-us-gov)",
        statements.join(", ")
    )
}
