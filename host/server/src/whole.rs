//! Answers that are in memory as a whole, charged before they take the memory.

use std::io::{self, Write};

use axum::response::{IntoResponse as _, Response};

use crate::error::Failure;
use crate::intake::{LARGE, charged};
use crate::limits::Charge;

/// The bytes of an answer. Each time before they take more memory, this is charged to the budget of
/// all requests. A small answer is not charged.
#[derive(Debug)]
pub(crate) struct WholeAnswer {
    bytes: Vec<u8>,
    charge: Charge,
    /// Why a write failed: the budget does not have the memory.
    refused: Option<Failure>,
}

impl WholeAnswer {
    /// Returns an answer without bytes, whose memory is added to a charge.
    pub(crate) fn new(charge: Charge) -> Self {
        Self {
            bytes: Vec::new(),
            charge,
            refused: None,
        }
    }

    /// Returns the number of bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns why a write failed, or `None` if none did.
    pub(crate) fn take_refused(&mut self) -> Option<Failure> {
        self.refused.take()
    }

    /// Makes room for so many bytes, and for no more of them.
    ///
    /// # Errors
    /// Returns the errors of [`Charge::raise`].
    pub(crate) fn reserve(&mut self, bytes: usize) -> Result<(), Failure> {
        if bytes > LARGE {
            self.charge.raise(bytes as u64)?;
        }
        self.bytes.reserve_exact(bytes);
        Ok(())
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// Returns the errors of [`Charge::raise`].
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let length = self.bytes.len() + bytes.len();
        if length > self.bytes.capacity() {
            let capacity = length.max(2 * self.bytes.capacity());
            if capacity > LARGE {
                self.charge.raise(capacity as u64)?;
            }
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Appends a text, whose memory becomes that of the answer if it is the first one.
    ///
    /// # Errors
    /// Returns the errors of [`Charge::raise`].
    pub(crate) fn append_text(&mut self, text: Vec<u8>) -> Result<(), Failure> {
        if !self.bytes.is_empty() {
            return self.append(&text);
        }
        if text.capacity() > LARGE {
            self.charge.raise(text.capacity() as u64)?;
        }
        self.bytes = text;
        Ok(())
    }

    /// Appends the bytes of another answer.
    ///
    /// # Errors
    /// Returns the errors of [`Charge::raise`].
    pub(crate) fn append_answer(&mut self, other: &Self) -> Result<(), Failure> {
        self.append(&other.bytes)
    }

    /// Returns the response, whose memory is charged until it was sent.
    pub(crate) fn into_response(self) -> Response {
        charged(self.bytes.into_response(), self.charge)
    }
}

/// Counts the bytes of an answer, to measure it before it takes memory.
#[derive(Debug, Default)]
pub(crate) struct Length(pub(crate) usize);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for WholeAnswer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.append(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(failure) => {
                self.refused = Some(failure);
                Err(io::Error::from(io::ErrorKind::OutOfMemory))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;
    use crate::limits::Budget;

    #[test]
    fn an_answer_is_charged_before_it_grows_and_until_it_was_sent() {
        const MEMORY: u64 = 1 << 20;
        let budget = Budget::new(MEMORY);
        let mut small = WholeAnswer::new(budget.charge());
        small.write_all(&[0; 1_000]).unwrap();
        assert_eq!((small.len(), budget.free()), (1_000, MEMORY));
        let mut large = WholeAnswer::new(budget.charge());
        large.write_all(&[0; 600_000]).unwrap();
        assert_eq!(budget.free(), MEMORY - 600_000);
        let mut text = WholeAnswer::new(budget.charge());
        text.append_text(vec![0; 100_000]).unwrap();
        assert_eq!((text.len(), budget.free()), (100_000, MEMORY - 700_000));
        text.append_text(vec![0; 10]).unwrap();
        assert_eq!((text.len(), budget.free()), (100_010, MEMORY - 800_000));
        drop(text);
        // It does not fit beside the other one.
        let mut other = WholeAnswer::new(budget.charge());
        other.write_all(&[0; 600_000]).unwrap_err();
        let refused = other.take_refused().unwrap();
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        let mut measured = WholeAnswer::new(budget.charge());
        let refused = measured.reserve(600_000).unwrap_err();
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        measured.reserve(100_000).unwrap();
        assert_eq!(budget.free(), MEMORY - 700_000);
        // All of it has room already.
        measured.write_all(&[0; 70_000]).unwrap();
        measured.write_all(&[0; 30_000]).unwrap();
        assert_eq!(budget.free(), MEMORY - 700_000);
        drop(measured);
        // It would never fit.
        large.append_answer(&small).unwrap_err();
        assert_eq!(large.len(), 600_000);
        let response = large.into_response();
        assert_eq!(budget.free(), MEMORY - 600_000);
        drop(response);
        assert_eq!(budget.free(), MEMORY);
    }
}
