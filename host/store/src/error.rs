//! One error for all stores: few kinds, chosen by what the caller does.

use std::error::Error as StdError;
use std::fmt;

/// What a caller can do about a store's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// There is no such object, table or artifact.
    NotFound,
    /// Somebody else wrote first: read again, decide again.
    Conflict,
    /// The store cannot take it now (disk full, server busy): try again later.
    Unavailable,
    /// The request breaks a limit or rule of the store: change the request.
    Invalid,
    /// Stored bytes are damaged: restore or rebuild them.
    Corrupt,
    /// Anything else: a bug, or a broken machine.
    Internal,
}

/// A store's error: its kind, what was being done, and the cause.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The result of everything that touches a store.
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

    /// What a caller can do about it.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// An error of the operating system about a path. A full disk is worth a
    /// retry; a file that is not there is named.
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
