//! Chained pipelines: what of another group's table a run has yet to read.
//!
//! An interval of such a pipeline covers the rows that became visible in it, so a
//! late row is in the interval in which it came. Runs remember the version that they
//! read; what changed since is looked up in the table's log.

use std::collections::BTreeSet;

use wafer_catalog::Upstream;
use wafer_core::rules::Interval;
use wafer_store::{Change, DataFile, Kind, Result, TableSnapshot};

use crate::service::Pipelines;

/// A table that a pipeline reads, and what changed in it.
pub(crate) struct UpstreamChanges {
    pub(crate) version: u64,
    pub(crate) files: Vec<DataFile>,
    /// What changed after `since`.
    changes: Vec<Change>,
    pub(crate) since: u64,
}

impl Pipelines {
    /// A table as it is now, with what changed since a version of it.
    pub(crate) async fn upstream_changes(
        &self,
        snapshot: &TableSnapshot,
        since: Option<u64>,
    ) -> Result<UpstreamChanges> {
        let version = snapshot.version();
        let since = since.unwrap_or(version);
        let offline = &self.context.components().offline;
        let (changes, since) = match offline.changes(snapshot.table(), since, version).await {
            Ok(changes) => (changes, since),
            // Its log begins later: everything is read anew.
            Err(e) if e.kind() == Kind::NotFound => (Vec::new(), version),
            Err(e) => return Err(e),
        };
        Ok(UpstreamChanges {
            version,
            files: snapshot.files().to_vec(),
            changes,
            since,
        })
    }
}

impl UpstreamChanges {
    /// Version of the table.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// To read everything.
    pub(crate) fn everything(&self) -> Upstream {
        Upstream {
            version: self.version,
            changed: self.version,
            since: None,
            base: None,
        }
    }

    /// What there is to read for an interval that has all rows up to a version;
    /// `None` when nothing of it changed. With `may_add`, new rows alone where that
    /// can be.
    pub(crate) fn after(&self, seen: u64, interval: Interval, may_add: bool) -> Option<Upstream> {
        if seen < self.since {
            return Some(self.everything());
        }
        let changed = self
            .changes_after(seen, interval)
            .map(|c| c.version)
            .max()?;
        // Files that were merged with others meanwhile cannot be read by themselves.
        let live: BTreeSet<&str> = self.files.iter().map(|file| file.path.as_str()).collect();
        let is_new =
            |change: &Change| !change.is_removal && live.contains(change.file.path.as_str());
        let adds = may_add && self.changes_after(seen, interval).all(is_new);
        Some(Upstream {
            version: self.version,
            changed,
            since: adds.then_some(seen),
            base: None,
        })
    }

    /// Whether anything of an interval changed after a version.
    pub(crate) fn touches(&self, seen: u64, interval: Interval) -> bool {
        seen < self.since || self.changes_after(seen, interval).next().is_some()
    }

    /// The files that a run over an interval reads.
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

    fn changes_after(&self, seen: u64, interval: Interval) -> impl Iterator<Item = &Change> {
        let of_interval = move |change: &&Change| {
            change.version > seen && change.file.became_available_in(interval)
        };
        self.changes.iter().filter(of_interval)
    }
}

#[cfg(test)]
mod tests {
    use wafer_core::Timestamp;

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

    fn change(version: u64, path: &str, day: i64, is_removal: bool) -> Change {
        Change {
            version,
            file: file(path, day),
            is_removal,
        }
    }

    #[test]
    fn what_came_is_added_and_what_went_means_to_read_all() {
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
        for (seen, interval, may_add, wanted) in [
            // Nothing of the first day came or went.
            (4, day(1), true, None),
            (4, day(2), true, upstream(5, Some(4))),
            (4, day(2), false, upstream(5, None)),
            (5, day(2), true, None),
            // Replaced.
            (4, day(3), true, upstream(6, None)),
            // What came is in another file by now.
            (4, day(4), true, upstream(7, None)),
            (7, Interval::ALL, true, None),
            // Older than the log.
            (3, day(1), true, upstream(9, None)),
        ] {
            let found = changes.after(seen, interval, may_add);
            assert_eq!(found, wanted, "after {seen} in {interval}");
            assert_eq!(changes.touches(seen, interval), wanted.is_some());
        }
        let paths = |upstream, interval| -> Vec<String> {
            let files = changes.files(upstream, interval);
            files.into_iter().map(|file| file.path).collect()
        };
        assert_eq!(paths(upstream(5, Some(4)).unwrap(), day(2)), ["b"]);
        assert_eq!(paths(changes.everything(), day(3)), ["c2"]);
        assert_eq!(paths(changes.everything(), Interval::ALL).len(), 4);
    }
}
