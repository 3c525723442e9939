//! Summaries of events from which aggregates are answered.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::Function;
use super::cell::{Answer, Cell, CellRef};
use super::sketch::{Hll, Quantiles};
use crate::bytes::{DamagedError, Reader, put_signed, put_varint};
use crate::exact::ExactSum;

/// The kind of a state. Several functions may share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    Count,
    Sum,
    Moments,
    Min,
    Max,
    First(u32),
    Last(u32),
    Values,
    Hll,
    Quantiles,
}

/// An entry in a list of events. Events of the same time are ordered by identity, then by value, so
/// that the list does not depend on the order of arrival.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    event: i64,
    id: u64,
    cell: Cell,
}

/// A summary of events that does not depend on their order.
#[derive(Clone, Debug)]
pub(super) enum State {
    Count(u64),
    Sum(u64, ExactSum),
    Moments(u64, ExactSum, ExactSum),
    Min(Option<Cell>),
    Max(Option<Cell>),
    /// The earliest events, earliest first, and the maximum length of the list.
    First(u32, Vec<Entry>),
    /// The latest events, latest first, and the maximum length of the list.
    Last(u32, Vec<Reverse<Entry>>),
    Values(BTreeMap<Cell, u64>),
    Hll(Hll),
    Quantiles(Quantiles),
}

impl Kind {
    pub(super) fn encode(self, out: &mut Vec<u8>) {
        let (tag, k) = match self {
            Self::Count => (0, None),
            Self::Sum => (1, None),
            Self::Moments => (2, None),
            Self::Min => (3, None),
            Self::Max => (4, None),
            Self::First(k) => (5, Some(k)),
            Self::Last(k) => (6, Some(k)),
            Self::Values => (7, None),
            Self::Hll => (8, None),
            Self::Quantiles => (9, None),
        };
        out.push(tag);
        k.into_iter().for_each(|k| put_varint(out, k.into()));
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DamagedError> {
        let tag = reader.byte()?;
        let mut k = || {
            let k = reader.varint()?;
            u32::try_from(k).map_err(|_| reader.damaged())
        };
        Ok(match tag {
            0 => Self::Count,
            1 => Self::Sum,
            2 => Self::Moments,
            3 => Self::Min,
            4 => Self::Max,
            5 => Self::First(k()?),
            6 => Self::Last(k()?),
            7 => Self::Values,
            8 => Self::Hll,
            9 => Self::Quantiles,
            _ => return Err(reader.damaged()),
        })
    }
}

/// A cell as a float; NaN for bytes.
fn number(cell: CellRef<'_>) -> f64 {
    match cell {
        CellRef::Int(value) => value as f64,
        CellRef::Float(value) => value,
        CellRef::Bytes(_) => f64::NAN,
    }
}

/// Inserts an entry into a sorted list, of which only the first `k` entries are kept.
fn insert<T: Ord>(list: &mut Vec<T>, k: u32, entry: T) {
    let place = list.partition_point(|other| *other <= entry);
    if place < k as usize {
        list.insert(place, entry);
        list.truncate(k as usize);
    }
}

impl State {
    pub(super) fn new(kind: Kind) -> Self {
        match kind {
            Kind::Count => Self::Count(0),
            Kind::Sum => Self::Sum(0, ExactSum::default()),
            Kind::Moments => Self::Moments(0, ExactSum::default(), ExactSum::default()),
            Kind::Min => Self::Min(None),
            Kind::Max => Self::Max(None),
            Kind::First(k) => Self::First(k, Vec::new()),
            Kind::Last(k) => Self::Last(k, Vec::new()),
            Kind::Values => Self::Values(BTreeMap::new()),
            Kind::Hll => Self::Hll(Hll::default()),
            Kind::Quantiles => Self::Quantiles(Quantiles::default()),
        }
    }

    /// Adds the value of an event.
    pub(super) fn add(&mut self, event: i64, id: u64, cell: CellRef<'_>) {
        match self {
            Self::Count(count) => *count += 1,
            Self::Sum(count, sum) => {
                *count += 1;
                match cell {
                    CellRef::Int(value) => sum.add_int(value),
                    other => sum.add(number(other)),
                }
            }
            Self::Moments(count, sum, squares) => {
                *count += 1;
                match cell {
                    CellRef::Int(value) => {
                        sum.add_int(value);
                        squares.add_int_square(value);
                    }
                    other => {
                        sum.add(number(other));
                        squares.add_square(number(other));
                    }
                }
            }
            Self::Min(least) => {
                if least.as_ref().is_none_or(|least| cell < least.as_ref()) {
                    *least = Some(cell.to_owned());
                }
            }
            Self::Max(greatest) => {
                if greatest.as_ref().is_none_or(|g| cell > g.as_ref()) {
                    *greatest = Some(cell.to_owned());
                }
            }
            Self::First(k, entries) => {
                let cell = cell.to_owned();
                insert(entries, *k, Entry { event, id, cell });
            }
            Self::Last(k, entries) => {
                let cell = cell.to_owned();
                insert(entries, *k, Reverse(Entry { event, id, cell }));
            }
            Self::Values(counts) => *counts.entry(cell.to_owned()).or_default() += 1,
            Self::Hll(sketch) => sketch.add(cell.hash64()),
            Self::Quantiles(sketch) => sketch.add(number(cell)),
        }
    }

    /// Removes a value that was added.
    ///
    /// # Panics
    /// Panics for states that cannot remove values: extremes, lists and HyperLogLog.
    pub(super) fn remove(&mut self, cell: CellRef<'_>) {
        match self {
            Self::Count(count) => *count -= 1,
            Self::Sum(count, sum) => {
                *count -= 1;
                match cell {
                    CellRef::Int(value) => sum.remove_int(value),
                    other => sum.remove(number(other)),
                }
            }
            Self::Moments(count, sum, squares) => {
                *count -= 1;
                match cell {
                    CellRef::Int(value) => {
                        sum.remove_int(value);
                        squares.remove_int_square(value);
                    }
                    other => {
                        sum.remove(number(other));
                        squares.remove_square(number(other));
                    }
                }
            }
            Self::Values(counts) => {
                let cell = cell.to_owned();
                if let Some(count) = counts.get_mut(&cell) {
                    *count -= 1;
                    if *count == 0 {
                        counts.remove(&cell);
                    }
                }
            }
            Self::Quantiles(sketch) => sketch.remove(number(cell)),
            Self::Min(_) | Self::Max(_) | Self::First(..) | Self::Last(..) | Self::Hll(_) => {
                unreachable!("a sliding window keeps these otherwise")
            }
        }
    }

    /// Adds all events of another state of the same kind.
    pub(super) fn merge(&mut self, other: Self) {
        match (self, other) {
            (Self::Count(a), Self::Count(b)) => *a = a.saturating_add(b),
            (Self::Sum(count, sum), Self::Sum(more, other)) => {
                *count = count.saturating_add(more);
                sum.merge(&other);
            }
            (Self::Moments(count, sum, squares), Self::Moments(more, other, other_squares)) => {
                *count = count.saturating_add(more);
                sum.merge(&other);
                squares.merge(&other_squares);
            }
            (Self::Min(a), Self::Min(Some(b))) if a.as_ref().is_none_or(|a| b < *a) => {
                *a = Some(b);
            }
            (Self::Max(a), Self::Max(Some(b))) if a.as_ref().is_none_or(|a| b > *a) => {
                *a = Some(b);
            }
            (Self::First(k, a), Self::First(_, b)) => {
                b.into_iter().for_each(|entry| insert(a, *k, entry));
            }
            (Self::Last(k, a), Self::Last(_, b)) => {
                b.into_iter().for_each(|entry| insert(a, *k, entry));
            }
            (Self::Values(a), Self::Values(b)) => {
                for (cell, count) in b {
                    let stored = a.entry(cell).or_default();
                    *stored = stored.saturating_add(count);
                }
            }
            (Self::Hll(a), Self::Hll(b)) => a.merge(&b),
            (Self::Quantiles(a), Self::Quantiles(b)) => a.merge(&b),
            // The other extreme is missing or does not beat this one. States of different kinds are
            // never merged.
            _ => {}
        }
    }

    /// The answer of a function over these events. Sums are answered as floats; for integers there
    /// is [`int_sum`](Self::int_sum).
    pub(super) fn answer(&self, function: Function) -> Answer {
        let float = |value: f64| Answer::One(Cell::Float(value));
        let int = |value: u64| Answer::One(Cell::Int(i64::try_from(value).unwrap_or(i64::MAX)));
        let one = |cell: Option<&Cell>| cell.cloned().map_or(Answer::Null, Answer::One);
        match self {
            Self::Count(count) => int(*count),
            Self::Sum(0, _) => Answer::Null,
            Self::Sum(count, sum) if function == Function::Mean => {
                float(sum.to_f64() / *count as f64)
            }
            // The caller uses `int_sum` if an int64 is wanted.
            Self::Sum(_, sum) => float(sum.to_f64()),
            Self::Moments(0 | 1, ..) => Answer::Null,
            Self::Moments(count, sum, squares) => {
                let n = *count as f64;
                let variance = sum.deviations(squares, *count) / (n * (n - 1.0));
                float(if function == Function::Stddev {
                    variance.sqrt()
                } else {
                    variance
                })
            }
            Self::Min(cell) | Self::Max(cell) => one(cell.as_ref()),
            Self::First(_, entries) if function == Function::First => {
                one(entries.first().map(|entry| &entry.cell))
            }
            Self::Last(_, entries) if function == Function::Last => {
                one(entries.first().map(|entry| &entry.0.cell))
            }
            Self::First(_, entries) => {
                Answer::Many(entries.iter().map(|entry| entry.cell.clone()).collect())
            }
            Self::Last(_, entries) => {
                Answer::Many(entries.iter().map(|entry| entry.0.cell.clone()).collect())
            }
            Self::Values(counts) => match function {
                Function::TopK(k) => {
                    let mut cells: Vec<_> = counts.iter().collect();
                    // The map is in the order of values and the sort is stable, so equally frequent
                    // values stay in that order.
                    cells.sort_by_key(|(_, count)| Reverse(**count));
                    let cells = cells.into_iter().take(k as usize);
                    Answer::Many(cells.map(|(cell, _)| cell.clone()).collect())
                }
                _ => int(counts.len() as u64),
            },
            Self::Hll(sketch) => int(sketch.estimate()),
            Self::Quantiles(sketch) => {
                let fraction = match function {
                    Function::ApproxQuantile(millionths) => f64::from(millionths) / 1e6,
                    _ => unreachable!("quantiles are kept for quantiles"),
                };
                sketch.quantile(fraction).map_or(Answer::Null, float)
            }
        }
    }

    /// The sum as an int64, or null when there are no values or it does not fit.
    pub(super) fn int_sum(&self) -> Answer {
        match self {
            Self::Sum(1.., sum) => sum
                .to_i64()
                .map_or(Answer::Null, |value| Answer::One(Cell::Int(value))),
            _ => Answer::Null,
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let entry = |out: &mut Vec<u8>, entry: &Entry| {
            put_signed(out, entry.event);
            out.extend_from_slice(&entry.id.to_le_bytes());
            entry.cell.as_ref().encode(out);
        };
        match self {
            Self::Count(count) => put_varint(out, *count),
            Self::Sum(count, sum) => {
                put_varint(out, *count);
                sum.encode(out);
            }
            Self::Moments(count, sum, squares) => {
                put_varint(out, *count);
                sum.encode(out);
                squares.encode(out);
            }
            Self::Min(cell) | Self::Max(cell) => match cell {
                None => out.push(0),
                Some(cell) => cell.as_ref().encode(out),
            },
            Self::First(_, entries) => {
                put_varint(out, entries.len() as u64);
                entries.iter().for_each(|e| entry(out, e));
            }
            Self::Last(_, entries) => {
                put_varint(out, entries.len() as u64);
                entries.iter().for_each(|e| entry(out, &e.0));
            }
            Self::Values(counts) => {
                put_varint(out, counts.len() as u64);
                for (cell, count) in counts {
                    cell.as_ref().encode(out);
                    put_varint(out, *count);
                }
            }
            Self::Hll(sketch) => sketch.encode(out),
            Self::Quantiles(sketch) => sketch.encode(out),
        }
    }

    pub(super) fn decode(kind: Kind, reader: &mut Reader<'_>) -> Result<Self, DamagedError> {
        fn cell(reader: &mut Reader<'_>) -> Result<Cell, DamagedError> {
            Cell::decode(reader)?.ok_or_else(|| reader.damaged())
        }
        fn entries(reader: &mut Reader<'_>) -> Result<Vec<Entry>, DamagedError> {
            (0..reader.length()?)
                .map(|_| {
                    Ok(Entry {
                        event: reader.signed()?,
                        id: u64::from_le_bytes(reader.array()?),
                        cell: cell(reader)?,
                    })
                })
                .collect()
        }
        Ok(match kind {
            Kind::Count => Self::Count(reader.varint()?),
            Kind::Sum => Self::Sum(reader.varint()?, ExactSum::decode(reader)?),
            Kind::Moments => Self::Moments(
                reader.varint()?,
                ExactSum::decode(reader)?,
                ExactSum::decode(reader)?,
            ),
            Kind::Min => Self::Min(Cell::decode(reader)?),
            Kind::Max => Self::Max(Cell::decode(reader)?),
            Kind::First(k) => Self::First(k, entries(reader)?),
            Kind::Last(k) => Self::Last(k, entries(reader)?.into_iter().map(Reverse).collect()),
            Kind::Values => Self::Values(
                (0..reader.length()?)
                    .map(|_| Ok((cell(reader)?, reader.varint()?)))
                    .collect::<Result<_, _>>()?,
            ),
            Kind::Hll => Self::Hll(Hll::decode(reader)?),
            Kind::Quantiles => Self::Quantiles(Quantiles::decode(reader)?),
        })
    }
}
