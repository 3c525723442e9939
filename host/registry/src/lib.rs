//! The registry: versions of models, where they came from, and releases.
//!
//! What is deliberately absent: training, and answering requests.

mod artifacts;
mod lineage;
mod models;
mod register;
mod releases;
mod service;

pub use lineage::Origin;
pub use models::ModelSummary;
pub use register::{Candidate, NewVersion};
pub use releases::{BoundRelease, left_behind};
pub use service::Registry;
