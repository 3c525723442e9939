//! The evaluation of a version of a model on rows that it was not trained on.
//!
//! [`Training::evaluate`] makes the recorded training set again, calls the version's function on
//! the rows of one part, and compares its predictions with the labels ([`Scores`]). A new version
//! is evaluated in the same way on the part `test` before it is registered.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Float64Type;
use arrow_array::{Array as _, ArrayRef, RecordBatch, StringArray};
use wafer_catalog::{ModelVersion, Progress, VersionName, blocking, prediction};
use wafer_core::{DataType, Scores, widen};
use wafer_registry::Candidate;
use wafer_runtime::{Deadline, Function};
use wafer_store::{Error, Kind, Result};

use crate::rows::TrainingRows;
use crate::service::Training;
use crate::train::model_input;

/// The part of a training set on which new versions are evaluated.
const TEST_PART: &str = "test";

impl Training {
    /// Evaluates a version on one part of a training set, or on the whole training set if `part`
    /// is `None`. Returns the metrics by name. Runs guest code.
    ///
    /// `memory` is the number of bytes that making the training set again may use.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] for an unknown version or training set, and [`Kind::Invalid`]
    /// when the version has no label or no task, or the training set has no such part.
    pub async fn evaluate(
        &self,
        name: &VersionName,
        training_set: &str,
        part: Option<&str>,
        memory: u64,
        progress: &Arc<dyn Progress>,
    ) -> Result<BTreeMap<String, f64>> {
        let version = self.registry.model_version(name).await?;
        let rows = self.training_rows(training_set, memory, progress).await?;
        if let Some(part) = part
            && !rows.set.has_part(part)
        {
            let message = format!("training set `{training_set}` has no part `{part}`");
            return Err(Error::invalid(message));
        }
        progress.stage("evaluating");
        self.scores(&version, &Arc::new(rows), part).await
    }

    /// Returns the id of the training set on whose part `test` a new version is evaluated, or
    /// `None` when the version has no training set with such a part, no label or no task.
    pub(crate) async fn test_set_of(&self, version: &ModelVersion) -> Result<Option<String>> {
        let Some(id) = &version.training_set else {
            return Ok(None);
        };
        let is_known = version.label.is_some() && version.task.is_some();
        let set = self.context.training_set_record(id).await?;
        Ok((is_known && set.has_part(TEST_PART)).then(|| id.clone()))
    }

    /// Adds the scores on the part `test` to the metrics of a candidate, under names that begin
    /// with `test_`.
    pub(crate) async fn evaluate_candidate(
        &self,
        candidate: &mut Candidate,
        rows: &Arc<TrainingRows>,
    ) -> Result<()> {
        let version = candidate.version();
        let scores = self.scores(version, rows, Some(TEST_PART)).await?;
        let scores = scores.into_iter();
        candidate.add_metrics(scores.map(|(name, value)| (format!("{TEST_PART}_{name}"), value)));
        Ok(())
    }

    /// Calls the version's function on the rows of a part and compares predictions with labels.
    async fn scores(
        &self,
        version: &ModelVersion,
        rows: &Arc<TrainingRows>,
        part: Option<&str>,
    ) -> Result<BTreeMap<String, f64>> {
        let (Some(label), Some(task)) = (version.label.clone(), version.task) else {
            return Err(Error::invalid(format!(
                "it is not known what model `{0}` predicts: set models.{0}.label and models.{0}.task, and \
                 register a new version",
                version.model
            )));
        };
        let function = self
            .context
            .load_function(&version.function_name, &version.function)?;
        let signature = function.signature();
        let found = prediction(signature, version.prediction.as_deref());
        let (output, _) = found.ok_or_else(|| {
            Error::invalid(format!(
                "model `{}` has no output that is a number",
                version.model
            ))
        })?;
        let (rows, part) = (Arc::clone(rows), part.map(str::to_owned));
        blocking(move || {
            let mut scores = Scores::new(task);
            let inputs = function.signature().inputs.fields().iter();
            let mut names: Vec<String> = inputs.map(|f| f.name.clone()).collect();
            names.push(label.clone());
            let column = rows.part_column();
            names.extend(column.clone());
            let part = part.as_deref().zip(column.as_deref());
            for batch in rows.batches(&names)? {
                add_scores(&mut scores, &function, output, &batch?, &label, part)?;
            }
            Ok(scores.figures())
        })
        .await?
    }
}

/// Predicts the rows of a batch, and adds those of the part that have a label to the scores.
///
/// `part` is the name of the part and of the column that holds it; `None` means all rows.
fn add_scores(
    scores: &mut Scores,
    function: &Function,
    output: usize,
    batch: &RecordBatch,
    label: &str,
    part: Option<(&str, &str)>,
) -> Result<()> {
    let column = |name: &str, wanted: &DataType| -> Result<ArrayRef> {
        let found = batch
            .column_by_name(name)
            .ok_or_else(|| Error::invalid(format!("the training set has no column `{name}`")))?;
        model_input(found, wanted).map_err(|e| Error::invalid(format!("column `{name}`: {e}")))
    };
    let fields = function.signature().inputs.fields().iter();
    let inputs: Vec<ArrayRef> = fields
        .map(|field| column(&field.name, &field.data_type))
        .collect::<Result<_>>()?;
    let labels = column(label, &DataType::Float64)?;
    let labels = labels.as_primitive::<Float64Type>();
    let parts = part.and_then(|(_, column)| batch.column_by_name(column));
    let parts: Option<&StringArray> = parts.map(|column| column.as_string());
    let is_in = |row: usize| match (part, parts) {
        (Some((part, _)), Some(parts)) => parts.value(row) == part,
        _ => true,
    };
    let answer = function.invoke(&inputs, Deadline::Batch)?;
    let values = widen(&answer.columns[output], &DataType::Float64);
    let values = values
        .as_primitive_opt::<Float64Type>()
        .ok_or_else(|| Error::new(Kind::Internal, "a prediction is not a number"))?;
    for row in (0..batch.num_rows()).filter(|row| is_in(*row) && labels.is_valid(*row)) {
        let is_there = !answer.has_failed(row) && values.is_valid(row);
        scores.add(labels.value(row), is_there.then(|| values.value(row)));
    }
    Ok(())
}
