//! How many processes share a bulk load, for stores that pace what is written to them.

use std::future::Future;

tokio::task_local! {
    static PROCESSES: usize;
}

/// Runs `future`, a part of a load that at most `processes` processes write at the same time. A
/// store whose throughput is limited divides the pace at which each of them begins by that.
pub async fn sharing<F: Future>(processes: usize, future: F) -> F::Output {
    PROCESSES.scope(processes, future).await
}

/// Returns the number of processes that share the load that the current task writes: 1 outside
/// [`sharing`].
pub fn sharing_processes() -> usize {
    PROCESSES.try_with(|processes| *processes).unwrap_or(1)
}
