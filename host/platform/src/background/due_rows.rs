//! Applies rows online that were early when they came in and have become due, and notes how late
//! it is by the machine's clock.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use wafer_store::Result;

use super::BackgroundTask;
use crate::Platform;

#[derive(Debug)]
pub(super) struct ApplyDueRows;

#[async_trait]
impl BackgroundTask for ApplyDueRows {
    fn failure(&self) -> &'static str {
        "rows that are due were not applied"
    }

    fn pause(&self) -> Duration {
        Duration::from_millis(100)
    }

    async fn run(&self, platform: &Arc<Platform>) -> Result<()> {
        let context = platform.context();
        // A clock that was set back stands still in this process; it is noted for the next one.
        if let Err(error) = context.check_clock().await {
            tracing::warn!("{error}");
        }
        let now = context.now();
        context.components().online.apply_due(now).await.map(drop)
    }
}
