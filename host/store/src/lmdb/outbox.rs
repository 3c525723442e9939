//! The outbox: rows that wait to be appended to the offline tables.

use std::ops::Bound;

use async_trait::async_trait;
use heed::RoTxn;
use wafer_core::Timestamp;

use super::encoding::{damaged, outbox_created, outbox_row, prefixed};
use super::error;
use super::{Lmdb, Tables, last_number};
use crate::{Outbox, OutboxContents, OutboxEntry, Result};

/// The bytes of a row's sequence number, which is the last part of its key.
const SEQUENCE_BYTES: usize = 8;

/// Returns the sequence number of the last row that has been trimmed from a table's outbox.
pub(super) fn trimmed_through(txn: &RoTxn<'_>, tables: &Tables, table: &str) -> error::Result<u64> {
    let prefix = prefixed(table, &[]);
    let first = tables
        .outbox
        .prefix_iter(txn, &prefix)?
        .next()
        .transpose()?;
    let number = first.and_then(|(place, _)| place.get(prefix.len()..)?.try_into().ok());
    match number.map(u64::from_be_bytes) {
        Some(first) => Ok(first.saturating_sub(1)),
        None => Ok(last_number(
            txn,
            tables,
            &prefixed("outbox", table.as_bytes()),
        )?),
    }
}

/// Returns the place of the last row that the table of a row could have. The next table begins
/// after it.
fn end_of_table(place: &[u8]) -> Vec<u8> {
    let table = place.len().saturating_sub(SEQUENCE_BYTES);
    [&place[..table], &u64::MAX.to_be_bytes()].concat()
}

/// Returns the name of a row's table and its sequence number, from its place.
fn parts(place: &[u8]) -> Option<(&[u8], u64)> {
    let (table, sequence) = place.split_last_chunk::<SEQUENCE_BYTES>()?;
    let (_, name) = table.split_last()?;
    Some((name, u64::from_be_bytes(*sequence)))
}

#[async_trait]
impl Outbox for Lmdb {
    async fn has_rows(&self) -> Result<bool> {
        self.read(|txn, tables| Ok(tables.outbox.first(txn)?.is_some()))
    }

    async fn waiting_since(&self) -> Result<Option<Timestamp>> {
        self.read(|txn, tables| {
            let mut oldest: Option<Timestamp> = None;
            let mut first = tables.outbox.first(txn)?;
            while let Some((place, value)) = first {
                let created = outbox_created(value).ok_or_else(|| damaged("outbox row"))?;
                oldest = Some(oldest.map_or(created, |oldest| oldest.min(created)));
                // The first row of a table is its oldest one.
                first = tables.outbox.get_greater_than(txn, &end_of_table(place))?;
            }
            Ok(oldest)
        })
    }

    async fn waiting(&self) -> Result<OutboxContents> {
        self.read(|txn, tables| {
            let mut found: Vec<(String, u64)> = Vec::new();
            let mut first = tables.outbox.first(txn)?;
            while let Some((place, _)) = first {
                let end = end_of_table(place);
                // The first row of the table is one that is not after its end.
                if let Some((last, _)) = tables.outbox.get_lower_than_or_equal_to(txn, &end)? {
                    let (name, sequence) = parts(last).ok_or_else(|| damaged("outbox row"))?;
                    found.push((String::from_utf8_lossy(name).into_owned(), sequence));
                }
                first = tables.outbox.get_greater_than(txn, &end)?;
            }
            Ok(OutboxContents {
                tables: found,
                ..OutboxContents::default()
            })
        })
    }

    async fn read(&self, table: &str, limit: usize) -> Result<Vec<OutboxEntry>> {
        let prefix = prefixed(table, &[]);
        let entries = self.read(|txn, tables| {
            tables
                .outbox
                .prefix_iter(txn, &prefix)?
                .take(limit)
                .map(|entry| {
                    let (place, value) = entry?;
                    let sequence = place.get(prefix.len()..).and_then(|s| s.try_into().ok());
                    Ok(sequence
                        .map(u64::from_be_bytes)
                        .zip(outbox_row(table, value)))
                })
                .collect::<error::Result<Vec<_>>>()
        })?;
        entries
            .into_iter()
            .map(|entry| {
                let (sequence, row) = entry.ok_or_else(|| damaged("outbox row"))?;
                Ok(OutboxEntry { sequence, row })
            })
            .collect()
    }

    async fn trim(&self, table: &str, through: u64) -> Result<()> {
        let first = prefixed(table, &0u64.to_be_bytes());
        let last = prefixed(table, &through.to_be_bytes());
        self.write(move |txn, tables| {
            let range = (
                Bound::Included(first.as_slice()),
                Bound::Included(last.as_slice()),
            );
            tables.outbox.delete_range(txn, &range)?;
            Ok(())
        })
        .await
    }
}
