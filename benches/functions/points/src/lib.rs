//! Passes points on unchanged, for benches that measure what happens to the rows afterwards.

use wafer::{Row, Timestamp};

/// Five numbers of an entity at some time.
#[derive(Debug, Row)]
pub struct Point {
    /// Identifies the entity.
    entity_id: i64,
    /// Time of the point.
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

/// Returns the point unchanged.
#[wafer::function]
pub fn points(point: Point) -> Point {
    point
}
