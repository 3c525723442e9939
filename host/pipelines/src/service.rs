//! The pipelines service.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, RwLock};

use wafer_catalog::Context;
use wafer_core::Timestamp;
use wafer_tables::Tables;

use crate::counters::Counters;
use crate::events::route::Routes;
use crate::producer::Predictors;

/// Runs pipelines: in batch, on events, by schedules and in backfills.
#[derive(Debug)]
pub struct Pipelines {
    pub(crate) context: Arc<Context>,
    pub(crate) tables: Arc<Tables>,
    /// Opens what predicts in pipelines of models.
    pub(crate) predictors: Arc<dyn Predictors>,
    /// For each source the latest event time that came in at this process.
    pub(crate) watermarks: Mutex<HashMap<String, Timestamp>>,
    /// For each source where its events go.
    pub(crate) routes: RwLock<HashMap<String, Routes>>,
    pub(crate) counters: Counters,
}

impl Pipelines {
    /// Creates the service over a context and the project's tables. Pipelines of models open
    /// their model by `predictors`.
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
            counters: Counters::default(),
        }
    }
}
