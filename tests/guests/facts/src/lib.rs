//! Passes facts on as they are: what is tested is what becomes of them.

use wafer::{Row, Timestamp};

/// What was known from some time on.
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

/// The same.
#[wafer::function]
pub fn facts(fact: Fact) -> Fact {
    fact
}
