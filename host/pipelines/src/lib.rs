//! Feature pipelines: they turn the rows of sources into the rows of feature groups.
//!
//! A single code path leads from the rows of a source to the rows of a group. Batch runs
//! ([`Runs::run`]) and events ([`Events::ingest`]) share it; they differ only in where
//! the rows come from and how they are committed. A run opens its input, transforms it in
//! chunks, writes Parquet files, commits them to the offline table in one Delta commit and then
//! updates the online store. Events are transformed in one call per function, committed to the
//! online store and answered; the outbox carries their rows to the offline tables later.
//!
//! Triggers such as schedules ([`Triggers::run_due`]) and backfills ([`Backfills::backfill`])
//! decide which intervals are run. Healing, compaction, materialization and deletion maintain what
//! pipelines wrote.
//!
//! This crate deliberately knows nothing of training sets, models or feature requests. A
//! pipeline that predicts with a model receives the model as a [`Producer`].
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests make temporary folders of their own"
    )
)]

mod backfill;
mod chain;
mod compact;
mod copy_room;
mod counters;
mod deletion;
mod delta_log;
mod events;
mod filled;
#[doc(hidden)]
pub mod fuzzing;
mod group_rows;
mod heal;
mod history;
mod input;
mod materialize;
mod producer;
mod quarantine;
mod redrive;
mod retire;
mod run;
mod service;
mod source;
mod staging;
mod transform;
mod trigger;
mod upkeep;

pub use backfill::{BackfillReport, BackfillRequest, Backfills};
pub use compact::{CompactReport, TableStatus};
pub use copy_room::CopyRoom;
pub use deletion::EntityDeleter;
pub use events::Events;
pub use events::event::{Delivery, EventResult, IngestReport};
pub use heal::HealReport;
pub use history::{PastEvent, PastEvents};
pub use materialize::{Materialized, Materializer};
pub use producer::Freshness;
pub use producer::{LookedUp, Predictors, Producer};
pub use redrive::{DecodeBatch, LeftBehind, RedriveReport, RedriveRequest, Redrives};
pub use run::distributed::{DistributedRun, DistributedRuns, Division};
pub use run::dry::DryRun;
pub use run::{RequestedRun, RunRequest, Runs};
pub use service::Pipelines;
pub use source::inspect::{Inspected, inspect, typed_columns};
pub use source::show::{FileRows, ReadRows, ShowBounds};
pub use source::{
    FirstRows, ProtectedFiles, SourceReader, Sources, check_listed, missing_files, unread_files,
};
pub use staging::{Created, Staging, WrittenTable, written_tables};
pub use trigger::Triggers;
pub use trigger::state::{ScheduleState, ScheduleStatus};
pub use upkeep::TableUpkeep;
