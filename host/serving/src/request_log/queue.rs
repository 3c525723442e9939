//! The queues of answers that wait to be logged, and of shadows that wait to be asked.
//!
//! Each is bounded in rows and in bytes. Answers wait until there are many, or until one of them is
//! due.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wafer_core::Timestamp;
use wafer_store::Result;

use crate::call::{InferCall, ReleaseAnswer};
use crate::ready::ReadyRelease;

/// The number of rows that are written in one commit, about.
pub(crate) const COMMIT_ROWS: usize = 4_096;

/// The capacity of a queue.
const CAPACITY: Size = Size {
    rows: 16_384,
    bytes: 64 << 20,
};

/// The size at which entries wait no longer, although none is due.
const ENOUGH: Size = Size {
    rows: COMMIT_ROWS,
    bytes: 16 << 20,
};

/// The answer of a release to some rows of a request, to be logged.
pub(crate) struct Answered {
    pub(crate) ready: Arc<ReadyRelease>,
    pub(crate) call: Arc<InferCall>,
    /// Whether the release was asked as a shadow.
    pub(crate) is_shadow: bool,
    /// The rows of the request that the release was asked for.
    pub(crate) part: Vec<usize>,
    /// Positions in `part` of the rows to log.
    pub(crate) rows: Vec<usize>,
    pub(crate) answer: ReleaseAnswer,
    /// The time at which the rows are written at the latest, by the machine's clock.
    pub(crate) due: Timestamp,
}

impl Answered {
    /// Returns the name of the release.
    pub(crate) fn release(&self) -> &str {
        &self.ready.release.name
    }

    /// Returns the size of what the answer keeps in memory.
    fn size(&self) -> Size {
        Size {
            rows: self.part.len(),
            bytes: self.call.request.bytes() + self.answer.bytes(),
        }
    }
}

/// A shadow release to be asked for some rows of a request.
pub(crate) struct Shadow {
    pub(crate) ready: Arc<ReadyRelease>,
    pub(crate) call: Arc<InferCall>,
    /// The rows of the request that the release is asked for.
    pub(crate) rows: Vec<usize>,
    /// The time at which its answer is written at the latest, by the machine's clock.
    pub(crate) due: Timestamp,
}

impl Shadow {
    /// Returns the size of what the shadow keeps in memory.
    fn size(&self) -> Size {
        Size {
            rows: self.call.request.rows,
            bytes: self.call.request.bytes(),
        }
    }
}

/// The queues of the request log, and the counts of its rows.
#[derive(Default)]
pub(crate) struct RequestLog {
    answers: Mutex<DueQueue<Answered>>,
    shadows: Mutex<DueQueue<Shadow>>,
    /// Held while entries are taken from the queues and written.
    pub(crate) writing: tokio::sync::Mutex<()>,
    /// The number of rows of the entries that wait or are being written.
    unwritten: AtomicU64,
    /// The number of rows by endpoint and outcome.
    counts: Mutex<BTreeMap<(String, &'static str), u64>>,
}

/// The size of an entry, or of all entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    rows: usize,
    /// The estimated number of bytes. Memory that several entries share is counted for each of
    /// them.
    bytes: usize,
}

impl Size {
    fn plus(self, other: Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            bytes: self.bytes + other.bytes,
        }
    }
}

/// A queue of entries with their sizes and the times at which they are due.
pub(crate) struct DueQueue<T> {
    entries: VecDeque<QueuedEntry<T>>,
    size: Size,
}

/// An entry of a queue.
struct QueuedEntry<T> {
    entry: T,
    size: Size,
    due: Timestamp,
}

impl<T> Default for DueQueue<T> {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            size: Size::default(),
        }
    }
}

impl<T> DueQueue<T> {
    /// Adds an entry. An empty queue accepts an entry of any size.
    ///
    /// # Errors
    /// Returns the entry when it does not fit into the queue.
    fn push(&mut self, entry: T, size: Size, due: Timestamp) -> Result<(), T> {
        let sum = self.size.plus(size);
        let is_too_large = sum.rows > CAPACITY.rows || sum.bytes > CAPACITY.bytes;
        if is_too_large && !self.entries.is_empty() {
            return Err(entry);
        }
        self.size = sum;
        self.entries.push_back(QueuedEntry { entry, size, due });
        Ok(())
    }

    /// Returns the number of entries.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether so many entries wait that they are to be taken although none is due.
    pub(crate) fn has_enough(&self) -> bool {
        self.size.rows >= ENOUGH.rows || self.size.bytes >= ENOUGH.bytes
    }

    /// Returns whether the entries are to be taken: one of them is due, or many wait.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.has_enough() || self.entries.iter().any(|waiting| waiting.due <= now)
    }

    /// Takes the oldest entries, until they have at least `limit` rows or the queue is empty.
    pub(crate) fn take(&mut self, limit: usize) -> Vec<T> {
        let (mut taken, mut rows) = (Vec::new(), 0);
        while rows < limit
            && let Some(QueuedEntry { entry, size, .. }) = self.entries.pop_front()
        {
            rows += size.rows;
            self.size.rows -= size.rows;
            self.size.bytes -= size.bytes;
            taken.push(entry);
        }
        taken
    }
}

impl std::fmt::Debug for RequestLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestLog").finish_non_exhaustive()
    }
}

impl RequestLog {
    /// Queues an answer to be logged, or drops and counts its rows if the queue is full.
    pub(crate) fn push_answered(&self, answered: Answered) {
        let (size, due) = (answered.size(), answered.due);
        self.begin(answered.rows.len());
        let pushed = self.answers().push(answered, size, due);
        if let Err(Answered { ready, rows, .. }) = pushed {
            self.count(&ready.endpoint, "dropped", rows.len());
        }
    }

    /// Queues a shadow to be asked, or drops and counts its rows if the queue is full.
    pub(crate) fn push_shadow(&self, shadow: Shadow) {
        let (size, due) = (shadow.size(), shadow.due);
        self.begin(shadow.rows.len());
        let pushed = self.shadows().push(shadow, size, due);
        if let Err(Shadow { ready, rows, .. }) = pushed {
            self.count(&ready.endpoint, "dropped", rows.len());
        }
    }

    /// Returns the answers that wait to be logged.
    pub(crate) fn answers(&self) -> MutexGuard<'_, DueQueue<Answered>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the shadows that wait to be asked.
    pub(crate) fn shadows(&self) -> MutexGuard<'_, DueQueue<Shadow>> {
        self.shadows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of rows that wait or are being written.
    pub(crate) fn unwritten(&self) -> u64 {
        self.unwritten.load(Ordering::Relaxed)
    }

    /// Counts rows as unwritten, before others can take them from a queue.
    fn begin(&self, rows: usize) {
        self.unwritten.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// Counts rows as unwritten no longer.
    pub(crate) fn end(&self, rows: usize) {
        self.unwritten.fetch_sub(rows as u64, Ordering::Relaxed);
    }

    /// Counts rows that were unwritten by endpoint and outcome.
    pub(crate) fn count(&self, endpoint: &str, outcome: &'static str, rows: usize) {
        self.end(rows);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((endpoint.to_owned(), outcome)).or_default() += rows as u64;
    }

    /// Returns the counts in the text format of Prometheus.
    pub(crate) fn metrics(&self) -> String {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::from(
            "# HELP wafer_log_rows_total Rows of requests that were to be logged, by endpoint and outcome: dropped for lack of room, failed when the store or a shadow did.\n\
             # TYPE wafer_log_rows_total counter\n",
        );
        for ((endpoint, outcome), rows) in counts.iter() {
            let _ = writeln!(
                text,
                "wafer_log_rows_total{{endpoint=\"{endpoint}\",outcome=\"{outcome}\"}} {rows}"
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use wafer_core::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_000_000_000);

    fn rows(rows: usize) -> Size {
        Size { rows, bytes: 0 }
    }

    #[test]
    fn request_log_queue_is_bounded_in_rows_and_bytes() {
        let mut queue = DueQueue::default();
        let push = |queue: &mut DueQueue<&'static str>, entry, size| queue.push(entry, size, NOW);
        let most = CAPACITY.rows;
        assert_eq!(push(&mut queue, "too large", rows(most + 1)), Ok(()));
        assert_eq!(push(&mut queue, "too many", rows(1)), Err("too many"));
        assert_eq!(queue.take(COMMIT_ROWS), ["too large"]);
        assert_eq!(push(&mut queue, "a", rows(most / 2)), Ok(()));
        assert_eq!(push(&mut queue, "b", rows(most / 2)), Ok(()));
        assert_eq!(push(&mut queue, "c", rows(1)), Err("c"));
        assert_eq!(queue.take(1), ["a"]);
        assert_eq!(push(&mut queue, "c", rows(1)), Ok(()));
        let large = Size {
            rows: 1,
            bytes: CAPACITY.bytes + 1,
        };
        assert_eq!(push(&mut queue, "d", large), Err("d"));
        assert_eq!(queue.take(most), ["b", "c"]);
        assert_eq!((queue.size, queue.take(1).len()), (Size::default(), 0));
        assert_eq!(push(&mut queue, "d", large), Ok(()));
        assert_eq!(push(&mut queue, "e", rows(1)), Err("e"));
    }

    #[test]
    fn request_log_waits_until_a_row_is_due_or_there_are_many() {
        let after = |seconds| NOW.plus(Duration::from_secs(seconds));
        let mut queue = DueQueue::default();
        assert!(!queue.is_due(Timestamp::MAX), "nothing waits");
        queue.push("a", rows(1), after(60)).unwrap();
        // Another endpoint may want its rows to be written sooner.
        queue.push("b", rows(1), after(10)).unwrap();
        queue.push("c", rows(1), after(70)).unwrap();
        for (seconds, wanted) in [(0, false), (9, false), (10, true), (60, true)] {
            assert_eq!(queue.is_due(after(seconds)), wanted, "{seconds}");
        }
        assert_eq!(queue.take(2), ["a", "b"]);
        assert!(!queue.is_due(after(69)));
        assert!(queue.is_due(after(70)));
        assert_eq!(queue.take(COMMIT_ROWS), ["c"]);

        // Where writes cost nothing, rows are due at once, whatever the clock says.
        queue.push("now", rows(1), Timestamp::MIN).unwrap();
        assert!(queue.is_due(NOW) && !queue.has_enough());
        assert_eq!(queue.take(1), ["now"]);

        for _ in 0..COMMIT_ROWS {
            assert!(!queue.is_due(NOW));
            queue.push("one of many", rows(1), after(60)).unwrap();
        }
        assert!(queue.is_due(NOW) && queue.has_enough());
        assert_eq!(queue.take(COMMIT_ROWS).len(), COMMIT_ROWS);
        let large = Size {
            rows: 1,
            bytes: ENOUGH.bytes,
        };
        queue.push("large", large, after(60)).unwrap();
        assert!(queue.is_due(NOW) && queue.has_enough());
    }
}
