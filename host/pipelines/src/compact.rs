//! Compacts tables: merges small files and removes files that nothing needs.
//!
//! Only small files of the same piece of work are merged: the files of an interval or those of
//! events. The merged rows are sorted by key and time, and the commit changes no data. Files
//! that only versions older than the horizon need are removed, unless a training set needs them.

use serde::Serialize;
use wafer_core::Duration;
use wafer_store::{ARRIVAL_ORDER, Kind, Result};

use crate::upkeep::TableUpkeep;

/// The size of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableStatus {
    /// The name of the table.
    pub table: String,
    /// The newest version of the table.
    pub version: u64,
    /// The number of live data files.
    pub files: usize,
    /// The size of these files in bytes.
    pub bytes: u64,
    /// The number of rows in these files.
    pub rows: u64,
    /// The number of entities in the online store, if this is a group's table.
    pub entities: Option<u64>,
    /// The versions that training sets were made from.
    pub pinned: Vec<u64>,
}

/// The report of compacting a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CompactReport {
    /// The name of the table.
    pub table: String,
    /// The number of files that were merged.
    pub merged: usize,
    /// The number of files that they were merged into.
    pub written: usize,
    /// The number of old files that were removed.
    pub removed: usize,
}

impl TableUpkeep {
    /// Returns all tables that exist, with their sizes.
    ///
    /// # Errors
    /// Returns the errors of the stores.
    pub async fn tables(&self) -> Result<Vec<TableStatus>> {
        let pinned = self.tables.pinned().await?;
        let mut all = Vec::new();
        for table in self.tables.known_tables().await? {
            let info = match self
                .context
                .components()
                .stores
                .offline
                .info(&table.name)
                .await
            {
                Err(e) if e.kind() == Kind::NotFound => continue,
                other => other?,
            };
            let entities = if table.keys.is_empty() || table.is_late() {
                None
            } else {
                Some(
                    self.context
                        .components()
                        .stores
                        .online
                        .count(&table.name)
                        .await?,
                )
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

    /// Merges the small files of a table, or of all tables, sorted by key and time. Then removes
    /// files that only versions older than `horizon` need and no training set does.
    /// This is safe while other processes read and write the tables.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] for an unknown table, and the errors of the stores.
    pub async fn compact(
        &self,
        table: Option<&str>,
        horizon: Duration,
    ) -> Result<Vec<CompactReport>> {
        let definitions = match table {
            // An unknown table is an error.
            Some(table) => vec![self.tables.table_definition(table).await?],
            None => self.tables.known_tables().await?,
        };
        self.tables.remove_abandoned_pins().await?;
        let offline = &self.context.components().stores.offline;
        let mut reports = Vec::new();
        for definition in definitions {
            let name = &definition.name;
            let keys = definition.keys.iter().map(|key| key.name.clone());
            // The sort key includes the last tie-break, so that the order does not depend on the
            // order of the files. Rows of one key and time stay in the order in which they came in,
            // which runs over the table rely on.
            let system = [
                "event_timestamp",
                "created_timestamp",
                ARRIVAL_ORDER,
                "event_id",
            ];
            let sort_by: Vec<String> = keys.chain(system.map(str::to_owned)).collect();
            let compaction = match offline.compact(name, &sort_by).await {
                Err(e) if e.kind() == Kind::NotFound => continue,
                other => other?,
            };
            // The pins are read right before the vacuum, because a training set may have been
            // made in the meantime.
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
