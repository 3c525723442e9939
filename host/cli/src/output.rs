//! Printing: results go to standard output, and everything else to standard error.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tracing_subscriber::EnvFilter;
use wafer_platform::Progress;

/// The format in which results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Text for people.
    Text,
    /// One JSON document, for scripts.
    Json,
}

impl Format {
    /// Prints a result, either as JSON or as the text that `text` makes.
    pub(crate) fn print<T: Serialize>(self, value: &T, text: impl FnOnce() -> String) {
        match self {
            Self::Json => {
                let json = serde_json::to_string_pretty(value).expect("results always serialise");
                line(json);
            }
            Self::Text => line(text()),
        }
    }
}

/// Prints a line of a result. Errors are ignored, because a command need not fail when the reader
/// of its output has gone away.
pub(crate) fn line(text: impl Display) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}");
}

/// Prints a line about the progress of a command to standard error.
pub(crate) fn say(text: impl Display) {
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "{text}");
}

/// Prints an error with its causes. A cause that an earlier message contains already is left out.
pub(crate) fn error(error: &anyhow::Error) {
    let mut text = format!("error: {error}");
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str(&format!("\n  caused by: {cause}"));
        }
    }
    say(text);
}

/// Starts the log, which goes to standard error. `RUST_LOG` filters it; without that, `verbose`
/// decides how much is logged.
pub(crate) fn start_log(verbose: bool) {
    let default = if verbose {
        "info,function=trace"
    } else {
        "warn,delta_kernel=error,deltalake_core=error"
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

/// A progress bar. It is hidden unless standard error is a terminal.
pub(crate) struct Bar {
    bar: ProgressBar,
    label: String,
    started: Mutex<Option<Instant>>,
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
            started: Mutex::new(None),
        }
    }

    /// Removes the progress bar from the terminal.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for Bar {
    fn read(&self, rows: u64, total: Option<u64>) {
        let mut started = self
            .started
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if started.is_none() {
            *started = Some(Instant::now());
            let template = match total {
                Some(_) => "{msg} {bar:30} {human_pos}/{human_len} rows  {per_sec}  {eta} left",
                None => "{msg} {spinner} {human_pos} rows  {per_sec}",
            };
            self.bar
                .set_style(ProgressStyle::with_template(template).expect("a valid template"));
            if let Some(total) = total {
                self.bar.set_length(total);
            }
        }
        self.bar.set_position(rows);
    }

    fn stage(&self, stage: &str) {
        self.bar.set_message(format!("{}: {stage}", self.label));
    }
}

/// Formats rows as a table with a header and aligned columns.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|h| h.chars().count()).collect();
    for row in rows {
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
    let mut lines = vec![line(&mut header.iter().copied())];
    lines.extend(
        rows.iter()
            .map(|row| line(&mut row.iter().map(String::as_str))),
    );
    lines.join("\n")
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
