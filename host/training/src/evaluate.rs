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
use arrow_array::{Array, ArrayRef, RecordBatch, UInt64Array};
use wafer_catalog::{
    ModelVersion, Progress, TrainingSet, VersionName, blocking, meant, prediction,
};
use wafer_core::{DataType, Scores, widen};
use wafer_files::plain_bytes;
use wafer_registry::Candidate;
use wafer_runtime::{CHUNK_ROWS, Function, failed_row};
use wafer_store::{Error, Kind, Result};

use crate::label_values::Labels;
use crate::service::Training;
use crate::train::model_input;
use crate::trained_rows::{Parts, TrainedRows};
use crate::training_rows::TrainingRows;

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
    /// when the version has no label or no task, the training set has no such part, a label does
    /// not fit the task, or the version learned from all rows.
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
        let set = TrainingSet::read(&self.context, id).await?;
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

    /// Calls the version's function on the rows of a part that have a label and that it did not
    /// learn from, and compares predictions with labels. No other row is looked at.
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
        let mut gathered = Gathered::default();
        for batch in self.rows.batches(&names)? {
            let batch = batch?;
            let parts = Parts::of(&self.rows, &batch);
            let trained = self.trained.among(&self.rows, &batch, &parts, first)?;
            let mut wanted = Vec::new();
            for (row, is_trained) in trained.into_iter().enumerate() {
                match (parts.is_in(row, self.part.as_deref()), is_trained) {
                    (true, true) => left_out += 1,
                    (true, false) => wanted.push(row),
                    (false, _) => {}
                }
            }
            let piece = self.labelled(&batch, wanted, first)?;
            if !gathered.has_room(&piece) {
                scored += self.add(&mut scores, std::mem::take(&mut gathered))?;
            }
            gathered.push(piece);
            first += batch.num_rows() as u64;
        }
        scored += self.add(&mut scores, gathered)?;
        Ok(Scored {
            figures: scores.figures(),
            rows: scored,
            left_out,
        })
    }

    /// Returns those of the wanted rows of a batch that have a label. `first` is the number of the
    /// batch's first row in the training set.
    fn labelled(&self, batch: &RecordBatch, wanted: Vec<usize>, first: u64) -> Result<RowsToScore> {
        let column = |name: &str| {
            let missing = || Error::invalid(format!("the training set has no column `{name}`"));
            batch.column_by_name(name).ok_or_else(missing)
        };
        let number = |row: usize| first + row as u64;
        let labels = picked(column(&self.labels.column)?, &wanted)?;
        let labels = self.labels.numbers(&labels, |row| number(wanted[row]))?;
        let labelled = wanted.into_iter().zip(&labels);
        let (rows, labels): (Vec<usize>, Vec<f64>) = labelled
            .filter_map(|(row, label)| Some((row, label?)))
            .unzip();
        let input = |name: &str, wanted: &DataType| -> Result<ArrayRef> {
            model_input(&picked(column(name)?, &rows)?, wanted)
                .map_err(|e| Error::invalid(format!("column `{name}`: {e}")))
        };
        let fields = self.function.signature().inputs.fields().iter();
        Ok(RowsToScore {
            inputs: fields
                .map(|field| input(&field.name, &field.data_type))
                .collect::<Result<_>>()?,
            labels,
            numbers: rows.into_iter().map(number).collect(),
        })
    }

    /// Predicts rows, and adds them to the scores. Returns their number.
    fn add(&self, scores: &mut Scores, rows: Gathered) -> Result<u64> {
        let rows = rows.together()?;
        if rows.labels.is_empty() {
            return Ok(0);
        }
        let called = self.function.invoke_rows(&rows.inputs).map_err(Error::from);
        let answer = called.map_err(|error| self.failure(error, &rows.numbers))?;
        let values = widen(&answer.columns[self.output], &DataType::Float64);
        let values = values
            .as_primitive_opt::<Float64Type>()
            .ok_or_else(|| Error::new(Kind::Internal, "a prediction is not a number"))?;
        for (row, label) in rows.labels.iter().enumerate() {
            let is_there = !answer.has_failed(row) && values.is_valid(row);
            scores.add(*label, is_there.then(|| values.value(row)));
        }
        Ok(rows.labels.len() as u64)
    }

    /// Returns the error of a call on some rows, with the number of the row that is to blame, or of
    /// the first and the last of them. `numbers` has their numbers in the training set.
    fn failure(&self, error: Error, numbers: &[u64]) -> Error {
        let place = match (failed_row(&error), numbers) {
            (Some(row), _) => format!("row {}", numbers[row]),
            (None, [only]) => format!("row {only}"),
            (None, [first, .., last]) => format!("rows {first} to {last}"),
            (None, []) => "no row".to_owned(),
        };
        let set = &self.rows.set.id;
        let message = format!("training set `{set}`, {place}: {error}");
        Error::caused(error.kind(), message, error)
    }
}

/// Returns some rows of a column.
fn picked(column: &ArrayRef, rows: &[usize]) -> Result<ArrayRef> {
    let rows: UInt64Array = rows.iter().map(|row| *row as u64).collect();
    arrow_select::take::take(column, &rows, None)
        .map_err(|e| Error::caused(Kind::Internal, "cannot select the rows of a part", e))
}

/// Rows that are scored, in the order of the training set.
#[derive(Debug, Default)]
struct RowsToScore {
    /// The inputs of the function.
    inputs: Vec<ArrayRef>,
    /// The label of each row.
    labels: Vec<f64>,
    /// The number of each row in the training set.
    numbers: Vec<u64>,
}

/// The most bytes of inputs that are gathered, unless those of one batch are larger.
const GATHERED_BYTES: u64 = 8 << 20;

/// Rows that wait to be predicted together: calls have many rows, however few of each batch are
/// wanted.
#[derive(Debug, Default)]
struct Gathered {
    pieces: Vec<RowsToScore>,
    rows: usize,
    bytes: u64,
}

impl Gathered {
    fn has_room(&self, piece: &RowsToScore) -> bool {
        let bytes = self.bytes.saturating_add(piece.bytes());
        self.rows == 0 || self.rows + piece.labels.len() <= CHUNK_ROWS && bytes <= GATHERED_BYTES
    }

    fn push(&mut self, piece: RowsToScore) {
        if piece.labels.is_empty() {
            return;
        }
        self.rows += piece.labels.len();
        self.bytes = self.bytes.saturating_add(piece.bytes());
        self.pieces.push(piece);
    }

    /// Puts the rows together, in the order in which they came.
    fn together(mut self) -> Result<RowsToScore> {
        if self.pieces.len() < 2 {
            return Ok(self.pieces.pop().unwrap_or_default());
        }
        let inputs = (0..self.pieces[0].inputs.len()).map(|index| {
            let parts = self.pieces.iter().map(|piece| &*piece.inputs[index]);
            arrow_select::concat::concat(&parts.collect::<Vec<&dyn Array>>())
                .map_err(|e| Error::caused(Kind::Internal, "cannot put inputs together", e))
        });
        let inputs = inputs.collect::<Result<_>>()?;
        let (mut labels, mut numbers) = (Vec::new(), Vec::new());
        for piece in self.pieces {
            labels.extend(piece.labels);
            numbers.extend(piece.numbers);
        }
        Ok(RowsToScore {
            inputs,
            labels,
            numbers,
        })
    }
}

impl RowsToScore {
    /// The number of bytes of the inputs.
    fn bytes(&self) -> u64 {
        let sizes = self.inputs.iter().map(plain_bytes);
        sizes.fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::types::Int64Type;
    use arrow_array::{Int64Array, StringArray};

    use super::*;

    /// Returns a piece whose rows have the numbers from `first` to `end`, excluded, in the training
    /// set, and texts of so many bytes.
    fn piece((first, end): (u64, u64), bytes: usize) -> RowsToScore {
        let numbers: Vec<u64> = (first..end).collect();
        let own: Int64Array = numbers.iter().map(|number| *number as i64).collect();
        let texts = StringArray::from(vec!["x".repeat(bytes); numbers.len()]);
        RowsToScore {
            inputs: vec![Arc::new(own), Arc::new(texts)],
            labels: numbers.iter().map(|number| *number as f64 / 2.0).collect(),
            numbers,
        }
    }

    #[test]
    fn rows_of_several_batches_are_predicted_together_while_there_is_room() {
        let most = CHUNK_ROWS as u64;
        for (case, before, next, bytes, wanted) in [
            ("nothing was gathered", (0, 0), (0, most), 0, true),
            ("a call is filled", (0, most - 5), (most, most + 5), 0, true),
            (
                "too many for a call",
                (0, most - 5),
                (most, most + 6),
                0,
                false,
            ),
            ("no rows take no room", (0, most), (most, most), 0, true),
            ("rows are large", (0, 8), (8, 16), 1 << 19, false),
            ("one batch is larger", (0, 0), (0, 8), 1 << 21, true),
        ] {
            let mut gathered = Gathered::default();
            gathered.push(piece(before, bytes));
            assert_eq!(gathered.has_room(&piece(next, bytes)), wanted, "{case}");
        }
    }

    #[test]
    fn rows_that_were_gathered_keep_their_order_labels_and_numbers() {
        for pieces in [
            vec![],
            vec![(0, 3)],
            vec![(0, 0), (5, 6)],
            vec![(0, 3), (4, 4), (7, 9), (20, 22)],
        ] {
            let mut gathered = Gathered::default();
            let mut wanted: Vec<u64> = Vec::new();
            for (first, end) in pieces {
                gathered.push(piece((first, end), 1));
                wanted.extend(first..end);
            }
            let found = gathered.together().unwrap();
            assert_eq!(found.numbers, wanted);
            let labels: Vec<f64> = wanted.iter().map(|number| *number as f64 / 2.0).collect();
            assert_eq!(found.labels, labels);
            for column in &found.inputs {
                assert_eq!(column.len(), wanted.len());
            }
            if let Some(first) = found.inputs.first() {
                let own = first.as_primitive::<Int64Type>().values().iter();
                assert!(own.copied().eq(wanted.iter().map(|number| *number as i64)));
            }
        }
    }

    #[test]
    fn rows_are_picked_by_their_place_and_nulls_stay() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]));
        let rows = picked(&column, &[1, 2]).unwrap();
        let rows: Vec<_> = rows.as_primitive::<Int64Type>().iter().collect();
        assert_eq!(rows, [None, Some(3)]);
        assert!(picked(&column, &[]).unwrap().is_empty());
    }
}
