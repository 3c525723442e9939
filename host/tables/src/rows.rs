//! Splits rows of offline tables into typed columns.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::{
    Array as _, ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use wafer_catalog::TableDef;
use wafer_core::rules::{Arrival, RowVersion};
use wafer_core::{DataType, Timestamp};
use wafer_store::{ARRIVAL_ORDER, Error, Kind, Result};

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
    /// The order of arrival of each row; `None` if the table does not hold it.
    orders: Option<Int64Array>,
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
            orders: arrival_orders(table, batch)?,
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
        RowVersion::new(
            Timestamp::from_micros(self.events.value(row)),
            Timestamp::from_micros(self.created.value(row)),
            self.order(row),
            self.ids.value(row),
        )
    }

    /// Returns when a row came in, which orders it among the events of its entity and time.
    pub fn arrival(&self, row: usize) -> Arrival {
        let created = Timestamp::from_micros(self.created.value(row));
        Arrival::new(created, self.order(row), self.ids.value(row))
    }

    fn order(&self, row: usize) -> Option<u64> {
        order_of(self.orders.as_ref(), row)
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

/// Returns the column with the order of arrival of the rows of a batch, or `None` if it is not in
/// the table.
///
/// # Errors
/// Returns [`Kind::Internal`] when the column has another type.
pub fn arrival_orders(table: &TableDef, batch: &RecordBatch) -> Result<Option<Int64Array>> {
    if !table.is_ordered() || batch.column_by_name(ARRIVAL_ORDER).is_none() {
        return Ok(None);
    }
    let field = wafer_core::Field::new(ARRIVAL_ORDER, DataType::Int64, true);
    let orders = stored_column(table, batch, &field)?;
    Ok(Some(orders.as_primitive().clone()))
}

/// Returns the order of arrival of a row, if it was stored with one.
pub fn order_of(orders: Option<&Int64Array>, row: usize) -> Option<u64> {
    let orders = orders.filter(|orders| orders.is_valid(row))?;
    u64::try_from(orders.value(row)).ok()
}

/// The values of the columns that every table has, row by row.
#[derive(Debug)]
pub struct SystemValues {
    /// The event times.
    pub events: Vec<Timestamp>,
    /// The available times.
    pub available: Vec<Timestamp>,
    /// The created times.
    pub created: Vec<Timestamp>,
    /// The identities of the events.
    pub ids: Vec<String>,
    /// The orders of arrival; below 2^63.
    pub orders: Vec<Option<u64>>,
}

/// Makes a batch of a table from its keys, the columns that every table has, and its other columns.
///
/// # Errors
/// Returns [`Kind::Internal`] when the columns are not those of the table.
pub fn table_batch(
    table: &TableDef,
    keys: Vec<ArrayRef>,
    system: SystemValues,
    others: Vec<ArrayRef>,
) -> Result<RecordBatch> {
    let mut columns = keys;
    columns.extend([
        timestamps(&system.events),
        timestamps(&system.available),
        timestamps(&system.created),
        Arc::new(StringArray::from(system.ids)),
    ]);
    if table.is_ordered() {
        let orders = system.orders.into_iter();
        let orders = orders.map(|order| order.and_then(|order| i64::try_from(order).ok()));
        columns.push(Arc::new(orders.collect::<Int64Array>()));
    }
    columns.extend(others);
    RecordBatch::try_new(table.schema().to_arrow(), columns).map_err(|e| {
        let message = format!("rows of table `{}` do not fit it", table.name);
        Error::caused(Kind::Internal, message, e)
    })
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
