//! Threads for guest code, separate from those that do I/O.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

/// Runs guest code on separate threads, with limited concurrency and a bounded queue, so that the
/// server stays responsive while all of the threads are busy.
#[derive(Clone, Debug)]
pub struct Guests {
    running: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    queue: usize,
}

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
        Self {
            running: Arc::new(Semaphore::new(threads)),
            waiting: Arc::new(AtomicUsize::new(0)),
            queue,
        }
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
        let place = Waiting::enter(&self.waiting, self.queue)?;
        let permit = Arc::clone(&self.running)
            .acquire_owned()
            .await
            .expect("it is never closed");
        drop(place);
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        match done.await {
            Ok(result) => Ok(result),
            Err(failure) => std::panic::resume_unwind(failure.into_panic()),
        }
    }
}

/// A place in the queue, which is freed on drop, also when the waiting future is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize, most: usize) -> Result<Self, Busy> {
        let place = Self(count);
        if count.fetch_add(1, Ordering::AcqRel) >= most {
            Err(Busy)
        } else {
            Ok(place)
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn full_queue_is_busy() {
        let guests = Guests::new(1, 2);
        let (release, wait) = mpsc::channel::<()>();
        let spin = tokio::spawn({
            let guests = guests.clone();
            async move { guests.run(move || wait.recv()).await }
        });
        while guests.running.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let queued: Vec<_> = (0..2)
            .map(|n| {
                let guests = guests.clone();
                tokio::spawn(async move { guests.run(move || n).await })
            })
            .collect();
        while guests.waiting.load(Ordering::Acquire) < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(guests.run(|| 9).await, Err(Busy));
        release.send(()).unwrap();
        assert!(spin.await.unwrap().is_ok());
        for (n, queued) in queued.into_iter().enumerate() {
            assert_eq!(queued.await.unwrap(), Ok(n));
        }
        assert_eq!(guests.run(|| 9).await, Ok(9));
    }
}
