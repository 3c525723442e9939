//! Starts the runs that are due by the schedules of pipelines, one for each pipeline at a time.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use wafer_store::Result;

use super::BackgroundTask;
use crate::Platform;

#[derive(Debug, Default)]
pub(super) struct RunSchedules {
    /// The pipelines that are being run.
    running: Arc<Mutex<HashSet<String>>>,
}

#[async_trait]
impl BackgroundTask for RunSchedules {
    fn failure(&self) -> &'static str {
        "schedules could not be run"
    }

    fn pause(&self) -> Duration {
        Duration::from_millis(500)
    }

    /// Runs go on after the round. One that is under way when the server stops is taken up by
    /// the next server.
    async fn run(&self, platform: &Arc<Platform>) -> Result<()> {
        for pipeline in platform.pipelines().scheduled() {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            if !running.insert(pipeline.clone()) {
                continue;
            }
            drop(running);
            let (platform, running) = (Arc::clone(platform), Arc::clone(&self.running));
            tokio::spawn(async move {
                let (name, own) = (pipeline.clone(), Arc::clone(&platform));
                // A task of its own: whatever happens to the run, the schedule goes on.
                let run = tokio::spawn(async move { own.pipelines().run_due(&name).await });
                match run.await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => {
                        tracing::warn!("pipeline `{pipeline}` was not run: {}", error.chain());
                    }
                    Err(failure) => tracing::error!("running `{pipeline}` failed: {failure}"),
                }
                let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
                running.remove(&pipeline);
            });
        }
        Ok(())
    }
}
