//! Records of runs.

use serde::{Deserialize, Serialize};
use wafer_core::rules::Interval;
use wafer_core::{Digest, Timestamp};

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It was started; if its process is gone, it can be repeated.
    Running,
    /// Everything is written.
    Succeeded,
    /// It stopped at an error. Its rows are in the offline table if that was after the
    /// commit; repeated, it goes on from there.
    Failed,
}

/// A row that was set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// File and line or row.
    pub place: String,
    /// Why.
    pub message: String,
}

impl Reject {
    /// With as much of the message as a record has room for.
    pub fn new(place: String, mut message: String) -> Self {
        message.truncate(message.floor_char_boundary(500));
        Self { place, message }
    }
}

/// One execution of a pipeline over an interval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Sorts by the time of the claim.
    pub id: String,
    /// The pipeline.
    pub pipeline: String,
    /// The group version that it writes.
    pub table: String,
    /// Event times it covers.
    pub interval: Interval,
    /// Rises each time the interval is run with other inputs.
    pub generation: i64,
    /// Digest of files, function and settings.
    pub inputs: Digest,
    /// How far it read, if it reads the table of another group.
    pub upstream: Option<Upstream>,
    /// Where it is.
    pub state: RunState,
    /// When it was claimed: `created_timestamp` of its rows, by the platform's
    /// clock. RenewedLease when the run is repeated.
    pub created: Timestamp,
    /// When it was last started, machine time.
    pub started: Timestamp,
    /// When it ended, machine time.
    pub finished: Option<Timestamp>,
    /// How often it was started.
    pub attempts: u32,
    /// Source rows read, those of other intervals included.
    pub rows_read: u64,
    /// Rows written to the offline table.
    pub rows_written: u64,
    /// Rows made whose event time is outside the interval.
    pub rows_outside: u64,
    /// Rows set aside; they are in the quarantine table.
    pub rows_rejected: u64,
    /// Rows left out as their entity was deleted after they happened.
    pub rows_deleted: u64,
    /// Rows that were written although they break an expectation.
    pub rows_warned: u64,
    /// The first of those set aside.
    pub rejects: Vec<Reject>,
    /// What is wrong with the run as a whole, though not badly enough to fail.
    pub warnings: Vec<String>,
    /// Rows that were written online.
    pub online_applied: u64,
    /// Rows that changed nothing online, as what was there is newer.
    pub online_older: u64,
    /// Whether it ended after its interval's declared delay: requests saw its rows
    /// later than its `available_timestamp` says.
    pub overran: bool,
    /// Why it failed.
    pub error: Option<String>,
    /// Version of the interval's claim as it was last read or written; 0 for none.
    #[serde(skip)]
    pub claim: u64,
}

impl RunRecord {
    /// Folder of the interval's data files, whichever pipeline writes the group.
    pub fn work_folder(&self) -> String {
        format!("runs/{}", self.interval.slug())
    }

    /// Folder of this generation's data files.
    pub fn folder(&self) -> String {
        format!("{}/{}", self.work_folder(), self.generation)
    }

    /// Identity of the work on an interval.
    pub fn app_id(&self) -> String {
        format!("wafer/{}", self.work_folder())
    }

    /// A run that failed before its inputs were known.
    pub fn unclaimed(
        pipeline: &str,
        table: &str,
        interval: Interval,
        created: Timestamp,
        started: Timestamp,
    ) -> Self {
        Self::new(pipeline, table, interval, Digest::of(&[]), created, started)
    }

    /// A run that begins.
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
            generation: 0,
            inputs,
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

    /// The record of the same run begun again, with nothing done.
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

    /// Forgets what was counted, before everything is read again.
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
    /// Version of the table.
    pub version: u64,
    /// The last version that changed rows of the run's interval.
    pub changed: u64,
    /// If there, only rows that came after this version were read, and added to what
    /// the interval had; else all of them were, in place of what it had.
    pub since: Option<u64>,
    /// What the interval had: the last generation that its table had of it.
    pub base: Option<i64>,
}

impl Upstream {
    /// The oldest version that a run looks back to.
    pub fn oldest(self) -> u64 {
        self.since.unwrap_or(self.version)
    }
}

/// Rejected rows that a run's record keeps as examples.
const KEPT_REJECTS: usize = 20;

impl RunRecord {
    /// Adds what was counted in a part of the run, which follows the parts before.
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

    /// Counts a rejected row; the first ones are kept with their reasons.
    pub fn rejected(&mut self, reject: Reject) {
        self.rows_rejected += 1;
        if self.rejects.len() < KEPT_REJECTS {
            self.rejects.push(reject);
        }
    }
}

impl RunRecord {
    /// Whether its rows can be added to what is online: of a run that is taken up it is
    /// not known what went online before.
    pub fn is_new_online(&self) -> bool {
        let adds = self.upstream.is_some_and(|read| read.since.is_some());
        (self.generation == 1 || adds) && self.attempts == 1
    }
}
