//! Applying a project: tables are made, definitions are written as a generation, and staged or made live.

use wafer_catalog::{Definitions, Plan, Pointer};
use wafer_pipelines::written_tables;
#[allow(unused_imports, reason = "named in docs")]
use wafer_store::{Kind, Result};

use crate::Platform;

impl Platform {
    /// Returns what applying definitions would change, and what would suffer from it.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when a group's columns differ from those that were applied
    /// under the same version, and the errors of the metadata store.
    pub async fn plan(&self, wanted: &Definitions) -> Result<Plan> {
        Ok(Plan {
            warnings: self.serving.outdated_endpoints(wanted).await?,
            ..self.context.plan(wanted)?
        })
    }

    /// Applies definitions: makes the tables of new groups, writes the definitions
    /// as a new generation, and makes that live at once. A group that has another
    /// version with rows is live as it is until the new version is filled: then the
    /// whole generation is staged, unless `at_once`.
    ///
    /// # Errors
    /// As [`plan`](Self::plan), those of the stores, and [`Kind::Conflict`] when
    /// somebody else applies at the same time.
    pub async fn apply(&self, wanted: Definitions, at_once: bool) -> Result<Plan> {
        let mut plan = self.plan(&wanted).await?;
        for (table, _) in written_tables(&wanted) {
            self.pipelines.check_table(&table).await?;
        }
        for (table, ensure) in written_tables(&wanted) {
            if ensure {
                let schema = table.schema().to_arrow();
                self.context
                    .components()
                    .offline
                    .ensure(&table.name, &schema)
                    .await?;
            }
            self.tables.keep_table(&table).await?;
        }
        let to_fill = if at_once {
            Vec::new()
        } else {
            self.pipelines.to_fill(&wanted).await?
        };
        let applied = self.context.applied();
        let is_same = *applied.live == wanted && applied.pointer.live > 0;
        if is_same && applied.staged.is_none() {
            return Ok(plan);
        }
        if !to_fill.is_empty() && applied.staged.as_deref() == Some(&wanted) {
            plan.staged = to_fill;
            return Ok(plan);
        }
        let generation = self.context.next_generation().await?;
        self.context.write_generation(generation, &wanted).await?;
        let pointer = if to_fill.is_empty() {
            Pointer {
                live: generation,
                ..Pointer::default()
            }
        } else {
            Pointer {
                live: applied.pointer.live,
                staged: Some(generation),
                spans: self.pipelines.spans(&wanted).await?,
            }
        };
        self.context.point(pointer, applied.version).await?;
        plan.staged = to_fill;
        Ok(plan)
    }
}
