//! The request log: the sampled rows of requests to endpoints with their features, the identities
//! of the rows that these were read from, and the predictions, as rows of offline tables.
//!
//! - When an answer is ready, its sampled rows are put into a bounded queue (`queue`), as columns
//!   and stored rows that are shared with the answer. If the queue is full, they are dropped and
//!   counted. The client never waits for the log.
//! - [`Serving::write_log`] empties the queue if its rows are due. A server calls it in a loop, and
//!   the Lambda program after an answer was sent and before it asks for the next invocation. The
//!   rows go into the outbox, as those of events do, and from there into one offline table for each
//!   endpoint and set of columns (`table`).
//! - Where each commit is charged for, rows are due [`Routing::log_within`] after they were queued,
//!   and sooner if many wait. Elsewhere they are due at once. [`Serving::write_whole_log`] writes
//!   what is left when a process ends. A process that is killed loses what waits.
//! - Shadow releases are asked from a queue beside it, as of the time of the request, because their
//!   answers are only logged. They do not wait, so that they find what the request found.
//!
//! Rows are sampled by a hash of the key that rows are routed by or, without one, of the join keys
//! that all releases have. So all rows of a key are logged, or none.

pub(crate) mod queue;
mod rows;
pub(crate) mod table;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time;

use arrow_array::ArrayRef;
use futures::StreamExt as _;
use wafer_catalog::blocking;
use wafer_core::{Duration, Timestamp};
use wafer_store::{Error, EventCommit, Kind, OutboxRow, Result, for_work};

use crate::call::InferCall;
use crate::found::RequestMemory;
use crate::ready::{EndpointServing, ReadyRelease};
use crate::request_log::queue::{Answered, COMMIT_ROWS, Shadow};
use crate::request_log::rows::logged_rows;
use crate::routing::{Routing, WHOLE, encoded_row, point};
use crate::service::Serving;

/// The number of shadows that are asked at the same time.
const CONCURRENT_SHADOWS: usize = 16;

/// The number of times that a commit is tried.
const ATTEMPTS: u32 = 4;

/// The pause before the second attempt. It doubles with each attempt.
const PAUSE: time::Duration = time::Duration::from_millis(100);

/// The name of the source under which logged rows are committed. The name of a source in
/// `wafer.toml` has no slash, so it cannot be this one.
const SOURCE: &str = "requests/log";

/// Returns the positions of the rows to log among those that a release was asked for.
///
/// All rows of a key are logged, or none, whichever release answers. The key is the field that
/// the endpoint routes by, or the join keys that all its releases have, or the request if there
/// are none.
pub(crate) fn sampled_rows(
    serving: &EndpointServing,
    ready: &ReadyRelease,
    call: &InferCall,
    inputs: &[ArrayRef],
) -> Vec<usize> {
    let rows = 0..inputs
        .first()
        .map_or(call.request.rows, |column| column.len());
    match serving.routing.log {
        0 => return Vec::new(),
        WHOLE => return rows.collect(),
        _ => {}
    }
    let view = ready.view.definition();
    let keys = serving.sampled_by().iter();
    let keys = keys.filter_map(|key| view.inputs.iter().position(|field| field.name == *key));
    let keys: Vec<ArrayRef> = keys.map(|input| Arc::clone(&inputs[input])).collect();
    let is_logged = |row: &usize| {
        let key = match keys.is_empty() {
            true => call.unique_id.as_bytes().to_vec(),
            false => encoded_row(&keys, *row),
        };
        point("log", &serving.name, &key) < serving.routing.log
    };
    rows.filter(is_logged).collect()
}

impl Serving {
    /// Asks the shadows that wait, and writes the answers that wait to be logged if one of them is
    /// due, or many wait.
    ///
    /// Every process that answers requests calls this again and again, and
    /// [`write_whole_log`](Self::write_whole_log) before it ends. Rows that cannot be written are
    /// counted, and the reason is traced.
    pub async fn write_log(&self) {
        let log = &self.request_log;
        let _alone = log.writing.lock().await;
        self.ask_shadows().await;
        let is_due = log.answers().is_due(self.context.machine_now());
        if is_due {
            self.write_waiting().await;
        }
    }

    /// Asks the shadows that wait, and writes all answers that wait to be logged.
    ///
    /// # Errors
    /// Returns [`Kind::Unavailable`] with the number of rows that could not be written, and that
    /// are lost. The reasons are traced.
    pub async fn write_whole_log(&self) -> Result<()> {
        let _alone = self.request_log.writing.lock().await;
        let failed = self.ask_shadows().await + self.write_waiting().await;
        match failed {
            0 => Ok(()),
            rows => Err(Error::new(
                Kind::Unavailable,
                format!(
                    "{rows} rows of the request log were not written, and are lost, for the reasons \
                     above"
                ),
            )),
        }
    }

    /// Returns the number of rows of requests that wait to be logged or are being written. If the
    /// process ends, they are lost.
    pub fn unwritten_log_rows(&self) -> u64 {
        self.request_log.unwritten()
    }

    /// Returns the time at which a row that is logged now is written at the latest.
    pub(crate) fn log_due(&self, routing: &Routing) -> Timestamp {
        match self.context.components().stores.metered.is_charged() {
            true => self.context.machine_now().plus(routing.log_within),
            false => Timestamp::MIN,
        }
    }

    /// Asks the shadows that wait, and queues their answers. Returns the number of rows that could
    /// not be written, if there were so many that they were written meanwhile.
    async fn ask_shadows(&self) -> usize {
        let (log, mut failed) = (&self.request_log, 0);
        // Those that are queued from now on are left for the next call.
        let mut waiting = log.shadows().len();
        while waiting > 0 {
            let shadows = log.shadows().take(COMMIT_ROWS);
            waiting = waiting.saturating_sub(shadows.len());
            let asked = futures::stream::iter(shadows).map(|shadow| self.ask_shadow(shadow));
            let asked: Vec<Option<Answered>> =
                asked.buffer_unordered(CONCURRENT_SHADOWS).collect().await;
            for answered in asked.into_iter().flatten() {
                let rows = answered.rows.len();
                log.push_answered(answered);
                // They were counted when the shadow was queued, too.
                log.end(rows);
            }
            let has_enough = log.answers().has_enough();
            if has_enough {
                failed += self.write_waiting().await;
            }
        }
        failed
    }

    /// Writes the answers that wait. Returns the number of rows that could not be written.
    async fn write_waiting(&self) -> usize {
        let (log, mut failed) = (&self.request_log, 0);
        // Answers that are queued from now on are left for the next call. Otherwise this call
        // would write them a few rows at a time, and wait for the disk each time.
        let mut waiting = log.answers().len();
        while waiting > 0 {
            let answers = log.answers().take(COMMIT_ROWS);
            waiting = waiting.saturating_sub(answers.len());
            failed += self.write_answers(answers).await;
        }
        failed
    }

    /// Asks a shadow release. Returns its answer, or `None` if it failed, which is counted.
    async fn ask_shadow(&self, shadow: Shadow) -> Option<Answered> {
        let Shadow {
            ready,
            call,
            rows,
            due,
        } = shadow;
        let endpoint = ready.endpoint.clone();
        let memory = RequestMemory::default();
        match self.ask(&ready, &call, &rows, memory).await {
            Ok(answer) => Some(Answered {
                rows: (0..rows.len()).collect(),
                part: rows,
                is_shadow: true,
                ready,
                call,
                answer,
                due,
            }),
            Err(error) => {
                let release = &ready.release.name;
                tracing::warn!("shadow `{release}` of `{endpoint}`: {}", error.chain());
                self.request_log.count(&endpoint, "failed", rows.len());
                None
            }
        }
    }

    /// Writes answers to the outbox, and counts their rows as written or failed. Returns the number
    /// of those that failed.
    async fn write_answers(&self, answers: Vec<Answered>) -> usize {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for answered in &answers {
            *counts.entry(answered.ready.endpoint.clone()).or_default() += answered.rows.len();
        }
        let packed = blocking(move || {
            let rows = answers.iter().map(logged_rows);
            rows.flatten().collect::<Vec<_>>()
        });
        let written = match packed.await {
            Ok(rows) => self.commit_log(rows).await,
            Err(error) => Err(error),
        };
        let (outcome, failed) = match written {
            Ok(()) => ("written", 0),
            Err(error) => {
                tracing::error!("requests were not logged: {}", error.chain());
                ("failed", counts.values().sum())
            }
        };
        for (endpoint, rows) in counts {
            self.request_log.count(&endpoint, outcome, rows);
        }
        failed
    }

    /// Commits rows to the outbox. A commit that fails is tried again under the same id, so the
    /// rows are not written twice if it succeeded nevertheless.
    async fn commit_log(&self, rows: Vec<OutboxRow>) -> Result<()> {
        // Parts of one request may be in two commits, which must not be taken for the same one. No
        // row is in two.
        let Some(id) = rows.first().map(|row| row.event_id.clone()) else {
            return Ok(());
        };
        let now = self.context.now();
        let commit = EventCommit {
            source: SOURCE.to_owned(),
            id,
            // The id is remembered for one minute only, because no commit is repeated but by the
            // loop below.
            remember_until: now.plus(Duration::from_mins(1)),
            writes: Vec::new(),
            early: Vec::new(),
            outbox: rows,
        };
        let mut pause = PAUSE;
        for attempt in 1.. {
            let online = &self.context.components().stores.online;
            let committed = online.commit_events(vec![commit.clone()], self.context.due_until());
            match for_work("log".to_owned(), committed).await {
                Ok(_) => break,
                Err(error) if attempt == ATTEMPTS => return Err(error),
                Err(_) => tokio::time::sleep(pause).await,
            }
            pause *= 2;
        }
        Ok(())
    }
}

impl Serving {
    /// Returns the numbers of rows that were written, dropped and failed, in the text format of
    /// Prometheus.
    pub fn metrics(&self) -> String {
        self.request_log.metrics()
    }
}
