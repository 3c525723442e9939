//! Bindings generated from `wit/`, which the rest of the SDK wraps.
//!
//! The files of `bindings/` are what wit-bindgen generates. They are part of the sources, because a
//! function that compiled the generator first would take four times as long to build. The test
//! `bindings` compares them with `wit/`, and
//! `WAFER_UPDATE=1 cargo test -p wafer-sdk --test bindings` writes them again.
#![allow(
    rustdoc::bare_urls,
    clippy::all,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications,
    reason = "generated code"
)]

/// Bindings of the world `function`.
#[rustfmt::skip]
pub mod function;
/// Bindings of the world `trainer`. The types that both worlds use are those of the world
/// `function`.
#[rustfmt::skip]
pub mod trainer;

pub use self::function::exports::wafer::function::transform;
pub use self::function::wafer::function::{log, types};
pub use self::trainer::exports::wafer::function::training;
