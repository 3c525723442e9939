//! From artifacts to the next version of a model.

use std::collections::BTreeMap;
use std::sync::Arc;

use wafer_core::{DataType, Digest, Field, Mapping, Signature, bytes_text, can_widen};
use wafer_runtime::{Asset, MAX_ARTIFACT_BYTES};
use wafer_store::Expect;

use super::{Artifact, ModelNote, ModelVersion, VersionName, version_object};
use crate::check::check_predictions;
use crate::definition::ModelDef;
use crate::error::{Error, Kind, Result};
use crate::functions::definition;
use crate::platform::{Platform, get};
use crate::project::meant;
use crate::recipe::Recipe;
use crate::releases::Bound;
use crate::run::{Progress, blocking};
use crate::training::{TrainingRows, TrainingSet};

/// What a version is to be made of.
#[derive(Clone, Debug, Default)]
pub struct NewVersion {
    /// The model.
    pub model: String,
    /// Bytes by name, as its function wants to be loaded with them.
    pub artifacts: BTreeMap<String, Asset>,
    /// What was measured.
    pub metrics: BTreeMap<String, f64>,
    /// What it was trained with.
    pub parameters: BTreeMap<String, String>,
    /// Training set that it was made of; absent: it is taken to fit the view as it is.
    pub training_set: Option<String>,
    /// Name and digest of the training function.
    pub trainer: Option<(String, Digest)>,
    /// What there is to say of it.
    pub note: ModelNote,
}

impl Platform {
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
        let rows = |id: String| async move {
            progress.stage("making the training set again");
            self.training_rows(&id, memory, progress)
                .await
                .map(Arc::new)
        };
        progress.stage("registering");
        self.register_with(new, rows).await
    }

    /// Registers the next version; `rows` gives the rows of its training set, if it is to be
    /// evaluated on them.
    pub(super) async fn register_with<F, R>(&self, new: NewVersion, rows: F) -> Result<ModelVersion>
    where
        F: FnOnce(String) -> R,
        R: Future<Output = Result<Arc<TrainingRows>>>,
    {
        let definitions = self.definitions();
        let model = get(&definitions.models, &new.model, "model")?;
        // JSON, as versions are kept, has no others.
        if let Some((metric, value)) = new.metrics.iter().find(|(_, v)| !v.is_finite()) {
            let message = format!("metric `{metric}` is {value}: only finite numbers are kept");
            return Err(Error::invalid(message));
        }
        let (view_version, recipe) = self.view_of(model, new.training_set.as_deref()).await?;

        let mut spec = self.kept_component(&model.function).await?;
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
        let registered = self.register_one(spec.clone()).await.map_err(|e| {
            let message = format!("model `{}` was not registered: {}", new.model, e.chain());
            Error::new(e.kind(), message)
        })?;
        // What cannot be loaded is not kept.
        for asset in new.artifacts.values() {
            self.keep_asset(asset).await?;
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
        let function = self.load_function(&spec.name, &predicts)?;
        blocking(move || check_predictions(&function)).await??;
        let mut version = ModelVersion {
            model: new.model,
            version: 0,
            created: self.components().wall.now(),
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
        if let Some(id) = self.to_evaluate_on(&version).await? {
            self.evaluate_new(&mut version, &rows(id).await?).await?;
        }
        let mut bound = Bound {
            recipe,
            model: version,
        };
        self.compile_for_known(bound.functions()).await?;
        self.put_version(&mut bound.model).await?;
        let version = bound.model;
        if new.note != ModelNote::default() {
            let name = VersionName {
                model: version.model.clone(),
                which: super::Which::Number(version.version),
            };
            self.note(&name, Some(&new.note.doc), &new.note.tags)
                .await?;
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

    /// The version of the view that a model was trained on, or that there is.
    async fn view_of(
        &self,
        model: &ModelDef,
        training_set: Option<&str>,
    ) -> Result<(String, Recipe)> {
        let Some(id) = training_set else {
            let recipe = Recipe::new(&self.definitions(), &model.view)?;
            return Ok((self.keep_recipe(&model.view, &recipe).await?, recipe));
        };
        let set: TrainingSet = self.training_set_record(id).await?;
        if set.view != model.view {
            return Err(Error::invalid(format!(
                "training set `{id}` was made from view `{}`, and the model reads view `{}`",
                set.view, model.view
            )));
        }
        let recipe = self.recipe(&set.view, &set.view_version).await?;
        Ok((set.view_version, recipe))
    }

    /// Gives the version the next number.
    async fn put_version(&self, version: &mut ModelVersion) -> Result<()> {
        loop {
            version.version = self.newest(&version.model).await? + 1;
            let name = version_object(&version.model, version.version);
            match self.put_object(&name, version, Expect::Absent).await {
                // Somebody registered one meanwhile: the one after it, then.
                Err(e) if e.kind() == Kind::Conflict => {}
                put => return put.map(drop),
            }
        }
    }
}

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

/// Checks that a model's function reads what its view has; names each difference.
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

/// The output of a function that is the prediction.
pub(crate) fn prediction<'a>(
    signature: &'a Signature,
    name: Option<&str>,
) -> Option<(usize, &'a Field)> {
    let is_number = |field: &Field| can_widen(&field.data_type, &DataType::Float64);
    let mut outputs = signature.outputs.fields().iter().enumerate();
    outputs.find(|(_, field)| match name {
        Some(name) => field.name == name,
        None => is_number(field),
    })
}
