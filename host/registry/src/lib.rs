//! The registry: versions of models, their lineage, and releases.
//!
//! - The module `register` describes how artifacts become the next version of a model.
//! - The module `fit` checks whether the function of a model fits a version of its view.
//! - The module `models` reads versions, and keeps their aliases and notes.
//! - The module `lineage` finds the versions that came from a group, a source, a function or a
//!   view.
//! - The module `releases` binds a version of a model to a version of its view.
//! - The module `artifacts` gives functions the artifacts of models as assets.
//!
//! This crate neither trains models nor answers requests.

mod artifacts;
mod fit;
mod lineage;
mod models;
mod register;
mod releases;
mod service;

pub use lineage::Origin;
pub use models::ModelSummary;
pub use register::{Candidate, NewVersion};
pub use releases::{BoundRelease, ViewOfRelease, left_behind};
pub use service::Registry;
