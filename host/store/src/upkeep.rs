//! Upkeep: the work that a store needs from time to time.

use std::fmt::Debug;

use async_trait::async_trait;
use wafer_core::Timestamp;

use crate::Result;

/// The upkeep of an online store, which every process that serves requests does from time to
/// time.
#[async_trait]
pub trait Upkeep: Debug + Send + Sync + 'static {
    /// Applies the early rows that are due at `now`, so that reads need not look for them. This
    /// cannot be undone, so `now` must be a time that has come for everybody. Does nothing in a
    /// store that keeps the early rows of an entity beside its row.
    async fn apply_due(&self, now: Timestamp) -> Result<()>;

    /// Checks that the store is there and has room for more, without storing anything. A store
    /// whose disk is not this machine's answers at once.
    ///
    /// # Errors
    /// Returns [`Kind::Unavailable`](crate::Kind::Unavailable) when writes would fail.
    async fn check_room(&self) -> Result<()>;
}
