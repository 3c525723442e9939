//! Loading native code. This is the only module that trusts bytes without verifying them.

use std::path::Path;

#[cfg(feature = "compiler")]
use wasmtime::Config;
use wasmtime::Engine;
use wasmtime::component::Component;

/// Enables an instruction set extension for compiled code.
#[cfg(feature = "compiler")]
#[allow(unsafe_code, reason = "wasmtime cannot know that a flag is right")]
pub(crate) fn enable_cpu_feature(config: &mut Config, flag: &str) {
    // SAFETY: callers enable the flags of an x86-64 level only for machines of that level, and
    // wasmtime checks the CPU again when it loads the code.
    unsafe {
        config.cranelift_flag_enable(flag);
    }
}

/// Loads native code by mapping a file into memory.
#[allow(unsafe_code, reason = "native code cannot be verified")]
pub(crate) fn from_file(engine: &Engine, path: &Path) -> wasmtime::Result<Component> {
    // SAFETY: the file is in the artifact store, below `compiled/`. Only this runtime writes there,
    // only output of its own compiler, and each file is renamed into place as a whole. The store
    // has just compared the file with the digest that the metadata store keeps (`CheckedCode`), and
    // only the user who runs this process can write to it.
    unsafe { Component::deserialize_file(engine, path) }
}

/// Loads native code from memory.
#[allow(unsafe_code, reason = "native code cannot be verified")]
pub(crate) fn from_bytes(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes come from this runtime's compiler: directly, or through the folder of this
    // user in which code is kept, where only this user can write to the folder and to the file, and
    // the code has the digest with which it was written (`code_cache.rs`).
    unsafe { Component::deserialize(engine, bytes) }
}
