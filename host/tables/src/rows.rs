//! Splits rows of offline tables into typed columns.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
use wafer_catalog::TableDef;
use wafer_core::rules::{RowVersion, identity};
use wafer_core::{DataType, Timestamp};
use wafer_store::{Error, Kind, Result};

/// Rows of an offline table, as typed columns.
#[derive(Debug)]
pub struct StoredRows {
    /// The join keys, one column for each.
    pub keys: Vec<ArrayRef>,
    /// The event time of each row.
    pub events: TimestampMicrosecondArray,
    /// The available time of each row.
    pub available: TimestampMicrosecondArray,
    /// The created time of each row.
    pub created: TimestampMicrosecondArray,
    /// The event identity of each row.
    pub ids: StringArray,
    /// The other columns, in the order of the table.
    pub columns: Vec<ArrayRef>,
}

impl StoredRows {
    /// Splits a batch with the columns of a table.
    ///
    /// # Errors
    /// Returns [`Kind::Corrupt`] when a column is missing or has another type.
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

    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Returns whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the version of a row, which orders it among the rows of its entity.
    pub fn version(&self, row: usize) -> RowVersion {
        RowVersion {
            event: Timestamp::from_micros(self.events.value(row)),
            created: Timestamp::from_micros(self.created.value(row)),
            id: identity(self.ids.value(row)),
        }
    }

    /// Returns the time from which a row counts online: the later of its event time and its
    /// available time.
    pub fn due(&self, row: usize) -> Timestamp {
        Timestamp::from_micros(self.events.value(row).max(self.available.value(row)))
    }
}

/// Returns a column of a batch of an offline table, converted to the type of the field.
///
/// # Errors
/// Returns [`Kind::Corrupt`] when the column is missing or cannot be converted.
pub fn stored_column(
    table: &TableDef,
    batch: &RecordBatch,
    field: &wafer_core::Field,
) -> Result<ArrayRef> {
    let place = || format!("column `{}` of table `{}`", field.name, table.name);
    let found = batch
        .column_by_name(&field.name)
        .ok_or_else(|| Error::new(Kind::Corrupt, format!("{} is missing", place())))?;
    wafer_core::coerce(found, &field.data_type)
        .map_err(|e| Error::caused(Kind::Corrupt, place(), e))
}

/// Makes a column of timestamps.
pub fn timestamps(times: &[Timestamp]) -> ArrayRef {
    let micros: TimestampMicrosecondArray = times
        .iter()
        .map(|time| time.as_micros())
        .collect::<Vec<_>>()
        .into();
    Arc::new(micros.with_data_type(DataType::Timestamp.to_arrow()))
}
