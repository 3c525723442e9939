//! Creating an object, unless there is one of that name.
//!
//! A request may fail after S3 did what it asks for: the connection breaks, or no answer comes in
//! time. `object_store` repeats a write that replaces an object then, and returns the error of one
//! that creates it, because the object that a second attempt would find could be that of somebody
//! else. But the name and the content say what is written. So the write is attempted again, and if
//! the object exists by then, and an attempt before was left in doubt, the two contents are
//! compared. If they are equal, the object is as the caller wants it, whoever made it; if not, it
//! existed or somebody else was faster.
//!
//! That is not right where only one of several writers of the same content may succeed, as in the
//! log of a Delta table. A commit is named by its number, and its writer builds the next one on it.
//! Most commits name data files, which have random names, but those that only remove files, add
//! columns or note a transaction do not. They tell writers apart by a time in milliseconds alone,
//! so that two writers could make equal ones. There, a second attempt that finds an object says so.
//! `deltalake` takes that for the commit of somebody else. Then the commit's transaction identity
//! tells whose it is (`host/store/src/offline/written.rs`), as it does when the outcome of a commit
//! stays unknown.
//!
//! Nor may a name be created again that has been removed since: that of a commit in the outbox is,
//! as soon as its rows are in the tables. Whoever removes what it creates sets a [`Deadline`].
//!
//! A large object is created in parts, and exists from the completion of its upload on, which S3
//! completes once at most. So an upload has the time that its parts take, each of which has a
//! timeout and attempts of its own, and only another upload after it must be in time. That holds
//! where nobody waits for the object: others wait for commits of events
//! ([`Deadline::with_first`]).

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, ObjectStore as _, PutMode, PutOptions, PutPayload, PutResult, Result};
use wafer_core::{Clock, Timestamp};
use wafer_store::Kind;

use super::resilient::{
    ATTEMPTS, FIRST_PAUSE, RETRY_TIMEOUT, ResilientStore, WRITTEN_IN_PARTS, library_error,
};
use super::{error_chain, is_transient, leaves_doubt};
use crate::pauses::Pauses;
use crate::s3::{Content, Existing, WriteFailure, write_pauses};

/// The folder with the log of a Delta table.
const LOG: &str = "_delta_log";

/// How much longer than a repeated attempt to create an object the first one may take, which is the
/// time of 100 MiB at 64 KiB/s. Whoever looks for commits counts on it: they are listed from an
/// hour (`MAX_CLOCK_SKEW` in `online.rs`) before the oldest that is known.
const FIRST_ATTEMPT: wafer_core::Duration = wafer_core::Duration::from_mins(27);

/// Until when an attempt to create an object may be repeated, if it may have succeeded. As long as
/// none may have, there are [`FIRST_ATTEMPT`] more, unless [`with_first`](Self::with_first) says
/// otherwise. It is told by a clock that goes on whatever happens to the process, and is passed in
/// the extensions of the options of a write.
#[derive(Clone, Debug)]
pub(crate) struct Deadline {
    clock: Arc<dyn Clock>,
    time: Timestamp,
    /// Until when an attempt may take before which none may have succeeded.
    first: Timestamp,
}

impl Deadline {
    pub(crate) fn new(clock: Arc<dyn Clock>, time: Timestamp) -> Self {
        Self {
            clock,
            time,
            first: time.plus(FIRST_ATTEMPT),
        }
    }

    /// Returns the same deadline with another one for the first attempt, which is not earlier.
    pub(crate) fn with_first(self, first: Timestamp) -> Self {
        Self {
            first: first.max(self.time),
            ..self
        }
    }

    /// Returns the same deadline where an attempt before may have succeeded, so that there is no
    /// first one.
    pub(crate) fn in_doubt(self) -> Self {
        let time = self.time;
        self.with_first(time)
    }

    /// Returns options of a write that creates an object by this deadline.
    pub(crate) fn into_options(self) -> PutOptions {
        let mut options = PutOptions::from(PutMode::Create);
        options.extensions.insert(self);
        options
    }

    /// Returns how much time an attempt has. If it is `in_doubt`, one before may have succeeded.
    fn left(&self, in_doubt: bool) -> Duration {
        let time = match in_doubt {
            true => self.time,
            false => self.first,
        };
        let left = time.since(self.clock.now());
        Duration::from_micros(u64::try_from(left.as_micros()).unwrap_or(0))
    }
}

/// Waits for an attempt until its deadline, if there is one. The attempt is abandoned then.
async fn in_time<T>(
    deadline: Option<&Deadline>,
    in_doubt: bool,
    write: impl Future<Output = Result<T>>,
) -> Result<T> {
    let Some(deadline) = deadline else {
        return write.await;
    };
    let late = || Error::Generic {
        store: "S3",
        source: "it was not written in time; if the line to S3 is slow, push fewer events at once"
            .into(),
    };
    let left = deadline.left(in_doubt);
    // A timeout of no time would begin the write.
    if left.is_zero() {
        return Err(late());
    }
    let written = tokio::time::timeout(left, write).await;
    written.unwrap_or_else(|_| Err(late()))
}

impl ResilientStore {
    /// Creates an object by one request, which is repeated if it fails.
    ///
    /// # Errors
    /// Returns [`Error::AlreadyExists`] when there is an object of that name, unless it has the
    /// same content and may come from an earlier attempt; in the log of a Delta table, even then.
    pub(super) async fn create(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let deadline = options.extensions.get::<Deadline>();
        let (begun, mut in_doubt) = (Instant::now(), false);
        let mut pauses = Pauses::new(ATTEMPTS, FIRST_PAUSE);
        loop {
            let (payload, options) = (payload.clone(), options.clone());
            let attempt = self.single.put_opts(location, payload.clone(), options);
            let error = match in_time(deadline, in_doubt, attempt).await {
                Err(e @ Error::AlreadyExists { .. }) if is_in_progress(&e) => e,
                Err(e @ Error::AlreadyExists { .. }) if in_doubt && !is_of_log(location) => {
                    let same = self.same(location, payload).await?;
                    return same.ok_or(e);
                }
                Err(e) if is_transient(&e) => e,
                done => return done,
            };
            in_doubt |= leaves_doubt(&error);
            tracing::debug!(%location, error = %error_chain(&error), "it is created again");
            if begun.elapsed() > RETRY_TIMEOUT || !pauses.pause().await {
                return Err(error);
            }
        }
    }

    /// Creates a large object in parts. The upload is begun again if S3 says that it must be.
    ///
    /// # Errors
    /// Returns the errors of [`create`](Self::create).
    pub(super) async fn create_in_parts(
        &self,
        location: &Path,
        payload: PutPayload,
        deadline: Option<&Deadline>,
    ) -> Result<PutResult> {
        let about = self.about("write", location);
        let bytes = Bytes::from(payload);
        let content = Content::Memory(bytes.clone());
        let (mut pauses, mut in_doubt) = (write_pauses(), false);
        loop {
            let upload = self
                .client
                .write_once(location, &content, Existing::Keep, &about);
            let upload = async { Ok(upload.await) };
            let failure = match in_time(deadline, in_doubt, upload).await? {
                Ok(()) => return Ok(WRITTEN_IN_PARTS),
                Err(failure) => failure,
            };
            if let WriteFailure::Interrupted(error) = &failure {
                tracing::debug!(%location, error = %error.chain(), "it is created again");
                in_doubt = true;
                if pauses.pause().await {
                    continue;
                }
            }
            let error = failure.into_error();
            if error.kind() != Kind::Conflict {
                return Err(library_error(location, error));
            }
            let same = match in_doubt && !is_of_log(location) {
                true => self.same(location, bytes.into()).await?,
                false => None,
            };
            return same.ok_or_else(|| Error::AlreadyExists {
                path: location.to_string(),
                source: Box::new(error),
            });
        }
    }

    /// Returns what a write of an object with this content would have returned, if there is one.
    async fn same(&self, location: &Path, payload: PutPayload) -> Result<Option<PutResult>> {
        let found = match self.get_opts(location, Default::default()).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            found => found?,
        };
        if found.meta.size != payload.content_length() as u64 {
            return Ok(None);
        }
        let (e_tag, version) = (found.meta.e_tag.clone(), found.meta.version.clone());
        let is_same = found.bytes().await? == Bytes::from(payload);
        Ok(is_same.then_some(PutResult { e_tag, version }))
    }
}

/// Returns whether S3 refused a write because another one of the same object was in progress, of
/// which it does not know yet how it ends. It then wants to be asked again:
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>. `object_store`
/// takes that for an object that exists.
fn is_in_progress(error: &Error) -> bool {
    error_chain(error).contains("status code: 409")
}

fn is_of_log(location: &Path) -> bool {
    location.parts().any(|part| part.as_ref() == LOG)
}
