//! Returns facts unchanged. Tests look at what a pipeline makes of them.

use wafer::{Row, Timestamp};

/// A fact that holds from some time on.
#[derive(Debug, Row)]
pub struct Fact {
    /// First join key.
    key_a: Option<String>,
    /// Second join key.
    key_b: Option<i64>,
    /// When it began to hold.
    happened_at: Timestamp,
    /// An integer.
    value: i64,
    /// A float.
    score: Option<f64>,
}

/// Returns the fact unchanged.
#[wafer::function]
pub fn facts(fact: Fact) -> Fact {
    fact
}
