//! Nothing: `cargo vendor` wants a target.
