//! Appends the outbox to the offline tables.
//!
//! The rows of events wait in the outbox of the online store until a flush appends them to the
//! Delta tables. Rows leave the outbox only after the commit that contains them is durable. A
//! lease makes sure that one process flushes at a time. Even if there were two, the tables would
//! take each row once: a commit carries the last sequence number of its rows as its transaction
//! identity, and a table accepts it only if the table has exactly the rows before it. If a flush
//! dies after its commit, the next one finds out by the transaction identity how far the table
//! is, and only removes the rows from the outbox.

use std::time;

use arrow_array::{ArrayRef, RecordBatch};
use futures::future::BoxFuture;
use wafer_catalog::{Components, TableDef};
use wafer_core::{ColumnBuilder, Duration, Timestamp, decode_row};
use wafer_store::{
    Error, Follows, Kind, Lease, Leased, OutboxEntry, OutboxRow, Result, Stores, Txn,
};

use crate::rows::{SystemValues, table_batch};
use crate::service::Tables;

/// The largest number of rows in one commit.
const MAX_ROWS: usize = 50_000;

/// How long the lease of a flush lasts. It is renewed before each commit.
const LEASE_DURATION: Duration = Duration::from_secs(30);

/// The error message for a flush that waited too long for another process.
const BUSY_MESSAGE: &str =
    "another process has been appending to the offline tables for a minute; try again";

/// The report of a flush.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlushReport {
    /// The number of rows that left the outbox. Rows of deleted entities are counted, although they
    /// are not appended to a table.
    pub rows: u64,
    /// Whether another process was flushing, so that this flush did nothing.
    pub busy: bool,
    /// The names of event commits that are not finished yet. Their rows are not in the outbox yet.
    pub unfinished: Vec<String>,
}

impl Tables {
    /// Appends everything in the outbox to the offline tables, unless another process does so.
    ///
    /// # Errors
    /// Returns the errors of the stores. Rows stay in the outbox until they are committed.
    pub async fn flush(&self) -> Result<FlushReport> {
        let mut report = FlushReport::default();
        let Stores {
            outbox, metadata, ..
        } = &self.context.components().stores;
        if !outbox.has_rows().await? {
            return Ok(report);
        }
        let Leased::Mine(mut lease) = self.context.lease("flush", LEASE_DURATION).await? else {
            return Ok(FlushReport {
                busy: true,
                ..report
            });
        };
        let flushed = self.flush_tables(&mut lease, &mut report).await;
        lease.release(metadata.as_ref()).await?;
        flushed.map(|()| report)
    }

    /// Returns how long the oldest of what is in the outbox has waited there, by the clock of
    /// requests and events; no time if the outbox is empty.
    ///
    /// # Errors
    /// Returns the errors of the store.
    pub async fn outbox_age(&self) -> Result<Duration> {
        let outbox = &self.context.components().stores.outbox;
        let since = outbox.waiting_since().await?;
        let age = since.map(|since| self.context.now().since(since));
        // The clocks of two machines may differ.
        Ok(age.unwrap_or_default().max(Duration::ZERO))
    }

    /// Flushes all tables that have rows in the outbox; returns the first error.
    async fn flush_tables(&self, lease: &mut Lease, report: &mut FlushReport) -> Result<()> {
        let waiting = self.context.components().stores.outbox.waiting().await?;
        report.unfinished = waiting.unfinished;
        let mut failure = None;
        for (table, _) in waiting.tables {
            // An error of one table does not keep the others from being flushed.
            if let Err(error) = self.flush_table(&table, lease, report).await {
                failure.get_or_insert(error);
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Appends everything in the outbox to the offline tables; waits for another process that
    /// does so, for up to a minute.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when the other process does not finish in time, and the errors
    /// of the stores.
    pub async fn flush_all(&self) -> Result<()> {
        for _ in 0..600 {
            if !self.flush().await?.busy {
                return Ok(());
            }
            tokio::time::sleep(time::Duration::from_millis(100)).await;
        }
        Err(Error::new(Kind::Conflict, BUSY_MESSAGE))
    }

    /// Appends everything to the offline tables that was committed before the call, also by commits
    /// that another process is still finishing, which it waits for.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when another process flushes for a minute,
    /// [`Kind::Unavailable`] when a commit is not finished within that time, and the errors of the
    /// stores.
    pub async fn flush_finished(&self) -> Result<()> {
        let mut waiting: Option<Vec<String>> = None;
        for _ in 0..600 {
            let FlushReport {
                busy, unfinished, ..
            } = self.flush().await?;
            if !busy {
                let mut rest = waiting.unwrap_or_else(|| unfinished.clone());
                rest.retain(|commit| unfinished.contains(commit));
                if rest.is_empty() {
                    return Ok(());
                }
                waiting = Some(rest);
            }
            tokio::time::sleep(time::Duration::from_millis(100)).await;
        }
        Err(match waiting {
            None => Error::new(Kind::Conflict, BUSY_MESSAGE),
            Some(commits) => {
                let message = format!(
                    "{} commits of events have not been finished for a minute; try again",
                    commits.len()
                );
                Error::new(Kind::Unavailable, message)
            }
        })
    }

    /// Appends the rows of one table, in commits of at most [`MAX_ROWS`] rows. It is boxed, so
    /// that it is compiled in this crate alone, and not in each that awaits it.
    fn flush_table<'a>(
        &'a self,
        table: &'a str,
        lease: &'a mut Lease,
        report: &'a mut FlushReport,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let definition = self.table_definition(table).await?;
            let Components {
                stores,
                machine_clock,
                ..
            } = self.context.components();
            let Stores {
                outbox,
                offline,
                metadata,
                ..
            } = stores;
            let app_id = self.outbox_app_id();
            // An earlier flush may have died after its commit and left its rows in the outbox.
            let mut done = match offline.txn_version(table, &app_id).await {
                Err(e) if e.kind() == Kind::NotFound => None,
                other => other?,
            };
            if let Some(done) = done {
                outbox.trim(table, u64::try_from(done).unwrap_or(0)).await?;
            }
            loop {
                lease
                    .renew(metadata.as_ref(), machine_clock.now(), LEASE_DURATION)
                    .await?;
                let entries = outbox.read(table, MAX_ROWS).await?;
                let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
                    return Ok(());
                };
                let (folder, last) = (format!("events/{:020}", first.sequence), last.sequence);
                let batch = self
                    .without_deleted(&definition, batch(&definition, &entries)?)
                    .await?;
                let mut writer = match offline.writer(table, &folder).await {
                    // Tables that are rarely needed, such as late tables, are created with their
                    // first rows.
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
                    // Another process made a commit in the meantime, and goes on from there.
                    Err(e) if e.kind() == Kind::Conflict => return Ok(()),
                    Err(e) => return Err(e),
                }
                done = Some(version);
                report.rows += entries.len() as u64;
                outbox.trim(table, last).await?;
            }
        })
    }

    /// Returns a batch without the rows whose entity was deleted after the row's event time.
    async fn without_deleted(&self, table: &TableDef, batch: RecordBatch) -> Result<RecordBatch> {
        self.deletions().await?.without(table, batch)
    }

    /// Returns the application id of the outbox's Delta commits. Sequence numbers belong to one
    /// online store. Another store, for example after a loss, starts again from the beginning
    /// and must not be taken for this one, so the identity contains the id of the store.
    pub fn outbox_app_id(&self) -> String {
        format!("wafer/outbox/{}", self.context.store_id())
    }

    /// Acquires the lease of the outbox; waits for another process that has it, for up to a
    /// minute.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when the other process does not release it in time, and the
    /// errors of the metadata store.
    pub async fn outbox_lease(&self) -> Result<Lease> {
        for _ in 0..600 {
            if let Leased::Mine(lease) = self.context.lease("flush", LEASE_DURATION).await? {
                return Ok(lease);
            }
            tokio::time::sleep(time::Duration::from_millis(100)).await;
        }
        Err(Error::new(Kind::Conflict, BUSY_MESSAGE))
    }
}

/// Makes a batch of the offline table from rows of the outbox.
fn batch(table: &TableDef, entries: &[OutboxEntry]) -> Result<RecordBatch> {
    let fields: Vec<_> = table.keys.iter().chain(&table.columns).collect();
    let mut builders: Vec<_> = fields
        .iter()
        .map(|f| ColumnBuilder::new(&f.data_type, entries.len()))
        .collect();
    for OutboxEntry { sequence, row } in entries {
        decode_row(&row.values, &mut builders).map_err(|e| {
            Error::caused(
                Kind::Corrupt,
                format!("row {sequence} of the outbox of `{}`", table.name),
                e,
            )
        })?;
    }
    let mut columns: Vec<ArrayRef> = builders.iter_mut().map(ColumnBuilder::finish).collect();
    let features = columns.split_off(table.keys.len());
    let times = |time: fn(&OutboxRow) -> Timestamp| -> Vec<Timestamp> {
        entries.iter().map(|entry| time(&entry.row)).collect()
    };
    let rows = entries.iter().map(|entry| &entry.row);
    let system = SystemValues {
        events: times(|row| row.event),
        available: times(|row| row.available),
        created: times(|row| row.created),
        ids: rows.clone().map(|row| row.event_id.clone()).collect(),
        orders: rows.map(|row| row.order).collect(),
    };
    table_batch(table, columns, system, features)
}

#[cfg(test)]
mod tests;
