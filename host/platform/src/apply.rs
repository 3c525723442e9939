//! Applying the definitions of a project.
//!
//! [`Platform::apply`] creates the tables of new groups and writes the definitions as a new
//! generation. Then it moves the pointer `PROJECT/applied`, which makes the generation live, so
//! that all definitions change at once.
//!
//! If a group has a new version, the generation is staged instead: the old definitions stay live,
//! and events are written to both versions. The generation becomes live when the new version is
//! filled. What it must be filled for is found out by its first backfill, when every process writes
//! to both (`staging.rs` of the pipelines). If the old version has no rows, [`Platform::apply`]
//! waits for that itself, and makes the generation live if none came in meanwhile.
//!
//! A generation whose artifact is damaged or missing is written again if its definitions are the
//! wanted ones. Otherwise it is replaced, unless rows could be lost to requests by that: it alone
//! says which versions of groups are live. All else that it held comes from the project file and
//! the components, and models, releases and endpoints have records of their own. So it is with a
//! pointer that is lost or damaged. Damaged definitions of tables are written again before all
//! else, as the applied definitions say, or as the wanted ones do if those are damaged too.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::try_join_all;
use wafer_catalog::{
    Damaged, Definitions, Generation, GroupDef, MadeBy, Plan, Pointer, Progress, UNKNOWN_SPAN,
    blocking,
};
use wafer_pipelines::{Created, WrittenTable, missing_files, written_tables};
use wafer_store::{Error, Kind, Result};

use crate::Platform;

/// The number of tables that are looked at, or written, at a time.
const TABLES_AT_A_TIME: usize = 16;

/// When definitions become live that have new versions of groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoLive {
    /// When the new versions are filled, if their old versions have rows.
    WhenFilled,
    /// At once, although the new versions are still empty. What is in the old versions alone is
    /// left behind: all that they have, and events that a process commits before it learns of the
    /// new versions, for seconds. These would be in both if the new versions were staged first,
    /// which takes time and the leases of their pipelines. This is for those who cannot have that.
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
        let plan = Plan::new(&self.context.definitions(), wanted)?;
        Ok(Plan {
            staged: self.pipelines.staging().to_fill(wanted).await?,
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
    /// plan then names, and `go_live` waits for them. Otherwise it is live when this returns. Where
    /// events may be on their way to a version that is replaced, this takes some seconds, half a
    /// minute on AWS, which `progress` is told. Definitions that are applied already are not
    /// written again, unless an earlier version of Wafer wrote them, in another form.
    ///
    /// # Errors
    /// Returns the errors of [`plan`](Self::plan) and of the stores, and [`Kind::Conflict`] when
    /// another process applies definitions at the same time.
    pub async fn apply(
        &self,
        wanted: Definitions,
        go_live: GoLive,
        progress: &dyn Progress,
    ) -> Result<Plan> {
        let mut warnings = self.mend(&wanted).await?;
        let is_damaged = self.damaged_live().is_some();
        let replaces = is_damaged
            || !self
                .pipelines
                .staging()
                .replacing_tables(&wanted)
                .is_empty();
        if replaces {
            // All rows of an old version may still be in the outbox.
            self.tables.flush_finished().await?;
        }
        warnings.extend(self.replace_damaged(&wanted, go_live).await?);
        let mut plan = self.plan(&wanted).await?;
        warnings.append(&mut plan.warnings);
        plan.warnings = warnings;
        self.make_tables(&wanted).await?;
        let to_fill = std::mem::take(&mut plan.staged);
        let (to_fill, to_stage) = match go_live {
            GoLive::AtOnce => (Vec::new(), Vec::new()),
            GoLive::WhenFilled => (to_fill, self.pipelines.staging().replacing_tables(&wanted)),
        };
        let applied = self.context.applied();
        if applied.is_only(&wanted) {
            return Ok(plan);
        }
        if !to_fill.is_empty() && applied.staged.as_deref() == Some(&wanted) {
            plan.staged = to_fill;
            return Ok(plan);
        }
        if let Some(dropped) = applied.staged.as_ref().filter(|staged| ***staged != wanted) {
            self.pipelines.staging().forget_filled(dropped).await?;
        }
        // An apply that was interrupted while it waited has staged them.
        let is_staged = applied.staged.as_deref() == Some(&wanted) && !to_stage.is_empty();
        let generation = match applied.pointer.staged.filter(|_| is_staged) {
            Some(staged) => staged,
            None => {
                let generation = self.context.write_generation(&wanted).await?;
                let pointer = pointer_to(generation, applied.pointer.live, &to_stage);
                self.context.point(pointer, &applied).await?;
                generation
            }
        };
        plan.staged = match to_stage.is_empty() || !to_fill.is_empty() {
            true => to_fill,
            false => {
                let staging = self.pipelines.staging();
                staging.complete_staged(generation, progress).await?
            }
        };
        if replaces && plan.staged.is_empty() {
            self.pipelines
                .staging()
                .record_live(&wanted, generation)
                .await?;
        }
        Ok(plan)
    }

    /// Checks all tables that definitions write to, and then creates those that are missing.
    async fn make_tables(&self, wanted: &Definitions) -> Result<()> {
        let tables = written_tables(wanted);
        let mut are_kept = Vec::with_capacity(tables.len());
        for some in tables.chunks(TABLES_AT_A_TIME) {
            let checks = some.iter();
            let checks = checks.map(|written| self.pipelines.staging().check_table(&written.table));
            are_kept.extend(try_join_all(checks).await?);
        }
        for (some, are_kept) in tables
            .chunks(TABLES_AT_A_TIME)
            .zip(are_kept.chunks(TABLES_AT_A_TIME))
        {
            let made = some.iter().zip(are_kept);
            let made = made.map(|(written, is_kept)| self.make_table(written, *is_kept));
            try_join_all(made).await?;
        }
        Ok(())
    }

    /// Creates a table if it is missing, and stores its definition unless that is kept as it is.
    async fn make_table(&self, written: &WrittenTable, is_kept: bool) -> Result<()> {
        let table = &written.table;
        if written.created == Created::WhenApplied {
            let offline = &self.context.components().stores.offline;
            offline
                .ensure(&table.name, &table.schema().to_arrow())
                .await?;
        }
        match is_kept {
            true => Ok(()),
            false => self.tables.keep_table(table).await,
        }
    }

    /// Returns the definitions by which those of a project are resolved: the live ones. If these
    /// are damaged, the columns of the project's groups, which are given with their versions, are
    /// those of their tables. A table whose definition is damaged too says nothing.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn definitions_in_use(
        &self,
        groups: &BTreeMap<String, u32>,
    ) -> Result<Arc<Definitions>> {
        let applied = self.context.applied();
        if self.damaged_live().is_none() {
            return Ok(Arc::clone(&applied.live));
        }
        let mut definitions = Definitions::default();
        for (name, version) in groups {
            let group = GroupDef {
                version: *version,
                ..GroupDef::new(name, "", "")
            };
            let table = match self.tables.stored_definition(&group.table()).await {
                Ok(Some(table)) => table,
                Ok(None) => continue,
                Err(e) if e.kind() == Kind::Corrupt => continue,
                Err(e) => return Err(e),
            };
            let group = GroupDef {
                entity: table.entity,
                keys: table.keys,
                columns: table.columns,
                ..group
            };
            definitions.groups.insert(name.clone(), group);
        }
        Ok(Arc::new(definitions))
    }

    /// Returns the live generation if it is damaged.
    fn damaged_live(&self) -> Option<Damaged> {
        let applied = self.context.applied();
        let mut damaged = applied.damaged.iter();
        let live = damaged.find(|damaged| damaged.generation == applied.pointer.live);
        live.cloned()
    }

    /// Writes applied generations that are damaged again, if their definitions are these, and
    /// damaged definitions of tables: nothing is appended to a table without its definition.
    /// Returns warnings that say which generations were written.
    async fn mend(&self, wanted: &Definitions) -> Result<Vec<String>> {
        let mended = self.context.mend(wanted).await?;
        self.pipelines.staging().mend_tables(wanted).await?;
        let written = |Generation { number, .. }| {
            format!(
                "the artifact of generation {number} of the definitions was damaged or missing, and was \
                 written again"
            )
        };
        Ok(mended.into_iter().map(written).collect())
    }

    /// Checks that definitions can take the place of applied ones that are damaged. Returns
    /// warnings that say so.
    async fn replace_damaged(&self, wanted: &Definitions, go_live: GoLive) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        let applied = self.context.applied();
        if let Some(damaged) = self.damaged_live()
            && go_live == GoLive::WhenFilled
        {
            let lost = self.pipelines.staging().may_be_live(wanted).await?;
            if !lost.is_empty() {
                return Err(cannot_replace(&damaged, &lost));
            }
        }
        for Damaged { generation, reason } in &applied.damaged {
            warnings.push(match *generation == applied.pointer.live {
                true => format!(
                    "{reason}. These definitions take its place. It is not known what they change: what is \
                     live is listed as new, and what was removed is not listed"
                ),
                false => format!("{reason}. It is staged, and dropped"),
            });
        }
        Ok(warnings)
    }
}

/// Returns the pointer by which a generation is live, or staged if it has tables of new versions.
fn pointer_to(generation: Generation, live: Generation, to_stage: &[String]) -> Pointer {
    if to_stage.is_empty() {
        return Pointer {
            live: generation,
            ..Pointer::default()
        };
    }
    let spans = to_stage.iter().map(|table| (table.clone(), UNKNOWN_SPAN));
    Pointer {
        live,
        staged: Some(generation),
        spans: spans.collect(),
        ..Pointer::default()
    }
}

/// Makes the error for a damaged generation in whose place no other definitions may be put.
fn cannot_replace(damaged: &Damaged, lost: &[String]) -> Error {
    let message = format!(
        "{}. The project is not known to be as it was, and may not take its place: it is lost which versions of groups \
         are live, and {} may be, whose rows would no longer be served. Restore what is damaged; or apply the \
         project as it was before; or make the versions of this project live at once, with `--now`",
        damaged.reason,
        lost.join(", ")
    );
    Error::new(Kind::Corrupt, message)
}
