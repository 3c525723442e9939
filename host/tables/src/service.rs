//! The service over the tables of a project.

use std::sync::{Arc, RwLock};

use wafer_catalog::Context;

use crate::deletions::Deletions;

/// The tables of a project: their definitions, the outbox, and the deletions that every way into
/// them respects.
#[derive(Debug)]
pub struct Tables {
    pub(crate) context: Arc<Context>,
    /// The deletions, as last read.
    pub(crate) deletions: RwLock<Arc<Deletions>>,
}

impl Tables {
    /// Creates the service over a context.
    pub fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            deletions: RwLock::default(),
        }
    }
}
