//! Accounting of the capacity that a store's calls to paid services consume, by the work that
//! they were made for.

use std::fmt::Debug;
use std::future::Future;

tokio::task_local! {
    static WORK: String;
}

/// The number and cost of a store's calls of one action for one kind of work.
#[derive(Clone, Debug, PartialEq)]
pub struct Consumed {
    /// The work that the calls were made for, such as `view/arrival_delay`; empty outside
    /// [`for_work`].
    pub work: String,
    /// The service's name of the action, such as `BatchGetItem`.
    pub action: String,
    /// Number of calls.
    pub calls: u64,
    /// Capacity units that the service charged for the calls.
    pub units: f64,
}

/// A store that knows what its calls cost.
pub trait Metered: Debug + Send + Sync + 'static {
    /// Returns whether a service charges for each call, so that it pays to write much at once.
    /// False by default.
    fn is_charged(&self) -> bool {
        false
    }

    /// Returns the service capacity that this process has consumed since it opened the store;
    /// empty for a store that costs nothing, which is the default.
    fn consumed(&self) -> Vec<Consumed> {
        Vec::new()
    }
}

/// Runs `future`, and counts the store calls that it makes towards `work`.
pub async fn for_work<F: Future>(work: String, future: F) -> F::Output {
    WORK.scope(work, future).await
}

/// Returns the name of the work that the current task is doing, or an empty string outside
/// [`for_work`].
pub fn work_label() -> String {
    WORK.try_with(Clone::clone).unwrap_or_default()
}
