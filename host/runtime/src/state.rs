//! The host's state for one instance: its memory limit, its log, and its WASI if it imports that.

use std::borrow::Cow;

use wafer_core::{Digest, cut_to};
use wasmtime::ResourceLimiter;

use crate::bindings::log::{Host, Level};
use crate::bindings::types;
use crate::deadline::CallTime;
use crate::handles::Handle;
use crate::wasi::Wasi;

/// Maximum length of a log message in bytes; longer ones are cut.
const MESSAGE_BYTES: usize = 4 << 10;
/// Maximum size of all log messages of one call in bytes, with [`MESSAGE_CHARGE`] for each; further
/// messages are dropped.
const LOG_BYTES: usize = 64 << 10;
/// What each log message counts beside its text. The host keeps a record of every message, and
/// writes a line for it, also if the message is empty.
const MESSAGE_CHARGE: usize = 64;

/// What the log says of messages that were dropped.
const TOO_MANY: &str = "too many log messages in one call";

/// The data of a wasmtime store.
pub(crate) struct State {
    memory_limit: u64,
    /// Total size of all linear memories in bytes.
    memory: u64,
    /// Whether the function requested more memory than its limit.
    pub(crate) out_of_memory: bool,
    /// The time of the present call.
    pub(crate) time: Option<CallTime>,
    pub(crate) log: Log,
    /// Of a component that imports WASI.
    wasi: Option<Box<Wasi>>,
}

impl State {
    /// Creates the state of an instance. `wasi` is the digest of its component if that imports
    /// WASI.
    pub(crate) fn new(memory_limit: u64, wasi: Option<Digest>) -> Self {
        Self {
            memory_limit,
            memory: 0,
            out_of_memory: false,
            time: None,
            log: Log::default(),
            wasi: wasi.map(|component| Box::new(Wasi::new(component))),
        }
    }

    /// Returns the state of WASI.
    pub(crate) fn wasi(&mut self) -> &mut Wasi {
        let wasi = self.wasi.as_deref_mut();
        wasi.expect("only the instances of components that import WASI can call it")
    }

    /// Takes what a function writes to standard output or standard error to its log.
    pub(crate) fn print(&mut self, stream: Handle, bytes: &[u8]) {
        if let Some(wasi) = &mut self.wasi {
            wasi.print(stream, bytes, &mut self.log);
        }
    }

    /// Returns the streams of WASI that a new instance has to open to be like this one, or `None`
    /// if it cannot be; see [`Handles::kept`](crate::handles::Handles::kept).
    #[cfg(feature = "compiler")]
    pub(crate) fn kept_streams(&self) -> Option<Vec<Handle>> {
        match &self.wasi {
            Some(wasi) => wasi.handles.kept(),
            None => Some(Vec::new()),
        }
    }

    /// Writes the messages of a function to the host's log, and clears them.
    pub(crate) fn emit(&mut self, function: &str) {
        self.finish_lines();
        self.log.emit(function);
    }

    /// Writes the messages of a trainer to the host's log, and clears them.
    pub(crate) fn emit_of_trainer(&mut self, trainer: &str) {
        self.finish_lines();
        self.log.emit_of_trainer(trainer);
    }

    /// Ends the lines of standard output and standard error, which last no longer than a call.
    fn finish_lines(&mut self) {
        if let Some(wasi) = &mut self.wasi {
            wasi.finish_lines(&mut self.log);
        }
    }

    /// Returns the last error that a function told: after a trap, the panic message of the guest.
    pub(crate) fn last_error(&self) -> Option<Cow<'_, str>> {
        let logged = self.log.last_error().map(Cow::Borrowed);
        logged.or_else(|| self.wasi.as_ref()?.last_errors().map(Cow::Owned))
    }

    /// Total size of all linear memories in bytes.
    #[cfg(feature = "compiler")]
    pub(crate) fn memory(&self) -> u64 {
        self.memory
    }
}

/// The log messages of one call.
#[derive(Debug, Default)]
pub(crate) struct Log {
    messages: Vec<(Level, String)>,
    bytes: usize,
    /// Number of messages that were dropped.
    dropped: u64,
    /// Whether the messages of the call were written to the host's log before.
    pub(crate) is_quiet: bool,
}

/// Writes a message to the host's log. The target of a message is part of the program.
macro_rules! write_message {
    ($target:literal, $function:expr, $level:expr, $message:expr) => {
        match $level {
            Level::Trace => tracing::trace!(target: $target, function = $function, "{}", $message),
            Level::Debug => tracing::debug!(target: $target, function = $function, "{}", $message),
            Level::Info => tracing::info!(target: $target, function = $function, "{}", $message),
            Level::Warn => tracing::warn!(target: $target, function = $function, "{}", $message),
            Level::Error => tracing::error!(target: $target, function = $function, "{}", $message),
        }
    };
}

impl Log {
    /// Keeps a message, if there is room for it.
    pub(crate) fn write(&mut self, level: Level, message: String) {
        // The copy does not keep the memory of the part that is cut off.
        let message = match message.len() <= MESSAGE_BYTES {
            true => message,
            false => cut_to(message, MESSAGE_BYTES),
        };
        let charge = message.len() + MESSAGE_CHARGE;
        if self.bytes + charge > LOG_BYTES {
            self.dropped += 1;
        } else {
            self.bytes += charge;
            self.messages.push((level, message));
        }
    }

    /// Writes the messages of a function to the host's log, and clears them.
    fn emit(&mut self, function: &str) {
        let dropped = self.emit_by(|level, message| {
            write_message!("function", function, level, message);
        });
        if dropped > 0 {
            tracing::warn!(target: "function", function, dropped, "{TOO_MANY}");
        }
    }

    /// Writes the messages of a trainer to the host's log, and clears them. They have a target of
    /// their own, because a training has few of them, and they are for whoever started it.
    pub(crate) fn emit_of_trainer(&mut self, trainer: &str) {
        let dropped = self.emit_by(|level, message| {
            write_message!("trainer", trainer, level, message);
        });
        if dropped > 0 {
            tracing::warn!(target: "trainer", function = trainer, dropped, "{TOO_MANY}");
        }
    }

    /// Writes and clears the messages. Returns how many were dropped because there were too many.
    fn emit_by(&mut self, write: impl Fn(Level, &str)) -> u64 {
        if self.is_quiet {
            return 0;
        }
        for (level, message) in self.messages.drain(..) {
            write(level, &message);
        }
        std::mem::take(self).dropped
    }

    /// Returns the last error message.
    fn last_error(&self) -> Option<&str> {
        let errors = self.messages.iter().rev();
        errors
            .filter(|(level, _)| *level == Level::Error)
            .map(|(_, m)| m.as_str())
            .next()
    }
}

impl Host for State {
    fn write(&mut self, level: Level, message: String) {
        self.log.write(level, message);
    }
}

impl types::Host for State {}

impl ResourceLimiter for State {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.memory + (desired - current) as u64;
        if total > self.memory_limit {
            self.out_of_memory = true;
            return Ok(false);
        }
        self.memory = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Function tables of typical components have a few hundred entries.
        Ok(desired <= MAX_TABLE_ELEMENTS)
    }

    fn instances(&self) -> usize {
        MAX_INSTANCES
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }
}

/// Maximum number of entries of a function table.
pub(crate) const MAX_TABLE_ELEMENTS: usize = 100_000;
/// Maximum number of core modules of a component, with the adapters around them. An interpreter
/// with its libraries is a dozen modules, and a toolchain that puts stubs in the place of WASI adds
/// one for each interface.
pub(crate) const MAX_MODULES: usize = 64;
/// Maximum number of core instances of a component: one of each module, and one that is added, by
/// which its memory is read or its streams are opened again. What they take of the host's memory is
/// limited by [`MAX_INSTANCE_BYTES`], for all of them together.
pub(crate) const MAX_INSTANCES: usize = MAX_MODULES + 1;
/// Maximum size of what an instance of a component has outside of its memories and tables, such as
/// what refers to functions and the values of global variables, in bytes.
pub(crate) const MAX_INSTANCE_BYTES: usize = 1 << 20;
/// Maximum number of linear memories of a component.
pub(crate) const MAX_MEMORIES: usize = 4;
/// Maximum number of tables of a component.
pub(crate) const MAX_TABLES: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_and_cut_whatever_their_length() {
        for (message, kept) in [
            (String::new(), LOG_BYTES / MESSAGE_CHARGE),
            ("x".to_owned(), LOG_BYTES / (MESSAGE_CHARGE + 1)),
            (
                "x".repeat(1 << 20),
                LOG_BYTES / (MESSAGE_BYTES + MESSAGE_CHARGE),
            ),
        ] {
            let mut state = State::new(0, None);
            for _ in 0..2_000 {
                state.write(Level::Info, message.clone());
            }
            let Log {
                messages, dropped, ..
            } = &state.log;
            assert!(
                (kept..kept + 2).contains(&messages.len()),
                "{}",
                messages.len()
            );
            assert_eq!(messages.len() as u64 + dropped, 2_000);
            let held: usize = messages.iter().map(|(_, message)| message.capacity()).sum();
            assert!(held <= 2 * LOG_BYTES, "{held}");
        }
    }
}
