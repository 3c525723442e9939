//! The state of the tables service. The other modules of the crate implement its methods.

use std::sync::{Arc, RwLock};

use wafer_catalog::Context;

use crate::deletions::Deletions;

/// The tables of a project: their definitions, the outbox, and the deletions that every path
/// into the tables respects.
#[derive(Debug)]
pub struct Tables {
    /// The context that all services of the project share.
    pub(crate) context: Arc<Context>,
    /// The deletions that were read last.
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
