//! The log of a program: one line for each event, whatever its fields contain.
//!
//! The programs start it with [`start`]. The values of fields may come from outside. Each is
//! cut to [`MAX_ERROR_BYTES`](wafer_core::MAX_ERROR_BYTES) and escaped, so that no value can break
//! its line or control the terminal that shows it.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::error::Error;
use std::fmt::{self, Debug, Display};
use std::io::{IsTerminal as _, Write as _};
use std::panic::PanicHookInfo;

use tracing::field::{Field, Visit};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{FormatFields, Writer};
use wafer_core::{cut, escaped, escaped_lines};

/// Where the lines of a log go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To standard error, each with its time, and with colours if standard error is a terminal.
    People,
    /// To standard output without times, because the service that collects the lines adds them.
    Collector,
}

/// Starts the log of this process, and escapes what panics say. `filter` has the syntax of the
/// variable `RUST_LOG`, such as `info` or `info,hyper=debug`; one that is absent, empty or cannot
/// be read is replaced by `default`.
///
/// A level alone is that of Wafer and of what functions and trainers log. What the libraries have
/// to say is of use to those who know them, and is logged only if they are named:
/// `info,deltalake_core=debug`.
///
/// # Panics
/// Panics when the log was started before.
pub fn start(destination: Destination, filter: Option<&str>, default: &str) {
    let filter = filter.filter(|filter| !filter.trim().is_empty());
    let filter = filter.and_then(|filter| EnvFilter::try_new(of_wafer(filter)).ok());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|| EnvFilter::new(of_wafer(default))))
        .fmt_fields(Fields);
    std::panic::set_hook(Box::new(print_panic));
    match destination {
        Destination::People => log
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .init(),
        Destination::Collector => log.without_time().with_ansi(false).init(),
    }
}

/// What Wafer logs: the beginnings of the names of its crates, that of the program for Lambda among
/// them, and the targets of the functions and trainers that it calls.
const TARGETS: [&str; 5] = ["wafer", "bootstrap", "compiler", "function", "trainer"];

/// Returns a filter in which each level without a target is that of the [`TARGETS`] alone. Of two
/// directives with one target the last one counts, so these come first: a level of a target
/// replaces them wherever it is in the filter.
fn of_wafer(filter: &str) -> String {
    let is_level = |directive: &&str| directive.parse::<LevelFilter>().is_ok();
    let directives = filter.split(',').map(str::trim);
    let directives = directives.filter(|directive| !directive.is_empty());
    let (levels, others): (Vec<&str>, Vec<&str>) = directives.partition(is_level);
    let of_target = |level: &str| TARGETS.map(|target| format!("{target}={level}"));
    let levels = levels.into_iter().flat_map(of_target);
    let others = others.into_iter().map(str::to_owned);
    levels.chain(others).collect::<Vec<_>>().join(",")
}

/// Returns whether a panic is one that a library makes and catches by itself. A writer of Delta
/// that cannot finish a file, as on a full disk, gives the file up, which `object_store` answers by
/// a panic if the last part was begun. What failed is returned as an error:
/// <https://github.com/delta-io/delta-rs/blob/main/crates/core/src/datafile/writer.rs>.
fn is_caught(file: &str, message: &str) -> bool {
    let is_writer = file.contains("/object_store-") && file.ends_with("/src/buffered.rs");
    is_writer && message == "Already shut down"
}

/// Prints a panic as the standard library does, but escaped: its message may quote what came from
/// outside. Errors are ignored, because nobody can be told.
fn print_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("no message");
    if panic
        .location()
        .is_some_and(|place| is_caught(place.file(), message))
    {
        tracing::debug!("a file that could not be written is given up a second time");
        return;
    }
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("<unnamed>");
    let message = cut(message);
    let message = escaped_lines(&message).replace('\n', "\n    ");
    let place = panic
        .location()
        .map_or_else(String::new, ToString::to_string);
    let mut err = std::io::stderr().lock();
    let _ = writeln!(
        err,
        "thread '{}' panicked at {place}:\n{message}",
        escaped(thread)
    );
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        let _ = writeln!(err, "{}", escaped_lines(&backtrace.to_string()));
    }
}

/// The format of the fields of an event or a span: the message, and `name=value` for the others.
struct Fields;

impl<'writer> FormatFields<'writer> for Fields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut line = Line {
            writer,
            is_empty: true,
            result: Ok(()),
        };
        fields.record(&mut line);
        line.result
    }
}

/// A line that fields are added to.
struct Line<'writer> {
    writer: Writer<'writer>,
    is_empty: bool,
    result: fmt::Result,
}

impl Line<'_> {
    fn add(&mut self, field: &Field, value: &dyn Display) {
        let name = field.name();
        // Records of the crate `log` have such fields beside the message; the line names their
        // origin already.
        if self.result.is_err() || name.starts_with("log.") {
            return;
        }
        let space = if self.is_empty { "" } else { " " };
        self.is_empty = false;
        let value = cut(value);
        let value = escaped(&value);
        self.result = match name.strip_prefix("r#").unwrap_or(name) {
            "message" => write!(self.writer, "{space}{value}"),
            name => write!(self.writer, "{space}{name}={value}"),
        };
    }
}

impl Visit for Line<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.add(field, &value),
            // Quotes show where a text ends.
            _ => self.add(field, &format_args!("{value:?}")),
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.add(field, &Chain(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, &format_args!("{value:?}"));
    }
}

/// An error with its causes.
struct Chain<'a>(&'a (dyn Error + 'static));

impl Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self.0, f)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct LoggedBytes(Arc<Mutex<Vec<u8>>>);

    impl io::Write for LoggedBytes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn only_the_panic_that_a_library_catches_is_not_printed() {
        let writer = "/home/me/.cargo/registry/src/index/object_store-0.13.2/src/buffered.rs";
        for (file, message, wanted) in [
            (writer, "Already shut down", true),
            (writer, "index out of bounds", false),
            ("host/store/src/buffered.rs", "Already shut down", false),
            (
                "/x/object_store-0.13.2/src/lib.rs",
                "Already shut down",
                false,
            ),
        ] {
            assert_eq!(is_caught(file, message), wanted, "{file}: {message}");
        }
    }

    /// Returns what `log` logs.
    fn logged(log: impl FnOnce()) -> String {
        logged_by("trace", log)
    }

    /// Returns what of `log` a filter lets through.
    fn logged_by(filter: &str, log: impl FnOnce()) -> String {
        let written = LoggedBytes::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(of_wafer(filter)))
            .without_time()
            .with_ansi(false)
            .fmt_fields(Fields)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[derive(Debug)]
    struct Broken;

    impl Display for Broken {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("broken\nERROR forged")
        }
    }

    impl Error for Broken {}

    #[test]
    fn every_event_is_one_line_without_control_characters() {
        let evil = "x\n2026-01-01T00:00:00Z ERROR forged\u{1b}[2J\u{9b}\u{202e}";
        let error: &(dyn Error + 'static) = &Broken;
        for (log, wanted) in [
            (
                &(|| tracing::info!("{evil}")) as &dyn Fn(),
                r"x\n2026-01-01T00:00:00Z ERROR forged\u{1b}[2J\u{9b}\u{202e}",
            ),
            (&|| tracing::info!(name = evil, "said"), r#"said name="x\n"#),
            (&|| tracing::info!(name = %evil, "said"), r"said name=x\n"),
            (
                &|| tracing::info!(name = ?evil, "said"),
                r#"said name="x\n"#,
            ),
            (
                &|| tracing::info!(error, "said"),
                r"said error=broken\nERROR forged",
            ),
            (
                &|| tracing::info_span!("span", name = %evil).in_scope(|| tracing::info!("said")),
                r"span{name=x\n",
            ),
        ] {
            let line = logged(log);
            assert!(line.contains(wanted), "{line}");
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            let has_control = line.trim_end().chars().any(char::is_control);
            assert!(!has_control && !line.contains('\u{202e}'), "{line:?}");
        }
    }

    #[test]
    fn libraries_are_logged_only_if_the_filter_names_them() {
        let log = || {
            tracing::error!(target: "buoyant_kernel::log_segment", "said by a library");
            tracing::debug!(target: "buoyant_kernel::log_segment", "details of a library");
            tracing::warn!(target: "wafer_store::offline", "said by Wafer");
            tracing::debug!(target: "wafer_store::offline", "details of Wafer");
            tracing::warn!(target: "function", "said by a function");
            tracing::trace!(target: "function", "details of a function");
            tracing::info!(target: "trainer", "said by a trainer");
            tracing::warn!(target: "bootstrap::handler", "said by the program for Lambda");
        };
        for (filter, wanted) in [
            ("warn", &["by Wafer", "by a function", "for Lambda"][..]),
            (
                "warn,trainer=info",
                &["by Wafer", "by a function", "by a trainer", "for Lambda"],
            ),
            (
                "function=trace,warn",
                &["by Wafer", "by a function", "of a function", "for Lambda"],
            ),
            (
                "debug,function=trace",
                &[
                    "by Wafer",
                    "of Wafer",
                    "by a function",
                    "of a function",
                    "by a trainer",
                    "for Lambda",
                ],
            ),
            ("wafer=debug", &["by Wafer", "of Wafer"]),
            (
                "buoyant_kernel=error, WARN",
                &["by a library", "by Wafer", "by a function", "for Lambda"],
            ),
            (
                "off,buoyant_kernel=debug",
                &["by a library", "of a library"],
            ),
            ("off", &[]),
        ] {
            let lines = logged_by(filter, log);
            assert_eq!(lines.lines().count(), wanted.len(), "{filter}: {lines}");
            for (line, wanted) in lines.lines().zip(wanted) {
                assert!(line.ends_with(wanted), "{filter}: {line}");
            }
        }
    }

    #[test]
    fn long_values_are_cut() {
        let line = logged(|| tracing::info!("{}", "x".repeat(1 << 20)));
        assert!(line.len() < 4_200 && line.contains("more bytes)"));
    }
}
