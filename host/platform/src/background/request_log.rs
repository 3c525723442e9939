//! The task that asks shadow releases and writes the request log.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use wafer_store::Result;

use super::{BackgroundTask, Moment};
use crate::Platform;

#[derive(Debug)]
pub(super) struct WriteRequestLog;

#[async_trait]
impl BackgroundTask for WriteRequestLog {
    fn failure(&self) -> &'static str {
        "requests were not logged"
    }

    fn pause(&self) -> Duration {
        Duration::from_millis(100)
    }

    fn moment(&self) -> Option<Moment> {
        Some(Moment::AfterAnswer)
    }

    async fn run(&self, platform: &Arc<Platform>) -> Result<()> {
        platform.serving().write_log().await;
        Ok(())
    }

    /// Writes the rows that are not due, too. Tasks are finished in their order, so the flush comes
    /// after this.
    async fn finish(&self, platform: &Arc<Platform>) -> Result<()> {
        platform.serving().write_whole_log().await
    }
}
