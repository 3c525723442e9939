//! Projects, pipelines, events and feature views: the services that the edges
//! (HTTP, command line, later Lambda) call.
//!
//! [`Project`] is what `wafer.toml` says; [`Definitions`] is what it means once
//! the functions have described themselves; [`Platform`] runs what was applied.
//! One path leads from source rows to a feature group, in [`Platform::run`] as
//! in [`Platform::ingest`]; it differs in where rows come from and how they are
//! committed.

mod backfill;
mod chain;
mod check;
mod definition;
mod deletion;
mod deploy;
mod endpoints;
mod error;
mod events;
mod features;
mod flush;
mod functions;
mod group_rows;
mod history;
mod infer;
mod input;
mod log;
mod maker;
mod materialize;
mod metrics;
mod models;
mod objects;
mod plan;
mod platform;
mod project;
mod quarantine;
mod recipe;
mod record;
mod releases;
mod resolve;
mod run;
mod schedule;
mod skew;
mod source;
mod training;
mod upkeep;
mod wall;

pub use backfill::{BackfillReport, BackfillRequest};
pub use chain::Upstream;
pub use check::{CheckReport, check_function};
pub use definition::{
    AggregateDef, ComponentDef, Definitions, FunctionDef, GroupDef, Location, LookupDef, MadeBy,
    ModelDef, OnDemandDef, Overlap, PipelineDef, SYSTEM_COLUMNS, ScheduleDef, SourceDef,
    SourceKind, TableDef, TrainingDef, ViewDef,
};
pub use deletion::Deletion;
pub use deploy::{Infrastructure, ScheduleExpressions};
pub use endpoints::{Endpoint, EndpointInfo, EndpointServing, Routing, WHOLE, parse_percent};
pub use error::{Error, Kind, Result};
pub use events::{Arrival, EventResult, IncomingEvent, IngestReport};
pub use features::{FeatureRow, Status, Vectors};
pub use flush::FlushReport;
pub use functions::{ProjectFunction, ProjectFunctions, specs};
pub use history::PastEvent;
pub use infer::{InferRequest, Inference};
pub use materialize::Materialized;
pub use metrics::Counters;
pub use models::{
    Artifact, ArtifactName, Lineage, ModelNote, ModelSummary, ModelVersion, NewVersion, Origin,
    TrainReport, TrainRequest, VersionName, Which,
};
pub use plan::{Change, ChangeKind, Plan};
pub use platform::{Components, Platform};
pub use project::{
    AssetSource, CloudStores, FunctionRole, FunctionSource, Overrides, Project, ProjectError,
    Stock, StoreSettings,
};
pub use recipe::Recipe;
pub use record::{Reject, RunRecord, RunState};
pub use releases::Release;
pub use resolve::resolve;
pub use run::{DistributedRun, Division, Progress, RunRequest};
pub use schedule::{ScheduleState, ScheduleStatus, Ticks};
pub use skew::{ReleaseSkew, SkewExample, SkewReport, SkewRequest, ValueSkew};
pub use source::{Format, SourceReader};
pub use training::{
    ColumnStatistics, LabelFormat, Split, SplitBy, TrainingSet, TrainingSetRequest,
};
pub use upkeep::{CompactReport, HealReport, TableStatus};
