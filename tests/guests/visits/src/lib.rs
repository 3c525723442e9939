//! Returns facts about customers unchanged. Clients of other systems write and read them.

use wafer::{Row, Timestamp};

/// A visit of a customer, with what is known of the customer.
#[derive(Debug, Row)]
pub struct Visit {
    /// The name of the customer.
    customer: String,
    /// When the visit was.
    at: Timestamp,
    /// Age in years.
    age: Option<i64>,
    /// Any number.
    score: Option<f64>,
    /// The place of the visit.
    city: Option<String>,
    /// Since when the customer has been one.
    since: Option<Timestamp>,
}

/// Returns the visit unchanged.
#[wafer::function]
pub fn visits(visit: Visit) -> Visit {
    visit
}
