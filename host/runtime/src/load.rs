//! The one place that trusts bytes: native code from the artifact store.

use std::path::Path;

#[cfg(feature = "compiler")]
use wasmtime::Config;
use wasmtime::Engine;
use wasmtime::component::Component;

/// Turns on an instruction set extension for compiled code.
#[cfg(feature = "compiler")]
#[allow(unsafe_code, reason = "wasmtime cannot know that a flag is right")]
pub(crate) fn enable_cpu_feature(config: &mut Config, flag: &str) {
    // SAFETY: callers name flags of an x86-64 level for machines of that level, and
    // wasmtime checks again when code is loaded.
    unsafe {
        config.cranelift_flag_enable(flag);
    }
}

/// Loads compiled code from a file, mapping it.
#[allow(unsafe_code, reason = "native code cannot be verified")]
pub(crate) fn from_file(engine: &Engine, path: &Path) -> wasmtime::Result<Component> {
    // SAFETY: the file is in the artifact store, below `compiled/`, where only
    // this runtime writes what its own compiler made, each file renamed into
    // place whole. Whoever can change it can change the host's binary as well.
    unsafe { Component::deserialize_file(engine, path) }
}

/// Loads compiled code from memory.
#[allow(unsafe_code, reason = "native code cannot be verified")]
pub(crate) fn from_bytes(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes come from this runtime's compiler, directly or through
    // the artifact store; see `from_file`.
    unsafe { Component::deserialize(engine, bytes) }
}
