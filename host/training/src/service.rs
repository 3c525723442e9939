//! The training service.

use std::sync::Arc;

use wafer_catalog::Context;
use wafer_registry::Registry;
use wafer_tables::Tables;

/// The service that makes training sets, trains models on them and evaluates their versions.
#[derive(Debug)]
pub struct Training {
    pub(crate) context: Arc<Context>,
    pub(crate) tables: Arc<Tables>,
    pub(crate) registry: Arc<Registry>,
}

impl Training {
    /// Creates the service over a context, the project's tables and its registry.
    pub fn new(context: Arc<Context>, tables: Arc<Tables>, registry: Arc<Registry>) -> Self {
        Self {
            context,
            tables,
            registry,
        }
    }
}
