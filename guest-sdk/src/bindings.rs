//! Bindings generated from `wit/`, which the rest of the SDK wraps.
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
    additional_derives: [PartialEq],
});

/// Bindings of the world `trainer`. The types that both worlds use are those of the world
/// `function`.
pub mod trainer {
    wit_bindgen::generate!({
        path: "../wit",
        world: "trainer",
        pub_export_macro: true,
        default_bindings_module: "wafer::bindings::trainer",
        with: {
            "wafer:function/log@0.1.0": crate::bindings::wafer::function::log,
            "wafer:function/types@0.1.0": crate::bindings::wafer::function::types,
        },
    });

    pub use self::exports::wafer::function::training;
}

pub use self::exports::wafer::function::transform;
pub use self::wafer::function::{log, types};
