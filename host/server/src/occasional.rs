//! Lines of the log that would be written once for each request.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The length of the periods in which lines are counted.
const PERIOD: Duration = Duration::from_secs(10);
/// The number of lines in a period.
const LINES: u64 = 10;

/// Lets ten lines of a kind through in ten seconds, and counts the others.
#[derive(Debug)]
pub(crate) struct Occasional(Mutex<State>);

#[derive(Debug)]
struct State {
    /// The start of the period.
    since: Option<Instant>,
    /// The number of lines in the period that were written.
    written: u64,
    /// The number of lines that were not written since the last one that was.
    held_back: u64,
}

impl Occasional {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(State {
            since: None,
            written: 0,
            held_back: 0,
        }))
    }

    /// Asks to write a line. Returns `None` if it is not to be written, or else the number of lines
    /// that were held back since the last one.
    pub(crate) fn line(&self) -> Option<u64> {
        self.line_at(Instant::now())
    }

    fn line_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |since: Instant| now.saturating_duration_since(since) >= PERIOD;
        if state.since.is_none_or(is_over) {
            state.since = Some(now);
            state.written = 0;
        }
        if state.written == LINES {
            state.held_back += 1;
            return None;
        }
        state.written += 1;
        Some(std::mem::take(&mut state.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_limit_are_counted_in_the_next_one() {
        let lines = Occasional::new();
        let start = Instant::now();
        for _ in 0..LINES {
            assert_eq!(lines.line_at(start), Some(0));
        }
        for _ in 0..1_000 {
            assert_eq!(lines.line_at(start + Duration::from_secs(9)), None);
        }
        let next = start + PERIOD;
        assert_eq!(lines.line_at(next), Some(1_000));
        assert_eq!(lines.line_at(next), Some(0));
    }
}
