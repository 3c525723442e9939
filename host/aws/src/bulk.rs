//! Bulk loads: the writes of runs and of groups that are made anew. Nobody waits for one of these
//! writes, so they wait for their turns, by the [pace](crate::pace) of the process. Writes of
//! events and requests do not.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use wafer_store::sharing_processes;

use crate::pace::Pace;

tokio::task_local! {
    static BULK_LOAD: ();
}

/// Runs `future`, whose writes are parts of a bulk load.
pub(crate) async fn in_bulk<F: Future>(future: F) -> F::Output {
    BULK_LOAD.scope((), future).await
}

/// Returns whether the current task is a part of a bulk load.
pub(crate) fn is_bulk() -> bool {
    BULK_LOAD.try_with(|()| ()).is_ok()
}

/// Gives the writes of bulk loads their turns.
#[derive(Debug)]
pub(crate) struct Pacer {
    pace: Mutex<Pace>,
    /// Held by the write that waits for its turn. The turn of the next one is not known before,
    /// so that a change of the pace counts at once.
    turn: tokio::sync::Mutex<()>,
    /// The time when the table answered a write of a bulk load last.
    progress: Mutex<Instant>,
}

impl Pacer {
    /// Creates a pacer. A load that no other process shares begins at `first_units` write units a
    /// second.
    pub(crate) fn new(first_units: f64) -> Self {
        let now = Instant::now();
        Self {
            pace: Mutex::new(Pace::new(first_units, now)),
            turn: tokio::sync::Mutex::default(),
            progress: Mutex::new(now),
        }
    }

    /// Waits for the turn of a write of so many units. A write outside of a bulk load has its turn
    /// at once.
    pub(crate) async fn wait(&self, units: f64) {
        if !is_bulk() {
            return;
        }
        let _turn = self.turn.lock().await;
        let wait = self.pace().wait(units, Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// Returns the time that so many units take at the present pace.
    pub(crate) fn time_for(&self, units: f64) -> Duration {
        self.pace().time_for(units)
    }

    /// Notes that a write was throttled, of a bulk load or not.
    pub(crate) fn throttled(&self) {
        self.pace().throttled(Instant::now());
    }

    /// Notes that the table answered a write.
    pub(crate) fn answered(&self) {
        if is_bulk() {
            *self.progress() = Instant::now();
        }
    }

    /// Returns the time when the table answered a write of a bulk load last.
    pub(crate) fn last_progress(&self) -> Instant {
        *self.progress()
    }

    /// Returns the pace, divided among the processes that share the current load.
    fn pace(&self) -> MutexGuard<'_, Pace> {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        if is_bulk() {
            pace.share(sharing_processes());
        }
        pace
    }

    fn progress(&self) -> MutexGuard<'_, Instant> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use wafer_store::sharing;

    use super::*;

    #[tokio::test]
    async fn only_writes_of_bulk_loads_wait_for_their_turns() {
        // At this pace a second write waits for days.
        let pacer = Pacer::new(1e-6);
        for _ in 0..3 {
            pacer.wait(1.0).await;
        }
        assert_eq!(pacer.pace().wait(0.0, Instant::now()), Duration::ZERO);
        in_bulk(pacer.wait(1.0)).await;
        assert!(pacer.pace().wait(0.0, Instant::now()) > Duration::from_secs(86_400));
    }

    #[tokio::test]
    async fn processes_that_share_a_load_divide_the_pace() {
        let pacer = Pacer::new(1_000.0);
        let time = async || pacer.time_for(1_000.0).as_secs();
        assert_eq!(in_bulk(time()).await, 1);
        assert_eq!(sharing(10, in_bulk(time())).await, 10);
        assert_eq!(in_bulk(time()).await, 1);
    }

    #[tokio::test]
    async fn only_writes_of_bulk_loads_are_their_progress() {
        let pacer = Pacer::new(1_000.0);
        let before = pacer.last_progress();
        pacer.answered();
        assert_eq!(pacer.last_progress(), before);
        let now = Instant::now();
        in_bulk(async { pacer.answered() }).await;
        assert!(pacer.last_progress() >= now);
    }
}
