//! What can go wrong in a call, and who is to blame.

use wafer_core::{bytes_text, duration_text};

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The rows do not fit the function.
    Caller,
    /// The function refused, trapped, broke the contract or its limits.
    Function,
    /// The host itself.
    Host,
}

/// A limit that a function ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitKind {
    /// Linear memory, in bytes.
    Memory(u64),
    /// Time of one call inside a request, in microseconds.
    RequestTime(i64),
    /// Time of one call on a chunk, in microseconds.
    BatchTime(i64),
    /// Time of loading, `init` and `describe`, in microseconds.
    InitTime(i64),
    /// Time of one call of a trainer, in microseconds.
    TrainTime(i64),
    /// What it returns, in bytes.
    Output(u64),
    /// The call stack, in bytes; fixed.
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
                write!(
                    f,
                    "ran longer than {} (setting `request_time`)",
                    duration_text(*micros)
                )
            }
            Self::BatchTime(micros) => {
                write!(
                    f,
                    "ran longer than {} (setting `batch_time`)",
                    duration_text(*micros)
                )
            }
            Self::InitTime(micros) => {
                write!(
                    f,
                    "took longer than {} to initialise (setting `init_time`)",
                    duration_text(*micros)
                )
            }
            Self::TrainTime(micros) => {
                write!(
                    f,
                    "trained longer than {} in one call (setting `train_time`)",
                    duration_text(*micros)
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

/// Why a call failed as a whole.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    /// The batch does not fit the signature.
    #[error("function `{function}` was given wrong input: {message}")]
    Input {
        /// Name of the function.
        function: String,
        /// What does not fit.
        message: String,
    },
    /// The function answered with an error.
    #[error("function `{function}` refused the batch: {message}")]
    Refused {
        /// Name of the function.
        function: String,
        /// Its message.
        message: String,
    },
    /// The trainer answered with an error.
    #[error("function `{function}` could not train: {message}")]
    Training {
        /// Name of the function.
        function: String,
        /// Its message.
        message: String,
    },
    /// The function panicked or did something undefined.
    #[error("function `{function}` trapped: {message}")]
    Trapped {
        /// Name of the function.
        function: String,
        /// The panic message if there is one, else the kind of trap.
        message: String,
        /// The guest's frames, innermost first; may be empty.
        backtrace: String,
    },
    /// The function ran into a limit.
    #[error("function `{function}` {limit}")]
    OverLimit {
        /// Name of the function.
        function: String,
        /// Which limit.
        limit: LimitKind,
    },
    /// What the function returned breaks the contract.
    #[error("function `{function}` returned something invalid: {message}")]
    Output {
        /// Name of the function.
        function: String,
        /// Column, row and what is wrong.
        message: String,
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
    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Input { .. } => Blame::Caller,
            Self::Refused { .. }
            | Self::Training { .. }
            | Self::Trapped { .. }
            | Self::OverLimit { .. }
            | Self::Output { .. } => Blame::Function,
            Self::Host { .. } => Blame::Host,
        }
    }
}
