//! Bindings generated from `wit/`; everything else in the SDK wraps them.
#![allow(
    rustdoc::bare_urls,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    reason = "generated code"
)]

wit_bindgen::generate!({
    path: "../wit",
    world: "function",
    pub_export_macro: true,
    default_bindings_module: "wafer::bindings",
});

pub use self::exports::wafer::function::transform;
pub use self::wafer::function::{log, types};
