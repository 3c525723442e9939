//! The task that applies early rows online when they are due.

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
        let upkeep = &context.components().stores.upkeep;
        upkeep.apply_due(context.due_until()).await
    }
}
