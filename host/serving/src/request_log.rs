//! The request log: the sampled rows of requests to endpoints with their features, the identities
//! of the rows that these were read from, and the predictions, as rows of offline tables.
//!
//! - When an answer is ready, its sampled rows are put into a bounded queue (`queue`), as columns
//!   and stored rows that are shared with the answer. If the queue is full, they are dropped and
//!   counted. The client never waits for the log.
//! - [`Serving::write_log`] empties the queue. A server calls it in a loop, and the Lambda program
//!   after an answer was sent and before it asks for the next invocation. The rows go into the
//!   outbox, as those of events do, and from there into one offline table for each endpoint and
//!   set of columns (`table`).
//! - Shadow releases are asked from the same queue, as of the time of the request, because their
//!   answers are only logged.
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
use wafer_core::Duration;
use wafer_store::{EventCommit, OutboxRow, Result, for_work};

use crate::call::InferCall;
use crate::found::FoundMemory;
use crate::ready::{EndpointServing, ReadyRelease};
use crate::request_log::queue::{Answered, Entry, Shadow};
use crate::request_log::rows::logged_rows;
use crate::routing::{WHOLE, encoded_row, point};
use crate::service::Serving;

/// The number of rows that are written in one commit, about.
pub(crate) const COMMIT_ROWS: usize = 4_096;

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
    /// Asks the shadows that wait in the queue, and writes the answers that wait to be logged.
    ///
    /// Every process that answers requests calls this again and again, and once more before it
    /// ends. Rows that cannot be written are counted, and the reason is traced.
    pub async fn write_log(&self) {
        let log = &self.request_log;
        let _alone = log.writing.lock().await;
        // Entries that are queued from now on are left for the next call. Otherwise this call
        // would write them a few rows at a time, and wait for the disk each time.
        let mut waiting = log.queue().entries.len();
        while waiting > 0 {
            let entries = log.queue().take(COMMIT_ROWS);
            waiting = waiting.saturating_sub(entries.len());
            let (mut answers, mut shadows) = (Vec::new(), Vec::new());
            for entry in entries {
                match entry {
                    Entry::Answered(answered) => answers.push(answered),
                    Entry::Shadow(shadow) => shadows.push(shadow),
                }
            }
            let asked = futures::stream::iter(shadows).map(|shadow| self.ask_shadow(shadow));
            let asked: Vec<Option<Answered>> =
                asked.buffer_unordered(CONCURRENT_SHADOWS).collect().await;
            answers.extend(asked.into_iter().flatten());
            self.write_answers(answers).await;
        }
    }

    /// Asks a shadow release. Returns its answer, or `None` if it failed, which is counted.
    async fn ask_shadow(&self, shadow: Shadow) -> Option<Answered> {
        let Shadow { ready, call, rows } = shadow;
        let endpoint = ready.endpoint.clone();
        let memory = FoundMemory::default();
        match self.ask(&ready, &call, &rows, memory).await {
            Ok(answer) => Some(Answered {
                rows: (0..rows.len()).collect(),
                part: rows,
                is_shadow: true,
                ready,
                call,
                answer,
            }),
            Err(error) => {
                let release = &ready.release.name;
                tracing::warn!("shadow `{release}` of `{endpoint}`: {}", error.chain());
                self.request_log.count(&endpoint, "failed", rows.len());
                None
            }
        }
    }

    /// Writes answers to the outbox, and counts their rows as written or failed.
    async fn write_answers(&self, answers: Vec<Answered>) {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for answered in &answers {
            *counts.entry(answered.ready.endpoint.clone()).or_default() += answered.rows.len();
        }
        let Some(id) = answers.first().map(|first| first.call.unique_id.clone()) else {
            return;
        };
        let packed = blocking(move || {
            let rows = answers.iter().map(logged_rows);
            rows.flatten().collect::<Vec<_>>()
        });
        let written = match packed.await {
            Ok(rows) => self.commit_log(id, rows).await,
            Err(error) => Err(error),
        };
        let outcome = match written {
            Ok(()) => "written",
            Err(error) => {
                tracing::error!("requests were not logged: {}", error.chain());
                "failed"
            }
        };
        for (endpoint, rows) in counts {
            self.request_log.count(&endpoint, outcome, rows);
        }
    }

    /// Commits rows to the outbox. A commit that fails is tried again under the same id, so the
    /// rows are not written twice if it succeeded nevertheless.
    async fn commit_log(&self, id: String, rows: Vec<OutboxRow>) -> Result<()> {
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
