//! Rows that runs rejected, on their way to a group's quarantine table.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use wafer_catalog::TableDef;
use wafer_core::Timestamp;
use wafer_store::{Follows, Kind, Result, TableWriter, Txn, WrittenFiles};
use wafer_tables::timestamps;

use crate::group_rows::Target;
use crate::service::Pipelines;

/// Rows and bytes that wait in memory until they are written to a file.
const MAX_ROWS: usize = 8_192;

const MAX_BYTES: usize = 8 << 20;

/// A row for the quarantine table.
pub(crate) struct QuarantinedRow {
    /// Why.
    pub(crate) reason: String,
    /// File and line or row.
    pub(crate) place: String,
    /// What there was to read, JSON.
    pub(crate) row: Option<String>,
    pub(crate) event_id: String,
}

/// Rows that are rejected by one piece of work.
pub(crate) struct QuarantineWriter {
    /// Where its files go, below the quarantine table.
    pub(crate) folder: String,
    pub(crate) created: Timestamp,
    pub(crate) rows: Vec<QuarantinedRow>,
    bytes: usize,
    pub(crate) writer: Option<TableWriter>,
}

impl QuarantineWriter {
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
    pub(crate) fn take(&mut self, table: &TableDef) -> RecordBatch {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let texts = |value: fn(&QuarantinedRow) -> Option<&str>| -> ArrayRef {
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

impl Pipelines {
    /// Quarantines a row.
    pub(crate) async fn quarantine(
        &self,
        target: &Target,
        quarantine: &mut QuarantineWriter,
        row: QuarantinedRow,
    ) -> Result<()> {
        quarantine.bytes += row.reason.len() + row.row.as_ref().map_or(0, String::len);
        quarantine.rows.push(row);
        if quarantine.rows.len() < MAX_ROWS && quarantine.bytes < MAX_BYTES {
            return Ok(());
        }
        self.write_quarantine(target, quarantine).await
    }

    async fn write_quarantine(
        &self,
        target: &Target,
        quarantine: &mut QuarantineWriter,
    ) -> Result<()> {
        let table = target.group.quarantine_table();
        let offline = &self.context.components().offline;
        let batch = quarantine.take(&table);
        let writer = match &mut quarantine.writer {
            Some(writer) => writer,
            none => {
                offline
                    .ensure(&table.name, &table.schema().to_arrow())
                    .await?;
                none.insert(offline.writer(&table.name, &quarantine.folder).await?)
            }
        };
        writer.write(&batch).await?;
        Ok(())
    }

    /// Writes what still waits, and closes the files.
    pub(crate) async fn close_quarantine(
        &self,
        target: &Target,
        mut quarantine: QuarantineWriter,
    ) -> Result<WrittenFiles> {
        if !quarantine.rows.is_empty() {
            self.write_quarantine(target, &mut quarantine).await?;
        }
        match quarantine.writer {
            Some(writer) => Ok(writer.finish().await?),
            None => Ok(WrittenFiles::none(&target.group.quarantine_table().name)),
        }
    }

    /// Makes what was rejected part of the table, in place of what is below a
    /// folder, if one is given.
    pub(crate) async fn commit_quarantine(
        &self,
        target: &Target,
        quarantine: WrittenFiles,
        txn: &Txn,
        replaces: Option<&str>,
    ) -> Result<()> {
        let name = &target.group.quarantine_table().name;
        let offline = &self.context.components().offline;
        let there = match offline.txn_version(name, &txn.app_id).await {
            Ok(version) => version.is_some(),
            Err(e) if e.kind() == Kind::NotFound => false,
            Err(e) => return Err(e),
        };
        if there && replaces.is_none() && txn.follows == Follows::Anything {
            // Either these very files, by a commit before the process died, or the same
            // rows written again: those are not part of the table, and upkeep removes them.
            return Ok(());
        }
        if quarantine.is_empty() && !(there && replaces.is_some()) {
            return Ok(());
        }
        let txn = Txn {
            follows: Follows::Anything,
            ..txn.clone()
        };
        offline.commit(quarantine, &txn, replaces).await?;
        Ok(())
    }
}
