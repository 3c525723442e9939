//! The error type of the host. Its kinds are chosen by what a caller can do about an error.
//!
//! Stores, services and edges share it. Each backend keeps an error with all details of its own
//! and converts it in one place; the details stay available as the source.

use std::error::Error as StdError;
use std::fmt;

/// The kind of an error, chosen by what the caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The object, table, artifact or definition does not exist.
    NotFound,
    /// Another process wrote the object first; read it again and retry.
    Conflict,
    /// The store cannot serve the request now (disk full, server busy); try again later.
    Unavailable,
    /// The request is wrong or breaks a limit; change the request.
    Invalid,
    /// A function refused, trapped or broke a limit; its author has to act.
    Function,
    /// Stored bytes are damaged; restore or rebuild them.
    Corrupt,
    /// Any other failure, such as a bug or a broken machine.
    Internal,
}

/// An error: its [`Kind`], a message that says what failed, and the underlying cause.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The result type of stores and services.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Creates an error without an underlying cause.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// Creates an error with an underlying cause.
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

    /// Creates an error of [`Kind::Invalid`] without an underlying cause.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// Returns the kind of this error.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the message and those of all underlying causes in one line.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = StdError::source(self);
        while let Some(error) = cause {
            let message = error.to_string();
            // Skip a cause whose message is already included.
            if !text.contains(&message) {
                text.push_str(": ");
                text.push_str(&message);
            }
            cause = error.source();
        }
        text
    }

    /// Converts an I/O error on `path`. A full disk becomes [`Kind::Unavailable`], because a
    /// retry may succeed; a missing file becomes [`Kind::NotFound`].
    pub(crate) fn io(action: &str, path: &std::path::Path, error: std::io::Error) -> Self {
        use std::io::ErrorKind;
        let kind = match error.kind() {
            ErrorKind::NotFound => Kind::NotFound,
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Kind::Unavailable,
            _ => Kind::Internal,
        };
        Self::caused(kind, format!("cannot {action} {}", path.display()), error)
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
