//! `wafer runs`.

use std::process::ExitCode;

use anyhow::Result;

use super::CommandContext;
use crate::app;
use crate::output::{table, thousands};

/// List runs, newest first.
#[derive(Debug, clap::Args)]
pub(crate) struct Runs {
    /// List only the runs of this pipeline
    pipeline: Option<String>,

    /// Greatest number of runs to list
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: usize,
}

impl Runs {
    pub(crate) async fn run(self, context: &CommandContext) -> Result<ExitCode> {
        let project = context.project()?;
        let platform = app::open_to_read(&project, None).await?;
        let wanted = |name: &str| self.pipeline.as_deref().is_none_or(|p| p == name);
        let runs: Vec<_> = platform
            .pipelines()
            .runs()
            .all()
            .await?
            .into_iter()
            .filter(|r| wanted(&r.pipeline))
            .take(self.limit)
            .collect();
        context.format.print(&runs, || {
            if runs.is_empty() {
                return "no runs yet; start one with `wafer run PIPELINE`".to_owned();
            }
            let rows: Vec<_> = runs
                .iter()
                .map(|run| {
                    let seconds = run
                        .finished
                        .map(|end| (end.as_micros() - run.started.as_micros()) as f64 / 1e6);
                    vec![
                        run.id.clone(),
                        run.interval.to_string(),
                        run.generation.to_string(),
                        format!("{:?}", run.state).to_lowercase(),
                        thousands(run.rows_read),
                        thousands(run.rows_written),
                        thousands(run.rows_rejected),
                        seconds.map_or_else(String::new, |s| format!("{s:.2}")),
                        run.error.clone().unwrap_or_default(),
                    ]
                })
                .collect();
            let header = [
                "run",
                "interval",
                "generation",
                "state",
                "read",
                "written",
                "rejected",
                "seconds",
                "error",
            ];
            table(&header, &rows)
        });
        Ok(ExitCode::SUCCESS)
    }
}
