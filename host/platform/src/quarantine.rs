//! Rows that runs set aside, on their way to a group's quarantine table.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use wafer_core::Timestamp;
use wafer_store::{Follows, Kind as StoreKind, TableWriter, Txn, WrittenFiles};

use crate::definition::TableDef;
use crate::error::Result;
use crate::group_rows::{Target, timestamps};
use crate::platform::Platform;

/// Rows and bytes that wait in memory until they are written to a file.
const MAX_ROWS: usize = 8_192;
const MAX_BYTES: usize = 8 << 20;

/// A row for the quarantine table.
pub(crate) struct Quarantined {
    /// Why.
    pub(crate) reason: String,
    /// File and line or row.
    pub(crate) place: String,
    /// What there was to read, JSON.
    pub(crate) row: Option<String>,
    pub(crate) event_id: String,
}

/// Rows that are set aside by one piece of work.
pub(crate) struct Aside {
    /// Where its files go, below the quarantine table.
    pub(crate) folder: String,
    created: Timestamp,
    rows: Vec<Quarantined>,
    bytes: usize,
    pub(crate) writer: Option<TableWriter>,
}

impl Aside {
    pub(crate) fn new(folder: String, created: Timestamp) -> Self {
        Self {
            folder,
            created,
            rows: Vec::new(),
            bytes: 0,
            writer: None,
        }
    }

    /// What waits, as rows of the table.
    fn take(&mut self, table: &TableDef) -> RecordBatch {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let texts = |value: fn(&Quarantined) -> Option<&str>| -> ArrayRef {
            Arc::new(rows.iter().map(value).collect::<StringArray>())
        };
        let times = || timestamps(&vec![self.created; rows.len()]);
        let columns = vec![
            times(),
            times(),
            times(),
            texts(|row| Some(&row.event_id)),
            texts(|row| Some(&row.reason)),
            texts(|row| Some(&row.place)),
            texts(|row| row.row.as_deref()),
        ];
        RecordBatch::try_new(table.schema().to_arrow(), columns)
            .expect("the columns are the table's")
    }
}

impl Platform {
    /// Sets a row aside.
    pub(crate) async fn set_aside(
        &self,
        target: &Target,
        aside: &mut Aside,
        row: Quarantined,
    ) -> Result<()> {
        aside.bytes += row.reason.len() + row.row.as_ref().map_or(0, String::len);
        aside.rows.push(row);
        if aside.rows.len() < MAX_ROWS && aside.bytes < MAX_BYTES {
            return Ok(());
        }
        self.write_aside(target, aside).await
    }

    async fn write_aside(&self, target: &Target, aside: &mut Aside) -> Result<()> {
        let table = target.group.quarantine_table();
        let offline = &self.components().offline;
        let batch = aside.take(&table);
        let writer = match &mut aside.writer {
            Some(writer) => writer,
            none => {
                offline
                    .ensure(&table.name, &table.schema().to_arrow())
                    .await?;
                none.insert(offline.writer(&table.name, &aside.folder).await?)
            }
        };
        writer.write(&batch).await?;
        Ok(())
    }

    /// Writes what still waits, and closes the files.
    pub(crate) async fn close_aside(
        &self,
        target: &Target,
        mut aside: Aside,
    ) -> Result<WrittenFiles> {
        if !aside.rows.is_empty() {
            self.write_aside(target, &mut aside).await?;
        }
        match aside.writer {
            Some(writer) => Ok(writer.finish().await?),
            None => Ok(WrittenFiles::none(&target.group.quarantine_table().name)),
        }
    }

    /// Makes what was set aside part of the table, in place of what is below a
    /// folder, if one is given.
    pub(crate) async fn commit_aside(
        &self,
        target: &Target,
        aside: WrittenFiles,
        txn: &Txn,
        replaces: Option<&str>,
    ) -> Result<()> {
        let name = &target.group.quarantine_table().name;
        let offline = &self.components().offline;
        let there = match offline.txn_version(name, &txn.app_id).await {
            Ok(version) => version.is_some(),
            Err(e) if e.kind() == StoreKind::NotFound => false,
            Err(e) => return Err(e.into()),
        };
        if there && replaces.is_none() && txn.follows == Follows::Anything {
            // Either these very files, by a commit before the process died, or the same
            // rows written again: those are not part of the table, and upkeep removes them.
            return Ok(());
        }
        if aside.is_empty() && !(there && replaces.is_some()) {
            return Ok(());
        }
        let txn = Txn {
            follows: Follows::Anything,
            ..txn.clone()
        };
        offline.commit(aside, &txn, replaces).await?;
        Ok(())
    }
}
