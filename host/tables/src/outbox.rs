//! Appends the outbox to the offline tables.
//!
//! The rows of events wait in the outbox of the online store until a flush appends them to the
//! Delta tables. Rows leave the outbox only after the commit that contains them is durable. A
//! lease makes sure that one process flushes at a time. Even if there were two, the tables would
//! take each row once: a commit carries the last sequence number of its rows as its transaction
//! identity, and a table accepts it only if the table has exactly the rows before it. If a flush
//! dies after its commit, the next one finds out by the transaction identity how far the table
//! is, and only removes the rows from the outbox.
//!
//! A flush appends what was in the outbox when it began, and ends: however fast further events come
//! in, each table gets its turn, and about one commit a flush. Flushes are made again and again,
//! and skip their turn if another process flushes. Who needs one to be made waits for its turn, and
//! takes a second lease meanwhile ([`NEXT_LEASE`]) that keeps others from beginning one, and ends
//! one that is going on after its present commit: what that leaves is appended by whoever waits, or
//! by the next flush. The tables and the outbox are consistent between any two commits.
//!
//! A flush that somebody waits for does not end before all is appended. Two that made room for each
//! other would take turns, and the rows that the first one waits for would be there no sooner.

use std::collections::BTreeSet;
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

/// The name of the lease of a flush.
const LEASE_NAME: &str = "flush";

/// The name of the lease of somebody who waits for that of a flush.
const NEXT_LEASE: &str = "flush-next";

/// How long the lease of somebody who waits lasts. It is renewed with each attempt.
const NEXT_DURATION: Duration = Duration::from_secs(3);

/// The error message for a flush that waited too long for another process.
const BUSY_MESSAGE: &str =
    "another process has been appending to the offline tables for a minute; try again";

/// The report of a flush.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlushReport {
    /// The number of rows that left the outbox. Rows of deleted entities are counted, although they
    /// are not appended to a table.
    pub rows: u64,
    /// Whether rows were left to another process, which was flushing, or waits for its turn.
    pub busy: bool,
    /// The names of event commits that are not finished yet, or for whose rows the outbox has no
    /// room yet. Their rows are not in the tables.
    pub unfinished: Vec<String>,
}

/// A flush that is going on.
#[derive(Debug)]
struct Flush {
    lease: Lease,
    report: FlushReport,
    /// Whether somebody waits for this flush to append everything. Otherwise it ends when somebody
    /// waits for another one.
    is_awaited: bool,
}

impl Flush {
    fn new(lease: Lease, is_awaited: bool) -> Self {
        Self {
            lease,
            report: FlushReport::default(),
            is_awaited,
        }
    }
}

/// The attempts of somebody who waits, ten in a second, for up to a minute.
struct Attempts(u32);

impl Attempts {
    fn new() -> Self {
        Self(600)
    }

    /// Waits before another attempt. Returns false, without waiting, when the time is over.
    async fn wait(&mut self) -> bool {
        let Some(left) = self.0.checked_sub(1) else {
            return false;
        };
        self.0 = left;
        tokio::time::sleep(time::Duration::from_millis(100)).await;
        true
    }
}

impl Tables {
    /// Appends what is in the outbox now to the offline tables, unless another process does so or
    /// waits to do so. Ends after a commit if somebody begins to wait meanwhile.
    ///
    /// # Errors
    /// Returns the errors of the stores. Rows stay in the outbox until they are committed.
    pub async fn flush(&self) -> Result<FlushReport> {
        let outbox = &self.context.components().stores.outbox;
        if !outbox.has_rows().await? {
            return Ok(FlushReport::default());
        }
        if !self.context.is_leased(NEXT_LEASE).await?
            && let Leased::Mine(lease) = self.context.lease(LEASE_NAME, LEASE_DURATION).await?
        {
            return self.flush_under(Flush::new(lease, false)).await;
        }
        Ok(FlushReport {
            busy: true,
            ..FlushReport::default()
        })
    }

    /// Appends what is in the outbox now to the offline tables, when it is this process's turn.
    async fn flush_in_turn(&self) -> Result<FlushReport> {
        let outbox = &self.context.components().stores.outbox;
        if !outbox.has_rows().await? {
            return Ok(FlushReport::default());
        }
        let lease = self.outbox_lease().await?;
        self.flush_under(Flush::new(lease, true)).await
    }

    /// Appends what is in the outbox now to the offline tables, and releases the lease.
    async fn flush_under(&self, mut flush: Flush) -> Result<FlushReport> {
        let flushed = self.flush_tables(&mut flush).await;
        let Flush { lease, report, .. } = flush;
        let metadata = &self.context.components().stores.metadata;
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

    /// Flushes what is in the outbox now, also what there is no room for before other rows have
    /// left it.
    async fn flush_tables(&self, flush: &mut Flush) -> Result<()> {
        let mut left_out = self.flush_readable(flush).await?;
        while !left_out.is_empty() && !flush.report.busy {
            let before = left_out.len();
            let still = self.flush_readable(flush).await?;
            left_out.retain(|commit| still.contains(commit));
            if left_out.len() == before {
                // Another process goes on with the tables.
                break;
            }
        }
        Ok(())
    }

    /// Flushes all tables that have rows in the outbox, or those before somebody waits for the
    /// lease; returns the first error. Returns the names of the commits for whose rows there was no
    /// room.
    async fn flush_readable(&self, flush: &mut Flush) -> Result<BTreeSet<String>> {
        let waiting = self.context.components().stores.outbox.waiting().await?;
        flush.report.unfinished = waiting.unfinished;
        flush.report.unfinished.extend_from_slice(&waiting.left_out);
        let mut failure = None;
        for (table, last) in waiting.tables {
            // An error of one table does not keep the others from being flushed.
            if let Err(error) = self.flush_table(&table, last, flush).await {
                failure.get_or_insert(error);
            }
            if flush.report.busy {
                break;
            }
        }
        let left_out = waiting.left_out.into_iter().collect();
        failure.map_or(Ok(left_out), Err)
    }

    /// Appends what is in the outbox now to the offline tables; waits for another process that
    /// does so, for up to a minute.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when the other process does not finish in time, and the errors
    /// of the stores.
    pub async fn flush_all(&self) -> Result<()> {
        self.flush_in_turn().await.map(drop)
    }

    /// Appends everything to the offline tables that was committed before the call, also by commits
    /// that another process is still finishing, which it waits for.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when another process flushes for a minute,
    /// [`Kind::Unavailable`] when a commit is not finished within that time, and the errors of the
    /// stores.
    pub async fn flush_finished(&self) -> Result<()> {
        let mut commits = self.flush_in_turn().await?.unfinished;
        let mut attempts = Attempts::new();
        while !commits.is_empty() {
            if !attempts.wait().await {
                let message = format!(
                    "{} commits of events have not been finished for a minute; try again",
                    commits.len()
                );
                return Err(Error::new(Kind::Unavailable, message));
            }
            let unfinished = self.flush_in_turn().await?.unfinished;
            commits.retain(|commit| unfinished.contains(commit));
        }
        Ok(())
    }

    /// Appends the rows of one table up to and including sequence number `through`, in commits of
    /// at most [`MAX_ROWS`] rows; the last one may have further rows. Ends before that when the
    /// lease is left to somebody else. It is boxed, so that it is compiled in this crate alone, and
    /// not in each that awaits it.
    fn flush_table<'a>(
        &'a self,
        table: &'a str,
        through: u64,
        flush: &'a mut Flush,
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
            // An earlier flush may have died after its commit and left its rows in the outbox.
            let mut done = match offline.txn_version(table, &self.outbox_app_id()).await {
                Err(e) if e.kind() == Kind::NotFound => None,
                other => other?,
            };
            let mut appended = done.map_or(0, |done| u64::try_from(done).unwrap_or(0));
            if appended > 0 {
                outbox.trim(table, appended).await?;
            }
            while appended < through {
                if self.is_left_to_others(flush).await? {
                    return Ok(());
                }
                let now = machine_clock.now();
                let renewed = flush.lease.renew(metadata.as_ref(), now, LEASE_DURATION);
                renewed.await?;
                let entries = outbox.read(table, MAX_ROWS).await?;
                let Some(last) = self.append(&definition, &entries, done).await? else {
                    return Ok(());
                };
                (done, appended) = (Some(txn_version(last)), last);
                flush.report.rows += entries.len() as u64;
                outbox.trim(table, last).await?;
            }
            Ok(())
        })
    }

    /// Returns whether a flush ends although there are rows left, because somebody waits for the
    /// lease. Every flush makes one commit at least, so that the outbox is emptied whoever waits.
    async fn is_left_to_others(&self, flush: &mut Flush) -> Result<bool> {
        if flush.is_awaited || flush.report.rows == 0 {
            return Ok(false);
        }
        flush.report.busy = self.context.is_leased(NEXT_LEASE).await?;
        Ok(flush.report.busy)
    }

    /// Appends rows of the outbox to their table, by one commit that follows the one of version
    /// `done`. Returns the last sequence number, or `None` if there are no rows, or if another
    /// process has made a commit in the meantime, which goes on from there.
    async fn append(
        &self,
        table: &TableDef,
        entries: &[OutboxEntry],
        done: Option<i64>,
    ) -> Result<Option<u64>> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Ok(None);
        };
        let (first, last) = (first.sequence, last.sequence);
        let batch = batch(table, entries)?;
        let batch = self.without_deleted(table, batch).await?;
        let folder = format!("events/{first:020}");
        let offline = &self.context.components().stores.offline;
        let mut writer = match offline.writer(&table.name, &folder).await {
            // Tables that are rarely needed, such as late tables, are created with their first
            // rows.
            Err(e) if e.kind() == Kind::NotFound => {
                offline
                    .ensure(&table.name, &table.schema().to_arrow())
                    .await?;
                offline.writer(&table.name, &folder).await?
            }
            other => other?,
        };
        writer.write(&batch).await?;
        let txn = Txn {
            app_id: self.outbox_app_id(),
            version: txn_version(last),
            follows: Follows::Exactly(done),
        };
        match writer.commit(&txn, None).await {
            Ok(_) => Ok(Some(last)),
            Err(e) if e.kind() == Kind::Conflict => Ok(None),
            Err(e) => Err(e),
        }
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
    /// minute. No further flush begins meanwhile, and one that nobody waits for ends soon.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when the other process does not release it in time, and the
    /// errors of the metadata store.
    pub async fn outbox_lease(&self) -> Result<Lease> {
        let (mut turn, mut attempts) = (None, Attempts::new());
        let lease = loop {
            if let Leased::Mine(lease) = self.context.lease(LEASE_NAME, LEASE_DURATION).await? {
                break Some(lease);
            }
            turn = self.next_turn(turn).await?;
            if !attempts.wait().await {
                break None;
            }
        };
        if let Some(turn) = turn {
            let metadata = &self.context.components().stores.metadata;
            turn.release(metadata.as_ref()).await?;
        }
        lease.ok_or_else(|| Error::new(Kind::Conflict, BUSY_MESSAGE))
    }

    /// Claims the next turn, or renews the claim. Returns `None` while another process has it.
    async fn next_turn(&self, turn: Option<Lease>) -> Result<Option<Lease>> {
        let Some(mut turn) = turn else {
            let leased = self.context.lease(NEXT_LEASE, NEXT_DURATION).await?;
            return Ok(match leased {
                Leased::Mine(turn) => Some(turn),
                Leased::HeldBy(_) => None,
            });
        };
        let metadata = &self.context.components().stores.metadata;
        let now = self.context.machine_now();
        let renewed = turn.renew(metadata.as_ref(), now, NEXT_DURATION).await;
        match renewed {
            Ok(()) => Ok(Some(turn)),
            Err(e) if e.kind() == Kind::Conflict => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// Returns the version of the commit whose last row has this sequence number.
fn txn_version(sequence: u64) -> i64 {
    i64::try_from(sequence).expect("a counter of rows fits 63 bits")
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
