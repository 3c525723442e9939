//! A function of twenty columns, for benches.

use wafer::Row;

/// Twenty numbers.
#[derive(Debug, Row)]
pub struct Numbers {
    /// A number.
    c00: f64,
    /// A number.
    c01: f64,
    /// A number.
    c02: f64,
    /// A number.
    c03: f64,
    /// A number.
    c04: f64,
    /// A number.
    c05: f64,
    /// A number.
    c06: f64,
    /// A number.
    c07: f64,
    /// A number.
    c08: f64,
    /// A number.
    c09: f64,
    /// A number.
    c10: f64,
    /// A number.
    c11: f64,
    /// A number.
    c12: f64,
    /// A number.
    c13: f64,
    /// A number.
    c14: f64,
    /// A number.
    c15: f64,
    /// A number.
    c16: f64,
    /// A number.
    c17: f64,
    /// A number.
    c18: f64,
    /// A number.
    c19: f64,
}

/// Twenty other numbers.
#[derive(Debug, Row)]
pub struct Sums {
    /// A number.
    d00: f64,
    /// A number.
    d01: f64,
    /// A number.
    d02: f64,
    /// A number.
    d03: f64,
    /// A number.
    d04: f64,
    /// A number.
    d05: f64,
    /// A number.
    d06: f64,
    /// A number.
    d07: f64,
    /// A number.
    d08: f64,
    /// A number.
    d09: f64,
    /// A number.
    d10: f64,
    /// A number.
    d11: f64,
    /// A number.
    d12: f64,
    /// A number.
    d13: f64,
    /// A number.
    d14: f64,
    /// A number.
    d15: f64,
    /// A number.
    d16: f64,
    /// A number.
    d17: f64,
    /// A number.
    d18: f64,
    /// A number.
    d19: f64,
}

/// Weighted sums of neighbouring columns.
#[wafer::function]
pub fn wide(row: Numbers) -> Sums {
    Sums {
        d00: row.c00 * 1.0 + row.c01,
        d01: row.c01 * 1.25 + row.c02,
        d02: row.c02 * 1.5 + row.c03,
        d03: row.c03 * 1.75 + row.c04,
        d04: row.c04 * 2.0 + row.c05,
        d05: row.c05 * 2.25 + row.c06,
        d06: row.c06 * 2.5 + row.c07,
        d07: row.c07 * 2.75 + row.c08,
        d08: row.c08 * 3.0 + row.c09,
        d09: row.c09 * 3.25 + row.c10,
        d10: row.c10 * 3.5 + row.c11,
        d11: row.c11 * 3.75 + row.c12,
        d12: row.c12 * 4.0 + row.c13,
        d13: row.c13 * 4.25 + row.c14,
        d14: row.c14 * 4.5 + row.c15,
        d15: row.c15 * 4.75 + row.c16,
        d16: row.c16 * 5.0 + row.c17,
        d17: row.c17 * 5.25 + row.c18,
        d18: row.c18 * 5.5 + row.c19,
        d19: row.c19 * 5.75 + row.c00,
    }
}
