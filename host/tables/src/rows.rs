//! Rows of offline tables, taken apart into typed columns.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
use wafer_catalog::TableDef;
use wafer_core::rules::{RowVersion, identity};
use wafer_core::{DataType, Timestamp};
use wafer_store::{Error, Kind, Result};

/// Rows of an offline table, taken apart.
#[derive(Debug)]
pub struct StoredRows {
    /// The keys, one column for each.
    pub keys: Vec<ArrayRef>,
    /// When each row held.
    pub events: TimestampMicrosecondArray,
    /// When each row could be known.
    pub available: TimestampMicrosecondArray,
    /// When each row was written.
    pub created: TimestampMicrosecondArray,
    /// Where each row came from.
    pub ids: StringArray,
    /// The other columns, in the order of the table.
    pub columns: Vec<ArrayRef>,
}

impl StoredRows {
    /// From a batch with the columns of a group's table.
    pub fn new(table: &TableDef, batch: &RecordBatch) -> Result<Self> {
        let column = |field: &wafer_core::Field| stored_column(table, batch, field);
        let time = |name: &str| -> Result<TimestampMicrosecondArray> {
            let field = wafer_core::Field::new(name, DataType::Timestamp, false);
            Ok(column(&field)?.as_primitive().clone())
        };
        let ids = column(&wafer_core::Field::new("event_id", DataType::Utf8, false))?;
        Ok(Self {
            keys: table.keys.iter().map(column).collect::<Result<_>>()?,
            events: time("event_timestamp")?,
            available: time("available_timestamp")?,
            created: time("created_timestamp")?,
            ids: ids.as_string().clone(),
            columns: table.columns.iter().map(column).collect::<Result<_>>()?,
        })
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What orders a row among those of its entity.
    pub fn version(&self, row: usize) -> RowVersion {
        RowVersion {
            event: Timestamp::from_micros(self.events.value(row)),
            created: Timestamp::from_micros(self.created.value(row)),
            id: identity(self.ids.value(row)),
        }
    }

    /// When a row counts online.
    pub fn due(&self, row: usize) -> Timestamp {
        Timestamp::from_micros(self.events.value(row).max(self.available.value(row)))
    }
}

/// A column of a batch of an offline table, of its type.
pub fn stored_column(
    table: &TableDef,
    batch: &RecordBatch,
    field: &wafer_core::Field,
) -> Result<ArrayRef> {
    let place = || format!("column `{}` of table `{}`", field.name, table.name);
    let found = batch
        .column_by_name(&field.name)
        .ok_or_else(|| Error::new(Kind::Internal, format!("{} is missing", place())))?;
    wafer_core::coerce(found, &field.data_type)
        .map_err(|e| Error::caused(Kind::Internal, place(), e))
}

/// A column of timestamps.
pub fn timestamps(times: &[Timestamp]) -> ArrayRef {
    let micros: TimestampMicrosecondArray = times
        .iter()
        .map(|time| time.as_micros())
        .collect::<Vec<_>>()
        .into();
    Arc::new(micros.with_data_type(DataType::Timestamp.to_arrow()))
}
