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

/// Maximum length in bytes of what a function says in an error. With the place where it failed, this
/// is shorter than an error may be ([`MAX_ERROR_BYTES`](wafer_core::MAX_ERROR_BYTES)).
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

impl From<InvokeError> for Error {
    fn from(error: InvokeError) -> Self {
        let kind = match (error.blame(), &error) {
            (_, InvokeError::Starved { .. }) => Kind::Unavailable,
            (Blame::Caller, _) => Kind::Invalid,
            (Blame::Function, _) => Kind::Function,
            (Blame::Host, _) => Kind::Internal,
        };
        Self::caused(kind, error.to_string(), error)
    }
}
