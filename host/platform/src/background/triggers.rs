//! The task that starts the runs that are due by the triggers of pipelines, such as schedules, in a
//! loop or when an event asks for it. A pipeline has at most one such run at a time in a process.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use wafer_catalog::RunRecord;
use wafer_core::Timestamp;
use wafer_store::Result;

use super::{Background, BackgroundTask, Failures};
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

impl Background {
    /// Runs what is due by the triggers of some pipelines in a process without loops, one pipeline
    /// after the other, until nothing is due or `until` has passed by the machine's clock. The time
    /// is checked before each call of [`run_due`](wafer_pipelines::Triggers::run_due), which may
    /// run several intervals. Whoever calls this next continues with the rest.
    ///
    /// # Errors
    /// Returns the first error of a pipeline, after the others have run.
    pub async fn run_due(&self, pipelines: &[String], until: Timestamp) -> Result<Vec<RunRecord>> {
        let (mut ran, mut failure) = (Vec::new(), None);
        for pipeline in pipelines {
            if let Err(error) = self.run_pipeline(pipeline, until, &mut ran).await {
                failure.get_or_insert(error);
            }
        }
        failure.map_or(Ok(ran), Err)
    }

    /// Runs what is due by the triggers of a pipeline, and adds the records of the runs to `ran`.
    async fn run_pipeline(
        &self,
        pipeline: &str,
        until: Timestamp,
        ran: &mut Vec<RunRecord>,
    ) -> Result<()> {
        let triggers = self.platform.pipelines().triggers();
        while self.platform.context().machine_now() <= until
            && let Some(record) = triggers.run_due(pipeline).await?
        {
            ran.push(record);
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
