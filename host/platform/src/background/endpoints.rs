//! The task that makes endpoints ready after their routing changed. The task that reads definitions
//! finds out that it did. They are separate, because loading a large model takes long.

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

    /// A process that answers no requests needs no endpoints, and may not even have the permission
    /// to read models.
    fn moment(&self) -> Option<Moment> {
        Some(Moment::BeforeRequest)
    }

    async fn run(&self, platform: &Arc<Platform>) -> Result<()> {
        platform.serving().refresh_changed_endpoints().await
    }
}
