//! The task that flushes the outbox to the offline tables.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use wafer_store::Result;

use super::BackgroundTask;
use crate::Platform;

#[derive(Debug)]
pub(super) struct FlushOutbox;

#[async_trait]
impl BackgroundTask for FlushOutbox {
    fn failure(&self) -> &'static str {
        "rows stay in the outbox for now"
    }

    fn pause(&self) -> Duration {
        Duration::from_secs(1)
    }

    async fn run(&self, platform: &Arc<Platform>) -> Result<()> {
        platform.tables().flush().await.map(drop)
    }

    async fn finish(&self, platform: &Arc<Platform>) -> Result<()> {
        self.run(platform).await
    }
}
