//! Functions: registered ones, and the components that models predict and train with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wafer_core::Digest;
use wafer_runtime::{FunctionSpec, Limits, Registered};

/// A registered function and its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FunctionDef {
    /// The identity, the signature and the snapshot of the function.
    pub registered: Registered,
    /// The limits on time, memory and output.
    pub limits: Limits,
    /// The digests of the function's assets, by name.
    pub assets: BTreeMap<String, Digest>,
    /// The function's parameters, by name.
    pub parameters: BTreeMap<String, String>,
}

/// A component that a model is trained or predicts with. It is kept as an artifact, because a
/// function that predicts is registered only once a version's artifacts exist.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComponentDef {
    /// The name of the function.
    pub name: String,
    /// The digest of the component's bytes, which are an artifact.
    pub component: Digest,
    /// The digests of the component's own assets, by name. They are artifacts too.
    pub assets: BTreeMap<String, Digest>,
    /// The function's parameters, by name.
    pub parameters: BTreeMap<String, String>,
    /// The limits on time, memory and output.
    pub limits: Limits,
    /// Whether every NaN inside the function has the same bits.
    pub strict_nan: bool,
}

/// What a function is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunctionRole {
    /// It maps rows, in pipelines and views.
    Features,
    /// It predicts, and is loaded with the artifacts of a version of a model.
    Inference,
    /// It trains a model.
    Trainer,
}

/// Creates the definition of a registered function from what it was registered with.
pub fn definition(spec: &FunctionSpec, registered: Registered) -> FunctionDef {
    FunctionDef {
        registered,
        limits: spec.limits.clone(),
        assets: digests(spec),
        parameters: spec.parameters.clone(),
    }
}

/// Returns the digests of a function's assets, by name.
pub(crate) fn digests(spec: &FunctionSpec) -> BTreeMap<String, Digest> {
    let assets = spec.assets.iter();
    assets
        .map(|(name, asset)| (name.clone(), asset.digest()))
        .collect()
}
