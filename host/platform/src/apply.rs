//! Applying the definitions of a project.
//!
//! [`Platform::apply`] creates the tables of new groups and writes the definitions as a new
//! generation. Then it moves the pointer `PROJECT/applied`, which makes the generation live, so
//! that all definitions change at once.
//!
//! If a group has a new version and its old version has rows, the generation is staged instead:
//! the old definitions stay live, and events are written to both versions. The generation becomes
//! live when the new version is filled. What it must be filled for is found out by its first
//! backfill, when every process writes to both (`staging.rs` of the pipelines).

use wafer_catalog::{Definitions, MadeBy, Plan, Pointer, UNKNOWN_SPAN, blocking};
use wafer_pipelines::{Created, missing_files, written_tables};
use wafer_store::{Kind, Result};

use crate::Platform;

/// When definitions become live that have new versions of groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoLive {
    /// When the new versions are filled, if their old versions have rows.
    WhenFilled,
    /// At once, although the new versions are still empty.
    AtOnce,
}

impl Platform {
    /// Returns the changes that applying definitions would make, and the tables that would have to
    /// be filled first. Warnings say what would not work: endpoints whose features would no longer
    /// be written, sources without files, models without the version that a pipeline names, and
    /// other definitions that are staged.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when a group's columns differ from those that were applied
    /// under the same version, and the errors of the metadata store.
    pub async fn plan(&self, wanted: &Definitions) -> Result<Plan> {
        let mut warnings = self.serving.outdated_endpoints(wanted).await?;
        let definitions = wanted.clone();
        warnings.extend(blocking(move || missing_files(&definitions)).await?);
        warnings.extend(self.missing_versions(wanted).await?);
        let staged = self.context.staged();
        let is_staged = staged.as_deref() == Some(wanted);
        if staged.is_some() && !is_staged {
            warnings.push(
                "other definitions are staged, and wait until new versions of groups are filled; \
                 applying these drops them"
                    .to_owned(),
            );
        }
        let plan = self.context.plan(wanted)?;
        Ok(Plan {
            staged: self.pipelines.to_fill(wanted).await?,
            is_staged,
            warnings,
            ..plan
        })
    }

    /// Returns a warning for each pipeline whose version of a model, or its alias, does not exist.
    async fn missing_versions(&self, wanted: &Definitions) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        for (name, pipeline) in &wanted.pipelines {
            let MadeBy::Model(version) = &pipeline.made_by else {
                continue;
            };
            match self.registry.model_version(version).await {
                Err(e) if e.kind() == Kind::NotFound => warnings.push(format!(
                    "pipelines.{name}.model: {e}; its runs fail until it exists"
                )),
                found => drop(found?),
            }
        }
        Ok(warnings)
    }

    /// Applies definitions as a new generation, and returns what changed.
    ///
    /// The generation is staged if groups have new versions that must be filled first, which the
    /// plan then names, and `go_live` waits for them. Otherwise it is live at once. Definitions
    /// that are applied already are not written again, unless an earlier version of Wafer wrote
    /// them, in another form.
    ///
    /// # Errors
    /// Returns the errors of [`plan`](Self::plan) and of the stores, and [`Kind::Conflict`] when
    /// another process applies definitions at the same time.
    pub async fn apply(&self, wanted: Definitions, go_live: GoLive) -> Result<Plan> {
        if self.pipelines.replaces_versions(&wanted) {
            // All rows of an old version may still be in the outbox.
            self.tables.flush_finished().await?;
        }
        let mut plan = self.plan(&wanted).await?;
        let tables = written_tables(&wanted);
        for written in &tables {
            self.pipelines.check_table(&written.table).await?;
        }
        let offline = &self.context.components().stores.offline;
        for written in &tables {
            let table = &written.table;
            if written.created == Created::WhenApplied {
                offline
                    .ensure(&table.name, &table.schema().to_arrow())
                    .await?;
            }
            self.tables.keep_table(table).await?;
        }
        let to_fill = match go_live {
            GoLive::AtOnce => Vec::new(),
            GoLive::WhenFilled => std::mem::take(&mut plan.staged),
        };
        plan.staged = Vec::new();
        let applied = self.context.applied();
        if applied.is_only(&wanted) {
            return Ok(plan);
        }
        if !to_fill.is_empty() && applied.staged.as_deref() == Some(&wanted) {
            plan.staged = to_fill;
            return Ok(plan);
        }
        let generation = self.context.write_generation(&wanted).await?;
        let pointer = if to_fill.is_empty() {
            Pointer {
                live: generation,
                ..Pointer::default()
            }
        } else {
            Pointer {
                live: applied.pointer.live,
                staged: Some(generation),
                spans: to_fill
                    .iter()
                    .map(|table| (table.clone(), UNKNOWN_SPAN))
                    .collect(),
                ..Pointer::default()
            }
        };
        self.context.point(pointer, &applied).await?;
        plan.staged = to_fill;
        Ok(plan)
    }
}
