//! Registering the next version of a model from its artifacts.
//!
//! [`Registry::prepare`] loads the function that predicts with the artifacts as its assets, and
//! snapshots it, as any function is registered. So a request's sandbox starts with the model in
//! memory. The function is checked against the version of the view that the model was trained
//! on, and checked to predict row by row on made-up rows. The result is a [`Candidate`], which can
//! be evaluated. [`Registry::publish`] compiles its functions for the machines that the project
//! was deployed to, and writes it as the next version.

use std::collections::BTreeMap;

use wafer_catalog::{
    Artifact, ModelDef, ModelNote, ModelVersion, Recipe, TrainingSet, VersionName, Which, blocking,
    check_predictions, definition, get, meant,
};
use wafer_core::{DataType, Digest, Field, Mapping, Signature, bytes_text, can_widen};
use wafer_runtime::{Asset, MAX_ARTIFACT_BYTES};
use wafer_store::{Error, Expect, Kind, Result};

use crate::models::version_object;
use crate::releases::BoundRelease;
use crate::service::Registry;

/// The artifacts and origins of a version to register.
#[derive(Clone, Debug, Default)]
pub struct NewVersion {
    /// Name of the model.
    pub model: String,
    /// Artifacts by name. The model's function is loaded with them as its assets.
    pub artifacts: BTreeMap<String, Asset>,
    /// Metrics by name, such as those that the trainer measured. All are finite.
    pub metrics: BTreeMap<String, f64>,
    /// Parameters that the version was trained with.
    pub parameters: BTreeMap<String, String>,
    /// Id of the training set that the version was trained on. `None` means that it is bound to
    /// the view as it is defined now.
    pub training_set: Option<String>,
    /// Name and digest of the trainer, if Wafer trained the version.
    pub trainer: Option<(String, Digest)>,
    /// Description and tags of the version.
    pub note: ModelNote,
}

/// A version of a model that fits its view and whose function is registered, but that has no
/// number yet.
#[derive(Debug)]
pub struct Candidate {
    bound: BoundRelease,
    note: ModelNote,
}

impl Candidate {
    /// Returns the version. Its number is 0.
    pub fn version(&self) -> &ModelVersion {
        &self.bound.model
    }

    /// Adds metrics, such as those of an evaluation.
    pub fn add_metrics(&mut self, metrics: impl IntoIterator<Item = (String, f64)>) {
        self.bound.model.metrics.extend(metrics);
    }
}

impl Registry {
    /// Prepares the next version of a model: loads its function with the artifacts, snapshots
    /// it, and checks that it fits the view and predicts row by row. Runs guest code.
    ///
    /// # Errors
    /// Returns [`Kind::Function`] when the function fails to load an artifact, and
    /// [`Kind::Invalid`] when the function reads something that the view does not have, with each
    /// difference, an artifact is too large, or a metric is not finite.
    pub async fn prepare(&self, new: NewVersion) -> Result<Candidate> {
        let definitions = self.context.definitions();
        let model = get(&definitions.models, &new.model, "model")?;
        // Versions are stored as JSON, which has no infinity and no NaN.
        if let Some((metric, value)) = new.metrics.iter().find(|(_, v)| !v.is_finite()) {
            let message = format!("metric `{metric}` is {value}: only finite numbers are kept");
            return Err(Error::invalid(message));
        }
        let (view_version, recipe) = self
            .view_trained_on(model, new.training_set.as_deref())
            .await?;

        let mut spec = self.context.kept_component(&model.function).await?;
        let mut artifacts = BTreeMap::new();
        for (name, asset) in &new.artifacts {
            check_size(name, asset.size(), spec.limits.memory, &spec.name)?;
            let kept = Artifact {
                digest: asset.digest(),
                bytes: asset.size(),
            };
            artifacts.insert(name.clone(), kept);
            if spec.assets.insert(name.clone(), asset.clone()).is_some() {
                return Err(Error::invalid(format!(
                    "function `{}` has an asset `{name}` of its own: give the artifact another name",
                    spec.name
                )));
            }
        }
        let registered = self.context.register_one(spec.clone()).await.map_err(|e| {
            let message = format!("model `{}` was not registered: {}", new.model, e.chain());
            Error::new(e.kind(), message)
        })?;
        // Artifacts are stored only after the function has loaded them.
        for asset in new.artifacts.values() {
            self.context.keep_asset(asset).await?;
        }
        let prediction = model.prediction.as_deref();
        check_fit(
            &new.model,
            &model.view,
            prediction,
            &registered.signature,
            &recipe,
        )?;
        let predicts = definition(&spec, registered);
        let function = self.context.load_function(&spec.name, &predicts)?;
        blocking(move || check_predictions(&function)).await??;
        let version = ModelVersion {
            model: new.model,
            version: 0,
            created: self.context.machine_now(),
            artifacts,
            metrics: new.metrics,
            parameters: new.parameters,
            view: model.view.clone(),
            view_version,
            training_set: new.training_set,
            trainer: new.trainer,
            function_name: spec.name.clone(),
            function: predicts,
            label: model.label.clone(),
            task: model.task,
            prediction: model.prediction.clone(),
            lineage: self.lineage_of(&recipe, &definitions).await?,
        };
        Ok(Candidate {
            bound: BoundRelease {
                recipe,
                model: version,
            },
            note: new.note,
        })
    }

    /// Compiles a candidate's functions for all machines that the project was deployed to, and
    /// registers it under the next number. Returns the version.
    ///
    /// # Errors
    /// Returns the errors of the compiler and of the metadata store.
    pub async fn publish(&self, candidate: Candidate) -> Result<ModelVersion> {
        let Candidate { mut bound, note } = candidate;
        self.context.compile_for_known(bound.functions()).await?;
        self.put_version(&mut bound.model).await?;
        let version = bound.model;
        if note != ModelNote::default() {
            let name = VersionName {
                model: version.model.clone(),
                which: Which::Number(version.version),
            };
            self.note(&name, Some(&note.doc), &note.tags).await?;
        }
        Ok(version)
    }

    /// Checks that a version fits another version of its view.
    pub(crate) fn check_version_fits(&self, version: &ModelVersion, recipe: &Recipe) -> Result<()> {
        let signature = &version.function.registered.signature;
        let prediction = version.prediction.as_deref();
        check_fit(
            &version.name(),
            &version.view,
            prediction,
            signature,
            recipe,
        )
    }

    /// Returns the version of the view, with its digest, that the training set was made from, or
    /// the present one if there is no training set.
    async fn view_trained_on(
        &self,
        model: &ModelDef,
        training_set: Option<&str>,
    ) -> Result<(String, Recipe)> {
        let Some(id) = training_set else {
            let recipe = Recipe::new(&self.context.definitions(), &model.view)?;
            return Ok((
                self.context.keep_recipe(&model.view, &recipe).await?,
                recipe,
            ));
        };
        let set: TrainingSet = self.context.training_set_record(id).await?;
        if set.view != model.view {
            return Err(Error::invalid(format!(
                "training set `{id}` was made from view `{}`, and the model reads view `{}`",
                set.view, model.view
            )));
        }
        let recipe = self.context.recipe(&set.view, &set.view_version).await?;
        Ok((set.view_version, recipe))
    }

    /// Writes the version under the next number, and sets the number.
    async fn put_version(&self, version: &mut ModelVersion) -> Result<()> {
        loop {
            version.version = self.newest_number(&version.model).await? + 1;
            let name = version_object(&version.model, version.version);
            match self
                .context
                .put_object(&name, version, Expect::Absent)
                .await
            {
                // Another process registered a version of this number; try the number after it.
                Err(e) if e.kind() == Kind::Conflict => {}
                put => return put.map(drop),
            }
        }
    }
}

/// Checks that an artifact is not larger than the limit, or than the memory of the function.
fn check_size(name: &str, bytes: u64, memory: u64, function: &str) -> Result<()> {
    let size = bytes_text(bytes);
    if bytes > MAX_ARTIFACT_BYTES {
        let most = bytes_text(MAX_ARTIFACT_BYTES);
        return Err(Error::invalid(format!(
            "artifact `{name}` has {size}; a model has at most {most} in each"
        )));
    }
    if bytes > memory {
        return Err(Error::invalid(format!(
            "artifact `{name}` has {size}, and function `{function}` has {} of memory: raise its `memory`, \
             to about three times the artifact",
            bytes_text(memory)
        )));
    }
    Ok(())
}

/// Checks that a model's function reads only what its view has, maps rows one to one, and has
/// outputs that can be stored. The error names every difference.
fn check_fit(
    name: &str,
    view: &str,
    prediction: Option<&str>,
    signature: &Signature,
    recipe: &Recipe,
) -> Result<()> {
    let readable = recipe.readable();
    let difference = |input: &Field| match readable.get(&input.name) {
        Some(found) if can_widen(&found.data_type, &input.data_type) => None,
        Some(found) => Some(format!(
            "`{}` is {} in the view, and the model reads {}",
            input.name, found.data_type, input.data_type
        )),
        None => {
            let known = readable.keys().map(String::as_str);
            let hint = meant(&input.name, known);
            Some(format!(
                "the view has no `{}` ({}){hint}",
                input.name, input.data_type
            ))
        }
    };
    let mut differences: Vec<String> = signature
        .inputs
        .fields()
        .iter()
        .filter_map(difference)
        .collect();
    if signature.mapping != Mapping::OneToOne {
        differences.push("the function does not map rows one to one".to_owned());
    }
    for output in signature.outputs.fields() {
        if !output.data_type.is_storable() {
            differences.push(format!(
                "output `{}` cannot be {}",
                output.name, output.data_type
            ));
        }
    }
    if let Some(prediction) = prediction {
        match signature.outputs.field(prediction) {
            Some(field) if can_widen(&field.data_type, &DataType::Float64) => {}
            Some(field) => differences.push(format!(
                "output `{prediction}` is {}, and a prediction is a number",
                field.data_type
            )),
            None => differences.push(format!(
                "there is no output `{prediction}` to be the prediction"
            )),
        }
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "model `{name}` does not fit view `{view}`: {}",
        differences.join("; ")
    )))
}
