//! The encoding of items: the number of the format, the header of a series, and its entries.

use super::layout::{Series, Span};
use crate::aggregate::states::StateKind;
use crate::bytes::{DamagedError, Reader, put_signed, put_varint};
use crate::{Duration, Timestamp};

pub(super) const FORMAT: u8 = 2;

/// The header of a series.
pub(super) struct Header {
    pub(super) span: Span,
    pub(super) retention: Option<Duration>,
    pub(super) kinds: Vec<StateKind>,
}

impl Header {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DamagedError> {
        let number =
            |reader: &mut Reader<'_>| i64::try_from(reader.varint()?).map_err(|_| reader.damaged());
        let span = match number(reader)? {
            0 => Span::Exact,
            1 => Span::Lifetime,
            hop => Span::Tiles(Duration::from_micros(hop)),
        };
        let retention = match number(reader)? {
            0 => None,
            more => Some(Duration::from_micros(more - 1)),
        };
        let kinds = (0..reader.length()?)
            .map(|_| StateKind::decode(reader))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            span,
            retention,
            kinds,
        })
    }
}

impl Series {
    /// Encodes the header of the series.
    pub(super) fn encode_header(&self, out: &mut Vec<u8>) {
        let hop = match self.span {
            Span::Exact => 0,
            Span::Lifetime => 1,
            Span::Tiles(hop) => hop.as_micros() as u64,
        };
        put_varint(out, hop);
        put_varint(
            out,
            self.retention
                .map_or(0, |width| width.as_micros() as u64 + 1),
        );
        if self.span == Span::Exact {
            put_varint(out, 0);
        } else {
            put_varint(out, self.accumulators.len() as u64);
            self.accumulators.iter().for_each(|a| a.kind.encode(out));
        }
    }
}

/// Begins to read an item. Returns a reader of what follows the newest event time, and that time.
pub(super) fn open(item: &[u8]) -> Result<(Reader<'_>, Timestamp), DamagedError> {
    let mut reader = Reader::new(item);
    if reader.byte()? != FORMAT {
        return Err(DamagedError(0));
    }
    let newest = i64::from_le_bytes(reader.array()?);
    Ok((reader, Timestamp::from_micros(newest)))
}

/// A place and its bytes.
pub(super) type Entry<'a> = (i64, &'a [u8]);

/// Reads the entries of a series one after the other.
pub(super) struct EntryReader<'a, 'b> {
    reader: &'b mut Reader<'a>,
    left: usize,
}

impl<'a, 'b> EntryReader<'a, 'b> {
    pub(super) fn new(reader: &'b mut Reader<'a>) -> Result<Self, DamagedError> {
        let left = reader.length()?;
        Ok(Self { reader, left })
    }

    pub(super) fn next(&mut self) -> Result<Option<Entry<'a>>, DamagedError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let place = self.reader.signed()?;
        let length = self.reader.length()?;
        Ok(Some((place, self.reader.take(length)?)))
    }
}

pub(super) fn put_entry(out: &mut Vec<u8>, place: i64, bytes: &[u8]) {
    put_signed(out, place);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
