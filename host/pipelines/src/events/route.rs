//! Routes: what the events of a source go through, and the groups that they fill.

use std::sync::Arc;

use arrow_array::ArrayRef;
use wafer_catalog::Applied;
use wafer_core::rules::{Interval, Lateness, judge_lateness};
use wafer_core::{ColumnBuilder, Field};
use wafer_store::{EarlyWrite, Error, OutboxRow, Result};
use wafer_tables::Deletions;

use crate::events::draft::{Draft, IngestTerms};
use crate::events::event::IncomingEvent;
use crate::group_rows::{Gate, GroupRows, RefusedRow, Standing, Target};
use crate::transform::Transform;
use wafer_files::{ReadColumn, append_object};

/// The routes of a source's events, with the definitions and deletions that they were computed
/// from.
#[derive(Clone, Debug)]
pub(crate) struct Routes {
    /// The definitions that the routes were computed from.
    pub(crate) applied: Arc<Applied>,
    /// The deletions that the routes were computed from.
    pub(crate) deletions: Arc<Deletions>,
    /// The routes.
    pub(crate) routes: Arc<Vec<Route>>,
}

/// What a source's events go through, and the groups that it fills.
#[derive(Debug)]
pub(crate) struct Route {
    /// What turns events into rows.
    pub(crate) transform: Transform,
    /// The fields of the events that are read, in the order of the inputs.
    pub(crate) columns: Vec<ReadColumn>,
    /// The groups.
    pub(crate) targets: Vec<Target>,
}

impl Route {
    /// Puts the events that were not refused so far through the function, and adds what their
    /// rows write to the drafts.
    pub(crate) fn apply(
        &self,
        events: &[IncomingEvent],
        drafts: &mut [Draft],
        terms: IngestTerms<'_>,
    ) -> Result<()> {
        let builder = |ReadColumn { field, reading }: &ReadColumn| {
            ColumnBuilder::new(&field.data_type, events.len()).with_reading(reading.clone())
        };
        let mut builders: Vec<ColumnBuilder> = self.columns.iter().map(builder).collect();
        let fields: Vec<Field> = self.columns.iter().map(|c| c.field.clone()).collect();
        // The index of the event that each row of the batch came from.
        let mut rows = Vec::with_capacity(events.len());
        for (index, event) in events.iter().enumerate() {
            let (Ok(payload), Ok(_)) = (&event.payload, &drafts[index].commit) else {
                continue;
            };
            // A row that cannot be read stays in the columns for now; all such rows are filtered
            // out together below.
            if let Err(message) = append_object(payload, &fields, &mut builders) {
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

    /// Calls the function on rows; `rows` has the index of each row's event. If the function
    /// traps on the batch, the batch is halved until the row that causes the trap is found and
    /// refused alone.
    fn apply_rows(
        &self,
        columns: &[ArrayRef],
        rows: &[usize],
        events: &[IncomingEvent],
        drafts: &mut [Draft],
        terms: IngestTerms<'_>,
    ) -> Result<()> {
        let gate = Gate {
            interval: Interval::ALL,
            now: terms.now,
            skew: terms.skew,
        };
        let output = match self.transform.invoke(columns) {
            Ok(output) => output,
            Err(error) if error.is_caused_by_row() && rows.len() == 1 => {
                let index = rows[0];
                let reason = Error::from(error).to_string();
                drafts[index].refuse(reason, &self.targets[0], &events[index], terms.now);
                return Ok(());
            }
            Err(error) if error.is_caused_by_row() => {
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
        let first = terms.arrivals.take(output.rows);
        for target in &self.targets {
            let mut made = target.rows_of(self.transform.outputs(), &output, gate);
            made.first_order = first;
            for RefusedRow { row, reason, .. } in &made.rejects {
                let index = rows[*row];
                drafts[index].refuse(reason.clone(), target, &events[index], terms.now);
            }
            for row in &made.deleted {
                drafts[rows[*row]].has_deleted_rows = true;
            }
            add_writes(target, &made, (rows, events), drafts, terms);
        }
        Ok(())
    }
}

/// Adds what the rows of a group write to the drafts of the events that they came from. An event
/// with a row that no request could look up is refused.
fn add_writes(
    target: &Target,
    made: &GroupRows,
    (rows, events): (&[usize], &[IncomingEvent]),
    drafts: &mut [Draft],
    terms: IngestTerms<'_>,
) {
    let (now, columns) = (terms.now, made.prepared());
    for (row, source) in made.sources.iter().enumerate() {
        let index = rows[*source];
        let draft = &mut drafts[index];
        if let Some(reason) = made.unreadable(&target.group.name, row) {
            draft.refuse(reason, target, &events[index], now);
        }
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
            order: target.stored_order(made.order(row)),
        };
        if judge_lateness(event, now, terms.lateness) == Lateness::TooLate {
            outbox.table = target.group.late_table().name;
            draft.too_late = true;
        } else {
            let standing = Standing::new(event, now, outbox.order, &commit.id);
            let write = made.online_write(target, &columns, row, standing);
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
