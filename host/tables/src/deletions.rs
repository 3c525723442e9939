//! Deleted entities: decides which rows of a table are left out.
//!
//! A deletion removes what happened up to its time. Every path into the tables and the online
//! store filters its rows by the deletions: runs, events, the outbox and materializations.

use std::collections::{BTreeMap, HashMap};

use arrow_array::{ArrayRef, BooleanArray, RecordBatch, TimestampMicrosecondArray};
use arrow_select::filter::filter_record_batch;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use wafer_catalog::{Subject, TableDef};
use wafer_core::{ColumnBuilder, EntityKey, Field, Timestamp, entity_key};
use wafer_store::{Error, Result};

use crate::rows::{StoredRows, stored_column};

/// The record of a deleted entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// The name of the entity, such as `plane`.
    pub entity: String,
    /// The join keys of the entity, by name.
    pub keys: BTreeMap<String, Json>,
    /// The time of the deletion by the platform's clock. Facts up to this time are not accepted
    /// again.
    pub time: Timestamp,
    /// The number of rows that were deleted from each table.
    pub rows: BTreeMap<String, u64>,
}

/// All deletions of a project.
#[derive(Debug, Default)]
pub struct Deletions {
    /// The version of the deletions, which rises with each deletion.
    pub(crate) version: u64,
    /// The deletions.
    pub(crate) all: Vec<Deletion>,
}

/// The deleted entities of one table, with the time of their latest deletion.
#[derive(Clone, Debug, Default)]
pub struct Deleted(HashMap<EntityKey, Timestamp>);

impl Deletions {
    /// Returns the version of the deletions, which rises with each deletion.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Returns the deleted entities among those that a table describes.
    pub fn of(&self, table: &TableDef) -> Deleted {
        self.of_entity(&table.entity, &table.keys)
    }

    /// Returns the deleted entities of a name, by the given keys.
    fn of_entity(&self, entity: &str, keys: &[Field]) -> Deleted {
        let mut deleted = HashMap::new();
        for deletion in self.all.iter().filter(|d| d.entity == entity) {
            // The entity may have had other keys when it was deleted.
            let Ok(key) = key_of(entity, keys, &deletion.keys) else {
                continue;
            };
            let time = deleted.entry(key).or_insert(deletion.time);
            *time = deletion.time.max(*time);
        }
        Deleted(deleted)
    }

    /// Returns rows of a table without those that describe, or are about, an entity that was
    /// deleted after they happened.
    ///
    /// # Errors
    /// Returns [`Kind::Corrupt`](wafer_store::Kind::Corrupt) when the batch lacks a column of
    /// the table.
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

/// Returns the columns that name an entity which the rows of a table are about.
///
/// # Errors
/// Returns [`Kind::Corrupt`](wafer_store::Kind::Corrupt) when the batch lacks one of the
/// columns.
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
    /// Returns rows of a table without those of entities that were deleted after they happened.
    ///
    /// # Errors
    /// Returns [`Kind::Corrupt`](wafer_store::Kind::Corrupt) when the batch lacks a column of
    /// the table.
    pub fn without(&self, table: &TableDef, batch: RecordBatch) -> Result<RecordBatch> {
        if self.is_empty() {
            return Ok(batch);
        }
        let rows = StoredRows::new(table, &batch)?;
        let keep = self.keep(&rows.keys, &rows.events);
        Ok(filter_record_batch(&batch, &keep).expect("as many bits as rows"))
    }

    /// Returns whether no entity was deleted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether an entity was deleted at or after a time.
    pub fn is_before(&self, entity: &EntityKey, event: Timestamp) -> bool {
        self.0.get(entity).is_some_and(|deleted| event <= *deleted)
    }

    /// Returns when the entity of a row was deleted, or `None` if it was not.
    pub fn time(&self, keys: &[ArrayRef], row: usize) -> Option<Timestamp> {
        self.0.get(&entity_key(keys, row).ok()?).copied()
    }

    /// Returns which rows stay, by their keys and event times.
    pub fn keep(&self, keys: &[ArrayRef], events: &TimestampMicrosecondArray) -> BooleanArray {
        let stays = |row: usize| {
            let event = Timestamp::from_micros(events.value(row));
            self.time(keys, row).is_none_or(|deleted| deleted < event)
        };
        (0..events.len()).map(stays).map(Some).collect()
    }
}

/// Encodes the key of an entity from its values, which are given by name.
///
/// # Errors
/// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) when a key is missing, unknown, of
/// another type, null or too long.
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
