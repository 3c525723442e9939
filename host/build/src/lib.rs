//! Builds a function's crate into a WebAssembly component.
//!
//! [`Toolchain`] finds a way to compile for `wasm32-unknown-unknown` on this machine, or installs
//! one. [`build`] runs cargo and wraps the module that it compiles into a component.
#![allow(
    clippy::disallowed_methods,
    reason = "it runs cargo, whose settings are in the environment"
)]

mod component;
mod fetch;
pub mod package;
mod toolchain;

pub use component::{BuildError, BuildOptions, build, to_component};
pub use fetch::fetch;
pub use toolchain::{Toolchain, ToolchainError, WASM_TARGET};
