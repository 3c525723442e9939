//! Work that blocks, kept off the threads that do I/O.

use tempfile::TempDir;
use wafer_store::{Error, Kind, Result};

/// A folder that is removed when it is dropped.
pub fn temporary_folder() -> Result<TempDir> {
    tempfile::tempdir()
        .map_err(|e| Error::caused(Kind::Internal, "a temporary folder cannot be made", e))
}

/// Runs something that blocks on a thread for it.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    ended(tokio::task::spawn_blocking(work)).await
}

/// What a task ended with.
pub async fn ended<T>(task: tokio::task::JoinHandle<T>) -> Result<T> {
    match task.await {
        Ok(result) => Ok(result),
        Err(failure) if failure.is_panic() => std::panic::resume_unwind(failure.into_panic()),
        Err(failure) => Err(Error::caused(
            Kind::Unavailable,
            "the process is stopping",
            failure,
        )),
    }
}
