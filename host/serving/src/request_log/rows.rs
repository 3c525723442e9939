//! The rows that are written for an answer.

use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Int64Array, StringArray};
use wafer_core::{Timestamp, encode_row};
use wafer_store::OutboxRow;
use wafer_tables::timestamps;

use crate::request_log::queue::Answered;

/// Returns the sampled rows of an answer, as rows of the outbox.
pub(crate) fn logged_rows(answered: &Answered) -> Vec<OutboxRow> {
    let Answered {
        call, rows, ready, ..
    } = answered;
    let table = ready.log.definition();
    let columns = columns(answered);
    let logged = rows.iter().map(|position| {
        let mut values = Vec::new();
        encode_row(&columns, *position, &mut values);
        let number = answered.part[*position];
        OutboxRow {
            table: table.name.clone(),
            event: call.now,
            available: call.now,
            created: call.now,
            event_id: format!("{}-{}-{number}", call.unique_id, answered.release()),
            values: values.into(),
            order: None,
        }
    });
    logged.collect()
}

/// Returns the columns of an answer, with all of its rows, sampled or not.
fn columns(answered: &Answered) -> Vec<ArrayRef> {
    let (answer, count) = (&answered.answer, answered.part.len());
    let error = |row: usize| {
        let found = answer
            .prediction
            .errors
            .binary_search_by_key(&(row as u32), |(row, _)| *row);
        Some(answer.prediction.errors[found.ok()?].1.as_str())
    };
    let numbers = answered.part.iter().map(|row| *row as i64);
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec![answered.call.id.as_str(); count])),
        Arc::new(Int64Array::from_iter_values(numbers)),
        Arc::new(StringArray::from(vec![answered.release(); count])),
        Arc::new(BooleanArray::from(vec![answered.is_shadow; count])),
        Arc::new((0..count).map(error).collect::<StringArray>()),
    ];
    columns.extend(answer.inputs.iter().cloned());
    columns.extend(answer.vectors.columns().cloned());
    columns.extend(answer.prediction.outputs.iter().cloned());
    for found in answer.vectors.found() {
        columns.push(timestamps_or_null(&found.event_times()));
        columns.push(Arc::new(StringArray::from_iter(found.identities())));
    }
    columns
}

fn timestamps_or_null(times: &[Option<Timestamp>]) -> ArrayRef {
    let known: Vec<Timestamp> = times.iter().map(|t| t.unwrap_or(Timestamp::MIN)).collect();
    wafer_catalog::nulled(&timestamps(&known), &|row| times[row].is_none())
}
