//! The point-in-time join, which finds for each label the newest row of its entity that was known
//! at the label's time.

use std::ops::Range;
use std::sync::Arc;

use crate::rules::{RowVersion, is_expired};
use crate::{Duration, Timestamp};

/// Stands for the absence of an entity: the key is null or too long, or no row has it.
pub const NONE: u32 = u32::MAX;

/// Rows grouped by entity. The grouping is a counting sort, which keeps the order within an entity.
/// Rows of [`NONE`] are left out.
#[derive(Clone, Debug)]
pub struct ByEntity {
    starts: Vec<u32>,
    rows: Vec<u32>,
}

impl ByEntity {
    /// Groups rows by the number of their entity, which is below `count`.
    pub fn new(entities: &[u32], count: usize) -> Self {
        let mut starts = vec![0u32; count + 1];
        for entity in entities.iter().filter(|entity| **entity != NONE) {
            starts[*entity as usize + 1] += 1;
        }
        for entity in 0..count {
            starts[entity + 1] += starts[entity];
        }
        let mut next = starts.clone();
        let mut rows = vec![0; starts[count] as usize];
        for (row, entity) in entities.iter().enumerate().filter(|(_, e)| **e != NONE) {
            let place = &mut next[*entity as usize];
            rows[*place as usize] = row as u32;
            *place += 1;
        }
        Self { starts, rows }
    }

    /// Number of entities.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Whether there are no entities.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows of an entity.
    pub fn rows(&self, entity: usize) -> &[u32] {
        &self.rows[self.places(entity)]
    }

    /// All rows, entity by entity.
    pub fn order(&self) -> &[u32] {
        &self.rows
    }

    /// The positions of an entity's rows in [`order`](Self::order).
    pub fn places(&self, entity: usize) -> Range<usize> {
        self.starts[entity] as usize..self.starts[entity + 1] as usize
    }

    /// Sorts the rows of every entity by a key, unless they are in order already, as rows that were
    /// written in the order of time are.
    pub fn sort_by_key<K: Ord>(&mut self, key: impl Fn(u32) -> K) {
        for entity in 0..self.len() {
            let places = self.places(entity);
            let rows = &mut self.rows[places];
            if !rows.is_sorted_by_key(|row| key(*row)) {
                rows.sort_by_key(|row| key(*row));
            }
        }
    }
}

/// Labels grouped by entity and sorted by time. Several joins may share them.
#[derive(Debug)]
pub struct SortedLabels {
    by_entity: ByEntity,
    /// Times of the labels, in the order of `by_entity`.
    times: Vec<Timestamp>,
}

impl SortedLabels {
    /// Sorts labels, given the number of each label's entity, below `count`, and its
    /// time.
    pub fn new(entities: &[u32], times: &[Timestamp], count: usize) -> Self {
        let mut by_entity = ByEntity::new(entities, count);
        by_entity.sort_by_key(|label| times[label as usize]);
        Self {
            times: by_entity
                .rows
                .iter()
                .map(|label| times[*label as usize])
                .collect(),
            by_entity,
        }
    }

    /// The labels grouped by entity, in the order of their times.
    pub fn by_entity(&self) -> &ByEntity {
        &self.by_entity
    }

    /// The times of the labels, in the order of [`by_entity`](Self::by_entity).
    pub fn times(&self) -> &[Timestamp] {
        &self.times
    }
}

/// Finds for each label the newest row of its entity that was known at the label's time.
///
/// Rows may come in any order and are not kept. A row is recorded at the first label at or after
/// the time from which the row counts, if it is the newest there. In the end, a label's row is the
/// newest one recorded at that label or at any earlier label of its entity. Memory therefore
/// depends on the number of labels alone, however many rows there are, in total or for one entity.
///
/// `V` orders the rows of an entity: it is their event time as long as no two of them share it, and
/// the whole [`RowVersion`] otherwise.
#[derive(Clone, Debug)]
pub struct AsOfJoin<V> {
    labels: Arc<SortedLabels>,
    /// The newest row recorded at each label.
    found: Vec<FoundRow<V>>,
    /// Where the last row of each entity was recorded. Rows mostly come in the order of time, so
    /// the search for the next one starts there.
    hints: Vec<u32>,
    /// Whether two rows of an entity had equal versions, so that neither was the newer.
    ties: bool,
}

/// The rows that an [`AsOfJoin`] found.
#[derive(Clone, Debug)]
pub struct AsOfRows {
    /// For each label, by its number, the number of its row; `None` where there is no row that
    /// counts, or the newest one has expired.
    pub rows: Vec<Option<u64>>,
    /// Whether some rows had equal versions. If so, the join must be repeated with versions that
    /// differ.
    pub has_ties: bool,
    /// The number of labels whose row has the label's own time as its event time.
    pub coincident: u64,
}

/// What the rows of an entity are ordered by.
pub trait Version: Copy + Ord {
    /// The event time of the row.
    fn event(self) -> Timestamp;
    /// The least version.
    const LEAST: Self;
}

impl Version for Timestamp {
    const LEAST: Self = Self::MIN;

    fn event(self) -> Timestamp {
        self
    }
}

impl Version for RowVersion {
    const LEAST: Self = Self {
        event: Timestamp::MIN,
        created: Timestamp::MIN,
        order: 0,
    };

    fn event(self) -> Timestamp {
        self.event
    }
}

/// A row and its version.
#[derive(Clone, Copy, Debug)]
struct FoundRow<V> {
    version: V,
    row: u64,
}

impl<V: Version> FoundRow<V> {
    /// The absence of a row.
    const NOTHING: Self = Self {
        version: V::LEAST,
        row: u64::MAX,
    };

    /// Takes the place of this row if another one is newer. Returns whether both have the same
    /// version. The one with the greater number is taken then, so that the result does not depend
    /// on how the rows were divided among joins.
    #[inline]
    fn take_newer(&mut self, other: Self) -> bool {
        let is_tie = self.row != u64::MAX && other.version == self.version;
        if self.row == u64::MAX || (other.version, other.row) > (self.version, self.row) {
            *self = other;
        }
        is_tie
    }
}

impl<V: Version> AsOfJoin<V> {
    /// Creates a join without rows.
    pub fn new(labels: Arc<SortedLabels>) -> Self {
        let by_entity = &labels.by_entity;
        Self {
            found: vec![FoundRow::NOTHING; by_entity.rows.len()],
            hints: by_entity.starts[..by_entity.len()].to_vec(),
            labels,
            ties: false,
        }
    }

    /// Adds a row: the number of its entity, the time from which it counts (the later of its event
    /// time and its available time), its version, and its number.
    #[inline]
    pub fn add(&mut self, entity: u32, active: Timestamp, version: V, row: u64) {
        let start = self.labels.by_entity.starts[entity as usize];
        let end = self.labels.by_entity.starts[entity as usize + 1];
        let place = self.place(start, end, self.hints[entity as usize], active);
        self.hints[entity as usize] = place;
        if place == end {
            return;
        }
        let found = &mut self.found[place as usize];
        self.ties |= found.take_newer(FoundRow { version, row });
    }

    /// The first of the labels `start..end` that is not before a time, searched for around a hint
    /// in steps that double.
    #[inline]
    fn place(&self, start: u32, end: u32, hint: u32, time: Timestamp) -> u32 {
        let before = |place: u32| self.labels.times[place as usize] < time;
        let (mut low, mut high) = (start, end);
        let mut step = 1;
        if hint < end && before(hint) {
            low = hint + 1;
            while low + step < end && before(low + step) {
                low += step + 1;
                step *= 2;
            }
            high = end.min(low + step);
        } else if hint > start {
            high = hint;
            while high >= start + step && !before(high - step) {
                high -= step;
                step *= 2;
            }
            low = start.max(high.saturating_sub(step));
        }
        let places = &self.labels.times[low as usize..high as usize];
        low + places.partition_point(|other| *other < time) as u32
    }

    /// Adds the rows that another join of the same labels has recorded.
    pub fn merge(&mut self, other: &Self) {
        self.ties |= other.ties;
        for (found, more) in self.found.iter_mut().zip(&other.found) {
            if more.row != u64::MAX {
                self.ties |= found.take_newer(*more);
            }
        }
    }

    /// Returns for each label the row with the greatest version among those that count at the
    /// label's time, unless it is more than `ttl` old.
    pub fn finish(self, labels: usize, ttl: Option<Duration>) -> AsOfRows {
        let Self {
            labels: sorted,
            found,
            mut ties,
            ..
        } = self;
        let SortedLabels { by_entity, times } = sorted.as_ref();
        let mut rows = vec![None; labels];
        let mut coincident = 0;
        for entity in 0..by_entity.len() {
            let (start, end) = (by_entity.starts[entity], by_entity.starts[entity + 1]);
            let mut best: FoundRow<V> = FoundRow::NOTHING;
            for place in start as usize..end as usize {
                let candidate = found[place];
                if candidate.row != u64::MAX {
                    ties |= best.take_newer(candidate);
                }
                let now = times[place];
                // If the newest row has expired, so have all others.
                if best.row != u64::MAX && !is_expired(best.version.event(), ttl, now) {
                    rows[by_entity.rows[place] as usize] = Some(best.row);
                    coincident += u64::from(best.version.event() == now);
                }
            }
        }
        AsOfRows {
            rows,
            has_ties: ties,
            coincident,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    struct Row {
        entity: u32,
        event: i64,
        available: i64,
        created: i64,
        order: u64,
    }

    /// Joins by two joins that each get half of the rows, as parallel workers do.
    fn join(rows: &[Row], labels: &[(u32, i64)], ttl: Option<i64>) -> Vec<Option<u64>> {
        let labelled = labels
            .iter()
            .map(|(entity, time)| (*entity, Timestamp::from_micros(*time)));
        let (entities, times): (Vec<_>, Vec<_>) = labelled.unzip();
        let labels_sorted = Arc::new(SortedLabels::new(&entities, &times, 4));
        let mut joins = [0, 1].map(|_| AsOfJoin::new(Arc::clone(&labels_sorted)));
        for (number, row) in rows
            .iter()
            .enumerate()
            .filter(|(_, row)| row.entity != NONE)
        {
            let version = RowVersion {
                event: Timestamp::from_micros(row.event),
                created: Timestamp::from_micros(row.created),
                order: row.order,
            };
            let active = Timestamp::from_micros(row.event.max(row.available));
            joins[number % 2].add(row.entity, active, version, number as u64);
        }
        let [mut left, right] = joins;
        left.merge(&right);
        let found = left.finish(labels.len(), ttl.map(Duration::from_micros));
        assert!(!found.has_ties, "orders of arrival differ");
        found.rows
    }

    fn naive(rows: &[Row], (entity, time): (u32, i64), ttl: Option<i64>) -> Option<u64> {
        let known = rows.iter().enumerate().filter(|(_, row)| {
            row.entity == entity
                && entity != NONE
                && row.event <= time
                && row.available <= time
                && ttl.is_none_or(|ttl| time - ttl <= row.event)
        });
        known
            .max_by_key(|(_, row)| (row.event, row.created, row.order))
            .map(|(index, _)| index as u64)
    }

    #[test]
    fn as_of_join_rules() {
        let row = |event, available, created, order| Row {
            entity: 0,
            event,
            available,
            created,
            order,
        };
        let one = |rows: &[Row], time, ttl| join(rows, &[(0, time)], ttl)[0];
        let rows = [row(10, 10, 50, 1), row(20, 25, 50, 2), row(30, 20, 50, 3)];
        for (time, wanted) in [
            (9, None),
            (10, Some(0)),
            (24, Some(0)),
            (25, Some(1)),
            (29, Some(1)),
            (30, Some(2)),
        ] {
            assert_eq!(one(&rows, time, None), wanted, "at {time}");
        }
        // A row that becomes visible late, and is older than the known one, changes nothing.
        assert_eq!(
            one(&[row(10, 10, 0, 0), row(5, 20, 9, 0)], 30, None),
            Some(0)
        );
        // Among rows of one event time the last written one wins, then the last one to arrive.
        assert_eq!(
            one(&[row(10, 10, 2, 0), row(10, 10, 1, 9)], 10, None),
            Some(0)
        );
        assert_eq!(
            one(&[row(10, 10, 1, 0), row(10, 10, 1, 9)], 10, None),
            Some(1)
        );
        // The time to live includes its last instant.
        assert_eq!(one(&[row(10, 10, 0, 0)], 15, Some(5)), Some(0));
        assert_eq!(one(&[row(10, 10, 0, 0)], 16, Some(5)), None);
        // Duplicate labels are kept in their order, and a label without an entity matches nothing.
        let labels = [(0, 10), (NONE, 10), (0, 10), (1, 10)];
        assert_eq!(join(&rows, &labels, None), [Some(0), None, Some(0), None]);
    }

    #[test]
    fn as_of_join_reports_ties() {
        let version = Timestamp::from_micros(3);
        let times = [5, 10, 15, 20].map(Timestamp::from_micros);
        let labels = SortedLabels::new(&[0, 0], &[times[1], times[3]], 1);
        let mut join = AsOfJoin::new(Arc::new(labels));
        join.add(0, times[0], version, 0);
        join.add(0, times[2], version, 1);
        assert!(join.finish(2, None).has_ties);
    }

    proptest! {
        #[test]
        fn as_of_join_matches_its_definition(
            rows in prop::collection::vec((0u32..5, 0i64..30, 0i64..10, 0i64..3), 0..60),
            labels in prop::collection::vec((0u32..5, 0i64..50), 0..40),
            ttl in prop::option::of(0i64..20),
        ) {
            let entity = |n| if n == 4 { NONE } else { n };
            // Orders of arrival differ, so that one row is always the newest.
            let rows: Vec<Row> = rows
                .into_iter()
                .enumerate()
                .map(|(id, (n, event, late, created))| Row { entity: entity(n), event, available: event + late, created, order: id as u64 })
                .collect();
            let labels: Vec<(u32, i64)> = labels.into_iter().map(|(n, time)| (entity(n), time)).collect();
            let found = join(&rows, &labels, ttl);
            for (label, found) in labels.iter().zip(found) {
                prop_assert_eq!(found, naive(&rows, *label, ttl), "{:?}", label);
            }
        }
    }
}
