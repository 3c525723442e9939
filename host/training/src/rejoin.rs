//! Rows of a file, joined with the features that a version of a view looks up for them.
//!
//! [`Training::rejoin`] uses the join of training sets, but returns the rows in batches and
//! writes no training set. Batch inference and the comparison with logged requests use it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use wafer_catalog::{Format, Progress, Recipe, blocking};
use wafer_store::{Result, TableSnapshot};

use crate::given_up::GivenUp;
use crate::labels::{Batches, ColumnTypes, LabelFile, LabelOptions};
use crate::lookup::found::{JoinedFeatures, JoinedReader};
use crate::service::Training;
use crate::training_set::JoinPlan;

/// The rows to join, and what they are joined with.
#[derive(Debug)]
pub struct RejoinRequest<'a> {
    /// The version of the view whose lookups are made.
    pub recipe: Recipe,
    /// Snapshots of the tables that the view reads, by the name of the table.
    pub snapshots: BTreeMap<String, TableSnapshot>,
    /// Name of the view.
    pub view: &'a str,
    /// Path of a Parquet file with the rows. It has the inputs of the view, a time, and any
    /// other columns.
    pub rows: &'a Path,
    /// Name of the column with the rows' times.
    pub time: &'a str,
    /// Whether each lookup also returns the identity of the row, or of the events, that it found.
    pub identities: bool,
    /// Bytes of memory that the join may use.
    pub memory: u64,
}

/// Rows of a file with the features that were looked up for them.
#[derive(Debug)]
pub struct Rejoined {
    rows: LabelFile,
    joined: Vec<JoinedReader>,
}

/// A batch of joined rows.
#[derive(Debug)]
pub struct RejoinedBatch {
    /// The rows as they are in the file.
    pub rows: RecordBatch,
    /// Number of the batch's first row in the file, from 0.
    pub first: u64,
    /// The inputs of the view, in its order.
    pub inputs: Vec<ArrayRef>,
    /// The features of each lookup, followed by the identity if it was asked for.
    pub lookups: Vec<Vec<ArrayRef>>,
}

impl Training {
    /// Looks up the features of rows of a file as they were known at the rows' times.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) when the file does not have the
    /// inputs of the view and the time, and the errors of the stores.
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
        let options = LabelOptions::new(ColumnTypes::new());
        let open = move || LabelFile::open(&path, format, &time, &definition, &options);
        let rows = blocking(open).await??;
        let plan = JoinPlan {
            snapshots,
            recipe,
            view: view.to_owned(),
            labels: rows.clone(),
            split: None,
            identities,
            memory,
            given_up: GivenUp::default(),
        };
        let _waits = plan.given_up.when_dropped();
        Rejoined::new(rows, self.join(&Arc::new(plan), progress).await?)
    }
}

impl Rejoined {
    pub(crate) fn new(rows: LabelFile, joined: Vec<JoinedFeatures>) -> Result<Self> {
        let joined = joined.into_iter().map(JoinedFeatures::read);
        Ok(Self {
            joined: joined.collect::<Result<_>>()?,
            rows,
        })
    }

    /// Takes the features of the next `rows` rows: for each lookup its features, followed by the
    /// identity if it was asked for.
    ///
    /// # Errors
    /// Returns an error when a temporary file cannot be read, or fewer rows are left.
    pub fn take(&mut self, rows: usize) -> Result<Vec<Vec<ArrayRef>>> {
        let lookups = self.joined.iter_mut();
        lookups.map(|joined| joined.take(rows)).collect()
    }

    /// Reads the rows in batches, in the order of the file.
    ///
    /// # Errors
    /// Returns an error when the file cannot be opened.
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
