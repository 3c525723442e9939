//! The task that starts the runs that are due by the triggers of pipelines, such as schedules. A
//! pipeline has at most one such run at a time in a process.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use wafer_core::Timestamp;
use wafer_store::Result;

use super::{BackgroundTask, Failures};
use crate::Platform;

#[derive(Debug, Default)]
pub(super) struct RunTriggers {
    /// Names of the pipelines that are being run.
    running: Arc<Mutex<HashSet<String>>>,
    /// The pipelines that could not be run when that was last tried.
    failing: Arc<Mutex<HashMap<String, Failures>>>,
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
        for pipeline in platform.pipelines().triggers().triggered() {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            if !running.insert(pipeline.clone()) {
                continue;
            }
            drop(running);
            let (platform, running) = (Arc::clone(platform), Arc::clone(&self.running));
            let failing = Arc::clone(&self.failing);
            tokio::spawn(async move {
                let (name, own) = (pipeline.clone(), Arc::clone(&platform));
                // The run is a Tokio task of its own, so that the pipeline can run again even after
                // a panic.
                let run =
                    tokio::spawn(async move { own.pipelines().triggers().run_due(&name).await });
                match run.await {
                    Ok(run) => {
                        let now = platform.context().machine_now();
                        report(&failing, &pipeline, &run.map(drop), now);
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

/// Reports whether a pipeline could be run, among those that could not be.
fn report(
    failing: &Mutex<HashMap<String, Failures>>,
    pipeline: &str,
    run: &Result<()>,
    now: Timestamp,
) {
    let what = format!("pipeline `{pipeline}` was not run");
    let mut failing = failing.lock().unwrap_or_else(PoisonError::into_inner);
    match run {
        Err(error) => {
            let failures = failing.entry(pipeline.to_owned()).or_default();
            failures.report(&what, &error.chain(), now);
        }
        Ok(()) => {
            if let Some(mut failures) = failing.remove(pipeline) {
                failures.report_end(&what);
            }
        }
    }
}
