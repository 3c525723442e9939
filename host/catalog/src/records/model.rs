//! Versions of models, and what is known of them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use wafer_core::{DataType, Digest, Field, Signature, Task, Timestamp, can_widen};

use crate::definitions::{Definitions, FunctionDef, MadeBy, SourceKind, VersionName};
use crate::recipe::Recipe;

/// Bytes that a version holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Of its content, by which it is kept.
    pub digest: Digest,
    /// Its length.
    pub bytes: u64,
}

/// A version of a model: never changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelVersion {
    /// The model.
    pub model: String,
    /// From 1.
    pub version: u64,
    /// When it was registered, machine time.
    pub created: Timestamp,
    /// What it is made of, by name.
    pub artifacts: BTreeMap<String, Artifact>,
    /// What was measured, by name.
    pub metrics: BTreeMap<String, f64>,
    /// What it was trained with, by name.
    pub parameters: BTreeMap<String, String>,
    /// View that it reads.
    pub view: String,
    /// Which version of it.
    pub view_version: String,
    /// Training set that it was made of, if that is known.
    pub training_set: Option<String>,
    /// Name and digest of the training function; absent: it was trained elsewhere.
    pub trainer: Option<(String, Digest)>,
    /// Name of the function that predicts.
    pub function_name: String,
    /// That function, loaded with the artifacts.
    pub function: FunctionDef,
    /// Column of training sets that it predicts.
    pub label: Option<String>,
    /// What it predicts.
    pub task: Option<Task>,
    /// Output of the function that is the prediction.
    pub prediction: Option<String>,
    /// What it came from.
    pub lineage: Lineage,
}

impl ModelVersion {
    /// `NAME@N`
    pub fn name(&self) -> String {
        format!("{}@{}", self.model, self.version)
    }

    /// What it predicts, row by row.
    pub fn outputs(&self) -> &[Field] {
        self.function.registered.signature.outputs.fields()
    }
}

/// What people say of a version; may change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelNote {
    /// Description.
    pub doc: String,
    /// Whatever else there is to say.
    pub tags: BTreeMap<String, String>,
}

/// What a version of a model came from, as it was when it was registered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// Groups that its view looks up, and those that these are made of, with the tables of
    /// their versions.
    pub groups: BTreeMap<String, String>,
    /// Sources of these groups.
    pub sources: BTreeSet<String>,
    /// Digests of the functions that made its features.
    pub functions: BTreeMap<String, Digest>,
    /// Models that made its features, as the pipelines name them.
    #[serde(default)]
    pub models: BTreeSet<VersionName>,
}

impl Lineage {
    /// Of a view's version, whose groups are written as the definitions say.
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
        let mut open: Vec<String> = recipe.groups.keys().cloned().collect();
        while let Some(group) = open.pop() {
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
            let above = definitions.sources.get(&pipeline.source).map(|s| &s.kind);
            if let Some(SourceKind::Table { group }) = above
                && let Some(def) = definitions.groups.get(group)
                && lineage.groups.insert(group.clone(), def.table()).is_none()
            {
                open.push(group.clone());
            }
        }
        lineage
    }
}

/// The output of a function that is the prediction.
pub fn prediction<'a>(signature: &'a Signature, name: Option<&str>) -> Option<(usize, &'a Field)> {
    let is_number = |field: &Field| can_widen(&field.data_type, &DataType::Float64);
    let mut outputs = signature.outputs.fields().iter().enumerate();
    outputs.find(|(_, field)| match name {
        Some(name) => field.name == name,
        None => is_number(field),
    })
}
