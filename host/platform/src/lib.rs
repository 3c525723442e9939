//! A project, opened: its services, and what joins several of them.
//!
//! [`Platform`] holds the services that share a [`Context`]: [`Pipelines`], [`Training`],
//! [`Registry`] and [`Serving`], over the project's [`Tables`]. Here is only what needs more than
//! one of them: applying a project, registering its functions, batch inference, skew, and
//! compiling for a deployment. The edges (HTTP, command line, Lambda) call these.
//!
//! What is deliberately absent: HTTP, and the names of backends.

mod apply;
mod background;
mod batch_inference;
mod deploy;
mod functions;
mod metrics;
mod skew;

use std::sync::Arc;

use batch_inference::ModelPredictors;

pub use background::{Background, BackgroundTask, Moment, RunningBackground};
pub use skew::{ReleaseSkew, SkewExample, SkewReport, SkewRequest, ValueSkew};
pub use wafer_catalog::{
    Artifact, ArtifactName, CHECK_ROWS, Change, ChangeKind, CheckReport, ColumnStatistics,
    ComponentDef, Components, Context, Definitions, Format, FunctionDef, FunctionRole, GroupDef,
    Lineage, Location, ModelDef, ModelNote, ModelVersion, Plan, Progress, ProjectFunction,
    ProjectFunctions, Recipe, Reject, Release, RunRecord, RunState, ScheduleDef, SourceDef,
    SourceKind, Split, SplitBy, TableDef, Ticks, TrainingSet, VersionName, ViewDef, Which,
    check_function,
};
pub use wafer_pipelines::{
    Arrival, BackfillReport, BackfillRequest, CompactReport, DistributedRun, Division, EventResult,
    HealReport, IncomingEvent, IngestReport, Materialized, PastEvent, Pipelines, RunRequest,
    ScheduleState, ScheduleStatus, SourceReader, TableStatus,
};
pub use wafer_registry::{ModelSummary, NewVersion, Origin, Registry};
pub use wafer_serving::{
    Endpoint, EndpointInfo, EndpointServing, FeatureRow, InferRequest, Inference, Routing, Serving,
    Status, Vectors, WHOLE, parse_percent,
};
pub use wafer_store::{Error, Kind, Result};
pub use wafer_tables::{Deletion, FlushReport, Tables};
pub use wafer_training::{TrainReport, TrainRequest, Training, TrainingSetRequest};

/// A project, opened: its services over one context.
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
    /// Opens a project: reads what was applied to it, and starts its services.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn open(project: &str, components: Components) -> Result<Self> {
        let context = Arc::new(Context::open(project, components).await?);
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
        Ok(Self {
            context,
            tables,
            pipelines,
            training,
            registry,
            serving,
        })
    }

    /// What the services share: stores, sandbox, clocks and applied definitions.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// The tables of the project, and the outbox of rows on their way to them.
    pub fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }

    /// Feature pipelines: runs, events, schedules, backfills and upkeep.
    pub fn pipelines(&self) -> &Arc<Pipelines> {
        &self.pipelines
    }

    /// Training sets, training and evaluation.
    pub fn training(&self) -> &Arc<Training> {
        &self.training
    }

    /// Versions of models and releases.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Feature vectors, endpoints and inference.
    pub fn serving(&self) -> &Arc<Serving> {
        &self.serving
    }
}
