//! Panics on some rows. Tests look at what is said of it.

use std::time::SystemTime;

use wafer::{Row, Timestamp};

/// A thing, of which some kinds are more than the function can bear.
#[derive(Debug, Row)]
pub struct Thing {
    /// The join key.
    id: i64,
    /// When it was seen.
    at: Timestamp,
    /// A float.
    x: f64,
}

/// Returns the thing unchanged.
#[wafer::function]
pub fn brittle(thing: Thing) -> Thing {
    assert!(thing.id != 7, "seven is too much");
    if thing.id == 8 {
        let _ = SystemTime::now();
    }
    thing
}
