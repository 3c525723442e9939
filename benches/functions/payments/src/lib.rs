//! Passes payments on unchanged, for benches that measure what happens to the rows afterwards.

use wafer::{Row, Timestamp};

/// A payment of an entity.
#[derive(Debug, Row)]
pub struct Payment {
    /// Identifies the entity.
    entity_id: i64,
    /// Time of the payment.
    event_timestamp: Timestamp,
    /// Amount of the payment.
    amount: f64,
}

/// Returns the payment unchanged.
#[wafer::function]
pub fn payments(payment: Payment) -> Payment {
    payment
}
