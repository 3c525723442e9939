//! `wafer run`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use wafer_config::source_def;
use wafer_core::{Timestamp, escaped};
use wafer_platform::{
    DistributedRun, Division, DryRun, Progress, Reject, RequestedRun, RunRequest, SourceDef,
};

use super::apply::{read_sources, warn_of_unread_files};
use super::{CommandContext, interval};
use crate::app::{self, ClockOption};
use crate::output::{Bar, say, thousands};
use crate::partitions;

/// Run a pipeline over the files of its source.
///
/// Writes one commit to the offline table of the group, then the newest row of each
/// entity to the online store. Running again with the same inputs changes nothing,
/// changed inputs replace the rows of the interval, and a run that was killed is
/// continued. A run that rejects more rows than the pipeline's `max_rejects` allows,
/// or would leave no row of an interval that had some, fails and changes nothing.
///
/// Examples:
///   wafer run plane_outcome
///   wafer run plane_outcome --dry-run
///   wafer run plane_outcome --from 2013-01-01 --to 2013-02-01
///   wafer run plane_outcome --processes 4
///   wafer run plane_outcome --on aws
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment, after_help = super::TIMES)]
pub(crate) struct Run {
    /// The pipeline
    pipeline: String,

    /// First event time to cover; default: no start
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse_argument)]
    from: Option<Timestamp>,

    /// End of the event times to cover, not included; default: no end
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse_argument)]
    to: Option<Timestamp>,

    /// Read the source and call the function, report what a run would do, and write nothing
    #[arg(long, conflicts_with_all = ["processes", "on"])]
    dry_run: bool,

    /// Also read the archived raw events of the source that were not written to the
    /// group when they came in
    #[arg(long)]
    archive: bool,

    /// Number of chunks that are transformed at the same time, at most two for each
    /// processor; default: one for each
    #[arg(long, value_name = "N")]
    workers: Option<usize>,

    /// Divide the files of the source among this many processes; the result is the same
    #[arg(long, value_name = "N", conflicts_with_all = ["archive", "workers"], value_parser = clap::value_parser!(u16).range(1..=256))]
    processes: Option<u16>,

    /// Size of the source files in a partition, with --processes or --on; files are not split
    #[arg(long, value_name = "BYTES", value_parser = super::size, default_value = "256MiB")]
    partition_size: u64,

    /// Where to run: `aws` divides the run among Lambda functions, with the state machine
    /// that WAFER_STATE_MACHINE names
    #[arg(long, value_enum, value_name = "WHERE", conflicts_with_all = ["archive", "processes", "workers", "clock"])]
    on: Option<Place>,

    /// Clock to use instead of the machine's; it decides which events are in the future
    #[arg(long, value_name = "START[,SPEED]")]
    clock: Option<ClockOption>,
}

/// The places other than this machine where a run can be worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Place {
    /// Functions of AWS Lambda.
    Aws,
}

impl Run {
    pub(crate) async fn run(self, context: &CommandContext) -> Result<ExitCode> {
        if let Some(Place::Aws) = self.on {
            return self.on_aws(context).await;
        }
        let interval = interval(self.from, self.to)?;
        let project = context.project()?;
        let platform = app::open(&project, self.clock).await?;
        let definitions = platform.context().definitions();
        warn_of_unread_files(read_sources(&definitions, Some(&self.pipeline))).await?;
        let request = RunRequest {
            pipeline: self.pipeline,
            interval,
            archive: self.archive,
            workers: app::workers(self.workers),
        };
        let bar = Arc::new(Bar::new(&request.pipeline));
        let progress: Arc<dyn Progress> = Arc::clone(&bar) as _;
        if self.dry_run {
            let result = platform
                .pipelines()
                .runs()
                .dry_run(&request, progress)
                .await;
            bar.finish();
            return Ok(report(context, &result?));
        }
        let result = match self.processes {
            None => platform.pipelines().runs().run(&request, progress).await,
            Some(processes) => {
                let division = Division {
                    bytes: self.partition_size,
                    ..Division::default()
                };
                let folder = &context.folder;
                let work = async |run: &DistributedRun| {
                    tokio::task::block_in_place(|| {
                        partitions::run_partitions(folder, run, processes.into(), bar.as_ref())
                    })
                };
                platform
                    .pipelines()
                    .distributed_runs()
                    .run_distributed(&request, division, &progress, work)
                    .await
            }
        };
        bar.finish();
        let run = result?;
        let record = &run.record;
        say_rejects(&record.rejects, record.rows_rejected);
        context.format.print(record, || summary(&run));
        Ok(ExitCode::SUCCESS)
    }
}

impl Run {
    /// Runs the pipeline with the state machine on AWS.
    async fn on_aws(&self, context: &CommandContext) -> Result<ExitCode> {
        warn_of_unread_files(self.source_of_project(context)).await?;
        let mut plan = serde_json::Map::new();
        plan.insert("pipeline".to_owned(), self.pipeline.clone().into());
        for (name, time) in [("from", self.from), ("to", self.to)] {
            plan.extend(time.map(|time| (name.to_owned(), time.to_string().into())));
        }
        plan.insert("partition_bytes".to_owned(), self.partition_size.into());
        let bar = Bar::new(&self.pipeline);
        bar.stage("running on AWS");
        let output = app::run_on_aws(&serde_json::json!({ "plan": plan })).await;
        bar.finish();
        let ran = &output?["ran"];
        if ran.is_null() {
            let nothing = serde_json::json!({"ran": null});
            context.format.print(&nothing, || {
                format!(
                    "{}: nothing to do: nothing changed, or no interval of its schedule is due",
                    self.pipeline
                )
            });
            return Ok(ExitCode::SUCCESS);
        }
        let record = serde_json::from_value(ran.clone()).context(
            "the output of the state machine is not a run; is the state machine of this version?",
        )?;
        let run = RequestedRun {
            record,
            is_new: true,
        };
        context.format.print(&run.record, || summary(&run));
        Ok(ExitCode::SUCCESS)
    }

    /// Returns the source of the pipeline by the project file of this folder, if there is one.
    /// `wafer deploy` copies its files from this machine. What runs on AWS is applied, and needs no
    /// project file here, so one that is missing or wrong does not hold it up.
    fn source_of_project(&self, context: &CommandContext) -> BTreeMap<String, SourceDef> {
        let source = || {
            let project = context.project().ok()?;
            let name = &project.pipelines.get(&self.pipeline)?.source;
            let is_defined = project.sources.contains_key(name);
            is_defined.then(|| (name.clone(), source_def(&project, name)))
        };
        source().into_iter().collect()
    }
}

/// Prints the first rejected rows, and how many there are beside them.
fn say_rejects(rejects: &[Reject], count: u64) {
    for Reject { place, message } in rejects {
        say(format!("rejected {place}: {message}"));
    }
    let more = count.saturating_sub(rejects.len() as u64);
    if more > 0 {
        say(format!("rejected {} more rows", thousands(more)));
    }
}

/// Prints what a run would do. Fails if the run would.
fn report(context: &CommandContext, dry: &DryRun) -> ExitCode {
    say_rejects(&dry.rejects, dry.rows_rejected);
    context.format.print(dry, || {
        let mut text = format!(
            "{} over {}: {} rows read, {} to write, {} to reject, {} outside; nothing was written",
            dry.pipeline,
            dry.interval,
            thousands(dry.rows_read),
            thousands(dry.rows_to_write),
            thousands(dry.rows_rejected),
            thousands(dry.rows_outside),
        );
        text += &remarks(dry.rows_warned, &dry.warnings);
        if let Some(error) = &dry.error {
            text += &format!("\nThe run would fail: {}", escaped(error));
        }
        text
    });
    match dry.error {
        None => ExitCode::SUCCESS,
        Some(_) => ExitCode::FAILURE,
    }
}

/// The lines about rows that break an expectation, and about problems of a run as a whole.
fn remarks(rows_warned: u64, warnings: &[String]) -> String {
    let mut text = String::new();
    if rows_warned > 0 {
        text += &format!(
            "\n{} rows break an expectation with policy `warn`",
            thousands(rows_warned)
        );
    }
    for warning in warnings {
        text += &format!("\nwarning: {}", escaped(warning));
    }
    text
}

fn summary(run: &RequestedRun) -> String {
    let record = &run.record;
    if !run.is_new {
        return format!(
            "{} over {}: nothing changed since run {}, nothing to do",
            record.pipeline, record.interval, record.id
        );
    }
    let seconds = record.finished.map_or(0.0, |end| {
        (end.as_micros() - record.started.as_micros()) as f64 / 1e6
    });
    let mut text = format!(
        "{} over {}: {} rows read, {} written, {} rejected, {} outside; {} rows written online; {seconds:.2} s",
        record.pipeline,
        record.interval,
        thousands(record.rows_read),
        thousands(record.rows_written),
        thousands(record.rows_rejected),
        thousands(record.rows_outside),
        thousands(record.online_applied),
    );
    text += &remarks(record.rows_warned, &record.warnings);
    text
}
