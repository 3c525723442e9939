//! Errors as HTTP responses.
//!
//! This is the one place that assigns a status and a code to each kind of error.

use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use wafer_core::cut;
use wafer_platform::{Error, Kind};

/// An error response: a status, a code for programs and a message for people.
#[derive(Debug)]
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
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = json!({ "error": { "code": self.code, "message": self.message } });
        (self.status, Json(body)).into_response()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (status, code) = match error.kind() {
            Kind::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Kind::Invalid => (StatusCode::BAD_REQUEST, "invalid"),
            Kind::Conflict => (StatusCode::CONFLICT, "conflict"),
            Kind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            Kind::Function => (StatusCode::INTERNAL_SERVER_ERROR, "function"),
            Kind::Corrupt | Kind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        if status.is_server_error() {
            tracing::error!(code, "{}", error.chain());
        }
        // Details of a failure inside the server are for its log, not for clients. The message of
        // a failed function goes to the client, because the function's author needs it.
        let message = match error.kind() {
            Kind::Corrupt | Kind::Internal => {
                "internal error; see the log of the server".to_owned()
            }
            _ => error.to_string(),
        };
        Self::new(status, code, message)
    }
}

impl From<BytesRejection> for Failure {
    fn from(rejection: BytesRejection) -> Self {
        let status = rejection.status();
        let message = match status {
            StatusCode::PAYLOAD_TOO_LARGE => {
                format!(
                    "the body is larger than {}",
                    wafer_core::bytes_text(crate::MAX_BODY_BYTES as u64)
                )
            }
            _ => rejection.body_text(),
        };
        Self::new(status, "invalid", message)
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
