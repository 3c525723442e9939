//! Which tables are recorded as filled, and for which generation of definitions.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wafer_catalog::{Context, Generation};
use wafer_store::{Expect, Result};

/// What is recorded of a table that is filled.
#[derive(Debug, Serialize, Deserialize)]
struct Filled {
    /// The number of the generation that it was filled for when that was staged, or that was made
    /// live with it at once. Earlier versions of Wafer did not record it: such a table is filled
    /// again.
    #[serde(default)]
    generation: u64,
}

/// The records of tables that are filled.
#[derive(Clone, Debug)]
pub(crate) struct FilledTables {
    context: Arc<Context>,
}

impl FilledTables {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Returns whether a staged table was recorded as filled for a staged generation.
    pub(crate) async fn is_filled(&self, table: &str, staged: Option<Generation>) -> Result<bool> {
        let Some(staged) = staged else {
            return Ok(false);
        };
        Ok(self.filled_for(table).await? == Some(staged.number))
    }

    /// Returns whether a table was recorded as filled for a later generation than all others.
    pub(crate) async fn is_filled_last(&self, table: &str, others: &[&str]) -> Result<bool> {
        let last = self.filled_for(table).await?;
        for other in others {
            if self.filled_for(other).await? >= last {
                return Ok(false);
            }
        }
        Ok(last.is_some())
    }

    /// Returns the number of the generation that a table was last filled for.
    async fn filled_for(&self, table: &str) -> Result<Option<u64>> {
        let recorded = self.context.object::<Filled>(&filled_name(table)).await?;
        Ok(recorded.map(|(filled, _)| filled.generation))
    }

    /// Records that a table is filled for a generation.
    pub(crate) async fn put_filled(&self, table: &str, generation: Generation) -> Result<()> {
        let filled = Filled {
            generation: generation.number,
        };
        let name = filled_name(table);
        let put = self.context.put_object(&name, &filled, Expect::Anything);
        put.await.map(drop)
    }

    /// Forgets what is recorded of a table.
    pub(crate) async fn forget(&self, table: &str) -> Result<()> {
        self.context.remove_object(&filled_name(table)).await
    }
}

/// Returns the name of the object that records that a table is filled.
fn filled_name(table: &str) -> String {
    format!("filled/{table}")
}
