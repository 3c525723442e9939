//! The pace at which a process writes bulk loads to DynamoDB, computed from the times that it is
//! handed.
//!
//! A new table on demand takes 4,000 write units a second. It takes more as its traffic grows, but
//! throttles what exceeds twice its former peak within 30 minutes
//! (<https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/warm-throughput.html>,
//! <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/warm-throughput-scenarios.html>).
//! Nobody says what a table takes at the moment, so the pace is found:
//!
//! - A load begins at half of what a new table takes, and leaves the rest to events. If several
//!   processes share the load, each begins at its part of that.
//! - The pace doubles about every four seconds until a write is throttled, so that a table that
//!   takes more is soon used as far.
//! - From then on the pace rises by the same amount every second while nothing is throttled, and
//!   falls by a fifth when something is (additive increase, multiplicative decrease). Processes
//!   that share a table come to share its throughput without knowing of each other.

use std::time::Duration;

use tokio::time::Instant;

/// The largest number of processes that the first pace is divided by. How many partitions of a run
/// are worked on at the same time is not known, only how many there are. A state machine works on
/// 100 unless its variable `concurrency` says otherwise.
const MOST_PROCESSES: usize = 100;
/// The growth in a second until a write is throttled, as a part of the pace.
const FIRST_GROWTH: f64 = 0.2;
/// The growth in a second after that, as a part of the pace that the load began at.
const GROWTH: f64 = 0.02;
/// What is left of the pace after a write was throttled.
const DECREASE: f64 = 0.8;
/// The time for which further throttled writes are counted with the first one: they were sent at
/// the pace before it fell.
const DECREASE_PAUSE: Duration = Duration::from_secs(1);
/// The most time between two writes for which the pace grows.
const GROWTH_PAUSE: Duration = Duration::from_secs(1);
/// How far a process may be behind its pace and catch up. Timers are late by a millisecond or two,
/// in which some writes should have begun.
const CATCH_UP: Duration = Duration::from_millis(100);
/// The lowest pace, in write units a second.
const LOWEST_UNITS: f64 = 1.0;

/// The pace of a process.
#[derive(Debug)]
pub(crate) struct Pace {
    /// The write units a second at which a load begins that no other process shares.
    first_units: f64,
    /// The number of processes that share the load.
    processes: usize,
    /// Write units a second.
    units: f64,
    /// The time up to which the pace has grown.
    grown: Instant,
    /// The time when the pace fell last; `None` before the first throttled write.
    fell: Option<Instant>,
    /// The time of the next turn.
    next: Instant,
}

impl Pace {
    /// Creates the pace of a process. `first_units` is the number of write units a second at which
    /// a load begins that no other process shares.
    pub(crate) fn new(first_units: f64, now: Instant) -> Self {
        Self {
            first_units,
            processes: 1,
            units: first_units,
            grown: now,
            fell: None,
            next: now,
        }
    }

    /// Sets the number of processes that share the load.
    pub(crate) fn share(&mut self, processes: usize) {
        let processes = processes.clamp(1, MOST_PROCESSES);
        self.units *= self.processes as f64 / processes as f64;
        self.processes = processes;
    }

    /// Gives a write of so many units its turn, and returns how long it waits for that.
    pub(crate) fn wait(&mut self, units: f64, now: Instant) -> Duration {
        let earliest = now.checked_sub(CATCH_UP).unwrap_or(now);
        let is_held_up = self.next > earliest;
        let turn = self.next.max(earliest);
        self.next = turn + self.time_for(units);
        let passed = now.saturating_duration_since(self.grown).min(GROWTH_PAUSE);
        self.grown = self.grown.max(now);
        // A pace that holds up nothing says nothing of what the table takes.
        if is_held_up {
            self.units += self.growth() * passed.as_secs_f64();
        }
        turn.saturating_duration_since(now)
    }

    /// Notes that a write was throttled.
    pub(crate) fn throttled(&mut self, now: Instant) {
        let passed = self.fell.map(|fell| now.saturating_duration_since(fell));
        if passed.is_some_and(|passed| passed < DECREASE_PAUSE) {
            return;
        }
        self.fell = Some(now);
        self.grown = now;
        self.units = (self.units * DECREASE).max(LOWEST_UNITS);
    }

    /// Returns the time that so many units take at the pace.
    pub(crate) fn time_for(&self, units: f64) -> Duration {
        Duration::from_secs_f64(units / self.units)
    }

    /// Returns the growth of the pace in a second.
    fn growth(&self) -> f64 {
        match self.fell {
            None => self.units * FIRST_GROWTH,
            Some(_) => self.first_units / self.processes as f64 * GROWTH,
        }
    }
}

#[cfg(test)]
mod tests;
