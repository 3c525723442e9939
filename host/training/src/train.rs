//! Training: a training set streamed through a training function, and what comes of it
//! registered.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::{ArrayRef, BooleanArray, RecordBatch, StringArray};
use serde::Serialize;
use wafer_catalog::{
    ComponentDef, ModelDef, ModelNote, ModelVersion, Progress, blocking, get, meant,
    temporary_folder,
};
use wafer_core::{DataType, Field, Schema, can_widen, coerce, widen};
use wafer_registry::NewVersion;
use wafer_runtime::{Role, Trained, TrainingSession};
use wafer_store::{Error, Kind, Result};

use crate::rows::TrainingRows;
use crate::service::Training;
use crate::training_set::TrainingSetRequest;

/// What to train.
#[derive(Clone, Debug)]
pub struct TrainRequest {
    /// The model.
    pub model: String,
    /// Training set that was made before; absent: one is made.
    pub training_set: Option<String>,
    /// Labels that it is made of; absent: as the model says.
    pub labels: Option<PathBuf>,
    /// Parameters of this training, before the model's and the trainer's own.
    pub parameters: BTreeMap<String, String>,
    /// Bytes of memory that the join may use.
    pub memory: u64,
    /// What there is to say of the version.
    pub note: ModelNote,
}

/// What a training came to.
#[derive(Clone, Debug, Serialize)]
pub struct TrainReport {
    /// The version that it made.
    pub version: ModelVersion,
    /// Passes over the training set.
    pub passes: u64,
    /// Rows that were fed in each.
    pub rows: u64,
    /// Rows that were left out: without a label, or with a null that the trainer has no use
    /// for.
    pub left_out: u64,
}

/// What was fed.
#[derive(Clone, Copy, Debug, Default)]
struct Fed {
    passes: u64,
    rows: u64,
    left_out: u64,
}

impl Training {
    /// Trains a model: makes a training set, or takes one that there is, streams it through
    /// the trainer as often as that asks for, and registers what comes out. Rows of parts
    /// other than `train` and `validation` are not fed; those of `test` are what the version
    /// is evaluated on. Runs guest code.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when the model has no trainer, or its training set has not what the
    /// trainer asks for; [`Kind::Function`] when the trainer fails.
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
        let rows = Arc::new(self.rows_for(&request, model, progress).await?);
        let mut parameters = trainer.parameters.clone();
        parameters.extend(model.parameters.clone());
        parameters.extend(request.parameters);
        progress.stage("training");
        let folder = temporary_folder()?;
        let (trained, fed) = self
            .feed_trainer(trainer, &parameters, &rows, label, folder.path(), progress)
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
        if self.test_set_of(candidate.version()).await?.is_some() {
            self.evaluate_candidate(&mut candidate, &rows).await?;
        }
        Ok(TrainReport {
            version: self.registry.publish(candidate).await?,
            passes: fed.passes,
            rows: fed.rows,
            left_out: fed.left_out,
        })
    }

    async fn rows_for(
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
                "model `{0}` is to be trained on nothing: name labels with --labels, a training set with \
                 --training-set, or set models.{0}.training.labels",
                request.model
            ))
        })?;
        let time = model.training.time.clone();
        let request = TrainingSetRequest {
            view: model.view.clone(),
            labels,
            time: time.unwrap_or_else(|| "event_timestamp".to_owned()),
            out: PathBuf::new(),
            as_of: None,
            memory: request.memory,
            split: model.training.split.clone(),
        };
        self.new_training_rows(request, progress).await
    }

    async fn feed_trainer(
        &self,
        trainer: &ComponentDef,
        parameters: &BTreeMap<String, String>,
        rows: &Arc<TrainingRows>,
        label: &str,
        folder: &Path,
        progress: &Arc<dyn Progress>,
    ) -> Result<(Trained, Fed)> {
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
        // What only the labels have is not there when a model is asked: learning from it
        // would be learning from the future.
        let recipe = self
            .context
            .recipe(&rows.set.view, &rows.set.view_version)
            .await?;
        let readable = recipe.readable();
        let is_there = |field: &Field| field.name == label || readable.contains_key(&field.name);
        let offered: Vec<Field> = offered.into_iter().filter(is_there).collect();
        let offered = Schema::new(offered)
            .map_err(|e| Error::invalid(format!("training set `{}`: {e}", rows.set.id)))?;
        let runtime = self.context.components().runtime.clone();
        let artifacts = Arc::clone(&self.context.components().artifacts);
        let (rows, label, progress) = (Arc::clone(rows), label.to_owned(), Arc::clone(progress));
        let folder = folder.to_owned();
        blocking(move || {
            let mut training =
                runtime.begin_training(&spec, &offered, &label, artifacts.as_ref())?;
            check_asked(&spec.name, &offered, training.columns(), &rows.set.id)?;
            let fed = feed_all(&mut training, &rows, &label, progress.as_ref())?;
            Ok((training.finish(&folder)?, fed))
        })
        .await?
    }
}

/// Checks that a trainer asked for columns that there are.
fn check_asked(trainer: &str, offered: &Schema, asked: &[Field], set: &str) -> Result<()> {
    for field in asked {
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
                    "function `{trainer}` asks for column `{}` ({}), which there is not{hint}",
                    field.name, field.data_type
                )
            }
        };
        return Err(Error::invalid(format!("training set `{set}`: {message}")));
    }
    Ok(())
}

fn feed_all(
    training: &mut TrainingSession,
    rows: &TrainingRows,
    label: &str,
    progress: &dyn Progress,
) -> Result<Fed> {
    let asked: Vec<Field> = training.columns().to_vec();
    let mut names: Vec<String> = asked.iter().map(|f| f.name.clone()).collect();
    names.push(label.to_owned());
    let part = rows.part_column();
    names.extend(part.clone());
    let mut passes = 0;
    loop {
        passes += 1;
        let mut fed = Fed {
            passes,
            ..Fed::default()
        };
        let (mut read, mut learned) = (0, 0);
        for batch in rows.batches(&names)? {
            let batch = batch?;
            let parts = part.as_ref().and_then(|name| batch.column_by_name(name));
            let parts: Option<&StringArray> = parts.map(|column| column.as_string());
            for (role, part) in [(Role::Train, "train"), (Role::Validation, "validation")] {
                let is_in = |row: usize| match parts {
                    Some(parts) => parts.value(row) == part,
                    None => role == Role::Train,
                };
                let (columns, left_out) = part_of(&batch, &is_in, &asked, label)?;
                fed.left_out += left_out;
                fed.rows += columns[0].len() as u64;
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
            return Ok(fed);
        }
        progress.stage(&format!("training, pass {}", passes + 1));
    }
}

/// The columns that a trainer is fed of the rows of a part, and how many of these were left
/// out.
fn part_of(
    batch: &RecordBatch,
    is_in: &impl Fn(usize) -> bool,
    asked: &[Field],
    label: &str,
) -> Result<(Vec<ArrayRef>, u64)> {
    let column = |name: &str| {
        let message = || Error::new(Kind::Internal, format!("column `{name}` was not read"));
        batch.column_by_name(name).ok_or_else(message)
    };
    let mut columns = Vec::new();
    for field in asked {
        columns.push(model_input(column(&field.name)?, &field.data_type)?);
    }
    let label = column(label)?;
    let required = asked.iter().zip(&columns).filter(|(f, _)| !f.nullable);
    let required: Vec<&ArrayRef> = required.map(|(_, column)| column).chain([label]).collect();
    let mut left_out = 0;
    let wanted: BooleanArray = (0..batch.num_rows())
        .map(|row| {
            let is_whole = required.iter().all(|column| column.is_valid(row));
            left_out += u64::from(is_in(row) && !is_whole);
            Some(is_in(row) && is_whole)
        })
        .collect();
    let filtered = columns
        .iter()
        .map(|column| arrow_select::filter::filter(column, &wanted));
    let filtered = filtered.collect::<Result<_, _>>();
    let filtered = filtered.map_err(|e| Error::caused(Kind::Internal, "rows of a part", e))?;
    Ok((filtered, left_out))
}

/// A column of a training set as a model reads it.
pub(crate) fn model_input(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    if let Ok(column) = coerce(column, wanted) {
        return Ok(column);
    }
    // It has a wider type than the contract's own.
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
    /// Registers the next version of a model: loads its function with the artifacts,
    /// snapshots it, checks that it fits the view, and evaluates it on the part `test` of its
    /// training set, if there is one; `memory` is for making that again. Runs guest code.
    ///
    /// # Errors
    /// [`Kind::Function`] when an artifact cannot be read; [`Kind::Invalid`] when the
    /// function reads what the view has not, naming each difference, and for artifacts that
    /// are too large.
    pub async fn register_version(
        &self,
        new: NewVersion,
        memory: u64,
        progress: &Arc<dyn Progress>,
    ) -> Result<ModelVersion> {
        progress.stage("registering");
        let mut candidate = self.registry.prepare(new).await?;
        if let Some(id) = self.test_set_of(candidate.version()).await? {
            progress.stage("making the training set again");
            let rows = self.training_rows(&id, memory, progress).await?;
            self.evaluate_candidate(&mut candidate, &Arc::new(rows))
                .await?;
        }
        self.registry.publish(candidate).await
    }
}
