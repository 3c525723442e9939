//! Routes: what the events of a source go through, and the groups that they fill.

use std::sync::Arc;

use arrow_array::{Array as _, ArrayRef};
use wafer_core::rules::{Interval, Lateness, judge_lateness};
use wafer_core::{ColumnBuilder, Field, IncomingEvent};
use wafer_runtime::{InvokeError, Output};
use wafer_store::Error;
use wafer_tables::Deletions;

use crate::events::draft::{Draft, IngestTerms, Pending, WhenApplied};
use crate::group_rows::{Gate, GroupRows, RefusedRow, Target};
use crate::transform::Transform;
use wafer_files::{ReadColumn, append_object};

/// The routes of a source's events, with the definitions and deletions that they were computed
/// from.
#[derive(Clone, Debug)]
pub(crate) struct Routes {
    /// The definitions that the routes were computed from.
    pub(crate) applied: Arc<wafer_catalog::Applied>,
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

/// The largest size in bytes of what functions return for the events that are put through them
/// together. A function may return many times what it gets, and all of it is in memory until it is
/// committed.
const RETURNED_BYTES: u64 = 512 << 20;

/// The rows that were made for one of the groups of a push, with the numbers of the route and of
/// the target among those of the route.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) route: usize,
    pub(crate) target: usize,
    pub(crate) rows: GroupRows,
}

/// The events of a push on their way to commits, and the rows that were made of them.
pub(crate) struct Push {
    /// A draft for each event.
    pub(crate) drafts: Vec<Draft>,
    pub(crate) made: Vec<Made>,
    /// The bytes that functions returned, at most `RETURNED_BYTES`.
    returned: u64,
}

/// Why a call made no rows of events.
#[derive(Debug)]
enum CallError {
    /// The call failed.
    Call(InvokeError),
    /// The functions of the push returned too much.
    TooMuch,
}

/// Why events could not be put through the functions of their source.
#[derive(Debug)]
pub(crate) enum PushError {
    /// A function failed on all of them.
    Failed(Error),
    /// The functions returned too much for all of them at once, but may not for fewer.
    TooMuch,
}

impl From<InvokeError> for CallError {
    fn from(error: InvokeError) -> Self {
        Self::Call(error)
    }
}

impl Push {
    /// Begins a push with a draft for each event.
    pub(crate) fn new(drafts: Vec<Draft>) -> Self {
        Self {
            drafts,
            made: Vec::new(),
            returned: 0,
        }
    }

    /// Turns columns into rows, and counts what a function returns.
    fn invoke(&mut self, transform: &Transform, columns: &[ArrayRef]) -> Result<Output, CallError> {
        let before = self.returned;
        let output = transform.invoke_counted(columns, |bytes| {
            match before.saturating_add(bytes) > RETURNED_BYTES {
                true => Err(CallError::TooMuch),
                false => Ok(()),
            }
        })?;
        if matches!(transform, Transform::Function(..)) {
            let columns = output.columns.iter();
            let bytes: usize = columns.map(|column| column.get_array_memory_size()).sum();
            self.returned = before.saturating_add(bytes as u64);
        }
        Ok(output)
    }
}

impl Route {
    /// Puts the events that were not refused so far through the function, and adds their rows to
    /// the drafts. `number` is that of the route.
    pub(crate) fn apply(
        &self,
        number: usize,
        events: &[IncomingEvent],
        push: &mut Push,
        terms: IngestTerms<'_>,
    ) -> Result<(), PushError> {
        let drafts = &mut push.drafts;
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
        self.apply_rows(number, &columns, (&rows, events), push, terms)
    }

    /// Calls the function on rows; `rows` has the index of each row's event, beside all events. If
    /// the function fails on the batch in a way that a row may have caused, the batch is halved
    /// until that row is found and refused alone.
    fn apply_rows(
        &self,
        number: usize,
        columns: &[ArrayRef],
        (rows, events): (&[usize], &[IncomingEvent]),
        push: &mut Push,
        terms: IngestTerms<'_>,
    ) -> Result<(), PushError> {
        let gate = Gate {
            interval: Interval::ALL,
            now: terms.now,
            skew: terms.skew,
        };
        let output = match push.invoke(&self.transform, columns) {
            Ok(output) => output,
            Err(CallError::TooMuch) if events.len() == 1 => {
                self.refuse(0, too_much(), events, push, terms);
                return Ok(());
            }
            Err(CallError::TooMuch) => return Err(PushError::TooMuch),
            Err(CallError::Call(error)) if error.is_over_size() && terms.over_size.count() => {
                return Err(PushError::Failed(error.into()));
            }
            Err(CallError::Call(error)) if error.is_caused_by_row() && rows.len() == 1 => {
                let reason = Error::from(error).to_string();
                self.refuse(rows[0], reason, events, push, terms);
                return Ok(());
            }
            Err(CallError::Call(error)) if error.is_caused_by_row() => {
                let half = rows.len() / 2;
                let part = |from, length| -> Vec<ArrayRef> {
                    columns
                        .iter()
                        .map(|column| column.slice(from, length))
                        .collect()
                };
                let rest = rows.len() - half;
                let (first, second) = ((&rows[..half], events), (&rows[half..], events));
                self.apply_rows(number, &part(0, half), first, push, terms)?;
                return self.apply_rows(number, &part(half, rest), second, push, terms);
            }
            Err(CallError::Call(error)) => return Err(PushError::Failed(error.into())),
        };
        let first = terms.arrivals.take(output.rows);
        for (place, target) in self.targets.iter().enumerate() {
            let mut made = target.rows_of(self.transform.outputs(), &output, gate);
            made.first_order = first;
            for RefusedRow { row, reason, .. } in &made.rejects {
                let index = rows[*row];
                let draft = &mut push.drafts[index];
                draft.refuse(reason.clone(), target, &events[index], terms.now);
            }
            for row in &made.deleted {
                push.drafts[rows[*row]].has_deleted_rows = true;
            }
            add_rows(&made, rows, push, terms);
            push.made.push(Made {
                route: number,
                target: place,
                rows: made,
            });
        }
        Ok(())
    }

    /// Refuses an event alone, and puts it into the quarantine of the first group of the route.
    fn refuse(
        &self,
        index: usize,
        reason: String,
        events: &[IncomingEvent],
        push: &mut Push,
        terms: IngestTerms<'_>,
    ) {
        push.drafts[index].refuse(reason, &self.targets[0], &events[index], terms.now);
    }
}

/// The reason why an event is refused for which alone functions return too much.
fn too_much() -> String {
    let limit = RETURNED_BYTES >> 20;
    format!(
        "what the functions of its source return for this event takes more than {limit} MiB of memory"
    )
}

/// Adds the rows of a group to the drafts of the events that they came from.
fn add_rows(rows: &GroupRows, sources: &[usize], push: &mut Push, terms: IngestTerms<'_>) {
    let (now, made) = (terms.now, push.made.len());
    for (row, source) in rows.sources.iter().enumerate() {
        let index = sources[*source];
        let draft = &mut push.drafts[index];
        if draft.commit.is_err() {
            continue;
        }
        let (event, available) = (rows.events[row], terms.available(rows.events[row]));
        draft.latest = draft.latest.max(Some(event));
        let is_too_late = judge_lateness(event, now, terms.lateness) == Lateness::TooLate;
        draft.too_late |= is_too_late;
        let due = event.max(available);
        draft.pending.push(Pending {
            made,
            row,
            available,
            applied: match is_too_late {
                true => WhenApplied::WhenHealed,
                false if due > now => WhenApplied::Later(due),
                false => WhenApplied::Now,
            },
        });
    }
}
