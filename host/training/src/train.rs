//! The training of models.
//!
//! A trainer is a component with a world of its own (`wit/trainer.wit`). It runs in one instance,
//! which keeps its memory between calls. [`Training::train`] goes through these steps:
//!
//! 1. It makes a training set in a temporary file, or makes a recorded one again.
//! 2. It offers the trainer the columns that the view has, and the label. Columns that only the
//!    labels have are not offered, because they do not exist when a request is answered. It tells
//!    the trainer the model's task, and which of the columns are join keys.
//! 3. It feeds the rows of the parts `train` and `validation` to the trainer, once for each pass
//!    that the trainer asks for.
//! 4. The trainer returns artifacts, which are files, and metrics. [`Registry::prepare`] loads
//!    the function that predicts with the artifacts, and checks it against the view.
//! 5. The candidate is evaluated on the part `test`, if there is one (module `evaluate`), and
//!    [`Registry::publish`] gives it the next number.
//!
//! [`Registry::prepare`]: wafer_registry::Registry::prepare
//! [`Registry::publish`]: wafer_registry::Registry::publish

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::{ArrayRef, BooleanArray, RecordBatch, StringArray};
use serde::Serialize;
use wafer_catalog::{
    ComponentDef, Format, ModelDef, ModelNote, ModelVersion, Progress, Recipe, blocking, get,
    meant, temporary_folder,
};
use wafer_core::{DataType, Field, Schema, Task, can_widen, coerce, widen};
use wafer_registry::NewVersion;
use wafer_runtime::{FunctionSpec, RegisterError, Role, Trained, TrainingSession};
use wafer_store::{Error, Kind, Result};

use crate::evaluate::TestSet;
use crate::label_values::Labels;
use crate::service::Training;
use crate::training_rows::TrainingRows;
use crate::training_set::TrainingSetRequest;

/// The description of a training.
#[derive(Clone, Debug)]
pub struct TrainRequest {
    /// Name of the model.
    pub model: String,
    /// Id of a recorded training set. `None` means that a new one is made.
    pub training_set: Option<String>,
    /// Path of the labels of a new training set. `None` means the labels that the model names.
    pub labels: Option<PathBuf>,
    /// Parameters of this training. They replace those of the model, which replace those of the
    /// trainer.
    pub parameters: BTreeMap<String, String>,
    /// Bytes of memory that the join may use.
    pub memory: u64,
    /// Description and tags of the version.
    pub note: ModelNote,
}

/// The result of a training.
#[derive(Clone, Debug, Serialize)]
pub struct TrainReport {
    /// The version that was registered.
    pub version: ModelVersion,
    /// The number of passes over the training set.
    pub passes: u64,
    /// The number of rows that were fed to the trainer in each pass.
    pub rows: u64,
    /// The number of rows that were left out of each pass, because they have no label, or a null
    /// in a column in which the trainer accepts none.
    pub left_out: u64,
    /// Why the version was not evaluated, if it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_evaluated: Option<String>,
}

/// A version that was trained elsewhere and is registered now.
#[derive(Clone, Debug, Serialize)]
pub struct ModelRegistered {
    /// The version.
    #[serde(flatten)]
    pub version: ModelVersion,
    /// Why the version was not evaluated, if it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_evaluated: Option<String>,
}

/// Counts of the rows that a trainer was fed.
#[derive(Clone, Copy, Debug, Default)]
struct FeedCounts {
    passes: u64,
    rows: u64,
    left_out: u64,
}

impl Training {
    /// Trains a model and registers the result as its next version. Runs guest code.
    ///
    /// Rows of the parts `train` and `validation` are fed to the trainer. The version is
    /// evaluated on those of the part `test`. Rows of other parts are not used.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when the model has no trainer, or its training set does not have
    /// what the trainer asks for; [`Kind::Function`] when the trainer fails.
    pub async fn train(
        &self,
        request: TrainRequest,
        progress: &Arc<dyn Progress>,
    ) -> Result<TrainReport> {
        let definitions = self.context.definitions();
        let model = get(&definitions.models, &request.model, "model")?;
        let (Some(trainer), Some(label)) = (&model.trainer, &model.label) else {
            return Err(Error::invalid(format!(
                "model `{0}` has no trainer: set models.{0}.trainer, or train it elsewhere and register it \
                 with `wafer models push {0}`",
                request.model
            )));
        };
        let rows = Arc::new(self.rows_to_train_on(&request, model, progress).await?);
        let mut parameters = trainer.parameters.clone();
        parameters.extend(model.parameters.clone());
        parameters.extend(request.parameters);
        progress.stage("training");
        let folder = temporary_folder()?;
        let (trained, fed) = self
            .feed_trainer(
                trainer,
                &parameters,
                &rows,
                (label, model.task),
                folder.path(),
                progress,
            )
            .await?;
        progress.stage("registering");
        let new = NewVersion {
            model: request.model,
            artifacts: trained.artifacts,
            metrics: trained.metrics,
            parameters,
            training_set: Some(rows.set.id.clone()),
            trainer: Some((trainer.name.clone(), trainer.component)),
            note: request.note,
        };
        let mut candidate = self.registry.prepare(new).await?;
        let test_set = self.test_set_of(candidate.version()).await?;
        if let TestSet::Recorded(_) = test_set {
            self.evaluate_candidate(&mut candidate, &rows).await?;
        }
        Ok(TrainReport {
            not_evaluated: test_set.reason(),
            version: self.registry.publish(candidate).await?,
            passes: fed.passes,
            rows: fed.rows,
            left_out: fed.left_out,
        })
    }

    /// Returns the recorded training set that the request names, or makes a new one.
    async fn rows_to_train_on(
        &self,
        request: &TrainRequest,
        model: &ModelDef,
        progress: &Arc<dyn Progress>,
    ) -> Result<TrainingRows> {
        if let Some(id) = &request.training_set {
            return self.training_rows(id, request.memory, progress).await;
        }
        let labels = request.labels.as_ref().or(model.training.labels.as_ref());
        let labels = labels.cloned().ok_or_else(|| {
            Error::invalid(format!(
                "model `{0}` is to be trained on nothing: name labels with --labels or a training set with \
                 --training-set, or set models.{0}.training.labels",
                request.model
            ))
        })?;
        let is_there = tokio::fs::try_exists(&labels).await.unwrap_or(true);
        if request.labels.is_none() && !is_there {
            let message = format!(
                "the labels of model `{0}` (setting models.{0}.training.labels) are not there: make {1}, for \
                 example with `wafer export`, or name others with --labels",
                request.model,
                labels.display()
            );
            return Err(Error::new(Kind::NotFound, message));
        }
        // Other labels that are named instead may have types themselves.
        let has_types = Format::of_extension(&labels).is_some_and(Format::has_types);
        let types = match request.labels.is_some() && has_types {
            true => BTreeMap::new(),
            false => model.training.types.clone(),
        };
        let request = TrainingSetRequest {
            view: model.view.clone(),
            labels,
            labels_name: None,
            time: model.training.label_time().to_owned(),
            types,
            zone: model.training.zone,
            out: PathBuf::new(),
            as_of: None,
            memory: request.memory,
            most_label_bytes: None,
            room: None,
            split: model.training.split.clone(),
        };
        self.new_training_rows(request, progress).await
    }

    /// Feeds a training set to a trainer. The artifacts are written to `folder`.
    async fn feed_trainer(
        &self,
        trainer: &ComponentDef,
        parameters: &BTreeMap<String, String>,
        rows: &Arc<TrainingRows>,
        (label, task): (&str, Option<Task>),
        folder: &Path,
        progress: &Arc<dyn Progress>,
    ) -> Result<(Trained, FeedCounts)> {
        let mut spec = self.context.kept_component(trainer).await?;
        spec.parameters = parameters.clone();
        let offered = rows.fields();
        if !offered.iter().any(|field| field.name == label) {
            let known = offered.iter().map(|f| f.name.as_str());
            let hint = meant(label, known);
            return Err(Error::invalid(format!(
                "training set `{}` has no column `{label}`, which the model is to predict{hint}",
                rows.set.id
            )));
        }
        // A column that only the labels have does not exist when the model answers a request. A
        // model that learned from it would have learned from the future.
        let recipe = Recipe::read(&self.context, &rows.set.view, &rows.set.view_version).await?;
        let told = told(task, &recipe);
        let readable = recipe.readable();
        let is_offered = |field: &Field| field.name == label || readable.contains_key(&field.name);
        let offered: Vec<Field> = offered.into_iter().filter(is_offered).collect();
        let offered = Schema::new(offered)
            .map_err(|e| Error::invalid(format!("training set `{}`: {e}", rows.set.id)))?;
        let runtime = self.context.components().runtime.clone();
        let artifacts = Arc::clone(&self.context.components().stores.artifacts);
        let (rows, label, progress) = (Arc::clone(rows), label.to_owned(), Arc::clone(progress));
        let folder = folder.to_owned();
        blocking(move || {
            let mut training = begin(spec.clone(), told, |spec| {
                runtime.begin_training(spec, &offered, &label, artifacts.as_ref())
            })?;
            check_requested(&spec.name, &offered, training.columns(), &rows.set.id)?;
            let labels = Labels {
                column: label,
                task,
                set: rows.set.id.clone(),
            };
            let counts = feed_all(&mut training, &rows, &labels, progress.as_ref())?;
            Ok((training.finish(&folder)?, counts))
        })
        .await?
    }
}

/// The beginning of the names of parameters that tell a trainer what it is used for. The SDK keeps
/// them apart from those of the project file.
const TOLD: &str = "wafer.";

/// What a trainer is told beside its parameters: the model's task, and which columns are join keys.
fn told(task: Option<Task>, recipe: &Recipe) -> BTreeMap<String, String> {
    let keys = recipe.view.lookups.iter().flat_map(|lookup| &lookup.keys);
    let keys: BTreeSet<&str> = keys.map(String::as_str).collect();
    let keys: Vec<&str> = keys.into_iter().collect();
    let task = task.map(|task| match task {
        Task::Binary => "binary",
        Task::Regression => "regression",
    });
    let task = task.map(|task| (format!("{TOLD}task"), task.to_owned()));
    let keys = (format!("{TOLD}keys"), keys.join(","));
    task.into_iter().chain([keys]).collect()
}

/// Starts a training. A trainer built with an SDK from before it was told anything takes that for
/// parameters that it does not have, and may refuse them; it is started again without.
fn begin<T>(
    spec: FunctionSpec,
    told: BTreeMap<String, String>,
    start: impl Fn(&FunctionSpec) -> std::result::Result<T, RegisterError>,
) -> std::result::Result<T, RegisterError> {
    let mut informed = spec.clone();
    informed.parameters.extend(told.clone());
    let names_one = |message: &str| told.keys().any(|name| message.contains(name.as_str()));
    match start(&informed) {
        Err(RegisterError::Init { message, .. }) if names_one(&message) => start(&spec),
        started => started,
    }
}

/// Checks that a trainer asks for columns that were offered, with types that they can be widened
/// to.
fn check_requested(trainer: &str, offered: &Schema, requested: &[Field], set: &str) -> Result<()> {
    for field in requested {
        let found = offered.field(&field.name);
        let message = match found {
            Some(found) if can_widen(&found.data_type, &field.data_type) => continue,
            Some(found) => format!(
                "column `{}` is {}, and function `{trainer}` asks for {}",
                field.name, found.data_type, field.data_type
            ),
            None => {
                let known = offered.fields().iter().map(|f| f.name.as_str());
                let hint = meant(&field.name, known);
                format!(
                    "function `{trainer}` asks for column `{}` ({}), and the training set has no \
                     such column{hint}",
                    field.name, field.data_type
                )
            }
        };
        return Err(Error::invalid(format!("training set `{set}`: {message}")));
    }
    Ok(())
}

/// Feeds the rows to a trainer, as often as it asks for another pass.
fn feed_all(
    training: &mut TrainingSession,
    rows: &TrainingRows,
    labels: &Labels,
    progress: &dyn Progress,
) -> Result<FeedCounts> {
    let label = labels.column.as_str();
    let requested: Vec<Field> = training.columns().to_vec();
    let mut names: Vec<String> = requested.iter().map(|f| f.name.clone()).collect();
    names.push(label.to_owned());
    let part = rows.part_column();
    names.extend(part.clone());
    let mut passes = 0;
    loop {
        passes += 1;
        let mut counts = FeedCounts {
            passes,
            ..FeedCounts::default()
        };
        let (mut read, mut learned) = (0, 0);
        for batch in rows.batches(&names)? {
            let batch = batch?;
            if passes == 1 {
                check_labels(labels, &batch, read)?;
            }
            let parts = part.as_ref().and_then(|name| batch.column_by_name(name));
            let parts: Option<&StringArray> = parts.map(|column| column.as_string());
            for (role, part) in [(Role::Train, "train"), (Role::Validation, "validation")] {
                let is_in = |row: usize| match parts {
                    Some(parts) => parts.value(row) == part,
                    None => role == Role::Train,
                };
                let (columns, left_out) = rows_of_part(&batch, &is_in, &requested, label)?;
                counts.left_out += left_out;
                counts.rows += columns[0].len() as u64;
                if role == Role::Train {
                    learned += columns[0].len();
                }
                training.feed(role, &columns)?;
            }
            read += batch.num_rows() as u64;
            progress.read(read, Some(rows.len()));
        }
        if learned == 0 {
            let message = format!(
                "training set `{}` has no row with a label `{label}` in a part `train`",
                rows.set.id
            );
            return Err(Error::invalid(message));
        }
        if !training.next_pass()? {
            return Ok(counts);
        }
        progress.stage(&format!("training, pass {}", passes + 1));
    }
}

/// Checks that the labels of a batch are labels of the model's task, if it is known. `first` is the
/// number of the batch's first row.
fn check_labels(labels: &Labels, batch: &RecordBatch, first: u64) -> Result<()> {
    let column = batch.column_by_name(&labels.column);
    match column.filter(|_| labels.task.is_some()) {
        None => Ok(()),
        Some(column) => labels.numbers(column, |row| first + row as u64).map(drop),
    }
}

/// Returns the requested columns of the rows of a part, and how many rows of the part were left
/// out, because they have no label or a null in a column that must not have any.
fn rows_of_part(
    batch: &RecordBatch,
    is_in: &impl Fn(usize) -> bool,
    requested: &[Field],
    label: &str,
) -> Result<(Vec<ArrayRef>, u64)> {
    let column = |name: &str| {
        let message = || Error::new(Kind::Internal, format!("column `{name}` was not read"));
        batch.column_by_name(name).ok_or_else(message)
    };
    let mut columns = Vec::new();
    for field in requested {
        columns.push(model_input(column(&field.name)?, &field.data_type)?);
    }
    let label = column(label)?;
    let required = requested.iter().zip(&columns).filter(|(f, _)| !f.nullable);
    let required: Vec<&ArrayRef> = required.map(|(_, column)| column).chain([label]).collect();
    let mut left_out = 0;
    let wanted: BooleanArray = (0..batch.num_rows())
        .map(|row| {
            let is_complete = required.iter().all(|column| column.is_valid(row));
            left_out += u64::from(is_in(row) && !is_complete);
            Some(is_in(row) && is_complete)
        })
        .collect();
    let filtered = columns
        .iter()
        .map(|column| arrow_select::filter::filter(column, &wanted));
    let filtered = filtered.collect::<Result<_, _>>();
    let filtered = filtered
        .map_err(|e| Error::caused(Kind::Internal, "cannot select the rows of a part", e))?;
    Ok((filtered, left_out))
}

/// Converts a column of a training set to the type that a model reads.
///
/// # Errors
/// Returns [`Kind::Invalid`] when the column can be neither converted nor widened to that type.
pub(crate) fn model_input(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    if let Ok(column) = coerce(column, wanted) {
        return Ok(column);
    }
    // The model may read a wider type than the column has, such as float64 for int64.
    let as_stored = [DataType::Boolean, DataType::Int64, DataType::Float32];
    let stored = as_stored
        .iter()
        .find_map(|t| coerce(column, t).ok().map(|c| (t, c)));
    match stored {
        Some((found, column)) if can_widen(found, wanted) => Ok(widen(&column, wanted)),
        _ => Err(Error::invalid(format!(
            "wanted {wanted}, found {}",
            column.data_type()
        ))),
    }
}

impl Training {
    /// Registers the next version of a model that was trained elsewhere. Runs guest code.
    ///
    /// Loads the model's function with the artifacts, snapshots it, and checks that it fits the
    /// view. If the training set of the version has a part `test`, it is made again with at most
    /// `memory` bytes, and the version is evaluated on that part.
    ///
    /// # Errors
    /// Returns [`Kind::Function`] when the function fails to load an artifact, and
    /// [`Kind::Invalid`] when the function reads something that the view does not have, with each
    /// difference, an artifact is too large, or the training set has no column with the label.
    pub async fn register_version(
        &self,
        new: NewVersion,
        memory: u64,
        progress: &Arc<dyn Progress>,
    ) -> Result<ModelRegistered> {
        progress.stage("registering");
        let mut candidate = self.registry.prepare(new).await?;
        let test_set = self.test_set_of(candidate.version()).await?;
        if let TestSet::Recorded(id) = &test_set {
            progress.stage("making the training set again");
            let rows = self.training_rows(id, memory, progress).await?;
            self.evaluate_candidate(&mut candidate, &Arc::new(rows))
                .await?;
        }
        Ok(ModelRegistered {
            version: self.registry.publish(candidate).await?,
            not_evaluated: test_set.reason(),
        })
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::types::{Float64Type, Int64Type};
    use arrow_array::{Float64Array, Int32Array, Int64Array};

    use super::*;

    #[test]
    fn a_trainer_may_ask_for_offered_columns_and_wider_types_only() {
        let offered = Schema::new(vec![
            Field::new("delay", DataType::Int64, true),
            Field::new("airport", DataType::Utf8, true),
        ])
        .unwrap();
        for (name, data_type, wanted) in [
            ("delay", DataType::Int64, None),
            ("delay", DataType::Float64, None),
            (
                "airport",
                DataType::Int64,
                Some("column `airport` is utf8, and function `t` asks for int64"),
            ),
            (
                "delays",
                DataType::Int64,
                Some(
                    "function `t` asks for column `delays` (int64), and the training set has no such \
                     column; is `delay` meant?",
                ),
            ),
        ] {
            let requested = [Field::new(name, data_type.clone(), true)];
            let refused = check_requested("t", &offered, &requested, "s").err();
            let wanted = wanted.map(|reason| format!("training set `s`: {reason}"));
            assert_eq!(refused.map(|e| e.to_string()), wanted, "{name} {data_type}");
        }
    }

    #[test]
    fn rows_without_a_label_or_a_required_value_are_left_out() {
        let x = Int64Array::from(vec![Some(1), None, Some(3), Some(4)]);
        let x: ArrayRef = Arc::new(x);
        let label = Float64Array::from(vec![Some(0.5), Some(0.5), None, Some(0.5)]);
        let label: ArrayRef = Arc::new(label);
        let columns = [("x", x, true), ("label", label, true)];
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let all: &dyn Fn(usize) -> bool = &|_| true;
        let but_last: &dyn Fn(usize) -> bool = &|row| row < 3;
        for (case, nullable, is_in, kept, left_out) in [
            (
                "nulls are accepted",
                true,
                all,
                vec![Some(1), None, Some(4)],
                1,
            ),
            (
                "nulls are not accepted",
                false,
                all,
                vec![Some(1), Some(4)],
                2,
            ),
            // Rows of other parts are not counted as left out.
            ("another part", false, but_last, vec![Some(1)], 2),
        ] {
            let requested = [Field::new("x", DataType::Int64, nullable)];
            let (columns, count) = rows_of_part(&batch, &is_in, &requested, "label").unwrap();
            let values: Vec<_> = columns[0].as_primitive::<Int64Type>().iter().collect();
            assert_eq!((values, count), (kept, left_out), "{case}");
        }
    }

    #[test]
    fn columns_are_converted_or_widened_and_text_is_no_number() {
        let narrow: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
        let whole: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let text: ArrayRef = Arc::new(StringArray::from(vec!["1", "2"]));
        for column in [&narrow, &whole] {
            let widened = model_input(column, &DataType::Float64).unwrap();
            assert_eq!(widened.as_primitive::<Float64Type>().values(), &[1.0, 2.0]);
        }
        let kept = model_input(&narrow, &DataType::Int64).unwrap();
        assert_eq!(kept.as_primitive::<Int64Type>().values(), &[1, 2]);
        let refused = model_input(&text, &DataType::Float64).unwrap_err();
        assert_eq!(refused.to_string(), "wanted float64, found Utf8");
    }
}
