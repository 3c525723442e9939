//! Releases: immutable manifests of a view version, a model version and all functions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wafer_core::{Digest, Timestamp};

/// A release. It never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The name of the release.
    pub name: String,
    /// When the release was created, by the machine's clock.
    pub created: Timestamp,
    /// The name of the view.
    pub view: String,
    /// The version of the view.
    pub view_version: String,
    /// The name of the model.
    pub model: String,
    /// The number of the model's version.
    pub version: u64,
    /// The digests of all functions, by name: the view's functions and the one that predicts.
    pub functions: BTreeMap<String, Digest>,
    /// The description of the release.
    pub doc: String,
}
