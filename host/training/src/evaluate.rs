//! The evaluation of a version of a model on rows that it was not trained on.
//!
//! [`Training::evaluate`] makes the recorded training set again, calls the version's function on
//! the rows of one part, and compares its predictions with the labels ([`Scores`]). Rows that the
//! version learned from are left out (module `trained_rows`), because a model knows their labels. A
//! new version is evaluated in the same way on the part `test` before it is registered.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Float64Type;
use arrow_array::{Array as _, ArrayRef, RecordBatch};
use wafer_catalog::{ModelVersion, Progress, VersionName, blocking, meant, prediction};
use wafer_core::{DataType, Scores, widen};
use wafer_registry::Candidate;
use wafer_runtime::{Function, failed_row};
use wafer_store::{Error, Kind, Result};

use crate::label_values::Labels;
use crate::rows::TrainingRows;
use crate::service::Training;
use crate::train::model_input;
use crate::trained_rows::{Parts, TrainedRows};

/// The part of a training set on which new versions are evaluated.
const TEST_PART: &str = "test";

/// The description of an evaluation.
#[derive(Clone, Debug)]
pub struct EvaluateRequest {
    /// The version.
    pub version: VersionName,
    /// Id of the training set.
    pub training_set: String,
    /// The part of the training set. `None` means all of it.
    pub part: Option<String>,
    /// Whether rows that the version learned from count as well.
    pub with_training_rows: bool,
    /// Bytes of memory that making the training set again may use.
    pub memory: u64,
}

/// The training set that a new version is evaluated on, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TestSet {
    /// The id of a training set with a part `test`.
    Recorded(String),
    /// The reason why the version is not evaluated.
    Absent(String),
}

impl TestSet {
    /// Returns the reason why the version is not evaluated, if it is not.
    pub(crate) fn reason(self) -> Option<String> {
        match self {
            Self::Recorded(_) => None,
            Self::Absent(reason) => Some(reason),
        }
    }
}

impl Training {
    /// Evaluates a version on one part of a training set, or on all of it. Returns the metrics by
    /// name; `left_out` is the number of rows that were left out because the version learned from
    /// them, if there are any. Runs guest code.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] for an unknown version or training set, and [`Kind::Invalid`]
    /// when the version has no label or no task, the training set has no such part, a label is none
    /// of the task, or the version learned from all rows.
    pub async fn evaluate(
        &self,
        request: &EvaluateRequest,
        progress: &Arc<dyn Progress>,
    ) -> Result<BTreeMap<String, f64>> {
        let version = self.registry.model_version(&request.version).await?;
        let (set, memory) = (&request.training_set, request.memory);
        let rows = self.training_rows(set, memory, progress).await?;
        let part = request.part.as_deref();
        if let Some(part) = part.filter(|part| !rows.set.has_part(part)) {
            let message = format!("training set `{set}` has no part `{part}`");
            return Err(Error::invalid(message));
        }
        let trained = match request.with_training_rows {
            true => TrainedRows::None,
            false => {
                self.rows_trained_on(&version, &rows, memory, progress)
                    .await?
            }
        };
        progress.stage("evaluating");
        let scored = self
            .scores(&version, &Arc::new(rows), part, trained)
            .await?;
        if scored.rows == 0 && scored.left_out > 0 {
            return Err(Error::invalid(format!(
                "{} learned from all of these rows: name a part such as `test` by --part, or a training set with \
                 other rows, or use --with-training-rows",
                version.name()
            )));
        }
        let mut figures = scored.figures;
        if scored.left_out > 0 {
            figures.insert("left_out".to_owned(), scored.left_out as f64);
        }
        Ok(figures)
    }

    /// Returns the training set on whose part `test` a new version is evaluated.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when the training set has no column with the label, so that it is
    /// not what the version was trained on.
    pub(crate) async fn test_set_of(&self, version: &ModelVersion) -> Result<TestSet> {
        let model = &version.model;
        let Some(id) = &version.training_set else {
            return Ok(TestSet::Absent("it names no training set".to_owned()));
        };
        let set = self.context.training_set_record(id).await?;
        let Some(label) = &version.label else {
            return Ok(TestSet::Absent(format!("models.{model}.label is not set")));
        };
        if !set.columns.iter().any(|column| column.name == *label) {
            let known = set.columns.iter().map(|column| column.name.as_str());
            return Err(Error::invalid(format!(
                "training set `{id}` has no column `{label}`, which model `{model}` predicts{}: name one that was \
                 made of labels with this column, or set models.{model}.label",
                meant(label, known)
            )));
        }
        if version.task.is_none() {
            return Ok(TestSet::Absent(format!("models.{model}.task is not set")));
        }
        Ok(match set.has_part(TEST_PART) {
            true => TestSet::Recorded(id.clone()),
            false => TestSet::Absent(format!("training set `{id}` has no part `{TEST_PART}`")),
        })
    }

    /// Adds the scores on the part `test` to the metrics of a candidate, under names that begin
    /// with `test_`.
    pub(crate) async fn evaluate_candidate(
        &self,
        candidate: &mut Candidate,
        rows: &Arc<TrainingRows>,
    ) -> Result<()> {
        let version = candidate.version();
        let scored = self
            .scores(version, rows, Some(TEST_PART), TrainedRows::None)
            .await?;
        let scores = scored.figures.into_iter();
        candidate.add_metrics(scores.map(|(name, value)| (format!("{TEST_PART}_{name}"), value)));
        Ok(())
    }

    /// Calls the version's function on the rows of a part that it did not learn from, and compares
    /// predictions with labels.
    async fn scores(
        &self,
        version: &ModelVersion,
        rows: &Arc<TrainingRows>,
        part: Option<&str>,
        trained: TrainedRows,
    ) -> Result<Scored> {
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
        let scoring = Scoring {
            function,
            output,
            labels: Labels {
                column: label,
                task: Some(task),
                set: rows.set.id.clone(),
            },
            rows: Arc::clone(rows),
            part: part.map(str::to_owned),
            trained,
        };
        blocking(move || scoring.run(Scores::new(task))).await?
    }
}

/// The scores of a version on some rows.
struct Scored {
    figures: BTreeMap<String, f64>,
    /// The number of rows that were scored.
    rows: u64,
    /// The number of rows that were left out because the version learned from them.
    left_out: u64,
}

/// What is needed to score the rows of a training set.
struct Scoring {
    function: Function,
    /// The position of the prediction among the function's outputs.
    output: usize,
    labels: Labels,
    rows: Arc<TrainingRows>,
    /// The part that is scored; `None` means all rows.
    part: Option<String>,
    trained: TrainedRows,
}

impl Scoring {
    fn run(&self, mut scores: Scores) -> Result<Scored> {
        let inputs = self.function.signature().inputs.fields().iter();
        let mut names: Vec<String> = inputs.map(|f| f.name.clone()).collect();
        names.push(self.labels.column.clone());
        names.extend(self.rows.part_column());
        names.extend(self.trained.columns(&self.rows));
        let (mut first, mut scored, mut left_out) = (0, 0, 0);
        for batch in self.rows.batches(&names)? {
            let batch = batch?;
            let parts = Parts::of(&self.rows, &batch);
            let trained = self.trained.among(&self.rows, &batch, &parts, first)?;
            let (mut wanted, mut known) = (Vec::new(), 0);
            for (row, is_trained) in trained.into_iter().enumerate() {
                let is_in = parts.is_in(row, self.part.as_deref());
                wanted.push(is_in && !is_trained);
                known += u64::from(is_in && is_trained);
            }
            left_out += known;
            scored += self.add(&mut scores, &batch, &wanted, first)?;
            first += batch.num_rows() as u64;
        }
        Ok(Scored {
            figures: scores.figures(),
            rows: scored,
            left_out,
        })
    }

    /// Predicts the rows of a batch, and adds the wanted ones that have a label to the scores.
    /// Returns their number.
    fn add(
        &self,
        scores: &mut Scores,
        batch: &RecordBatch,
        wanted: &[bool],
        first: u64,
    ) -> Result<u64> {
        let column = |name: &str| {
            let missing = || Error::invalid(format!("the training set has no column `{name}`"));
            batch.column_by_name(name).ok_or_else(missing)
        };
        let input = |name: &str, wanted: &DataType| -> Result<ArrayRef> {
            model_input(column(name)?, wanted)
                .map_err(|e| Error::invalid(format!("column `{name}`: {e}")))
        };
        let fields = self.function.signature().inputs.fields().iter();
        let inputs: Vec<ArrayRef> = fields
            .map(|field| input(&field.name, &field.data_type))
            .collect::<Result<_>>()?;
        let labels = self.labels.numbers(column(&self.labels.column)?, first)?;
        let called = self.function.invoke_rows(&inputs).map_err(Error::from);
        let answer = called.map_err(|error| self.failure(error, first, batch.num_rows()))?;
        let values = widen(&answer.columns[self.output], &DataType::Float64);
        let values = values
            .as_primitive_opt::<Float64Type>()
            .ok_or_else(|| Error::new(Kind::Internal, "a prediction is not a number"))?;
        let mut scored = 0;
        for row in (0..batch.num_rows()).filter(|row| wanted[*row] && labels.is_valid(*row)) {
            let is_there = !answer.has_failed(row) && values.is_valid(row);
            scores.add(labels.value(row), is_there.then(|| values.value(row)));
            scored += 1;
        }
        Ok(scored)
    }

    /// Returns the error of a call on some rows, with the number of the row that is to blame, or of
    /// all of them. `first` is the number of the first row in the training set.
    fn failure(&self, error: Error, first: u64, rows: usize) -> Error {
        let place = match failed_row(&error) {
            Some(row) => format!("row {}", first + row as u64),
            None => {
                let last = (first + rows as u64).saturating_sub(1);
                format!("rows {first} to {last}")
            }
        };
        let set = &self.rows.set.id;
        let message = format!("training set `{set}`, {place}: {error}");
        Error::caused(error.kind(), message, error)
    }
}
