//! From the outbox to the offline tables.
//!
//! One process at a time, by a lease; and were there two, the tables would
//! still take each row once: a commit carries the last sequence number of its
//! rows, and a table takes it only if it has exactly what came before.

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use std::sync::Arc;
use std::time::Duration;
use wafer_core::{ColumnBuilder, Timestamp, decode_row};
use wafer_store::{Expect, Follows, Kind as StoreKind, Lease, OutboxEntry, Txn};

use crate::definition::TableDef;
use crate::error::{Error, Kind, Result};
use crate::group_rows::timestamps;
use crate::platform::{Components, Platform};

/// Rows of one commit at most.
const MAX_ROWS: usize = 50_000;
const LEASE: i64 = 30_000_000;
const BUSY: &str =
    "another process has been appending to the offline tables for a minute; try again";

/// What a flush did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlushReport {
    /// Rows appended to offline tables.
    pub rows: u64,
    /// Another process is at it.
    pub busy: bool,
    /// Names of commits that are still being written: their rows are not in the tables
    /// yet.
    pub unfinished: Vec<String>,
}

impl Platform {
    /// Appends everything in the outbox to the offline tables.
    ///
    /// # Errors
    /// Those of the stores. Rows stay in the outbox until they are committed.
    pub async fn flush(&self) -> Result<FlushReport> {
        let mut report = FlushReport::default();
        let online = &self.components().online;
        if !online.has_outbox().await? {
            return Ok(report);
        }
        let Ok(lease) = self.lease("flush", LEASE).await? else {
            return Ok(FlushReport {
                busy: true,
                ..report
            });
        };
        let mut lease = lease;
        let flushed = self.flush_tables(&mut lease, &mut report).await;
        lease.release(self.components().metadata.as_ref()).await?;
        flushed.map(|()| report)
    }

    async fn flush_tables(&self, lease: &mut Lease, report: &mut FlushReport) -> Result<()> {
        let waiting = self.components().online.waiting().await?;
        report.unfinished = waiting.unfinished;
        let mut failure = None;
        for (table, _) in waiting.tables {
            // One table's trouble does not keep the others waiting.
            if let Err(error) = self.flush_table(&table, lease, report).await {
                failure.get_or_insert(error);
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Appends everything that is in the outbox now, waiting for others who are at
    /// it.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when they do not come to an end; those of the stores.
    pub(crate) async fn flush_all(&self) -> Result<()> {
        for _ in 0..600 {
            if !self.flush().await?.busy {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(Error::new(Kind::Conflict, BUSY))
    }

    async fn flush_table(
        &self,
        table: &str,
        lease: &mut Lease,
        report: &mut FlushReport,
    ) -> Result<()> {
        let definition = self.table_definition(table).await?;
        let Components {
            online,
            offline,
            metadata,
            wall,
            ..
        } = self.components();
        let app_id = self.outbox_app_id();
        // A flush that died after its commit left its rows here.
        let mut done = match offline.txn_version(table, &app_id).await {
            Err(e) if e.kind() == StoreKind::NotFound => None,
            other => other?,
        };
        if let Some(done) = done {
            online
                .trim_outbox(table, u64::try_from(done).unwrap_or(0))
                .await?;
        }
        loop {
            lease.renew(metadata.as_ref(), wall.now(), LEASE).await?;
            let entries = online.read_outbox(table, MAX_ROWS).await?;
            let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
                return Ok(());
            };
            let (folder, last) = (format!("events/{:020}", first.sequence), last.sequence);
            let batch = self
                .without_deleted(&definition, batch(&definition, &entries)?)
                .await?;
            let mut writer = match offline.writer(table, &folder).await {
                // Tables for what is rare are made when they are needed.
                Err(e) if e.kind() == StoreKind::NotFound => {
                    offline
                        .ensure(table, &definition.schema().to_arrow())
                        .await?;
                    offline.writer(table, &folder).await?
                }
                other => other?,
            };
            writer.write(&batch).await?;
            let version = i64::try_from(last).expect("a counter of rows fits 63 bits");
            let txn = Txn {
                app_id: app_id.clone(),
                version,
                follows: Follows::Exactly(done),
            };
            match writer.commit(&txn, None).await {
                Ok(_) => {}
                // Another process was faster; it goes on from there.
                Err(e) if e.kind() == StoreKind::Conflict => return Ok(()),
                Err(e) => return Err(e.into()),
            }
            done = Some(version);
            report.rows += entries.len() as u64;
            online.trim_outbox(table, last).await?;
        }
    }

    /// Rows without those of entities that were deleted after they happened.
    async fn without_deleted(&self, table: &TableDef, batch: RecordBatch) -> Result<RecordBatch> {
        self.deletions().await?.without(table, batch)
    }

    /// Identity of the outbox' work. Sequence numbers are those of this online
    /// store: another one, as after a loss, starts over, and must not be taken for
    /// this.
    pub(crate) fn outbox_app_id(&self) -> String {
        format!("wafer/outbox/{}", self.store_id())
    }

    /// Claims the outbox, waiting for who has it.
    pub(crate) async fn outbox_lease(&self) -> Result<Lease> {
        for _ in 0..600 {
            if let Ok(lease) = self.lease("flush", LEASE).await? {
                return Ok(lease);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(Error::new(Kind::Conflict, BUSY))
    }

    /// What a table holds, of a group or source that is applied now or was once.
    pub(crate) async fn table_definition(&self, table: &str) -> Result<TableDef> {
        let missing = || {
            let message =
                format!("there is no definition of table `{table}`: it was never applied");
            Error::new(Kind::NotFound, message)
        };
        let stored = self.object(&format!("table/{table}")).await?;
        Ok(stored.ok_or_else(missing)?.0)
    }

    /// Keeps what a table holds, for ever: rows may still be on their way to it when
    /// nothing makes any more.
    pub(crate) async fn keep_table(&self, table: &TableDef) -> Result<()> {
        let name = format!("table/{}", table.name);
        self.put_object(&name, table, Expect::Anything)
            .await
            .map(drop)
    }
}

/// Rows of the outbox as the offline table has them.
fn batch(table: &TableDef, entries: &[OutboxEntry]) -> Result<RecordBatch> {
    let fields: Vec<_> = table.keys.iter().chain(&table.columns).collect();
    let mut builders: Vec<_> = fields
        .iter()
        .map(|f| ColumnBuilder::new(&f.data_type, entries.len()))
        .collect();
    for OutboxEntry { sequence, row } in entries {
        decode_row(&row.values, &mut builders).map_err(|e| {
            Error::caused(
                Kind::Internal,
                format!("row {sequence} of the outbox of `{}`", table.name),
                e,
            )
        })?;
    }
    let mut columns: Vec<ArrayRef> = builders.iter_mut().map(ColumnBuilder::finish).collect();
    let features = columns.split_off(table.keys.len());
    let times = |time: fn(&OutboxEntry) -> Timestamp| {
        timestamps(&entries.iter().map(time).collect::<Vec<_>>())
    };
    columns.extend([
        times(|e| e.row.event),
        times(|e| e.row.available),
        times(|e| e.row.created),
    ]);
    let ids: StringArray = entries
        .iter()
        .map(|e| Some(e.row.event_id.as_str()))
        .collect();
    columns.push(Arc::new(ids));
    columns.extend(features);
    RecordBatch::try_new(table.schema().to_arrow(), columns)
        .map_err(|e| Error::caused(Kind::Internal, "rows of the outbox", e))
}
