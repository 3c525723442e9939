//! Batches on their way from the thread that makes them to the one that writes them.
//!
//! The channels of the standard library count what they hold, and rows can have any size. These
//! hold a number of bytes.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use arrow_array::RecordBatch;
use wafer_files::batch_bytes;

/// The most batches that wait, however small they are.
const MAX_BATCHES: usize = 16;

/// Returns the two ends of a queue in which batches of `most` bytes may wait together, or a single
/// one that is larger.
pub(crate) fn hand_over(most: u64) -> (Giver, Taker) {
    let shared = Arc::new(Shared {
        most,
        queue: Mutex::default(),
        changed: Condvar::new(),
    });
    (Giver(Arc::clone(&shared)), Taker(shared))
}

struct Shared {
    most: u64,
    queue: Mutex<BatchQueue>,
    /// Told when the queue has changed.
    changed: Condvar,
}

#[derive(Default)]
struct BatchQueue {
    /// The batches that wait, with their sizes in bytes.
    batches: VecDeque<(RecordBatch, u64)>,
    /// The size of the batches, in bytes.
    bytes: u64,
    /// Whether no further batches come.
    has_ended: bool,
    /// Whether nobody takes batches any more.
    is_left: bool,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, BatchQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, queue: MutexGuard<'a, BatchQueue>) -> MutexGuard<'a, BatchQueue> {
        let woken = self.changed.wait(queue);
        woken.unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of the thread that makes batches. When it is dropped, no further batches come.
pub(crate) struct Giver(Arc<Shared>);

impl Giver {
    /// Puts a batch into the queue, once there is room for it. Returns `false` if nobody takes
    /// batches any more.
    pub(crate) fn give(&self, batch: RecordBatch) -> bool {
        let Self(shared) = self;
        let bytes = batch_bytes(&batch);
        let mut queue = shared.queue();
        while !queue.is_left && !queue.has_room(bytes, shared.most) {
            queue = shared.wait(queue);
        }
        if queue.is_left {
            return false;
        }
        queue.bytes += bytes;
        queue.batches.push_back((batch, bytes));
        shared.changed.notify_all();
        true
    }
}

impl BatchQueue {
    fn has_room(&self, bytes: u64, most: u64) -> bool {
        let count = self.batches.len();
        count == 0 || (count < MAX_BATCHES && self.bytes + bytes <= most)
    }
}

impl Drop for Giver {
    fn drop(&mut self) {
        self.0.queue().has_ended = true;
        self.0.changed.notify_all();
    }
}

/// The end of the thread that takes batches, in the order in which they were given.
pub(crate) struct Taker(Arc<Shared>);

impl Iterator for Taker {
    type Item = RecordBatch;

    fn next(&mut self) -> Option<RecordBatch> {
        let Self(shared) = self;
        let mut queue = shared.queue();
        while queue.batches.is_empty() && !queue.has_ended {
            queue = shared.wait(queue);
        }
        let (batch, bytes) = queue.batches.pop_front()?;
        queue.bytes -= bytes;
        shared.changed.notify_all();
        Some(batch)
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        self.0.queue().is_left = true;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, Int64Array};

    use super::*;

    /// A batch of `rows` rows, of eight bytes each.
    fn batch(rows: usize) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1; rows]));
        RecordBatch::try_from_iter([("x", column)]).unwrap()
    }

    #[test]
    fn batches_wait_in_their_order_up_to_a_number_of_bytes() {
        let (giver, mut taker) = hand_over(100);
        assert!(giver.give(batch(5)) && giver.give(batch(7)));
        let rows = |batch: Option<RecordBatch>| batch.map(|batch| batch.num_rows());
        std::thread::scope(|scope| {
            let giving = scope.spawn(move || giver.give(batch(1)) && giver.give(batch(1_000)));
            // 96 bytes wait, and eight more have no room.
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert_eq!(taker.0.queue().batches.len(), 2);
            let taken: Vec<_> = (0..4).map(|_| rows(taker.next())).collect();
            assert_eq!(taken, [Some(5), Some(7), Some(1), Some(1_000)]);
            assert!(giving.join().unwrap());
        });
        assert_eq!(rows(taker.next()), None);
    }

    #[test]
    fn small_batches_are_counted_too() {
        let (giver, taker) = hand_over(u64::MAX);
        let empty = || batch(0);
        assert!((0..MAX_BATCHES).all(|_| giver.give(empty())));
        std::thread::scope(|scope| {
            let giving = scope.spawn(|| giver.give(empty()));
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert_eq!(taker.0.queue().batches.len(), MAX_BATCHES);
            drop(taker);
            assert!(!giving.join().unwrap());
        });
    }
}
