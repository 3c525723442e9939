//! Rows of a file, joined with the features that a version of a view looks up for them.
//!
//! [`Training::rejoin`] uses the join of training sets, but returns the rows in batches and
//! writes no training set. Batch inference and the comparison with logged requests use it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use wafer_catalog::{Cuts, Format, Progress, Recipe, blocking};
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

/// The size of the features of a batch, in bytes, unless it has a single row.
const FEATURE_BYTES: u64 = 4 << 20;

/// The rows of a file that were not put together with their features yet.
struct RestOfRows {
    batches: Batches,
    /// What is left of the last batch.
    rest: Option<RecordBatch>,
    /// The number of the next row.
    first: u64,
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
            room: None,
            given_up: GivenUp::new(progress),
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
        let cuts = self.rows.cuts();
        let lookups = self.joined.iter_mut();
        let taken = lookups.map(|joined| match cuts {
            Cuts::ByBytes => joined.take_apart(rows),
            Cuts::ByRows => joined.take(rows),
        });
        taken.collect()
    }

    /// Reads the rows in batches, in the order of the file. Where a batch ends depends on the rows
    /// and their features alone, and not on how these were looked up.
    ///
    /// # Errors
    /// Returns an error when the file cannot be opened.
    pub fn batches(mut self) -> Result<impl Iterator<Item = Result<RejoinedBatch>>> {
        let mut rows = RestOfRows {
            batches: self.rows.batches()?,
            rest: None,
            first: 0,
        };
        Ok(std::iter::from_fn(move || {
            self.next_batch(&mut rows).transpose()
        }))
    }

    fn next_batch(&mut self, from: &mut RestOfRows) -> Result<Option<RejoinedBatch>> {
        let rows = match from.rest.take() {
            Some(rows) => Some(rows),
            None => from.batches.next().transpose()?,
        };
        let Some(rows) = rows else {
            return Ok(None);
        };
        let count = fitting(&mut self.joined, self.rows.cuts(), rows.num_rows())?;
        let left = rows.num_rows() - count;
        from.rest = (left > 0).then(|| rows.slice(count, left));
        let (rows, first) = (rows.slice(0, count), from.first);
        from.first += count as u64;
        Ok(Some(RejoinedBatch {
            inputs: self.rows.inputs(&rows, first)?,
            lookups: self.take(count)?,
            first,
            rows,
        }))
    }
}

/// Returns how many of the next `rows` rows are put together: fewer if their features are large.
fn fitting(joined: &mut [JoinedReader], cuts: Cuts, rows: usize) -> Result<usize> {
    if cuts == Cuts::ByRows {
        return Ok(rows);
    }
    let each = FEATURE_BYTES / joined.len().max(1) as u64;
    let mut lookups = joined.iter_mut();
    lookups.try_fold(rows, |rows, joined| joined.fitting(rows, each))
}

#[cfg(test)]
mod tests {
    use arrow_array::StringArray;

    use super::*;
    use crate::spool::{MemoryBudget, Spool};

    /// Returns the features of 16 rows, each of which has a text of so many bytes.
    fn texts(bytes: usize) -> JoinedReader {
        let text: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(bytes); 16]));
        let batch = RecordBatch::try_from_iter([("x", text)]).unwrap();
        let schema = batch.schema();
        let mut spool = Spool::new(MemoryBudget::new(usize::MAX));
        spool.push(batch).unwrap();
        let joined = JoinedFeatures {
            spool,
            schema,
            coincident: 0,
        };
        joined.read().unwrap()
    }

    #[test]
    fn rows_with_large_features_are_put_together_in_parts_unless_rows_alone_decide() {
        // A text takes four bytes beside its own.
        for (lookups, cuts, wanted) in [
            (&[1 << 20][..], Cuts::ByBytes, 3),
            (&[1 << 20], Cuts::ByRows, 16),
            (&[1 << 20, 1], Cuts::ByBytes, 1),
            (&[1 << 20, 1], Cuts::ByRows, 16),
            (&[1], Cuts::ByBytes, 16),
            (&[], Cuts::ByBytes, 16),
        ] {
            let mut joined: Vec<JoinedReader> = lookups.iter().copied().map(texts).collect();
            let found = fitting(&mut joined, cuts, 16).unwrap();
            assert_eq!(found, wanted, "{lookups:?} {cuts:?}");
        }
    }
}
