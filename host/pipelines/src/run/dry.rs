//! Dry runs: they read the source and call the function as a run does, and write nothing.
//!
//! A dry run goes the way of a run up to the commit: same input, same function, same checks, also
//! against the intervals that were run before. It takes no lease and no claim, so it can be made
//! beside a run of the same pipeline. It always reads the whole input, as a first run over the
//! interval would. Events that are in the outbox are not read, because they would have to be
//! flushed to the tables first.

use std::sync::Arc;

use serde::Serialize;
use wafer_catalog::{Progress, Reject, RunRecord};
use wafer_core::rules::Interval;
use wafer_store::{Kind, Result};

use crate::input::Selection;
use crate::run::job::OnlineUpdate;
use crate::run::rejects::check_rejects;
use crate::run::write::{IntervalWork, check_all_rows};
use crate::run::{PlannedRun, RunRequest, Runs};

/// What a run would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DryRun {
    /// The name of the pipeline.
    pub pipeline: String,
    /// The data interval that the run would cover.
    pub interval: Interval,
    /// The number of source rows that were read, including those of other intervals.
    pub rows_read: u64,
    /// The number of rows that would be written.
    pub rows_to_write: u64,
    /// The number of computed rows whose time is outside the interval.
    pub rows_outside: u64,
    /// The number of rows that would be rejected.
    pub rows_rejected: u64,
    /// The number of rows that would be left out because their entity was deleted after they
    /// happened.
    pub rows_deleted: u64,
    /// The number of rows that would be written although they break an expectation.
    pub rows_warned: u64,
    /// The first of the rejected rows.
    pub rejects: Vec<Reject>,
    /// Problems of the run as a whole that would not make it fail.
    pub warnings: Vec<String>,
    /// Why the run would fail.
    pub error: Option<String>,
}

impl Runs {
    /// Reads the source of a pipeline and calls its function over an interval, and reports what a
    /// run would do. Nothing is written.
    ///
    /// # Errors
    /// Returns the errors of [`run`](Self::run) for a source or function that stops a run, such as
    /// a file that cannot be read, and for an interval that overlaps another one. A run that would
    /// fail because of its rows is reported.
    pub async fn dry_run(
        &self,
        request: &RunRequest,
        progress: Arc<dyn Progress>,
    ) -> Result<DryRun> {
        progress.stage("reading the source");
        self.check_interval(request)?;
        let definitions = self.context.definitions();
        let job = self
            .jobs
            .job(&definitions, request, None, OnlineUpdate::Never)
            .await?;
        let interval = request.interval;
        let claims = self.records.claims(&job.target.table.name).await?;
        self.planner.check_overlaps(&job, interval, &claims).await?;
        let planned = PlannedRun {
            record: RunRecord::new(
                &job.name,
                &job.target.table.name,
                interval,
                job.inputs_over(interval, None),
                job.started,
                self.context.machine_now(),
            ),
            is_done: false,
            files: Vec::new(),
            is_behind: false,
        };
        let table = job.input.table();
        let selection = Selection {
            files: table.map_or_else(Vec::new, |table| table.files().to_vec()),
            arrivals: interval,
        };
        let mut works = [IntervalWork::new(&planned, &job)];
        let unplaced = self
            .writer
            .write_files(&job, &mut works, &[0], &selection, &progress)
            .await?;
        let [work] = works;
        let mut record = work.record;
        let offline = &self.context.components().stores.offline;
        let checked = check_all_rows(&mut record, &work.checks);
        let checked = match checked {
            Ok(()) => check_rejects(offline, &job, &[&record], unplaced.rows).await,
            broken => broken,
        };
        let error = match checked {
            Ok(()) => None,
            Err(e) if e.kind() == Kind::Invalid => Some(e.to_string()),
            Err(e) => return Err(e),
        };
        Ok(DryRun {
            pipeline: record.pipeline,
            interval,
            rows_read: record.rows_read,
            rows_to_write: record.rows_written,
            rows_outside: record.rows_outside,
            rows_rejected: record.rows_rejected,
            rows_deleted: record.rows_deleted,
            rows_warned: record.rows_warned,
            rejects: record.rejects,
            warnings: record.warnings,
            error,
        })
    }
}
