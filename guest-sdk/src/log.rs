//! Saying something from inside a function.

pub use crate::bindings::log::Level;

/// Writes a message to the host's log. Messages are cut at 4 KiB, and past
/// 64 KiB in one call the rest is dropped and counted.
///
/// In native tests it goes to standard error.
pub fn log(level: Level, message: &str) {
    #[cfg(target_arch = "wasm32")]
    crate::bindings::log::write(level, message);
    #[cfg(not(target_arch = "wasm32"))]
    eprintln!("{level:?}: {message}");
}
