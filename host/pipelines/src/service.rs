//! The state of the pipelines service. The other modules of the crate implement its methods.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, RwLock};

use wafer_catalog::Context;
use wafer_core::Timestamp;
use wafer_tables::Tables;

use crate::backfill::Backfills;
use crate::counters::Counters;
use crate::deletion::EntityDeleter;
use crate::events::arrivals::Arrivals;
use crate::events::route::Routes;
use crate::materialize::Materializer;
use crate::producer::Predictors;
use crate::run::Runs;
use crate::run::distributed::DistributedRuns;
use crate::staging::Staging;
use crate::trigger::Triggers;
use crate::upkeep::TableUpkeep;

/// The pipelines service: runs pipelines in batch, on events, by schedule and in backfills, and
/// maintains the tables that they write.
#[derive(Debug)]
pub struct Pipelines {
    pub(crate) context: Arc<Context>,
    pub(crate) tables: Arc<Tables>,
    runs: Arc<Runs>,
    distributed_runs: DistributedRuns,
    triggers: Triggers,
    backfills: Backfills,
    staging: Arc<Staging>,
    materializer: Materializer,
    deleter: EntityDeleter,
    upkeep: TableUpkeep,
    /// The latest event time of each source among the events that this process ingested.
    pub(crate) watermarks: Mutex<HashMap<String, Timestamp>>,
    /// The cached routes of each source: the functions and groups that its events go through.
    pub(crate) routes: RwLock<HashMap<String, Routes>>,
    /// The numbers of the rows that this process takes in.
    pub(crate) arrivals: Arc<Arrivals>,
    /// The counts of ingested events that [`Pipelines::metrics`] reports.
    pub(crate) counters: Counters,
}

impl Pipelines {
    /// Creates the service over a context and the project's tables. Pipelines of models open
    /// their models with `predictors`.
    pub fn new(
        context: Arc<Context>,
        tables: Arc<Tables>,
        predictors: Arc<dyn Predictors>,
    ) -> Self {
        let arrivals = Arc::<Arrivals>::default();
        let materializer = Materializer::new(Arc::clone(&context), Arc::clone(&tables));
        let deleter = EntityDeleter::new(
            Arc::clone(&context),
            Arc::clone(&tables),
            materializer.clone(),
        );
        let runs = Arc::new(Runs::new(
            Arc::clone(&context),
            Arc::clone(&tables),
            predictors,
            materializer.clone(),
            deleter.clone(),
        ));
        let staging = Arc::new(Staging::new(
            Arc::clone(&context),
            Arc::clone(&tables),
            runs.records.clone(),
        ));
        let backfills = Backfills::new(
            Arc::clone(&context),
            Arc::clone(&runs),
            Arc::clone(&staging),
            materializer.clone(),
        );
        let upkeep = TableUpkeep::new(
            Arc::clone(&context),
            Arc::clone(&tables),
            Arc::clone(&arrivals),
        );
        Self {
            distributed_runs: DistributedRuns::new(Arc::clone(&context), Arc::clone(&runs)),
            triggers: Triggers::new(Arc::clone(&context), Arc::clone(&runs)),
            runs,
            backfills,
            staging,
            materializer,
            deleter,
            upkeep,
            context,
            tables,
            watermarks: Mutex::default(),
            routes: RwLock::default(),
            arrivals,
            counters: Counters::default(),
        }
    }

    /// Returns the runs of pipelines over intervals.
    pub fn runs(&self) -> &Runs {
        &self.runs
    }

    /// Returns the runs that several processes work on.
    pub fn distributed_runs(&self) -> &DistributedRuns {
        &self.distributed_runs
    }

    /// Returns the triggers of pipelines, with their schedules.
    pub fn triggers(&self) -> &Triggers {
        &self.triggers
    }

    /// Returns the backfills of groups with history.
    pub fn backfills(&self) -> &Backfills {
        &self.backfills
    }

    /// Returns what decides when staged versions of groups become live.
    pub fn staging(&self) -> &Staging {
        &self.staging
    }

    /// Returns what rebuilds the online rows of groups.
    pub fn materializer(&self) -> &Materializer {
        &self.materializer
    }

    /// Returns what deletes entities.
    pub fn entity_deleter(&self) -> &EntityDeleter {
        &self.deleter
    }

    /// Returns the upkeep of tables: their sizes, compaction, late rows, and removal.
    pub fn upkeep(&self) -> &TableUpkeep {
        &self.upkeep
    }
}
