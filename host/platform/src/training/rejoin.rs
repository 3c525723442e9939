//! Rows joined with what a version of a view looks up for them, to go on working with.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use wafer_store::TableSnapshot;

use super::labels::{Batches, LabelFile, LabelFormat};
use super::lookup::JoinedReader;
use super::{Joined, Plan};
use crate::error::Result;
use crate::features::Readable;
use crate::platform::Platform;
use crate::recipe::Recipe;
use crate::run::{Progress, blocking};

/// Rows to be joined: a Parquet file with the inputs of a view, a time, and whatever else.
pub(crate) struct RejoinRequest<'a> {
    pub(crate) recipe: Recipe,
    /// The tables that are looked up in.
    pub(crate) snapshots: BTreeMap<String, TableSnapshot>,
    /// Name of the view.
    pub(crate) view: &'a str,
    pub(crate) rows: &'a Path,
    /// Column of their time.
    pub(crate) time: &'a str,
    /// Whether to say which row, or which events, each lookup found.
    pub(crate) identities: bool,
    /// Bytes that the join may use.
    pub(crate) memory: u64,
}

/// Rows with what was looked up for them.
pub(crate) struct Rejoined {
    rows: LabelFile,
    joined: Vec<JoinedReader>,
}

/// Some of them.
pub(crate) struct RejoinedBatch {
    /// As they are in the file.
    pub(crate) rows: RecordBatch,
    /// Number of the first one.
    pub(crate) first: u64,
    /// The view's inputs, in order.
    pub(crate) inputs: Vec<ArrayRef>,
    /// For each lookup its features, and the identity if it was asked for.
    pub(crate) lookups: Vec<Vec<ArrayRef>>,
}

impl Platform {
    /// Looks up, for rows of a file, what was known at their times.
    pub(crate) async fn rejoin(
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
        let format = Some(LabelFormat::Parquet);
        let open = move || LabelFile::open(&path, format, &time, &definition);
        let rows = blocking(open).await??;
        let plan = Plan {
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
    pub(super) fn new(rows: LabelFile, joined: Vec<Joined>) -> Result<Self> {
        let joined = joined.into_iter().map(Joined::read);
        Ok(Self {
            joined: joined.collect::<Result<_>>()?,
            rows,
        })
    }

    /// For each lookup the features of the next rows, and the identity if it was asked for.
    pub(crate) fn take(&mut self, rows: usize) -> Result<Vec<Vec<ArrayRef>>> {
        let lookups = self.joined.iter_mut();
        lookups.map(|joined| joined.take(rows)).collect()
    }

    /// The rows in order, some at a time.
    pub(crate) fn batches(mut self) -> Result<impl Iterator<Item = Result<RejoinedBatch>>> {
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

/// What functions and models read: inputs before features of their names.
pub(crate) fn readable(
    recipe: &Recipe,
    inputs: &[ArrayRef],
    lookups: impl IntoIterator<Item = ArrayRef>,
) -> Readable {
    let mut known = Readable::new();
    for (field, column) in recipe.view.inputs.iter().zip(inputs) {
        known.insert(field.name.clone(), Arc::clone(column));
    }
    let features = recipe.view.lookups.iter();
    let features = features.flat_map(|lookup| recipe.features_of(lookup));
    for (field, column) in features.zip(lookups) {
        known.entry(field.name).or_insert(column);
    }
    known
}
