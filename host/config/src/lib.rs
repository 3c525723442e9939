//! `wafer.toml`: what a project says about itself, and what that means.
//!
//! [`Project`] is the file, checked; [`resolve`] makes [`Definitions`](wafer_catalog::Definitions)
//! of it, given the signatures of its functions. Only this crate reads environment variables.
//!
//! What is deliberately absent: stores, and running anything.

mod error;
mod functions;
mod groups;
mod models;
mod pipelines;
mod project;
mod resolve;
mod sources;
mod store;
mod values;
mod views;

pub use error::ProjectError;
pub use functions::{AssetSource, FunctionConfig, FunctionSource, Stock, specs};
pub use groups::{AggregateConfig, ExpectationConfig, GroupConfig};
pub use models::{ModelConfig, TrainingConfig};
pub use pipelines::{PipelineConfig, ScheduleConfig};
pub use project::Project;
pub use resolve::{resolve, schedule_def};
pub use sources::{EntityConfig, SourceConfig, SourceType};
pub use store::{CloudStores, Overrides, StoreSettings};
pub use views::{LookupConfig, ViewConfig};
