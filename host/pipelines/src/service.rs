//! The facade of the crate: the services for pipelines, and which of them uses which.
//!
//! Each service has a file of its own and holds those that it calls, so that its fields say what it
//! depends on. None reaches another one through [`Pipelines`], which only makes and returns them.

use std::sync::Arc;

use wafer_catalog::Context;
use wafer_tables::Tables;

use crate::backfill::Backfills;
use crate::deletion::EntityDeleter;
use crate::events::Events;
use crate::events::arrivals::Arrivals;
use crate::materialize::Materializer;
use crate::producer::Predictors;
use crate::redrive::Redrives;
use crate::run::Runs;
use crate::run::distributed::DistributedRuns;
use crate::source::Sources;
use crate::staging::Staging;
use crate::trigger::Triggers;
use crate::upkeep::TableUpkeep;

/// The services for feature pipelines: they run pipelines in batch, on events, by schedule and in
/// backfills, and maintain the tables that these wrote.
#[derive(Debug)]
pub struct Pipelines {
    runs: Arc<Runs>,
    distributed_runs: DistributedRuns,
    triggers: Triggers,
    backfills: Backfills,
    staging: Arc<Staging>,
    events: Arc<Events>,
    redrives: Redrives,
    sources: Sources,
    materializer: Materializer,
    deleter: EntityDeleter,
    upkeep: TableUpkeep,
}

impl Pipelines {
    /// Creates the services over a context and the project's tables. Pipelines of models open
    /// their models with `predictors`.
    pub fn new(
        context: Arc<Context>,
        tables: Arc<Tables>,
        predictors: Arc<dyn Predictors>,
    ) -> Self {
        let context = || Arc::clone(&context);
        let tables = || Arc::clone(&tables);
        let materializer = Materializer::new(context(), tables());
        let deleter = EntityDeleter::new(context(), tables(), materializer.clone());
        let runs = Runs::new(
            context(),
            tables(),
            predictors,
            materializer.clone(),
            deleter.clone(),
        );
        let runs = Arc::new(runs);
        let staging = Arc::new(Staging::new(context(), tables(), runs.records.clone()));
        let arrivals = Arc::<Arrivals>::default();
        let events = Arc::new(Events::new(context(), tables(), Arc::clone(&arrivals)));
        Self {
            distributed_runs: DistributedRuns::new(context(), Arc::clone(&runs)),
            triggers: Triggers::new(context(), Arc::clone(&runs)),
            backfills: Backfills::new(
                context(),
                Arc::clone(&runs),
                Arc::clone(&staging),
                materializer.clone(),
            ),
            redrives: Redrives::new(context(), Arc::clone(&events)),
            sources: Sources::new(context(), tables()),
            upkeep: TableUpkeep::new(context(), tables(), arrivals),
            runs,
            staging,
            events,
            materializer,
            deleter,
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

    /// Returns what takes in events.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Returns what takes in events that were given up on their way.
    pub fn redrives(&self) -> &Redrives {
        &self.redrives
    }

    /// Returns what reads sources beside runs: to show, to copy and to replay them.
    pub fn sources(&self) -> &Sources {
        &self.sources
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
