//! The serving service.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use wafer_catalog::Context;
use wafer_registry::Registry;
use wafer_tables::Tables;

use crate::ready::EndpointServing;
use crate::ready::FailedEndpoints;
use crate::request_log::queue::RequestLog;
use crate::served_view::ViewCache;

/// Answers requests: feature vectors of views, and inference of endpoints.
#[derive(Debug)]
pub struct Serving {
    pub(crate) context: Arc<Context>,
    pub(crate) tables: Arc<Tables>,
    pub(crate) registry: Arc<Registry>,
    /// What requests for each view need, worked out for the present definitions.
    pub(crate) views: ViewCache,
    /// The endpoints that answer. They are replaced as a whole.
    pub(crate) endpoints: RwLock<Arc<BTreeMap<String, Arc<EndpointServing>>>>,
    /// The endpoints that could not be made ready. Whoever makes endpoints ready holds the lock.
    pub(crate) unready: tokio::sync::Mutex<FailedEndpoints>,
    /// Answers that wait to be logged.
    pub(crate) request_log: RequestLog,
}

impl Serving {
    /// Creates the service over a context, the project's tables and its registry.
    pub fn new(context: Arc<Context>, tables: Arc<Tables>, registry: Arc<Registry>) -> Self {
        Self {
            context,
            tables,
            registry,
            views: ViewCache::default(),
            endpoints: RwLock::default(),
            unready: tokio::sync::Mutex::default(),
            request_log: RequestLog::default(),
        }
    }
}
