//! `wafer schedules`.

use std::process::ExitCode;

use anyhow::Result;
use wafer_platform::ScheduleStatus;

use super::CommandContext;
use crate::app;
use crate::output::{table, thousands};

/// List the schedules of pipelines, or pause and resume one. A running `wafer serve`
/// executes them.
///
/// Examples:
///   wafer schedules
///   wafer schedules --pause airport_weather
///   wafer schedules --resume airport_weather
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Schedules {
    /// Pause this pipeline until it is resumed
    #[arg(long, value_name = "PIPELINE", conflicts_with = "resume")]
    pause: Option<String>,

    /// Resume this pipeline; missed intervals are run, as far back as its `catch_up`
    /// allows
    #[arg(long, value_name = "PIPELINE")]
    resume: Option<String>,
}

impl Schedules {
    pub(crate) async fn run(self, context: &CommandContext) -> Result<ExitCode> {
        let platform = app::open(&context.project()?, None).await?;
        if let Some(pipeline) = &self.pause {
            platform
                .pipelines()
                .triggers()
                .pause_schedule(pipeline)
                .await?;
        }
        if let Some(pipeline) = &self.resume {
            platform
                .pipelines()
                .triggers()
                .resume_schedule(pipeline)
                .await?;
        }
        let schedules = platform.pipelines().triggers().schedules().await?;
        context.format.print(&schedules, || text(&schedules));
        Ok(ExitCode::SUCCESS)
    }
}

fn text(schedules: &[ScheduleStatus]) -> String {
    if schedules.is_empty() {
        return "no pipeline has a `schedule`".to_owned();
    }
    let rows: Vec<_> = schedules
        .iter()
        .map(|status| {
            let next = match (status.state.paused, status.next) {
                (true, _) => "paused".to_owned(),
                (false, next) => next.map_or_else(String::new, |next| next.to_string()),
            };
            vec![
                status.pipeline.clone(),
                status.schedule.cron.clone(),
                status.schedule.timezone.clone(),
                status.state.done.to_string(),
                next,
                thousands(status.state.skipped),
                thousands(status.state.failed),
            ]
        })
        .collect();
    let header = [
        "pipeline",
        "cron",
        "timezone",
        "done up to",
        "next run",
        "skipped",
        "failed",
    ];
    table(&header, &rows)
}
