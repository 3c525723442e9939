//! Merges stored items.

use super::encoding::{EntryReader, FORMAT, Header, open, put_entry};
use super::layout::Span;
use crate::Timestamp;
use crate::aggregate::states::{AnyState, StateKind};
use crate::bytes::{DamagedError, Reader, put_varint};

/// Merges two items of one feature group that have no event in common.
///
/// # Errors
/// Returns [`DamagedError`] when one is not an item, or they are of different groups.
pub fn merge_items(left: &[u8], right: &[u8]) -> Result<Vec<u8>, DamagedError> {
    let ((mut a, newest), (mut b, other)) = (open(left)?, open(right)?);
    let newest = newest.max(other);
    let mut out = Vec::with_capacity(left.len() + 64);
    out.push(FORMAT);
    out.extend_from_slice(&newest.as_micros().to_le_bytes());
    let count = a.varint()?;
    if b.varint()? != count {
        return Err(b.damaged());
    }
    put_varint(&mut out, count);
    let mut merged = Vec::with_capacity(left.len());
    for _ in 0..count {
        let start = left.len() - a.rest();
        let header = Header::decode(&mut a)?;
        let end = left.len() - a.rest();
        let bytes = &left[start..end];
        if b.take(bytes.len())? != bytes {
            return Err(b.damaged());
        }
        out.extend_from_slice(bytes);
        merged.clear();
        let entries = merge_series(&header, newest, &mut a, &mut b, &mut merged)?;
        put_varint(&mut out, entries);
        out.extend_from_slice(&merged);
    }
    Ok(out)
}

/// Merges the entries of a series in order, and returns how many there are. Most of them are in one
/// item only and are copied as they are.
fn merge_series(
    header: &Header,
    newest: Timestamp,
    left: &mut Reader<'_>,
    right: &mut Reader<'_>,
    out: &mut Vec<u8>,
) -> Result<u64, DamagedError> {
    let horizon = header.span.horizon(header.retention, newest);
    let is_kept = |place: i64| place > horizon || header.span == Span::Lifetime;
    let (mut lefts, mut rights) = (EntryReader::new(left)?, EntryReader::new(right)?);
    let (mut a, mut b) = (lefts.next()?, rights.next()?);
    let mut count = 0;
    let mut both = Vec::new();
    loop {
        let is_tile = header.span != Span::Exact;
        let (place, bytes) = match (a, b) {
            (None, None) => return Ok(count),
            (Some(x), Some(y)) if is_tile && x.0 == y.0 => {
                both.clear();
                merge_tiles(&header.kinds, x.1, y.1, &mut both)?;
                (a, b) = (lefts.next()?, rights.next()?);
                (x.0, both.as_slice())
            }
            (Some(x), y) if y.is_none_or(|y| x <= y) => {
                a = lefts.next()?;
                x
            }
            (_, Some(y)) => {
                b = rights.next()?;
                y
            }
            (Some(_), None) => unreachable!("it is less than nothing"),
        };
        if is_kept(place) {
            put_entry(out, place, bytes);
            count += 1;
        }
    }
}

fn merge_tiles(
    kinds: &[StateKind],
    left: &[u8],
    right: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), DamagedError> {
    let (mut a, mut b) = (Reader::new(left), Reader::new(right));
    for kind in kinds {
        let mut state = AnyState::decode(*kind, &mut a)?;
        state.merge_encoded(*kind, &mut b)?;
        state.encode(out);
    }
    Ok(())
}
