//! What waits to be logged, bounded in rows and bytes.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wafer_store::Result;

use crate::infer::{InferCall, ReleaseAnswer};
use crate::ready::ReadyRelease;

/// What may wait to be logged.
const ROOM: Size = Size {
    rows: 16_384,
    bytes: 64 << 20,
};

/// Some rows of a request, and what a release made of them.
pub(crate) struct Answered {
    pub(crate) ready: Arc<ReadyRelease>,
    pub(crate) call: Arc<InferCall>,
    pub(crate) is_shadow: bool,
    /// The rows of the request that the release was asked for.
    pub(crate) part: Vec<usize>,
    /// Places in `part` of those that are to be logged.
    pub(crate) rows: Vec<usize>,
    pub(crate) asked: ReleaseAnswer,
}

impl Answered {
    pub(crate) fn release(&self) -> &str {
        &self.ready.release.name
    }
}

/// A release that is still to be asked for some rows of a request.
pub(crate) struct Shadow {
    pub(crate) ready: Arc<ReadyRelease>,
    pub(crate) call: Arc<InferCall>,
    /// The rows of the request that it is asked for.
    pub(crate) rows: Vec<usize>,
}

pub(crate) enum Entry {
    Answered(Answered),
    Shadow(Shadow),
}

impl Entry {
    /// What it keeps in memory.
    fn size(&self) -> Size {
        match self {
            Self::Answered(answered) => Size {
                rows: answered.part.len(),
                bytes: answered.call.request.bytes() + answered.asked.bytes(),
            },
            Self::Shadow(shadow) => Size {
                rows: shadow.call.request.rows,
                bytes: shadow.call.request.bytes(),
            },
        }
    }

    pub(crate) fn ready(&self) -> &ReadyRelease {
        match self {
            Self::Answered(answered) => &answered.ready,
            Self::Shadow(shadow) => &shadow.ready,
        }
    }

    fn logged(&self) -> usize {
        match self {
            Self::Answered(answered) => answered.rows.len(),
            Self::Shadow(shadow) => shadow.rows.len(),
        }
    }
}

/// What waits to be logged.
#[derive(Default)]
pub(crate) struct RequestLog {
    pub(crate) queue: Mutex<Queue<Entry>>,
    /// Held by who writes.
    pub(crate) writing: tokio::sync::Mutex<()>,
    pub(crate) counts: Mutex<BTreeMap<(String, &'static str), u64>>,
}

/// How much something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) rows: usize,
    /// About so many; what several entries share counts for each.
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

/// Entries, each with what it keeps in memory.
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
    /// Adds an entry if there is room; one that is alone may be larger than the room. Gives
    /// it back if there is none.
    pub(crate) fn push(&mut self, entry: T, own: Size) -> Result<(), T> {
        let size = self.size.plus(own);
        if (size.rows > ROOM.rows || size.bytes > ROOM.bytes) && !self.entries.is_empty() {
            return Err(entry);
        }
        self.size = size;
        self.entries.push_back((entry, own));
        Ok(())
    }

    /// The next entries, oldest first, up to about so many rows.
    pub(crate) fn take(&mut self, limit: usize) -> Vec<T> {
        let (mut taken, mut rows) = (Vec::new(), 0);
        while rows < limit
            && let Some((entry, own)) = self.entries.pop_front()
        {
            rows += own.rows;
            self.size.rows -= own.rows;
            self.size.bytes -= own.bytes;
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
    pub(crate) fn answered(&self, answered: Answered) {
        self.push(Entry::Answered(answered));
    }

    pub(crate) fn shadow(&self, shadow: Shadow) {
        self.push(Entry::Shadow(shadow));
    }

    pub(crate) fn push(&self, entry: Entry) {
        let size = entry.size();
        let pushed = self.queue().push(entry, size);
        if let Err(entry) = pushed {
            self.count(&entry.ready().endpoint, "dropped", entry.logged());
        }
    }

    pub(crate) fn queue(&self) -> MutexGuard<'_, Queue<Entry>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count(&self, endpoint: &str, outcome: &'static str, rows: usize) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((endpoint.to_owned(), outcome)).or_default() += rows as u64;
    }

    /// Its numbers, in the text format of Prometheus.
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
    use crate::request_log::TOGETHER;

    #[test]
    fn the_queue_has_room_for_so_many_rows() {
        let rows = |rows| Size { rows, bytes: 0 };
        let mut queue = Queue::default();
        let most = ROOM.rows;
        assert_eq!(queue.push("larger than the room", rows(most + 1)), Ok(()));
        assert_eq!(queue.push("too many", rows(1)), Err("too many"));
        assert_eq!(queue.take(TOGETHER), ["larger than the room"]);
        assert_eq!(queue.push("a", rows(most / 2)), Ok(()));
        assert_eq!(queue.push("b", rows(most / 2)), Ok(()));
        assert_eq!(queue.push("c", rows(1)), Err("c"));
        assert_eq!(queue.take(1), ["a"]);
        assert_eq!(queue.push("c", rows(1)), Ok(()));
        let large = Size {
            rows: 1,
            bytes: ROOM.bytes + 1,
        };
        assert_eq!(queue.push("d", large), Err("d"));
        assert_eq!(queue.take(most), ["b", "c"]);
        assert_eq!((queue.size, queue.take(1).len()), (Size::default(), 0));
        assert_eq!(queue.push("d", large), Ok(()));
        assert_eq!(queue.push("e", rows(1)), Err("e"));
    }
}
