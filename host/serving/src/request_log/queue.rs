//! The queue of answers that wait to be logged, and of shadows that wait to be asked.
//!
//! The queue is bounded in rows and in bytes.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wafer_store::Result;

use crate::call::{InferCall, ReleaseAnswer};
use crate::ready::ReadyRelease;

/// The capacity of the queue.
const CAPACITY: Size = Size {
    rows: 16_384,
    bytes: 64 << 20,
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
}

impl Answered {
    /// Returns the name of the release.
    pub(crate) fn release(&self) -> &str {
        &self.ready.release.name
    }
}

/// A shadow release to be asked for some rows of a request.
pub(crate) struct Shadow {
    pub(crate) ready: Arc<ReadyRelease>,
    pub(crate) call: Arc<InferCall>,
    /// The rows of the request that the release is asked for.
    pub(crate) rows: Vec<usize>,
}

/// An entry of the queue.
pub(crate) enum Entry {
    Answered(Answered),
    Shadow(Shadow),
}

impl Entry {
    /// Returns the size of what the entry keeps in memory.
    fn size(&self) -> Size {
        match self {
            Self::Answered(answered) => Size {
                rows: answered.part.len(),
                bytes: answered.call.request.bytes() + answered.answer.bytes(),
            },
            Self::Shadow(shadow) => Size {
                rows: shadow.call.request.rows,
                bytes: shadow.call.request.bytes(),
            },
        }
    }

    /// Returns the release that answered, or that is to be asked.
    pub(crate) fn ready(&self) -> &ReadyRelease {
        match self {
            Self::Answered(answered) => &answered.ready,
            Self::Shadow(shadow) => &shadow.ready,
        }
    }

    /// Returns the number of rows to log.
    fn logged_rows(&self) -> usize {
        match self {
            Self::Answered(answered) => answered.rows.len(),
            Self::Shadow(shadow) => shadow.rows.len(),
        }
    }
}

/// The queue of the request log, and the counts of its rows.
#[derive(Default)]
pub(crate) struct RequestLog {
    queue: Mutex<Queue<Entry>>,
    /// Held while entries are taken from the queue and written.
    pub(crate) writing: tokio::sync::Mutex<()>,
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

/// A queue of entries with their sizes.
pub(crate) struct Queue<T> {
    pub(crate) entries: VecDeque<(T, Size)>,
    size: Size,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            size: Size::default(),
        }
    }
}

impl<T> Queue<T> {
    /// Adds an entry. An empty queue accepts an entry of any size.
    ///
    /// # Errors
    /// Returns the entry when it does not fit into the queue.
    pub(crate) fn push(&mut self, entry: T, entry_size: Size) -> Result<(), T> {
        let size = self.size.plus(entry_size);
        let is_too_large = size.rows > CAPACITY.rows || size.bytes > CAPACITY.bytes;
        if is_too_large && !self.entries.is_empty() {
            return Err(entry);
        }
        self.size = size;
        self.entries.push_back((entry, entry_size));
        Ok(())
    }

    /// Takes the oldest entries, until they have at least `limit` rows or the queue is empty.
    pub(crate) fn take(&mut self, limit: usize) -> Vec<T> {
        let (mut taken, mut rows) = (Vec::new(), 0);
        while rows < limit
            && let Some((entry, entry_size)) = self.entries.pop_front()
        {
            rows += entry_size.rows;
            self.size.rows -= entry_size.rows;
            self.size.bytes -= entry_size.bytes;
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
    /// Queues an answer to be logged.
    pub(crate) fn push_answered(&self, answered: Answered) {
        self.push(Entry::Answered(answered));
    }

    /// Queues a shadow to be asked.
    pub(crate) fn push_shadow(&self, shadow: Shadow) {
        self.push(Entry::Shadow(shadow));
    }

    /// Queues an entry, or drops and counts it if the queue is full.
    fn push(&self, entry: Entry) {
        let size = entry.size();
        let pushed = self.queue().push(entry, size);
        if let Err(entry) = pushed {
            self.count(&entry.ready().endpoint, "dropped", entry.logged_rows());
        }
    }

    pub(crate) fn queue(&self) -> MutexGuard<'_, Queue<Entry>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts rows by endpoint and outcome.
    pub(crate) fn count(&self, endpoint: &str, outcome: &'static str, rows: usize) {
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
    use super::*;
    use crate::request_log::COMMIT_ROWS;

    #[test]
    fn request_log_queue_is_bounded_in_rows_and_bytes() {
        let rows = |rows| Size { rows, bytes: 0 };
        let mut queue = Queue::default();
        let most = CAPACITY.rows;
        assert_eq!(queue.push("too large", rows(most + 1)), Ok(()));
        assert_eq!(queue.push("too many", rows(1)), Err("too many"));
        assert_eq!(queue.take(COMMIT_ROWS), ["too large"]);
        assert_eq!(queue.push("a", rows(most / 2)), Ok(()));
        assert_eq!(queue.push("b", rows(most / 2)), Ok(()));
        assert_eq!(queue.push("c", rows(1)), Err("c"));
        assert_eq!(queue.take(1), ["a"]);
        assert_eq!(queue.push("c", rows(1)), Ok(()));
        let large = Size {
            rows: 1,
            bytes: CAPACITY.bytes + 1,
        };
        assert_eq!(queue.push("d", large), Err("d"));
        assert_eq!(queue.take(most), ["b", "c"]);
        assert_eq!((queue.size, queue.take(1).len()), (Size::default(), 0));
        assert_eq!(queue.push("d", large), Ok(()));
        assert_eq!(queue.push("e", rows(1)), Err("e"));
    }
}
