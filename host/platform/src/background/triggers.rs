//! The task that starts the runs that are due by the triggers of pipelines, such as schedules. A
//! pipeline has at most one such run at a time in a process.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use wafer_store::Result;

use super::BackgroundTask;
use crate::Platform;

#[derive(Debug, Default)]
pub(super) struct RunTriggers {
    /// Names of the pipelines that are being run.
    running: Arc<Mutex<HashSet<String>>>,
}

#[async_trait]
impl BackgroundTask for RunTriggers {
    fn failure(&self) -> &'static str {
        "due runs could not be started"
    }

    fn pause(&self) -> Duration {
        Duration::from_millis(500)
    }

    /// Starts the runs, and does not wait for them. A run that a stopping server interrupts is
    /// taken over by the next server.
    async fn run(&self, platform: &Arc<Platform>) -> Result<()> {
        for pipeline in platform.pipelines().triggered() {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            if !running.insert(pipeline.clone()) {
                continue;
            }
            drop(running);
            let (platform, running) = (Arc::clone(platform), Arc::clone(&self.running));
            tokio::spawn(async move {
                let (name, own) = (pipeline.clone(), Arc::clone(&platform));
                // The run is a Tokio task of its own, so that the pipeline can run again even after
                // a panic.
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
