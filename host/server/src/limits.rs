//! The limits of a server on what comes from outside, and the budgets that bound the memory and the
//! disk of all requests together.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use wafer_core::bytes_text;
use wafer_platform::{DiskRoom, RequestMemory};

use crate::error::Failure;

/// The memory that a request may take, in bytes for each byte of its body as it was sent, beside
/// [`BASE_BYTES`].
const BYTES_PER_BODY_BYTE: u64 = 8;
/// The memory that a request may take whatever its size, in bytes. What a request may take
/// altogether is stated as 64 MiB beside eight times its body; the rest is for what is not counted.
const BASE_BYTES: u64 = 40 << 20;
/// The rate in bytes per second at which a body must come in, and an answer be read, if it takes
/// longer than the time-out. It lets slow lines finish large bodies, and nobody hold a connection
/// for ever.
const LEAST_RATE: u64 = 64 << 10;

/// The limits of a server. The settings of the same names are in the table `[server]` of
/// `wafer.toml`.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// The number of open connections. Further ones are answered with status 503 and closed.
    /// Default 4,096.
    pub connections: usize,
    /// The number of requests that are worked on at the same time. Further ones wait, after their
    /// bodies have come in. Default 256.
    pub requests: usize,
    /// The longest time that a request waits until it is worked on; then it is refused with status
    /// 503. Default 2 s.
    pub queue_timeout: Duration,
    /// The time within which the headers of a request must have come in, from the start of the
    /// connection or from the answer before. An idle connection is closed after it. Default 30 s.
    pub header_timeout: Duration,
    /// The time within which a body must have come in. A body may take longer as long as it brings
    /// 64 KiB/s on average in every such time. Default 30 s.
    pub body_timeout: Duration,
    /// The time within which a client must have read an answer. It may take longer as long as it
    /// reads 64 KiB/s on average in every such time. Default 30 s.
    pub write_timeout: Duration,
    /// The time that a server which is stopped may take to end: four fifths of it for the requests
    /// in progress, and what is left for the rows that wait to be logged and the outbox. Default
    /// 25 s, because Kubernetes kills after 30 s.
    pub drain_timeout: Duration,
    /// The memory in bytes that all requests together may take, of which each takes eight times
    /// its body, what it looks up and functions return, and its answer until that was sent.
    /// Default 1 GiB.
    pub memory: u64,
    /// The disk in bytes that the temporary files of all requests for training sets together may
    /// take, with the copies of remote files of requests that show rows. Default 16 GiB.
    pub disk: u64,
    /// The disk in bytes that the temporary files of one of them may take: its labels as they were
    /// sent and decompressed, what does not fit into its memory, and its result. Default 4 GiB.
    pub disk_per_set: u64,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 4_096,
            requests: 256,
            queue_timeout: Duration::from_secs(2),
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(25),
            memory: 1 << 30,
            disk: 16 << 30,
            disk_per_set: 4 << 30,
        }
    }
}

/// The progress of bytes that must come in or go out in time.
#[derive(Debug)]
pub(crate) struct Pace {
    timeout: Duration,
    /// When the present period began.
    since: Instant,
    /// The bytes of the present period.
    bytes: u64,
}

impl Pace {
    /// Starts the first period, which is as long as `timeout`.
    pub(crate) fn start(timeout: Duration) -> Self {
        Self {
            timeout,
            since: Instant::now(),
            bytes: 0,
        }
    }

    /// Counts bytes that came in or went out. If the period has had enough of them, the next one
    /// begins.
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if self.bytes >= LEAST_RATE * self.timeout.as_secs().max(1) {
            self.since = Instant::now();
            self.bytes = 0;
        }
    }

    /// Returns the time at which the transfer has been too slow, unless it is finished by then.
    pub(crate) fn deadline(&self) -> Instant {
        self.since + self.timeout
    }
}

/// The memory that a request may take for a body of which `sent` bytes came in, in bytes.
pub(crate) fn allowance(sent: usize) -> u64 {
    BASE_BYTES + BYTES_PER_BODY_BYTE * sent as u64
}

/// What a [`Budget`] is about.
#[derive(Clone, Copy, Debug)]
enum Resource {
    Memory,
    Disk,
}

impl Resource {
    /// Returns the setting, and what it bounds.
    fn setting(self) -> (&'static str, &'static str) {
        match self {
            Self::Memory => ("server.memory", "memory"),
            Self::Disk => ("server.disk", "disk for temporary files"),
        }
    }
}

/// The memory, or the disk, that all requests together may take.
#[derive(Debug)]
pub(crate) struct Budget {
    resource: Resource,
    total: u64,
    free: AtomicU64,
}

impl Budget {
    /// Returns a budget of memory.
    pub(crate) fn new(total: u64) -> Arc<Self> {
        Self::of(Resource::Memory, total)
    }

    /// Returns a budget of disk.
    pub(crate) fn of_disk(total: u64) -> Arc<Self> {
        Self::of(Resource::Disk, total)
    }

    fn of(resource: Resource, total: u64) -> Arc<Self> {
        Arc::new(Self {
            resource,
            total,
            free: AtomicU64::new(total),
        })
    }

    /// Returns how much is not charged.
    #[cfg(test)]
    pub(crate) fn free(&self) -> u64 {
        self.free.load(Ordering::Acquire)
    }

    /// Returns a charge of nothing.
    pub(crate) fn charge(self: &Arc<Self>) -> Charge {
        Charge {
            budget: Arc::clone(self),
            bytes: 0,
        }
    }
}

/// The charge of what a request looks up, which is raised while it is read and unpacked.
#[derive(Clone, Debug)]
pub(crate) struct FoundCharge(Arc<Mutex<Charge>>);

impl FoundCharge {
    pub(crate) fn new(charge: Charge) -> Self {
        Self(Arc::new(Mutex::new(charge)))
    }

    /// Returns the memory for what is looked up. Values of up to `free` bytes are not charged.
    pub(crate) fn memory(&self, free: u64) -> RequestMemory {
        let charge = self.clone();
        RequestMemory::charged_by(move |bytes| match bytes > free {
            true => charge.raise(bytes).map_err(Into::into),
            false => Ok(()),
        })
    }

    /// Raises the charge to `bytes`.
    ///
    /// # Errors
    /// Returns the errors of [`Charge::raise`].
    pub(crate) fn raise(&self, bytes: u64) -> Result<(), Failure> {
        let mut charge = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        charge.raise(bytes)
    }
}

/// Bytes that are taken from a [`Budget`], and given back on drop.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Charge {
    /// Raises the charge to what a body of `length` bytes may take.
    ///
    /// # Errors
    /// Returns status 413 when the budget could never have so much, and 429 when it does not have
    /// it now.
    pub(crate) fn raise_for_body(&mut self, length: usize) -> Result<(), Failure> {
        self.raise(length as u64 * BYTES_PER_BODY_BYTE)
    }

    /// Raises the charge to `bytes`, if it is less.
    ///
    /// # Errors
    /// Returns the errors of [`raise_for_body`](Self::raise_for_body).
    pub(crate) fn raise(&mut self, bytes: u64) -> Result<(), Failure> {
        let Some(more) = bytes.checked_sub(self.bytes) else {
            return Ok(());
        };
        let (setting, resource) = self.budget.resource.setting();
        if bytes > self.budget.total {
            let message = format!(
                "the request may take {} of {resource}, and the server has {} for all requests \
                 (setting `{setting}`); raise the setting, or send less at once",
                bytes_text(bytes),
                bytes_text(self.budget.total)
            );
            return Err(Failure::too_large(message));
        }
        let take = |free: u64| free.checked_sub(more);
        let (set, fetch) = (Ordering::AcqRel, Ordering::Acquire);
        if self.budget.free.fetch_update(set, fetch, take).is_err() {
            return Err(Failure::too_many(format!(
                "the requests in progress take all the {resource} that the server has for them \
                 (setting `{setting}`); try again"
            )));
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Lowers the charge to `bytes`, if it is more.
    fn lower(&mut self, bytes: u64) {
        if let Some(less) = self.bytes.checked_sub(bytes) {
            self.budget.free.fetch_add(less, Ordering::AcqRel);
            self.bytes = bytes;
        }
    }
}

/// The disk that one request takes for its temporary files.
#[derive(Debug)]
pub(crate) struct Disk {
    /// The most bytes that the request may take.
    most: u64,
    state: Mutex<DiskState>,
}

#[derive(Debug)]
struct DiskState {
    charge: Charge,
    /// Why a write failed: there is no room.
    refused: Option<Failure>,
}

impl Disk {
    /// Returns the disk of a request that may take `most` bytes, which are added to a charge.
    pub(crate) fn new(charge: Charge, most: u64) -> Self {
        let refused = None;
        Self {
            most,
            state: Mutex::new(DiskState { charge, refused }),
        }
    }

    /// Takes room for further bytes.
    ///
    /// # Errors
    /// Returns status 413 when the request may not take so much, and the errors of
    /// [`Charge::raise`].
    pub(crate) fn raise_by(&self, bytes: u64) -> Result<(), Failure> {
        let mut state = self.state();
        let wanted = state.charge.bytes.saturating_add(bytes);
        if wanted > self.most {
            return Err(Failure::too_large(format!(
                "the labels and the training set take more than {} of temporary files, which is the \
                 most for one request (setting `server.disk_per_set`); send the labels in parts",
                bytes_text(self.most)
            )));
        }
        state.charge.raise(wanted)
    }

    /// Gives back all but some bytes.
    pub(crate) fn lower_to(&self, bytes: u64) {
        self.state().charge.lower(bytes);
    }

    /// Returns why a write failed, or `None` if none did for want of room.
    pub(crate) fn take_refused(&self) -> Option<Failure> {
        self.state().refused.take()
    }

    fn state(&self) -> MutexGuard<'_, DiskState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DiskRoom for Disk {
    fn take(&self, bytes: u64) -> io::Result<()> {
        self.raise_by(bytes).map_err(|failure| {
            self.state().refused = Some(failure);
            io::Error::other("the request may take no more disk")
        })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.free.fetch_add(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    #[test]
    fn charges_are_bounded_together_and_given_back() {
        let budget = Budget::new(1_000);
        let status = |result: Result<(), Failure>| result.map_err(|failure| failure.status());
        let mut first = budget.charge();
        assert_eq!(status(first.raise_for_body(100)), Ok(()));
        assert_eq!(status(first.raise_for_body(50)), Ok(()));
        let mut second = budget.charge();
        let (full, too_large) = (StatusCode::TOO_MANY_REQUESTS, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(status(second.raise(201)), Err(full));
        assert_eq!(status(second.raise(200)), Ok(()));
        assert_eq!(status(second.raise(1_001)), Err(too_large));
        drop(first);
        assert_eq!(status(second.raise(1_000)), Ok(()));
        drop(second);
        assert_eq!(budget.free(), 1_000);
    }

    #[test]
    fn the_disk_of_requests_is_bounded_for_each_and_for_all() {
        let budget = Budget::of_disk(1_000);
        let disk = |most: u64| Disk::new(budget.charge(), most);
        let refused = |result: Result<(), Failure>| {
            let failure = result.unwrap_err();
            (failure.status(), failure.into_message())
        };
        let (full, too_large) = (StatusCode::TOO_MANY_REQUESTS, StatusCode::PAYLOAD_TOO_LARGE);
        let first = disk(600);
        first.raise_by(400).unwrap();
        first.raise_by(200).unwrap();
        let (status, message) = refused(first.raise_by(1));
        assert_eq!(status, too_large);
        assert!(message.contains("server.disk_per_set"), "{message}");
        let second = disk(600);
        second.take(400).unwrap();
        second.take(1).unwrap_err();
        let (status, message) = refused(Err(second.take_refused().unwrap()));
        assert_eq!(status, full);
        assert!(message.contains("`server.disk`"), "{message}");
        assert!(second.take_refused().is_none());
        first.lower_to(500);
        first.lower_to(550);
        assert_eq!(budget.free(), 100);
        second.take(100).unwrap();
        drop(first);
        assert_eq!(budget.free(), 500);
        drop(second);
        let (status, message) = refused(disk(u64::MAX).raise_by(1_001));
        assert_eq!(status, too_large);
        assert!(message.contains("`server.disk`"), "{message}");
        assert_eq!(budget.free(), 1_000);
    }

    #[test]
    fn looked_up_values_are_charged_until_they_are_dropped() {
        let budget = Budget::new(1_000);
        let found = FoundCharge::new(budget.charge());
        let memory = found.memory(100);
        found.raise(0).unwrap();
        assert_eq!(budget.free(), 1_000);
        found.raise(700).unwrap();
        let other = FoundCharge::new(budget.charge());
        let status = |failure: Failure| failure.status();
        let too_many = other.raise(301).map_err(status);
        assert_eq!(too_many, Err(StatusCode::TOO_MANY_REQUESTS));
        drop(memory);
        assert_eq!(budget.free(), 300);
        drop(found);
        assert_eq!(budget.free(), 1_000);
    }

    #[test]
    fn a_body_gets_more_time_for_each_block_of_bytes_that_comes_in() {
        let mut pace = Pace::start(Duration::from_secs(30));
        let first = pace.deadline();
        pace.advance(30 * 65_536 - 1);
        assert_eq!(pace.deadline(), first);
        pace.advance(1);
        let second = pace.deadline();
        assert!(second > first);
        pace.advance(1);
        assert_eq!(pace.deadline(), second);
    }
}
