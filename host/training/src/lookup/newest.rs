//! Lookups of the newest row of an entity as of the label's time.
//!
//! The first pass over the table reads keys and times and finds the row of each label. It orders
//! rows by their event time. If some rows of an entity share one, the pass is repeated with whole
//! row versions. The last pass reads the features of the rows that were found.

use std::sync::Arc;

use arrow_array::{RecordBatch, StringArray, UInt32Array};
use arrow_schema::{DataType as ArrowType, Field as ArrowField, Schema as ArrowSchema};
use futures::TryStreamExt as _;
use wafer_catalog::{GroupDef, blocking};
use wafer_core::join::{AsOfJoin, AsOfRows, NONE, Version};
use wafer_core::rules::{Interval, RowVersion};
use wafer_core::{EntityIndex, Timestamp};
use wafer_files::batch_bytes;
use wafer_store::{Error, Kind, Result};

use crate::lookup::found::{FoundFeatures, Locations, Room};
use crate::lookup::pieces::{PieceQueue, TablePiece, WantedRows, first_row_number};
use crate::lookup::{
    Band, EVENT_TIME, KeysAndTimes, LookupJoin, ORDERING, RowOrder, Times, event_interval,
};

impl LookupJoin {
    /// Finds the newest row for each label of a band, and reads its features. Returns `None` if
    /// they take too much memory.
    pub(crate) async fn join_newest(
        self: &Arc<Self>,
        band: &Arc<Band>,
    ) -> Result<Option<FoundFeatures>> {
        let interval = event_interval(&self.group, &band.times);
        let mut found = self.newest_rows::<Timestamp>(band, interval).await?;
        if found.has_ties {
            // Creation time and order of arrival decide between rows of one event time. They are
            // not read before, because most tables have no such rows.
            found = self.newest_rows::<RowVersion>(band, interval).await?;
        }
        let features = self.read_features(found.rows, interval).await?;
        Ok(features.map(|features| FoundFeatures {
            coincident: found.coincident,
            ..features
        }))
    }

    /// Returns for each label the number of its row, with rows ordered by a version.
    async fn newest_rows<V: ReadVersion>(
        self: &Arc<Self>,
        band: &Arc<Band>,
        interval: Interval,
    ) -> Result<AsOfRows> {
        let band = Arc::clone(band);
        let labels = band.times.len();
        let ttl = self.group.ttl;
        let joins = self.for_each_piece(move |join: Arc<Self>, queue: Arc<PieceQueue>| {
            let band = Arc::clone(&band);
            async move {
                let mut as_of = AsOfJoin::<V>::new(Arc::clone(&band.sorted));
                while let Some((number, piece)) = queue.take() {
                    join.add_piece((number, piece), &band.index, interval, &mut as_of)
                        .await?;
                }
                Ok(as_of)
            }
        });
        let mut joins = joins.await?.into_iter();
        let mut first = joins.next().expect("there is at least one worker");
        blocking(move || {
            joins.for_each(|other| first.merge(&other));
            first.finish(labels, ttl)
        })
        .await
    }

    /// Adds the rows of a piece to a join.
    async fn add_piece<V: ReadVersion>(
        &self,
        (number, piece): (usize, TablePiece),
        index: &EntityIndex,
        interval: Interval,
        as_of: &mut AsOfJoin<V>,
    ) -> Result<()> {
        let mut columns = self.key_and_time_columns();
        columns.extend(V::COLUMNS.iter().map(|column| (*column).to_owned()));
        let mut batches = self.read_piece(piece, &columns, interval).await?;
        let mut first = first_row_number(number);
        while let Some(batch) = batches.try_next().await? {
            add_rows(&self.group, &batch, first, index, as_of)?;
            first += batch.num_rows() as u64;
        }
        Ok(())
    }

    /// Reads the features of the rows that were found. Returns `None` if they take too much memory.
    async fn read_features(
        self: &Arc<Self>,
        rows: Vec<Option<u64>>,
        interval: Interval,
    ) -> Result<Option<FoundFeatures>> {
        let room = Arc::new(self.feature_room());
        let pieces = self.pieces().len();
        let (wanted, rows) = blocking(move || (WantedRows::new(&rows, pieces), rows)).await?;
        let wanted = Arc::new(wanted);
        let shared = (Arc::clone(&wanted), Arc::clone(&room));
        let parts = self.for_each_piece(move |join: Arc<Self>, queue: Arc<PieceQueue>| {
            let (wanted, room) = shared.clone();
            async move {
                let mut parts = Vec::new();
                while let Some((number, piece)) = queue.take() {
                    if !wanted.has_rows_of(number) {
                        continue;
                    }
                    let wanted = (&*wanted, interval);
                    let rows = join
                        .read_wanted_rows((number, piece), wanted, &room)
                        .await?;
                    let Some(rows) = rows else {
                        break;
                    };
                    parts.push((number, rows));
                }
                Ok(parts)
            }
        });
        let parts: Vec<(usize, RecordBatch)> = parts.await?.into_iter().flatten().collect();
        if room.is_exceeded() {
            return Ok(None);
        }
        let mut batch_of = vec![0; pieces];
        let mut batches = Vec::new();
        for (piece, batch) in parts {
            batch_of[piece] = batches.len() as u32;
            batches.push(batch);
        }
        Ok(Some(FoundFeatures {
            coincident: 0,
            types: self.output_types(),
            batches,
            locations: Locations::ByRowNumber {
                rows,
                wanted,
                batch_of,
            },
        }))
    }

    /// Reads the wanted rows of a piece, in the order of the piece. Returns `None` once the rows of
    /// all pieces take too much memory.
    async fn read_wanted_rows(
        &self,
        (number, piece): (usize, TablePiece),
        (wanted, interval): (&WantedRows, Interval),
        room: &Room,
    ) -> Result<Option<RecordBatch>> {
        let features = self.wanted_features().into_iter().map(|field| field.name);
        let mut columns: Vec<String> = features.collect();
        if self.identities {
            columns.extend(identity_columns());
        }
        let mut batches = self.read_piece(piece, &columns, interval).await?;
        let internal =
            |e| Error::caused(Kind::Internal, "cannot select the rows that were found", e);
        let mut first = 0;
        let mut taken = Vec::new();
        while let Some(batch) = batches.try_next().await? {
            let end = first + batch.num_rows() as u64;
            let own: UInt32Array = (first..end)
                .filter(|row| wanted.contains(number, *row))
                .map(|row| u32::try_from(row - first).ok())
                .collect();
            if !own.is_empty() {
                let rows = arrow_select::take::take_record_batch(&batch, &own);
                let rows = rows.map_err(internal)?;
                room.take(batch_bytes(&rows));
                taken.push(rows);
            }
            if room.is_exceeded() {
                return Ok(None);
            }
            first = end;
        }
        let schema = taken.first().map(RecordBatch::schema).ok_or_else(|| {
            Error::new(Kind::Internal, "rows that were found cannot be read again")
        })?;
        let rows = arrow_select::concat::concat_batches(&schema, &taken).map_err(internal)?;
        match self.identities {
            true => self.with_identity(&rows).map(Some),
            false => Ok(Some(rows)),
        }
    }

    /// Replaces the last columns, which the identity is made of, by the identity.
    fn with_identity(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let table = self.group.rows_table();
        let events = Times::read(&table, rows, EVENT_TIME)?;
        let order = RowOrder::new(&table, rows)?;
        let identity = |row: usize| Some(order.version(row, events.of(row)).identity());
        let identities: StringArray = (0..rows.num_rows()).map(identity).collect();
        let count = rows.num_columns() - identity_columns().count();
        let mut columns = rows.columns()[..count].to_vec();
        columns.push(Arc::new(identities));
        let mut fields: Vec<_> = rows.schema().fields()[..count].to_vec();
        fields.push(Arc::new(ArrowField::new("identity", ArrowType::Utf8, true)));
        RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns)
            .map_err(|e| Error::caused(Kind::Internal, "cannot add the identities of rows", e))
    }
}

/// The names of the columns that a row's identity is made of.
fn identity_columns() -> impl Iterator<Item = String> {
    let names = [EVENT_TIME].into_iter().chain(ORDERING);
    names.map(str::to_owned)
}

/// Adds the rows of a batch to a join. `first` is the number of the batch's first row.
fn add_rows<V: ReadVersion>(
    group: &GroupDef,
    batch: &RecordBatch,
    first: u64,
    index: &EntityIndex,
    as_of: &mut AsOfJoin<V>,
) -> Result<()> {
    let rows = KeysAndTimes::new(group, batch)?;
    let mut entities = Vec::with_capacity(batch.num_rows());
    index.find(&rows.keys, batch.num_rows(), &mut entities);
    let version = V::reader(&rows, batch)?;
    for (row, entity) in entities.iter().enumerate() {
        if *entity != NONE {
            as_of.add(*entity, rows.active(row), version(row), first + row as u64);
        }
    }
    Ok(())
}

/// A version, which orders the rows of an entity, that can be read from a table.
trait ReadVersion: Version + Send + 'static {
    /// Names of the columns that the version needs beside keys, event and available times.
    const COLUMNS: &'static [&'static str];

    /// Returns a function that gives the version of a row of the batch.
    fn reader(rows: &KeysAndTimes, batch: &RecordBatch) -> Result<impl Fn(usize) -> Self>;
}

impl ReadVersion for Timestamp {
    const COLUMNS: &'static [&'static str] = &[];

    fn reader(rows: &KeysAndTimes, _batch: &RecordBatch) -> Result<impl Fn(usize) -> Self> {
        let events = rows.events.clone();
        Ok(move |row: usize| events.of(row))
    }
}

impl ReadVersion for RowVersion {
    const COLUMNS: &'static [&'static str] = &ORDERING;

    fn reader(rows: &KeysAndTimes, batch: &RecordBatch) -> Result<impl Fn(usize) -> Self> {
        let events = rows.events.clone();
        let order = RowOrder::new(&rows.table, batch)?;
        Ok(move |row: usize| order.version(row, events.of(row)))
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, Int64Array, TimestampMicrosecondArray};
    use wafer_core::join::SortedLabels;
    use wafer_core::rules::identity;
    use wafer_core::{DataType, Duration, Field};
    use wafer_store::ARRIVAL_ORDER;

    use super::*;

    /// A stored row: join key, event time, available time, created time and event id.
    type Row = (i64, i64, i64, i64, &'static str);

    fn group(ttl: Option<i64>) -> GroupDef {
        GroupDef {
            keys: vec![Field::new("id", DataType::Int64, false)],
            columns: vec![Field::new("x", DataType::Int64, true)],
            ttl: ttl.map(Duration::from_micros),
            ..GroupDef::new("g", "e", "at")
        }
    }

    fn batch(rows: &[Row]) -> RecordBatch {
        let time = |of: fn(&Row) -> i64| -> ArrayRef {
            let times = TimestampMicrosecondArray::from_iter_values(rows.iter().map(of));
            Arc::new(times.with_timezone("UTC"))
        };
        let ids = Int64Array::from_iter_values(rows.iter().map(|row| row.0));
        let ids: ArrayRef = Arc::new(ids);
        let event_ids = StringArray::from_iter_values(rows.iter().map(|row| row.4));
        let event_ids: ArrayRef = Arc::new(event_ids);
        RecordBatch::try_from_iter([
            ("id", ids),
            ("event_timestamp", time(|row| row.1)),
            ("available_timestamp", time(|row| row.2)),
            ("created_timestamp", time(|row| row.3)),
            ("event_id", event_ids),
        ])
        .unwrap()
    }

    /// Joins labels, each a join key and a time, with rows that are ordered by the version `V`.
    fn join<V: ReadVersion>(
        group: &GroupDef,
        rows: &RecordBatch,
        labels: &[(Option<i64>, i64)],
    ) -> AsOfRows {
        let keys: ArrayRef = Arc::new(labels.iter().map(|(key, _)| *key).collect::<Int64Array>());
        let times = labels.iter().map(|(_, time)| Timestamp::from_micros(*time));
        let times: Vec<Timestamp> = times.collect();
        let mut index = EntityIndex::default();
        let mut entities = Vec::new();
        index.number(&[keys], labels.len(), &mut entities);
        let sorted = Arc::new(SortedLabels::new(&entities, &times, index.len()));
        let mut as_of = AsOfJoin::<V>::new(sorted);
        add_rows(group, rows, 0, &index, &mut as_of).unwrap();
        as_of.finish(labels.len(), group.ttl)
    }

    /// Checks that a label of the entity 1 at some time finds the row with the event id `wanted`,
    /// in whatever order the rows are stored.
    fn check(case: &str, rows: &[Row], ttl: Option<i64>, time: i64, wanted: Option<&str>) {
        let reversed: Vec<Row> = rows.iter().rev().copied().collect();
        for rows in [rows, reversed.as_slice()] {
            let stored = batch(rows);
            let labels = [(Some(1), time)];
            let mut found = join::<Timestamp>(&group(ttl), &stored, &labels);
            if found.has_ties {
                found = join::<RowVersion>(&group(ttl), &stored, &labels);
            }
            let id = found.rows[0].map(|row| rows[row as usize].4);
            assert_eq!(id, wanted, "{case}: {rows:?} at {time}");
        }
    }

    #[test]
    fn a_label_finds_the_newest_row_that_was_visible_and_not_expired() {
        let two = [(1, 10, 10, 0, "old"), (1, 20, 25, 0, "new")];
        check("before all events", &two, None, 9, None);
        check("at the event time", &two, None, 10, Some("old"));
        check("event, but not available", &two, None, 24, Some("old"));
        check("when it is available", &two, None, 25, Some("new"));
        let early = [(1, 20, 5, 0, "early")];
        check("available before its event", &early, None, 19, None);
        check(
            "at the event of an early row",
            &early,
            None,
            20,
            Some("early"),
        );
        let late = [(1, 10, 30, 0, "late"), (1, 20, 20, 0, "new")];
        check(
            "an older row that comes later",
            &late,
            None,
            40,
            Some("new"),
        );
        let others = [(2, 10, 10, 0, "of another entity")];
        check("rows of another entity", &others, None, 40, None);
        check("no rows", &[], None, 40, None);
        check("exactly as old as the ttl", &two, Some(5), 15, Some("old"));
        check("older than the ttl", &two, Some(5), 16, None);
        check(
            "expired, and a newer one is hidden",
            &two,
            Some(5),
            24,
            None,
        );
        check("only the newer one is good", &two, Some(5), 25, Some("new"));
    }

    #[test]
    fn ties_of_event_time_go_to_the_row_that_was_written_last_then_to_the_greater_identity() {
        let created = [(1, 10, 10, 7, "a"), (1, 10, 10, 8, "b")];
        check("written later", &created, None, 10, Some("b"));
        // A row that was written later counts only when it is available.
        let hidden = [(1, 10, 10, 7, "a"), (1, 10, 20, 8, "b")];
        check("written later, hidden", &hidden, None, 19, Some("a"));
        check("written later, visible", &hidden, None, 20, Some("b"));
        let (less, greater) = match identity("a") < identity("b") {
            true => ("a", "b"),
            false => ("b", "a"),
        };
        let same = [(1, 10, 10, 7, less), (1, 10, 10, 7, greater)];
        check("written together", &same, None, 10, Some(greater));
        // A tie between rows that are not the newest ones changes nothing.
        let older = [(1, 5, 5, 0, "a"), (1, 5, 5, 0, "b"), (1, 9, 9, 0, "c")];
        check("a tie of older rows", &older, None, 10, Some("c"));
    }

    #[test]
    fn ties_of_creation_time_go_to_the_row_that_came_in_last() {
        let rows = |created: [i64; 3]| -> Vec<Row> {
            let rows = created.into_iter().zip(["a", "b", "c"]);
            rows.map(|(created, id)| (1, 10, 10, created, id)).collect()
        };
        let by_identity = ["a", "b", "c"]
            .into_iter()
            .max_by_key(|id| identity(id))
            .map(|id| {
                ["a", "b", "c"]
                    .iter()
                    .position(|other| *other == id)
                    .unwrap() as u64
            });
        for (created, orders, wanted) in [
            ([7, 7, 7], [Some(0), Some(1), Some(2)], Some(2)),
            ([7, 7, 7], [Some(2), Some(1), Some(0)], Some(0)),
            ([7, 7, 7], [Some(0), Some(1 << 40), Some(1)], Some(1)),
            // The creation time is compared first.
            ([8, 7, 7], [Some(0), Some(1), Some(2)], Some(0)),
            // Rows from before the order was kept are ordered by their identities.
            ([7, 7, 7], [None, None, None], by_identity),
        ] {
            let rows = rows(created);
            for reversed in [false, true] {
                let mut stored: Vec<(Row, Option<i64>)> =
                    rows.iter().copied().zip(orders).collect();
                if reversed {
                    stored.reverse();
                }
                let (rows, orders): (Vec<Row>, Vec<Option<i64>>) = stored.into_iter().unzip();
                let plain = batch(&rows);
                let order: ArrayRef = Arc::new(Int64Array::from(orders.clone()));
                let names = plain.schema();
                let names = names.fields().iter().map(|field| field.name().as_str());
                let columns = names.zip(plain.columns().iter().cloned());
                let columns = columns.chain([(ARRIVAL_ORDER, order)]);
                let ordered = RecordBatch::try_from_iter_with_nullable(
                    columns.map(|(name, column)| (name, column, true)),
                );
                let found = join::<RowVersion>(&group(None), &ordered.unwrap(), &[(Some(1), 10)]);
                let found = match reversed {
                    true => found.rows[0].map(|row| 2 - row),
                    false => found.rows[0],
                };
                assert_eq!(found, wanted, "{created:?} {orders:?}");
            }
        }
    }

    #[test]
    fn only_rows_of_one_event_time_are_reported_as_ties() {
        for (case, rows, wanted) in [
            (
                "two times",
                &[(1, 10, 10, 0, "a"), (1, 11, 11, 0, "b")],
                false,
            ),
            (
                "two entities",
                &[(1, 10, 10, 0, "a"), (2, 10, 10, 0, "b")],
                false,
            ),
            (
                "one time",
                &[(1, 10, 10, 0, "a"), (1, 10, 10, 1, "b")],
                true,
            ),
        ] {
            let labels = [(Some(1), 20), (Some(2), 20)];
            let found = join::<Timestamp>(&group(None), &batch(rows), &labels);
            assert_eq!(found.has_ties, wanted, "{case}");
        }
    }

    #[test]
    fn labels_keep_their_order_and_one_without_a_key_finds_nothing() {
        let stored = batch(&[
            (1, 10, 10, 0, "a"),
            (2, 10, 10, 0, "b"),
            (1, 20, 20, 0, "c"),
        ]);
        let labels = [
            (Some(1), 30),
            (None, 30),
            (Some(2), 30),
            (Some(1), 15),
            (Some(3), 30),
            (Some(1), 30),
        ];
        let found = join::<Timestamp>(&group(None), &stored, &labels);
        assert_eq!(found.rows, [Some(2), None, Some(1), Some(0), None, Some(2)]);
    }

    /// Files are skipped by the interval, so it must not leave out a row that a label can find.
    #[test]
    fn the_interval_of_a_band_has_exactly_the_rows_that_can_matter() {
        for (ttl, labels, event, wanted) in [
            (None, &[10, 30][..], i64::MIN, true),
            (None, &[10, 30], 30, true),
            (None, &[10, 30], 31, false),
            (Some(5), &[30, 10], 5, true),
            (Some(5), &[30, 10], 4, false),
        ] {
            let times = labels.iter().map(|time| Timestamp::from_micros(*time));
            let times: Vec<Timestamp> = times.collect();
            let interval = event_interval(&group(ttl), &times);
            let found = interval.contains(Timestamp::from_micros(event));
            assert_eq!(
                found, wanted,
                "ttl {ttl:?}, labels {labels:?}, event {event}"
            );
        }
    }
}
