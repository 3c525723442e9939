//! Records of runs, and the claims of intervals.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wafer_core::rules::Interval;
use wafer_core::{Digest, Timestamp};
use wafer_store::{Expect, Kind as StoreKind, Versioned};

use crate::chain::Upstream;
use crate::error::{Error, Kind, Result};
use crate::platform::Platform;

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
    pub(crate) fn new(place: String, mut message: String) -> Self {
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
    /// clock. Kept when the run is repeated.
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
    pub(crate) claim: u64,
}

impl RunRecord {
    /// Folder of the interval's data files, whichever pipeline writes the group.
    pub(crate) fn work_folder(&self) -> String {
        format!("runs/{}", self.interval.slug())
    }

    /// Folder of this generation's data files.
    pub(crate) fn folder(&self) -> String {
        format!("{}/{}", self.work_folder(), self.generation)
    }

    /// Identity of the work on an interval.
    pub(crate) fn app_id(&self) -> String {
        format!("wafer/{}", self.work_folder())
    }

    /// A run that failed before its inputs were known.
    pub(crate) fn unclaimed(
        pipeline: &str,
        table: &str,
        interval: Interval,
        created: Timestamp,
        started: Timestamp,
    ) -> Self {
        Self::new(pipeline, table, interval, Digest::of(&[]), created, started)
    }

    /// A run that begins.
    pub(crate) fn new(
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

    pub(crate) fn restart(self, started: Timestamp) -> Self {
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
    pub(crate) fn clear_counts(&mut self) {
        (self.rows_read, self.rows_written, self.rows_outside) = (0, 0, 0);
        (self.rows_rejected, self.rows_deleted, self.rows_warned) = (0, 0, 0);
        self.rejects.clear();
        self.warnings.clear();
    }
}

impl Platform {
    fn claim_name(&self, table: &str, interval: Interval) -> String {
        format!("{}/claim/{table}/{}", self.project(), interval.slug())
    }

    /// The last run over an interval of a table.
    pub(crate) async fn claimed(
        &self,
        table: &str,
        interval: Interval,
    ) -> Result<Option<RunRecord>> {
        let name = self.claim_name(table, interval);
        let stored = self.components().metadata.get(&name).await?;
        stored.map(|stored| read_claim(&name, &stored)).transpose()
    }

    /// The last runs over all intervals of a table.
    pub(crate) async fn claims(&self, table: &str) -> Result<Vec<RunRecord>> {
        let prefix = format!("{}/claim/{table}/", self.project());
        let stored = self.components().metadata.list(&prefix).await?;
        stored
            .iter()
            .map(|(name, stored)| read_claim(name, stored))
            .collect()
    }

    /// Gives a new record an id that no other has, and a place under it.
    pub(crate) async fn insert_record(&self, record: &mut RunRecord) -> Result<()> {
        if !record.id.is_empty() {
            return Ok(());
        }
        loop {
            record.id = format!("{}-{}", sortable(record.created), record.pipeline);
            let name = format!("{}/run/{}", self.project(), record.id);
            match self
                .components()
                .metadata
                .put(&name, to_json(record), Expect::Absent)
                .await
            {
                Ok(_) => return Ok(()),
                // A clock that stands still: the next microsecond.
                Err(e) if e.kind() == StoreKind::Conflict => {
                    record.created = record.created.plus_micros(1);
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Writes a run's record, and the claim of its interval, which is the record
    /// of the last run over it.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when somebody else wrote the claim since it was read: the
    /// run is theirs.
    pub(crate) async fn save(&self, record: &mut RunRecord) -> Result<()> {
        let metadata = &self.components().metadata;
        let name = self.claim_name(&record.table, record.interval);
        let expect = match record.claim {
            0 => Expect::Absent,
            version => Expect::Version(version),
        };
        let put = metadata.put(&name, to_json(record), expect).await;
        record.claim = put.map_err(|e| match e.kind() {
            StoreKind::Conflict => {
                let message = format!(
                    "the run of `{}` over {} was taken over by another process, as this one did not \
                     renew its lease in time; see `wafer runs`",
                    record.pipeline, record.interval
                );
                Error::caused(Kind::Conflict, message, e)
            }
            _ => e.into(),
        })?;
        let name = format!("{}/run/{}", self.project(), record.id);
        metadata
            .put(&name, to_json(record), Expect::Anything)
            .await?;
        Ok(())
    }

    /// The record of a run by its id.
    pub(crate) async fn run_record(&self, id: &str) -> Result<Option<RunRecord>> {
        let name = format!("{}/run/{id}", self.project());
        let stored = self.components().metadata.get(&name).await?;
        stored
            .map(|stored| read_record(&name, &stored.value))
            .transpose()
    }

    /// Records of runs, newest first.
    ///
    /// # Errors
    /// Those of the metadata store.
    pub async fn runs(&self) -> Result<Vec<RunRecord>> {
        let prefix = format!("{}/run/", self.project());
        let stored = self.components().metadata.list(&prefix).await?;
        stored
            .iter()
            .rev()
            .map(|(name, object)| read_record(name, &object.value))
            .collect()
    }
}

/// A time as a text that sorts as it does: with all six decimals.
fn sortable(time: Timestamp) -> String {
    let text = time.to_string().replace([':', '-', 'Z'], "");
    let (second, fraction) = text.split_once('.').unwrap_or((&text, ""));
    format!("{second}.{fraction:0<6}Z")
}

fn to_json(record: &RunRecord) -> Bytes {
    serde_json::to_vec(record)
        .expect("a record is plain data")
        .into()
}

fn read_claim(name: &str, stored: &Versioned) -> Result<RunRecord> {
    let record = read_record(name, &stored.value)?;
    Ok(RunRecord {
        claim: stored.version,
        ..record
    })
}

fn read_record(name: &str, value: &[u8]) -> Result<RunRecord> {
    serde_json::from_slice(value).map_err(|e| {
        Error::caused(
            Kind::Internal,
            format!("stored record `{name}` cannot be read"),
            e,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_runs_sort_after_earlier_ones() {
        let times = [0, 1, 999, 1_000, 500_000, 500_123, 999_999, 1_000_000];
        let texts: Vec<String> = times
            .iter()
            .map(|micros| sortable(Timestamp::from_micros(*micros)))
            .collect();
        assert!(texts.is_sorted(), "{texts:?}");
        assert_eq!(texts[5], "19700101T000000.500123Z");
    }
}
