//! `wafer push`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use wafer_platform::{Delivery, EventResult, Format, IncomingEvent, IngestReport};

use super::CommandContext;
use crate::app::{self, ClockOption};
use crate::http;
use crate::output::{path_text, say, thousands};

/// Push events to a source.
///
/// Events are JSON objects, one in each line. Without --server they are written
/// directly to the stores of the project, which is safe while a server uses them.
/// The exit code is 2 when events were rejected. The others are durable, and pushing
/// them again changes nothing.
///
/// Examples:
///   wafer push weather_reports reports.ndjson
///   wafer push weather_reports - --server http://127.0.0.1:8080
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
#[allow(
    rustdoc::bare_urls,
    reason = "this is the help of the command, in which an address is to be copied"
)]
pub(crate) struct Push {
    /// The source
    source: String,

    /// File with the events; `-` for standard input
    file: PathBuf,

    /// Push to this server instead of the stores
    #[arg(long, value_name = "URL", conflicts_with = "clock")]
    server: Option<String>,

    /// Push events of the past: each counts as visible from when it happened, plus the
    /// `delay` of the source
    #[arg(long, conflicts_with = "server")]
    backfill: bool,

    /// Clock to use instead of the machine's; it decides when the events arrive
    #[arg(long, value_name = "START[,SPEED]")]
    clock: Option<ClockOption>,
}

/// The number of events in a batch.
const BATCH: usize = 1_000;
/// The number of rejected events that are printed.
const SHOWN_REJECTS: usize = 20;

/// Checks that the name of a file is not that of a format that has no events.
fn check_format(file: &Path) -> Result<()> {
    match Format::of_extension(file) {
        None | Some(Format::Ndjson) => Ok(()),
        Some(format) => bail!(
            "{} is {format:?}, and events are JSON objects, one in each line: convert it, or name the file in a source \
             with `type = \"files\"` and read it with `wafer run`",
            path_text(file)
        ),
    }
}

/// The sum of the reports of all batches.
#[derive(Default, Serialize)]
struct Summary {
    accepted: usize,
    duplicate: usize,
    rejected: usize,
    late: usize,
    too_late: usize,
    older: usize,
    early: usize,
    rejects: Vec<String>,
}

impl Summary {
    fn add(&mut self, report: &IngestReport, place: &str, lines: &[Line]) {
        self.accepted += report.accepted;
        self.duplicate += report.duplicate;
        self.rejected += report.rejected;
        self.late += report.late;
        self.too_late += report.too_late;
        self.older += report.older;
        self.early += report.early;
        for (event, (line, _)) in report.events.iter().zip(lines) {
            if let EventResult::Rejected { error } = event
                && self.rejects.len() < SHOWN_REJECTS
            {
                self.rejects.push(format!("{place}:{line}: {error}"));
            }
        }
    }

    fn text(&self) -> String {
        let count = |number: usize| thousands(number as u64);
        let mut text = format!(
            "{} accepted, {} already known, {} rejected",
            count(self.accepted),
            count(self.duplicate),
            count(self.rejected)
        );
        for (what, number) in [
            ("late", self.late),
            ("too late, to be healed", self.too_late),
            ("older than what was stored", self.older),
            ("not due yet", self.early),
        ] {
            if number > 0 {
                text += &format!("; {} {what}", count(number));
            }
        }
        text
    }
}

impl Push {
    pub(crate) async fn run(self, context: &CommandContext) -> Result<ExitCode> {
        let place = self.file.display().to_string();
        check_format(&self.file)?;
        let reader: Box<dyn BufRead> = if self.file.as_os_str() == "-" {
            Box::new(BufReader::new(std::io::stdin()))
        } else {
            let file =
                std::fs::File::open(&self.file).with_context(|| format!("cannot read {place}"))?;
            Box::new(BufReader::new(file))
        };
        let lines = Lines { reader, number: 0 };
        let summary = self.send(context, lines, &place).await?;
        for reject in &summary.rejects {
            say(format!("rejected {reject}"));
        }
        let text = || format!("{}: {}", self.source, summary.text());
        context.format.print(&summary, text);
        Ok(if summary.rejected == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(2)
        })
    }

    /// Sends the events of lines to the server, or to the project itself. `place` is where the
    /// lines are read.
    async fn send(
        &self,
        context: &CommandContext,
        mut lines: Lines,
        place: &str,
    ) -> Result<Summary> {
        let mut summary = Summary::default();
        if let Some(server) = &self.server {
            while let Some(batch) = lines.batch(place)? {
                let report = post(server, &self.source, &batch)?;
                summary.add(&report, place, &batch);
            }
            return Ok(summary);
        }
        let delivery = match self.backfill {
            true => Delivery::Backfill,
            false => Delivery::Now,
        };
        let platform = app::open(&context.project()?, self.clock).await?;
        while let Some(batch) = lines.batch(place)? {
            let events = batch
                .iter()
                .map(|(_, line)| IncomingEvent::from_json(line))
                .collect();
            let report = platform
                .pipelines()
                .events()
                .ingest(&self.source, events, delivery)
                .await?;
            summary.add(&report, place, &batch);
        }
        platform.tables().flush().await?;
        Ok(summary)
    }
}

/// The number of a line, from 1, and its text.
type Line = (u64, Vec<u8>);

/// Reads lines in batches, and skips blank ones.
struct Lines {
    reader: Box<dyn BufRead>,
    number: u64,
}

impl Lines {
    /// Returns the next batch, or `None` at the end of the file.
    fn batch(&mut self, place: &str) -> Result<Option<Vec<Line>>> {
        let mut batch = Vec::new();
        let mut line = Vec::new();
        while batch.len() < BATCH {
            line.clear();
            if self
                .reader
                .read_until(b'\n', &mut line)
                .with_context(|| format!("cannot read {place}"))?
                == 0
            {
                break;
            }
            self.number += 1;
            let text = line.trim_ascii();
            if !text.is_empty() {
                batch.push((self.number, text.to_vec()));
            }
        }
        Ok((!batch.is_empty()).then_some(batch))
    }
}

fn post(server: &str, source: &str, batch: &[Line]) -> Result<IngestReport> {
    let body = batch
        .iter()
        .map(|(_, line)| line.as_slice())
        .collect::<Vec<_>>()
        .join(&b'\n');
    let url = format!(
        "{}/v1/sources/{source}/events",
        server.trim_end_matches('/')
    );
    http::post(&url, "application/x-ndjson", &body)
}
