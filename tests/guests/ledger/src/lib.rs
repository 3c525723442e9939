//! Returns events unchanged. Tests look at what a pipeline makes of them.

use wafer::{Row, Timestamp};

/// An event.
#[derive(Debug, Row)]
pub struct Entry {
    /// First join key.
    key_a: Option<String>,
    /// Second join key.
    key_b: Option<i64>,
    /// When it happened.
    happened_at: Timestamp,
    /// An integer.
    small: Option<i64>,
    /// A float.
    amount: Option<f64>,
    /// A float of any magnitude.
    wild: Option<f64>,
    /// A text.
    label_text: Option<String>,
}

/// Returns the event unchanged.
#[wafer::function]
pub fn ledger(entry: Entry) -> Entry {
    entry
}
