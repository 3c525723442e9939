//! Definitions, runs and leases: small objects, each written by itself.

use std::fmt::{Debug, Display};

use async_trait::async_trait;
use bytes::Bytes;

use crate::Result;

/// A stored object and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// Rises by one with each write of the object; starts at 1. After a delete
    /// it may start over.
    pub version: u64,
    /// The object.
    pub value: Bytes,
}

/// What must be true of an object for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It does not exist.
    Absent,
    /// It has this version.
    Version(u64),
    /// Nothing: last writer wins.
    Anything,
}

/// A map from names to small objects (at most 256 KiB), with conditional
/// writes. Names are texts of at most 400 bytes with `/` between their parts.
#[async_trait]
pub trait MetadataStore: Debug + Display + Send + Sync + 'static {
    /// An object, or `None` when there is none of that name.
    async fn get(&self, name: &str) -> Result<Option<Versioned>>;

    /// Writes an object atomically and durably and returns its new version.
    ///
    /// # Errors
    /// [`Kind::Conflict`](crate::Kind::Conflict) when `expect` does not hold;
    /// nothing is written then.
    async fn put(&self, name: &str, value: Bytes, expect: Expect) -> Result<u64>;

    /// Removes an object. Removing one that is not there is no error unless a
    /// version is expected.
    ///
    /// # Errors
    /// [`Kind::Conflict`](crate::Kind::Conflict) when `expect` does not hold.
    async fn delete(&self, name: &str, expect: Expect) -> Result<()>;

    /// All objects whose name starts with `prefix`, in the order of their names.
    async fn list(&self, prefix: &str) -> Result<Vec<(String, Versioned)>>;
}
