//! Threads for guest code, separate from those that do I/O.
//!
//! A thread that has done its work takes the next piece that waits, and is given back when there is
//! none. So while there is more to do than the threads can, none of them sleeps, and nobody has to
//! be woken between two pieces.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Runs guest code on separate threads, with limited concurrency and a bounded queue, so that the
/// server stays responsive while all of the threads are busy.
#[derive(Clone, Debug)]
pub struct Guests(Arc<Pool>);

/// Error for work that is refused because the queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests are waiting for a sandbox")]
pub struct Busy;

impl From<Busy> for wafer_store::Error {
    fn from(busy: Busy) -> Self {
        Self::caused(wafer_store::Kind::Unavailable, busy.to_string(), busy)
    }
}

impl Guests {
    /// Creates an executor that runs at most `threads` pieces of work at the same time, while at
    /// most `queue` wait.
    pub fn new(threads: usize, queue: usize) -> Self {
        Self(Arc::new(Pool {
            threads,
            queue,
            state: Mutex::default(),
        }))
    }

    /// Runs `work` on a guest thread, and waits for its result.
    ///
    /// # Errors
    /// Returns [`Busy`] when the queue is full.
    ///
    /// # Panics
    /// Panics when `work` panics.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let (answer, answered) = oneshot::channel::<Result<T, Box<dyn Any + Send>>>();
        let work = move || {
            // Nobody waits for the result of a future that was dropped.
            let _ = answer.send(catch_unwind(AssertUnwindSafe(work)));
        };
        let _place = self.0.enter(Box::new(work))?;
        match answered.await.expect("the runtime runs what it was given") {
            Ok(result) => Ok(result),
            Err(panic) => resume_unwind(panic),
        }
    }
}

/// A piece of work, which does not panic.
type Work = Box<dyn FnOnce() + Send>;

/// The threads and the queue of an executor.
struct Pool {
    threads: usize,
    queue: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How many threads run pieces of work.
    running: usize,
    /// The pieces that wait, in the order of their numbers.
    waiting: VecDeque<(u64, Work)>,
    /// The number of the next piece that waits.
    next: u64,
}

impl Pool {
    /// Begins a piece of work if a thread is free, and has it wait if not.
    fn enter(self: &Arc<Self>, piece: Work) -> Result<Option<QueuePlace>, Busy> {
        let mut state = self.state();
        if state.running < self.threads {
            state.running += 1;
            drop(state);
            let pool = Arc::clone(self);
            tokio::task::spawn_blocking(move || pool.work(piece));
            return Ok(None);
        }
        if state.waiting.len() >= self.queue {
            return Err(Busy);
        }
        let number = state.next;
        state.next += 1;
        state.waiting.push_back((number, piece));
        let pool = Arc::clone(self);
        Ok(Some(QueuePlace { pool, number }))
    }

    /// Runs a piece of work, and those that wait, one after the other.
    fn work(&self, first: Work) {
        let mut piece = Some(first);
        while let Some(work) = piece {
            work();
            let mut state = self.state();
            piece = state.waiting.pop_front().map(|(_, piece)| piece);
            if piece.is_none() {
                state.running -= 1;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("threads", &self.threads)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

/// A place in the queue. When the future that waits is dropped, its work leaves the queue.
struct QueuePlace {
    pool: Arc<Pool>,
    number: u64,
}

impl Drop for QueuePlace {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        let found = state
            .waiting
            .binary_search_by_key(&self.number, |(number, _)| *number);
        // What the work has is dropped after the lock was released.
        let left = found.ok().and_then(|index| state.waiting.remove(index));
        drop(state);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// An executor with one thread, which works until the sender sends or is dropped.
    async fn busy(queue: usize) -> (Guests, mpsc::Sender<()>) {
        let guests = Guests::new(1, queue);
        let (release, wait) = mpsc::channel::<()>();
        let (started, starts) = oneshot::channel();
        let own = guests.clone();
        tokio::spawn(async move {
            let work = move || {
                let _ = started.send(());
                let _ = wait.recv();
            };
            own.run(work).await
        });
        starts.await.unwrap();
        (guests, release)
    }

    async fn wait_for(guests: &Guests, waiting: usize) {
        while guests.0.state().waiting.len() != waiting {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn full_queue_is_busy() {
        let (guests, release) = busy(2).await;
        let mut queued = Vec::new();
        for n in 0..2 {
            let own = guests.clone();
            queued.push(tokio::spawn(async move { own.run(move || n).await }));
            wait_for(&guests, n + 1).await;
        }
        assert_eq!(guests.run(|| 9).await, Err(Busy));
        release.send(()).unwrap();
        for (n, queued) in queued.into_iter().enumerate() {
            assert_eq!(queued.await.unwrap(), Ok(n));
        }
        assert_eq!(guests.run(|| 9).await, Ok(9));
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_leaves_the_queue_with_what_it_has() {
        let (guests, release) = busy(1).await;
        let held = Arc::new(());
        let (own, theirs) = (guests.clone(), Arc::clone(&held));
        let left = tokio::spawn(async move { own.run(move || drop(theirs)).await });
        wait_for(&guests, 1).await;
        left.abort();
        assert!(left.await.unwrap_err().is_cancelled());
        assert_eq!(Arc::strong_count(&held), 1);
        let own = guests.clone();
        let next = tokio::spawn(async move { own.run(|| 7).await });
        wait_for(&guests, 1).await;
        drop(release);
        assert_eq!(next.await.unwrap(), Ok(7));
    }

    #[tokio::test]
    async fn panic_goes_to_whoever_waits_and_the_thread_goes_on() {
        let (guests, release) = busy(2).await;
        let own = guests.clone();
        let panics = tokio::spawn(async move {
            let work = || {
                if std::hint::black_box(true) {
                    panic!("on purpose");
                }
            };
            own.run(work).await
        });
        wait_for(&guests, 1).await;
        let own = guests.clone();
        let next = tokio::spawn(async move { own.run(|| 7).await });
        wait_for(&guests, 2).await;
        drop(release);
        assert!(panics.await.unwrap_err().is_panic());
        assert_eq!(next.await.unwrap(), Ok(7));
    }
}
