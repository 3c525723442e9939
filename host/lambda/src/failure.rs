//! The errors with which an invocation fails.

use std::fmt;

use lambda_runtime::Diagnostic;
use wafer_core::cut;
use wafer_platform::{Error, Kind};

/// The error of an invocation. A state machine decides by its type (`Wafer.Unavailable` and so on)
/// whether to try again.
#[derive(Debug)]
pub(crate) struct InvocationFailure {
    kind: Kind,
    message: String,
}

impl InvocationFailure {
    /// Returns an error for an invocation that will never succeed.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Invalid,
            message: cut(message.into()),
        }
    }

    /// Returns an error for an invocation that may succeed if it is repeated.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Unavailable,
            message: cut(message.into()),
        }
    }

    /// Returns the error type that Lambda reports to the caller.
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::NotFound => "Wafer.NotFound",
            Kind::Invalid => "Wafer.Invalid",
            Kind::Conflict => "Wafer.Conflict",
            Kind::Unavailable => "Wafer.Unavailable",
            Kind::Function => "Wafer.Function",
            Kind::Corrupt | Kind::Internal => "Wafer.Internal",
        }
    }
}

impl From<Error> for InvocationFailure {
    fn from(error: Error) -> Self {
        Self {
            kind: error.kind(),
            message: error.chain(),
        }
    }
}

impl fmt::Display for InvocationFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<InvocationFailure> for Diagnostic {
    fn from(failure: InvocationFailure) -> Self {
        Self {
            error_type: failure.name().to_owned(),
            error_message: failure.message,
        }
    }
}
