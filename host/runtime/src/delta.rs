//! Memory deltas: what the memory of an initialised instance has different from that of a new
//! instance of its interpreter (`interpreter.rs`).
//!
//! A delta is an artifact, compressed by Zstandard. It begins with [`MAGIC`], the number of its
//! format, the number of pages of the memory, and the number of runs of bytes that differ. The
//! address and the length of each run follow, in ascending order, and then the bytes of all runs.
//! Numbers have 32 bits, the least significant first.

use bytes::Bytes;

#[cfg(feature = "compiler")]
mod between;
#[cfg(test)]
mod tests;

/// What a delta begins with.
const MAGIC: [u8; 8] = *b"wafer-md";
/// The format of the deltas that this version of Wafer writes and reads.
const FORMAT: u32 = 1;
/// Size of a page of a linear memory in bytes.
pub(crate) const PAGE: usize = 64 << 10;
/// Maximum number of pages of a linear memory.
const MAX_PAGES: u32 = 1 << 16;
/// Maximum size of the runs of a delta in bytes. Every call copies them into its instance.
pub(crate) const MAX_RUN_BYTES: usize = 4 << 20;
/// Maximum number of runs of a delta. `wit/interpreter/memory.wit` promises it to interpreters.
pub(crate) const MAX_RUNS: usize = 16_384;
/// Size of what is before the first run's address, in bytes.
const HEADER_BYTES: usize = MAGIC.len() + 3 * 4;
/// Size of the address and the length of a run in bytes.
const ENTRY_BYTES: usize = 2 * 4;
/// Maximum size of a delta in bytes, before it is compressed.
const MAX_BYTES: usize = HEADER_BYTES + MAX_RUNS * ENTRY_BYTES + MAX_RUN_BYTES;

/// What an initialised memory has different from a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delta {
    pages: u32,
    addresses: Vec<u32>,
    lengths: Vec<u32>,
    /// The bytes of all runs, one after the other.
    bytes: Bytes,
}

impl Delta {
    /// Maximum size of a delta that is compressed, in bytes.
    pub(crate) fn max_packed_bytes() -> u64 {
        zstd::zstd_safe::compress_bound(MAX_BYTES) as u64
    }

    /// Reads a compressed delta. Its size is known before memory is taken for it.
    ///
    /// # Errors
    /// Returns what is wrong with it.
    pub(crate) fn unpack(packed: &[u8]) -> Result<Self, String> {
        let said = zstd::zstd_safe::get_frame_content_size(packed);
        let Some(size) = said.ok().flatten() else {
            return Err("it does not say how many bytes it has".to_owned());
        };
        let within = usize::try_from(size).ok().filter(|size| *size <= MAX_BYTES);
        let size = within
            .ok_or_else(|| format!("it has {size} bytes; there are at most {MAX_BYTES} in one"))?;
        let raw = zstd::bulk::decompress(packed, size);
        let raw = raw.map_err(|e| format!("it cannot be decompressed: {e}"))?;
        Self::parse(&raw.into())
    }

    /// Reads a delta that is not compressed.
    ///
    /// # Errors
    /// Returns what is wrong with it.
    pub(crate) fn parse(raw: &Bytes) -> Result<Self, String> {
        let mut rest = Rest(raw);
        if rest.bytes(MAGIC.len())? != MAGIC {
            return Err("it is not a memory delta".to_owned());
        }
        let format = rest.number()?;
        if format != FORMAT {
            return Err(format!(
                "it has format {format}, and this version of Wafer reads {FORMAT}"
            ));
        }
        let (pages, count) = (rest.number()?, rest.number()? as usize);
        if pages > MAX_PAGES || count > MAX_RUNS {
            return Err(format!(
                "it has {count} runs in {pages} pages; there are at most {MAX_RUNS} and {MAX_PAGES}"
            ));
        }
        let mut addresses = Vec::with_capacity(count);
        let mut lengths = Vec::with_capacity(count);
        let (mut end, mut total) = (0, 0);
        for run in 0..count {
            let (address, length) = (rest.number()?, rest.number()?);
            if length == 0 || u64::from(address) < end {
                return Err(format!(
                    "run {run} is empty, or begins before the one before it ends"
                ));
            }
            end = u64::from(address) + u64::from(length);
            total += u64::from(length);
            addresses.push(address);
            lengths.push(length);
        }
        if end > u64::from(pages) * PAGE as u64 {
            return Err(format!(
                "its last run ends at {end}, beyond its {pages} pages"
            ));
        }
        let Rest(bytes) = rest;
        if total != bytes.len() as u64 || bytes.len() > MAX_RUN_BYTES {
            return Err(format!(
                "its runs have {total} bytes, and {} are there; there are at most {MAX_RUN_BYTES}",
                bytes.len()
            ));
        }
        Ok(Self {
            pages,
            addresses,
            lengths,
            bytes: raw.slice_ref(bytes),
        })
    }

    /// Size of the initialised memory, in pages.
    pub(crate) fn pages(&self) -> u32 {
        self.pages
    }

    /// The addresses of the runs, in ascending order.
    pub(crate) fn addresses(&self) -> &[u32] {
        &self.addresses
    }

    /// The bytes of the runs, none of which is empty.
    pub(crate) fn runs(&self) -> Vec<&[u8]> {
        let mut rest = &self.bytes[..];
        let lengths = self.lengths.iter();
        lengths
            .map(|length| {
                let (run, after) = rest.split_at(*length as usize);
                rest = after;
                run
            })
            .collect()
    }
}

/// The part of a delta that was not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (bytes, rest) = self
            .0
            .split_at_checked(count)
            .ok_or_else(|| "its end is missing".to_owned())?;
        self.0 = rest;
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u32, String> {
        let bytes = self.bytes(4)?;
        let bytes = bytes.try_into().expect("these are four bytes");
        Ok(u32::from_le_bytes(bytes))
    }
}
