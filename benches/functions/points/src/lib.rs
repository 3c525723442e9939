//! Passes points on: what is measured is what becomes of them.

use wafer::{Row, Timestamp};

/// Five numbers of an entity at some time.
#[derive(Debug, Row)]
pub struct Point {
    /// The entity.
    entity_id: i64,
    /// When.
    event_timestamp: Timestamp,
    /// A number.
    f0: f64,
    /// A number.
    f1: f64,
    /// A number.
    f2: f64,
    /// A number.
    f3: f64,
    /// A number.
    f4: f64,
}

/// The same.
#[wafer::function]
pub fn points(point: Point) -> Point {
    point
}
