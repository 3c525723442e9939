//! The encodings of keys and values in the databases of the environment.
//!
//! Numbers in keys are big endian, and times have their sign bit flipped, so that keys sort by
//! value. Numbers in values are little endian.

use bytes::Bytes;
use wafer_core::Timestamp;
use wafer_core::rules::RowVersion;

use crate::{Error, Kind, OnlineKey, OnlineRow, OutboxRow};

pub(super) fn sortable(time: Timestamp) -> [u8; 8] {
    (time.as_micros() ^ i64::MIN).to_be_bytes()
}

pub(super) fn from_sortable(bytes: &[u8]) -> Option<Timestamp> {
    let bytes: [u8; 8] = bytes.get(..8)?.try_into().ok()?;
    Some(Timestamp::from_micros(i64::from_be_bytes(bytes) ^ i64::MIN))
}

pub(super) fn prefixed(name: &str, rest: &[u8]) -> Vec<u8> {
    [name.as_bytes(), &[0], rest].concat()
}

pub(super) fn online_key(key: &OnlineKey) -> Vec<u8> {
    prefixed(&key.group, key.entity.as_bytes())
}

pub(super) fn online_value(row: &OnlineRow) -> Vec<u8> {
    let mut value = Vec::with_capacity(32 + row.values.len());
    value.extend_from_slice(&row.version.event.as_micros().to_le_bytes());
    value.extend_from_slice(&row.version.created.as_micros().to_le_bytes());
    value.extend_from_slice(&row.version.id.to_le_bytes());
    value.extend_from_slice(&row.fingerprint.to_le_bytes());
    value.extend_from_slice(&row.values);
    value
}

pub(super) fn take_i64(bytes: &[u8], at: usize) -> Option<i64> {
    Some(i64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

pub(super) fn row_version(value: &[u8]) -> Option<RowVersion> {
    Some(RowVersion {
        event: Timestamp::from_micros(take_i64(value, 0)?),
        created: Timestamp::from_micros(take_i64(value, 8)?),
        id: take_i64(value, 16)? as u64,
    })
}

pub(super) fn online_row(value: &[u8]) -> Option<OnlineRow> {
    Some(OnlineRow {
        version: row_version(value)?,
        fingerprint: take_i64(value, 24)? as u64,
        values: Bytes::copy_from_slice(value.get(32..)?),
    })
}

pub(super) fn outbox_value(row: &OutboxRow) -> Vec<u8> {
    let id = row.event_id.as_bytes();
    let mut value = Vec::with_capacity(28 + id.len() + row.values.len());
    value.extend_from_slice(&row.event.as_micros().to_le_bytes());
    value.extend_from_slice(&row.available.as_micros().to_le_bytes());
    value.extend_from_slice(&row.created.as_micros().to_le_bytes());
    value.extend_from_slice(&(id.len() as u32).to_le_bytes());
    value.extend_from_slice(id);
    value.extend_from_slice(&row.values);
    value
}

pub(super) fn outbox_row(table: &str, value: &[u8]) -> Option<OutboxRow> {
    let time = |at| take_i64(value, at).map(Timestamp::from_micros);
    let length = u32::from_le_bytes(value.get(24..28)?.try_into().ok()?) as usize;
    Some(OutboxRow {
        table: table.to_owned(),
        event: time(0)?,
        available: time(8)?,
        created: time(16)?,
        event_id: String::from_utf8(value.get(28..28 + length)?.to_vec()).ok()?,
        values: Bytes::copy_from_slice(value.get(28 + length..)?),
    })
}

pub(super) fn damaged(what: &str) -> Error {
    Error::new(Kind::Corrupt, format!("a stored {what} is damaged"))
}
