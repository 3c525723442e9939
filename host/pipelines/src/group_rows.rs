//! Makes rows of a feature group from the output of a function: the one code path that batch
//! runs and events share.
//!
//! A `Target` knows the group, its table, its expectations and the deleted entities.
//! `Target::rows_of` checks each output row: its event time must be set, lie in the covered
//! interval and not too far in the future, its join keys must be set, its entity must not have
//! been deleted afterwards, it must not break an expectation that rejects rows, and a request must
//! be able to look it up. The rows that pass are written offline as batches
//! (`GroupRows::offline_batch`) or as rows of the outbox, and online as the newest row or the
//! summary of each entity.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array as _, ArrayRef, BooleanArray, RecordBatch, TimestampMicrosecondArray};
use bytes::Bytes;
use wafer_catalog::{Context, GroupDef, MAX_FOUND_BYTES, TableDef};
use wafer_core::aggregate::{Cells, Item, ItemLayout};
use wafer_core::expect::{Policy, PreparedExpectation, RunValues};
use wafer_core::rules::{Admission, Arrival, Interval, RowVersion, admit, keep_until};
use wafer_core::{
    Duration, EntityKey, KeyError, Schema, Timestamp, bytes_text, encode_row, entity_key,
    value_bytes, widest_value,
};
use wafer_runtime::Output;
use wafer_store::{EarlyWrite, Error, Kind, OnlineKey, OnlineRow, OnlineWrite, Result};
use wafer_tables::{Deleted, Deletions, StoredRows, SystemValues, table_batch};

/// A group that rows are made for, with everything about it that is computed once.
#[derive(Debug)]
pub(crate) struct Target {
    /// The definition of the group.
    pub(crate) group: GroupDef,
    /// The table of the group's rows.
    pub(crate) table: TableDef,
    /// The fingerprint of the group's schema, which online rows carry.
    fingerprint: u64,
    /// The layout of the summaries, if the group has windows.
    layout: Option<ItemLayout>,
    /// How many times an entity can hold a value of each column of a row.
    copies: Vec<u64>,
    /// How many bytes the online store keeps of a row.
    max_row_bytes: u64,
    /// Whether the table holds the order of arrival of its rows.
    is_ordered: bool,
    /// The expectations of the group.
    pub(crate) checks: Vec<PreparedExpectation>,
    /// The deleted entities, whose earlier rows are left out.
    pub(crate) deleted: Deleted,
}

/// Rows of a group that passed all checks, and what became of the others.
#[derive(Debug)]
pub(crate) struct GroupRows {
    /// The join keys, in the group's order.
    pub(crate) keys: Vec<ArrayRef>,
    /// The encoded join keys of each row.
    pub(crate) entities: Vec<EntityKey>,
    /// The event time of each row.
    pub(crate) events: Vec<Timestamp>,
    /// The stored columns, in the group's order.
    pub(crate) columns: Vec<ArrayRef>,
    /// The index of the source row that each row was made from.
    pub(crate) sources: Vec<usize>,
    /// The index of each row among all rows that the function returned.
    outputs: Vec<usize>,
    /// The number of rows that the function returned.
    pub(crate) output_rows: usize,
    /// The order of arrival of the first row that the function returned; the others follow it. It
    /// is 0 until it is set.
    pub(crate) first_order: u64,
    /// The source rows that were refused.
    pub(crate) rejects: Vec<RefusedRow>,
    /// The number of rows that are kept although they break an expectation.
    pub(crate) warnings: u64,
    /// The number of rows whose event time is outside the interval.
    pub(crate) outside: u64,
    /// The source rows of the rows that were left out because their entity was deleted
    /// afterwards.
    pub(crate) deleted: Vec<usize>,
}

/// The columns of an output that a group stores.
struct StoredColumns {
    keys: Vec<ArrayRef>,
    /// The event times.
    events: ArrayRef,
    columns: Vec<ArrayRef>,
}

impl StoredColumns {
    fn events(&self) -> &TimestampMicrosecondArray {
        self.events.as_primitive::<TimestampMicrosecondType>()
    }

    /// Returns the rows for which `mask` is true.
    fn filtered(&self, mask: &BooleanArray) -> Self {
        let filtered = |column: &ArrayRef| {
            arrow_select::filter::filter(column, mask).expect("as many bits as rows")
        };
        Self {
            keys: self.keys.iter().map(filtered).collect(),
            events: filtered(&self.events),
            columns: self.columns.iter().map(filtered).collect(),
        }
    }
}

/// Which rows of an output are admitted to a group, and what became of the others.
struct Admitted {
    /// Whether each row is admitted.
    kept: Vec<bool>,
    /// The encoded join keys of the admitted rows.
    entities: Vec<EntityKey>,
    /// See [`GroupRows::rejects`].
    rejects: Vec<RefusedRow>,
    /// See [`GroupRows::warnings`].
    warnings: u64,
    /// See [`GroupRows::outside`].
    outside: u64,
    /// See [`GroupRows::deleted`].
    deleted: Vec<usize>,
}

/// A source row that was refused, and the reason.
#[derive(Clone, Debug)]
pub(crate) struct RefusedRow {
    /// The index of the source row.
    pub(crate) row: usize,
    /// Why the row was refused.
    pub(crate) reason: String,
    /// The event time of the output row, if there was one.
    pub(crate) event: Option<Timestamp>,
    /// Whether the refusal makes the whole run fail.
    pub(crate) fails: bool,
}

/// Which rows are admitted, by their event times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gate {
    /// The event times that are covered; rows outside the interval are left out.
    pub(crate) interval: Interval,
    /// The present.
    pub(crate) now: Timestamp,
    /// How far in the future an event time may lie.
    pub(crate) skew: Duration,
}

impl Target {
    /// Prepares a group for making rows.
    pub(crate) fn of(context: &Context, group: GroupDef, deletions: &Deletions) -> Self {
        let online = &context.components().stores.online;
        Self::new(group, deletions, online.max_row_bytes())
    }

    /// Prepares a group for making rows, for an online store that keeps so many bytes of a row.
    fn new(group: GroupDef, deletions: &Deletions, max_row_bytes: u64) -> Self {
        let (table, layout) = (group.rows_table(), group.layout());
        let copies = |column: usize| {
            layout
                .as_ref()
                .map_or(1, |layout| layout.copies(column).max(1))
        };
        Self {
            deleted: deletions.of(&table),
            is_ordered: table.is_ordered(),
            table,
            fingerprint: group.fingerprint(),
            copies: (0..group.columns.len()).map(copies).collect(),
            layout,
            max_row_bytes,
            checks: group
                .expectations
                .iter()
                .map(PreparedExpectation::new)
                .collect(),
            group,
        }
    }

    /// Makes rows of the group from the output of a function, whose columns have the names in
    /// `outputs`.
    pub(crate) fn rows_of(&self, outputs: &Schema, output: &Output, gate: Gate) -> GroupRows {
        let returned = self.stored_columns(outputs, output);
        let Admitted {
            kept,
            entities,
            rejects,
            warnings,
            outside,
            deleted,
        } = self.admitted(&returned, output, gate);
        let outputs: Vec<usize> = (0..output.rows).filter(|row| kept[*row]).collect();
        let stored = match entities.len() == output.rows {
            true => returned,
            false => returned.filtered(&BooleanArray::from(kept)),
        };
        let events = stored.events().values().iter();
        GroupRows {
            events: events
                .map(|micros| Timestamp::from_micros(*micros))
                .collect(),
            keys: stored.keys,
            columns: stored.columns,
            entities,
            sources: outputs.iter().map(|row| output.source_row(*row)).collect(),
            outputs,
            output_rows: output.rows,
            first_order: 0,
            rejects,
            warnings,
            outside,
            deleted,
        }
    }

    /// Returns the columns of an output that the group stores.
    fn stored_columns(&self, outputs: &Schema, output: &Output) -> StoredColumns {
        let column = |name: &str| {
            let index = outputs
                .index_of(name)
                .expect("the group was resolved against these columns");
            Arc::clone(&output.columns[index])
        };
        let group = &self.group;
        StoredColumns {
            keys: group.keys.iter().map(|key| column(&key.name)).collect(),
            events: column(&group.event_time),
            columns: group.columns.iter().map(|f| column(&f.name)).collect(),
        }
    }

    /// Decides which rows of an output are admitted to the group, and why the others are not.
    fn admitted(&self, returned: &StoredColumns, output: &Output, gate: Gate) -> Admitted {
        let (group, keys, events) = (&self.group, &returned.keys, returned.events());
        let refused = |(row, message): &(u32, String)| RefusedRow {
            row: *row as usize,
            reason: message.clone(),
            event: None,
            fails: false,
        };
        let mut admitted = Admitted {
            kept: vec![false; output.rows],
            entities: Vec::with_capacity(output.rows),
            rejects: output.row_errors.iter().map(refused).collect(),
            warnings: 0,
            outside: 0,
            deleted: Vec::new(),
        };
        // A function that maps rows one to one returns a meaningless row for each row that
        // failed.
        let failed = |row: usize| output.source_rows.is_none() && output.has_failed(row);
        let row_checks = self.row_checks(&returned.columns);
        let are_small = self.are_readable(&returned.columns);
        let unreadable = |row: usize| match are_small {
            true => None,
            false => self.unreadable(&returned.columns, row),
        };
        for row in (0..output.rows).filter(|row| !failed(*row)) {
            let event = Timestamp::from_micros(events.value(row));
            let refused = |reason, fails| RefusedRow {
                row: output.source_row(row),
                reason,
                event: events.is_valid(row).then_some(event),
                fails,
            };
            match admit_row(group, keys, events, row, gate) {
                Ok(Some(entity)) if self.is_deleted(&entity, event) => {
                    admitted.deleted.push(output.source_row(row));
                }
                Ok(Some(entity)) => {
                    let checked = check_row(&row_checks, row);
                    let checked = checked.and_then(|warned| match unreadable(row) {
                        None => Ok(warned),
                        Some(reason) => Err((reason, Policy::Reject)),
                    });
                    match checked {
                        Ok(warned) => {
                            admitted.warnings += u64::from(warned);
                            admitted.kept[row] = true;
                            admitted.entities.push(entity);
                        }
                        Err((reason, policy)) => {
                            let reject = refused(reason, policy == Policy::Fail);
                            admitted.rejects.push(reject);
                        }
                    }
                }
                Ok(None) => admitted.outside += 1,
                Err(reason) => admitted.rejects.push(refused(reason, false)),
            }
        }
        admitted
    }

    /// Returns the most bytes that a row may take: as many as a request may look up, if the online
    /// store keeps as many.
    fn most_bytes(&self) -> u64 {
        MAX_FOUND_BYTES.min(self.max_row_bytes)
    }

    /// Returns whether every row of some columns can be looked up, because the longest values of
    /// all columns together take no more than a row may take. That is soon said of most chunks.
    fn are_readable(&self, columns: &[ArrayRef]) -> bool {
        let columns = columns.iter().zip(&self.copies);
        let sizes = columns.map(|(column, copies)| widest_value(column).saturating_mul(*copies));
        sizes.fold(0, u64::saturating_add) <= self.most_bytes()
    }

    /// Returns why no request could look a row up, or `None` if one can: its values take at most
    /// [`most_bytes`](Self::most_bytes), each counted as often as the summary of an entity may hold
    /// it.
    fn unreadable(&self, columns: &[ArrayRef], row: usize) -> Option<String> {
        let columns = columns.iter().zip(&self.copies);
        let sizes = columns.map(|(column, copies)| {
            let bytes = value_bytes(column, row);
            bytes.saturating_mul(*copies)
        });
        let (bytes, most) = (sizes.fold(0, u64::saturating_add), self.most_bytes());
        if bytes <= most {
            return None;
        }
        let most = match most == MAX_FOUND_BYTES {
            true => format!(
                "a request may look up at most {}, so that nobody could read it",
                bytes_text(most)
            ),
            false => format!(
                "the online store keeps at most {} of a row",
                bytes_text(most)
            ),
        };
        Some(format!(
            "its row of group `{}` takes {bytes} bytes, and {most}; write shorter values, or fewer into \
             one row",
            self.group.name
        ))
    }

    /// Returns whether an entity was deleted at or after an event time.
    fn is_deleted(&self, entity: &EntityKey, event: Timestamp) -> bool {
        self.deleted.is_before(entity, event)
    }

    /// Returns the expectations about single rows, each with the values of its column.
    fn row_checks(&self, columns: &[ArrayRef]) -> Vec<(&PreparedExpectation, Cells)> {
        let of_rows = self
            .checks
            .iter()
            .filter(|c| !c.expectation().rule.is_of_run());
        of_rows
            .map(|check| {
                let cells = Cells::new(self.column(columns, &check.expectation().column));
                (check, cells.expect("stored columns have storable types"))
            })
            .collect()
    }

    /// Returns the expectations about all rows of a run.
    pub(crate) fn run_checks(&self) -> Vec<RunCheck<'_>> {
        let of_runs = self
            .checks
            .iter()
            .filter(|c| c.expectation().rule.is_of_run());
        of_runs
            .map(|check| RunCheck {
                check,
                values: RunValues::default(),
            })
            .collect()
    }

    /// Returns the stored column of a name.
    pub(crate) fn column<'a>(&self, columns: &'a [ArrayRef], name: &str) -> &'a ArrayRef {
        let index = self.group.columns.iter().position(|c| c.name == name);
        &columns[index.expect("expectations are about stored columns")]
    }

    /// Returns the online write of a row.
    pub(crate) fn write(&self, entity: EntityKey, row: OnlineRow) -> OnlineWrite {
        OnlineWrite {
            key: OnlineKey {
                group: self.table.name.clone(),
                entity,
            },
            keep_until: keep_until(row.version.event, self.group.ttl),
            row,
        }
    }

    /// Returns the online write of columns that have a single row.
    pub(crate) fn first_row_write(
        &self,
        entity: EntityKey,
        columns: &[ArrayRef],
        standing: Standing,
    ) -> OnlineWrite {
        self.row_write(entity, columns, 0, standing)
    }

    /// Returns the online write of one row of some columns.
    pub(crate) fn row_write(
        &self,
        entity: EntityKey,
        columns: &[ArrayRef],
        row: usize,
        standing: Standing,
    ) -> OnlineWrite {
        self.write(
            entity,
            self.online_row(&Columns::new(columns), row, standing),
        )
    }

    /// Returns the order of arrival that a new row is stored with, if its table holds it.
    pub(crate) fn stored_order(&self, order: u64) -> Option<u64> {
        self.is_ordered.then_some(order)
    }

    /// Encodes a row for the online store: its packed columns, or a summary of this one event if
    /// the group has windows.
    fn online_row(&self, columns: &Columns<'_>, row: usize, standing: Standing) -> OnlineRow {
        let Standing { version, arrival } = standing;
        let values = match &self.layout {
            None => packed(columns.columns, row),
            Some(layout) => {
                let cells = &columns.cells;
                let mut item = Item::new(layout);
                item.add(layout, version.event, arrival, |column| {
                    cells[column].as_ref().and_then(|cells| cells.get(row))
                });
                item.encode(layout).into()
            }
        };
        OnlineRow {
            version,
            fingerprint: self.fingerprint,
            values,
        }
    }
}

/// What orders a row among the rows of its entity.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    /// Which of the rows is the newest.
    pub(crate) version: RowVersion,
    /// Which of the events of one time is the first and the last in windows.
    pub(crate) arrival: Arrival,
}

impl Standing {
    /// The standing of a row that is stored with an order of arrival, or without one.
    pub(crate) fn new(
        event: Timestamp,
        created: Timestamp,
        order: Option<u64>,
        event_id: &str,
    ) -> Self {
        Self {
            version: RowVersion::new(event, created, order, event_id),
            arrival: Arrival::new(created, order, event_id),
        }
    }
}

/// Stored columns, with access to their single values where the type allows it.
#[derive(Debug)]
pub(crate) struct Columns<'a> {
    pub(crate) columns: &'a [ArrayRef],
    cells: Vec<Option<Cells>>,
}

impl<'a> Columns<'a> {
    pub(crate) fn new(columns: &'a [ArrayRef]) -> Self {
        let cells = columns.iter().map(Cells::new).collect();
        Self { columns, cells }
    }
}

/// Packs the values of a row.
fn packed(columns: &[ArrayRef], row: usize) -> Bytes {
    let mut bytes = Vec::new();
    encode_row(columns, row, &mut bytes);
    bytes.into()
}

/// An expectation about all rows of a run, with the values that it has seen so far.
#[derive(Debug)]
pub(crate) struct RunCheck<'a> {
    check: &'a PreparedExpectation,
    values: RunValues,
}

impl RunCheck<'_> {
    /// Adds the rows of a chunk. Returns the rows that repeat a value that has to be unique.
    pub(crate) fn add(&mut self, target: &Target, rows: &GroupRows) -> Vec<usize> {
        let expectation = self.check.expectation();
        let column = target.column(&rows.columns, &expectation.column);
        let cells = Cells::new(column).expect("stored columns have storable types");
        self.values.add(&expectation.rule, &cells, rows.len())
    }

    /// Returns the policy of the expectation and the reason if the run breaks it.
    pub(crate) fn violation(&self) -> Option<(Policy, String)> {
        let expectation = self.check.expectation();
        let reason = self.values.broken(expectation)?;
        Some((expectation.policy, reason))
    }

    /// The values that were seen so far.
    pub(crate) fn values(&self) -> &RunValues {
        &self.values
    }

    /// Adds the values that another partition of the run has seen.
    pub(crate) fn append(&mut self, seen: RunValues) {
        self.values.append(seen);
    }

    /// The policy of the expectation.
    pub(crate) fn policy(&self) -> Policy {
        self.check.expectation().policy
    }

    /// The name of the expectation's column.
    pub(crate) fn column(&self) -> &str {
        &self.check.expectation().column
    }
}

/// Returns whether a row breaks expectations that only warn of it.
///
/// # Errors
/// Returns the reason and policy of the first broken expectation that keeps the row from being
/// written.
fn check_row(
    row_checks: &[(&PreparedExpectation, Cells)],
    row: usize,
) -> Result<bool, (String, Policy)> {
    let mut warned = false;
    for (check, cells) in row_checks {
        let policy = check.expectation().policy;
        if let Some(reason) = check.broken(cells.get(row)) {
            if policy != Policy::Warn {
                return Err((reason, policy));
            }
            warned = true;
        }
    }
    Ok(warned)
}

/// Returns the entity of a row, `None` if the row is outside the interval, or the reason why it
/// is refused.
fn admit_row(
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
            gate.now, gate.skew
        )),
    }
}

impl GroupRows {
    /// The number of rows.
    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// Returns the order of arrival of a row.
    pub(crate) fn order(&self, row: usize) -> u64 {
        self.first_order + self.outputs[row] as u64
    }

    /// Returns the rows at some positions, without the refused rows.
    pub(crate) fn take_rows(&self, rows: &[usize]) -> Self {
        let places: arrow_array::UInt32Array = rows.iter().map(|row| Some(*row as u32)).collect();
        let taken = |column: &ArrayRef| {
            arrow_select::take::take(column, &places, None).expect("positions of these rows")
        };
        Self {
            keys: self.keys.iter().map(taken).collect(),
            columns: self.columns.iter().map(taken).collect(),
            entities: rows.iter().map(|row| self.entities[*row].clone()).collect(),
            events: rows.iter().map(|row| self.events[*row]).collect(),
            sources: rows.iter().map(|row| self.sources[*row]).collect(),
            outputs: rows.iter().map(|row| self.outputs[*row]).collect(),
            output_rows: self.output_rows,
            first_order: self.first_order,
            rejects: Vec::new(),
            warnings: 0,
            outside: 0,
            deleted: Vec::new(),
        }
    }

    /// Returns the rows as a batch of the offline table. `available` and `event_ids` have a
    /// value for each row.
    ///
    /// # Errors
    /// Returns [`Kind::Internal`] when the columns are not the group's.
    pub(crate) fn offline_batch(
        &self,
        target: &Target,
        available: Vec<Timestamp>,
        created: Timestamp,
        event_ids: Vec<String>,
    ) -> Result<RecordBatch> {
        let orders = (0..self.len()).map(|row| target.stored_order(self.order(row)));
        let system = SystemValues {
            events: self.events.clone(),
            available,
            created: vec![created; self.len()],
            ids: event_ids,
            orders: orders.collect(),
        };
        table_batch(
            &target.table,
            self.keys.clone(),
            system,
            self.columns.clone(),
        )
    }

    /// Packs the keys and columns of a row, as the outbox stores them.
    pub(crate) fn packed_row(&self, row: usize) -> Bytes {
        let columns: Vec<ArrayRef> = self.keys.iter().chain(&self.columns).cloned().collect();
        packed(&columns, row)
    }

    /// Prepares the columns for writing them row by row.
    pub(crate) fn prepared(&self) -> Columns<'_> {
        Columns::new(&self.columns)
    }

    /// Returns the online write of a row.
    pub(crate) fn online_write(
        &self,
        target: &Target,
        columns: &Columns<'_>,
        row: usize,
        standing: Standing,
    ) -> OnlineWrite {
        let values = target.online_row(columns, row, standing);
        target.write(self.entities[row].clone(), values)
    }
}

/// Collects rows for the online store: the newest row of each entity, or the summary of its
/// events if the group has windows.
#[derive(Debug)]
pub(crate) struct OnlineRows<'a> {
    /// The group.
    pub(crate) target: &'a Target,
    /// The present, which decides which rows are due.
    pub(crate) now: Timestamp,
    newest: HashMap<EntityKey, OnlineRow>,
    items: HashMap<EntityKey, Item>,
    /// The rows that are not due yet.
    pub(crate) early: Vec<EarlyWrite>,
}

impl<'a> OnlineRows<'a> {
    pub(crate) fn new(target: &'a Target, now: Timestamp) -> Self {
        Self {
            target,
            now,
            newest: HashMap::new(),
            items: HashMap::new(),
            early: Vec::new(),
        }
    }

    /// Adds rows of the group's offline table.
    pub(crate) fn add(&mut self, rows: &StoredRows) -> Result<()> {
        let columns = Columns::new(&rows.columns);
        for row in 0..rows.len() {
            let entity = entity_key(&rows.keys, row).map_err(|e| {
                let place = format!("a row of table `{}`", self.target.table.name);
                Error::caused(Kind::Corrupt, place, e)
            })?;
            let (version, due) = (rows.version(row), rows.due(row));
            let arrival = rows.arrival(row);
            let standing = Standing { version, arrival };
            if due > self.now {
                let values = self.target.online_row(&columns, row, standing);
                let write = self.target.write(entity, values);
                self.early.push(EarlyWrite { due, write });
                continue;
            }
            match &self.target.layout {
                Some(layout) => {
                    let item = self
                        .items
                        .entry(entity)
                        .or_insert_with(|| Item::new(layout));
                    item.add(layout, version.event, arrival, |column| {
                        columns.cells[column]
                            .as_ref()
                            .and_then(|cells| cells.get(row))
                    });
                }
                None => {
                    let stored = self.newest.get(&entity).map(|row| row.version);
                    if wafer_core::rules::replaces(version, stored) {
                        let values = self.target.online_row(&columns, row, standing);
                        self.newest.insert(entity, values);
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns the rows that are due, in the order of their keys, and the rows that are not due
    /// yet.
    pub(crate) fn finish(self) -> (Vec<OnlineWrite>, Vec<EarlyWrite>) {
        let Self {
            target,
            newest,
            items,
            early,
            ..
        } = self;
        let mut writes: Vec<OnlineWrite> = newest
            .into_iter()
            .map(|(entity, row)| target.write(entity, row))
            .collect();
        if let Some(layout) = &target.layout {
            writes.extend(items.into_iter().map(|(entity, mut item)| {
                let version = RowVersion {
                    event: item.newest(),
                    created: Timestamp::MIN,
                    order: 0,
                };
                let row = OnlineRow {
                    version,
                    fingerprint: target.fingerprint,
                    values: item.encode(layout).into(),
                };
                target.write(entity, row)
            }));
        }
        writes.sort_by(|a, b| a.key.cmp(&b.key));
        (writes, early)
    }
}

#[cfg(test)]
mod tests;
