//! The metadata store: runs, leases and the pointer to the applied definitions, as small objects
//! that are written one by one.

use std::fmt::{Debug, Display};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Error, Kind, Result};

const MAX_NAME_BYTES: usize = 400;
const MAX_OBJECT_BYTES: usize = 256 << 10;

/// A stored object and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// Starts at 1 and rises by one with each write of the object. It may start at 1 again
    /// after the object was deleted.
    pub version: u64,
    /// The content of the object.
    pub value: Bytes,
}

/// The condition under which an object is written or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The object does not exist.
    Absent,
    /// The object has this version.
    Version(u64),
    /// No condition: the last writer wins.
    Anything,
}

/// A map from names to small objects, with conditional writes.
///
/// A name has 1 to 400 bytes, with `/` between its parts. An object has at most 256 KiB.
#[async_trait]
pub trait MetadataStore: Debug + Display + Send + Sync + 'static {
    /// Returns an object, or `None` if there is no object of that name.
    async fn get(&self, name: &str) -> Result<Option<Versioned>>;

    /// Returns an object like [`get`](Self::get), but possibly as it was about a second ago: writes
    /// of that time may be missing, and a later call may return an earlier version than this one. A
    /// store whose reads are paid for charges less for it. The default is [`get`](Self::get).
    async fn get_eventual(&self, name: &str) -> Result<Option<Versioned>> {
        self.get(name).await
    }

    /// Writes an object atomically and durably, and returns its new version.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`](crate::Kind::Conflict) when `expect` does not hold, and
    /// [`Kind::Invalid`](crate::Kind::Invalid) when the name or the object is too long.
    /// Nothing is written then.
    async fn put(&self, name: &str, value: Bytes, expect: Expect) -> Result<u64>;

    /// Deletes an object. Deleting an object that does not exist is only an error if a
    /// version is expected.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`](crate::Kind::Conflict) when `expect` does not hold.
    async fn delete(&self, name: &str, expect: Expect) -> Result<()>;

    /// Returns all objects whose name starts with `prefix`, sorted by name.
    async fn list(&self, prefix: &str) -> Result<Vec<(String, Versioned)>>;
}

/// Checks the limits of [`MetadataStore::put`]. For backends.
///
/// # Errors
/// Returns [`Kind::Invalid`](crate::Kind::Invalid) when the name or the object is too long.
pub fn check_object(name: &str, value: &[u8]) -> Result<()> {
    let message = if name.is_empty() || name.len() > MAX_NAME_BYTES {
        format!("a name has 1 to {MAX_NAME_BYTES} bytes, not {}", name.len())
    } else if value.len() > MAX_OBJECT_BYTES {
        format!(
            "`{name}` has {} bytes; an object has at most {MAX_OBJECT_BYTES}",
            value.len()
        )
    } else {
        return Ok(());
    };
    Err(Error::new(Kind::Invalid, message))
}
