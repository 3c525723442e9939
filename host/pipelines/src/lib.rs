//! Feature pipelines: from sources to the rows of feature groups.
//!
//! One path leads from source rows to a group, in batch runs ([`Pipelines::run`]) as for events
//! ([`Pipelines::ingest`]); they differ in where rows come from and how they are committed.
//!
//! What is deliberately absent: training sets, models and requests. What predicts in a pipeline
//! is handed in as a [`Producer`].

mod backfill;
mod chain;
mod compact;
mod counters;
mod deletion;
mod events;
mod group_rows;
mod heal;
mod history;
mod input;
mod materialize;
mod producer;
mod quarantine;
mod run;
mod schedule;
mod service;
mod source;
mod staging;

pub use backfill::{BackfillReport, BackfillRequest};
pub use compact::{CompactReport, TableStatus};
pub use events::event::{Arrival, EventResult, IncomingEvent, IngestReport};
pub use heal::HealReport;
pub use history::PastEvent;
pub use materialize::Materialized;
pub use producer::{LookedUp, Predictors, Producer};
pub use run::RunRequest;
pub use run::distributed::{DistributedRun, Division};
pub use schedule::{ScheduleState, ScheduleStatus};
pub use service::Pipelines;
pub use source::SourceReader;
pub use staging::written_tables;
