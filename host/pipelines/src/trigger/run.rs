//! Asks the triggers of a pipeline what is due, and runs it under the pipeline's lease.

use std::sync::Arc;

use wafer_catalog::RunRecord;
use wafer_core::rules::Interval;
use wafer_store::{Kind, Result};

use crate::run::lease::run_lease;
use crate::trigger::{DueCheck, EndedRun, Trigger, Triggers, triggers};

impl Triggers {
    /// Runs what is due by the triggers of a pipeline, unless nothing is or another host runs the
    /// pipeline. With a schedule, that is the next interval of the schedule and then the finished
    /// intervals that changed upstream. A run that fails is recorded, and repeated later. Returns
    /// the record of the first run.
    ///
    /// # Errors
    /// Returns the errors of the stores. Errors of a run by the schedule are in its record only.
    pub async fn run_due(&self, pipeline: &str) -> Result<Option<RunRecord>> {
        let mut triggers = triggers(&self.context.definitions(), pipeline)?;
        if !self.is_any_due(&mut triggers).await? {
            return Ok(None);
        }
        let lease = match run_lease(&self.context, pipeline).await {
            Err(e) if e.kind() == Kind::Conflict => return Ok(None),
            other => other?,
        };
        // The triggers are asked again, because another host may have run the interval before
        // the lease was acquired, and by the definitions that are applied now.
        lease.during(self.run_applied(pipeline)).await
    }

    /// Runs what is due by the triggers that a pipeline has by the applied definitions. Nothing is
    /// if they no longer have the pipeline.
    async fn run_applied(&self, pipeline: &str) -> Result<Option<RunRecord>> {
        let definitions = self.context.definitions();
        if !definitions.pipelines.contains_key(pipeline) {
            return Ok(None);
        }
        let mut triggers = triggers(&definitions, pipeline)?;
        self.run_triggers(&mut triggers).await
    }

    /// Returns whether an interval is due by any of the triggers, before the lease is acquired.
    async fn is_any_due(&self, triggers: &mut [Box<dyn Trigger>]) -> Result<bool> {
        for trigger in triggers {
            if !trigger
                .due(&self.runs, DueCheck::BeforeLease)
                .await?
                .is_empty()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Runs what is due, and then lets all triggers finish. This process holds the lease.
    async fn run_triggers(&self, triggers: &mut [Box<dyn Trigger>]) -> Result<Option<RunRecord>> {
        let mut result = self.run_in_order(triggers).await;
        for trigger in triggers {
            let finished = trigger.finish(&self.runs).await;
            result = result.and_then(|first| finished.map(|()| first));
        }
        result
    }

    /// Runs what is due by each trigger in turn. Returns the record of the first run.
    async fn run_in_order(&self, triggers: &mut [Box<dyn Trigger>]) -> Result<Option<RunRecord>> {
        let mut first: Option<RunRecord> = None;
        for trigger in triggers {
            let ran = first.as_ref();
            for interval in trigger.due(&self.runs, DueCheck::WithLease { ran }).await? {
                tracing::debug!(trigger = trigger.name(), %interval, "a run is due");
                let record = self.run_interval(trigger.as_mut(), interval).await?;
                first.get_or_insert(record);
            }
        }
        Ok(first)
    }

    /// Runs an interval, and tells the trigger how the run ended.
    async fn run_interval(
        &self,
        trigger: &mut dyn Trigger,
        interval: Interval,
    ) -> Result<RunRecord> {
        let (began, machine_began) = (self.context.now(), self.context.machine_now());
        let run = async {
            let job = trigger.job(&self.runs, interval).await?;
            self.runs
                .run_pass(&job, &[interval], &(Arc::new(()) as _))
                .await
        };
        let result = run.await;
        let run = EndedRun {
            interval,
            began,
            machine_began,
            result: result.map(|mut runs| {
                let run = runs.pop().expect("one interval was requested");
                run.record
            }),
        };
        trigger.ended(&self.runs, run).await
    }
}
