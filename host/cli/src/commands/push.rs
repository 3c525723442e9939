//! `wafer push`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use wafer_platform::{Delivery, EventResult, Format, IncomingEvent, IngestReport, TextLines};

use super::CommandContext;
use crate::app::{self, ClockOption};
use crate::http;
use crate::output::{path_text, say, thousands};

/// Push events to a source.
///
/// Events are JSON objects in UTF-8, one in each line of at most 16 MiB. A file may be
/// compressed (.gz, .zst). Without --server the events are written directly to the
/// stores of the project, which is safe while a server uses them.
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

/// The greatest number of events in a batch.
const BATCH: usize = 1_000;
/// The size of the events, in bytes, from which on no further ones come into a batch. With one of
/// the greatest size, a batch is smaller than the body of a request may be.
const BATCH_BYTES: usize = 4 << 20;
/// The number of rejected events that are printed.
const SHOWN_REJECTS: usize = 20;

/// Checks that the name of a file is not that of a format that has no events.
fn check_format(file: &Path) -> Result<()> {
    match Format::of_source(file) {
        Err(_) | Ok(Format::Ndjson) => Ok(()),
        Ok(format) => bail!(
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
        let lines = open(&self.file)?;
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
        mut lines: TextLines,
        place: &str,
    ) -> Result<Summary> {
        let mut summary = Summary::default();
        if let Some(server) = &self.server {
            while let Some(batch) = next_batch(&mut lines)? {
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
        while let Some(batch) = next_batch(&mut lines)? {
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

/// Opens a file with events, or standard input.
fn open(path: &Path) -> Result<TextLines> {
    if path.as_os_str() == "-" {
        let name = Path::new("standard input");
        return Ok(TextLines::open(name, std::io::stdin(), 0)?);
    }
    let cannot = || format!("cannot read {}", path_text(path));
    let file = File::open(path).with_context(cannot)?;
    let size = file.metadata().with_context(cannot)?.len();
    Ok(TextLines::open(path, file, size)?)
}

/// The number of a line, from 1, and its text.
type Line = (u64, Vec<u8>);

/// Reads the next events, or returns `None` at the end of the file.
fn next_batch(lines: &mut TextLines) -> Result<Option<Vec<Line>>> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < BATCH && bytes < BATCH_BYTES {
        let Some((number, text)) = lines.next_line()? else {
            break;
        };
        bytes += text.len();
        batch.push((number, text));
    }
    Ok((!batch.is_empty()).then_some(batch))
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

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// The numbers of events in the batches of a text.
    fn batches(text: String) -> Vec<usize> {
        let mut lines = TextLines::open(Path::new("-"), Cursor::new(text), 0).unwrap();
        std::iter::from_fn(|| next_batch(&mut lines).unwrap())
            .map(|batch| batch.len())
            .collect()
    }

    #[test]
    fn batches_are_bounded_by_their_events_and_by_their_bytes() {
        assert_eq!(batches("{}\n\n".repeat(2_500)), [1_000, 1_000, 500]);
        let large = format!("{}\n", "x".repeat(BATCH_BYTES / 2));
        assert_eq!(batches(large.repeat(5)), [2, 2, 1]);
        assert!(batches(String::new()).is_empty());
    }

    #[test]
    fn files_of_other_formats_are_refused_by_name() {
        for (file, is_taken) in [
            ("-", true),
            ("a.ndjson", true),
            ("a.jsonl.gz", true),
            ("a.json.zst", true),
            ("a.log", true),
            ("a.csv", false),
            ("a.csv.gz", false),
            ("a.parquet", false),
        ] {
            assert_eq!(check_format(Path::new(file)).is_ok(), is_taken, "{file}");
        }
    }
}
