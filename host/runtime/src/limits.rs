//! How much a function may use.

use serde::{Deserialize, Serialize};

/// Limits of one function. Times in microseconds, sizes in bytes; each has a
/// setting of the same name in the function's table of `wafer.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// All its linear memories together. Default 256 MiB; of a trainer 4 GiB.
    pub memory: u64,
    /// One call inside a request. Default 100 ms.
    pub request_time: i64,
    /// One call on a chunk of a batch run or of events. Default 60 s.
    pub batch_time: i64,
    /// Loading assets, `init` and `describe`, together. Default 60 s.
    pub init_time: i64,
    /// One call of a trainer: a chunk of rows, or the end of a pass. Default 1 h.
    #[serde(default = "hour")]
    pub train_time: i64,
    /// What one call returns or logs. Default 64 MiB.
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
