//! Calls on many rows, whose errors name the row that is to blame.
//!
//! A function that panics on one row, or takes too much memory for it, fails the whole call. So the
//! rows are halved until the row is found on which the function fails alone. Functions are
//! deterministic, and each call has a new instance, so it fails again.

use arrow_array::ArrayRef;
use wafer_store::Error;

use crate::error::InvokeError;
use crate::function::{Deadline, Function, Output, chunk_rows};

/// Why a call on many rows failed.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct CallFailure {
    /// The index of the row because of which the call failed, if a single one is to blame.
    pub row: Option<usize>,
    /// The error of the call, on this row alone if there is one.
    pub error: InvokeError,
}

impl From<CallFailure> for Error {
    fn from(failure: CallFailure) -> Self {
        let kind = failure.error.kind();
        Self::caused(kind, failure.to_string(), failure)
    }
}

/// Returns the index of the row because of which a call of [`Function::invoke_rows`] failed, if a
/// single one was to blame.
pub fn failed_row(error: &Error) -> Option<usize> {
    let cause = std::error::Error::source(error)?;
    cause.downcast_ref::<CallFailure>()?.row
}

impl Function {
    /// Calls the function like [`invoke`](Self::invoke), with the limit [`Deadline::Batch`]. If the
    /// call fails because of a single row, the error names the row.
    ///
    /// # Errors
    /// Returns [`CallFailure`].
    pub fn invoke_rows(&self, columns: &[ArrayRef]) -> Result<Output, CallFailure> {
        self.invoke(columns, Deadline::Batch).map_err(|error| {
            // Wrong output is described by the whole batch: its lengths, and the row in it.
            let found = match error.is_trap() || error.is_over_size() {
                true => self.failing_row(columns),
                false => None,
            };
            match found {
                Some((row, error)) => CallFailure {
                    row: Some(row),
                    error,
                },
                None => CallFailure { row: None, error },
            }
        })
    }

    /// Finds a row that the function fails on alone, and the error. Nothing is logged again.
    fn failing_row(&self, columns: &[ArrayRef]) -> Option<(usize, InvokeError)> {
        let rows = columns.first()?.len();
        let chunk = chunk_rows(columns, rows);
        let fails = |from: usize, length: usize| {
            let part: Vec<ArrayRef> = columns.iter().map(|c| c.slice(from, length)).collect();
            self.call_quietly(&part, length).err()
        };
        let mut chunks = (0..rows).step_by(chunk);
        let mut from = chunks.find(|from| fails(*from, chunk.min(rows - from)).is_some())?;
        let mut length = chunk.min(rows - from);
        while length > 1 {
            let half = length / 2;
            if fails(from, half).is_some() {
                length = half;
            } else {
                from += half;
                length -= half;
            }
        }
        let error = fails(from, 1)?;
        let is_of_row = error.is_trap() || error.is_over_size();
        is_of_row.then_some((from, error))
    }
}
