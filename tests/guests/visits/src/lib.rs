//! Passes on what is known of customers: what other systems' clients write and read.

use wafer::{Row, Timestamp};

/// What a visit says of a customer.
#[derive(Debug, Row)]
pub struct Visit {
    /// Who.
    customer: String,
    /// When.
    at: Timestamp,
    /// Years.
    age: Option<i64>,
    /// Whatever it is.
    score: Option<f64>,
    /// Where.
    city: Option<String>,
    /// Since when they are a customer.
    since: Option<Timestamp>,
}

/// The same.
#[wafer::function]
pub fn visits(visit: Visit) -> Visit {
    visit
}
