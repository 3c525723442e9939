//! The log of requests: what endpoints were asked, what was looked up and computed for it,
//! and what they answered, as rows of offline tables.
//!
//! Nobody waits for it: what is to be logged is queued, and written by whoever looks after
//! the queue. What the queue has no room for is dropped and counted. Shadow releases are
//! asked from the same queue, as all that comes of them is logged.

pub(crate) mod queue;
pub(crate) mod table;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::ArrayRef;
use futures::StreamExt as _;
use wafer_catalog::blocking;
use wafer_store::{EventCommit, OutboxRow, Result, for_work};

use crate::infer::{InferCall, encoded};
use crate::ready::{EndpointServing, ReadyRelease};
use crate::request_log::queue::{Answered, Entry, Shadow};
use crate::routing::{WHOLE, point};
use crate::service::Serving;

/// Rows that are written at once.
pub(crate) const TOGETHER: usize = 4_096;

/// Shadows that are asked at once.
const SHADOWS: usize = 16;

/// How often writing is tried, and the pause before the second time.
const ATTEMPTS: u32 = 4;

const PAUSE: Duration = Duration::from_millis(100);

/// Under which name of a source what is logged is committed; no source can have it.
const SOURCE: &str = "requests/log";

/// Rows that are to be logged, of those that a release was asked for, by their places. All
/// rows of one key are, or none, whichever release answers: by the field that the endpoint
/// routes by, else by the join keys that all its releases have, else by the request.
pub(crate) fn sampled(
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
    let keys: Vec<ArrayRef> = keys.map(|place| Arc::clone(&inputs[place])).collect();
    let is_logged = |row: &usize| {
        let key = match keys.is_empty() {
            true => call.own_id.as_bytes().to_vec(),
            false => encoded(&keys, *row),
        };
        point("log", &serving.name, &key) < serving.routing.log
    };
    rows.filter(is_logged).collect()
}

impl Serving {
    /// Writes what waits now to be logged, after shadows were asked: to be called again and
    /// again by who answers requests, and before it ends. What cannot be written is
    /// counted, and the reason is in the program's own log.
    pub async fn write_log(&self) {
        let log = &self.request_log;
        let _alone = log.writing.lock().await;
        // What comes in meanwhile is for the next time: else a few rows at a time would be
        // written, each time with a wait for the disk.
        let mut waiting = log.queue().entries.len();
        while waiting > 0 {
            let entries = log.queue().take(TOGETHER);
            waiting = waiting.saturating_sub(entries.len());
            let (mut answers, mut shadows) = (Vec::new(), Vec::new());
            for entry in entries {
                match entry {
                    Entry::Answered(answered) => answers.push(answered),
                    Entry::Shadow(shadow) => shadows.push(shadow),
                }
            }
            let asked = futures::stream::iter(shadows).map(|shadow| self.ask_shadow(shadow));
            let asked: Vec<Option<Answered>> = asked.buffer_unordered(SHADOWS).collect().await;
            answers.extend(asked.into_iter().flatten());
            self.write_answers(answers).await;
        }
    }

    async fn ask_shadow(&self, shadow: Shadow) -> Option<Answered> {
        let Shadow { ready, call, rows } = shadow;
        let endpoint = ready.endpoint.clone();
        match self.ask(&ready, &call, &rows).await {
            Ok(asked) => Some(Answered {
                rows: (0..rows.len()).collect(),
                part: rows,
                is_shadow: true,
                ready,
                call,
                asked,
            }),
            Err(error) => {
                let release = &ready.release.name;
                tracing::warn!("shadow `{release}` of `{endpoint}`: {}", error.chain());
                self.request_log.count(&endpoint, "failed", rows.len());
                None
            }
        }
    }

    async fn write_answers(&self, answers: Vec<Answered>) {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for answered in &answers {
            *counts.entry(answered.ready.endpoint.clone()).or_default() += answered.rows.len();
        }
        let Some(id) = answers.first().map(|first| first.call.own_id.clone()) else {
            return;
        };
        let packed = blocking(move || {
            let rows = answers
                .iter()
                .map(|answered| answered.ready.log.rows(answered));
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

    async fn commit_log(&self, id: String, rows: Vec<OutboxRow>) -> Result<()> {
        let now = self.context.now();
        let commit = EventCommit {
            source: SOURCE.to_owned(),
            id,
            // Only what is tried again below could come twice.
            remember_until: now.plus_micros(60_000_000),
            writes: Vec::new(),
            early: Vec::new(),
            outbox: rows,
        };
        let mut pause = PAUSE;
        for attempt in 1.. {
            let online = &self.context.components().online;
            let committed = online.commit_events(vec![commit.clone()], now);
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
    /// The counts of rows that were to be logged, in the text format of Prometheus.
    pub fn metrics(&self) -> String {
        self.request_log.metrics()
    }
}
