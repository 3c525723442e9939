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
    Artifact, FunctionDef, ModelDef, ModelNote, ModelVersion, Recipe, TrainingSet, VersionName,
    Which, blocking, check_predictions, definition, get,
};
use wafer_core::{Digest, bytes_text};
use wafer_runtime::{Asset, FunctionSpec, MAX_ARTIFACT_BYTES};
use wafer_store::{Error, Expect, Kind, Result};

use crate::fit::check_fit;
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
        check_metrics(&new.metrics)?;
        let (view_version, recipe) = self
            .view_trained_on(model, new.training_set.as_deref())
            .await?;
        let mut spec = self.context.kept_component(&model.function).await?;
        let artifacts = add_artifacts(&mut spec, &new.artifacts)?;
        let function = self.register_predictor(&new, &spec).await?;
        let signature = &function.registered.signature;
        let prediction = model.prediction.as_deref();
        check_fit(&new.model, &model.view, prediction, signature, &recipe)?;
        self.check_predicts_by_row(&spec.name, &function).await?;
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
            function_name: spec.name,
            function,
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

    /// Registers the function that predicts, whose assets the artifacts are, and then stores the
    /// artifacts.
    async fn register_predictor(
        &self,
        new: &NewVersion,
        spec: &FunctionSpec,
    ) -> Result<FunctionDef> {
        let registered = self.context.register_one(spec.clone()).await.map_err(|e| {
            let message = format!("model `{}` was not registered: {}", new.model, e.chain());
            Error::new(e.kind(), message)
        })?;
        // Artifacts are stored only after the function has loaded them.
        for asset in new.artifacts.values() {
            self.context.keep_asset(asset).await?;
        }
        Ok(definition(spec, registered))
    }

    /// Checks on made-up rows that a function predicts row by row. Runs guest code.
    async fn check_predicts_by_row(&self, name: &str, function: &FunctionDef) -> Result<()> {
        let function = self.context.load_function(name, function)?;
        blocking(move || check_predictions(&function)).await?
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
            return Ok((recipe.keep(&self.context, &model.view).await?, recipe));
        };
        let set = TrainingSet::read(&self.context, id).await?;
        if set.view != model.view {
            return Err(Error::invalid(format!(
                "training set `{id}` was made from view `{}`, and the model reads view `{}`",
                set.view, model.view
            )));
        }
        let recipe = Recipe::read(&self.context, &set.view, &set.view_version).await?;
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

/// Checks that metrics can be stored: versions are JSON, which has no infinity and no NaN.
fn check_metrics(metrics: &BTreeMap<String, f64>) -> Result<()> {
    match metrics.iter().find(|(_, value)| !value.is_finite()) {
        None => Ok(()),
        Some((metric, value)) => Err(Error::invalid(format!(
            "metric `{metric}` is {value}: only finite numbers are kept"
        ))),
    }
}

/// Adds the artifacts of a version to the assets of its function. Returns what the version records
/// of them.
fn add_artifacts(
    spec: &mut FunctionSpec,
    artifacts: &BTreeMap<String, Asset>,
) -> Result<BTreeMap<String, Artifact>> {
    let mut kept = BTreeMap::new();
    for (name, asset) in artifacts {
        check_size(name, asset.size(), spec.limits.memory, &spec.name)?;
        let artifact = Artifact {
            digest: asset.digest(),
            bytes: asset.size(),
        };
        kept.insert(name.clone(), artifact);
        if spec.assets.insert(name.clone(), asset.clone()).is_some() {
            return Err(Error::invalid(format!(
                "function `{}` has an asset `{name}` of its own: give the artifact another name",
                spec.name
            )));
        }
    }
    Ok(kept)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_are_bounded_by_the_limit_and_by_the_memory_of_the_function() {
        for (bytes, memory, wanted) in [
            (100, 100, None),
            (101, 100, Some("raise its `memory`")),
            (MAX_ARTIFACT_BYTES, u64::MAX, None),
            (
                MAX_ARTIFACT_BYTES + 1,
                u64::MAX,
                Some("a model has at most"),
            ),
            // The limit is the better explanation, because no memory would be enough.
            (MAX_ARTIFACT_BYTES + 1, 100, Some("a model has at most")),
        ] {
            let refused = check_size("model", bytes, memory, "predict").err();
            let message = refused.map(|e| e.to_string());
            let is_wanted = match (&message, wanted) {
                (Some(message), Some(wanted)) => message.contains(wanted),
                (message, wanted) => message.is_none() && wanted.is_none(),
            };
            assert!(is_wanted, "{bytes} of {memory}: {message:?}");
        }
    }

    #[test]
    fn metrics_are_finite_numbers() {
        for (value, is_kept) in [
            (0.0, true),
            (-1.5, true),
            (f64::NAN, false),
            (f64::INFINITY, false),
            (f64::NEG_INFINITY, false),
        ] {
            let metrics = BTreeMap::from([("a".to_owned(), 1.0), ("b".to_owned(), value)]);
            let refused = check_metrics(&metrics).err().map(|e| e.to_string());
            assert_eq!(refused.is_none(), is_kept, "{value}");
            assert!(refused.is_none_or(|message| message.contains("metric `b` is")));
        }
    }

    #[test]
    fn artifacts_become_assets_unless_the_function_has_one_of_that_name() {
        let spec = |asset: &str| FunctionSpec {
            name: "predict".to_owned(),
            assets: BTreeMap::from([(asset.to_owned(), Asset::from("own"))]),
            ..FunctionSpec::default()
        };
        let artifacts = BTreeMap::from([("model".to_owned(), Asset::from("weights"))]);
        let mut added = spec("table");
        let kept = add_artifacts(&mut added, &artifacts).unwrap();
        let wanted = Artifact {
            digest: Digest::of(b"weights"),
            bytes: 7,
        };
        assert_eq!(kept, BTreeMap::from([("model".to_owned(), wanted)]));
        let names: Vec<_> = added.assets.keys().map(String::as_str).collect();
        assert_eq!(names, ["model", "table"]);
        let refused = add_artifacts(&mut spec("model"), &artifacts).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "function `predict` has an asset `model` of its own: give the artifact another name"
        );
    }
}
