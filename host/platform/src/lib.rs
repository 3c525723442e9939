//! Projects, pipelines, events and feature views: the services that the edges
//! (HTTP, command line, later Lambda) call.
//!
//! [`Project`] is what `wafer.toml` says; [`Definitions`] is what it means once
//! the functions have described themselves; [`Platform`] runs what was applied.
//! One path leads from source rows to a feature group, in [`Platform::run`] as
//! in [`Platform::ingest`]; it differs in where rows come from and how they are
//! committed.

mod check;
mod definition;
mod error;
mod events;
mod features;
mod flush;
mod functions;
mod group_rows;
mod history;
mod plan;
mod platform;
mod project;
mod resolve;
mod run;
mod source;

pub use check::{CheckReport, check_function};
pub use definition::{
    Definitions, FunctionDef, GroupDef, LookupDef, OnDemandDef, PipelineDef, SourceDef, SourceKind,
    ViewDef,
};
pub use error::{Error, Kind, Result};
pub use events::{EventResult, IncomingEvent, IngestReport};
pub use features::{FeatureRow, Status, Vectors};
pub use flush::FlushReport;
pub use functions::specs;
pub use history::PastEvent;
pub use plan::{Change, ChangeKind, Plan};
pub use platform::{Components, Platform};
pub use project::{FunctionSource, Project, ProjectError, StoreSettings};
pub use resolve::resolve;
pub use run::{Progress, Reject, RunRecord, RunRequest, RunState};
pub use source::{Format, SourceReader};
