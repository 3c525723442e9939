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
    let mut value = Vec::with_capacity(ROW_START + row.values.len());
    value.extend_from_slice(&row.version.event.as_micros().to_le_bytes());
    value.extend_from_slice(&row.version.created.as_micros().to_le_bytes());
    value.extend_from_slice(&row.version.order.to_le_bytes());
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
        order: take_i64(value, 16)? as u64,
    })
}

/// The bytes of an online value before the values of its row.
const ROW_START: usize = 32;

/// Returns the number of bytes of the values in an online value.
pub(super) fn values_bytes(value: &[u8]) -> u64 {
    value.len().saturating_sub(ROW_START) as u64
}

pub(super) fn online_row(value: &[u8]) -> Option<OnlineRow> {
    Some(OnlineRow {
        version: row_version(value)?,
        fingerprint: take_i64(value, 24)? as u64,
        values: Bytes::copy_from_slice(value.get(ROW_START..)?),
    })
}

/// The bit of the length of an outbox row's identity that says that an order of arrival follows the
/// identity. Rows that were written before it was kept have none.
const ORDERED: u32 = 1 << 31;

pub(super) fn outbox_value(row: &OutboxRow) -> Vec<u8> {
    let id = row.event_id.as_bytes();
    let mut value = Vec::with_capacity(36 + id.len() + row.values.len());
    // Bodies of requests are far shorter than 2^31 bytes.
    let length = id.len() as u32 & !ORDERED;
    value.extend_from_slice(&row.event.as_micros().to_le_bytes());
    value.extend_from_slice(&row.available.as_micros().to_le_bytes());
    value.extend_from_slice(&row.created.as_micros().to_le_bytes());
    let ordered = row.order.map_or(0, |_| ORDERED);
    value.extend_from_slice(&(length | ordered).to_le_bytes());
    value.extend_from_slice(id);
    if let Some(order) = row.order {
        value.extend_from_slice(&order.to_le_bytes());
    }
    value.extend_from_slice(&row.values);
    value
}

pub(super) fn outbox_row(table: &str, value: &[u8]) -> Option<OutboxRow> {
    let time = |at| take_i64(value, at).map(Timestamp::from_micros);
    let length = u32::from_le_bytes(value.get(24..28)?.try_into().ok()?);
    let end = 28 + (length & !ORDERED) as usize;
    let (order, values) = match length & ORDERED {
        0 => (None, end),
        _ => (Some(take_i64(value, end)? as u64), end + 8),
    };
    Some(OutboxRow {
        table: table.to_owned(),
        event: time(0)?,
        available: time(8)?,
        created: time(16)?,
        event_id: String::from_utf8(value.get(28..end)?.to_vec()).ok()?,
        values: Bytes::copy_from_slice(value.get(values..)?),
        order,
    })
}

/// Returns the creation time of the row in an outbox value.
pub(super) fn outbox_created(value: &[u8]) -> Option<Timestamp> {
    take_i64(value, 16).map(Timestamp::from_micros)
}

pub(super) fn damaged(what: &str) -> Error {
    Error::new(Kind::Corrupt, format!("a stored {what} is damaged"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outbox_rows_are_read_with_and_without_an_order_of_arrival() {
        let row = |order| OutboxRow {
            table: "t".to_owned(),
            event: Timestamp::from_micros(-1),
            available: Timestamp::from_micros(2),
            created: Timestamp::from_micros(3),
            event_id: "é".to_owned(),
            values: Bytes::from_static(b"values"),
            order,
        };
        for order in [None, Some(0), Some(u64::MAX >> 1)] {
            let stored = outbox_value(&row(order));
            assert_eq!(outbox_row("t", &stored), Some(row(order)));
            assert_eq!(outbox_created(&stored), Some(row(order).created));
            assert_eq!(outbox_row("t", &stored[..29]), None);
        }
        // A row as it was stored before the order of arrival was kept.
        let times = [-1i64, 2, 3].map(i64::to_le_bytes).concat();
        let before = [&times[..], &[2, 0, 0, 0], "é".as_bytes(), b"values"].concat();
        assert_eq!(outbox_row("t", &before), Some(row(None)));
        assert_eq!(outbox_value(&row(None)), before);
    }
}
