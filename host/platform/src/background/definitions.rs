//! The task that reads the definitions that any process applied since, and finds out whether
//! endpoints were changed.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use wafer_store::Result;

use super::{BackgroundTask, Moment};
use crate::Platform;

#[derive(Debug)]
pub(super) struct ReadDefinitions;

#[async_trait]
impl BackgroundTask for ReadDefinitions {
    fn failure(&self) -> &'static str {
        "definitions could not be read"
    }

    fn pause(&self) -> Duration {
        Duration::from_millis(100)
    }

    fn moment(&self) -> Option<Moment> {
        Some(Moment::BeforeInvocation)
    }

    async fn run(&self, platform: &Arc<Platform>) -> Result<()> {
        if platform.context().poll().await? {
            tracing::info!("definitions were applied anew");
        }
        Ok(())
    }
}
