//! The sandbox: registers, loads and calls functions, and runs trainers.
//!
//! A function is a WebAssembly component of the world `wafer:function/function`.
//! [`Runtime::register`] loads its assets, initialises it, asks for its signature and snapshots
//! its memory. [`Runtime::load`] loads the native code of that snapshot, which is cached. Functions
//! in an interpreter share its native code, and have no snapshot of their own.
//! [`Function::invoke`] calls it; batch runs, events and requests all use this one entry point.
//! Every call runs in an instance of its own that starts from the initialised memory.
//!
//! Guest code must not run on threads that do I/O; [`Guests`] provides separate threads.
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests make temporary folders of their own"
    )
)]

mod asset;
mod bindings;
mod code_cache;
mod compile;
mod deadline;
mod delta;
#[cfg(feature = "compiler")]
mod difference;
mod engine;
mod error;
mod function;
#[cfg(feature = "compiler")]
mod function_code;
#[doc(hidden)]
pub mod fuzzing;
mod guests;
mod handles;
mod interpreter;
mod lift;
mod limits;
mod load;
mod lower;
mod printed;
mod register;
#[cfg(feature = "compiler")]
mod reopen;
mod rows;
mod seeded;
#[cfg(feature = "compiler")]
mod snapshot;
mod state;
mod train;
mod wasi;

pub use asset::{Asset, AssetContent};
pub use code_cache::CodeCache;
pub use compile::{CompileError, Compiler, compile_worker};
pub use engine::{Runtime, RuntimeConfig, THREAD_STACK_BYTES, Target};
pub use error::{Blame, InvokeError, LimitKind};
pub use function::{Deadline, Function, Output, Warm};
pub use guests::{Busy, Guests};
pub use limits::Limits;
pub use register::{FunctionSpec, RegisterError, Registered};
pub use rows::{CallFailure, failed_row};
pub use train::{MAX_ARTIFACT_BYTES, Role, Trained, TrainingSession};

/// Maximum number of rows in one call of a function. Wide rows are passed in smaller chunks.
pub const CHUNK_ROWS: usize = 8_192;

/// Name and version of the WIT package that this host implements.
pub const CONTRACT: &str = "wafer:function@0.1.0";
