//! `[views]`: what models read.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The table `[views.NAME]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewConfig {
    /// The fields that a request brings along, and their types.
    #[serde(default)]
    pub request: toml::Table,
    /// The lookups of features in groups.
    #[serde(default)]
    pub lookups: Vec<LookupConfig>,
    /// The on-demand functions over request fields, join keys and looked-up features, in the order
    /// in which they are called.
    #[serde(default)]
    pub functions: Vec<String>,
    /// The description of the view.
    #[serde(default)]
    pub doc: String,
}

/// A table of `[[views.NAME.lookups]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LookupConfig {
    /// The name of the group.
    pub group: String,
    /// The prefix of the features' names in the view. The default is the name of the group.
    #[serde(rename = "as")]
    pub alias: Option<String>,
    /// For each join key of the entity, the field of the view that holds it. The default is the
    /// field of the same name.
    #[serde(default)]
    pub keys: BTreeMap<String, String>,
    /// The names of the features to use. The default is all.
    pub features: Option<Vec<String>>,
}
