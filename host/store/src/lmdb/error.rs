//! Errors inside the embedded store, and how they become errors of the host.

use std::path::Path;

use heed::MdbError;

use crate::error::is_no_room;
use crate::{Error, Kind};

/// Why a transaction, or one write in it, failed.
#[derive(Debug)]
pub(super) enum LmdbError {
    /// LMDB failed. The transaction is aborted.
    Lmdb(heed::Error),
    /// A write cannot be done; something was perhaps written for it already. The transaction is
    /// aborted.
    Aborted(Error),
    /// A write was refused before anything was written for it. Other writes of the transaction go
    /// on.
    Refused(Error),
}

pub(super) type Result<T> = std::result::Result<T, LmdbError>;

impl From<heed::Error> for LmdbError {
    fn from(error: heed::Error) -> Self {
        Self::Lmdb(error)
    }
}

impl From<Error> for LmdbError {
    fn from(error: Error) -> Self {
        Self::Aborted(error)
    }
}

impl LmdbError {
    /// Returns the error of the host: `action` says what could not be done to the store at `path`.
    pub(super) fn into_error(self, action: &str, path: &Path) -> Error {
        let error = match self {
            Self::Aborted(error) | Self::Refused(error) => return error,
            Self::Lmdb(error) => error,
        };
        let (kind, advice) = kind_and_advice(&error);
        let message = format!("cannot {action} the store {}{advice}", path.display());
        Error::caused(kind, message, error)
    }
}

fn kind_and_advice(error: &heed::Error) -> (Kind, &'static str) {
    match error {
        heed::Error::Mdb(MdbError::MapFull) => (
            Kind::Unavailable,
            ": it is full; raise the setting `store.map_size`",
        ),
        heed::Error::Mdb(MdbError::ReadersFull) => {
            (Kind::Unavailable, ": too many readers at once")
        }
        heed::Error::Mdb(MdbError::BadValSize) => (Kind::Invalid, ": a key is too long"),
        heed::Error::Mdb(
            MdbError::Corrupted
            | MdbError::PageNotFound
            | MdbError::Invalid
            | MdbError::VersionMismatch,
        ) => (
            Kind::Corrupt,
            ": its files are damaged or of another program",
        ),
        heed::Error::EnvAlreadyOpened => (Kind::Conflict, ": this process has it open already"),
        heed::Error::Mdb(MdbError::Panic) => (
            Kind::Unavailable,
            ": an earlier write to its disk failed; start the process again",
        ),
        heed::Error::Io(e) if is_no_room(e) => (Kind::Unavailable, ": the disk is full"),
        // LMDB says so as well when the disk took a part of a page.
        heed::Error::Io(e) if e.raw_os_error() == Some(EIO) => {
            (Kind::Unavailable, ": the disk is full or broken")
        }
        _ => (Kind::Internal, ""),
    }
}

/// The number of the operating system's error for input and output that failed.
const EIO: i32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_lmdb_say_what_to_do() {
        let io = |number| heed::Error::Io(std::io::Error::from_raw_os_error(number));
        for (error, kind, advice) in [
            (
                heed::Error::Mdb(MdbError::MapFull),
                Kind::Unavailable,
                "raise the setting `store.map_size`",
            ),
            (
                heed::Error::Mdb(MdbError::Corrupted),
                Kind::Corrupt,
                "damaged",
            ),
            (
                heed::Error::Mdb(MdbError::BadValSize),
                Kind::Invalid,
                "a key is too long",
            ),
            (heed::Error::EnvAlreadyOpened, Kind::Conflict, "already"),
            (io(28), Kind::Unavailable, "the disk is full"),
            (io(EIO), Kind::Unavailable, "full or broken"),
            (io(13), Kind::Internal, "cannot read the store /data"),
        ] {
            let found = LmdbError::from(error).into_error("read", Path::new("/data"));
            assert_eq!(found.kind(), kind, "{found}");
            assert!(found.to_string().contains(advice), "{found}");
        }
    }

    #[test]
    fn refusals_are_passed_on_as_they_are() {
        let conflict = || Error::new(Kind::Conflict, "changed by somebody else");
        for error in [LmdbError::Refused(conflict()), conflict().into()] {
            let found = error.into_error("write to", Path::new("/data"));
            assert_eq!(found.to_string(), "changed by somebody else");
        }
    }
}
