//! The memory of what a request looks up, and of what functions make of it.

use std::fmt;
use std::sync::Arc;

use arrow_array::ArrayRef;
use wafer_catalog::MAX_FOUND_BYTES;
use wafer_core::bytes_text;
use wafer_runtime::{Deadline, Function, Output};
use wafer_store::{Error, Result};

/// Charges the values of a request with the bytes that they take, before they take them.
type ChargeFn = Arc<dyn Fn(u64) -> Result<()> + Send + Sync>;

/// The memory that the values of a request may take, or of a part of it: those that are looked up
/// at most [`MAX_FOUND_BYTES`], and all of them, with those that functions return, what is there
/// for all requests.
#[derive(Clone)]
pub struct RequestMemory {
    /// What the looked-up values of other parts of the request have taken.
    before: u64,
    /// What the outputs of functions have taken for other parts of the request.
    made_before: u64,
    charge: ChargeFn,
}

impl Default for RequestMemory {
    /// Returns the memory of a request that is bounded by itself alone.
    fn default() -> Self {
        Self::charged_by(|_| Ok(()))
    }
}

impl RequestMemory {
    /// Returns the memory of a request that shares it with others: `charge` is called with the
    /// bytes that the values take, each time before they take more, after a function returned some,
    /// or after they take less.
    pub fn charged_by(charge: impl Fn(u64) -> Result<()> + Send + Sync + 'static) -> Self {
        Self {
            before: 0,
            made_before: 0,
            charge: Arc::new(charge),
        }
    }

    /// Returns the memory of the next part of the request, after one whose looked-up values take
    /// `found` bytes, and the outputs of functions `made` bytes.
    pub fn after(&self, found: u64, made: u64) -> Self {
        Self {
            before: self.before.saturating_add(found),
            made_before: self.made_before.saturating_add(made),
            charge: Arc::clone(&self.charge),
        }
    }

    /// Takes so many bytes for the looked-up values of this part of the request altogether.
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
        (self.charge)(all.saturating_add(self.made_before))
    }

    /// Takes so many bytes for this part of the request, some of them for copies or outputs of
    /// functions, which do not count among the values that it may look up.
    ///
    /// # Errors
    /// Returns the error of the function that charges it.
    fn take_beside(&self, bytes: u64) -> Result<()> {
        let before = self.before.saturating_add(self.made_before);
        (self.charge)(before.saturating_add(bytes))
    }
}

impl fmt::Debug for RequestMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestMemory")
            .field("before", &self.before)
            .field("made_before", &self.made_before)
            .finish_non_exhaustive()
    }
}

/// The bytes that the looked-up values of a view take, and the outputs of its functions: many rows
/// of a request may ask for one entity with a long text, and a function may return more than it
/// gets.
#[derive(Debug)]
pub(crate) struct RequestSize {
    memory: RequestMemory,
    /// The bytes of stored rows that are not unpacked yet.
    stored: u64,
    /// The bytes of the unpacked values.
    bytes: u64,
    /// The bytes of the outputs of functions.
    made: u64,
    /// The number of rows of the request.
    rows: usize,
}

impl RequestSize {
    /// Counts for a request of so many rows, for which stored rows of `stored` bytes were read.
    pub(crate) fn new(memory: RequestMemory, stored: u64, rows: usize) -> Self {
        Self {
            memory,
            stored,
            bytes: 0,
            made: 0,
            rows,
        }
    }

    /// Returns the bytes of the unpacked values.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the bytes of the outputs of functions.
    pub(crate) fn made(&self) -> u64 {
        self.made
    }

    /// Calls a function, and counts what it returns.
    ///
    /// # Errors
    /// Returns the errors of the call, and the error of the memory of all requests.
    pub(crate) fn invoke(&mut self, function: &Function, inputs: &[ArrayRef]) -> Result<Output> {
        let mut returned = 0;
        let output = function.invoke_counted(inputs, Deadline::Request, |bytes| {
            returned = bytes;
            self.make(bytes)
        })?;
        self.made = self.made.saturating_add(returned);
        Ok(output)
    }

    /// Counts bytes that the output of a function takes, beside those of other functions.
    fn make(&self, bytes: u64) -> Result<()> {
        let held = self.bytes.saturating_add(self.stored);
        let made = self.made.saturating_add(bytes);
        self.memory.take_beside(held.saturating_add(made))
    }

    /// Counts bytes that unpacked values take.
    ///
    /// # Errors
    /// Returns the errors of [`RequestMemory::take`].
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
        self.memory.take_beside(held.saturating_add(stored as u64))
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
        let memory = RequestMemory::charged_by(move |bytes| {
            tell.lock().unwrap().push(bytes);
            match bytes > 1_000 {
                true => Err(Error::new(Kind::Unavailable, "no memory")),
                false => Ok(()),
            }
        });
        let mut first = RequestSize::new(memory.clone(), 300, 7);
        first.add(100).unwrap();
        first.unpack(300).unwrap();
        first.unpacked(300);
        first.add(100).unwrap();
        let mut second = RequestSize::new(memory.after(first.bytes(), 0), 0, 7);
        second.add(700).unwrap();
        assert_eq!(second.add(101).unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(*told.lock().unwrap(), [400, 700, 200, 900, 1_001]);
        let error = second.add(MAX_FOUND_BYTES - 1_000).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        let wanted = "the stored values for the 7 rows of the request take more than 32 MiB";
        assert!(error.to_string().starts_with(wanted), "{error}");
        assert_eq!(told.lock().unwrap().len(), 5);
    }

    #[test]
    fn what_functions_return_is_charged_beside_what_was_looked_up() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = Arc::clone(&told);
        let memory = RequestMemory::charged_by(move |bytes| {
            tell.lock().unwrap().push(bytes);
            Ok(())
        });
        let mut first = RequestSize::new(memory.clone(), 0, 7);
        first.add(100).unwrap();
        first.make(40).unwrap();
        first.made = 40;
        first.make(5).unwrap();
        let mut second = RequestSize::new(memory.after(first.bytes(), first.made()), 0, 7);
        second.add(10).unwrap();
        second.make(1).unwrap();
        assert_eq!(*told.lock().unwrap(), [100, 140, 145, 150, 151]);
        // It is not bounded by what may be looked up.
        first.make(2 * MAX_FOUND_BYTES).unwrap();
        second.add(MAX_FOUND_BYTES - 110).unwrap();
    }
}
