//! What a store wants done from time to time.

use std::fmt::Debug;

use async_trait::async_trait;
use wafer_core::Timestamp;

use crate::Result;

/// The upkeep of an online store, which every process that serves requests does from time to
/// time.
#[async_trait]
pub trait Upkeep: Debug + Send + Sync + 'static {
    /// Applies the early rows that are due at `now`. Does nothing in a store that applies
    /// them when it reads them.
    async fn apply_due(&self, now: Timestamp) -> Result<()>;
}
