//! From the outbox to the offline tables.
//!
//! One process at a time, by a lease; and were there two, the tables would
//! still take each row once: a commit carries the last sequence number of its
//! rows, and a table takes it only if it has exactly what came before.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use wafer_catalog::{Components, TableDef};
use wafer_core::{ColumnBuilder, Timestamp, decode_row};
use wafer_store::{Error, Follows, Kind, Lease, Leased, OutboxEntry, Result, Txn};

use crate::rows::timestamps;
use crate::service::Tables;

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

impl Tables {
    /// Appends everything in the outbox to the offline tables.
    ///
    /// # Errors
    /// Those of the stores. Rows stay in the outbox until they are committed.
    pub async fn flush(&self) -> Result<FlushReport> {
        let mut report = FlushReport::default();
        let online = &self.context.components().online;
        if !online.has_outbox().await? {
            return Ok(report);
        }
        let Leased::Mine(mut lease) = self.context.lease("flush", LEASE).await? else {
            return Ok(FlushReport {
                busy: true,
                ..report
            });
        };
        let flushed = self.flush_tables(&mut lease, &mut report).await;
        lease
            .release(self.context.components().metadata.as_ref())
            .await?;
        flushed.map(|()| report)
    }

    async fn flush_tables(&self, lease: &mut Lease, report: &mut FlushReport) -> Result<()> {
        let waiting = self.context.components().online.waiting().await?;
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
    pub async fn flush_all(&self) -> Result<()> {
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
            machine_clock,
            ..
        } = self.context.components();
        let app_id = self.outbox_app_id();
        // A flush that died after its commit left its rows here.
        let mut done = match offline.txn_version(table, &app_id).await {
            Err(e) if e.kind() == Kind::NotFound => None,
            other => other?,
        };
        if let Some(done) = done {
            online
                .trim_outbox(table, u64::try_from(done).unwrap_or(0))
                .await?;
        }
        loop {
            lease
                .renew(metadata.as_ref(), machine_clock.now(), LEASE)
                .await?;
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
                Err(e) if e.kind() == Kind::NotFound => {
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
                Err(e) if e.kind() == Kind::Conflict => return Ok(()),
                Err(e) => return Err(e),
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
    pub fn outbox_app_id(&self) -> String {
        format!("wafer/outbox/{}", self.context.store_id())
    }

    /// Claims the outbox, waiting for who has it.
    pub async fn outbox_lease(&self) -> Result<Lease> {
        for _ in 0..600 {
            if let Leased::Mine(lease) = self.context.lease("flush", LEASE).await? {
                return Ok(lease);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(Error::new(Kind::Conflict, BUSY))
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
