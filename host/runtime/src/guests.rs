//! Threads for guest code, apart from those that do I/O.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

/// Runs guest work on threads of its own, so many at once, with a bounded queue.
/// A health check answers while every one of them spins.
#[derive(Clone, Debug)]
pub struct Guests {
    running: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    queue: usize,
}

/// The queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests are waiting for a sandbox")]
pub struct Busy;

impl Guests {
    /// At most `threads` at once and `queue` waiting.
    pub fn new(threads: usize, queue: usize) -> Self {
        Self {
            running: Arc::new(Semaphore::new(threads)),
            waiting: Arc::new(AtomicUsize::new(0)),
            queue,
        }
    }

    /// Runs some work on a guest thread and waits for its result.
    ///
    /// # Errors
    /// [`Busy`] when the queue is full.
    ///
    /// # Panics
    /// When the work panics.
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

/// A place in the queue, given back however the wait ends.
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
    async fn a_full_queue_refuses_and_a_free_one_does_not() {
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
