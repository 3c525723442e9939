//! Limits on the time, memory and output of functions.

use serde::{Deserialize, Serialize};
use wafer_core::Duration;

/// Limits of one function or trainer.
///
/// Times are in microseconds, sizes in bytes. Each limit is a setting of the same name in the
/// function's table of `wafer.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Total size of all linear memories. Default 256 MiB (for a trainer in `wafer.toml`: 4 GiB).
    pub memory: u64,
    /// Time of one call in a request. Default 100 ms.
    pub request_time: Duration,
    /// Time of one call on a chunk of rows of a batch run or of events. Default 60 s.
    pub batch_time: Duration,
    /// Time to load assets and to call `init` and `describe`, together. Default 60 s.
    pub init_time: Duration,
    /// Time of one call of a trainer, such as one chunk of rows or the end of a pass. Default 1 h.
    #[serde(default = "hour")]
    pub train_time: Duration,
    /// Total size of what one call returns and logs, and of what all calls of one request return.
    /// Default 64 MiB.
    pub output: u64,
}

fn hour() -> Duration {
    Duration::from_hours(1)
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 256 << 20,
            request_time: Duration::from_micros(100_000),
            batch_time: Duration::from_mins(1),
            init_time: Duration::from_mins(1),
            train_time: hour(),
            output: 64 << 20,
        }
    }
}
