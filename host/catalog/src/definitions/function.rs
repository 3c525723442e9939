//! Functions: registered components, and components that models are made with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wafer_core::Digest;
use wafer_runtime::{FunctionSpec, Limits, Registered};

/// A function that was registered, with its limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FunctionDef {
    /// Identity, signature and snapshot.
    pub registered: Registered,
    /// How much it may use.
    pub limits: Limits,
    /// Digests of its assets.
    pub assets: BTreeMap<String, Digest>,
    /// Its parameters.
    pub parameters: BTreeMap<String, String>,
}

/// A component that is kept to be loaded with what a training makes, or to train.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComponentDef {
    /// Name of the function.
    pub name: String,
    /// Digest of the component's bytes, an artifact.
    pub component: Digest,
    /// Digests of its own assets, artifacts.
    pub assets: BTreeMap<String, Digest>,
    /// Its parameters.
    pub parameters: BTreeMap<String, String>,
    /// How much it may use.
    pub limits: Limits,
    /// How it is compiled.
    pub strict_nan: bool,
}

/// What a function is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunctionRole {
    /// Maps rows, in pipelines and views.
    Features,
    /// Predicts: it is loaded with the artifacts of a model's version.
    Inference,
    /// Trains.
    Trainer,
}

/// A registered function, with its limits.
pub fn definition(spec: &FunctionSpec, registered: Registered) -> FunctionDef {
    FunctionDef {
        registered,
        limits: spec.limits.clone(),
        assets: digests(spec),
        parameters: spec.parameters.clone(),
    }
}

pub(crate) fn digests(spec: &FunctionSpec) -> BTreeMap<String, Digest> {
    let assets = spec.assets.iter();
    assets
        .map(|(name, asset)| (name.clone(), asset.digest()))
        .collect()
}
