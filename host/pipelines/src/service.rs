//! The state of the pipelines service. The other modules of the crate implement its methods.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, RwLock};

use wafer_catalog::{Context, GroupDef};
use wafer_core::Timestamp;
use wafer_tables::{Deletions, Tables};

use crate::counters::Counters;
use crate::events::arrivals::Arrivals;
use crate::events::route::Routes;
use crate::group_rows::Target;
use crate::producer::Predictors;

/// The pipelines service: runs pipelines in batch, on events, by schedule and in backfills, and
/// maintains the tables that they write.
#[derive(Debug)]
pub struct Pipelines {
    pub(crate) context: Arc<Context>,
    pub(crate) tables: Arc<Tables>,
    /// Opens the models of pipelines that predict with a model instead of calling a function.
    pub(crate) predictors: Arc<dyn Predictors>,
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
        Self {
            context,
            tables,
            predictors,
            watermarks: Mutex::default(),
            routes: RwLock::default(),
            arrivals: Arc::default(),
            counters: Counters::default(),
        }
    }
    /// Prepares a group for making rows.
    pub(crate) fn target(&self, group: GroupDef, deletions: &Deletions) -> Target {
        let online = &self.context.components().stores.online;
        Target::new(group, deletions, online.max_row_bytes())
    }
}
