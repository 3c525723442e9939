//! Versions of models, and what is known about them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use wafer_core::{DataType, Digest, Field, Signature, Task, Timestamp, can_widen};

use crate::definitions::{Definitions, FunctionDef, MadeBy, VersionName};
use crate::recipe::Recipe;

/// An artifact of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// The digest of the content, under which the artifact is stored.
    pub digest: Digest,
    /// The length of the artifact in bytes.
    pub bytes: u64,
}

/// A version of a model. It never changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelVersion {
    /// The name of the model.
    pub model: String,
    /// The number of the version, from 1.
    pub version: u64,
    /// When the version was registered, by the machine's clock.
    pub created: Timestamp,
    /// The artifacts of the version, by name.
    pub artifacts: BTreeMap<String, Artifact>,
    /// The metrics of the version, by name.
    pub metrics: BTreeMap<String, f64>,
    /// The parameters that the version was trained with, by name.
    pub parameters: BTreeMap<String, String>,
    /// The name of the view that the model reads.
    pub view: String,
    /// The version of the view.
    pub view_version: String,
    /// The id of the training set that the version was trained with, if it is known.
    pub training_set: Option<String>,
    /// The name and the digest of the trainer. `None` means that the version was trained
    /// elsewhere.
    pub trainer: Option<(String, Digest)>,
    /// The name of the function that predicts.
    pub function_name: String,
    /// The function that predicts, registered with the version's artifacts.
    pub function: FunctionDef,
    /// The column of training sets that the model predicts.
    pub label: Option<String>,
    /// The kind of prediction.
    pub task: Option<Task>,
    /// The output of the function that is the prediction. `None` means the first numeric output.
    pub prediction: Option<String>,
    /// What the version came from.
    pub lineage: Lineage,
}

impl ModelVersion {
    /// Returns the full name of the version, `NAME@N`.
    pub fn name(&self) -> String {
        format!("{}@{}", self.model, self.version)
    }

    /// Returns the outputs that the version predicts for each row.
    pub fn outputs(&self) -> &[Field] {
        self.function.registered.signature.outputs.fields()
    }
}

/// What people write about a version. It may change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelNote {
    /// The description of the version.
    pub doc: String,
    /// Free-form tags.
    pub tags: BTreeMap<String, String>,
}

/// What a version of a model came from, at the time when it was registered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// The groups that the view looks up and the groups that these are made from, each with the
    /// table of its version.
    pub groups: BTreeMap<String, String>,
    /// The names of the sources of these groups.
    pub sources: BTreeSet<String>,
    /// The digests of the functions that made the features, by name.
    pub functions: BTreeMap<String, Digest>,
    /// The models whose predictions are features, as their pipelines name them.
    #[serde(default)]
    pub models: BTreeSet<VersionName>,
}

impl Lineage {
    /// Collects the lineage of a version of a view, following the pipelines of the given
    /// definitions from its groups back to the sources.
    pub fn of(recipe: &Recipe, definitions: &Definitions) -> Self {
        let mut lineage = Self::default();
        for (name, function) in &recipe.functions {
            lineage
                .functions
                .insert(name.clone(), function.registered.digest);
        }
        for (name, group) in &recipe.groups {
            lineage.groups.insert(name.clone(), group.table());
        }
        let mut pending: Vec<String> = recipe.groups.keys().cloned().collect();
        while let Some(group) = pending.pop() {
            let mut pipelines = definitions.pipelines.values();
            let Some(pipeline) = pipelines.find(|p| p.group == group) else {
                continue;
            };
            if let Some(name) = pipeline.made_by.function()
                && let Some(function) = definitions.functions.get(name)
            {
                let digest = function.registered.digest;
                lineage.functions.insert(name.clone(), digest);
            }
            if let MadeBy::Model(name) = &pipeline.made_by {
                lineage.models.insert(name.clone());
            }
            lineage.sources.insert(pipeline.source.clone());
            let source = definitions.sources.get(&pipeline.source);
            if let Some(group) = source.and_then(|source| source.kind.upstream())
                && let Some(def) = definitions.groups.get(group)
            {
                let known = lineage.groups.insert(group.to_owned(), def.table());
                if known.is_none() {
                    pending.push(group.to_owned());
                }
            }
        }
        lineage
    }
}

/// Returns the position and the field of the output that is the prediction: the output of that
/// name, or the first numeric output if no name is given.
pub fn prediction<'a>(signature: &'a Signature, name: Option<&str>) -> Option<(usize, &'a Field)> {
    let is_number = |field: &Field| can_widen(&field.data_type, &DataType::Float64);
    let mut outputs = signature.outputs.fields().iter().enumerate();
    outputs.find(|(_, field)| match name {
        Some(name) => field.name == name,
        None => is_number(field),
    })
}
