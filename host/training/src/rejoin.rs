//! Rows joined with what a version of a view looks up for them, to go on working with.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use wafer_catalog::{Format, Progress, Recipe, blocking};
use wafer_store::{Result, TableSnapshot};

use crate::labels::{Batches, LabelFile};
use crate::lookup::found::{Joined, JoinedReader};
use crate::service::Training;
use crate::training_set::JoinPlan;

/// Rows to be joined: a Parquet file with the inputs of a view, a time, and whatever else.
#[derive(Debug)]
pub struct RejoinRequest<'a> {
    /// The version of the view that they are joined with.
    pub recipe: Recipe,
    /// The tables that are looked up in.
    pub snapshots: BTreeMap<String, TableSnapshot>,
    /// Name of the view.
    pub view: &'a str,
    /// The file.
    pub rows: &'a Path,
    /// Column of their time.
    pub time: &'a str,
    /// Whether to say which row, or which events, each lookup found.
    pub identities: bool,
    /// Bytes that the join may use.
    pub memory: u64,
}

/// Rows with what was looked up for them.
#[derive(Debug)]
pub struct Rejoined {
    rows: LabelFile,
    joined: Vec<JoinedReader>,
}

/// Some of them.
#[derive(Debug)]
pub struct RejoinedBatch {
    /// As they are in the file.
    pub rows: RecordBatch,
    /// Number of the first one.
    pub first: u64,
    /// The view's inputs, in order.
    pub inputs: Vec<ArrayRef>,
    /// For each lookup its features, and the identity if it was asked for.
    pub lookups: Vec<Vec<ArrayRef>>,
}

impl Training {
    /// Looks up, for rows of a file, what was known at their times.
    pub async fn rejoin(
        &self,
        request: RejoinRequest<'_>,
        progress: &Arc<dyn Progress>,
    ) -> Result<Rejoined> {
        let RejoinRequest {
            recipe,
            snapshots,
            view,
            rows,
            time,
            identities,
            memory,
        } = request;
        let (path, time, definition) = (rows.to_owned(), time.to_owned(), recipe.view.clone());
        let format = Some(Format::Parquet);
        let open = move || LabelFile::open(&path, format, &time, &definition);
        let rows = blocking(open).await??;
        let plan = JoinPlan {
            snapshots,
            recipe,
            view: view.to_owned(),
            labels: rows.clone(),
            split: None,
            identities,
            memory,
        };
        Rejoined::new(rows, self.join(&Arc::new(plan), progress).await?)
    }
}

impl Rejoined {
    pub(crate) fn new(rows: LabelFile, joined: Vec<Joined>) -> Result<Self> {
        let joined = joined.into_iter().map(Joined::read);
        Ok(Self {
            joined: joined.collect::<Result<_>>()?,
            rows,
        })
    }

    /// For each lookup the features of the next rows, and the identity if it was asked for.
    pub fn take(&mut self, rows: usize) -> Result<Vec<Vec<ArrayRef>>> {
        let lookups = self.joined.iter_mut();
        lookups.map(|joined| joined.take(rows)).collect()
    }

    /// The rows in order, some at a time.
    pub fn batches(mut self) -> Result<impl Iterator<Item = Result<RejoinedBatch>>> {
        let batches: Batches = self.rows.batches()?;
        let mut first = 0;
        Ok(batches.map(move |batch| {
            let rows = batch?;
            let (start, count) = (first, rows.num_rows());
            first += count as u64;
            Ok(RejoinedBatch {
                inputs: self.rows.inputs(&rows, start)?,
                lookups: self.take(count)?,
                first: start,
                rows,
            })
        }))
    }
}
