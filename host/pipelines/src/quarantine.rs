//! Writes the rows that runs rejected to a group's quarantine table.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use futures::future::BoxFuture;
use wafer_catalog::TableDef;
use wafer_core::{Timestamp, cut};
use wafer_store::{Follows, Kind, OfflineTables, Result, TableWriter, Txn, WrittenFiles};
use wafer_tables::{SystemValues, table_batch};

use crate::group_rows::Target;

/// The number of rows that are kept in memory before they are written to a file.
const MAX_ROWS: usize = 8_192;

/// The number of bytes of such rows that are kept in memory.
const MAX_BYTES: usize = 8 << 20;

/// A row of the quarantine table.
pub(crate) struct QuarantinedRow {
    /// Why the row was rejected.
    pub(crate) reason: String,
    /// The file, with the line or row.
    pub(crate) place: String,
    /// The columns of the source row as a JSON object, if it could be read.
    pub(crate) row: Option<String>,
    /// The event identity of the source row.
    pub(crate) event_id: String,
}

/// Collects and writes the rejected rows of one interval of a run, or of one file.
pub(crate) struct QuarantineWriter {
    /// The folder of its files, relative to the quarantine table.
    pub(crate) folder: String,
    /// The time that the rows are stored with.
    pub(crate) created: Timestamp,
    /// The rows that are not written to a file yet.
    pub(crate) rows: Vec<QuarantinedRow>,
    /// The size of these rows in bytes.
    bytes: usize,
    /// The writer of the files; it is opened with the first write.
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

    /// Takes the rows that are not written yet, as a batch of the quarantine table.
    pub(crate) fn take(&mut self, table: &TableDef) -> Result<RecordBatch> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let texts = |value: fn(&QuarantinedRow) -> Option<&str>| -> ArrayRef {
            Arc::new(rows.iter().map(value).collect::<StringArray>())
        };
        let times = || vec![self.created; rows.len()];
        let system = SystemValues {
            events: times(),
            available: times(),
            created: times(),
            ids: rows.iter().map(|row| row.event_id.clone()).collect(),
            orders: vec![None; rows.len()],
        };
        let columns = vec![
            texts(|row| Some(&row.reason)),
            texts(|row| Some(&row.place)),
            texts(|row| row.row.as_deref()),
        ];
        table_batch(table, Vec::new(), system, columns)
    }

    /// Adds a row to the quarantine, and writes the collected rows to a file when there are
    /// enough.
    pub(crate) async fn add(
        &mut self,
        offline: &OfflineTables,
        target: &Target,
        row: QuarantinedRow,
    ) -> Result<()> {
        let row = QuarantinedRow {
            reason: cut(row.reason),
            ..row
        };
        self.bytes += row.reason.len() + row.row.as_ref().map_or(0, String::len);
        self.rows.push(row);
        if self.rows.len() < MAX_ROWS && self.bytes < MAX_BYTES {
            return Ok(());
        }
        self.write(offline, target).await
    }

    /// Writes the collected rows to a file, and creates the table if there is none.
    fn write<'a>(
        &'a mut self,
        offline: &'a OfflineTables,
        target: &'a Target,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let table = target.group.quarantine_table();
            let batch = self.take(&table)?;
            let writer = match &mut self.writer {
                Some(writer) => writer,
                none => {
                    offline
                        .ensure(&table.name, &table.schema().to_arrow())
                        .await?;
                    none.insert(offline.writer(&table.name, &self.folder).await?)
                }
            };
            writer.write(&batch).await?;
            Ok(())
        })
    }

    /// Writes the remaining rows and closes the files.
    pub(crate) async fn close(
        mut self,
        offline: &OfflineTables,
        target: &Target,
    ) -> Result<WrittenFiles> {
        if !self.rows.is_empty() {
            self.write(offline, target).await?;
        }
        match self.writer {
            Some(writer) => Ok(writer.finish().await?),
            None => Ok(WrittenFiles::none(&target.group.quarantine_table().name)),
        }
    }
}

/// Commits files of rejected rows to the quarantine table. If `replaces` names a folder, the
/// files in it are removed by the same commit.
pub(crate) async fn commit_quarantine(
    offline: &OfflineTables,
    target: &Target,
    quarantine: WrittenFiles,
    txn: &Txn,
    replaces: Option<&str>,
) -> Result<()> {
    let name = &target.group.quarantine_table().name;
    let is_known = match offline.txn_version(name, &txn.app_id).await {
        Ok(version) => version.is_some(),
        Err(e) if e.kind() == Kind::NotFound => false,
        Err(e) => return Err(e),
    };
    if is_known && replaces.is_none() && txn.follows == Follows::Anything {
        // The table has these files, from a commit before the process died, or the same rows
        // in other files. In that case the new files do not become part of the table, and
        // vacuuming removes them.
        return Ok(());
    }
    if quarantine.is_empty() && !(is_known && replaces.is_some()) {
        return Ok(());
    }
    let txn = Txn {
        follows: Follows::Anything,
        ..txn.clone()
    };
    offline.commit(quarantine, &txn, replaces).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use wafer_catalog::{Components, Context, GroupDef};
    use wafer_core::SettableClock;
    use wafer_store::{MemoryStore, Stores};
    use wafer_tables::Deletions;

    use super::*;

    /// Commits a rejected row in a folder, in the place of those in another one.
    async fn commit(
        offline: &OfflineTables,
        target: &Target,
        folder: &str,
        replaces: Option<&str>,
    ) {
        let mut quarantine = QuarantineWriter::new(folder.to_owned(), Timestamp::from_millis(0));
        let row = QuarantinedRow {
            reason: "the row cannot be read".to_owned(),
            place: "a.csv:2".to_owned(),
            row: None,
            event_id: "a.csv:2".to_owned(),
        };
        quarantine.add(offline, target, row).await.unwrap();
        let files = quarantine.close(offline, target).await.unwrap();
        let txn = Txn {
            app_id: format!("wafer/{folder}"),
            version: 1,
            follows: Follows::Anything,
        };
        let committed = commit_quarantine(offline, target, files, &txn, replaces);
        committed.await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn rejected_rows_that_another_folder_had_are_there_once() {
        let folder = tempfile::tempdir().unwrap();
        let stores = Stores::with_folder(Arc::<MemoryStore>::default(), folder.path()).unwrap();
        let clock = Arc::new(SettableClock::stopped_at(Timestamp::from_millis(0)));
        let components = Components::for_tests(stores, clock, "test").unwrap();
        let context = Context::open("p", components).await.unwrap();
        let target = Target::of(
            &context,
            GroupDef::new("g", "e", "t"),
            &Deletions::default(),
        );
        let offline = &context.components().stores.offline;
        for (folder, replaces) in [
            ("rejects/a-1", None),
            ("rejects/a-1", None),
            ("rejects/a-2", Some("rejects/a-1")),
            ("rejects/a-2", Some("rejects/a-1")),
        ] {
            commit(offline, &target, folder, replaces).await;
            let info = offline.info("g_v1_quarantine").await.unwrap();
            assert_eq!(info.rows, 1, "{folder}");
        }
        // Another file's rows are beside them.
        commit(offline, &target, "rejects/b-2", Some("rejects/b-1")).await;
        let info = offline.info("g_v1_quarantine").await.unwrap();
        assert_eq!(info.rows, 2);
    }
}
