//! Chained pipelines: finds the rows of another group's table that a run has yet to read.
//!
//! The source of a chained pipeline is another group's table. An interval of such a pipeline
//! covers the rows that *became visible* in it, so a late row belongs to the interval in which
//! it came in. Each run records the version of the table that it read. The next run looks in the
//! table's log for the changes since then. If there are only new rows, the run reads only these
//! and adds its output to what the interval has. If rows were removed, as when an upstream
//! interval was replaced or an entity was deleted, the run reads the whole interval again.
//! Compaction moves rows between files without changing them, so it does not count as a change.
//! A schedule also repeats finished intervals that were changed (`trigger/upstream.rs`).
//!
//! A Delta table that others write is followed in the same way, by its own versions; its rows
//! belong to intervals by their event times, so each change may concern any interval.

use std::collections::BTreeSet;

use wafer_catalog::Upstream;
use wafer_core::rules::Interval;
use wafer_store::{DataFile, Kind, Result, TableChange, TableSnapshot};

use crate::delta_log::check_changes;

/// Whether a run may read only the rows that were added since the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IncrementalRead {
    /// It may.
    Allowed,
    /// It reads everything, because something is asked of all rows together.
    Refused,
}

/// A table that a pipeline reads, and the changes in it since an earlier version.
pub(crate) struct UpstreamChanges {
    /// The version of the table that the run reads.
    pub(crate) version: u64,
    /// The data files of that version.
    pub(crate) files: Vec<DataFile>,
    /// The changes after the version `since`.
    pub(crate) changes: Vec<TableChange>,
    /// The version after which the changes are known.
    pub(crate) since: u64,
}

impl UpstreamChanges {
    /// Returns the table as it is in a snapshot, with its changes after the version `since`, or
    /// with no changes if `since` is `None` or older than the table's log.
    pub(crate) async fn new(snapshot: &TableSnapshot, since: Option<u64>) -> Result<Self> {
        let version = snapshot.version();
        let since = since.unwrap_or(version);
        let (changes, since) = match changes_since(snapshot, since).await {
            Ok(changes) => (changes, since),
            // The table's log no longer reaches back to that version, so everything is read
            // again.
            Err(e) if e.kind() == Kind::NotFound => (Vec::new(), version),
            Err(e) => return Err(e),
        };
        Ok(Self {
            version,
            files: snapshot.files().to_vec(),
            changes,
            since,
        })
    }

    /// Says to read everything.
    pub(crate) fn full_read(&self) -> Upstream {
        Upstream {
            version: self.version,
            changed: self.version,
            since: None,
            base: None,
        }
    }

    /// Says what to read for an interval whose output reflects the table up to the version
    /// `seen`; returns `None` when nothing in the interval changed since then. Only the new rows
    /// are read if nothing else changed and `incremental` allows it.
    pub(crate) fn unread(
        &self,
        seen: u64,
        interval: Interval,
        incremental: IncrementalRead,
    ) -> Option<Upstream> {
        if seen < self.since {
            return Some(self.full_read());
        }
        let changed = self
            .changes_after(seen, interval)
            .map(|c| c.version)
            .max()?;
        // A new file that was merged with others in the meantime cannot be read by itself.
        let live: BTreeSet<&str> = self.files.iter().map(|file| file.path.as_str()).collect();
        let is_new =
            |change: &TableChange| !change.is_removal && live.contains(change.file.path.as_str());
        let adds = incremental == IncrementalRead::Allowed
            && self.changes_after(seen, interval).all(is_new);
        Some(Upstream {
            version: self.version,
            changed,
            since: adds.then_some(seen),
            base: None,
        })
    }

    /// Returns whether anything in an interval changed after the version `seen`.
    pub(crate) fn has_changes(&self, seen: u64, interval: Interval) -> bool {
        seen < self.since || self.changes_after(seen, interval).next().is_some()
    }

    /// Returns the files that a run over an interval reads.
    pub(crate) fn files(&self, upstream: Upstream, interval: Interval) -> Vec<DataFile> {
        match upstream.since {
            Some(since) => {
                let changes = self.changes_after(since, interval);
                changes.map(|change| change.file.clone()).collect()
            }
            None => {
                let files = self.files.iter();
                let read = files.filter(|file| file.became_available_in(interval));
                read.cloned().collect()
            }
        }
    }

    /// Returns the changes in an interval after the version `seen`.
    fn changes_after(&self, seen: u64, interval: Interval) -> impl Iterator<Item = &TableChange> {
        let of_interval = move |change: &&TableChange| {
            change.version > seen && change.file.became_available_in(interval)
        };
        self.changes.iter().filter(of_interval)
    }
}

/// Returns the changes of a table after a version. The log of a table that others write is looked
/// at before it is read.
async fn changes_since(snapshot: &TableSnapshot, since: u64) -> Result<Vec<TableChange>> {
    if let Some(folder) = snapshot.outside_folder()
        && since < snapshot.version()
    {
        check_changes(folder, since, snapshot.version()).await?;
    }
    snapshot.changes_since(since).await
}

#[cfg(test)]
mod tests {
    use wafer_core::Timestamp;

    use super::IncrementalRead::{Allowed, Refused};
    use super::*;

    fn at(day: i64) -> Timestamp {
        Timestamp::from_micros(day * 86_400_000_000)
    }

    fn file(path: &str, day: i64) -> DataFile {
        DataFile {
            path: path.to_owned(),
            bytes: 1,
            rows: None,
            events: None,
            available: Some((at(day), at(day))),
        }
    }

    fn change(version: u64, path: &str, day: i64, is_removal: bool) -> TableChange {
        TableChange {
            version,
            file: file(path, day),
            is_removal,
        }
    }

    #[test]
    fn new_rows_are_read_alone_and_removed_rows_cause_a_full_read() {
        let changes = UpstreamChanges {
            version: 9,
            files: vec![file("a", 1), file("b", 2), file("c2", 3), file("m", 4)],
            changes: vec![
                change(5, "b", 2, false),
                change(6, "c2", 3, false),
                change(6, "c", 3, true),
                change(7, "merged", 4, false),
            ],
            since: 4,
        };
        let day = |day| Interval {
            from: at(day),
            to: at(day + 1),
        };
        let upstream = |changed, since| {
            Some(Upstream {
                version: 9,
                changed,
                since,
                base: None,
            })
        };
        for (seen, interval, incremental, wanted) in [
            // No rows of the first day were added or removed.
            (4, day(1), Allowed, None),
            (4, day(2), Allowed, upstream(5, Some(4))),
            (4, day(2), Refused, upstream(5, None)),
            (5, day(2), Allowed, None),
            // The file of the third day was replaced.
            (4, day(3), Allowed, upstream(6, None)),
            // The new file was merged into another one.
            (4, day(4), Allowed, upstream(7, None)),
            (7, Interval::ALL, Allowed, None),
            // The version is older than the log.
            (3, day(1), Allowed, upstream(9, None)),
        ] {
            let found = changes.unread(seen, interval, incremental);
            assert_eq!(found, wanted, "after {seen} in {interval}");
            assert_eq!(changes.has_changes(seen, interval), wanted.is_some());
        }
        let paths = |upstream, interval| -> Vec<String> {
            let files = changes.files(upstream, interval);
            files.into_iter().map(|file| file.path).collect()
        };
        assert_eq!(paths(upstream(5, Some(4)).unwrap(), day(2)), ["b"]);
        assert_eq!(paths(changes.full_read(), day(3)), ["c2"]);
        assert_eq!(paths(changes.full_read(), Interval::ALL).len(), 4);
    }
}
