//! Heals groups: takes in rows that came too late and wait in the group's late table.
//!
//! A healed row counts from the moment it is healed: it is available from then on. Each row is
//! committed to the online store under an identity of its own, so that a heal that was
//! interrupted can be repeated. The healed rows are then removed from the late table.

use futures::TryStreamExt as _;
use serde::Serialize;
use wafer_catalog::get;
use wafer_core::rules::{Interval, available_from_event};
use wafer_core::{EntityKey, Timestamp, encode_row, entity_key};
use wafer_store::{
    AsOf, EarlyWrite, Error, EventCommit, EventOutcome, Kind, OnlineKey, OutboxRow, Result,
};
use wafer_tables::StoredRows;

use crate::group_rows::{Standing, Target};
use crate::upkeep::TableUpkeep;

/// The number of late rows that are committed in one batch.
const HEAL_BATCH: usize = 1_000;

/// The report of healing a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HealReport {
    /// The number of late rows that count from now on.
    pub healed: u64,
    /// The number of late rows that had been healed before.
    pub known: u64,
}

impl TableUpkeep {
    /// Takes in the rows of a group that came too late: they count from now on, and training
    /// sets contain them for labels from now on. Healing can be repeated; each row is healed
    /// once.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] for an unknown group, and the errors of the stores.
    pub async fn heal(&self, group: &str) -> Result<HealReport> {
        let definitions = self.context.definitions();
        let group = get(&definitions.groups, group, "feature group")?.clone();
        self.tables.flush_all().await?;
        let late = group.late_table();
        let offline = &self.context.components().stores.offline;
        let snapshot = match offline.snapshot(&late.name, AsOf::Latest).await {
            Err(e) if e.kind() == Kind::NotFound => return Ok(HealReport::default()),
            other => other?,
        };
        let target = Target::of(&self.context, group, &*self.tables.deletions().await?);
        let mut report = HealReport::default();
        // The rows are healed in the order in which they came in.
        let files = snapshot.in_order_of_creation(snapshot.files().to_vec());
        let files = files.await?;
        let mut batches = snapshot.read_all(files, snapshot.columns(), Interval::ALL);
        while let Some(batch) = batches.try_next().await? {
            let rows = StoredRows::new(&late, &batch)?;
            for start in (0..rows.len()).step_by(HEAL_BATCH) {
                let end = rows.len().min(start + HEAL_BATCH);
                self.heal_rows(&target, &rows, start..end, &mut report)
                    .await?;
            }
        }
        if !snapshot.files().is_empty() {
            match offline.remove_files(&late.name, snapshot.files()).await {
                // Another process healed or compacted the same files; the next heal removes what
                // is left.
                Err(e) if e.kind() == Kind::Conflict => {}
                other => other?,
            }
        }
        self.tables.flush_all().await?;
        Ok(report)
    }

    /// Commits a range of late rows.
    async fn heal_rows(
        &self,
        target: &Target,
        rows: &StoredRows,
        range: std::ops::Range<usize>,
        report: &mut HealReport,
    ) -> Result<()> {
        let now = self.context.now();
        self.arrivals.begin(self.context.machine_now());
        let mut commits = Vec::new();
        for row in range {
            let entity = entity(&rows.keys, row, &target.table.name)?;
            if target.deleted.is_before(&entity, rows.version(row).event) {
                continue;
            }
            let order = target.stored_order(self.arrivals.take(1));
            commits.push(healing(target, (rows, row), entity, now, order));
        }
        for outcome in self
            .context
            .components()
            .stores
            .online
            .commit_events(commits, self.context.due_until())
            .await?
        {
            match outcome {
                EventOutcome::Committed { .. } => report.healed += 1,
                EventOutcome::Duplicate => report.known += 1,
            }
        }
        Ok(())
    }
}

/// Returns the commit by which a late row counts from `now` on.
fn healing(
    target: &Target,
    (rows, row): (&StoredRows, usize),
    entity: EntityKey,
    now: Timestamp,
    order: Option<u64>,
) -> EventCommit {
    let table = &target.table.name;
    let event = rows.version(row).event;
    let available = available_from_event(event, now);
    let event_id = rows.ids.value(row).to_owned();
    let standing = Standing::new(event, now, order, &event_id);
    let write = target.row_write(entity, &rows.columns, row, standing);
    let columns: Vec<_> = rows.keys.iter().chain(&rows.columns).cloned().collect();
    let mut values = Vec::new();
    encode_row(&columns, row, &mut values);
    let is_due = available <= now;
    let early = (!is_due).then(|| EarlyWrite {
        due: available,
        write: write.clone(),
    });
    EventCommit {
        // An event may have produced rows of several entities, so the entity is part of the
        // identity.
        source: format!("heal/{table}"),
        id: format!("{event_id}/{}", hex(&write.key)),
        remember_until: Timestamp::MAX,
        writes: is_due.then_some(write).into_iter().collect(),
        early: early.into_iter().collect(),
        outbox: vec![OutboxRow {
            table: table.clone(),
            event,
            available,
            created: now,
            event_id,
            values: values.into(),
            order,
        }],
    }
}

/// Encodes the entity key of a row.
fn entity(keys: &[arrow_array::ArrayRef], row: usize, table: &str) -> Result<EntityKey> {
    entity_key(keys, row)
        .map_err(|e| Error::caused(Kind::Corrupt, format!("a row of table `{table}`"), e))
}

/// Returns a short digest of the entity, in hexadecimal.
fn hex(key: &OnlineKey) -> String {
    wafer_core::Digest::of(key.entity.as_bytes()).short()
}
