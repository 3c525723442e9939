//! Errors of calls, and whose fault they are.

use std::fmt::Display;

use wafer_core::{Duration, bytes_text, cut_to};
use wafer_store::{Error, Kind};

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The caller passed rows that do not fit the function.
    Caller,
    /// The function refused the rows, trapped, violated the contract or exceeded a limit.
    Function,
    /// The host failed.
    Host,
}

/// A limit that a function exceeded, with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitKind {
    /// Total linear memory, in bytes.
    Memory(u64),
    /// Processor time of one call in a request, in microseconds.
    RequestTime(Duration),
    /// Processor time of one call on a chunk of rows, in microseconds.
    BatchTime(Duration),
    /// Time to load assets and to call `init` and `describe`, in microseconds.
    InitTime(Duration),
    /// Time of one call of a trainer, in microseconds.
    TrainTime(Duration),
    /// Size of what a call returns and logs, in bytes.
    Output(u64),
    /// Size of the call stack, in bytes. Not a setting.
    Stack(u64),
}

impl std::fmt::Display for LimitKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory(bytes) => {
                write!(
                    f,
                    "needs more memory than {} (setting `memory`)",
                    bytes_text(*bytes)
                )
            }
            Self::RequestTime(micros) => {
                write!(f, "ran longer than {} (setting `request_time`)", micros)
            }
            Self::BatchTime(micros) => {
                write!(f, "ran longer than {} (setting `batch_time`)", micros)
            }
            Self::InitTime(micros) => {
                write!(
                    f,
                    "took longer than {} to initialise (setting `init_time`)",
                    micros
                )
            }
            Self::TrainTime(micros) => {
                write!(
                    f,
                    "trained longer than {} in one call (setting `train_time`)",
                    micros
                )
            }
            Self::Output(bytes) => {
                write!(
                    f,
                    "returned more than {} (setting `output`)",
                    bytes_text(*bytes)
                )
            }
            Self::Stack(bytes) => {
                write!(
                    f,
                    "recursed past the call stack of {} (not a setting)",
                    bytes_text(*bytes)
                )
            }
        }
    }
}

/// Maximum length in bytes of what a function says in an error. With the place where it failed,
/// this is shorter than an error may be ([`MAX_ERROR_BYTES`](wafer_core::MAX_ERROR_BYTES)).
const SAID_BYTES: usize = 3 << 10;

/// Cuts what a function says: a message, or the names in its backtrace.
pub(crate) fn said(text: impl Display) -> String {
    cut_to(text, SAID_BYTES)
}

/// Why a call failed as a whole. What the function says is cut. Rows that fail by themselves are in
/// [`Output::row_errors`](crate::Output::row_errors) instead.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    /// The rows do not fit the signature, or the function refused them as invalid input.
    #[error("function `{function}` was given wrong input: {message}")]
    Input {
        /// Name of the function.
        function: String,
        /// What does not fit.
        message: String,
    },
    /// The function returned an error for the whole batch.
    #[error("function `{function}` refused the batch: {message}")]
    Refused {
        /// Name of the function.
        function: String,
        /// Message of the function.
        message: String,
    },
    /// The trainer returned an error.
    #[error("function `{function}` could not train: {message}")]
    Training {
        /// Name of the trainer.
        function: String,
        /// Message of the trainer.
        message: String,
    },
    /// The function panicked or trapped.
    #[error("function `{function}` trapped: {message}")]
    Trapped {
        /// Name of the function.
        function: String,
        /// The last error that the function logged, such as its panic message, else the kind of
        /// trap.
        message: String,
        /// The guest's stack frames, innermost first; may be empty.
        backtrace: String,
    },
    /// The function exceeded a limit.
    #[error("function `{function}` {limit}")]
    OverLimit {
        /// Name of the function.
        function: String,
        /// The limit that was exceeded.
        limit: LimitKind,
    },
    /// The output of the function violates the contract.
    #[error("function `{function}` returned something invalid: {message}")]
    Output {
        /// Name of the function.
        function: String,
        /// What is wrong, with the column and row.
        message: String,
    },
    /// The machine had no processor for the function. It may be called again.
    #[error(
        "function `{function}` did not get enough of a processor to finish: the machine has too much \
         to do; try again"
    )]
    Starved {
        /// Name of the function.
        function: String,
    },
    /// The host failed.
    #[error("the host could not run function `{function}`: {message}")]
    Host {
        /// Name of the function.
        function: String,
        /// What failed.
        message: String,
    },
}

impl InvokeError {
    /// Returns whether a single row may have caused the error, or the number of rows: the function
    /// trapped, recursed too deep, took too much memory, returned too much, or broke the contract.
    /// A function that refuses the call would do so for fewer rows as well. To look for a row that
    /// takes too much time would itself take that time again and again.
    pub fn is_caused_by_row(&self) -> bool {
        self.is_over_size() || self.is_trap() || matches!(self, Self::Output { .. })
    }

    /// Returns whether the function took too much memory or returned too much. Fewer rows may be
    /// within the limit, but until a call finds out it may fill all of the memory.
    pub fn is_over_size(&self) -> bool {
        matches!(
            self,
            Self::OverLimit {
                limit: LimitKind::Memory(_) | LimitKind::Output(_),
                ..
            }
        )
    }

    /// Returns whether the function trapped by itself, also at the end of its call stack.
    pub(crate) fn is_trap(&self) -> bool {
        matches!(
            self,
            Self::Trapped { .. }
                | Self::OverLimit {
                    limit: LimitKind::Stack(_),
                    ..
                }
        )
    }

    /// Returns whose fault the error is.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Input { .. } => Blame::Caller,
            Self::Refused { .. }
            | Self::Training { .. }
            | Self::Trapped { .. }
            | Self::OverLimit { .. }
            | Self::Output { .. } => Blame::Function,
            Self::Starved { .. } | Self::Host { .. } => Blame::Host,
        }
    }
}

impl InvokeError {
    /// Returns the kind of the error of a store or platform that this error causes.
    pub(crate) fn kind(&self) -> Kind {
        match (self.blame(), self) {
            (_, Self::Starved { .. }) => Kind::Unavailable,
            (Blame::Caller, _) => Kind::Invalid,
            (Blame::Function, _) => Kind::Function,
            (Blame::Host, _) => Kind::Internal,
        }
    }
}

impl From<InvokeError> for Error {
    fn from(error: InvokeError) -> Self {
        Self::caused(error.kind(), error.to_string(), error)
    }
}

/// Returns what to do about a panic in the standard library or in a crate that asked for what is
/// not in the sandbox.
pub(crate) fn advice(panic: &str) -> Option<&'static str> {
    let has = |text: &str| panic.contains(text);
    if has("time not implemented on this platform") {
        return Some("a function has no clock: take the time as a field of its row");
    }
    if has("this target is not supported") || has("ThreadRng") || has("getrandom") {
        return Some(
            "a function has no randomness: make what has to look random from a hash of the row's \
             own values",
        );
    }
    if has("operation not supported on this platform") {
        return Some(
            "a function has no files, no network, no environment and no threads: give it assets, \
             parameters and columns",
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_about_what_is_not_in_the_sandbox_say_what_to_do() {
        for (panic, wanted) in [
            (
                "panicked at library/std/src/sys/time/unsupported.rs:13:9:\ntime not implemented on this platform",
                Some("no clock"),
            ),
            (
                "panicked at f/src/lib.rs:4:5:\ncould not initialize ThreadRng: getrandom: this target is not supported",
                Some("no randomness"),
            ),
            (
                "called `Result::unwrap()` on an `Err` value: Error { kind: Unsupported, message: \"operation not supported on this platform\" }",
                Some("no files"),
            ),
            ("panicked at f/src/lib.rs:4:5:\nboom", None),
        ] {
            let found = advice(panic);
            let fits = match (found, wanted) {
                (Some(found), Some(wanted)) => found.contains(wanted),
                (found, wanted) => found == wanted,
            };
            assert!(fits, "{panic}: {found:?}");
        }
    }

    #[test]
    fn a_single_row_can_cause_traps_sizes_and_wrong_output_only() {
        let (function, message) = (|| "f".to_owned(), || "m".to_owned());
        let over = |limit| InvokeError::OverLimit {
            function: function(),
            limit,
        };
        let time = Duration::from_secs(1);
        for (error, wanted) in [
            (
                InvokeError::Trapped {
                    function: function(),
                    message: message(),
                    backtrace: String::new(),
                },
                true,
            ),
            (
                InvokeError::Output {
                    function: function(),
                    message: message(),
                },
                true,
            ),
            (
                InvokeError::Refused {
                    function: function(),
                    message: message(),
                },
                false,
            ),
            (over(LimitKind::Memory(1)), true),
            (over(LimitKind::Output(1)), true),
            (over(LimitKind::Stack(1)), true),
            (over(LimitKind::BatchTime(time)), false),
            (over(LimitKind::RequestTime(time)), false),
            (
                InvokeError::Host {
                    function: function(),
                    message: message(),
                },
                false,
            ),
        ] {
            assert_eq!(error.is_caused_by_row(), wanted, "{error}");
        }
    }
}
