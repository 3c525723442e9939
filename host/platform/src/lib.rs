//! The facade of an open project: its services, and the operations that need several of them.
//!
//! [`Platform`] holds the services that share a [`Context`]: [`Pipelines`], [`Training`],
//! [`Registry`] and [`Serving`], over the project's [`Tables`]. The edges (HTTP, command line,
//! Lambda) call these services. This crate adds only what needs more than one of them:
//!
//! - `functions` registers the functions of a project, and `apply` makes definitions live.
//! - `batch_inference` runs a model in the place of a pipeline's function.
//! - `skew` compares logged requests with what a training set would have.
//! - `deploy` compiles functions for the machines of a deployment.
//! - `describe` lists sources, groups and views with what uses them, and `show` returns some of the
//!   rows of these, of tables and of files.
//! - `drop` removes tables that nothing uses any more.
//! - `background` does the recurring work of a process, and `metrics` reports what it did.
//!
//! This crate knows nothing of HTTP, and names no concrete backend.

mod apply;
mod background;
mod batch_inference;
mod deploy;
mod describe;
mod drop;
mod functions;
mod metrics;
mod show;
mod skew;

use std::sync::Arc;

use batch_inference::ModelPredictors;

pub use apply::GoLive;
pub use background::{Background, BackgroundTask, Moment, RunningBackground};
pub use describe::{GroupSummary, SourceSummary, ViewSummary};
pub use drop::{DroppedTable, TableUse};
pub use show::{
    HiddenColumn, HiddenReason, MAX_SEARCHED_ROWS, MAX_SHOWN_BYTES, MAX_SHOWN_ROWS, ShowRequest,
    ShowTarget, ShownRows, show_files,
};
pub use skew::{ReleaseSkew, SkewExample, SkewReport, SkewRequest, ValueSkew};
pub use wafer_catalog::{
    Artifact, ArtifactName, BackfillEstimate, BoundedFile, CHECK_ROWS, Change, ChangeKind,
    CheckReport, ColumnStatistics, ComponentDef, Components, Context, Definitions, DiskRoom,
    FileOptions, Format, FoundColumn, FunctionDef, FunctionRole, GroupDef, Lineage, Location,
    MadeBy, ModelDef, ModelNote, ModelVersion, PartialFile, Plan, Progress, ProjectFunction,
    ProjectFunctions, Recipe, Reject, Release, RunRecord, RunState, ScheduleDef, SourceDef,
    SourceKind, Split, SplitBy, TableDef, TemporaryFolder, Ticks, TimeDef, TrainingSet,
    VersionName, ViewDef, Which, check_function, is_name, keep_temporary_files_in,
    temporary_folder,
};
pub use wafer_core::IncomingEvent;
pub use wafer_files::{TextLines, decode_in_child, decode_worker, this_program};
pub use wafer_pipelines::{
    BackfillReport, BackfillRequest, CompactReport, CopyRoom, DecodeBatch, Delivery,
    DistributedRun, Division, DryRun, EventResult, FirstRows, HealReport, IngestReport, Inspected,
    LeftBehind, Materialized, PastEvent, PastEvents, Pipelines, ProtectedFiles, RedriveReport,
    RedriveRequest, RequestedRun, RunRequest, ScheduleState, ScheduleStatus, ShowBounds,
    SourceReader, TableStatus, check_listed, inspect, missing_files, typed_columns, unread_files,
};
pub use wafer_registry::{ModelSummary, NewVersion, Origin, Registry, ViewOfRelease};
pub use wafer_serving::{
    Endpoint, EndpointInfo, EndpointServing, FeatureRow, InferRequest, Inference, LOG_WITHIN,
    MAX_FOUND_BYTES, RequestMemory, Routing, Serving, Status, Vectors, WHOLE, parse_log_within,
    parse_percent,
};
pub use wafer_store::{Error, Kind, Result};
pub use wafer_tables::{Deletion, FlushReport, Tables};
pub use wafer_training::{
    DeleteIf, EvaluateRequest, ExportRequest, ExportTo, ModelRegistered, TrainReport, TrainRequest,
    Training, TrainingSetRequest, column_types,
};

/// An open project, with its services over one context.
#[derive(Debug)]
pub struct Platform {
    context: Arc<Context>,
    tables: Arc<Tables>,
    pipelines: Arc<Pipelines>,
    training: Arc<Training>,
    registry: Arc<Registry>,
    serving: Arc<Serving>,
}

impl Platform {
    /// Opens a project: reads its applied definitions and creates its services.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn open(project: &str, components: Components) -> Result<Self> {
        Ok(Self::of(Context::open(project, components).await?))
    }

    /// Opens a project to apply definitions to it, which is possible also if those that are applied
    /// are damaged.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn open_to_apply(project: &str, components: Components) -> Result<Self> {
        Ok(Self::of(Context::open_to_apply(project, components).await?))
    }

    /// Creates the services over a context.
    fn of(context: Context) -> Self {
        let context = Arc::new(context);
        let tables = Arc::new(Tables::new(Arc::clone(&context)));
        let registry = Arc::new(Registry::new(Arc::clone(&context)));
        let training = Arc::new(Training::new(
            Arc::clone(&context),
            Arc::clone(&tables),
            Arc::clone(&registry),
        ));
        let serving = Arc::new(Serving::new(
            Arc::clone(&context),
            Arc::clone(&tables),
            Arc::clone(&registry),
        ));
        let predictors = ModelPredictors {
            context: Arc::clone(&context),
            tables: Arc::clone(&tables),
            registry: Arc::clone(&registry),
            training: Arc::clone(&training),
        };
        let pipelines = Arc::new(Pipelines::new(
            Arc::clone(&context),
            Arc::clone(&tables),
            Arc::new(predictors),
        ));
        Self {
            context,
            tables,
            pipelines,
            training,
            registry,
            serving,
        }
    }

    /// Returns what the services share: stores, runtime, clocks and applied definitions.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Returns the service for the project's offline tables and for the outbox.
    pub fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }

    /// Returns the services for feature pipelines: runs, events, schedules, backfills and upkeep.
    pub fn pipelines(&self) -> &Arc<Pipelines> {
        &self.pipelines
    }

    /// Returns the service for training sets, training and evaluation.
    pub fn training(&self) -> &Arc<Training> {
        &self.training
    }

    /// Returns the service for versions of models and releases.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Returns the service for feature vectors, endpoints and inference.
    pub fn serving(&self) -> &Arc<Serving> {
        &self.serving
    }
}
