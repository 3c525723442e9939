//! Deletes entities: nothing that happened before the deletion stays or comes back.
//!
//! A deletion is recorded first. From then on every path from a source to a table or to the
//! online store leaves out the entity's rows that happened before (`wafer_tables::Deletions`).
//! Then tombstones are written online, and the raw events, quarantined rows and logged requests
//! of the entity are deleted from the tables, and its own rows last. If a deletion is
//! interrupted and repeated, it finds what remains by the rows that are still there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::{Array as _, ArrayRef, BooleanArray, RecordBatch, TimestampMicrosecondArray};
use bytes::Bytes;
use futures::TryStreamExt as _;
use futures::future::BoxFuture;
use serde_json::Value as Json;
use wafer_catalog::{Context, LATE, TableDef};
use wafer_core::rules::Interval;
use wafer_core::{Digest, EntityKey, Field, Timestamp, entity_key};
use wafer_store::{AsOf, Error, Expect, Kind, OnlineKey, Result};
use wafer_tables::{Deleted, Deletion, Tables, key_of, stored_column, subject_keys};

use crate::materialize::Materializer;

/// What refers to an entity, beside its own rows.
#[derive(Default)]
struct Traces {
    /// For each table of the entity's groups, the identities of the events that its rows came
    /// from.
    events: BTreeMap<String, BTreeSet<String>>,
    /// Whether the entity has rows that happened after the deletion.
    has_newer: bool,
}

/// The entity that is deleted, as the rows that were set aside name it.
struct Named<'a> {
    /// The name of the entity.
    entity: &'a str,
    /// Its join keys, and their encoded values.
    fields: &'a [Field],
    key: &'a EntityKey,
}

impl Named<'_> {
    /// Returns whether a JSON object has the keys of the entity. What counts is their values as
    /// keys, and not how they are written: `7` and `7.0` name one entity.
    fn is_in(&self, json: &str) -> bool {
        let Ok(Json::Object(object)) = serde_json::from_str(json) else {
            return false;
        };
        let key = |field: &Field| Some((field.name.clone(), object.get(&field.name)?.clone()));
        let keys: Option<BTreeMap<String, Json>> = self.fields.iter().map(key).collect();
        let found = keys.and_then(|keys| key_of(self.entity, self.fields, &keys).ok());
        found.as_ref() == Some(self.key)
    }
}

/// The result of searching a table for the rows of deleted entities.
#[derive(Default)]
struct DeletedRows {
    /// The identities of the events that the rows to delete came from.
    events: BTreeSet<String>,
    /// Whether the table has rows of the entity that happened after the deletion.
    has_newer: bool,
}

/// Deletes entities, and what runs wrote of deleted ones.
#[derive(Clone, Debug)]
pub struct EntityDeleter {
    context: Arc<Context>,
    tables: Arc<Tables>,
    materializer: Materializer,
}

impl EntityDeleter {
    pub(crate) fn new(
        context: Arc<Context>,
        tables: Arc<Tables>,
        materializer: Materializer,
    ) -> Self {
        Self {
            context,
            tables,
            materializer,
        }
    }

    /// Deletes an entity: its values online, its rows in the tables and late tables of all
    /// groups that describe it, the raw events that these rows came from, quarantined rows that
    /// name it, and logged requests for it. The deletion is recorded, and facts up to now are
    /// not ingested again. Older versions of the tables contain the entity until they are
    /// compacted past their horizon.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when no group describes such an entity, [`Kind::Invalid`] for
    /// keys that are not its join keys, and the errors of the stores.
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
        // Rows that came in a moment ago have to be in the tables, so that their events are
        // found there.
        self.tables.flush_all().await?;
        let mut deletion = Deletion {
            entity: entity.to_owned(),
            keys: keys.clone(),
            time: self.context.now(),
            rows: BTreeMap::new(),
        };
        self.announce_deletion(&deletion).await?;
        // The tables of all versions of the entity's groups, whether or not they are live.
        let (entity_tables, other_tables): (Vec<TableDef>, Vec<TableDef>) = self
            .tables
            .known_tables()
            .await?
            .into_iter()
            .partition(|table| table.entity == entity && !table.keys.is_empty());
        self.delete_online(&key, &entity_tables, deletion.time)
            .await?;
        // This flush leaves out the entity's rows that were still in the outbox.
        self.tables.flush_all().await?;
        let deleted = Deleted::from_iter([(key.clone(), deletion.time)]);
        let traces = self.find_traces(&entity_tables, &deleted).await?;
        let named = Named {
            entity,
            fields: &first.keys,
            key: &key,
        };
        // The entity's own rows are deleted last, because a deletion that was interrupted and is
        // repeated needs them to find the rest.
        for table in other_tables {
            let rows = match table.subjects.is_empty() {
                true => self.delete_traces(&table, &named, &traces).await?,
                false => self.delete_rows_about(&table, entity, keys).await?,
            };
            deletion.rows.extend(rows.map(|rows| (table.name, rows)));
        }
        for table in entity_tables {
            let rows = self.delete_rows(&table, &deleted).await?;
            deletion.rows.extend(rows.map(|rows| (table.name, rows)));
        }
        if traces.has_newer {
            // The online summaries were deleted as a whole; they are rebuilt from the rows that
            // happened after the deletion.
            let summed = definitions.groups.values();
            for group in summed.filter(|g| g.entity == entity && !g.aggregates.is_empty()) {
                self.materializer.materialize_group(&group.name).await?;
            }
        }
        self.record_deletion(&deletion).await?;
        Ok(deletion)
    }

    /// Records a deletion before anything is deleted: whatever is written from now on leaves the
    /// entity out, and runs that read its rows earlier check the deletions again before they
    /// finish.
    async fn announce_deletion(&self, deletion: &Deletion) -> Result<()> {
        self.record_deletion(deletion).await?;
        let counter = self.tables.deletions_name();
        let metadata = &self.context.components().stores.metadata;
        metadata
            .put(&counter, Bytes::from_static(b"{}"), Expect::Anything)
            .await?;
        Ok(())
    }

    /// Deletes an entity from the online side of its tables.
    async fn delete_online(
        &self,
        key: &EntityKey,
        tables: &[TableDef],
        time: Timestamp,
    ) -> Result<()> {
        let groups = tables.iter().filter(|table| !table.is_late());
        let keys = groups.map(|table| OnlineKey {
            group: table.name.clone(),
            entity: key.clone(),
        });
        let online = &self.context.components().stores.online;
        online.delete(keys.collect(), time).await
    }

    /// Finds what refers to deleted entities beside their own rows, which are in `tables`.
    async fn find_traces(&self, tables: &[TableDef], deleted: &Deleted) -> Result<Traces> {
        let mut traces = Traces::default();
        for table in tables {
            let found = self.find_rows(table, deleted).await?;
            traces.has_newer |= found.has_newer;
            // Raw events name the group's table even if their rows went to its late table.
            let name = table.name.trim_end_matches(LATE).to_owned();
            traces.events.entry(name).or_default().extend(found.events);
        }
        Ok(traces)
    }

    /// Writes the record of a deletion.
    async fn record_deletion(&self, deletion: &Deletion) -> Result<()> {
        let entity_json = serde_json::to_vec(&(&deletion.entity, &deletion.keys));
        let entity_digest = Digest::of(&entity_json.expect("keys are plain data")).short();
        let name = format!("deletion/{}-{entity_digest}", deletion.time);
        self.context
            .put_object(&name, deletion, Expect::Anything)
            .await?;
        Ok(())
    }

    /// Deletes the rows that runs committed of entities that were deleted while the runs were
    /// under way. `known` is the version of the deletions that the runs took into account, or
    /// `None` if that is not known.
    pub(crate) fn delete_rows_of_deleted<'a>(
        &'a self,
        table: &'a TableDef,
        known: Option<u64>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let deletions = self.tables.deletions().await?;
            if known == Some(deletions.version()) {
                return Ok(());
            }
            let deleted = deletions.of(table);
            if !deleted.is_empty() {
                self.delete_rows(table, &deleted).await?;
            }
            Ok(())
        })
    }

    /// Finds the events that the rows of deleted entities came from.
    async fn find_rows(&self, table: &TableDef, deleted: &Deleted) -> Result<DeletedRows> {
        let mut found = DeletedRows::default();
        let offline = &self.context.components().stores.offline;
        let snapshot = match offline.snapshot(&table.name, AsOf::Latest).await {
            Err(e) if e.kind() == Kind::NotFound => return Ok(found),
            other => other?,
        };
        let times = ["event_timestamp", "event_id"].map(str::to_owned);
        let keys = table.keys.iter().map(|key| key.name.clone());
        let columns = keys.chain(times).collect();
        let mut batches = snapshot.read_all(snapshot.files().to_vec(), columns, Interval::ALL);
        while let Some(batch) = batches.try_next().await? {
            let Some((keys, times, ids)) = row_columns(table, &batch) else {
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

    /// Deletes the rows of deleted entities from a table. Returns their number, or `None` if the
    /// table does not exist.
    async fn delete_rows(&self, table: &TableDef, deleted: &Deleted) -> Result<Option<u64>> {
        let keep = |batch: &RecordBatch| -> BooleanArray {
            match row_columns(table, batch) {
                Some((keys, times, _)) => deleted.keep(&keys, &times),
                None => BooleanArray::from(vec![true; batch.num_rows()]),
            }
        };
        self.delete_where(table, &keep).await
    }

    /// Deletes the raw events that an entity's rows came from, or the quarantined rows of its
    /// groups that came from the same events or that contain the entity's keys.
    async fn delete_traces(
        &self,
        table: &TableDef,
        named: &Named<'_>,
        traces: &Traces,
    ) -> Result<Option<u64>> {
        let quarantined_table = table.name.strip_suffix("_quarantine");
        if quarantined_table.is_some() && table.entity != named.entity {
            return Ok(None);
        }
        let keep = |batch: &RecordBatch| -> BooleanArray {
            let text = |name: &str, row: usize| -> Option<&str> {
                let column = batch.column_by_name(name)?.as_string_opt::<i32>()?;
                column.is_valid(row).then(|| column.value(row))
            };
            let is_own = |row: usize| {
                // Event identities are unique only within a source, so they are looked up by
                // table.
                let mut tables = match quarantined_table {
                    Some(table) => table.split(','),
                    None => text("tables", row).unwrap_or_default().split(','),
                };
                let id = text("event_id", row).unwrap_or_default();
                let of_table = |table: &str| traces.events.get(table);
                tables.any(|table| of_table(table).is_some_and(|events| events.contains(id)))
                    || text("row", row).is_some_and(|json| named.is_in(json))
            };
            let rows = 0..batch.num_rows();
            rows.map(|row| Some(!is_own(row))).collect()
        };
        self.delete_where(table, &keep).await
    }

    /// Deletes the rows of a table that are about an entity although it is not their key, such
    /// as logged requests.
    async fn delete_rows_about(
        &self,
        table: &TableDef,
        entity: &str,
        keys: &BTreeMap<String, Json>,
    ) -> Result<Option<u64>> {
        let subjects = table.subjects.iter().filter(|s| s.entity == entity);
        // If the table was defined when the entity had other keys, the entity cannot be found in
        // it.
        let subjects = subjects.filter_map(|s| Some((s, key_of(entity, &s.keys, keys).ok()?)));
        let subjects: Vec<_> = subjects.collect();
        if subjects.is_empty() {
            return Ok(None);
        }
        let keep = |batch: &RecordBatch| -> BooleanArray {
            let mut keep = vec![true; batch.num_rows()];
            for (subject, key) in &subjects {
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

    /// Deletes the rows of a table for which `keep` is false. Returns their number, or `None` if
    /// the table does not exist.
    async fn delete_where(
        &self,
        table: &TableDef,
        keep: &(dyn Fn(&RecordBatch) -> BooleanArray + Sync),
    ) -> Result<Option<u64>> {
        const ATTEMPTS: usize = 100;
        let offline = &self.context.components().stores.offline;
        for attempt in 1.. {
            match offline.delete_rows(&table.name, keep).await {
                Ok(rows) => return Ok(Some(rows)),
                Err(e) if e.kind() == Kind::NotFound => return Ok(None),
                // A file was replaced by another commit in the meantime; the new file is looked
                // at.
                Err(e) if e.kind() == Kind::Conflict && attempt < ATTEMPTS => {}
                Err(e) => return Err(e),
            }
        }
        unreachable!("the last attempt returns")
    }
}

/// Returns the keys, event times and event identities of a batch of rows, or `None` if it lacks
/// one of these columns.
fn row_columns(
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
