//! Blocking work, which must not run on the threads that do I/O.

use wafer_store::{Error, Kind, Result};

/// Runs blocking work on a thread of its own and returns its result. A panic of the work is passed
/// on.
///
/// # Errors
/// Returns [`Kind::Unavailable`] when the process is stopping.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    ended(tokio::task::spawn_blocking(work)).await
}

/// Waits for a task and returns its result. A panic of the task is passed on.
///
/// # Errors
/// Returns [`Kind::Unavailable`] when the process is stopping.
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
