//! `[views]`.

use std::collections::BTreeMap;

use serde::Deserialize;

/// `[views.NAME]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewConfig {
    /// Fields that a request brings along, and their types.
    #[serde(default)]
    pub request: toml::Table,
    /// Groups that are looked up.
    #[serde(default)]
    pub lookups: Vec<LookupConfig>,
    /// On-demand functions over request fields, keys and looked-up features, in
    /// order.
    #[serde(default)]
    pub functions: Vec<String>,
    /// Description.
    #[serde(default)]
    pub doc: String,
}

/// `[[views.NAME.lookups]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LookupConfig {
    /// The group.
    pub group: String,
    /// Prefix of its features in the view; default: the group's name.
    #[serde(rename = "as")]
    pub alias: Option<String>,
    /// For each join key of the entity the field of the view that holds it;
    /// default: the field of the same name.
    #[serde(default)]
    pub keys: BTreeMap<String, String>,
    /// Features to take; default: all.
    pub features: Option<Vec<String>>,
}
