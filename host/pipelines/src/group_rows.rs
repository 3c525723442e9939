//! From source rows to rows of a feature group: the one path that batch runs
//! and events share.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{
    Array as _, ArrayRef, BooleanArray, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use bytes::Bytes;
use wafer_catalog::{GroupDef, TableDef};
use wafer_core::aggregate::{Cells, Item, Layout};
use wafer_core::expect::{Check, Policy, RunValues};
use wafer_core::rules::{Admission, Interval, RowVersion, admit, identity, keep_until};
use wafer_core::{EntityKey, KeyError, Schema, Timestamp, encode_row, entity_key};
use wafer_runtime::Output;
use wafer_store::{EarlyWrite, Error, Kind, OnlineKey, OnlineRow, OnlineWrite, Result};
use wafer_tables::{Deleted, Deletions, StoredRows, timestamps};

/// A group that rows are made for, with what is worked out once.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) group: GroupDef,
    pub(crate) table: TableDef,
    fingerprint: u64,
    layout: Option<Layout>,
    pub(crate) checks: Vec<Check>,
    /// Entities whose past is not taken in.
    pub(crate) deleted: Deleted,
}

/// Rows of a group, each of which may be written.
#[derive(Debug)]
pub(crate) struct GroupRows {
    /// Join keys, in the group's order.
    pub(crate) keys: Vec<ArrayRef>,
    /// The keys, encoded.
    pub(crate) entities: Vec<EntityKey>,
    /// Event times.
    pub(crate) events: Vec<Timestamp>,
    /// Stored columns, in the group's order.
    pub(crate) columns: Vec<ArrayRef>,
    /// For each row the source row it was made from.
    pub(crate) sources: Vec<usize>,
    /// Source rows that were refused.
    pub(crate) rejects: Vec<RefusedRow>,
    /// Rows that are kept although they break an expectation.
    pub(crate) warnings: u64,
    /// Rows whose event time is outside the interval.
    pub(crate) outside: u64,
    /// Source rows of rows that were left out, as their entity was deleted later.
    pub(crate) deleted: Vec<usize>,
}

/// A source row that makes no row, and why.
#[derive(Clone, Debug)]
pub(crate) struct RefusedRow {
    pub(crate) row: usize,
    pub(crate) reason: String,
    /// Event time of the row that would have been made, if it came so far.
    pub(crate) event: Option<Timestamp>,
    /// Whether the whole run is to fail.
    pub(crate) fails: bool,
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

impl Target {
    pub(crate) fn new(group: GroupDef, deletions: &Deletions) -> Self {
        let table = group.rows_table();
        Self {
            deleted: deletions.of(&table),
            table,
            fingerprint: group.fingerprint(),
            layout: group.layout(),
            checks: group.expectations.iter().map(Check::new).collect(),
            group,
        }
    }

    /// Makes rows of the group out of columns by name, such as a function returned.
    pub(crate) fn rows_of(&self, outputs: &Schema, output: &Output, gate: Gate) -> GroupRows {
        let group = &self.group;
        let column = |name: &str| {
            let index = outputs
                .index_of(name)
                .expect("the group was resolved against these columns");
            Arc::clone(&output.columns[index])
        };
        let keys: Vec<ArrayRef> = group.keys.iter().map(|key| column(&key.name)).collect();
        let events = column(&group.event_time);
        let events = events.as_primitive::<TimestampMicrosecondType>();
        let columns: Vec<ArrayRef> = group.columns.iter().map(|f| column(&f.name)).collect();

        let refused = |(row, message): &(u32, String)| RefusedRow {
            row: *row as usize,
            reason: message.clone(),
            event: None,
            fails: false,
        };
        let mut rejects: Vec<RefusedRow> = output.row_errors.iter().map(refused).collect();
        // One to one, a failed row is there and means nothing.
        let failed = |row: usize| output.source_rows.is_none() && output.has_failed(row);
        let checked = self.checked(&columns);
        let mut kept = vec![false; output.rows];
        let mut entities = Vec::with_capacity(output.rows);
        let (mut outside, mut warnings, mut deleted) = (0, 0, Vec::new());
        for (row, keep) in kept.iter_mut().enumerate().filter(|(row, _)| !failed(*row)) {
            let refused = |reason, fails| RefusedRow {
                row: output.source_row(row),
                reason,
                event: events
                    .is_valid(row)
                    .then(|| Timestamp::from_micros(events.value(row))),
                fails,
            };
            match admitted(group, &keys, events, row, gate) {
                Ok(Some(entity)) if self.is_deleted(&entity, events.value(row)) => {
                    deleted.push(output.source_row(row));
                }
                Ok(Some(entity)) => match broken(&checked, row, &mut warnings) {
                    None => {
                        *keep = true;
                        entities.push(entity);
                    }
                    Some((reason, policy)) => {
                        rejects.push(refused(reason, policy == Policy::Fail));
                    }
                },
                Ok(None) => outside += 1,
                Err(reason) => rejects.push(refused(reason, false)),
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
        GroupRows {
            keys: keys.iter().map(filtered).collect(),
            columns: columns.iter().map(filtered).collect(),
            events: events
                .values()
                .iter()
                .map(|micros| Timestamp::from_micros(*micros))
                .collect(),
            entities,
            sources,
            rejects,
            warnings,
            outside,
            deleted,
        }
    }

    fn is_deleted(&self, entity: &EntityKey, event: i64) -> bool {
        self.deleted
            .is_before(entity, Timestamp::from_micros(event))
    }

    /// The expectations that are about single rows, with their column's values.
    fn checked(&self, columns: &[ArrayRef]) -> Vec<(&Check, Cells)> {
        let of_rows = self
            .checks
            .iter()
            .filter(|c| !c.expectation().rule.is_of_run());
        of_rows
            .map(|check| {
                let cells = Cells::new(self.column(columns, &check.expectation().column));
                (check, cells.expect("rules fit their columns' types"))
            })
            .collect()
    }

    /// The expectations that are about all rows of a run.
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

    pub(crate) fn column<'a>(&self, columns: &'a [ArrayRef], name: &str) -> &'a ArrayRef {
        let index = self.group.columns.iter().position(|c| c.name == name);
        &columns[index.expect("expectations are about stored columns")]
    }

    /// What a row writes online.
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

    /// What a row of its own writes online.
    pub(crate) fn single(
        &self,
        entity: EntityKey,
        columns: &[ArrayRef],
        version: RowVersion,
    ) -> OnlineWrite {
        self.single_at(entity, columns, 0, version)
    }

    /// What one row of some columns writes online.
    pub(crate) fn single_at(
        &self,
        entity: EntityKey,
        columns: &[ArrayRef],
        row: usize,
        version: RowVersion,
    ) -> OnlineWrite {
        self.write(
            entity,
            self.online_row(&Columns::new(columns), row, version),
        )
    }

    /// What a single row writes online: itself, or an event to be summed up.
    fn online_row(&self, columns: &Columns<'_>, row: usize, version: RowVersion) -> OnlineRow {
        let values = match &self.layout {
            None => packed(columns.columns, row),
            Some(layout) => {
                let cells = &columns.cells;
                let mut item = Item::new(layout);
                item.add(layout, version.event, version.id, |column| {
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

/// Stored columns, and their values one by one where that can be.
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

fn packed(columns: &[ArrayRef], row: usize) -> Bytes {
    let mut bytes = Vec::new();
    encode_row(columns, row, &mut bytes);
    bytes.into()
}

/// An expectation about all rows of a run, with what was seen so far.
#[derive(Debug)]
pub(crate) struct RunCheck<'a> {
    check: &'a Check,
    values: RunValues,
}

impl RunCheck<'_> {
    /// Looks at the rows of a chunk; returns those that repeat a value.
    pub(crate) fn add(&mut self, target: &Target, rows: &GroupRows) -> Vec<usize> {
        let expectation = self.check.expectation();
        let column = target.column(&rows.columns, &expectation.column);
        let cells = Cells::new(column).expect("rules fit their columns' types");
        self.values.add(&expectation.rule, &cells, rows.len())
    }

    /// Why the run breaks it, if it does.
    pub(crate) fn broken(&self) -> Option<(Policy, String)> {
        let expectation = self.check.expectation();
        let reason = self.values.broken(expectation)?;
        Some((expectation.policy, reason))
    }

    /// What was seen so far.
    pub(crate) fn seen(&self) -> &RunValues {
        &self.values
    }

    /// Adds what was seen elsewhere.
    pub(crate) fn append(&mut self, seen: RunValues) {
        self.values.append(seen);
    }

    pub(crate) fn policy(&self) -> Policy {
        self.check.expectation().policy
    }

    pub(crate) fn column(&self) -> &str {
        &self.check.expectation().column
    }
}

/// The first expectation that a row breaks badly enough not to be kept.
fn broken(checked: &[(&Check, Cells)], row: usize, warnings: &mut u64) -> Option<(String, Policy)> {
    let mut warned = false;
    for (check, cells) in checked {
        let policy = check.expectation().policy;
        if let Some(reason) = check.broken(cells.get(row)) {
            if policy != Policy::Warn {
                return Some((reason, policy));
            }
            warned = true;
        }
    }
    *warnings += u64::from(warned);
    None
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

    /// Some of the rows, by their positions, without the rows that were refused.
    pub(crate) fn part(&self, rows: &[usize]) -> Self {
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
            rejects: Vec::new(),
            warnings: 0,
            outside: 0,
            deleted: Vec::new(),
        }
    }

    /// The rows as the offline table has them.
    pub(crate) fn offline_batch(
        &self,
        target: &Target,
        available: Vec<Timestamp>,
        created: Timestamp,
        event_ids: Vec<String>,
    ) -> RecordBatch {
        let created = vec![created; self.len()];
        let times = [&self.events, &available, &created].map(|times| timestamps(times));
        let ids: ArrayRef = Arc::new(StringArray::from(event_ids));
        let columns = self
            .keys
            .iter()
            .cloned()
            .chain(times)
            .chain([ids])
            .chain(self.columns.iter().cloned());
        RecordBatch::try_new(target.table.schema().to_arrow(), columns.collect())
            .expect("the columns are the group's")
    }

    /// The row's keys and columns, packed, as the outbox holds them.
    pub(crate) fn packed_row(&self, row: usize) -> Bytes {
        let columns: Vec<ArrayRef> = self.keys.iter().chain(&self.columns).cloned().collect();
        packed(&columns, row)
    }

    /// The columns, to be written row by row.
    pub(crate) fn prepared(&self) -> Columns<'_> {
        Columns::new(&self.columns)
    }

    /// The row as the online store takes it.
    pub(crate) fn online_write(
        &self,
        target: &Target,
        columns: &Columns<'_>,
        row: usize,
        created: Timestamp,
        event_id: &str,
    ) -> OnlineWrite {
        let version = RowVersion {
            event: self.events[row],
            created,
            id: identity(event_id),
        };
        let values = target.online_row(columns, row, version);
        target.write(self.entities[row].clone(), values)
    }
}

/// Rows that are gathered for the online store: of an entity its newest row, or
/// the sum of its events.
#[derive(Debug)]
pub(crate) struct OnlineRows<'a> {
    pub(crate) target: &'a Target,
    pub(crate) now: Timestamp,
    newest: HashMap<EntityKey, OnlineRow>,
    items: HashMap<EntityKey, Item>,
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

    pub(crate) fn add(&mut self, rows: &StoredRows) -> Result<()> {
        let columns = Columns::new(&rows.columns);
        for row in 0..rows.len() {
            let entity = entity_key(&rows.keys, row).map_err(|e| {
                let place = format!("a row of table `{}`", self.target.table.name);
                Error::caused(Kind::Internal, place, e)
            })?;
            let (version, due) = (rows.version(row), rows.due(row));
            if due > self.now {
                let values = self.target.online_row(&columns, row, version);
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
                    item.add(layout, version.event, version.id, |column| {
                        columns.cells[column]
                            .as_ref()
                            .and_then(|cells| cells.get(row))
                    });
                }
                None => {
                    let stored = self.newest.get(&entity).map(|row| row.version);
                    if wafer_core::rules::replaces(version, stored) {
                        let values = self.target.online_row(&columns, row, version);
                        self.newest.insert(entity, values);
                    }
                }
            }
        }
        Ok(())
    }

    /// What is due, in the order of the keys, and what is not yet.
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
                    id: 0,
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
