//! Lookups of the newest row of an entity as of the label's time.
//!
//! The first pass over the table reads keys and times and finds the row of each label. It orders
//! rows by their event time. If some rows of an entity share one, the pass is repeated with whole
//! row versions. The last pass reads the features of the rows that were found.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::{RecordBatch, StringArray, UInt32Array};
use arrow_schema::{DataType as ArrowType, Field as ArrowField, Schema as ArrowSchema};
use futures::TryStreamExt as _;
use wafer_catalog::blocking;
use wafer_core::join::{AsOfJoin, AsOfRows, NONE, Version};
use wafer_core::rules::{Interval, RowVersion, identity};
use wafer_core::{DataType, EntityIndex, Field, Timestamp};
use wafer_store::{Error, Kind, Result};
use wafer_tables::stored_column;

use crate::lookup::found::{FoundFeatures, Locations};
use crate::lookup::pieces::{Piece, Queue, WantedRows, first_row_number};
use crate::lookup::{Band, KeysAndTimes, LookupJoin, times};

/// The columns that a row's identity is made of.
const IDENTITY: [&str; 3] = ["event_timestamp", "created_timestamp", "event_id"];

impl LookupJoin {
    /// Finds the newest row for each label of a band, and reads its features.
    pub(crate) async fn join_newest(self: &Arc<Self>, band: &Arc<Band>) -> Result<FoundFeatures> {
        let interval = self.event_interval(band);
        let mut found = self.newest_rows::<Timestamp>(band, interval).await?;
        if found.has_ties {
            // Creation time and event identity decide between rows of one event time. They are
            // not read before, because most tables have no such rows.
            found = self.newest_rows::<RowVersion>(band, interval).await?;
        }
        self.read_features(found.rows, interval).await
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
        let joins = self.for_each_piece(move |join: Arc<Self>, queue: Arc<Queue>| {
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
        (number, piece): (usize, Piece),
        index: &EntityIndex,
        interval: Interval,
        as_of: &mut AsOfJoin<V>,
    ) -> Result<()> {
        let mut columns = self.key_and_time_columns();
        columns.extend(V::COLUMNS.iter().map(|column| (*column).to_owned()));
        let mut batches = self.read_piece(piece, &columns, interval).await?;
        let mut number = first_row_number(number);
        let mut entities = Vec::new();
        while let Some(batch) = batches.try_next().await? {
            let rows = KeysAndTimes::new(&self.group, &batch)?;
            entities.clear();
            index.find(&rows.keys, batch.num_rows(), &mut entities);
            let version = V::reader(&rows, &batch)?;
            for (row, entity) in entities.iter().enumerate() {
                if *entity != NONE {
                    as_of.add(*entity, rows.active(row), version(row), number + row as u64);
                }
            }
            number += batch.num_rows() as u64;
        }
        Ok(())
    }

    /// Reads the features of the rows that were found.
    async fn read_features(
        self: &Arc<Self>,
        rows: Vec<Option<u64>>,
        interval: Interval,
    ) -> Result<FoundFeatures> {
        let pieces = self.pieces().len();
        let (wanted, rows) = blocking(move || (WantedRows::new(&rows, pieces), rows)).await?;
        let wanted = Arc::new(wanted);
        let shared = Arc::clone(&wanted);
        let parts = self.for_each_piece(move |join: Arc<Self>, queue: Arc<Queue>| {
            let wanted = Arc::clone(&shared);
            async move {
                let mut parts = Vec::new();
                while let Some((number, piece)) = queue.take() {
                    if wanted.has_rows_of(number) {
                        let rows = join.read_wanted_rows((number, piece), &wanted, interval);
                        parts.push((number, rows.await?));
                    }
                }
                Ok(parts)
            }
        });
        let parts: Vec<(usize, RecordBatch)> = parts.await?.into_iter().flatten().collect();
        let mut batch_of = vec![0; pieces];
        let mut batches = Vec::new();
        for (piece, batch) in parts {
            batch_of[piece] = batches.len() as u32;
            batches.push(batch);
        }
        Ok(FoundFeatures {
            types: self.output_types(),
            batches,
            locations: Locations::ByRowNumber {
                rows,
                wanted,
                batch_of,
            },
        })
    }

    /// Reads the wanted rows of a piece, in the order of the piece.
    async fn read_wanted_rows(
        &self,
        (number, piece): (usize, Piece),
        wanted: &WantedRows,
        interval: Interval,
    ) -> Result<RecordBatch> {
        let features = self.wanted_features().into_iter().map(|field| field.name);
        let mut columns: Vec<String> = features.collect();
        if self.identities {
            columns.extend(IDENTITY.map(str::to_owned));
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
                taken.push(rows.map_err(internal)?);
            }
            first = end;
        }
        let schema = taken.first().map(RecordBatch::schema).ok_or_else(|| {
            Error::new(Kind::Internal, "rows that were found cannot be read again")
        })?;
        let rows = arrow_select::concat::concat_batches(&schema, &taken).map_err(internal)?;
        match self.identities {
            true => self.with_identity(&rows),
            false => Ok(rows),
        }
    }

    /// Replaces the last columns, which the identity is made of, by the identity.
    fn with_identity(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let table = self.group.rows_table();
        let [event, created, id] = IDENTITY;
        let events = times(&table, rows, event)?;
        let created = times(&table, rows, created)?;
        let ids = Field::new(id, DataType::Utf8, false);
        let ids = stored_column(&table, rows, &ids)?;
        let identity = |row: usize| {
            let version = RowVersion {
                event: Timestamp::from_micros(events[row]),
                created: Timestamp::from_micros(created[row]),
                id: identity(ids.as_string::<i32>().value(row)),
            };
            Some(version.identity())
        };
        let identities: StringArray = (0..rows.num_rows()).map(identity).collect();
        let count = rows.num_columns() - IDENTITY.len();
        let mut columns = rows.columns()[..count].to_vec();
        columns.push(Arc::new(identities));
        let mut fields: Vec<_> = rows.schema().fields()[..count].to_vec();
        fields.push(Arc::new(ArrowField::new("identity", ArrowType::Utf8, true)));
        RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns)
            .map_err(|e| Error::caused(Kind::Internal, "cannot add the identities of rows", e))
    }
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
        Ok(move |row: usize| Self::from_micros(events[row]))
    }
}

impl ReadVersion for RowVersion {
    const COLUMNS: &'static [&'static str] = &["created_timestamp", "event_id"];

    fn reader(rows: &KeysAndTimes, batch: &RecordBatch) -> Result<impl Fn(usize) -> Self> {
        let events = rows.events.clone();
        let created = rows.time(batch, "created_timestamp")?;
        let ids = rows.ids(batch)?;
        Ok(move |row: usize| Self {
            event: Timestamp::from_micros(events[row]),
            created: Timestamp::from_micros(created[row]),
            id: identity(ids.as_string::<i32>().value(row)),
        })
    }
}
