//! The task that checks the machine's clock. The check also records the time, by which the next
//! process refuses a clock that was set back.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use wafer_store::Result;

use super::BackgroundTask;
use crate::Platform;

#[derive(Debug)]
pub(super) struct CheckClock;

#[async_trait]
impl BackgroundTask for CheckClock {
    /// The clock of this process stands still when the machine's clock is set back, so this is only
    /// a warning.
    fn failure(&self) -> &'static str {
        "the machine's clock was not accepted"
    }

    /// The time is recorded once a minute at most.
    fn pause(&self) -> Duration {
        Duration::from_secs(60)
    }

    async fn run(&self, platform: &Arc<Platform>) -> Result<()> {
        platform.context().check_clock().await
    }
}
