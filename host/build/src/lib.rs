//! From a function's crate to a WebAssembly component.
//!
//! [`Toolchain`] finds a way to compile for `wasm32-unknown-unknown` on this
//! machine, or makes one; [`build`] runs cargo and wraps the module that comes
//! out into a component.

mod component;
pub mod package;
mod toolchain;

pub use component::{BuildError, BuildOptions, build, to_component};
pub use toolchain::{Toolchain, ToolchainError, WASM_TARGET};
