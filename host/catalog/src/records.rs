//! Records of work that was done. Each is stored as an object by itself.

mod model;
mod release;
mod run;
mod split;
mod training_set;
pub use model::{Artifact, Lineage, ModelNote, ModelVersion, prediction};
pub use release::Release;
pub use run::{Reject, RunRecord, RunState, Upstream};
pub use split::{Split, SplitBy};
pub use training_set::{ColumnStatistics, MAX_DISTINCT, TrainingSet};
