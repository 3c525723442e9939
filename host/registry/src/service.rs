//! The registry service.

use std::sync::Arc;

use wafer_catalog::Context;

/// The registry of a project: versions of models, aliases, notes and releases.
#[derive(Debug)]
pub struct Registry {
    pub(crate) context: Arc<Context>,
}

impl Registry {
    /// Creates the service over a context.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}
