//! Answers of others in the place of AWS: pages for people, by proxies and by networks that ask for
//! a login, and redirects, which are not followed ([`connections`](crate::connections)).

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use wafer_core::page_text;
use wafer_store::Kind;

/// Where the addresses of services are set.
const SETTING: &str = "AWS_ENDPOINT_URL and AWS_ENDPOINT_URL_SERVICE";

/// The header with which S3 names the region of a bucket.
pub(crate) const REGION_HEADER: &str = "x-amz-bucket-region";

/// Codes with which S3 says that a bucket is in another region.
const REGION_CODES: [&str; 2] = ["PermanentRedirect", "TemporaryRedirect"];

/// Says of the answer that an error of an SDK is about that it is a page or a redirect, with the
/// kind of the error. Returns `None` for other answers, and if there was none.
pub(crate) fn page_of<E>(error: &SdkError<E, HttpResponse>) -> Option<(Kind, String)> {
    let answer = error.raw_response()?;
    let body = answer.body().bytes().unwrap_or_default();
    let content_type = answer.headers().get("content-type");
    let status = answer.status().as_u16();
    let is_of_s3 = answer.headers().get(REGION_HEADER).is_some() || has_region_code(body);
    page(status, content_type, body).or_else(|| redirect(status).filter(|_| !is_of_s3))
}

fn has_region_code(body: &[u8]) -> bool {
    let body = String::from_utf8_lossy(body);
    REGION_CODES.iter().any(|code| body.contains(code))
}

/// Says of an answer that it is a redirect, with the kind of the error. Returns `None` for other
/// answers.
pub(crate) fn redirect(status: u16) -> Option<(Kind, String)> {
    let (301..=303 | 307 | 308) = status else {
        return None;
    };
    let said = format!(
        "the answer is a redirect (status {status}), which AWS does not answer with and nobody follows: \
         something else answered in its place. Look at {SETTING}, and at HTTP_PROXY, HTTPS_PROXY and \
         NO_PROXY; of a bucket, look at AWS_REGION as well"
    );
    Some((Kind::Invalid, said))
}

/// Says of an answer that it is a page, with the kind of the error. Returns `None` for other
/// answers.
pub(crate) fn page(status: u16, content_type: Option<&str>, body: &[u8]) -> Option<(Kind, String)> {
    let kind = match status {
        408 | 429 | 500.. => Kind::Unavailable,
        _ => Kind::Internal,
    };
    Some((kind, page_text(status, content_type, body, SETTING)?))
}
