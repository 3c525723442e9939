//! What a store's services charge for, by the work that they were called for.

use std::future::Future;

tokio::task_local! {
    static WORK: String;
}

/// Calls of one kind that were made for one kind of work, and what they cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Consumed {
    /// What they were made for, such as `view/arrival_delay`; empty when nobody
    /// said.
    pub work: String,
    /// The service's name of the call.
    pub action: String,
    /// How many there were.
    pub calls: u64,
    /// Units that the service counted for them.
    pub units: f64,
}

/// Runs `future`; what stores are called for in it counts as this work.
pub async fn for_work<F: Future>(work: String, future: F) -> F::Output {
    WORK.scope(work, future).await
}

/// The work that is being done here.
pub fn work_label() -> String {
    WORK.try_with(Clone::clone).unwrap_or_default()
}
