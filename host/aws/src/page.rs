//! Answers of others in the place of AWS: pages for people, by proxies and by networks that ask for
//! a login.

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use wafer_core::page_text;
use wafer_store::Kind;

/// Where the addresses of services are set.
const SETTING: &str = "AWS_ENDPOINT_URL and AWS_ENDPOINT_URL_SERVICE";

/// Says of the answer that an error of an SDK is about that it is a page, with the kind of the
/// error. Returns `None` for other answers, and if there was none.
pub(crate) fn page_of<E>(error: &SdkError<E, HttpResponse>) -> Option<(Kind, String)> {
    let answer = error.raw_response()?;
    let body = answer.body().bytes().unwrap_or_default();
    let content_type = answer.headers().get("content-type");
    page(answer.status().as_u16(), content_type, body)
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
