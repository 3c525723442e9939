//! The sandbox.
//!
//! A function is a WebAssembly component of the world `wafer:function/function`.
//! [`Runtime::register`] feeds it its assets, initialises it, asks for its
//! signature and snapshots its memory; [`Runtime::load`] turns that snapshot into
//! native code, from a cache when it can; [`Function::invoke`] is the only way
//! into it, from batch runs, events and requests alike. Every call starts from
//! the snapshot in an instance of its own.
//!
//! Guest code must not run on threads that do I/O: [`Guests`] keeps them apart.

mod asset;
mod bindings;
mod compile;
mod engine;
mod error;
mod function;
mod guests;
mod lift;
mod limits;
mod load;
mod lower;
mod register;
#[cfg(feature = "compiler")]
mod snapshot;
mod state;
mod train;

pub use asset::{Asset, AssetContent};
pub use compile::{CompileError, Compiler, compile_worker};
pub use engine::{Runtime, RuntimeConfig, Target};
pub use error::{Blame, InvokeError, LimitKind};
pub use function::{Deadline, Function, Output, Warm};
pub use guests::{Busy, Guests};
pub use limits::Limits;
pub use register::{FunctionSpec, RegisterError, Registered};
pub use train::{MAX_ARTIFACT_BYTES, Role, Trained, Training};

/// Rows in one call of a function at most; wide rows come in smaller chunks.
pub const CHUNK_ROWS: usize = 8_192;

/// Version of the contract that this host speaks.
pub const CONTRACT: &str = "wafer:function@0.1.0";
