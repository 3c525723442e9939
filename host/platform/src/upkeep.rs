//! Upkeep of tables: what there is, merging files, late rows.

use futures::TryStreamExt as _;
use serde::Serialize;
use wafer_core::rules::available_from_event;
use wafer_core::{EntityKey, Timestamp, encode_row, entity_key};
use wafer_store::{
    AsOf, EarlyWrite, EventCommit, EventOutcome, Kind as StoreKind, OnlineKey, OutboxRow,
};

use crate::definition::TableDef;
use crate::error::{Error, Kind, Result};
use crate::group_rows::{StoredRows, Target};
use crate::platform::{Platform, get};

/// Late rows of one commit.
const HEAL_BATCH: usize = 1_000;

/// A table and how large it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableStatus {
    /// Its name.
    pub table: String,
    /// Its newest version.
    pub version: u64,
    /// Live data files.
    pub files: usize,
    /// Bytes in them.
    pub bytes: u64,
    /// Rows in them.
    pub rows: u64,
    /// Entities in the online store, of a group's table.
    pub entities: Option<u64>,
    /// Versions that training sets were made of.
    pub pinned: Vec<u64>,
}

/// What compacting a table did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CompactReport {
    /// The table.
    pub table: String,
    /// Files that were merged.
    pub merged: usize,
    /// Files that they were merged into.
    pub written: usize,
    /// Old files that were removed.
    pub removed: usize,
}

/// What healing a group did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HealReport {
    /// Late rows that count from now on.
    pub healed: u64,
    /// Late rows that had been healed before.
    pub known: u64,
}

impl Platform {
    /// All tables that have been made, with their sizes.
    ///
    /// # Errors
    /// Those of the stores.
    pub async fn tables(&self) -> Result<Vec<TableStatus>> {
        let pinned = self.pinned().await?;
        let mut all = Vec::new();
        for table in self.known_tables().await? {
            let info = match self.components().offline.info(&table.name).await {
                Err(e) if e.kind() == StoreKind::NotFound => continue,
                other => other?,
            };
            let entities = if table.keys.is_empty() || table.is_late() {
                None
            } else {
                Some(self.components().online.count(&table.name).await?)
            };
            all.push(TableStatus {
                version: info.version,
                files: info.files,
                bytes: info.bytes,
                rows: info.rows,
                entities,
                pinned: pinned.get(&table.name).cloned().unwrap_or_default(),
                table: table.name,
            });
        }
        Ok(all)
    }

    /// Every table that was ever applied.
    pub(crate) async fn known_tables(&self) -> Result<Vec<TableDef>> {
        let tables = self.objects("table").await?;
        Ok(tables.into_iter().map(|(_, table)| table).collect())
    }

    /// Merges small files of a table, or of all, sorted by key and time; then
    /// removes files that only versions older than `horizon` microseconds need, and
    /// no training set. Safe beside everything else.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for an unknown table; those of the store.
    pub async fn compact(&self, table: Option<&str>, horizon: i64) -> Result<Vec<CompactReport>> {
        if let Some(table) = table {
            // Says which there are.
            self.table_definition(table).await?;
        }
        let offline = &self.components().offline;
        let mut reports = Vec::new();
        for definition in self.known_tables().await? {
            let name = &definition.name;
            if table.is_some_and(|table| table != name) {
                continue;
            }
            let keys = definition.keys.iter().map(|key| key.name.clone());
            // To the last tie-break, so that the order does not depend on the files'.
            let times = ["event_timestamp", "created_timestamp", "event_id"].map(str::to_owned);
            let sort_by: Vec<String> = keys.chain(times).collect();
            let compaction = match offline.compact(name, &sort_by).await {
                Err(e) if e.kind() == StoreKind::NotFound => continue,
                other => other?,
            };
            // Read right before: a training set may have been made meanwhile.
            let pinned = self.pinned().await?;
            let kept = pinned.get(name).map_or(&[][..], Vec::as_slice);
            let removed = offline.vacuum(name, horizon, kept).await?;
            reports.push(CompactReport {
                table: name.clone(),
                merged: compaction.merged,
                written: compaction.written,
                removed,
            });
        }
        Ok(reports)
    }

    /// Takes the rows of a group that came too late in after all: they count from
    /// now on, and are in training sets for labels from now on.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for an unknown group; those of the stores. It can be
    /// repeated: a row is healed once.
    pub async fn heal(&self, group: &str) -> Result<HealReport> {
        let definitions = self.definitions();
        let group = get(&definitions.groups, group, "feature group")?.clone();
        self.flush_all().await?;
        let late = group.late_table();
        let offline = &self.components().offline;
        let snapshot = match offline.snapshot(&late.name, AsOf::Latest).await {
            Err(e) if e.kind() == StoreKind::NotFound => return Ok(HealReport::default()),
            other => other?,
        };
        let target = Target::new(group, &*self.deletions().await?);
        let mut report = HealReport::default();
        let mut batches = snapshot.rows();
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
                // Somebody healed them as well, or merged them: next time.
                Err(e) if e.kind() == StoreKind::Conflict => {}
                other => other?,
            }
        }
        self.flush_all().await?;
        Ok(report)
    }

    async fn heal_rows(
        &self,
        target: &Target,
        rows: &StoredRows,
        range: std::ops::Range<usize>,
        report: &mut HealReport,
    ) -> Result<()> {
        let now = self.now();
        let table = &target.table.name;
        let mut commits = Vec::new();
        for row in range {
            let mut version = rows.version(row);
            version.created = now;
            let available = available_from_event(version.event, now);
            let entity = entity(&rows.keys, row, table)?;
            if target.deleted.is_before(&entity, version.event) {
                continue;
            }
            let write = target.single_at(entity, &rows.columns, row, version);
            let columns: Vec<_> = rows.keys.iter().chain(&rows.columns).cloned().collect();
            let mut values = Vec::new();
            encode_row(&columns, row, &mut values);
            let event_id = rows.ids.value(row).to_owned();
            let is_due = available <= now;
            let early = (!is_due).then(|| EarlyWrite {
                due: available,
                write: write.clone(),
            });
            commits.push(EventCommit {
                // A row is one entity's of one event: an event may have made several.
                source: format!("heal/{table}"),
                id: format!("{event_id}/{}", hex(&write.key)),
                remember_until: Timestamp::MAX,
                writes: is_due.then_some(write).into_iter().collect(),
                early: early.into_iter().collect(),
                outbox: vec![OutboxRow {
                    table: table.clone(),
                    event: version.event,
                    available,
                    created: now,
                    event_id,
                    values: values.into(),
                }],
            });
        }
        for outcome in self.components().online.commit_events(commits, now).await? {
            match outcome {
                EventOutcome::Committed { .. } => report.healed += 1,
                EventOutcome::Duplicate => report.known += 1,
            }
        }
        Ok(())
    }
}

fn entity(keys: &[arrow_array::ArrayRef], row: usize, table: &str) -> Result<EntityKey> {
    entity_key(keys, row)
        .map_err(|e| Error::caused(Kind::Internal, format!("a row of table `{table}`"), e))
}

fn hex(key: &OnlineKey) -> String {
    wafer_core::Digest::of(key.entity.as_bytes()).short()
}
