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
mod error;
mod events;
mod features;
mod flush;
mod functions;
mod group_rows;
mod history;
mod input;
mod materialize;
mod metrics;
mod plan;
mod platform;
mod project;
mod quarantine;
mod record;
mod resolve;
mod run;
mod schedule;
mod source;
mod training;
mod upkeep;
mod wall;

pub use backfill::{BackfillReport, BackfillRequest};
pub use chain::Upstream;
pub use check::{CheckReport, check_function};
pub use definition::{
    AggregateDef, Definitions, FunctionDef, GroupDef, Location, LookupDef, OnDemandDef, Overlap,
    PipelineDef, SYSTEM_COLUMNS, ScheduleDef, SourceDef, SourceKind, TableDef, ViewDef,
};
pub use deletion::Deletion;
pub use deploy::{Infrastructure, ScheduleExpressions};
pub use error::{Error, Kind, Result};
pub use events::{Arrival, EventResult, IncomingEvent, IngestReport};
pub use features::{FeatureRow, Status, Vectors};
pub use flush::FlushReport;
pub use functions::specs;
pub use history::PastEvent;
pub use materialize::Materialized;
pub use metrics::Counters;
pub use plan::{Change, ChangeKind, Plan};
pub use platform::{Components, Platform};
pub use project::{CloudStores, FunctionSource, Overrides, Project, ProjectError, StoreSettings};
pub use record::{Reject, RunRecord, RunState};
pub use resolve::resolve;
pub use run::{DistributedRun, Division, Progress, RunRequest};
pub use schedule::{ScheduleState, ScheduleStatus, Ticks};
pub use source::{Format, SourceReader};
pub use training::{
    ColumnStatistics, LabelFormat, Split, SplitBy, TrainingSet, TrainingSetRequest,
};
pub use upkeep::{CompactReport, HealReport, TableStatus};
