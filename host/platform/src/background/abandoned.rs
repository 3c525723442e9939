//! The task that removes what processes have left that were killed: pins of training sets,
//! temporary folders, and output files that are not complete.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use wafer_catalog::{blocking, remove_abandoned_folders};
use wafer_store::Result;

use super::BackgroundTask;
use crate::Platform;

#[derive(Debug)]
pub(super) struct RemoveAbandoned;

#[async_trait]
impl BackgroundTask for RemoveAbandoned {
    fn failure(&self) -> &'static str {
        "pins of abandoned training sets could not be removed"
    }

    fn pause(&self) -> Duration {
        Duration::from_secs(60)
    }

    async fn run(&self, platform: &Arc<Platform>) -> Result<()> {
        blocking(remove_abandoned_folders).await?;
        platform.tables().remove_abandoned_pins().await
    }
}
