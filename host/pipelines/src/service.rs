//! The state of the pipelines service. The other modules of the crate implement its methods.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, RwLock};

use wafer_catalog::Context;
use wafer_core::Timestamp;
use wafer_tables::Tables;

use crate::counters::Counters;
use crate::deletion::EntityDeleter;
use crate::events::arrivals::Arrivals;
use crate::events::route::Routes;
use crate::materialize::Materializer;
use crate::producer::Predictors;
use crate::run::job::Jobs;
use crate::run::online::OnlineWriter;
use crate::run::plan::Planner;
use crate::run::records::RunRecords;
use crate::run::write::RowWriter;
use crate::upkeep::TableUpkeep;

/// The pipelines service: runs pipelines in batch, on events, by schedule and in backfills, and
/// maintains the tables that they write.
#[derive(Debug)]
pub struct Pipelines {
    pub(crate) context: Arc<Context>,
    pub(crate) tables: Arc<Tables>,
    /// The claims of intervals and the records of runs.
    pub(crate) records: RunRecords,
    pub(crate) jobs: Jobs,
    pub(crate) planner: Planner,
    pub(crate) writer: RowWriter,
    pub(crate) online: OnlineWriter,
    pub(crate) materializer: Materializer,
    pub(crate) deleter: EntityDeleter,
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
        let records = RunRecords::new(Arc::clone(&context));
        let materializer = Materializer::new(Arc::clone(&context), Arc::clone(&tables));
        let deleter = EntityDeleter::new(
            Arc::clone(&context),
            Arc::clone(&tables),
            materializer.clone(),
        );
        let upkeep = TableUpkeep::new(
            Arc::clone(&context),
            Arc::clone(&tables),
            Arc::clone(&arrivals),
        );
        Self {
            jobs: Jobs::new(Arc::clone(&context), Arc::clone(&tables), predictors),
            planner: Planner::new(Arc::clone(&context), records.clone()),
            writer: RowWriter::new(Arc::clone(&context), records.clone()),
            online: OnlineWriter::new(Arc::clone(&context), records.clone(), materializer.clone()),
            records,
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
