//! Errors as HTTP responses.
//!
//! This is the one place that assigns a status and a code to each kind of error.

use std::fmt;
use std::path::Path;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use wafer_core::cut;
use wafer_platform::{Error, Kind};

use crate::occasional::Occasional;

/// The lines about requests that were refused because the server has too much to do.
static REFUSED: Occasional = Occasional::new();
/// The lines about functions that failed.
static FUNCTION_FAILED: Occasional = Occasional::new();
/// The lines about everything else that failed in the server.
static FAILED: Occasional = Occasional::new();

/// An error response: a status, a code for programs and a message for people.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Failure {
    /// Returns an error response. A long message is cut.
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: cut(message.into()),
        }
    }

    /// Returns the HTTP status.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the message, for a protocol with its own form of errors.
    pub(crate) fn into_message(self) -> String {
        self.message
    }

    /// Returns an error for a request that is not valid: status 400.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", message)
    }

    /// Returns an error for a request of another site: status 403.
    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// Returns an error for a request that is too large, or would be when it is read: status 413.
    pub(crate) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid", message)
    }

    /// Returns an error for a body that came too slowly: status 408.
    pub(crate) fn too_slow(message: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "too_slow", message)
    }

    /// Returns an error for a request whose client closed its side of the connection too early:
    /// status 400.
    pub(crate) fn given_up(reason: &str) -> Self {
        Self::invalid(format!(
            "{reason}; keep the connection open until the answer is there"
        ))
    }

    /// Returns an error for a content type that the route does not take: status 415.
    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Self::new(status, "unsupported_media_type", message)
    }

    /// Returns an error for a request that has no room beside those in progress: status 429.
    pub(crate) fn too_many(message: impl Into<String>) -> Self {
        Self::refused(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message)
    }

    /// Returns an error for a request that the server has no time for: status 503.
    pub(crate) fn busy(message: impl Into<String>) -> Self {
        Self::refused(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }

    /// Returns an error for a request that may be tried again, and logs it.
    fn refused(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let failure = Self::new(status, code, message);
        if let Some(held_back) = REFUSED.line() {
            tracing::warn!(code, held_back, "{}", failure.message);
        }
        failure
    }

    /// Returns an error for a handler that panicked. The panic itself was logged.
    pub(crate) fn panicked() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", INTERNAL)
    }

    /// Calls a file by a name in the message, and not by its path, which clients do not know.
    pub(crate) fn calling(mut self, path: &Path, name: &str) -> Self {
        self.message = self.message.replace(&path.display().to_string(), name);
        self
    }

    /// Puts the number of events that are known to be accepted in front of the message. Some of
    /// those that the failure concerns may be accepted as well.
    pub(crate) fn after_accepted(mut self, events: usize) -> Self {
        if events > 0 {
            self.message = cut(format_args!(
                "at least {events} events were accepted, and pushing them again changes nothing; then: {}",
                self.message
            ));
        }
        self
    }
}

/// The header that says after how many seconds a request may be tried again.
pub(crate) const RETRY: (HeaderName, &str) = (RETRY_AFTER, "1");

/// The message for failures inside the server, whose details are for its log, not for clients.
const INTERNAL: &str = "internal error; see the log of the server";

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = json!({ "error": { "code": self.code, "message": self.message } });
        let mut response = (self.status, Json(body)).into_response();
        let may_be_tried_again = [
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::SERVICE_UNAVAILABLE,
        ]
        .contains(&self.status);
        if may_be_tried_again {
            let (name, value) = RETRY;
            response
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for Error {
    /// Takes the failure through the services below, which give it back as it is.
    fn from(failure: Failure) -> Self {
        Self::caused(Kind::Unavailable, failure.to_string(), failure)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let source = std::error::Error::source(&error);
        if let Some(own) = source.and_then(|source| source.downcast_ref::<Self>()) {
            return own.clone();
        }
        let (status, code) = match error.kind() {
            Kind::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Kind::Invalid => (StatusCode::BAD_REQUEST, "invalid"),
            Kind::Conflict => (StatusCode::CONFLICT, "conflict"),
            Kind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            Kind::Function => (StatusCode::INTERNAL_SERVER_ERROR, "function"),
            Kind::Corrupt | Kind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        if status.is_server_error() {
            log(code, &error);
        }
        // The message of a failed function goes to the client, because the function's author needs
        // it.
        let message = match error.kind() {
            Kind::Corrupt | Kind::Internal => INTERNAL.to_owned(),
            // What is wrong with the request may be known by a cause only.
            Kind::Invalid => error.chain(),
            _ => error.to_string(),
        };
        Self::new(status, code, message)
    }
}

/// Logs an error of the server. Under load there is one for each request, so that only some are
/// logged.
fn log(code: &'static str, error: &Error) {
    let lines = match error.kind() {
        Kind::Unavailable => &REFUSED,
        Kind::Function => &FUNCTION_FAILED,
        _ => &FAILED,
    };
    match (lines.line(), error.kind()) {
        (None, _) => {}
        (Some(held_back), Kind::Unavailable) => {
            tracing::warn!(code, held_back, "{}", error.chain());
        }
        (Some(held_back), _) => tracing::error!(code, held_back, "{}", error.chain()),
    }
}

impl From<PathRejection> for Failure {
    fn from(rejection: PathRejection) -> Self {
        Self::new(rejection.status(), "invalid", rejection.body_text())
    }
}

impl From<QueryRejection> for Failure {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), "invalid", rejection.body_text())
    }
}

/// Answers a request whose path belongs to no route.
pub(crate) async fn no_route(uri: Uri) -> Failure {
    Failure::new(
        StatusCode::NOT_FOUND,
        "not_found",
        format!("there is no {}", uri.path()),
    )
}

/// Answers a request with a method that the route does not have.
pub(crate) async fn no_method(method: Method, uri: Uri) -> Failure {
    let message = format!("{} does not take {method}", uri.path());
    Failure::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        message,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_comes_back_from_the_services_as_it_was() {
        let failure = Failure::too_large("the request is too large for the budget");
        let back = Failure::from(Error::from(failure));
        assert_eq!(back.status(), StatusCode::PAYLOAD_TOO_LARGE);
        let message = back.into_message();
        assert_eq!(message, "the request is too large for the budget");
    }

    #[test]
    fn a_caller_sees_the_causes_of_its_error_and_no_path_of_the_server() {
        let path = Path::new("/tmp/folder/labels.ndjson");
        let cause = std::io::Error::other("line 3 is not an object");
        let message = format!("{} cannot be read", path.display());
        let error = Error::caused(Kind::Invalid, message, cause);
        let failure = Failure::from(error).calling(path, "the labels");
        assert_eq!(failure.status(), StatusCode::BAD_REQUEST);
        assert_eq!(
            failure.into_message(),
            "the labels cannot be read: line 3 is not an object"
        );
        let cause = std::io::Error::other("a secret of the server");
        let error = Error::caused(Kind::Internal, "the store is lost", cause);
        assert_eq!(Failure::from(error).into_message(), INTERNAL);
    }
}
