//! The upkeep of tables: what is done to them beside the work of pipelines.

use std::sync::Arc;

use wafer_catalog::Context;
use wafer_tables::Tables;

use crate::events::arrivals::Arrivals;
use crate::filled::FilledTables;

/// Compacts tables (`compact.rs`), takes in their late rows (`heal.rs`) and removes them
/// (`retire.rs`).
#[derive(Debug)]
pub struct TableUpkeep {
    pub(crate) context: Arc<Context>,
    pub(crate) tables: Arc<Tables>,
    pub(crate) filled: FilledTables,
    /// The numbers of the rows that this process takes in.
    pub(crate) arrivals: Arc<Arrivals>,
}

impl TableUpkeep {
    pub(crate) fn new(context: Arc<Context>, tables: Arc<Tables>, arrivals: Arc<Arrivals>) -> Self {
        Self {
            filled: FilledTables::new(Arc::clone(&context)),
            context,
            tables,
            arrivals,
        }
    }
}
