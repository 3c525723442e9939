//! Deleted entities: nothing of before their deletion stays or comes back.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::cast::AsArray as _;
use arrow_array::{Array as _, ArrayRef, BooleanArray, RecordBatch, TimestampMicrosecondArray};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use wafer_core::{ColumnBuilder, Digest, EntityKey, Field, Timestamp, entity_key};
use wafer_store::{Expect, Kind as StoreKind, OnlineKey};

use crate::definition::{GroupDef, TableDef};
use crate::error::{Error, Kind, Result};
use crate::group_rows::stored_column;
use crate::platform::Platform;

/// What deleting an entity did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// The kind of entity.
    pub entity: String,
    /// Its join keys.
    pub keys: BTreeMap<String, Json>,
    /// When, by the platform's clock: facts up to then are not taken in again.
    pub time: Timestamp,
    /// Rows that were deleted, by table.
    pub rows: BTreeMap<String, u64>,
}

/// All deletions of a project.
#[derive(Debug, Default)]
pub(crate) struct Deletions {
    /// Rises with each of them.
    version: u64,
    all: Vec<Deletion>,
}

/// The entities of one table that were deleted, and when.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deleted(HashMap<EntityKey, Timestamp>);

impl Deletions {
    /// Those that concern a table with these join keys.
    pub(crate) fn of(&self, keys: &[Field]) -> Deleted {
        let mut deleted = HashMap::new();
        for deletion in &self.all {
            // Another kind of entity, with other keys, is not concerned.
            let Ok(key) = key_of(&deletion.entity, keys, &deletion.keys) else {
                continue;
            };
            let time = deleted.entry(key).or_insert(deletion.time);
            *time = deletion.time.max(*time);
        }
        Deleted(deleted)
    }

    /// Whether there are none beyond those of before.
    pub(crate) fn is_as(&self, before: &Self) -> bool {
        self.version == before.version
    }
}

impl Deleted {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an entity was deleted at or after a time.
    pub(crate) fn is_before(&self, entity: &EntityKey, event: Timestamp) -> bool {
        self.0.get(entity).is_some_and(|deleted| event <= *deleted)
    }

    /// The rows that stay, by their keys and event times.
    pub(crate) fn keep(
        &self,
        keys: &[ArrayRef],
        events: &TimestampMicrosecondArray,
    ) -> BooleanArray {
        let stays = |row: usize| {
            let event = Timestamp::from_micros(events.value(row));
            !entity_key(keys, row).is_ok_and(|entity| self.is_before(&entity, event))
        };
        (0..events.len()).map(stays).map(Some).collect()
    }
}

impl Platform {
    /// The deletions up to now.
    pub(crate) async fn deletions(&self) -> Result<Arc<Deletions>> {
        let metadata = &self.components().metadata;
        let counter = metadata.get(&self.deletions_name()).await?;
        let version = counter.map_or(0, |counter| counter.version);
        let known = self.known_deletions();
        if known.version == version {
            return Ok(known);
        }
        let prefix = format!("{}/deletion/", self.project());
        let stored = metadata.list(&prefix).await?;
        let all = stored.iter().map(|(name, object)| {
            serde_json::from_slice(&object.value).map_err(|e| {
                let message = format!("stored object `{name}` cannot be read");
                Error::caused(Kind::Internal, message, e)
            })
        });
        let deletions = Arc::new(Deletions {
            version,
            all: all.collect::<Result<_>>()?,
        });
        self.learn_deletions(Arc::clone(&deletions));
        Ok(deletions)
    }

    fn deletions_name(&self) -> String {
        format!("{}/deletions", self.project())
    }

    /// Deletes an entity: online, in the tables of all groups that describe it and
    /// the rows of their late tables, the raw events that its rows came from, and
    /// rows that were set aside and name it. Recorded; facts up to now are not taken
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
        let definitions = self.definitions();
        let groups = definitions.groups.values();
        let groups: Vec<&GroupDef> = groups.filter(|group| group.entity == entity).collect();
        let Some(first) = groups.first() else {
            let message = format!("no feature group describes an entity `{entity}`");
            return Err(Error::new(Kind::NotFound, message));
        };
        let key = key_of(entity, &first.keys, keys)?;
        let mut deletion = Deletion {
            entity: entity.to_owned(),
            keys: keys.clone(),
            time: self.now(),
            rows: BTreeMap::new(),
        };
        // Recorded first: whatever is written from now on leaves it out, and what was
        // read before is looked at again before it is done.
        self.record_deletion(&deletion).await?;
        let counter = self.deletions_name();
        let metadata = &self.components().metadata;
        metadata
            .put(&counter, Bytes::from_static(b"{}"), Expect::Anything)
            .await?;
        let online = groups.iter().map(|group| OnlineKey {
            group: group.table(),
            entity: key.clone(),
        });
        self.components()
            .online
            .delete(online.collect(), deletion.time)
            .await?;
        // What is on its way to the tables leaves it out from now on.
        self.flush_all().await?;
        let mut events = BTreeSet::new();
        // Of all versions, live or not: what has these keys describes this entity.
        let types_of = |keys: &[Field]| -> Vec<_> {
            let keys = keys.iter();
            keys.map(|key| (key.name.clone(), key.data_type.clone()))
                .collect()
        };
        let own = types_of(&first.keys);
        let (described, others): (Vec<_>, Vec<_>) = self
            .known_tables()
            .await?
            .into_iter()
            .partition(|table| types_of(&table.keys) == own);
        for table in described {
            let rows = self
                .delete_rows(&table, &key, deletion.time, &mut events)
                .await?;
            deletion.rows.extend(rows.map(|rows| (table.name, rows)));
        }
        // Raw events, and rows that were set aside, by the events they came from.
        for table in others.into_iter().filter(|table| table.keys.is_empty()) {
            let rows = self.delete_events(&table, &events, keys).await?;
            deletion.rows.extend(rows.map(|rows| (table.name, rows)));
        }
        self.record_deletion(&deletion).await?;
        Ok(deletion)
    }

    async fn record_deletion(&self, deletion: &Deletion) -> Result<()> {
        let json = serde_json::to_vec(deletion).expect("a record is plain data");
        let whom = serde_json::to_vec(&(&deletion.entity, &deletion.keys));
        let whom = Digest::of(&whom.expect("keys are plain data")).short();
        let name = format!("{}/deletion/{}-{whom}", self.project(), deletion.time);
        let metadata = &self.components().metadata;
        metadata
            .put(&name, Bytes::from(json), Expect::Anything)
            .await?;
        Ok(())
    }

    /// Deletes what runs committed of entities that were deleted while they ran.
    pub(crate) async fn delete_again(&self, table: &TableDef, since: &Deletions) -> Result<()> {
        let deletions = self.deletions().await?;
        if deletions.is_as(since) {
            return Ok(());
        }
        for (key, time) in deletions.of(&table.keys).0 {
            self.delete_rows(table, &key, time, &mut BTreeSet::new())
                .await?;
        }
        Ok(())
    }

    /// Deletes the rows of an entity up to a time from a table, and notes their
    /// events.
    async fn delete_rows(
        &self,
        table: &TableDef,
        key: &EntityKey,
        time: Timestamp,
        events: &mut BTreeSet<String>,
    ) -> Result<Option<u64>> {
        let deleted = Deleted(HashMap::from([(key.clone(), time)]));
        let found = Mutex::new(BTreeSet::new());
        let keep = |batch: &RecordBatch| -> BooleanArray {
            let Some((keys, times, ids)) = parts(table, batch) else {
                return BooleanArray::from(vec![true; batch.num_rows()]);
            };
            let keep = deleted.keep(&keys, &times);
            let gone = (0..batch.num_rows()).filter(|row| !keep.value(*row));
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            found.extend(gone.map(|row| ids.as_string::<i32>().value(row).to_owned()));
            keep
        };
        let rows = self.delete_where(table, &keep).await?;
        events.extend(found.into_inner().unwrap_or_else(PoisonError::into_inner));
        Ok(rows)
    }

    /// Deletes raw events by their identity, or by the keys that they name.
    async fn delete_events(
        &self,
        table: &TableDef,
        events: &BTreeSet<String>,
        keys: &BTreeMap<String, Json>,
    ) -> Result<Option<u64>> {
        let keep = |batch: &RecordBatch| -> BooleanArray {
            let text = |name: &str, row: usize| -> Option<String> {
                let column = batch.column_by_name(name)?.as_string_opt::<i32>()?;
                column.is_valid(row).then(|| column.value(row).to_owned())
            };
            let is_own = |row: usize| {
                text("event_id", row).is_some_and(|id| events.contains(&id))
                    || text("payload", row).is_some_and(|json| names(&json, keys))
                    || text("row", row).is_some_and(|json| names(&json, keys))
            };
            let rows = 0..batch.num_rows();
            rows.map(|row| Some(!is_own(row))).collect()
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
        let offline = &self.components().offline;
        for attempt in 1.. {
            match offline.delete_rows(&table.name, keep).await {
                Ok(rows) => return Ok(Some(rows)),
                Err(e) if e.kind() == StoreKind::NotFound => return Ok(None),
                // A file was replaced meanwhile.
                Err(e) if e.kind() == StoreKind::Conflict && attempt < ATTEMPTS => {}
                Err(e) => return Err(e.into()),
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
fn names(json: &str, keys: &BTreeMap<String, Json>) -> bool {
    let Ok(Json::Object(object)) = serde_json::from_str(json) else {
        return false;
    };
    keys.iter()
        .all(|(name, value)| object.get(name) == Some(value))
}

/// An entity's key from its values, by name.
fn key_of(entity: &str, fields: &[Field], keys: &BTreeMap<String, Json>) -> Result<EntityKey> {
    let names: Vec<&str> = fields.iter().map(|key| key.name.as_str()).collect();
    if keys.len() != names.len() || !names.iter().all(|name| keys.contains_key(*name)) {
        let message = format!(
            "the join keys of entity `{entity}` are {}",
            names.join(", ")
        );
        return Err(Error::invalid(message));
    }
    let columns = fields.iter().map(|field| {
        let mut builder = ColumnBuilder::new(&field.data_type, 1);
        builder
            .append_json(&keys[&field.name])
            .map_err(|message| Error::invalid(format!("key `{}`: {message}", field.name)))?;
        Ok(builder.finish())
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    entity_key(&columns, 0).map_err(|e| Error::invalid(e.to_string()))
}
