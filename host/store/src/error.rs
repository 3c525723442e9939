//! The error type of the host. Its kinds are chosen by what a caller can do about an error.
//!
//! Stores, services and edges share it. Each backend keeps an error with all details of its own
//! and converts it in one place; the details stay available as the source.

use std::error::Error as StdError;
use std::fmt;

use wafer_core::{MAX_ERROR_BYTES, cut};

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
///
/// The message has at most [`MAX_ERROR_BYTES`], and so has [`chain`](Self::chain): a longer one is
/// cut, and says how much is missing. So an error can be shown, recorded and sent wherever it came
/// from. Errors quote what came from outside as it is; whatever prints them escapes them.
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
            message: bounded(message.into()),
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
            message: bounded(message.into()),
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
        while let Some(error) = cause.filter(|_| text.len() < MAX_ERROR_BYTES - 64) {
            let message = cut(error);
            // Skip a cause whose message is already included.
            if !text.contains(&message) {
                text.push_str(": ");
                text.push_str(&message);
            }
            cause = error.source();
        }
        bounded(text)
    }

    /// Converts an I/O error on `path`. A full disk becomes [`Kind::Unavailable`], because a
    /// retry may succeed; a missing file becomes [`Kind::NotFound`].
    pub fn io(action: &str, path: &std::path::Path, error: std::io::Error) -> Self {
        use std::io::ErrorKind;
        let kind = match error.kind() {
            ErrorKind::NotFound => Kind::NotFound,
            _ if is_no_room(&error) => Kind::Unavailable,
            _ => Kind::Internal,
        };
        Self::caused(kind, format!("cannot {action} {}", path.display()), error)
    }
}

/// Returns whether an I/O error says that nothing more can be stored for now: the disk is full, a
/// quota or the greatest size of a file is reached, or the disk can only be read.
pub(crate) fn is_no_room(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
            | ErrorKind::FileTooLarge
            | ErrorKind::ReadOnlyFilesystem
    )
}

/// Cuts a message that is longer than an error may be.
fn bounded(message: String) -> String {
    match message.len() <= MAX_ERROR_BYTES {
        true => message,
        false => cut(message),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_cut_wherever_their_text_is_long() {
        let long = || "x".repeat(1 << 20);
        let cause = || std::io::Error::other(long());
        for error in [
            Error::new(Kind::Function, long()),
            Error::caused(Kind::Internal, "it failed", cause()),
            Error::caused(Kind::Internal, long(), cause()),
        ] {
            for text in [error.to_string(), error.chain()] {
                assert!(text.len() <= MAX_ERROR_BYTES, "{}", text.len());
            }
            assert!(error.chain().ends_with(" more bytes)"), "{}", error.chain());
        }
        let short = Error::caused(Kind::Internal, "it failed", std::io::Error::other("why"));
        assert_eq!(short.chain(), "it failed: why");
    }
}
