//! Printing: results go to standard output, and everything else to standard error.
//!
//! Texts can have parts that came from outside: names, values, documentation, messages of
//! functions. Everything that is printed here is escaped ([`wafer_core::escaped`]), so that it
//! cannot control a terminal. A part that may contain line breaks and is shown within a text of
//! several lines is escaped by whoever puts that text together, as [`table`] does, so that it
//! cannot pose as a line of its own. JSON has the exact values.

use std::borrow::Cow;
use std::fmt::Display;
use std::fs::File;
use std::io::{IsTerminal as _, Read, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use serde::Serialize;
use wafer_core::{MAX_ERROR_BYTES, cut, escaped, escaped_json, escaped_lines};
use wafer_log::Destination;
use wafer_platform::{BackfillEstimate, Format as FileFormat, PartialFile, Progress};

/// The format in which results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OutputFormat {
    /// Text for people.
    Text,
    /// One JSON document, for scripts.
    Json,
}

/// The format in which rows are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum RowFormat {
    /// A table for people, with long values cut.
    Table,
    /// Comma-separated values.
    Csv,
    /// One JSON object in each line.
    Ndjson,
    /// An Arrow IPC stream.
    Arrow,
    /// Parquet.
    Parquet,
}

impl RowFormat {
    /// Returns the format of a file, or `None` for a table, which is only printed.
    pub(crate) fn of_file(self) -> Option<FileFormat> {
        match self {
            Self::Table => None,
            Self::Csv => Some(FileFormat::Csv),
            Self::Ndjson => Some(FileFormat::Ndjson),
            Self::Arrow => Some(FileFormat::ArrowStream),
            Self::Parquet => Some(FileFormat::Parquet),
        }
    }
}

impl OutputFormat {
    /// Prints a result, either as JSON or as the text that `text` makes.
    pub(crate) fn print<T: Serialize>(self, value: &T, text: impl FnOnce() -> String) {
        match self {
            Self::Json => {
                let json = serde_json::to_string_pretty(value).expect("results always serialise");
                write_result(&escaped_json(&json));
            }
            Self::Text => line(text()),
        }
    }
}

/// Prints a result, which may have several lines.
pub(crate) fn line(text: impl Display) {
    write_result(&escaped_lines(&text.to_string()));
}

/// Returns the standard output as a file, for rows in a format of files.
pub(crate) fn standard_output() -> std::io::Result<File> {
    let out = std::io::stdout();
    out.lock().flush()?;
    Ok(File::from(out.as_fd().try_clone_to_owned()?))
}

/// Writes a file that a user named, and returns its size. It is there when it is complete, so that
/// a process that is killed leaves no half of it.
pub(crate) fn write_file(path: &Path, mut content: impl Read) -> anyhow::Result<u64> {
    let failed = || format!("cannot write {}", path.display());
    let partial = PartialFile::create(path)?;
    let bytes = std::io::copy(&mut content, &mut partial.file()).with_context(failed)?;
    partial.complete().with_context(failed)?;
    Ok(bytes)
}

/// Returns whether an error is that the reader of the output has gone away, which makes no command
/// fail: `wafer export … | head` is done when `head` is.
pub(crate) fn has_no_reader(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>();
        io.is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

/// Writes a result. Errors are ignored, because a command need not fail when the reader of its
/// output has gone away.
fn write_result(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}");
}

/// Prints a line about the progress of a command to standard error.
pub(crate) fn say(text: impl Display) {
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "{}", escaped(&text.to_string()));
}

/// Prints an error with its causes. A cause that an earlier message contains already is left out.
pub(crate) fn error(error: &anyhow::Error) {
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "{}", error_text(error));
}

/// Formats an error with its causes, each of them cut.
fn error_text(error: &anyhow::Error) -> String {
    let (mut known, mut text) = (String::new(), String::new());
    for (number, cause) in error.chain().enumerate() {
        let message = cut(cause);
        if number > 0 && known.contains(&message) {
            continue;
        }
        // A long message has been cut, and the causes in it with it.
        if known.len() + 64 > MAX_ERROR_BYTES {
            break;
        }
        text += if number == 0 {
            "error: "
        } else {
            "\n  caused by: "
        };
        text += &indented(&message);
        known += &message;
    }
    text
}

/// Starts the log, which goes to standard error. `RUST_LOG` filters it; without that, `verbose`
/// decides how much is logged: warnings, that a large component is compiled, and what trainers say
/// of what they learn from.
///
/// # Errors
/// Returns an error when `RUST_LOG` is not one line of text.
pub(crate) fn start_log(verbose: bool) -> anyhow::Result<()> {
    let default = match verbose {
        true => "debug,function=trace,trainer=trace",
        false => "warn,compiler=info,trainer=info",
    };
    let filter = wafer_config::variable("RUST_LOG")?;
    wafer_log::start(Destination::People, filter.as_deref(), default);
    Ok(())
}

/// A progress bar. It is hidden unless standard error is a terminal.
pub(crate) struct Bar {
    bar: ProgressBar,
    label: String,
    stage: Mutex<Stage>,
}

/// The stage of the work that a progress bar shows.
struct Stage {
    name: String,
    /// When the stage began. Rates are of one stage alone, because others work on other rows.
    started: Instant,
    /// The number of rows that the bar ends at.
    total: Option<u64>,
}

impl Bar {
    /// Returns a progress bar with a label, such as the name of a pipeline.
    pub(crate) fn new(label: &str) -> Self {
        let bar = if std::io::stderr().is_terminal() {
            ProgressBar::new_spinner()
        } else {
            ProgressBar::hidden()
        };
        bar.enable_steady_tick(Duration::from_millis(100));
        Self {
            bar,
            label: label.to_owned(),
            stage: Mutex::new(Stage {
                name: String::new(),
                started: Instant::now(),
                total: None,
            }),
        }
    }

    /// Removes the progress bar from the terminal.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for Bar {
    fn read(&self, rows: u64, total: Option<u64>) {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        // Sources may have more rows than they said, such as those of files that grow.
        let total = total.filter(|total| *total >= rows);
        if stage.total != total {
            stage.total = total;
            self.bar.set_style(match total {
                Some(_) => style("{prefix} {bar:30} {msg}"),
                None => style("{prefix} {spinner} {msg}"),
            });
            self.bar.set_length(total.unwrap_or_default());
        }
        self.bar.set_position(rows);
        self.bar
            .set_message(pace(rows, total, stage.started.elapsed()));
    }

    fn backfill(&self, estimate: &BackfillEstimate) {
        let text = backfill_text(estimate);
        self.bar.suspend(|| say(format!("{}: {text}", self.label)));
    }

    fn stage(&self, stage: &str) {
        let mut current = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if current.name == stage {
            return;
        }
        *current = Stage {
            name: stage.to_owned(),
            started: Instant::now(),
            total: None,
        };
        let prefix = format!("{}: {stage}", self.label);
        tracing::info!("{prefix}");
        self.bar.set_style(style("{prefix} {spinner} {msg}"));
        self.bar.set_position(0);
        self.bar.set_prefix(escaped(&prefix).into_owned());
        self.bar.set_message(String::new());
    }
}

/// Says how much work a backfill is.
fn backfill_text(estimate: &BackfillEstimate) -> String {
    let counted = |number: usize, one: &str, many: &str| {
        let name = if number == 1 { one } else { many };
        format!("{} {name}", thousands(number as u64))
    };
    let intervals = counted(estimate.intervals, "interval", "intervals");
    let pieces = counted(estimate.pieces, "piece", "pieces");
    let passes = counted(estimate.passes, "pass", "passes");
    let mut text = format!("{intervals} in {pieces}, {passes} over the source");
    if let Some(rows) = estimate.rows {
        text += &format!(" of about {} rows", thousands(rows));
    }
    if let Some(duration) = estimate.duration {
        let seconds = u64::try_from(duration.as_micros())
            .unwrap_or(0)
            .div_ceil(1_000_000);
        text += &match seconds {
            0..60 => format!(", about {} s", seconds.max(1)),
            60..7_200 => format!(", about {} min", seconds.div_ceil(60)),
            _ => format!(", about {} h", thousands(seconds.div_ceil(3_600))),
        };
    }
    text
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("a valid template")
}

/// Formats how many rows of a stage are done, how fast, and how long the others will take at the
/// same speed.
fn pace(rows: u64, total: Option<u64>, elapsed: Duration) -> String {
    let mut text = match total {
        Some(total) => format!("{} of {} rows", thousands(rows), thousands(total)),
        None => format!("{} rows", thousands(rows)),
    };
    // A rate of the first moment says nothing.
    if rows == 0 || elapsed < Duration::from_millis(500) {
        return text;
    }
    let rate = rows as f64 / elapsed.as_secs_f64();
    text += &format!(", {} rows/s", thousands(rate.round() as u64));
    let left = total.map(|total| total.saturating_sub(rows) as f64 / rate);
    // A file may claim so many rows that the time for them is out of range.
    let left = left.and_then(|left| Duration::try_from_secs_f64(left).ok());
    if let Some(left) = left.filter(|left| !left.is_zero()) {
        text += &format!(", {} left", HumanDuration(left));
    }
    text
}

/// Formats rows as a table with a header and aligned columns. Each row is one line, and so is the
/// header, whose names may be those of a file.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<Cow<'_, str>> = header.iter().map(|name| escaped(name)).collect();
    let rows: Vec<Vec<Cow<'_, str>>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| escaped(cell)).collect())
        .collect();
    let mut widths: Vec<usize> = header.iter().map(|h| h.chars().count()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut header.iter().map(AsRef::as_ref))];
    lines.extend(
        rows.iter()
            .map(|row| line(&mut row.iter().map(AsRef::as_ref))),
    );
    lines.join("\n")
}

/// Formats pairs of a name and a text, one in each line, and leaves out those with an empty text.
pub(crate) fn facts(lines: &[(&str, String)]) -> String {
    let lines = lines.iter().filter(|(_, text)| !text.is_empty());
    let lines = lines.map(|(name, text)| format!("{name:13} {}", escaped(text)));
    lines.collect::<Vec<_>>().join("\n")
}

/// Escapes a part of a text that may have several lines. All but the first are indented by four
/// characters, further than the lines of the text itself, so that none poses as one of these.
pub(crate) fn indented(text: &str) -> String {
    escaped_lines(text).replace('\n', "\n    ")
}

/// Formats the path of a file, as a part of a text.
pub(crate) fn path_text(path: &Path) -> String {
    escaped(&path.display().to_string()).into_owned()
}

/// Formats a number with commas between groups of three digits.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backfills_are_announced_with_their_size_and_duration() {
        let estimate = |intervals, pieces, rows, seconds: Option<i64>| BackfillEstimate {
            intervals,
            pieces,
            passes: 1,
            rows,
            duration: seconds.map(|seconds| wafer_core::Duration::from_micros(seconds * 1_000_000)),
        };
        for (estimate, wanted) in [
            (
                estimate(60_768, 1, Some(26_115), Some(0)),
                "60,768 intervals in 1 piece, 1 pass over the source of about 26,115 rows, about 1 s",
            ),
            (
                estimate(1, 1, None, None),
                "1 interval in 1 piece, 1 pass over the source",
            ),
            (
                estimate(30, 30, Some(5), Some(61)),
                "30 intervals in 30 pieces, 1 pass over the source of about 5 rows, about 2 min",
            ),
            (
                estimate(30, 30, Some(5), Some(36_000)),
                "30 intervals in 30 pieces, 1 pass over the source of about 5 rows, about 10 h",
            ),
        ] {
            assert_eq!(backfill_text(&estimate), wanted);
        }
    }

    #[test]
    fn progress_tells_rows_rate_and_time_left_of_a_stage() {
        let seconds = Duration::from_secs;
        for (rows, total, elapsed, wanted) in [
            (0, Some(10), seconds(9), "0 of 10 rows"),
            (5_000, None, Duration::from_millis(1), "5,000 rows"),
            (5_000, None, seconds(10), "5,000 rows, 500 rows/s"),
            (
                60_000,
                Some(180_000),
                seconds(60),
                "60,000 of 180,000 rows, 1,000 rows/s, 2 minutes left",
            ),
            (10, Some(10), seconds(10), "10 of 10 rows, 1 rows/s"),
        ] {
            assert_eq!(pace(rows, total, elapsed), wanted);
        }
    }

    #[test]
    fn text_from_outside_stays_in_its_cell() {
        let rows = [vec!["a\nb".to_owned(), "\u{1b}[2J".to_owned()]];
        assert_eq!(
            table(&["name", "value"], &rows),
            "name  value\na\\nb  \\u{1b}[2J"
        );
        assert_eq!(
            table(&["a\nb", "c"], &[vec!["1".to_owned(), "2".to_owned()]]),
            "a\\nb  c\n1     2"
        );
    }

    #[test]
    fn errors_show_each_cause_once_and_no_line_that_poses_as_another() {
        let cause = anyhow::anyhow!("line one\nerror: forged\u{1b}[2J");
        let error = cause.context("it failed");
        assert_eq!(
            error_text(&error),
            "error: it failed\n  caused by: line one\n    error: forged\\u{1b}[2J"
        );
        let error = anyhow::anyhow!("broken").context("it is broken");
        assert_eq!(error_text(&error), "error: it is broken");
        let error = anyhow::anyhow!("x".repeat(1 << 20));
        assert!(error_text(&error).len() < 4_200);
    }
}
