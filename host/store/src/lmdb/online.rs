//! Online rows and the commits of events.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use heed::{PutFlags, RoTxn, RwTxn, WithoutTls};
use wafer_core::Timestamp;
use wafer_core::aggregate::is_item;

use super::encoding::{
    damaged, from_sortable, online_key, online_row, online_value, outbox_row, outbox_value,
    prefixed, sortable, values_bytes,
};
use super::error::{self, LmdbError};
use super::outbox::trimmed_through;
use super::{Lmdb, Tables, next_number};
use crate::folder::check_room;
use crate::online::combine;
use crate::{
    CountRead, EarlyWrite, Error, EventCommit, EventOutcome, GroupContent, Kind, OnlineKey,
    OnlineRow, OnlineStore, OnlineWrite, PutCounts, Result, Upkeep,
};

/// Maximum number of expired event identities that one commit removes, to keep it short.
const MAX_FORGOTTEN: usize = 1_000;

/// Returns the row that is stored under a key.
fn stored_row(
    txn: &RoTxn<'_, WithoutTls>,
    tables: &Tables,
    key: &[u8],
) -> error::Result<Option<OnlineRow>> {
    let value = tables.online.get(txn, key)?;
    Ok(value.map(unpacked).transpose()?)
}

/// Returns the row in a stored value.
fn unpacked(value: &[u8]) -> Result<OnlineRow> {
    online_row(value).ok_or_else(|| damaged("row"))
}

/// Returns the row in a stored value of a row that is not due.
fn unpacked_early(value: &[u8]) -> Result<OnlineRow> {
    online_row(value).ok_or_else(damaged_early)
}

fn damaged_early() -> Error {
    damaged("row that is not due")
}

/// Returns the rows of keys as they are at `now`: combined with the early rows that are due, which
/// stay where they are. A reader may have a clock of its own, and must not change what others see.
/// Values are counted before they are copied.
fn rows_at(
    txn: &RoTxn<'_, WithoutTls>,
    tables: &Tables,
    keys: &[Vec<u8>],
    now: Timestamp,
    count: CountRead<'_>,
) -> error::Result<Vec<Option<OnlineRow>>> {
    let mut bytes = 0;
    let mut count = |value: &[u8]| {
        bytes += values_bytes(value);
        count(bytes)
    };
    let mut rows = Vec::with_capacity(keys.len());
    for key in keys {
        let Some(value) = tables.online.get(txn, key)? else {
            rows.push(None);
            continue;
        };
        count(value)?;
        rows.push(Some(unpacked(value)?));
    }
    // Few early rows are due at a time where a server applies them, and mostly none.
    let mut positions: Option<HashMap<&[u8], Vec<usize>>> = None;
    for entry in tables.early.iter(txn)? {
        let (place, entry) = entry?;
        if from_sortable(place).is_some_and(|due| due > now) {
            break;
        }
        let (key, value) = early_entry(entry).ok_or_else(damaged_early)?;
        let positions = positions.get_or_insert_with(|| positions_of(keys));
        for position in positions.get(key).into_iter().flatten() {
            count(value)?;
            let early = unpacked_early(value)?;
            let row = &mut rows[*position];
            if let Some(combined) = combine(row.as_ref(), &early)? {
                *row = Some(combined);
            }
        }
    }
    Ok(rows)
}

/// Returns the positions of each key in a list of keys.
fn positions_of(keys: &[Vec<u8>]) -> HashMap<&[u8], Vec<usize>> {
    let mut positions: HashMap<&[u8], Vec<usize>> = HashMap::new();
    for (position, key) in keys.iter().enumerate() {
        positions.entry(key).or_default().push(position);
    }
    positions
}

/// Writes a row by [`combine`], and returns whether that changed anything.
fn put_row(
    txn: &mut RwTxn<'_>,
    tables: &Tables,
    key: &[u8],
    row: &OnlineRow,
) -> error::Result<bool> {
    let stored = stored_row(txn, tables, key)?;
    let combined = combine(stored.as_ref(), row)?;
    if let Some(row) = &combined {
        tables.online.put(txn, key, &online_value(row))?;
    }
    Ok(combined.is_some())
}

fn put_early(txn: &mut RwTxn<'_>, tables: &Tables, early: &EarlyWrite) -> error::Result<()> {
    let key = online_key(&early.write.key);
    let length = (key.len() as u32).to_le_bytes();
    let number = next_number(txn, tables, b"early")?.to_be_bytes();
    let place = [sortable(early.due), number].concat();
    let entry = [&length[..], &key, &online_value(&early.write.row)].concat();
    Ok(tables.early.put(txn, &place, &entry)?)
}

/// Splits an entry of `early` into the online key and the online value.
fn early_entry(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = entry.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

/// Removes the early rows whose online key and value match `matches`.
fn forget_early(
    txn: &mut RwTxn<'_>,
    tables: &Tables,
    matches: impl Fn(&[u8], &[u8]) -> bool,
) -> error::Result<()> {
    let mut places = Vec::new();
    for entry in tables.early.iter(txn)? {
        let (place, entry) = entry?;
        if early_entry(entry).is_some_and(|(key, value)| matches(key, value)) {
            places.push(place.to_vec());
        }
    }
    for place in places {
        tables.early.delete(txn, &place)?;
    }
    Ok(())
}

fn replace_group(
    txn: &mut RwTxn<'_>,
    tables: &Tables,
    group: &str,
    content: &GroupContent,
) -> error::Result<()> {
    let prefix = prefixed(group, &[]);
    let mut tombstones = Vec::new();
    let mut end = prefix.clone();
    for entry in tables.online.prefix_iter(txn, &prefix)? {
        let (key, value) = entry?;
        end = key.to_vec();
        if online_row(value).is_some_and(|row| row.is_tombstone()) {
            tombstones.push((key.to_vec(), value.to_vec()));
        }
    }
    let range = (
        Bound::Included(prefix.as_slice()),
        Bound::Included(end.as_slice()),
    );
    tables.online.delete_range(txn, &range)?;
    forget_early(txn, tables, |key, _| key.starts_with(&prefix))?;
    for (key, value) in &tombstones {
        tables.online.put(txn, key, value)?;
    }
    for write in &content.rows {
        put_row(txn, tables, &online_key(&write.key), &write.row)?;
    }
    for early in &content.early {
        put_early(txn, tables, early)?;
    }
    let first = prefixed(
        group,
        &(content.outbox_after.saturating_add(1)).to_be_bytes(),
    );
    let last = prefixed(group, &u64::MAX.to_be_bytes());
    let mut waiting = Vec::new();
    let range = (
        Bound::Included(first.as_slice()),
        Bound::Included(last.as_slice()),
    );
    for entry in tables.outbox.range(txn, &range)? {
        let (_, value) = entry?;
        let row = outbox_row(group, value).ok_or_else(|| damaged("outbox row"))?;
        waiting.push((content.from_outbox)(&row)?);
    }
    for early in &waiting {
        if early.due <= content.now {
            put_row(txn, tables, &online_key(&early.write.key), &early.write.row)?;
        } else {
            put_early(txn, tables, early)?;
        }
    }
    Ok(())
}

fn apply_due(txn: &mut RwTxn<'_>, tables: &Tables, now: Timestamp) -> error::Result<()> {
    while let Some((place, entry)) = tables.early.first(txn)? {
        if from_sortable(place).is_some_and(|due| due > now) {
            break;
        }
        let (place, entry) = (place.to_vec(), entry.to_vec());
        let (key, value) = early_entry(&entry).ok_or_else(damaged_early)?;
        let row = unpacked_early(value)?;
        put_row(txn, tables, key, &row)?;
        tables.early.delete(txn, &place)?;
    }
    Ok(())
}

fn forget_expired(txn: &mut RwTxn<'_>, tables: &Tables, now: Timestamp) -> error::Result<()> {
    let expired: Vec<Vec<u8>> = tables
        .forget
        .iter(txn)?
        .take(MAX_FORGOTTEN)
        .map(|entry| entry.map(|(key, _)| key.to_vec()))
        .take_while(|key| {
            key.as_ref()
                .map_or(true, |k| from_sortable(k).is_some_and(|t| t < now))
        })
        .collect::<heed::Result<_>>()?;
    for key in expired {
        tables.seen.delete(txn, &key[8..])?;
        tables.forget.delete(txn, &key)?;
    }
    Ok(())
}

fn commit_event(
    txn: &mut RwTxn<'_>,
    tables: &Tables,
    event: &EventCommit,
) -> error::Result<EventOutcome> {
    let digest = wafer_core::Digest::of(event.id.as_bytes());
    let seen = prefixed(&event.source, digest.as_bytes());
    if tables.seen.get(txn, &seen)?.is_some() {
        return Ok(EventOutcome::Duplicate);
    }
    let until = sortable(event.remember_until);
    tables.seen.put(txn, &seen, &until)?;
    tables.forget.put(txn, &[&until[..], &seen].concat(), &[])?;
    let mut older = 0;
    for write in &event.writes {
        let applied = put_row(txn, tables, &online_key(&write.key), &write.row)?;
        older += u32::from(!applied);
    }
    for early in &event.early {
        put_early(txn, tables, early)?;
    }
    for row in &event.outbox {
        let sequence = next_number(txn, tables, &prefixed("outbox", row.table.as_bytes()))?;
        let place = prefixed(&row.table, &sequence.to_be_bytes());
        tables
            .outbox
            .put_with_flags(txn, PutFlags::NO_OVERWRITE, &place, &outbox_value(row))?;
    }
    Ok(EventOutcome::Committed { older })
}

#[async_trait]
impl OnlineStore for Lmdb {
    async fn get_many_counted(
        &self,
        keys: &[OnlineKey],
        now: Timestamp,
        count: CountRead<'_>,
    ) -> Result<Vec<Option<OnlineRow>>> {
        let keys: Vec<Vec<u8>> = keys.iter().map(online_key).collect();
        let rows = self.read(|txn, tables| rows_at(txn, tables, &keys, now, count))?;
        let is_there = |row: &OnlineRow| !row.is_tombstone();
        Ok(rows.into_iter().map(|row| row.filter(is_there)).collect())
    }

    async fn put_many(&self, writes: Vec<OnlineWrite>) -> Result<PutCounts> {
        self.write(move |txn, tables| {
            let mut counts = PutCounts::default();
            for OnlineWrite { key, row, .. } in &writes {
                if put_row(txn, tables, &online_key(key), row)? {
                    counts.applied += 1;
                } else {
                    counts.older += 1;
                }
            }
            Ok(counts)
        })
        .await
    }

    async fn commit_events(
        &self,
        events: Vec<EventCommit>,
        now: Timestamp,
    ) -> Result<Vec<EventOutcome>> {
        let events = Arc::new(events);
        self.write(move |txn, tables| {
            apply_due(txn, tables, now)?;
            forget_expired(txn, tables, now)?;
            let outcomes = events.iter().map(|event| commit_event(txn, tables, event));
            outcomes.collect::<error::Result<Vec<_>>>()
        })
        .await
    }

    async fn replace_group(&self, group: &str, content: GroupContent) -> Result<()> {
        let group = group.to_owned();
        self.write(move |txn, tables| {
            if trimmed_through(txn, tables, &group)? > content.outbox_after {
                let message = format!(
                    "rows of `{group}` left the outbox for its table while its online rows were rebuilt \
                     from an older version of the table; try again"
                );
                return Err(LmdbError::Refused(Error::new(Kind::Conflict, message)));
            }
            replace_group(txn, tables, &group, &content)
        })
        .await
    }

    async fn delete(&self, keys: Vec<OnlineKey>, deleted: Timestamp) -> Result<()> {
        let keys: Vec<_> = keys.iter().map(online_key).collect();
        let tombstone = OnlineRow::tombstone(deleted);
        self.write(move |txn, tables| {
            let is_before =
                |value: &[u8]| online_row(value).is_none_or(|row| row.version.event <= deleted);
            forget_early(txn, tables, |key, value| {
                keys.iter().any(|k| k == key) && is_before(value)
            })?;
            for key in &keys {
                let stored = tables.online.get(txn, key)?.and_then(online_row);
                // A newer row stays. A newer summary does not, because it includes older
                // events as well.
                let stays =
                    stored.is_some_and(|row| !is_item(&row.values) && row.version.event > deleted);
                if !stays {
                    tables.online.put(txn, key, &online_value(&tombstone))?;
                }
            }
            Ok(())
        })
        .await
    }

    async fn count(&self, group: &str) -> Result<u64> {
        let prefix = prefixed(group, &[]);
        self.read(|txn, tables| {
            tables
                .online
                .prefix_iter(txn, &prefix)?
                .try_fold(0, |count, entry| {
                    entry?;
                    Ok(count + 1)
                })
        })
    }
}

#[async_trait]
impl Upkeep for Lmdb {
    async fn apply_due(&self, now: Timestamp) -> Result<()> {
        let first = self.read(|txn, tables| {
            Ok(tables
                .early
                .first(txn)?
                .and_then(|(place, _)| from_sortable(place)))
        })?;
        match first {
            Some(due) if due <= now => {
                self.write(move |txn, tables| apply_due(txn, tables, now))
                    .await
            }
            _ => Ok(()),
        }
    }

    async fn check_room(&self) -> Result<()> {
        self.files.check()?;
        check_room(&self.path)
    }
}
