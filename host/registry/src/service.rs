//! The registry service.

use std::sync::Arc;

use wafer_catalog::Context;

/// The service for the versions of a project's models, with their aliases and notes, and for its
/// releases.
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
