//! What work that reads files for a request holds, as long as it goes on.

use std::fmt::Debug;

use wafer_store::Result;

/// The room on the disk for copies of remote files, which are there one at a time.
pub trait CopyRoom: Debug + Send + Sync + 'static {
    /// Makes room for a copy of so many bytes, before it is made. The copy before it is gone then.
    ///
    /// # Errors
    /// Returns an error when there is no room.
    fn copy(&self, bytes: u64) -> Result<()>;
}
