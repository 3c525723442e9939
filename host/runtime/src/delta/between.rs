//! Making deltas: memories are compared, and what differs is written down.

use std::ops::Range;

use bytes::Bytes;

use super::{Delta, ENTRY_BYTES, FORMAT, HEADER_BYTES, MAGIC, MAX_RUN_BYTES, MAX_RUNS, PAGE};

/// How many bytes are compared at once.
const BLOCK: usize = 4 << 10;
/// What a memory that has grown was before.
const ZEROS: [u8; BLOCK] = [0; BLOCK];
/// Runs with fewer equal bytes between them are one: a run costs more than to copy these.
const GAP: usize = 64;
/// The same if there are too many runs. `wit/interpreter/memory.wit` promises it to interpreters.
const MAX_GAP: usize = 4 << 10;

impl Delta {
    /// Returns what a memory has different from one that it was before. Both have whole pages, and
    /// the memory may have grown. Returns `None` if that is more than a delta may have.
    pub(crate) fn between(before: &[u8], after: &[u8]) -> Option<Self> {
        let mut runs = differing(before, after)?;
        let mut gap = GAP;
        while runs.len() > MAX_RUNS {
            gap *= 2;
            if gap > MAX_GAP {
                return None;
            }
            runs = joined(&runs, gap);
        }
        let size: usize = runs.iter().map(Range::len).sum();
        if size > MAX_RUN_BYTES {
            return None;
        }
        let mut bytes = Vec::with_capacity(size);
        for run in &runs {
            bytes.extend_from_slice(&after[run.clone()]);
        }
        // A memory has addresses of 32 bits.
        Some(Self {
            pages: (after.len() / PAGE) as u32,
            addresses: runs.iter().map(|run| run.start as u32).collect(),
            lengths: runs.iter().map(|run| run.len() as u32).collect(),
            bytes: bytes.into(),
        })
    }

    /// Compresses the delta.
    ///
    /// # Errors
    /// Returns the error of the library, which has none for such sizes.
    pub(crate) fn pack(&self) -> std::io::Result<Bytes> {
        let packed = zstd::bulk::compress(&self.raw(), zstd::DEFAULT_COMPRESSION_LEVEL)?;
        Ok(packed.into())
    }

    /// Writes the delta without compressing it.
    pub(super) fn raw(&self) -> Vec<u8> {
        let table = HEADER_BYTES + self.addresses.len() * ENTRY_BYTES;
        let mut raw = Vec::with_capacity(table + self.bytes.len());
        raw.extend_from_slice(&MAGIC);
        let mut write = |number: u32| raw.extend_from_slice(&number.to_le_bytes());
        write(FORMAT);
        write(self.pages);
        write(self.addresses.len() as u32);
        for (address, length) in self.addresses.iter().zip(&self.lengths) {
            write(*address);
            write(*length);
        }
        raw.extend_from_slice(&self.bytes);
        raw
    }
}

/// Returns the runs of bytes that differ, in ascending order. Returns `None` if they cannot be a
/// delta, before there are many of them.
fn differing(before: &[u8], after: &[u8]) -> Option<Vec<Range<usize>>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut size = 0;
    for (number, now) in after.chunks(BLOCK).enumerate() {
        let start = number * BLOCK;
        let was = before.get(start..start + now.len());
        let was = was.unwrap_or(&ZEROS[..now.len()]);
        if was == now {
            continue;
        }
        for offset in (0..now.len()).filter(|offset| was[*offset] != now[*offset]) {
            let address = start + offset;
            match runs.last_mut() {
                Some(last) if address - last.end < GAP => {
                    size += address + 1 - last.end;
                    last.end = address + 1;
                }
                _ => {
                    size += 1;
                    runs.push(address..address + 1);
                }
            }
        }
        // Each run that is joined with the one before it brings at least a gap.
        if size > MAX_RUN_BYTES || runs.len() > MAX_RUNS + MAX_RUN_BYTES / GAP {
            return None;
        }
    }
    Some(runs)
}

/// Joins runs with fewer than `gap` bytes between them.
fn joined(runs: &[Range<usize>], gap: usize) -> Vec<Range<usize>> {
    let mut joined: Vec<Range<usize>> = Vec::new();
    for run in runs {
        match joined.last_mut() {
            Some(last) if run.start - last.end < gap => last.end = run.end,
            _ => joined.push(run.clone()),
        }
    }
    joined
}
