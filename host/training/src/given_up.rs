//! Work that nobody waits for any more.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wafer_catalog::Progress;
use wafer_store::{Error, Kind, Result};

/// Whether nobody waits for a training set any more. Blocking work, which cannot be dropped, looks
/// here from time to time.
#[derive(Clone)]
pub(crate) struct GivenUp {
    is_given_up: Arc<AtomicBool>,
    /// What the work reports to. Whoever asked for the training set may have put into it what the
    /// work takes, which is given back when no work is left.
    _progress: Arc<dyn Progress>,
}

impl fmt::Debug for GivenUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GivenUp").field(&self.is_given_up).finish()
    }
}

impl GivenUp {
    /// Returns what somebody waits for, and hears the progress of.
    pub(crate) fn new(progress: &Arc<dyn Progress>) -> Self {
        Self {
            is_given_up: Arc::default(),
            _progress: Arc::clone(progress),
        }
    }

    /// Checks that somebody still waits.
    ///
    /// # Errors
    /// Returns [`Kind::Unavailable`] if not. Nobody sees this error.
    pub(crate) fn check(&self) -> Result<()> {
        match self.is_given_up.load(Ordering::Relaxed) {
            true => Err(Error::new(
                Kind::Unavailable,
                "nobody waits for the training set any more",
            )),
            false => Ok(()),
        }
    }

    /// Returns a guard for whoever waits: the training set is given up when it is dropped.
    pub(crate) fn when_dropped(&self) -> GiveUp {
        GiveUp(Arc::clone(&self.is_given_up))
    }
}

/// Gives up a training set when it is dropped.
pub(crate) struct GiveUp(Arc<AtomicBool>);

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
