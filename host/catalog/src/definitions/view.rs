//! Feature views: what a model reads.

use serde::{Deserialize, Serialize};
use wafer_core::Field;

/// What a model reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewDef {
    /// Fields that a request row has: join keys, then request fields.
    pub inputs: Vec<Field>,
    /// Groups that are looked up.
    pub lookups: Vec<LookupDef>,
    /// Functions that are called, in order.
    pub functions: Vec<OnDemandDef>,
    /// Description.
    pub doc: String,
}

/// A group that a view looks up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LookupDef {
    /// The group.
    pub group: String,
    /// Prefix of its features.
    pub alias: String,
    /// For each join key, the input of the view that holds it.
    pub keys: Vec<String>,
    /// Positions of the taken features in the group.
    pub features: Vec<usize>,
}

/// A function that a view calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OnDemandDef {
    /// The function. Its inputs are inputs of the view, looked-up features or
    /// outputs of earlier functions, by name.
    pub function: String,
}

/// Name of a looked-up feature in its view.
pub fn feature_name(alias: &str, feature: &str) -> String {
    format!("{alias}_{feature}")
}
