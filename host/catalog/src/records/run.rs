//! Records of runs.
//!
//! The record of the last run over an interval of a table is also the claim on that interval: it
//! is written under the version that was read before, so that a process whose run was taken over
//! finds that out and stops.

use std::fmt::Display;

use serde::{Deserialize, Serialize};
use wafer_core::rules::Interval;
use wafer_core::{Digest, Timestamp, cut, cut_to};

/// The state of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// The run was started. If its process has ended, the run can be repeated.
    Running,
    /// The run has written everything.
    Succeeded,
    /// The run stopped at an error. If that was after the commit, its rows are in the offline
    /// table, and repeating the run continues from there.
    Failed,
}

/// A row that was rejected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// Where the row came from: the file with the line or row.
    pub place: String,
    /// Why the row was rejected.
    pub message: String,
}

impl Reject {
    /// Creates a reject, and cuts its message to 500 bytes.
    pub fn new(place: String, message: String) -> Self {
        let message = cut_to(message, 500);
        Self { place, message }
    }
}

/// One execution of a pipeline over a data interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The id of the run. Ids sort by the time of the claim.
    pub id: String,
    /// The name of the pipeline.
    pub pipeline: String,
    /// The table of the group version that the run writes.
    pub table: String,
    /// The data interval that the run covers: event times, or available times if the source is
    /// another group.
    pub interval: Interval,
    /// Whether a backfill combined several intervals, so that they are one here. By a schedule,
    /// each row counts as visible from the end of its own interval on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_combined: bool,
    /// A number that rises each time the interval is run with other inputs.
    pub generation: i64,
    /// The digest of the files, the function and the settings.
    pub inputs: Digest,
    /// The fraction of its rows that the run might reject. Records of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rejects: Option<f64>,
    /// How far the run read the table of another group, if that is its source.
    pub upstream: Option<Upstream>,
    /// The state of the run.
    pub state: RunState,
    /// When the run was claimed, by the platform's clock. It is the `created_timestamp` of the
    /// run's rows, and is kept when the run is repeated.
    pub created: Timestamp,
    /// When the run was last started, by the machine's clock.
    pub started: Timestamp,
    /// When the run ended, by the machine's clock.
    pub finished: Option<Timestamp>,
    /// How often the run was started.
    pub attempts: u32,
    /// The number of source rows that were read, including those of other intervals.
    pub rows_read: u64,
    /// The number of rows that were written to the offline table.
    pub rows_written: u64,
    /// The number of computed rows whose event time is outside the interval.
    pub rows_outside: u64,
    /// The number of rejected rows. They are in the quarantine table.
    pub rows_rejected: u64,
    /// The number of rows that were left out because their entity was deleted after they happened.
    pub rows_deleted: u64,
    /// The number of rows that were written although they break an expectation.
    pub rows_warned: u64,
    /// The first of the rejected rows.
    pub rejects: Vec<Reject>,
    /// Problems of the run as a whole that did not make it fail.
    pub warnings: Vec<String>,
    /// The number of rows that were written to the online store: the newest one, or the summary of
    /// events, of each entity in each of the batches that a large run is written in. An entity that
    /// occurs in several batches counts once for each.
    pub online_applied: u64,
    /// The number of rows that changed nothing online because the stored rows are newer.
    pub online_older: u64,
    /// Whether the run ended after the declared `delay` of its interval: requests saw its rows
    /// later than their `available_timestamp` says.
    pub overran: bool,
    /// Why the run failed.
    pub error: Option<String>,
    /// The version of the interval's claim as it was last read or written; 0 for none.
    #[serde(skip)]
    pub claim: u64,
}

impl RunRecord {
    /// Returns the folder of the interval's data files. It does not depend on the pipeline that
    /// writes the group.
    pub fn work_folder(&self) -> String {
        format!("runs/{}", self.interval.slug())
    }

    /// Returns the folder of this generation's data files.
    pub fn folder(&self) -> String {
        format!("{}/{}", self.work_folder(), self.generation)
    }

    /// Returns the key of the run, which is unique among the runs of its pipeline: its id and
    /// generation.
    pub fn key(&self) -> String {
        format!("{}.{}", self.id, self.generation)
    }

    /// Returns the identity of the work on the interval, which Delta commits carry.
    pub fn app_id(&self) -> String {
        format!("wafer/{}", self.work_folder())
    }

    /// Creates the record of a run that failed before its inputs were known.
    pub fn unclaimed(
        pipeline: &str,
        table: &str,
        interval: Interval,
        created: Timestamp,
        started: Timestamp,
    ) -> Self {
        Self::new(pipeline, table, interval, Digest::of(&[]), created, started)
    }

    /// Creates the record of a run that begins.
    pub fn new(
        pipeline: &str,
        table: &str,
        interval: Interval,
        inputs: Digest,
        created: Timestamp,
        started: Timestamp,
    ) -> Self {
        Self {
            id: String::new(),
            pipeline: pipeline.to_owned(),
            table: table.to_owned(),
            interval,
            is_combined: false,
            generation: 0,
            inputs,
            max_rejects: None,
            upstream: None,
            state: RunState::Running,
            created,
            started,
            finished: None,
            attempts: 1,
            rows_read: 0,
            rows_written: 0,
            rows_outside: 0,
            rows_rejected: 0,
            rows_deleted: 0,
            rows_warned: 0,
            rejects: Vec::new(),
            warnings: Vec::new(),
            online_applied: 0,
            online_older: 0,
            overran: false,
            error: None,
            claim: 0,
        }
    }

    /// Returns the record of the same run as it starts once more.
    pub fn restart(self, started: Timestamp) -> Self {
        Self {
            state: RunState::Running,
            started,
            finished: None,
            error: None,
            attempts: self.attempts + 1,
            ..self
        }
    }

    /// Marks the run as failed. The error is cut, so that the record of any failed run can be
    /// written.
    pub fn fail(&mut self, error: impl Display, finished: Timestamp) {
        self.state = RunState::Failed;
        self.error = Some(cut(error));
        self.finished = Some(finished);
    }

    /// Resets the counters, before all rows are read again.
    pub fn clear_counts(&mut self) {
        (self.rows_read, self.rows_written, self.rows_outside) = (0, 0, 0);
        (self.rows_rejected, self.rows_deleted, self.rows_warned) = (0, 0, 0);
        self.rejects.clear();
        self.warnings.clear();
    }
}

/// How far a run has read the table of another group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// The version of the table that was read.
    pub version: u64,
    /// The last version of the table that changed rows of the run's interval.
    pub changed: u64,
    /// If present, only rows that came after this version were read, and they are added to what
    /// the interval had. Otherwise all rows were read, and they replace what the interval had.
    pub since: Option<u64>,
    /// The last generation of the interval that the run's own table had before the run.
    pub base: Option<i64>,
}

impl Upstream {
    /// Returns the oldest version of the table that the run looks back to.
    pub fn oldest(self) -> u64 {
        self.since.unwrap_or(self.version)
    }
}

/// The maximum number of rejected rows that the record of a run keeps.
const KEPT_REJECTS: usize = 20;

impl RunRecord {
    /// Adds the counters of a later part of the run.
    pub fn add(&mut self, part: Self) {
        self.rows_read += part.rows_read;
        self.rows_written += part.rows_written;
        self.rows_outside += part.rows_outside;
        self.rows_rejected += part.rows_rejected;
        self.rows_deleted += part.rows_deleted;
        self.rows_warned += part.rows_warned;
        self.rejects.extend(part.rejects);
        self.rejects.truncate(KEPT_REJECTS);
        self.warnings.extend(part.warnings);
    }

    /// Counts a rejected row, and keeps it if it is among the first ones.
    pub fn rejected(&mut self, reject: Reject) {
        self.rows_rejected += 1;
        if self.rejects.len() < KEPT_REJECTS {
            self.rejects.push(reject);
        }
    }
}

impl RunRecord {
    /// Returns whether the run, which succeeded, is known to do so again with the limit
    /// `max_rejects` of rejected rows. Under a lower limit than its own, it may fail.
    pub fn is_known_within(&self, max_rejects: f64) -> bool {
        match self.max_rejects {
            Some(limit) => max_rejects >= limit,
            // The limit of the run is not known, but its rows are.
            None => {
                let kept = self.rows_written + self.rows_deleted;
                let all = self.rows_rejected + kept;
                self.rows_rejected as f64 <= max_rejects * all as f64
            }
        }
    }

    /// Returns whether the run's rows can be added to what the group has online. They cannot if
    /// the run replaces rows, nor if it was started before, since it is then unknown which of its
    /// rows are online already.
    pub fn is_new_online(&self) -> bool {
        let adds = self.upstream.is_some_and(|read| read.since.is_some());
        (self.generation == 1 || adds) && self.attempts == 1
    }
}
