//! Writes the rows of committed runs to the online store.
//!
//! The files of a run are read back from the offline table. A batch of them becomes commits with
//! the newest row of each entity, or the summary of its events. The commits are named by run,
//! generation and number, and the online store remembers these names, so that no commit is
//! applied twice. An interval whose rows replace others, and a run that is taken up, cannot be
//! added in this way; the group's online rows are rebuilt then.

use std::sync::Arc;

use arrow_array::RecordBatch;
use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use wafer_catalog::{Context, RunRecord, blocking};
use wafer_core::Duration;
use wafer_core::rules::Interval;
use wafer_store::{
    AsOf, DataFile, Error, EventCommit, EventOutcome, OnlineWrite, Result, Result as Stored,
};
use wafer_tables::StoredRows;

use crate::group_rows::OnlineRows;
use crate::materialize::Materializer;
use crate::run::job::Job;
use crate::run::records::RunRecords;

/// The number of record batches whose rows are summed up before they are written online.
const BATCHES_PER_COMMIT: usize = 32;

/// The largest number of entities in one commit.
const MAX_WRITES_PER_COMMIT: usize = 5_000;

/// How long the online store remembers the commits of a run: 400 days.
const REMEMBER_CHUNKS: Duration = Duration::from_days(400);

/// The number of rows of a run that were written online, and of those that changed nothing
/// there. Each batch has one row for each of its entities. Entities are not counted: that would
/// need memory for all of them, and the parts of a divided run do not know those of each other.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct OnlineCounts {
    /// The rows that were written.
    pub(crate) applied: u64,
    /// The rows that changed nothing, because the stored row is newer.
    pub(crate) older: u64,
}

/// Which processes add the online rows of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Workers {
    /// This one alone.
    One,
    /// Several, each those of some partitions.
    Several,
}

/// Writes the committed rows of runs to the online store.
#[derive(Debug)]
pub(crate) struct OnlineWriter {
    context: Arc<Context>,
    records: RunRecords,
    materializer: Materializer,
}

impl OnlineWriter {
    pub(crate) fn new(
        context: Arc<Context>,
        records: RunRecords,
        materializer: Materializer,
    ) -> Self {
        Self {
            context,
            records,
            materializer,
        }
    }

    /// Writes the rows of runs to the online store, as they are in the runs' files. If an
    /// interval had other rows before, or a run was taken up, the group's online rows are
    /// rebuilt from the offline table instead.
    pub(crate) async fn write_online(&self, job: &Job, records: Vec<&mut RunRecord>) -> Result<()> {
        if !records.iter().all(|record| record.is_new_online()) {
            let counts = self.materializer.materialize(&job.target).await?;
            for record in records {
                record.online_applied = counts.entities;
            }
            return Ok(());
        }
        for record in records {
            self.add_online(job, record).await?;
        }
        Ok(())
    }

    /// Adds the rows of a run to the online store.
    async fn add_online(&self, job: &Job, record: &mut RunRecord) -> Result<()> {
        let offline = &self.context.components().stores.offline;
        let snapshot = offline.snapshot(&record.table, AsOf::Latest).await?;
        let mut files = snapshot.files_below(&record.folder());
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let mut batches = snapshot.read_all(files, snapshot.columns(), Interval::ALL);
        (record.online_applied, record.online_older) = (0, 0);
        let mut number = 0;
        while let Some(taken) = next_batches(&mut batches).await? {
            number += 1;
            // If another process took the run over while this one was suspended, this one stops
            // here. The other process rebuilds the online rows.
            self.records.save(record).await?;
            let counts = self
                .add_batches(job, record, &number.to_string(), taken, Workers::One)
                .await?;
            record.online_applied += counts.applied;
            record.online_older += counts.older;
        }
        Ok(())
    }

    /// Adds the rows of one partition's files to the online store; `part` is the number of the
    /// partition.
    pub(crate) async fn add_files(
        &self,
        job: &Job,
        record: &RunRecord,
        part: usize,
        files: Vec<DataFile>,
    ) -> Result<OnlineCounts> {
        let offline = &self.context.components().stores.offline;
        let snapshot = offline.snapshot(&record.table, AsOf::Latest).await?;
        let mut batches = snapshot.read_all(files, snapshot.columns(), Interval::ALL);
        let mut counts = OnlineCounts::default();
        let mut number = 0;
        while let Some(taken) = next_batches(&mut batches).await? {
            number += 1;
            let name = format!("{part}-{number}");
            let added = self
                .add_batches(job, record, &name, taken, Workers::Several)
                .await?;
            counts.applied += added.applied;
            counts.older += added.older;
        }
        Ok(counts)
    }

    /// Adds rows of a run to the online store. `name` identifies the batches within the run, so
    /// that the store applies them once.
    async fn add_batches(
        &self,
        job: &Job,
        record: &RunRecord,
        name: &str,
        batches: Vec<RecordBatch>,
        workers: Workers,
    ) -> Result<OnlineCounts> {
        let (now, due_until) = (self.context.now(), self.context.due_until());
        let target = Arc::clone(&job.target);
        let (writes, early) = blocking(move || {
            let mut gathered = OnlineRows::new(&target, now);
            for batch in batches {
                gathered.add(&StoredRows::new(&target.table, &batch)?)?;
            }
            Ok::<_, Error>(gathered.finish())
        })
        .await??;
        let count = writes.len() as u64;
        let commit = |(number, (writes, early))| EventCommit {
            source: format!("run/{}", record.pipeline),
            id: format!("{}/{}/{name}/{number}", record.id, record.generation),
            remember_until: now.plus(REMEMBER_CHUNKS),
            writes,
            early,
            outbox: Vec::new(),
        };
        let parts = split_writes(writes)
            .into_iter()
            .map(|writes| (writes, Vec::new()))
            .chain((!early.is_empty()).then_some((Vec::new(), early)));
        let commits: Vec<EventCommit> = parts.enumerate().map(commit).collect();
        let commit_batches = match workers {
            Workers::One => vec![commits],
            Workers::Several => commits.into_iter().map(|commit| vec![commit]).collect(),
        };
        let online = &self.context.components().stores.online;
        let mut older = 0;
        for batch in commit_batches {
            if workers == Workers::Several {
                // If the run failed in another process, the group may be rebuilt from the table,
                // which has these rows already.
                self.records.check_running(record).await?;
            }
            for outcome in online.commit_events(batch, due_until).await? {
                if let EventOutcome::Committed { older: some } = outcome {
                    older += u64::from(some);
                }
            }
        }
        Ok(OnlineCounts {
            applied: count - older,
            older,
        })
    }
}

/// Splits writes into pieces that a store may commit one by one.
fn split_writes(mut writes: Vec<OnlineWrite>) -> Vec<Vec<OnlineWrite>> {
    let mut parts = Vec::new();
    while !writes.is_empty() {
        let rest = writes.split_off(writes.len().min(MAX_WRITES_PER_COMMIT));
        parts.push(std::mem::replace(&mut writes, rest));
    }
    parts
}

/// Reads the next batches, or returns `None` at the end.
async fn next_batches(
    batches: &mut BoxStream<'static, Stored<RecordBatch>>,
) -> Result<Option<Vec<RecordBatch>>> {
    let mut taken = Vec::new();
    while taken.len() < BATCHES_PER_COMMIT
        && let Some(batch) = batches.try_next().await?
    {
        taken.push(batch);
    }
    Ok((!taken.is_empty()).then_some(taken))
}
