//! The memory of what a request looks up.

use std::fmt;
use std::sync::Arc;

use wafer_catalog::MAX_FOUND_BYTES;
use wafer_core::bytes_text;
use wafer_store::{Error, Result};

/// Charges the looked-up values of a request with the bytes that they take, before they take them.
type Charge = Arc<dyn Fn(u64) -> Result<()> + Send + Sync>;

/// The memory that the looked-up values of a request may take, or of a part of it: at most
/// [`MAX_FOUND_BYTES`], and what is there for all requests.
#[derive(Clone)]
pub struct FoundMemory {
    /// What other parts of the request have taken.
    before: u64,
    charge: Charge,
}

impl Default for FoundMemory {
    /// Returns the memory of a request that is bounded by itself alone.
    fn default() -> Self {
        Self::charged_by(|_| Ok(()))
    }
}

impl FoundMemory {
    /// Returns the memory of a request that shares it with others: `charge` is called with the
    /// bytes that the looked-up values take, each time before they take more or after they take
    /// less.
    pub fn charged_by(charge: impl Fn(u64) -> Result<()> + Send + Sync + 'static) -> Self {
        Self {
            before: 0,
            charge: Arc::new(charge),
        }
    }

    /// Returns the memory of the next part of the request, after one that has taken so many bytes.
    pub fn after(&self, bytes: u64) -> Self {
        Self {
            before: self.before.saturating_add(bytes),
            charge: Arc::clone(&self.charge),
        }
    }

    /// Takes so many bytes for this part of the request altogether.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) for more than the request may take;
    /// the message says that `what` takes it. Returns the error of the function that charges it.
    pub(crate) fn take(&self, bytes: u64, what: impl fmt::Display) -> Result<()> {
        let all = self.before.saturating_add(bytes);
        if all > MAX_FOUND_BYTES {
            return Err(Error::invalid(format!(
                "the stored values for the {what} of the request take more than {}; ask for fewer \
                 rows at once",
                bytes_text(MAX_FOUND_BYTES)
            )));
        }
        (self.charge)(all)
    }

    /// Takes so many bytes for this part of the request for a moment, some of them for copies that
    /// do not count among the values that it may look up.
    ///
    /// # Errors
    /// Returns the error of the function that charges it.
    fn take_with_copies(&self, bytes: u64) -> Result<()> {
        (self.charge)(self.before.saturating_add(bytes))
    }
}

impl fmt::Debug for FoundMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FoundMemory")
            .field("before", &self.before)
            .finish_non_exhaustive()
    }
}

/// The bytes that the looked-up values of a view take: many rows of a request may ask for one
/// entity with a long text.
#[derive(Debug)]
pub(crate) struct FoundSize {
    memory: FoundMemory,
    /// The bytes of stored rows that are not unpacked yet.
    stored: u64,
    /// The bytes of the unpacked values.
    bytes: u64,
    /// The number of rows of the request.
    rows: usize,
}

impl FoundSize {
    /// Counts for a request of so many rows, for which stored rows of `stored` bytes were read.
    pub(crate) fn new(memory: FoundMemory, stored: u64, rows: usize) -> Self {
        Self {
            memory,
            stored,
            bytes: 0,
            rows,
        }
    }

    /// Returns the bytes of the unpacked values.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Counts bytes that unpacked values take.
    ///
    /// # Errors
    /// Returns the errors of [`FoundMemory::take`].
    pub(crate) fn add(&mut self, bytes: u64) -> Result<()> {
        self.bytes = self.bytes.saturating_add(bytes);
        let held = self.bytes.saturating_add(self.stored);
        self.memory.take(held, format_args!("{} rows", self.rows))
    }

    /// Counts that a stored row is about to be unpacked, which is in memory a second time then.
    ///
    /// # Errors
    /// Returns the error of the memory of all requests.
    pub(crate) fn unpack(&self, stored: usize) -> Result<()> {
        let held = self.bytes.saturating_add(self.stored);
        self.memory
            .take_with_copies(held.saturating_add(stored as u64))
    }

    /// Counts that a stored row was unpacked, whose values take so many bytes and are dropped.
    pub(crate) fn unpacked(&mut self, stored: usize) {
        self.stored = self.stored.saturating_sub(stored as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use wafer_store::Kind;

    use super::*;

    #[test]
    fn looked_up_values_of_all_parts_of_a_request_are_charged_and_bounded() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = Arc::clone(&told);
        let memory = FoundMemory::charged_by(move |bytes| {
            tell.lock().unwrap().push(bytes);
            match bytes > 1_000 {
                true => Err(Error::new(Kind::Unavailable, "no memory")),
                false => Ok(()),
            }
        });
        let mut first = FoundSize::new(memory.clone(), 300, 7);
        first.add(100).unwrap();
        first.unpack(300).unwrap();
        first.unpacked(300);
        first.add(100).unwrap();
        let mut second = FoundSize::new(memory.after(first.bytes()), 0, 7);
        second.add(700).unwrap();
        assert_eq!(second.add(101).unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(*told.lock().unwrap(), [400, 700, 200, 900, 1_001]);
        let error = second.add(MAX_FOUND_BYTES - 1_000).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        let wanted = "the stored values for the 7 rows of the request take more than 32 MiB";
        assert!(error.to_string().starts_with(wanted), "{error}");
        assert_eq!(told.lock().unwrap().len(), 5);
    }
}
