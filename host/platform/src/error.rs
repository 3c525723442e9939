//! One error for all services: few kinds, chosen by what the caller does.

use std::error::Error as StdError;
use std::fmt;

use wafer_runtime::{Blame, Busy, InvokeError, RegisterError};

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// There is no such view, source, pipeline or file.
    NotFound,
    /// What was asked is wrong: change it.
    Invalid,
    /// Somebody else is at it, or was first: look again.
    Conflict,
    /// It cannot be done now: try again later.
    Unavailable,
    /// A function is to blame: its author must act.
    Function,
    /// A bug, a broken machine or damaged data.
    Internal,
}

/// An error of a service: kind, message, cause.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The result of every service.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error without a cause of its own.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// An error caused by another.
    pub fn caused(
        kind: Kind,
        message: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self {
            kind,
            message: message.into(),
            source: Some(source.into()),
        }
    }

    /// [`Kind::Invalid`] with a message.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Message and causes in one line.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = StdError::source(self);
        while let Some(error) = cause {
            let message = error.to_string();
            if !text.contains(&message) {
                text.push_str(": ");
                text.push_str(&message);
            }
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_deref()
            .map(|e| e as &(dyn StdError + 'static))
    }
}

impl From<wafer_store::Error> for Error {
    fn from(error: wafer_store::Error) -> Self {
        use wafer_store::Kind as Store;
        let kind = match error.kind() {
            Store::NotFound => Kind::NotFound,
            Store::Conflict => Kind::Conflict,
            Store::Unavailable => Kind::Unavailable,
            Store::Invalid => Kind::Invalid,
            Store::Corrupt | Store::Internal => Kind::Internal,
        };
        Self::caused(kind, error.to_string(), error)
    }
}

impl From<InvokeError> for Error {
    fn from(error: InvokeError) -> Self {
        let kind = match error.blame() {
            Blame::Caller => Kind::Invalid,
            Blame::Function => Kind::Function,
            Blame::Host => Kind::Internal,
        };
        Self::caused(kind, error.to_string(), error)
    }
}

impl From<RegisterError> for Error {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::Store(store) => store.into(),
            RegisterError::Invoke(invoke) => {
                let message = RegisterError::Invoke(invoke).to_string();
                Self::new(Kind::Function, message)
            }
            error => Self::caused(Kind::Function, error.to_string(), error),
        }
    }
}

impl From<Busy> for Error {
    fn from(busy: Busy) -> Self {
        Self::caused(Kind::Unavailable, busy.to_string(), busy)
    }
}
