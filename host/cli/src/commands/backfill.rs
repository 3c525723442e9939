//! `wafer backfill`.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use wafer_core::{Duration, Timestamp};
use wafer_platform::BackfillRequest;

use super::CommandContext;
use super::apply::{read_sources, warn_of_unread_files};
use crate::app::{self, ClockOption};
use crate::output::{Bar, thousands};

/// Fill a pipeline's group with history, interval by interval.
///
/// Intervals whose inputs did not change are skipped, and those with changed inputs
/// are replaced, so that a backfill can be stopped and repeated at any time. More than
/// 100 intervals are combined if they have few rows, and are replaced together. A new
/// version of a group that `wafer apply` staged is filled beside the live one, and
/// becomes live as soon as it is complete. The available time of a row is when a
/// scheduled run would have made it visible.
///
/// Examples:
///   wafer backfill plane_outcome --from 2013-01-01 --to 2014-01-01
///   wafer backfill airport_weather --from 2013-01-01 --to 2013-02-01 --interval 1h
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment, after_help = super::TIMES)]
pub(crate) struct Backfill {
    /// The pipeline
    pipeline: String,

    /// First event time to cover
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse_argument)]
    from: Timestamp,

    /// End of the event times to cover, not included
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse_argument)]
    to: Timestamp,

    /// Length of an interval; default: the intervals of the schedule, or 1d
    #[arg(long, value_name = "DURATION")]
    interval: Option<Duration>,

    /// Number of chunks that are transformed at the same time, at most two for each
    /// processor; default: one for each
    #[arg(long, value_name = "N")]
    workers: Option<usize>,

    /// Clock to use instead of the machine's; it decides which events are in the future
    #[arg(long, value_name = "START[,SPEED]")]
    clock: Option<ClockOption>,
}

impl Backfill {
    pub(crate) async fn run(self, context: &CommandContext) -> Result<ExitCode> {
        let project = context.project()?;
        let platform = app::open(&project, self.clock).await?;
        let staged = platform.context().staged();
        let definitions = staged.unwrap_or_else(|| platform.context().definitions());
        warn_of_unread_files(read_sources(&definitions, Some(&self.pipeline))).await?;
        let request = BackfillRequest {
            pipeline: self.pipeline,
            from: self.from,
            to: self.to,
            interval: self.interval,
            workers: app::workers(self.workers),
        };
        let bar = Arc::new(Bar::new(&request.pipeline));
        let result = platform
            .pipelines()
            .backfills()
            .backfill(&request, Arc::clone(&bar) as _)
            .await;
        bar.finish();
        let report = result?;
        context.format.print(&report, || {
            let mut text = format!(
                "{}: {} intervals, {} written, {} rows, {} rejected",
                report.table,
                thousands(report.intervals as u64),
                thousands(report.written as u64),
                thousands(report.rows_written),
                thousands(report.rows_rejected)
            );
            if let Some(entities) = report.entities {
                text += &format!("; {} entities online", thousands(entities));
            }
            if report.became_live {
                text += "; the new version is live";
            }
            if let Some(missing) = report.missing {
                text += &format!(
                    "\nThe new version is not live yet: the old one has rows of times for which \
                     the new one was not filled, or what it was filled from has changed since, \
                     first from {} to {}. Backfill these times as well, or leave their rows \
                     behind with `wafer apply --now`",
                    missing.from, missing.to
                );
            }
            text
        });
        Ok(ExitCode::SUCCESS)
    }
}
