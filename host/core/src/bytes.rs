//! Reads and writes the compact binary formats of the online store.

/// The error for damaged bytes, which do not fit their format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("damaged at byte {0}")]
pub struct DamagedError(pub(crate) usize);

/// Appends an unsigned number in LEB128: seven bits per byte, lowest first.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed number in zigzag LEB128, so that small numbers of either sign are short.
pub(crate) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, (value << 1 ^ value >> 63) as u64);
}

/// Reads values one after the other from the start of some bytes.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub(crate) fn damaged(&self) -> DamagedError {
        DamagedError(self.position)
    }

    /// Number of bytes that have not been read.
    pub(crate) fn rest(&self) -> usize {
        self.bytes.len() - self.position
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], DamagedError> {
        let taken = self.bytes[self.position..].get(..length);
        let taken = taken.ok_or_else(|| self.damaged())?;
        self.position += length;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DamagedError> {
        Ok(self.take(N)?.try_into().expect("N bytes were taken"))
    }

    pub(crate) fn byte(&mut self) -> Result<u8, DamagedError> {
        Ok(self.array::<1>()?[0])
    }

    /// Skips the next byte if it is this one, and returns whether it was.
    pub(crate) fn skip(&mut self, byte: u8) -> bool {
        let is_next = self.bytes.get(self.position) == Some(&byte);
        self.position += usize::from(is_next);
        is_next
    }

    pub(crate) fn varint(&mut self) -> Result<u64, DamagedError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.damaged())
    }

    pub(crate) fn signed(&mut self) -> Result<i64, DamagedError> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Reads the number of items that follow. Each takes at least one byte, so a greater number is
    /// damaged.
    pub(crate) fn length(&mut self) -> Result<usize, DamagedError> {
        let length = self.varint()?;
        if length > self.rest() as u64 {
            return Err(self.damaged());
        }
        Ok(length as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip() {
        for value in [0, 1, 127, 128, 300, u64::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            assert_eq!(Reader::new(&bytes).varint(), Ok(value));
            assert!(Reader::new(&bytes[..bytes.len() - 1]).varint().is_err());
        }
        for value in [0, 1, -1, 64, -65, i64::MIN, i64::MAX] {
            let mut bytes = Vec::new();
            put_signed(&mut bytes, value);
            assert_eq!(Reader::new(&bytes).signed(), Ok(value));
        }
        let mut reader = Reader::new(&[7]);
        assert!(!reader.skip(8) && reader.skip(7) && !reader.skip(7));
        assert!(Reader::new(&[0xff; 11]).varint().is_err());
        assert!(Reader::new(&[5, 1, 2]).length().is_err());
    }
}
