//! Makes WebAssembly components of the sources of functions.
//!
//! A [`Toolchain`] makes components of one kind of source: [`RustCrates`] compiles crates, another
//! takes files that are components already, and two have interpreters, of Python and of JavaScript,
//! which they load with modules. [`Toolchains`] has all of them, and picks the one for a source.
//! [`fetch()`] downloads what a new project depends on, and [`package`] builds the program for AWS
//! Lambda. [`tls()`] is how servers are trusted.
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests make temporary files of their own"
    )
)]

mod component;
mod fetch;
mod interpreter;
mod javascript;
pub mod package;
mod prebuilt;
mod python;
mod rust;
mod tls;
mod toolchain;
mod toolchains;

pub use fetch::fetch;
pub use rust::RustCrates;
pub use tls::tls;
pub use toolchain::{BuildError, BuildOptions, Code, Toolchain, ToolchainError};
pub use toolchains::{ToolchainKind, Toolchains};
