//! Feature views: what a model reads.

use serde::{Deserialize, Serialize};
use wafer_core::Field;

/// A feature view: what a model reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewDef {
    /// The fields of a request row: the join keys, then the request fields.
    pub inputs: Vec<Field>,
    /// The lookups of features in groups.
    pub lookups: Vec<LookupDef>,
    /// The on-demand functions, in the order in which they are called.
    pub functions: Vec<OnDemandDef>,
    /// The description of the view.
    pub doc: String,
}

/// The lookup of a group's features in a view.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LookupDef {
    /// The name of the group.
    pub group: String,
    /// The prefix of the features' names in the view.
    pub alias: String,
    /// For each join key of the group, the input of the view that holds it.
    pub keys: Vec<String>,
    /// The positions, among the group's features, of the features that the view uses.
    pub features: Vec<usize>,
}

/// An on-demand function of a view.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OnDemandDef {
    /// The name of the function. Its inputs are inputs of the view, looked-up features, or outputs
    /// of earlier functions, matched by name.
    pub function: String,
}

/// Returns the name of a looked-up feature in its view.
pub fn feature_name(alias: &str, feature: &str) -> String {
    format!("{alias}_{feature}")
}
