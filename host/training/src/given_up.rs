//! Work that nobody waits for any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wafer_store::{Error, Kind, Result};

/// Whether nobody waits for a training set any more. Blocking work, which cannot be dropped, looks
/// here from time to time.
#[derive(Clone, Debug, Default)]
pub(crate) struct GivenUp(Arc<AtomicBool>);

impl GivenUp {
    /// Checks that somebody still waits.
    ///
    /// # Errors
    /// Returns [`Kind::Unavailable`] if not. Nobody sees this error.
    pub(crate) fn check(&self) -> Result<()> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(Error::new(
                Kind::Unavailable,
                "nobody waits for the training set any more",
            )),
            false => Ok(()),
        }
    }

    /// Returns a guard for whoever waits: the training set is given up when it is dropped.
    pub(crate) fn when_dropped(&self) -> GiveUp {
        GiveUp(Arc::clone(&self.0))
    }
}

/// Gives up a training set when it is dropped.
pub(crate) struct GiveUp(Arc<AtomicBool>);

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
