//! Deleted entities: which rows of a table are left out from now on.

use std::collections::{BTreeMap, HashMap};

use arrow_array::{ArrayRef, BooleanArray, RecordBatch, TimestampMicrosecondArray};
use arrow_select::filter::filter_record_batch;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use wafer_catalog::{Subject, TableDef};
use wafer_core::{ColumnBuilder, EntityKey, Field, Timestamp, entity_key};
use wafer_store::{Error, Result};

use crate::rows::{StoredRows, stored_column};

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
pub struct Deletions {
    /// Rises with each of them.
    pub(crate) version: u64,
    pub(crate) all: Vec<Deletion>,
}

/// The entities of one table that were deleted, and when.
#[derive(Clone, Debug, Default)]
pub struct Deleted(HashMap<EntityKey, Timestamp>);

impl Deletions {
    /// Rises with each of them.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Those of the entities that a table describes.
    pub fn of(&self, table: &TableDef) -> Deleted {
        self.of_entity(&table.entity, &table.keys)
    }

    fn of_entity(&self, entity: &str, keys: &[Field]) -> Deleted {
        let mut deleted = HashMap::new();
        for deletion in self.all.iter().filter(|d| d.entity == entity) {
            // The entity may have had other keys then.
            let Ok(key) = key_of(entity, keys, &deletion.keys) else {
                continue;
            };
            let time = deleted.entry(key).or_insert(deletion.time);
            *time = deletion.time.max(*time);
        }
        Deleted(deleted)
    }

    /// Rows of a table without those that describe, or are about, entities that were
    /// deleted after they happened.
    pub fn without(&self, table: &TableDef, batch: RecordBatch) -> Result<RecordBatch> {
        let mut batch = self.of(table).without(table, batch)?;
        for subject in &table.subjects {
            let about = self.of_entity(&subject.entity, &subject.keys);
            if about.is_empty() {
                continue;
            }
            let keys = subject_keys(subject, table, &batch)?;
            let keep = about.keep(&keys, &StoredRows::new(table, &batch)?.events);
            batch = filter_record_batch(&batch, &keep).expect("as many bits as rows");
        }
        Ok(batch)
    }
}

/// The columns that name an entity which rows of a table are about.
pub fn subject_keys(
    subject: &Subject,
    table: &TableDef,
    batch: &RecordBatch,
) -> Result<Vec<ArrayRef>> {
    let named = subject.columns.iter().zip(&subject.keys);
    named
        .map(|(name, key)| {
            let field = Field::new(name, key.data_type.clone(), true);
            stored_column(table, batch, &field)
        })
        .collect()
}

impl FromIterator<(EntityKey, Timestamp)> for Deleted {
    fn from_iter<I: IntoIterator<Item = (EntityKey, Timestamp)>>(deleted: I) -> Self {
        Self(deleted.into_iter().collect())
    }
}

impl Deleted {
    /// Rows of a table without those of entities that were deleted after they happened.
    pub fn without(&self, table: &TableDef, batch: RecordBatch) -> Result<RecordBatch> {
        if self.is_empty() {
            return Ok(batch);
        }
        let rows = StoredRows::new(table, &batch)?;
        let keep = self.keep(&rows.keys, &rows.events);
        Ok(filter_record_batch(&batch, &keep).expect("as many bits as rows"))
    }

    /// Whether no entity was.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an entity was deleted at or after a time.
    pub fn is_before(&self, entity: &EntityKey, event: Timestamp) -> bool {
        self.0.get(entity).is_some_and(|deleted| event <= *deleted)
    }

    /// When the entity of a row was deleted.
    pub fn time(&self, keys: &[ArrayRef], row: usize) -> Option<Timestamp> {
        self.0.get(&entity_key(keys, row).ok()?).copied()
    }

    /// The rows that stay, by their keys and event times.
    pub fn keep(&self, keys: &[ArrayRef], events: &TimestampMicrosecondArray) -> BooleanArray {
        let stays = |row: usize| {
            let event = Timestamp::from_micros(events.value(row));
            self.time(keys, row).is_none_or(|deleted| deleted < event)
        };
        (0..events.len()).map(stays).map(Some).collect()
    }
}

/// An entity's key from its values, by name.
pub fn key_of(entity: &str, fields: &[Field], keys: &BTreeMap<String, Json>) -> Result<EntityKey> {
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
