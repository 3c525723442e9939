//! The project file `wafer.toml`, and what it means.
//!
//! [`Project::read`] parses the file and checks it by itself: keys, types, and names that refer to
//! something in the file. [`project_function`] combines the settings of a function with its
//! component, which the caller has made, and the caller registers the result. [`resolve`] then
//! combines the project with the functions' signatures into
//! [`Definitions`](wafer_catalog::Definitions), and checks that columns and types fit.
//! [`Overrides`] are settings from environment variables, which override those of the file;
//! [`variable`], [`variable_or_empty`] and [`path_variable`] read others.
//!
//! Deliberately absent: stores, toolchains, and running anything.

mod environment;
mod error;
mod file_options;
mod functions;
mod groups;
mod models;
mod pipelines;
mod project;
mod resolve;
mod server;
mod sources;
mod store;
mod values;
mod views;

pub use environment::{path_variable, variable, variable_or_empty};
pub use error::ProjectError;
pub use file_options::TimeConfig;
pub use functions::{AssetSource, FunctionConfig, FunctionSource, Stock, project_function};
pub use groups::{AggregateConfig, ExpectationConfig, GroupConfig};
pub use models::{ModelConfig, TrainingConfig};
pub use pipelines::{ColumnConfig, PipelineConfig, ScheduleConfig};
pub use project::Project;
pub use resolve::{SourceColumns, resolve, schedule_def, source_def, untyped_sources};
pub use server::ServerConfig;
pub use sources::{EntityConfig, SourceConfig, SourceType};
pub use store::{CloudStores, Overrides, StoreSettings};
pub use views::{LookupConfig, ViewConfig};
