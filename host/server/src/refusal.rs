//! Errors in the form of the Open Inference Protocol.

use axum::Json as JsonBody;
use axum::extract::rejection::PathRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use wafer_core::cut;
use wafer_platform::{Error, Kind};

use crate::error::{Failure, RETRY};

/// An error response in the form of this protocol.
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            message: cut(message.into()),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = JsonBody(json!({ "error": self.message }));
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE => (self.status, [RETRY], body).into_response(),
            status => (status, body).into_response(),
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let is_functions = error.kind() == Kind::Function;
        let refusal = Self::from(Failure::from(error));
        match is_functions {
            true => Self {
                status: StatusCode::BAD_REQUEST,
                ..refusal
            },
            false => refusal,
        }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let status = match failure.status() {
            // A foreign host or origin was refused before the protocol had a say.
            status @ (StatusCode::NOT_FOUND | StatusCode::FORBIDDEN) => status,
            StatusCode::TOO_MANY_REQUESTS => StatusCode::SERVICE_UNAVAILABLE,
            status if status.is_server_error() => status,
            _ => StatusCode::BAD_REQUEST,
        };
        Self {
            status,
            message: failure.into_message(),
        }
    }
}

impl From<PathRejection> for Refusal {
    fn from(rejection: PathRejection) -> Self {
        Self::invalid(rejection.body_text())
    }
}

#[cfg(test)]
mod tests {
    use axum::http::header::RETRY_AFTER;

    use super::*;

    #[test]
    fn refusals_that_may_be_retried_have_the_header_retry_after() {
        for (failure, status, again) in [
            (Failure::too_many("x"), 503, true),
            (Failure::busy("x"), 503, true),
            (Failure::too_large("x"), 400, false),
            (Failure::panicked(), 500, false),
        ] {
            let response = Refusal::from(failure).into_response();
            assert_eq!(response.status().as_u16(), status);
            let after = response.headers().get(RETRY_AFTER);
            assert_eq!(after.is_some_and(|after| after == "1"), again, "{status}");
        }
    }
}
