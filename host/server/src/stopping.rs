//! The end of a server: how long it may take, and what is said meanwhile.
//!
//! One deadline holds for everything that a server does after it was told to stop: the requests in
//! progress, the rows that wait to be logged, and the outbox. Whoever stops it, such as systemd or
//! Kubernetes, kills it after a time of their own, and nobody would learn what was lost.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use wafer_platform::{Error, Kind, Result};

/// The time after which a server says what it waits for, and between two such lines.
const PAUSE: Duration = Duration::from_secs(2);

/// A server that was told to stop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopping {
    since: Instant,
    /// The time that all of it may take.
    limit: Duration,
    /// The pause between two lines.
    pause: Duration,
}

impl Stopping {
    /// Begins to stop now. `limit` is the time that it may take.
    pub(crate) fn begin(limit: Duration) -> Self {
        Self {
            since: Instant::now(),
            limit,
            pause: PAUSE,
        }
    }

    /// Returns when the requests in progress must have finished. A fifth of the time is left for
    /// what comes after them.
    pub(crate) fn end_of_requests(&self) -> Instant {
        self.since + self.limit / 5 * 4
    }

    /// Returns when everything must have finished.
    pub(crate) fn end(&self) -> Instant {
        self.since + self.limit
    }

    /// Waits for some work until `end`, and says now and then what is waited for. Returns `None` if
    /// it had not finished by then.
    pub(crate) async fn wait<T>(
        &self,
        end: Instant,
        work: impl Future<Output = T>,
        waits_for: impl Fn() -> String,
    ) -> Option<T> {
        let mut work = pin!(work);
        loop {
            let next = Instant::now() + self.pause;
            match timeout_at(end.min(next), &mut work).await {
                Ok(done) => return Some(done),
                Err(_) if next >= end => return None,
                Err(_) => {
                    let left = end.saturating_duration_since(Instant::now()).as_secs();
                    let what = waits_for();
                    tracing::warn!("stopping waits for {what}, for {left} s at most");
                }
            }
        }
    }

    /// Says that the background work was given up, of which `rows` rows of the request log were
    /// not written.
    ///
    /// # Errors
    /// Returns an error if there are such rows. They are lost, and nothing else is: what was
    /// acknowledged is in the stores, from where the next process takes it up.
    pub(crate) fn given_up(&self, rows: u64) -> Result<()> {
        let limit = self.limit;
        if rows == 0 {
            tracing::warn!(
                "the background work had not finished within {limit:?} (setting \
                 `server.drain_timeout`); the next process takes up what is left"
            );
            return Ok(());
        }
        let message = format!(
            "{rows} rows of the request log were not written, and are lost: the stores had not \
             confirmed them {limit:?} after the server was told to stop (setting \
             `server.drain_timeout`); look at whether the stores can be reached"
        );
        Err(Error::new(Kind::Unavailable, message))
    }
}

/// Says what the background work has to do at the end, with the number of rows of the request log
/// that wait, if there are any.
pub(crate) fn background_work(rows: u64) -> String {
    match rows {
        0 => "the outbox and other background work".to_owned(),
        1 => "1 row of the request log, the outbox and other background work".to_owned(),
        _ => format!("{rows} rows of the request log, the outbox and other background work"),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::{pending, poll_fn, ready};
    use std::task::Poll;

    use super::*;

    fn stopping(limit: Duration) -> Stopping {
        Stopping {
            pause: Duration::from_millis(1),
            ..Stopping::begin(limit)
        }
    }

    #[test]
    fn requests_leave_some_of_the_time_to_the_rest() {
        for (limit, requests) in [(25_000, 20_000), (1_000, 800), (0, 0)] {
            let stopping = stopping(Duration::from_millis(limit));
            let of_requests = stopping.end_of_requests() - stopping.since;
            assert_eq!(of_requests, Duration::from_millis(requests));
            assert_eq!(stopping.end() - stopping.since, stopping.limit);
        }
    }

    #[tokio::test]
    async fn stopping_says_what_it_waits_for_and_ends_at_its_deadline() {
        let patient = stopping(Duration::from_secs(3_600));
        let said = Cell::new(0);
        let waits_for = || {
            said.set(said.get() + 1);
            "a store that is slow".to_owned()
        };
        let slow = poll_fn(|_| match said.get() {
            3 => Poll::Ready("stored"),
            _ => Poll::Pending,
        });
        let stored = patient.wait(patient.end(), slow, waits_for).await;
        assert_eq!((stored, said.get()), (Some("stored"), 3));

        let late = stopping(Duration::ZERO);
        let never = late.wait(late.end(), pending::<()>(), String::new);
        assert_eq!(never.await, None);
        let ready = late.wait(late.end(), ready("stored"), String::new);
        assert_eq!(ready.await, Some("stored"));
    }

    #[test]
    fn stopping_names_rows_of_the_request_log_only_if_there_are_some() {
        for (rows, wanted) in [
            (0, "the outbox and"),
            (1, "1 row of the request log, the outbox and"),
            (3, "3 rows of the request log, the outbox and"),
        ] {
            let said = background_work(rows);
            assert!(said.starts_with(wanted), "{said}");
        }
    }

    #[test]
    fn rows_that_are_lost_are_an_error_that_names_their_number() {
        let stopping = stopping(Duration::from_secs(25));
        stopping.given_up(0).unwrap();
        let error = stopping.given_up(13).unwrap_err();
        let message = error.to_string();
        assert!(message.starts_with("13 rows of the request log were not"));
        assert!(message.contains("25s after") && message.contains("server.drain_timeout"));
    }
}
