//! From source rows to rows of a feature group: the one path that batch runs
//! and events share.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{
    Array, ArrayRef, BooleanArray, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use bytes::Bytes;
use wafer_core::rules::{Admission, Interval, RowVersion, admit};
use wafer_core::{DataType, EntityKey, KeyError, Timestamp, encode_row, entity_key};
use wafer_runtime::{Deadline, Function};
use wafer_store::{OnlineKey, OnlineRow, OnlineWrite};

use crate::definition::GroupDef;
use crate::error::Result;

/// Rows of a group, each of which may be written.
#[derive(Debug)]
pub(crate) struct GroupRows {
    /// Join keys, in the group's order.
    pub(crate) keys: Vec<ArrayRef>,
    /// The keys, encoded.
    pub(crate) entities: Vec<EntityKey>,
    /// Event times.
    pub(crate) events: Vec<Timestamp>,
    /// Features, in the group's order.
    pub(crate) features: Vec<ArrayRef>,
    /// For each row the source row it was made from.
    pub(crate) sources: Vec<usize>,
    /// Source rows that were refused, with the reason.
    pub(crate) rejects: Vec<(usize, String)>,
    /// Rows whose event time is outside the interval.
    pub(crate) outside: u64,
}

/// Which rows are let in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gate {
    /// Event times that are covered; others are left out.
    pub(crate) interval: Interval,
    /// The present.
    pub(crate) now: Timestamp,
    /// Microseconds that an event time may lie in the future.
    pub(crate) skew: i64,
}

/// Calls a pipeline's function on some source rows and makes rows of its group
/// out of what it returns.
pub(crate) fn group_rows(
    function: &Function,
    group: &GroupDef,
    inputs: &[ArrayRef],
    gate: Gate,
) -> Result<GroupRows> {
    let output = function.invoke(inputs, Deadline::Batch)?;
    let outputs = &function.signature().outputs;
    let column = |name: &str| {
        let index = outputs
            .index_of(name)
            .expect("the group was resolved against this signature");
        Arc::clone(&output.columns[index])
    };
    let keys: Vec<ArrayRef> = group.keys.iter().map(|key| column(&key.name)).collect();
    let events = column(&group.event_time);
    let events = events.as_primitive::<TimestampMicrosecondType>();
    let features: Vec<ArrayRef> = group.features.iter().map(|f| column(&f.name)).collect();

    let mut rejects: Vec<(usize, String)> = output
        .row_errors
        .iter()
        .map(|(row, message)| (*row as usize, message.clone()))
        .collect();
    let failed = |row: usize| {
        // One to one, a failed row is there and means nothing.
        output.source_rows.is_none()
            && output
                .row_errors
                .binary_search_by_key(&(row as u32), |(row, _)| *row)
                .is_ok()
    };
    let mut kept = vec![false; output.rows];
    let mut entities = Vec::with_capacity(output.rows);
    let mut outside = 0;
    for (row, keep) in kept.iter_mut().enumerate().filter(|(row, _)| !failed(*row)) {
        match admitted(group, &keys, events, row, gate) {
            Ok(Some(entity)) => {
                *keep = true;
                entities.push(entity);
            }
            Ok(None) => outside += 1,
            Err(message) => rejects.push((output.source_row(row), message)),
        }
    }
    let sources = (0..output.rows)
        .filter(|row| kept[*row])
        .map(|row| output.source_row(row))
        .collect();
    let mask = BooleanArray::from(kept);
    let filtered = |column: &ArrayRef| {
        if entities.len() == column.len() {
            return Arc::clone(column);
        }
        arrow_select::filter::filter(column, &mask).expect("as many bits as rows")
    };
    let events: ArrayRef = filtered(&(Arc::new(events.clone()) as ArrayRef));
    let events = events.as_primitive::<TimestampMicrosecondType>();
    Ok(GroupRows {
        keys: keys.iter().map(filtered).collect(),
        features: features.iter().map(filtered).collect(),
        events: events
            .values()
            .iter()
            .map(|micros| Timestamp::from_micros(*micros))
            .collect(),
        entities,
        sources,
        rejects,
        outside,
    })
}

/// The entity of a row, none if it is outside the interval, or why it is refused.
fn admitted(
    group: &GroupDef,
    keys: &[ArrayRef],
    events: &TimestampMicrosecondArray,
    row: usize,
    gate: Gate,
) -> Result<Option<EntityKey>, String> {
    if events.is_null(row) {
        return Err(format!("event time `{}` is null", group.event_time));
    }
    let event = Timestamp::from_micros(events.value(row));
    if !gate.interval.contains(event) {
        return Ok(None);
    }
    let entity = entity_key(keys, row).map_err(|error| match error {
        KeyError::Null(index) => format!("join key `{}` is null", group.keys[index].name),
        error @ KeyError::TooLong(_) => error.to_string(),
    })?;
    match admit(event, gate.now, gate.skew) {
        Admission::Due | Admission::Early => Ok(Some(entity)),
        Admission::Future => Err(format!(
            "event time {event} is in the future: now is {}, and the source allows {} (setting `skew`)",
            gate.now,
            wafer_core::duration_text(gate.skew)
        )),
    }
}

impl GroupRows {
    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// The rows as the offline table has them.
    pub(crate) fn offline_batch(
        &self,
        group: &GroupDef,
        available: impl Fn(Timestamp) -> Timestamp,
        created: Timestamp,
        event_ids: Vec<String>,
    ) -> RecordBatch {
        let available: Vec<Timestamp> = self.events.iter().map(|event| available(*event)).collect();
        let created = vec![created; self.len()];
        let times = [&self.events, &available, &created].map(|times| timestamps(times));
        let ids: ArrayRef = Arc::new(StringArray::from(event_ids));
        let columns = self
            .keys
            .iter()
            .cloned()
            .chain(times)
            .chain([ids])
            .chain(self.features.iter().cloned());
        RecordBatch::try_new(group.offline_schema().to_arrow(), columns.collect())
            .expect("the columns are the group's")
    }

    /// The row's features, packed.
    pub(crate) fn packed_features(&self, row: usize) -> Bytes {
        let mut bytes = Vec::new();
        encode_row(&self.features, row, &mut bytes);
        bytes.into()
    }

    /// The row's keys and features, packed, as the outbox holds them.
    pub(crate) fn packed_row(&self, row: usize) -> Bytes {
        let columns: Vec<ArrayRef> = self.keys.iter().chain(&self.features).cloned().collect();
        let mut bytes = Vec::new();
        encode_row(&columns, row, &mut bytes);
        bytes.into()
    }

    /// The row as the online store has it.
    pub(crate) fn online_write(
        &self,
        group: &GroupDef,
        fingerprint: u64,
        row: usize,
        created: Timestamp,
    ) -> OnlineWrite {
        OnlineWrite {
            key: OnlineKey {
                group: group.table(),
                entity: self.entities[row].clone(),
            },
            row: OnlineRow {
                version: RowVersion {
                    event: self.events[row],
                    created,
                },
                fingerprint,
                values: self.packed_features(row),
            },
        }
    }
}

/// A column of timestamps.
pub(crate) fn timestamps(times: &[Timestamp]) -> ArrayRef {
    let micros: TimestampMicrosecondArray = times
        .iter()
        .map(|time| time.as_micros())
        .collect::<Vec<_>>()
        .into();
    Arc::new(micros.with_data_type(DataType::Timestamp.to_arrow()))
}
