//! Makes endpoints ready that were routed elsewhere. A loop of its own, since a large model takes
//! a while.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use wafer_store::Result;

use super::{BackgroundTask, Moment};
use crate::Platform;

#[derive(Debug)]
pub(super) struct ReadEndpoints;

#[async_trait]
impl BackgroundTask for ReadEndpoints {
    fn failure(&self) -> &'static str {
        "endpoints could not be read"
    }

    fn pause(&self) -> Duration {
        Duration::from_millis(100)
    }

    /// Hosts that answer no requests may not even be allowed to read models.
    fn moment(&self) -> Option<Moment> {
        Some(Moment::BeforeRequest)
    }

    async fn run(&self, platform: &Arc<Platform>) -> Result<()> {
        platform.serving().refresh_endpoints().await
    }
}
