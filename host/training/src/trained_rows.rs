//! Which rows of a training set a version of a model learned from.
//!
//! A trainer is fed the rows of the parts `train` and `validation`, or all rows of a training set
//! that was not split. In another training set, the same rows are those with the same join keys,
//! request fields and time.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use wafer_catalog::{ModelVersion, Progress, blocking};
use wafer_core::{Hasher, Timestamp, bytes_text, cell_to_json};
use wafer_store::{Error, Result};

use crate::service::Training;
use crate::training_rows::TrainingRows;

/// The parts of a training set that trainers are fed.
const TRAINED_PARTS: [&str; 2] = ["train", "validation"];

/// The bytes of memory that a row takes, about, whose identity is kept.
const ROW_BYTES: u64 = 40;

/// The identity of a row: the start of a digest of its inputs and its time.
type RowId = [u8; 16];

/// The rows that a version of a model learned from.
#[derive(Debug)]
pub(crate) enum TrainedRows {
    /// None, or none that are known.
    None,
    /// The rows of the parts `train` and `validation` of this training set.
    SameSet,
    /// Rows of another training set.
    OtherSet {
        /// The inputs of the view of the other training set.
        inputs: Vec<String>,
        ids: HashSet<RowId>,
    },
}

impl Training {
    /// Finds out which of the rows a version learned from. If it was trained on another training
    /// set, that one is made again with at most `memory` bytes.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) when the rows of the two training sets
    /// cannot be compared.
    pub(crate) async fn rows_trained_on(
        &self,
        version: &ModelVersion,
        rows: &TrainingRows,
        memory: u64,
        progress: &Arc<dyn Progress>,
    ) -> Result<TrainedRows> {
        let Some(id) = &version.training_set else {
            return Ok(TrainedRows::None);
        };
        if *id == rows.set.id {
            return Ok(TrainedRows::SameSet);
        }
        progress.stage("looking at the rows that were trained on");
        let advice = "use --with-training-rows to evaluate on all rows";
        let trained = self.training_rows(id, memory, progress).await.map_err(|e| {
            let message = format!(
                "{} was trained on training set `{id}`, which cannot be made again to leave its rows out; \
                 {advice}: {e}",
                version.name()
            );
            Error::caused(e.kind(), message, e)
        })?;
        let inputs = trained.file.input_names();
        let known = rows.file.input_names();
        if let Some(missing) = inputs.iter().find(|input| !known.contains(input)) {
            return Err(Error::invalid(format!(
                "{} was trained on rows that are told apart by `{missing}`, which training set `{}` does not \
                 have: {advice}",
                version.name(),
                rows.set.id
            )));
        }
        if trained.len() * ROW_BYTES > memory {
            return Err(Error::invalid(format!(
                "{} was trained on {} rows, too many to tell them apart in {}: raise --memory, or {advice}",
                version.name(),
                trained.len(),
                bytes_text(memory)
            )));
        }
        blocking(move || {
            let ids = trained_ids(&trained, &inputs)?;
            Ok(TrainedRows::OtherSet { inputs, ids })
        })
        .await?
    }
}

/// Returns the identities of the rows that a trainer was fed.
fn trained_ids(rows: &TrainingRows, inputs: &[String]) -> Result<HashSet<RowId>> {
    let mut names = rows.file.with_time(inputs);
    names.extend(rows.part_column());
    let mut ids = HashSet::new();
    let mut first = 0;
    for batch in rows.batches(&names)? {
        let batch = batch?;
        let parts = Parts::of(rows, &batch);
        let own = row_ids(rows, &batch, inputs, first)?;
        let trained = own.into_iter().enumerate();
        ids.extend(trained.filter_map(|(row, id)| parts.is_trained(row).then_some(id)));
        first += batch.num_rows() as u64;
    }
    Ok(ids)
}

/// Returns the identities of the rows of a batch. `first` is the number of its first row.
fn row_ids(
    rows: &TrainingRows,
    batch: &RecordBatch,
    inputs: &[String],
    first: u64,
) -> Result<Vec<RowId>> {
    let (columns, times) = rows.file.keys_and_times(batch, inputs, first)?;
    let id = |(row, time): (usize, &Timestamp)| row_id(&columns, row, *time);
    Ok(times.iter().enumerate().map(id).collect())
}

fn row_id(columns: &[ArrayRef], row: usize, time: Timestamp) -> RowId {
    let mut hasher = Hasher::new();
    hasher.part(&time.as_micros().to_le_bytes());
    for column in columns {
        hasher.part(cell_to_json(column, row).to_string().as_bytes());
    }
    let digest = hasher.finish();
    let mut id = RowId::default();
    id.copy_from_slice(&digest.as_bytes()[..16]);
    id
}

/// The parts of the rows of a batch.
pub(crate) struct Parts(Option<StringArray>);

impl Parts {
    pub(crate) fn of(rows: &TrainingRows, batch: &RecordBatch) -> Self {
        let column = rows.part_column();
        let column = column.and_then(|name| batch.column_by_name(&name).cloned());
        Self(column.map(|column| column.as_string().clone()))
    }

    /// Returns whether a row is in a part; `None` means any part.
    pub(crate) fn is_in(&self, row: usize, part: Option<&str>) -> bool {
        match (part, &self.0) {
            (Some(part), Some(parts)) => parts.value(row) == part,
            _ => true,
        }
    }

    /// Returns whether trainers are fed a row.
    fn is_trained(&self, row: usize) -> bool {
        match &self.0 {
            None => true,
            Some(parts) => TRAINED_PARTS.contains(&parts.value(row)),
        }
    }
}

impl TrainedRows {
    /// Returns the columns that are read to tell the rows apart.
    pub(crate) fn columns(&self, rows: &TrainingRows) -> Vec<String> {
        match self {
            Self::None | Self::SameSet => Vec::new(),
            Self::OtherSet { inputs, .. } => rows.file.with_time(inputs),
        }
    }

    /// Returns for each row of a batch whether the version learned from it. `first` is the number
    /// of the batch's first row.
    pub(crate) fn among(
        &self,
        rows: &TrainingRows,
        batch: &RecordBatch,
        parts: &Parts,
        first: u64,
    ) -> Result<Vec<bool>> {
        Ok(match self {
            Self::None => vec![false; batch.num_rows()],
            Self::SameSet => (0..batch.num_rows())
                .map(|row| parts.is_trained(row))
                .collect(),
            Self::OtherSet { inputs, ids } => {
                let own = row_ids(rows, batch, inputs, first)?;
                own.iter().map(|id| ids.contains(id)).collect()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::Int64Array;

    use super::*;

    fn parts(names: Option<&[&str]>) -> Parts {
        Parts(names.map(|names| StringArray::from(names.to_vec())))
    }

    #[test]
    fn rows_of_the_parts_train_and_validation_are_trained_on() {
        let split = parts(Some(&["train", "test", "validation", "holdout"]));
        let trained: Vec<bool> = (0..4).map(|row| split.is_trained(row)).collect();
        assert_eq!(trained, [true, false, true, false]);
        assert!(split.is_in(1, Some("test")) && !split.is_in(0, Some("test")));
        assert!(split.is_in(0, None));
        assert!(parts(None).is_trained(0) && parts(None).is_in(0, Some("test")));
    }

    #[test]
    fn rows_are_told_apart_by_each_input_and_the_time() {
        let column = |values: Vec<Option<i64>>| -> ArrayRef { Arc::new(Int64Array::from(values)) };
        let columns = [
            column(vec![Some(1), Some(1), Some(12), None]),
            column(vec![Some(23), Some(23), Some(3), Some(23)]),
        ];
        let id = |row, time| row_id(&columns, row, Timestamp::from_micros(time));
        assert_eq!(id(0, 5), id(1, 5));
        for (row, time) in [(0, 6), (2, 5), (3, 5)] {
            assert_ne!(id(0, 5), id(row, time), "{row} {time}");
        }
    }
}
