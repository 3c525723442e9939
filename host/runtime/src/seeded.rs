//! Randomness that is none: bytes that look random and are the same in every instance of a
//! component, on every machine.

use wafer_core::{Digest, Hasher};

/// The bytes, in blocks of one digest.
#[derive(Debug)]
pub(crate) struct Seeded {
    component: Digest,
    /// How many blocks were made.
    blocks: u64,
    block: [u8; 32],
    /// How many bytes of the block were given out.
    used: usize,
}

impl Seeded {
    /// Starts from the digest of a component.
    pub(crate) fn by(component: Digest) -> Self {
        Self {
            component,
            blocks: 0,
            block: [0; 32],
            used: 32,
        }
    }

    /// Returns the next bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.fill(&mut bytes);
        bytes
    }

    /// Returns the next eight bytes as a number.
    pub(crate) fn number(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Returns what hash tables are seeded with, which is not a part of the bytes.
    pub(crate) fn seed(&self) -> (u64, u64) {
        let seed = digest(b"wafer wasi seed 1", self.component, 0);
        let mut numbers = seed.as_bytes().chunks_exact(8).map(|bytes| {
            let bytes = bytes.try_into().expect("chunks have eight bytes");
            u64::from_le_bytes(bytes)
        });
        let mut next = || numbers.next().expect("a digest has 32 bytes");
        (next(), next())
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if self.used == self.block.len() {
                let block = digest(b"wafer wasi random 1", self.component, self.blocks);
                self.block = *block.as_bytes();
                self.blocks += 1;
                self.used = 0;
            }
            *byte = self.block[self.used];
            self.used += 1;
        }
    }
}

fn digest(purpose: &[u8], component: Digest, number: u64) -> Digest {
    let mut hasher = Hasher::new();
    hasher
        .part(purpose)
        .part(component.as_bytes())
        .part(&number.to_le_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_depend_on_the_component_and_not_on_how_they_are_asked_for() {
        let mut whole = Seeded::by(Digest::of(b"a"));
        let bytes = whole.bytes(100);
        let mut parts = Seeded::by(Digest::of(b"a"));
        let mut joined = parts.bytes(3);
        joined.extend(parts.number().to_le_bytes());
        joined.extend(parts.bytes(89));
        assert_eq!(joined, bytes);
        assert_ne!(Seeded::by(Digest::of(b"b")).bytes(100), bytes);
        // They do not repeat.
        assert_ne!(bytes[..32], bytes[32..64]);
        assert_eq!(whole.bytes(0), Vec::<u8>::new());
    }

    #[test]
    fn the_seed_is_that_of_the_component() {
        let mut seeded = Seeded::by(Digest::of(b"a"));
        let seed = seeded.seed();
        assert_ne!(seed.0, seed.1);
        assert_ne!(seeded.number(), seed.0);
        assert_eq!(seeded.seed(), seed);
        assert_ne!(Seeded::by(Digest::of(b"b")).seed(), seed);
    }

    /// What was computed with them has to be computed again, so they never change.
    #[test]
    fn the_first_bytes_are_those_of_the_first_version() {
        let found = Seeded::by(Digest::of(b"abc")).bytes(8);
        assert_eq!(found, [191, 185, 197, 50, 237, 87, 99, 146]);
    }
}
