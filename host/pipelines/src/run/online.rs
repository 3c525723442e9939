//! What runs wrote, on its way to the online store.

use std::sync::Arc;

use arrow_array::RecordBatch;
use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use wafer_catalog::{RunRecord, blocking};
use wafer_core::rules::Interval;
use wafer_store::{
    AsOf, DataFile, Error, EventCommit, EventOutcome, OnlineWrite, Result, Result as Stored,
};
use wafer_tables::StoredRows;

use crate::group_rows::OnlineRows;
use crate::run::job::Job;
use crate::service::Pipelines;

/// Batches of a run whose newest rows go online by one commit.
const ONLINE_BATCHES: usize = 32;

/// Entities of one commit.
const PART_WRITES: usize = 5_000;

/// How long the online store remembers which chunks of a run it has.
const REMEMBER_CHUNKS: i64 = 400 * 86_400_000_000;

/// Rows of a run that were written online, or changed nothing there.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct OnlineCounts {
    pub(crate) applied: u64,
    pub(crate) older: u64,
}

impl Pipelines {
    /// Writes the rows of runs to the online store, as they are in their files. For an
    /// interval that had other rows before, or a run that is taken up, the group is
    /// made anew from the offline table.
    pub(crate) async fn write_online(&self, job: &Job, records: Vec<&mut RunRecord>) -> Result<()> {
        if !records.iter().all(|record| record.is_new_online()) {
            let counts = self.materialize(&job.target).await?;
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

    async fn add_online(&self, job: &Job, record: &mut RunRecord) -> Result<()> {
        let offline = &self.context.components().offline;
        let snapshot = offline.snapshot(&record.table, AsOf::Latest).await?;
        let mut files = snapshot.files_below(&record.folder());
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let mut batches = snapshot.read_all(files, snapshot.columns(), Interval::ALL);
        (record.online_applied, record.online_older) = (0, 0);
        let mut number = 0;
        while let Some(several) = next_batches(&mut batches).await? {
            number += 1;
            // Who was taken over while he slept stops here: the other made everything anew.
            self.save(record).await?;
            let counts = self
                .add_batches(job, record, &number.to_string(), several, false)
                .await?;
            record.online_applied += counts.applied;
            record.online_older += counts.older;
        }
        Ok(())
    }

    /// Adds the rows of some files of a run; `part` names them among its others.
    pub(crate) async fn add_files(
        &self,
        job: &Job,
        record: &RunRecord,
        part: usize,
        files: Vec<DataFile>,
    ) -> Result<OnlineCounts> {
        let offline = &self.context.components().offline;
        let snapshot = offline.snapshot(&record.table, AsOf::Latest).await?;
        let mut batches = snapshot.read_all(files, snapshot.columns(), Interval::ALL);
        let mut counts = OnlineCounts::default();
        let mut number = 0;
        while let Some(several) = next_batches(&mut batches).await? {
            number += 1;
            let name = format!("{part}-{number}");
            let added = self.add_batches(job, record, &name, several, true).await?;
            counts.applied += added.applied;
            counts.older += added.older;
        }
        Ok(counts)
    }

    /// Adds rows of a run, that is or is not shared with other processes. By its name the
    /// store knows a chunk that it has, and adds it once.
    async fn add_batches(
        &self,
        job: &Job,
        record: &RunRecord,
        name: &str,
        batches: Vec<RecordBatch>,
        is_shared: bool,
    ) -> Result<OnlineCounts> {
        let now = self.context.now();
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
            remember_until: now.plus_micros(REMEMBER_CHUNKS),
            writes,
            early,
            outbox: Vec::new(),
        };
        let parts = in_parts(writes)
            .into_iter()
            .map(|writes| (writes, Vec::new()))
            .chain((!early.is_empty()).then_some((Vec::new(), early)));
        let commits: Vec<EventCommit> = parts.enumerate().map(commit).collect();
        let turns = match is_shared {
            false => vec![commits],
            true => commits.into_iter().map(|commit| vec![commit]).collect(),
        };
        let online = &self.context.components().online;
        let mut older = 0;
        for turn in turns {
            if is_shared {
                // Others work on the run as well. When it failed, its group may be made anew
                // from the table, which has these rows.
                self.check_claimed(record).await?;
            }
            for outcome in online.commit_events(turn, now).await? {
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

/// What entities write, in pieces that a store may commit one by one.
fn in_parts(mut writes: Vec<OnlineWrite>) -> Vec<Vec<OnlineWrite>> {
    let mut parts = Vec::new();
    while !writes.is_empty() {
        let rest = writes.split_off(writes.len().min(PART_WRITES));
        parts.push(std::mem::replace(&mut writes, rest));
    }
    parts
}

/// Some of the batches that are left.
async fn next_batches(
    batches: &mut BoxStream<'static, Stored<RecordBatch>>,
) -> Result<Option<Vec<RecordBatch>>> {
    let mut several = Vec::new();
    while several.len() < ONLINE_BATCHES
        && let Some(batch) = batches.try_next().await?
    {
        several.push(batch);
    }
    Ok((!several.is_empty()).then_some(several))
}
