//! Logging from inside a function.

pub use crate::bindings::log::Level;

/// Writes a message to the host's log. A message is cut at 4 KiB. Past 64 KiB in one call of the
/// function, of which each message takes 64 bytes beside its text, messages are dropped and
/// counted.
///
/// In native tests, messages go to standard error.
pub fn log(level: Level, message: &str) {
    #[cfg(target_arch = "wasm32")]
    crate::bindings::log::write(level, message);
    #[cfg(not(target_arch = "wasm32"))]
    eprintln!("{level:?}: {message}");
}
