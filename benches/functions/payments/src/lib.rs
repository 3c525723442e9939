//! Passes payments on: what is measured is what becomes of them.

use wafer::{Row, Timestamp};

/// An amount of an entity at some time.
#[derive(Debug, Row)]
pub struct Payment {
    /// The entity.
    entity_id: i64,
    /// When.
    event_timestamp: Timestamp,
    /// How much.
    amount: f64,
}

/// The same.
#[wafer::function]
pub fn payments(payment: Payment) -> Payment {
    payment
}
