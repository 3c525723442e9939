//! `wafer redrive`.

use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use serde::Serialize;
use wafer_core::escaped;
use wafer_platform::{Definitions, LeftBehind, RedriveReport, RedriveRequest};

use super::CommandContext;
use crate::app;
use crate::output::{say, thousands};

/// Take in the events of streams that AWS Lambda gave up.
///
/// Lambda keeps the batches of Kinesis and of DynamoDB Streams that it gave up in the
/// bucket of the project, below aws/lambda/. Their events are taken in with the
/// identities that they have in the stream, so that each counts once. A batch is removed
/// from the bucket when all of it was taken in; what cannot be read or is rejected stays
/// there, and is named with the reason. The exit code is 2 then.
///
/// Dead letters of queues are moved back by SQS; the commands for that are printed.
///
/// WAFER_EVENT_SOURCES says which source takes the events of a stream;
/// `terraform output -raw environment` prints it.
///
/// Examples:
///   wafer redrive --dry-run
///   wafer redrive clicks
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Redrive {
    /// The source whose events are taken in; default: all sources
    source: Option<String>,

    /// Only say what would be taken in and what would stay
    #[arg(long)]
    dry_run: bool,

    /// The greatest number of batches that are taken in whole and removed; those that stay are
    /// read as well, and do not count
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    limit: usize,

    /// Take in batches that are older than the source's `remember` as well, of which events
    /// may count again that were taken in before
    #[arg(long)]
    accept_forgotten: bool,
}

/// What is printed.
#[derive(Serialize)]
struct Redriven {
    #[serde(flatten)]
    report: RedriveReport,
    /// The commands by which the dead letters of queues come back.
    queues: Vec<String>,
}

impl Redrive {
    pub(crate) async fn run(self, context: &CommandContext) -> Result<ExitCode> {
        let project = context.project()?;
        let source = self.source.as_deref();
        let failed = app::failed_batches(&project, source)?;
        if let Some(source) = source {
            ensure!(
                failed.sources.iter().any(|known| known == source),
                "WAFER_EVENT_SOURCES names no source `{source}`; it names {}",
                match failed.sources.is_empty() {
                    true => "none, so that all events come by HTTP".to_owned(),
                    false => failed.sources.join(", "),
                }
            );
        }
        let platform = app::open(&project, None).await?;
        check_sources(&failed.sources, &platform.context().definitions())?;
        let request = RedriveRequest {
            folder: failed.folder,
            source: self.source,
            limit: self.limit,
            dry_run: self.dry_run,
            accept_forgotten: self.accept_forgotten,
        };
        let redriven = platform
            .pipelines()
            .redrives()
            .redrive(&request, &*failed.decode);
        let report = redriven.await?;
        // Also when nothing was accepted: a process that was killed before its flush may have left
        // events in the outbox that are known now, and refused ones have rows in it as well.
        if !self.dry_run {
            platform.tables().flush().await?;
        }
        for left in &report.left_by_name {
            say(left_text(left));
        }
        let redriven = Redriven {
            report,
            queues: failed.commands,
        };
        context
            .format
            .print(&redriven, || redriven.text(self.dry_run));
        Ok(match redriven.report.left {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::from(2),
        })
    }
}

/// Checks that the sources that `WAFER_EVENT_SOURCES` names take events in this project. A misspelt
/// one would take in nothing, and its queues would have no command.
fn check_sources(sources: &[String], definitions: &Definitions) -> Result<()> {
    let known = definitions.sources.iter();
    let known = known.filter(|(_, source)| source.kind.takes_events());
    let known: Vec<&str> = known.map(|(name, _)| name.as_str()).collect();
    let unknown = sources.iter().find(|name| !known.contains(&name.as_str()));
    match (unknown, known.is_empty()) {
        (None, _) => Ok(()),
        (Some(name), true) => bail!(
            "WAFER_EVENT_SOURCES names the source `{name}`, and no source takes events here; run \
             `wafer apply`"
        ),
        (Some(name), false) => bail!(
            "WAFER_EVENT_SOURCES names the source `{name}`, which takes no events here; the known ones are {}",
            known.join(", ")
        ),
    }
}

fn left_text(left: &LeftBehind) -> String {
    match &left.event {
        Some(event) => format!("left {}: {event}: {}", left.file, left.reason),
        None => format!("left {}: {}", left.file, left.reason),
    }
}

impl Redriven {
    fn text(&self, dry_run: bool) -> String {
        let report = &self.report;
        let count = |number: usize| thousands(number as u64);
        let mut text = format!("{} batches read: ", count(report.batches));
        text += &match dry_run {
            true => format!(
                "{} events can be taken in; nothing was",
                count(report.readable)
            ),
            false => format!(
                "{} events accepted, {} already known; {} batches removed",
                count(report.accepted),
                count(report.duplicate),
                count(report.removed)
            ),
        };
        for (number, what) in [
            (report.left, "left behind"),
            (report.of_other_sources, "batches of other sources"),
            (report.not_looked_at, "batches not looked at (--limit)"),
        ] {
            if number > 0 {
                text += &format!("; {} {what}", count(number));
            }
        }
        if !self.queues.is_empty() {
            text += "\nDead letters of queues are moved back by SQS:";
            for command in &self.queues {
                text += &format!("\n  {}", escaped(command));
            }
        }
        text
    }
}
