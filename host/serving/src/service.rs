//! The serving service.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use wafer_catalog::Context;
use wafer_registry::Registry;
use wafer_tables::Tables;

use crate::ready::{EndpointServing, LastRefresh};
use crate::request_log::queue::RequestLog;
use crate::served_view::ViewCache;

/// The service that answers requests for the feature vectors of views and for the predictions of
/// endpoints.
#[derive(Debug)]
pub struct Serving {
    pub(crate) context: Arc<Context>,
    pub(crate) tables: Arc<Tables>,
    pub(crate) registry: Arc<Registry>,
    /// The views that requests asked for, resolved by the live definitions.
    pub(crate) views: ViewCache,
    /// The endpoints that are ready to answer. The map is replaced as a whole.
    pub(crate) endpoints: RwLock<Arc<BTreeMap<String, Arc<EndpointServing>>>>,
    /// What the last refresh of the endpoints found. The lock is held while endpoints are made
    /// ready.
    pub(crate) last_refresh: tokio::sync::Mutex<LastRefresh>,
    /// The answers that wait to be logged.
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
            last_refresh: tokio::sync::Mutex::default(),
            request_log: RequestLog::default(),
        }
    }
}
