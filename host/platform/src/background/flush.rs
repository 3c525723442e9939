//! The task that flushes the outbox to the offline tables, in a loop or when an event asks for it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use wafer_store::{Error, Kind, Result};
use wafer_tables::FlushReport;

use super::{Background, BackgroundTask};
use crate::Platform;

/// How often a flush is tried while another process is flushing, if somebody waits for it.
const ATTEMPTS: u32 = 100;
/// The pause between these attempts.
const PAUSE: Duration = Duration::from_millis(200);

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

impl Background {
    /// Flushes the outbox in a process without loops, and reports what left it, and what is not in
    /// the tables afterwards. While others flush it, or wait for that, the flush is tried again,
    /// for 20 seconds.
    ///
    /// # Errors
    /// Returns [`Kind::Unavailable`] when others flush for all of that time, and the errors of the
    /// stores.
    pub async fn flush(&self) -> Result<FlushReport> {
        let mut rows = 0;
        for _ in 0..ATTEMPTS {
            let report = self.platform.tables().flush().await?;
            rows += report.rows;
            if !report.busy {
                return Ok(FlushReport { rows, ..report });
            }
            tokio::time::sleep(PAUSE).await;
        }
        let message = "others are flushing the outbox, or wait for it";
        Err(Error::new(Kind::Unavailable, message))
    }
}
