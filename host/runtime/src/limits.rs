//! Limits on the time, memory and output of functions.

use serde::{Deserialize, Serialize};

/// Limits of one function or trainer.
///
/// Times are in microseconds, sizes in bytes. Each limit is a setting of the same name in the
/// function's table of `wafer.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Total size of all linear memories. Default 256 MiB (for a trainer in `wafer.toml`: 4 GiB).
    pub memory: u64,
    /// Time of one call in a request. Default 100 ms.
    pub request_time: i64,
    /// Time of one call on a chunk of rows of a batch run or of events. Default 60 s.
    pub batch_time: i64,
    /// Time to load assets and to call `init` and `describe`, together. Default 60 s.
    pub init_time: i64,
    /// Time of one call of a trainer, such as one chunk of rows or the end of a pass. Default 1 h.
    #[serde(default = "hour")]
    pub train_time: i64,
    /// Total size of what one call returns and logs. Default 64 MiB.
    pub output: u64,
}

fn hour() -> i64 {
    3_600_000_000
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 256 << 20,
            request_time: 100_000,
            batch_time: 60_000_000,
            init_time: 60_000_000,
            train_time: hour(),
            output: 64 << 20,
        }
    }
}
