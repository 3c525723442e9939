//! Releases: immutable manifests of a view version, a model version and all functions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wafer_core::{Digest, Timestamp};

/// A release: never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Its name.
    pub name: String,
    /// When it was made, machine time.
    pub created: Timestamp,
    /// The view.
    pub view: String,
    /// Which version of it.
    pub view_version: String,
    /// The model.
    pub model: String,
    /// Which version of it.
    pub version: u64,
    /// Digests of all functions: those of the view, and the one that predicts.
    pub functions: BTreeMap<String, Digest>,
    /// What there is to say of it.
    pub doc: String,
}
