//! Computes the values of aggregates from stored items.

use super::encoding::{Entry, EntryReader, Header, open};
use super::layout::{ItemAggregate, ItemLayout, Series, Span};
use crate::Timestamp;
use crate::aggregate::cell::{AggregateValue, Cell, CellRef};
use crate::aggregate::states::AnyState;
use crate::bytes::{DamagedError, Reader};
use crate::rules::Arrival;

/// Returns the values of a group's aggregates at `now`, computed from an entity's stored item.
///
/// # Errors
/// Returns [`DamagedError`] when `item` is not an encoded item of this layout.
pub fn read(
    layout: &ItemLayout,
    item: &[u8],
    now: Timestamp,
) -> Result<Vec<AggregateValue>, DamagedError> {
    let (mut reader, _) = open(item)?;
    if reader.varint()? != layout.series.len() as u64 {
        return Err(reader.damaged());
    }
    let mut answers = vec![AggregateValue::Null; layout.aggregates.len()];
    for (index, series) in layout.series.iter().enumerate() {
        let header = Header::decode(&mut reader)?;
        if header.span != series.span || header.retention != series.retention {
            return Err(reader.damaged());
        }
        let mut entries = Vec::new();
        let mut stored = EntryReader::new(&mut reader)?;
        while let Some(entry) = stored.next()? {
            entries.push(entry);
        }
        let mut aggregates: Vec<(usize, &ItemAggregate)> = layout
            .aggregates
            .iter()
            .enumerate()
            .filter(|(_, aggregate)| aggregate.series == index)
            .collect();
        aggregates.sort_by_key(|(_, aggregate)| aggregate.window.width);
        if series.span == Span::Exact {
            read_events(series, &entries, &aggregates, now, &mut answers)?;
        } else {
            read_tiles(series, &entries, &aggregates, now, &mut answers)?;
        }
    }
    Ok(answers)
}

/// Reads windows from the narrowest to the widest, and tiles from the newest to the oldest, so that
/// each tile is merged once.
fn read_tiles(
    series: &Series,
    entries: &[Entry<'_>],
    aggregates: &[(usize, &ItemAggregate)],
    now: Timestamp,
    answers: &mut [AggregateValue],
) -> Result<(), DamagedError> {
    let fresh = series.accumulators.iter().map(|a| AnyState::new(a.kind));
    let mut states: Vec<AnyState> = fresh.collect();
    let mut next = entries.len();
    for (index, aggregate) in aggregates {
        let window = aggregate.window;
        let start = match series.span {
            Span::Tiles(hop) => window.start(now).as_micros().div_euclid(hop.as_micros()),
            Span::Exact | Span::Lifetime => i64::MIN,
        };
        while next > 0 && entries[next - 1].0 > start {
            next -= 1;
            let mut reader = Reader::new(entries[next].1);
            for (state, accumulator) in states.iter_mut().zip(&series.accumulators) {
                state.merge_encoded(accumulator.kind, &mut reader)?;
            }
        }
        answers[*index] = states[aggregate.slot].answer(aggregate.statistic);
    }
    Ok(())
}

/// Computes the aggregates whose windows need single events.
fn read_events(
    series: &Series,
    entries: &[Entry<'_>],
    aggregates: &[(usize, &ItemAggregate)],
    now: Timestamp,
    answers: &mut [AggregateValue],
) -> Result<(), DamagedError> {
    type Event = (i64, Arrival, Vec<Option<Cell>>);
    let decode_event = |(time, bytes): &Entry<'_>| -> Result<Event, DamagedError> {
        let mut reader = Reader::new(bytes);
        let mut arrival = Arrival::unknown(u64::from_le_bytes(reader.array()?));
        let cells = series.columns.iter().map(|_| Cell::decode(&mut reader));
        let cells = cells.collect::<Result<_, _>>()?;
        if reader.rest() > 0 {
            arrival.created = Timestamp::from_micros(reader.signed()?);
        }
        Ok((*time, arrival, cells))
    };
    let events: Vec<Event> = entries.iter().map(decode_event).collect::<Result<_, _>>()?;
    for (index, aggregate) in aggregates {
        let column = aggregate.column;
        let start = aggregate.window.start(now).as_micros();
        let slot = column.and_then(|column| series.columns.iter().position(|c| *c == column));
        let mut state = AnyState::new(aggregate.statistic.kind());
        // Events are sorted by time; those up to `start` are before the window.
        let first = events.partition_point(|(time, ..)| *time <= start);
        for (time, arrival, cells) in &events[first..] {
            let cell = match slot {
                None => Some(CellRef::Int(0)),
                Some(slot) => cells[slot].as_ref().map(Cell::as_ref),
            };
            cell.into_iter()
                .for_each(|cell| state.add(Timestamp::from_micros(*time), *arrival, cell));
        }
        answers[*index] = state.answer(aggregate.statistic);
    }
    Ok(())
}
