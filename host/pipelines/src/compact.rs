//! Compaction: small files are merged, and files that nothing needs are removed.

use serde::Serialize;
use wafer_store::{Kind, Result};

use crate::service::Pipelines;

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

impl Pipelines {
    /// All tables that have been made, with their sizes.
    ///
    /// # Errors
    /// Those of the stores.
    pub async fn tables(&self) -> Result<Vec<TableStatus>> {
        let pinned = self.tables.pinned().await?;
        let mut all = Vec::new();
        for table in self.tables.known_tables().await? {
            let info = match self.context.components().offline.info(&table.name).await {
                Err(e) if e.kind() == Kind::NotFound => continue,
                other => other?,
            };
            let entities = if table.keys.is_empty() || table.is_late() {
                None
            } else {
                Some(self.context.components().online.count(&table.name).await?)
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

    /// Merges small files of a table, or of all, sorted by key and time; then
    /// removes files that only versions older than `horizon` microseconds need, and
    /// no training set. Safe beside everything else.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for an unknown table; those of the store.
    pub async fn compact(&self, table: Option<&str>, horizon: i64) -> Result<Vec<CompactReport>> {
        if let Some(table) = table {
            // Says which there are.
            self.tables.table_definition(table).await?;
        }
        let offline = &self.context.components().offline;
        let mut reports = Vec::new();
        for definition in self.tables.known_tables().await? {
            let name = &definition.name;
            if table.is_some_and(|table| table != name) {
                continue;
            }
            let keys = definition.keys.iter().map(|key| key.name.clone());
            // To the last tie-break, so that the order does not depend on the files'.
            let times = ["event_timestamp", "created_timestamp", "event_id"].map(str::to_owned);
            let sort_by: Vec<String> = keys.chain(times).collect();
            let compaction = match offline.compact(name, &sort_by).await {
                Err(e) if e.kind() == Kind::NotFound => continue,
                other => other?,
            };
            // Read right before: a training set may have been made meanwhile.
            let pinned = self.tables.pinned().await?;
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
}
