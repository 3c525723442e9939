//! Deleted entities: nothing of before their deletion stays or comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::{Array as _, ArrayRef, BooleanArray, RecordBatch, TimestampMicrosecondArray};
use bytes::Bytes;
use futures::TryStreamExt as _;
use serde_json::Value as Json;
use wafer_catalog::{LATE, TableDef};
use wafer_core::rules::Interval;
use wafer_core::{Digest, Timestamp, entity_key};
use wafer_store::{AsOf, Error, Expect, Kind, OnlineKey, Result};
use wafer_tables::{Deleted, Deletion, key_of, stored_column, subject_keys};

use crate::service::Pipelines;

/// What there is of an entity, beside its rows.
#[derive(Default)]
struct Traces {
    /// For each table of its groups the events that its rows came from.
    events: BTreeMap<String, BTreeSet<String>>,
    has_newer: bool,
}

/// What was found of deleted entities in a table.
#[derive(Default)]
struct Found {
    /// Events of the rows that are to go.
    events: BTreeSet<String>,
    /// Whether there are rows of after the deletion.
    has_newer: bool,
}

impl Pipelines {
    /// Deletes an entity: online, in the tables of all groups that describe it and
    /// the rows of their late tables, the raw events that its rows came from, rows that
    /// were set aside and name it, and logged requests for it. Recorded; facts up to now are not taken
    /// in again. Older versions of tables have it until they are compacted past their
    /// horizon.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when no group describes such an entity,
    /// [`Kind::Invalid`] for keys that are not its join keys.
    pub async fn delete_entity(
        &self,
        entity: &str,
        keys: &BTreeMap<String, Json>,
    ) -> Result<Deletion> {
        let definitions = self.context.definitions();
        let mut groups = definitions.groups.values();
        let Some(first) = groups.find(|group| group.entity == entity) else {
            let message = format!("no feature group describes an entity `{entity}`");
            return Err(Error::new(Kind::NotFound, message));
        };
        let key = key_of(entity, &first.keys, keys)?;
        // What came in a moment ago is found in the tables, with its events.
        self.tables.flush_all().await?;
        let mut deletion = Deletion {
            entity: entity.to_owned(),
            keys: keys.clone(),
            time: self.context.now(),
            rows: BTreeMap::new(),
        };
        // Recorded first: whatever is written from now on leaves it out, and what was
        // read before is looked at again before it is done.
        self.record_deletion(&deletion).await?;
        let counter = self.tables.deletions_name();
        let metadata = &self.context.components().metadata;
        metadata
            .put(&counter, Bytes::from_static(b"{}"), Expect::Anything)
            .await?;
        // All versions of all its groups, live or not.
        let (own, others): (Vec<TableDef>, Vec<TableDef>) = self
            .tables
            .known_tables()
            .await?
            .into_iter()
            .partition(|table| table.entity == entity && !table.keys.is_empty());
        let mut online = Vec::new();
        for table in own.iter().filter(|table| !table.is_late()) {
            let entity = key.clone();
            let group = table.name.clone();
            online.push(OnlineKey { group, entity });
        }
        self.context
            .components()
            .online
            .delete(online, deletion.time)
            .await?;
        // What is on its way to the tables leaves it out from now on.
        self.tables.flush_all().await?;
        let deleted = Deleted::from_iter([(key, deletion.time)]);
        let mut traces = Traces::default();
        for table in &own {
            let found = self.find_rows(table, &deleted).await?;
            traces.has_newer |= found.has_newer;
            // Raw events name the table that late rows were meant for.
            let name = table.name.trim_end_matches(LATE).to_owned();
            traces.events.entry(name).or_default().extend(found.events);
        }
        // The rows last: by them a deletion that was broken off finds the rest.
        for table in others {
            let rows = match table.subjects.is_empty() {
                true => self.delete_traces(&table, entity, &traces, keys).await?,
                false => self.delete_mentions(&table, entity, keys).await?,
            };
            deletion.rows.extend(rows.map(|rows| (table.name, rows)));
        }
        for table in own {
            let rows = self.delete_rows(&table, &deleted).await?;
            deletion.rows.extend(rows.map(|rows| (table.name, rows)));
        }
        if traces.has_newer {
            // Its summaries were forgotten as a whole.
            let summed = definitions.groups.values();
            for group in summed.filter(|g| g.entity == entity && !g.aggregates.is_empty()) {
                self.materialize_group(&group.name).await?;
            }
        }
        self.record_deletion(&deletion).await?;
        Ok(deletion)
    }

    async fn record_deletion(&self, deletion: &Deletion) -> Result<()> {
        let json = serde_json::to_vec(deletion).expect("a record is plain data");
        let whom = serde_json::to_vec(&(&deletion.entity, &deletion.keys));
        let whom = Digest::of(&whom.expect("keys are plain data")).short();
        let name = format!(
            "{}/deletion/{}-{whom}",
            self.context.project(),
            deletion.time
        );
        let metadata = &self.context.components().metadata;
        metadata
            .put(&name, Bytes::from(json), Expect::Anything)
            .await?;
        Ok(())
    }

    /// Deletes what runs committed of entities that were deleted while they ran: since
    /// some deletions that they knew, or any.
    pub(crate) async fn delete_again(&self, table: &TableDef, known: Option<u64>) -> Result<()> {
        let deletions = self.tables.deletions().await?;
        if known == Some(deletions.version()) {
            return Ok(());
        }
        let deleted = deletions.of(table);
        if !deleted.is_empty() {
            self.delete_rows(table, &deleted).await?;
        }
        Ok(())
    }

    /// The events that rows of deleted entities came from.
    async fn find_rows(&self, table: &TableDef, deleted: &Deleted) -> Result<Found> {
        let mut found = Found::default();
        let offline = &self.context.components().offline;
        let snapshot = match offline.snapshot(&table.name, AsOf::Latest).await {
            Err(e) if e.kind() == Kind::NotFound => return Ok(found),
            other => other?,
        };
        let times = ["event_timestamp", "event_id"].map(str::to_owned);
        let keys = table.keys.iter().map(|key| key.name.clone());
        let columns = keys.chain(times).collect();
        let mut batches = snapshot.read_all(snapshot.files().to_vec(), columns, Interval::ALL);
        while let Some(batch) = batches.try_next().await? {
            let Some((keys, times, ids)) = parts(table, &batch) else {
                continue;
            };
            for row in 0..batch.num_rows() {
                let Some(time) = deleted.time(&keys, row) else {
                    continue;
                };
                if Timestamp::from_micros(times.value(row)) > time {
                    found.has_newer = true;
                } else {
                    let id = ids.as_string::<i32>().value(row);
                    found.events.insert(id.to_owned());
                }
            }
        }
        Ok(found)
    }

    /// Deletes the rows of deleted entities from a table.
    async fn delete_rows(&self, table: &TableDef, deleted: &Deleted) -> Result<Option<u64>> {
        let keep = |batch: &RecordBatch| -> BooleanArray {
            match parts(table, batch) {
                Some((keys, times, _)) => deleted.keep(&keys, &times),
                None => BooleanArray::from(vec![true; batch.num_rows()]),
            }
        };
        self.delete_where(table, &keep).await
    }

    /// Deletes raw events that an entity's rows came from, or rows that were set aside
    /// on their way to its groups: by their event, or by the keys that they name.
    async fn delete_traces(
        &self,
        table: &TableDef,
        entity: &str,
        traces: &Traces,
        keys: &BTreeMap<String, Json>,
    ) -> Result<Option<u64>> {
        let own = table.name.strip_suffix("_quarantine");
        if own.is_some() && table.entity != entity {
            return Ok(None);
        }
        let keep = |batch: &RecordBatch| -> BooleanArray {
            let text = |name: &str, row: usize| -> Option<&str> {
                let column = batch.column_by_name(name)?.as_string_opt::<i32>()?;
                column.is_valid(row).then(|| column.value(row))
            };
            let is_own = |row: usize| {
                // Identities are a source's own, so they are looked up by table.
                let mut tables = match own {
                    Some(table) => table.split(','),
                    None => text("tables", row).unwrap_or_default().split(','),
                };
                let id = text("event_id", row).unwrap_or_default();
                let of_table = |table: &str| traces.events.get(table);
                tables.any(|table| of_table(table).is_some_and(|events| events.contains(id)))
                    || text("row", row).is_some_and(|json| names(json, keys))
            };
            let rows = 0..batch.num_rows();
            rows.map(|row| Some(!is_own(row))).collect()
        };
        self.delete_where(table, &keep).await
    }

    /// Deletes rows of a table that are about an entity.
    async fn delete_mentions(
        &self,
        table: &TableDef,
        entity: &str,
        keys: &BTreeMap<String, Json>,
    ) -> Result<Option<u64>> {
        let own = table.subjects.iter().filter(|s| s.entity == entity);
        // Where the entity had other keys, it has none that could be found.
        let own = own.filter_map(|s| Some((s, key_of(entity, &s.keys, keys).ok()?)));
        let own: Vec<_> = own.collect();
        if own.is_empty() {
            return Ok(None);
        }
        let keep = |batch: &RecordBatch| -> BooleanArray {
            let mut keep = vec![true; batch.num_rows()];
            for (subject, key) in &own {
                let Ok(columns) = subject_keys(subject, table, batch) else {
                    continue;
                };
                for (row, keep) in keep.iter_mut().enumerate() {
                    *keep &= entity_key(&columns, row).ok().as_ref() != Some(key);
                }
            }
            BooleanArray::from(keep)
        };
        self.delete_where(table, &keep).await
    }

    /// Deletes rows of a table; none where there is no such table.
    async fn delete_where(
        &self,
        table: &TableDef,
        keep: &(dyn Fn(&RecordBatch) -> BooleanArray + Sync),
    ) -> Result<Option<u64>> {
        const ATTEMPTS: usize = 100;
        let offline = &self.context.components().offline;
        for attempt in 1.. {
            match offline.delete_rows(&table.name, keep).await {
                Ok(rows) => return Ok(Some(rows)),
                Err(e) if e.kind() == Kind::NotFound => return Ok(None),
                // A file was replaced meanwhile.
                Err(e) if e.kind() == Kind::Conflict && attempt < ATTEMPTS => {}
                Err(e) => return Err(e),
            }
        }
        unreachable!("the last attempt returns")
    }
}

/// Keys, event times and event ids of rows of a table.
fn parts(
    table: &TableDef,
    batch: &RecordBatch,
) -> Option<(Vec<ArrayRef>, TimestampMicrosecondArray, ArrayRef)> {
    let keys = table.keys.iter();
    let keys = keys.map(|key| stored_column(table, batch, key).ok());
    let times = batch
        .column_by_name("event_timestamp")?
        .as_primitive_opt()?;
    let ids = Arc::clone(batch.column_by_name("event_id")?);
    Some((keys.collect::<Option<_>>()?, times.clone(), ids))
}

/// Whether a JSON object has all of some keys with their values.
pub(crate) fn names(json: &str, keys: &BTreeMap<String, Json>) -> bool {
    let Ok(Json::Object(object)) = serde_json::from_str(json) else {
        return false;
    };
    keys.iter()
        .all(|(name, value)| object.get(name) == Some(value))
}
