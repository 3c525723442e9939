//! Routes: the functions that the events of a source go through, and the groups that they fill.

use std::sync::Arc;

use arrow_array::ArrayRef;
use wafer_catalog::Applied;
use wafer_core::rules::{Interval, Lateness, judge_lateness};
use wafer_core::{ColumnBuilder, Digest, Schema};
use wafer_runtime::{Deadline, Function, InvokeError, Output};
use wafer_store::{EarlyWrite, Error, OutboxRow, Result};
use wafer_tables::Deletions;

use crate::events::draft::{Draft, IngestTerms};
use crate::events::event::IncomingEvent;
use crate::group_rows::{Gate, GroupRows, RefusedRow, Target};
use wafer_files::append_object;

/// Where a source's events go, by the definitions and deletions of some time.
#[derive(Clone, Debug)]
pub(crate) struct Routes {
    pub(crate) applied: Arc<Applied>,
    pub(crate) deletions: Arc<Deletions>,
    pub(crate) routes: Arc<Vec<Route>>,
}

/// What a source's events go through, and the groups that it fills.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) transform: Transform,
    pub(crate) targets: Vec<Target>,
}

/// What makes rows of events.
#[derive(Debug)]
pub(crate) enum Transform {
    /// A function, known by its digest.
    Function(Function, Digest),
    /// Nothing: their fields are the group's columns.
    Columns(Schema),
}

impl Transform {
    fn inputs(&self) -> &Schema {
        match self {
            Self::Function(function, _) => &function.signature().inputs,
            Self::Columns(columns) => columns,
        }
    }

    fn outputs(&self) -> &Schema {
        match self {
            Self::Function(function, _) => &function.signature().outputs,
            Self::Columns(columns) => columns,
        }
    }

    fn invoke(&self, columns: &[ArrayRef]) -> Result<Output, InvokeError> {
        match self {
            Self::Function(function, _) => function.invoke(columns, Deadline::Batch),
            Self::Columns(_) => Ok(Output {
                columns: columns.to_vec(),
                rows: columns.first().map_or(0, |column| column.len()),
                source_rows: None,
                row_errors: Vec::new(),
            }),
        }
    }
}

impl Route {
    /// Puts the events that are still good through the pipeline.
    pub(crate) fn apply(
        &self,
        events: &[IncomingEvent],
        drafts: &mut [Draft],
        terms: IngestTerms,
    ) -> Result<()> {
        let fields = self.transform.inputs().fields();
        let mut builders: Vec<ColumnBuilder> = fields
            .iter()
            .map(|f| ColumnBuilder::new(&f.data_type, events.len()))
            .collect();
        // Rows of the batch, as indices of events.
        let mut rows = Vec::with_capacity(events.len());
        for (index, event) in events.iter().enumerate() {
            let (Ok(payload), Ok(_)) = (&event.payload, &drafts[index].commit) else {
                continue;
            };
            // A bad row stays in the batch and is left out after the call, so
            // that good ones need not be copied.
            if let Err(message) = append_object(payload, fields, &mut builders) {
                drafts[index].refuse(message, &self.targets[0], event, terms.now);
            }
            rows.push(index);
        }
        if rows.is_empty() {
            return Ok(());
        }
        let good: Vec<bool> = rows
            .iter()
            .map(|index| drafts[*index].commit.is_ok())
            .collect();
        let columns: Vec<_> = builders.iter_mut().map(ColumnBuilder::finish).collect();
        let mask = arrow_array::BooleanArray::from(good.clone());
        let columns: Vec<_> = columns
            .iter()
            .map(|c| arrow_select::filter::filter(c, &mask).expect("as many bits as rows"))
            .collect();
        let rows: Vec<usize> = rows
            .into_iter()
            .zip(good)
            .filter_map(|(index, good)| good.then_some(index))
            .collect();
        self.apply_rows(&columns, &rows, events, drafts, terms)
    }

    /// Puts rows through the function; `rows` are the events they belong to. A row
    /// that traps the function fails alone: it is found by halving.
    fn apply_rows(
        &self,
        columns: &[ArrayRef],
        rows: &[usize],
        events: &[IncomingEvent],
        drafts: &mut [Draft],
        terms: IngestTerms,
    ) -> Result<()> {
        let gate = Gate {
            interval: Interval::ALL,
            now: terms.now,
            skew: terms.skew,
        };
        let output = match self.transform.invoke(columns) {
            Ok(output) => output,
            Err(error) if is_of_a_row(&error) && rows.len() == 1 => {
                let index = rows[0];
                let reason = Error::from(error).to_string();
                drafts[index].refuse(reason, &self.targets[0], &events[index], terms.now);
                return Ok(());
            }
            Err(error) if is_of_a_row(&error) => {
                let half = rows.len() / 2;
                let part = |from, length| -> Vec<ArrayRef> {
                    columns
                        .iter()
                        .map(|column| column.slice(from, length))
                        .collect()
                };
                let rest = rows.len() - half;
                self.apply_rows(&part(0, half), &rows[..half], events, drafts, terms)?;
                return self.apply_rows(&part(half, rest), &rows[half..], events, drafts, terms);
            }
            Err(error) => return Err(error.into()),
        };
        for target in &self.targets {
            let made = target.rows_of(self.transform.outputs(), &output, gate);
            for RefusedRow { row, reason, .. } in &made.rejects {
                let index = rows[*row];
                drafts[index].refuse(reason.clone(), target, &events[index], terms.now);
            }
            for row in &made.deleted {
                drafts[rows[*row]].is_forgotten = true;
            }
            add_writes(target, &made, rows, drafts, terms);
        }
        Ok(())
    }
}

/// Adds what rows of a group write to the events that they belong to.
fn add_writes(
    target: &Target,
    made: &GroupRows,
    rows: &[usize],
    drafts: &mut [Draft],
    terms: IngestTerms,
) {
    let (now, columns) = (terms.now, made.prepared());
    for (row, source) in made.sources.iter().enumerate() {
        let draft = &mut drafts[rows[*source]];
        let Ok(commit) = &mut draft.commit else {
            continue;
        };
        let (event, available) = (made.events[row], terms.available(made.events[row]));
        draft.latest = draft.latest.max(Some(event));
        let mut outbox = OutboxRow {
            table: target.table.name.clone(),
            event,
            available,
            created: now,
            event_id: commit.id.clone(),
            values: made.packed_row(row),
        };
        if judge_lateness(event, now, terms.lateness) == Lateness::TooLate {
            outbox.table = target.group.late_table().name;
            draft.too_late = true;
        } else {
            let write = made.online_write(target, &columns, row, now, &commit.id);
            let due = event.max(available);
            if due > now {
                commit.early.push(EarlyWrite { due, write });
            } else {
                commit.writes.push(write);
            }
        }
        commit.outbox.push(outbox);
    }
}

/// Whether a single row may be what a function failed on: it trapped or broke the
/// contract. One that refuses, or runs out of time or memory, would do so again.
fn is_of_a_row(error: &InvokeError) -> bool {
    matches!(
        error,
        InvokeError::Trapped { .. } | InvokeError::Output { .. }
    )
}
