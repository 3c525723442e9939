//! Staged group versions: which tables have to be filled before staged definitions become live.
//!
//! Applying a new version of a group whose old version has rows stages the whole generation of
//! definitions. The old definitions stay live, and events are written to both versions
//! (`events/routes.rs`). A backfill (`backfill.rs`) fills the staged version from files and
//! from the raw events that were not written to it when they came in, and then rebuilds its
//! online rows. The intervals that were filled must cover, without a gap, the event times that
//! the old version has rows of. When this holds for all staged tables, the pointer to the live
//! generation moves, and every process serves the new generation after its next look at the
//! pointer.
//!
//! A new version whose old version has no rows is staged as well. It becomes live without a
//! backfill ([`Staging::complete_staged`]) if the old version is still empty when every process
//! writes to both.
//!
//! # Nothing is missing in the version that becomes live
//!
//! Processes do not learn of a staged version at the same moment. One that has not looked at the
//! pointer yet writes events to the old version alone, with any event time, also one that is later
//! than all that the old version had when the new one was staged. So:
//!
//! - Events are committed only by definitions that were applied at most [`DEFINITIONS_AGE`] ago
//!   (`events.rs`), and a commit is durable soon after it was asked for, or never
//!   ([`commits_within`](wafer_store::OnlineStore::commits_within)).
//! - What a staged table must be filled for is unknown
//!   ([`UNKNOWN_SPAN`](wafer_catalog::UNKNOWN_SPAN)) until that time has passed since it was
//!   staged, and everything that came in by then is in the tables. Only then the old version is
//!   asked for its event times, by the first backfill ([`Staging::settle`]). They include those
//!   of all events that were not written to both versions, and these events are in the archive, if
//!   the source keeps one. A commit may be durable later if its process was suspended meanwhile. So
//!   a backfill looks at the archive once more when it has filled the version; what comes even
//!   later is missing.
//! - An interval counts as filled only if it was filled from the inputs that a backfill finds now
//!   ([`Staging::first_missing`]): not if raw events, files or the function are others since, not
//!   if fewer rows may be rejected since, and not if the version was staged before, and was left
//!   out while events came in.
//! - A table counts as filled only for the staged generation that it was filled for.
//! - Runs write the live version alone. They are kept out by the lease of the pipeline, which a
//!   backfill holds until the new version is live, and whoever gets that lease reads the pointer
//!   (`run/lease.rs`). The event times of a version that only runs write are asked for under that
//!   lease by each backfill.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time;

use futures::future::BoxFuture;
use wafer_catalog::{
    Applied, Context, DEFINITIONS_AGE, Definitions, Generation, GroupDef, Pointer, Progress,
    RenewedLease, RunRecord, TableDef,
};
use wafer_core::rules::Interval;
use wafer_core::{DataType, Duration};
use wafer_store::{AsOf, Error, Kind, Result};
use wafer_tables::Tables;

use crate::filled::FilledTables;
use crate::retire::was_removed;
use crate::run::job::Job;
use crate::run::lease::run_lease;
use crate::run::records::RunRecords;

/// Decides when staged versions of groups become live.
#[derive(Debug)]
pub struct Staging {
    context: Arc<Context>,
    tables: Arc<Tables>,
    records: RunRecords,
    filled: FilledTables,
}

impl Staging {
    pub(crate) fn new(context: Arc<Context>, tables: Arc<Tables>, records: RunRecords) -> Self {
        Self {
            filled: FilledTables::new(Arc::clone(&context)),
            context,
            tables,
            records,
        }
    }

    /// Checks that a table keeps the keys, columns and aggregates that it was first applied
    /// with; only new columns may be added at the end. Rows and summaries with the old columns
    /// may exist already. Returns whether its definition is stored as it is. If what is stored is
    /// damaged, the applied definitions say what it was, or the offline table if these are damaged
    /// too.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when the definition changed in another way, and [`Kind::Corrupt`]
    /// when it is damaged and no applied definitions write the table.
    pub async fn check_table(&self, wanted: &TableDef) -> Result<bool> {
        if was_removed(&self.context, &wanted.name).await? {
            return Err(Error::invalid(format!(
                "table `{}` was dropped, and its name is not used again: give the group a version that was \
                 not used yet",
                wanted.name
            )));
        }
        let (stored, is_whole) = match self.tables.stored_definition(&wanted.name).await {
            Ok(Some(stored)) => (stored, true),
            Ok(None) => return Ok(false),
            Err(e) if e.kind() == Kind::Corrupt => (self.damaged_table(wanted, e).await?, false),
            Err(e) => return Err(e),
        };
        let kept = stored.keys.len() + stored.columns.len();
        let columns = |table: &TableDef| -> Vec<(String, DataType)> {
            let fields = table.keys.iter().chain(&table.columns).take(kept);
            fields
                .map(|field| (field.name.clone(), field.data_type.clone()))
                .collect()
        };
        if stored.aggregates == wanted.aggregates && columns(&stored) == columns(wanted) {
            return Ok(is_whole && stored == *wanted);
        }
        Err(Error::invalid(format!(
            "table `{}` was applied with other columns or aggregates before, and may have rows; \
             give the group a version that was not used yet",
            wanted.name
        )))
    }

    /// Returns what a table is whose stored definition is damaged. If it is lost which definitions
    /// are applied, it is what is wanted, unless the offline table has other columns.
    async fn damaged_table(&self, wanted: &TableDef, damaged: Error) -> Result<TableDef> {
        if let Some(applied) = self.applied_table(&wanted.name) {
            return Ok(applied);
        }
        if self.context.applied().damaged.is_empty() {
            return Err(damaged);
        }
        let offline = &self.context.components().stores.offline;
        offline
            .check(&wanted.name, &wanted.schema().to_arrow())
            .await?;
        Ok(wanted.clone())
    }

    /// Writes damaged definitions of tables again, as they were, so that the tables can be read and
    /// rows can be appended to them: those that applied definitions write, or the wanted ones.
    ///
    /// # Errors
    /// Returns the errors of [`check_table`](Self::check_table), of all wanted tables, if applied
    /// definitions do not say what one of them was, and those of the metadata store.
    pub async fn mend_tables(&self, wanted: &Definitions) -> Result<()> {
        let mut lost = self.tables.damaged_tables().await?;
        for name in lost.clone() {
            if let Some(applied) = self.applied_table(&name) {
                self.tables.keep_table(&applied).await?;
                lost.remove(&name);
            }
        }
        let written = written_tables(wanted);
        let is_lost = |written: &&WrittenTable| lost.contains(&written.table.name);
        if !written.iter().any(|written| is_lost(&written)) {
            return Ok(());
        }
        // A table must not be written as it is wanted if another one of its group says that it was
        // otherwise.
        for WrittenTable { table, .. } in &written {
            self.check_table(table).await?;
        }
        for WrittenTable { table, .. } in written.iter().filter(is_lost) {
            self.tables.keep_table(table).await?;
        }
        Ok(())
    }

    /// Returns the table of this name that applied definitions write.
    fn applied_table(&self, name: &str) -> Option<TableDef> {
        let applied = self.context.applied();
        let applied = [Some(&applied.live), applied.staged.as_ref()];
        let applied = applied.into_iter().flatten();
        let mut tables = applied.flat_map(|definitions| written_tables(definitions));
        let found = tables.find(|written| written.table.name == name)?;
        Some(found.table)
    }

    /// Returns the tables of versions of groups by which definitions would replace others.
    pub fn replacing_tables(&self, wanted: &Definitions) -> Vec<String> {
        let live = self.context.definitions();
        let groups = replaced(&live, wanted);
        groups.iter().map(|(_, group)| group.table()).collect()
    }

    /// Returns the tables of new group versions that would replace versions with rows, and are
    /// not filled yet. A table is filled only while the definitions that it was filled for are
    /// staged: if others are applied, events may come in that are not written to it.
    ///
    /// # Errors
    /// Returns the errors of the stores.
    pub async fn to_fill(&self, wanted: &Definitions) -> Result<Vec<String>> {
        let applied = self.context.applied();
        let is_staged = applied.staged.as_deref() == Some(wanted);
        let staged = applied.pointer.staged.filter(|_| is_staged);
        let offline = &self.context.components().stores.offline;
        let mut tables = Vec::new();
        for (live, group) in replaced(&applied.live, wanted) {
            let has_rows = offline.info(&live.table()).await?.rows > 0;
            if has_rows && !self.filled.is_filled(&group.table(), staged).await? {
                tables.push(group.table());
            }
        }
        Ok(tables)
    }

    /// Returns the tables of versions of groups that may be live, and whose rows would no longer be
    /// served, if it is not known which versions are live: those with rows of other versions than
    /// the wanted ones, unless the wanted one is recorded as filled after all of them. The outbox
    /// must have been flushed.
    ///
    /// # Errors
    /// Returns the errors of the stores.
    pub async fn may_be_live(&self, wanted: &Definitions) -> Result<Vec<String>> {
        let known = self.tables.known_names().await?;
        let mut tables = Vec::new();
        for group in wanted.groups.values() {
            let others = other_versions(&known, group);
            if others.is_empty() || self.filled.is_filled_last(&group.table(), &others).await? {
                continue;
            }
            for table in others {
                if !was_removed(&self.context, table).await? && self.has_rows(table).await? {
                    tables.push(table.to_owned());
                }
            }
        }
        Ok(tables)
    }

    /// Records that versions of groups were made live at once, as if they were filled, so that
    /// versions that were filled earlier do not count as live any more
    /// ([`may_be_live`](Self::may_be_live)).
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn record_live(&self, definitions: &Definitions, live: Generation) -> Result<()> {
        let known = self.tables.known_names().await?;
        for group in definitions.groups.values() {
            if !other_versions(&known, group).is_empty() {
                self.filled.put_filled(&group.table(), live).await?;
            }
        }
        Ok(())
    }

    /// Forgets which tables of staged definitions are filled. It is for definitions that are
    /// dropped: their tables miss what comes in from then on.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn forget_filled(&self, staged: &Definitions) -> Result<()> {
        let live = self.context.definitions();
        for (_, group) in replaced(&live, staged) {
            self.filled.forget(&group.table()).await?;
        }
        Ok(())
    }

    async fn has_rows(&self, table: &str) -> Result<bool> {
        let offline = &self.context.components().stores.offline;
        match offline.info(table).await {
            Err(e) if e.kind() == Kind::NotFound => Ok(false),
            info => Ok(info?.rows > 0),
        }
    }

    /// Finds out what the staged tables must be filled for, if that is not known yet. Before, waits
    /// until all processes write events to them.
    ///
    /// # Errors
    /// Returns the errors of [`settle_events`](Self::settle_events).
    pub(crate) async fn settle(&self) -> Result<()> {
        while let Some((applied, staged)) = self.unsettled() {
            if !replaced_by_events(&applied.live, &staged).is_empty() {
                self.settle_events().await?;
            }
            self.record_spans(&applied, &staged).await?;
        }
        Ok(())
    }

    /// Returns what is applied and the staged definitions, if it is not known yet what these must
    /// be filled for.
    fn unsettled(&self) -> Option<(Arc<Applied>, Arc<Definitions>)> {
        let applied = self.context.applied();
        let staged = applied.staged.clone()?;
        let is_unknown = applied.pointer.has_unknown_spans();
        is_unknown.then_some((applied, staged))
    }

    /// Waits until no process commits events any more by definitions that were replaced before the
    /// call, and appends to the tables what came in by then. The factor of 3/2 allows for clocks
    /// that run at different speeds, and for the time that a look takes.
    ///
    /// # Errors
    /// Returns the errors of [`flush_finished`](wafer_tables::Tables::flush_finished).
    pub async fn settle_events(&self) -> Result<()> {
        tokio::time::sleep(self.settle_time()).await;
        self.tables.flush_finished().await
    }

    /// Returns how long [`settle_events`](Self::settle_events) waits before it appends anything.
    fn settle_time(&self) -> time::Duration {
        let commit = self.context.components().stores.online.commits_within();
        let micros = DEFINITIONS_AGE
            .as_micros()
            .saturating_add(commit.as_micros());
        let longest = time::Duration::from_micros(u64::try_from(micros).unwrap_or(0));
        longest * 3 / 2
    }

    /// Makes a staged generation live if there is nothing to fill its versions of groups from: the
    /// versions that they replace had no rows when every process wrote events to both, which this
    /// waits for. Returns the tables that must be filled first, and nothing if it is live.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when other definitions were applied meanwhile, and the errors of
    /// [`settle_events`](Self::settle_events).
    pub async fn complete_staged(
        &self,
        staged: Generation,
        progress: &dyn Progress,
    ) -> Result<Vec<String>> {
        let applied = self.context.applied();
        let Some(definitions) = staged_as(&applied, staged) else {
            return Err(replaced_meanwhile());
        };
        let Some(leases) = self.leases_of_runs(&applied.live, definitions).await? else {
            // What is run now goes to the old version.
            return Ok(self.replacing_tables(definitions));
        };
        let work = self.complete_without_runs(staged, progress);
        let mut work: BoxFuture<'_, Result<Vec<String>>> = Box::pin(work);
        for lease in leases {
            work = Box::pin(lease.during(work));
        }
        work.await
    }

    /// Completes a staged generation. The caller must hold the leases of the pipelines that write
    /// the groups, so that no run writes to the versions that are about to be replaced.
    async fn complete_without_runs(
        &self,
        staged: Generation,
        progress: &dyn Progress,
    ) -> Result<Vec<String>> {
        if let Some((applied, definitions)) = self.unsettled() {
            let groups = replaced_by_events(&applied.live, &definitions);
            if !groups.is_empty() {
                progress.stage(&waiting_text(&groups, self.settle_time()));
            }
        }
        self.settle().await?;
        self.live_unless_to_fill(staged).await
    }

    /// Makes a staged generation live, if none of its tables is left to be filled. Returns those
    /// that are.
    async fn live_unless_to_fill(&self, staged: Generation) -> Result<Vec<String>> {
        let applied = self.context.applied();
        let Some(definitions) = staged_as(&applied, staged) else {
            return match applied.pointer.live.number == staged.number {
                true => Ok(Vec::new()),
                false => Err(replaced_meanwhile()),
            };
        };
        let by_events = replaced_by_events(&applied.live, definitions);
        let mut left = Vec::new();
        for (live, group) in replaced(&applied.live, definitions) {
            let table = group.table();
            // Events that came in since the spans were recorded are in both versions.
            let has_rows = match by_events.contains(group.name.as_str()) {
                true => applied.pointer.spans.contains_key(&table),
                false => self.has_rows(&live.table()).await?,
            };
            if has_rows && !self.filled.is_filled(&table, Some(staged)).await? {
                left.push(table);
            }
        }
        if left.is_empty() {
            self.make_live(&applied, staged).await?;
        }
        Ok(left)
    }

    /// Acquires the leases of all pipelines that write a group of which a version is replaced.
    /// Returns `None` if one of them is being run.
    async fn leases_of_runs(
        &self,
        live: &Definitions,
        staged: &Definitions,
    ) -> Result<Option<Vec<RenewedLease>>> {
        let mut leases = Vec::new();
        for pipeline in pipelines_of_replaced(live, staged) {
            match run_lease(&self.context, pipeline).await {
                Ok(lease) => leases.push(lease),
                Err(error) => {
                    for lease in leases {
                        lease.end().await;
                    }
                    return match error.kind() {
                        Kind::Conflict => Ok(None),
                        _ => Err(error),
                    };
                }
            }
        }
        Ok(Some(leases))
    }

    /// Makes the staged generation of what is applied live.
    async fn make_live(&self, applied: &Applied, staged: Generation) -> Result<()> {
        let pointer = Pointer {
            live: staged,
            ..Pointer::default()
        };
        self.context.point(pointer, applied).await
    }

    /// Records the event times that the replaced versions have now as those that the staged tables
    /// must be filled for.
    async fn record_spans(&self, applied: &Applied, staged: &Definitions) -> Result<()> {
        let mut spans = BTreeMap::new();
        for (live, group) in replaced(&applied.live, staged) {
            if let Some(span) = self.event_times(&live.table()).await? {
                spans.insert(group.table(), span);
            }
        }
        let pointer = Pointer {
            spans,
            ..applied.pointer.clone()
        };
        match self.context.point(pointer, applied).await {
            // Another backfill has recorded them, or other definitions were applied.
            Err(e) if e.kind() == Kind::Conflict => self.context.refresh().await.map(drop),
            other => other,
        }
    }

    /// Returns the span of event times in a table, or `None` if it has no rows.
    async fn event_times(&self, table: &str) -> Result<Option<Interval>> {
        let offline = &self.context.components().stores.offline;
        let snapshot = offline.snapshot(table, AsOf::Latest).await?;
        let times = snapshot.files().iter().filter_map(|file| file.events);
        let span = times.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        Ok(span.map(|(from, last)| Interval {
            from,
            to: last.plus(Duration::MICROSECOND),
        }))
    }

    /// Returns the first span of event times that a staged table has yet to be filled for. Only
    /// intervals count that a run would not be made over again: that were filled from the inputs
    /// that `job` reads. It is the last job of the backfill that holds the lease of the pipeline.
    pub(crate) async fn first_missing(&self, job: &Job) -> Result<Option<Interval>> {
        let Some(span) = self.span_to_fill(job).await? else {
            return Ok(None);
        };
        let is_present = |run: &&RunRecord| {
            job.is_settled(run) && run.inputs == job.inputs_over(run.interval, run.upstream)
        };
        let claims = self.records.claims(&job.target.table.name).await?;
        let done = claims.iter().filter(is_present);
        let mut done: Vec<Interval> = done.map(|run| run.interval).collect();
        done.sort_by_key(|interval| interval.from);
        Ok(first_gap(span, &done))
    }

    /// Returns the span of event times that the staged table of a job must be filled for.
    async fn span_to_fill(&self, job: &Job) -> Result<Option<Interval>> {
        let applied = self.context.applied();
        let table = &job.target.table.name;
        let live = applied.live.groups.get(&job.target.group.name);
        let Some(live) = live.filter(|live| live.table() != *table) else {
            return Ok(None);
        };
        let takes_events =
            job.source.kind.takes_events() || is_written_by_events(&applied.live, &live.name);
        match takes_events {
            // Events that came in since are in both versions.
            true => Ok(applied.pointer.spans.get(table).copied()),
            false => self.event_times(&live.table()).await,
        }
    }

    /// Records that a table is filled for the staged generation, and makes the staged definitions
    /// live when all staged tables are. Returns whether they became live; they do not if others
    /// were applied meanwhile.
    pub(crate) async fn record_filled(&self, table: &str, staged: Generation) -> Result<bool> {
        self.filled.put_filled(table, staged).await?;
        self.context.refresh().await?;
        let applied = self.context.applied();
        let (Some(definitions), Some(generation)) = (&applied.staged, applied.pointer.staged)
        else {
            return Ok(false);
        };
        if generation.number != staged.number || !self.to_fill(definitions).await?.is_empty() {
            return Ok(false);
        }
        self.make_live(&applied, generation).await?;
        Ok(true)
    }
}

/// Returns the staged definitions, if they are of this generation.
fn staged_as(applied: &Applied, generation: Generation) -> Option<&Definitions> {
    let staged = applied.pointer.staged?;
    let is_same = staged.number == generation.number;
    applied.staged.as_deref().filter(|_| is_same)
}

/// The error for definitions that were staged, and that others took the place of.
fn replaced_meanwhile() -> Error {
    let message = "other definitions were applied by somebody else meanwhile; look at `wafer plan`, and \
                   apply these again";
    Error::new(Kind::Conflict, message)
}

/// Says what is waited for before new versions of groups become live.
fn waiting_text(groups: &BTreeSet<&str>, time: time::Duration) -> String {
    let groups: Vec<&str> = groups.iter().copied().collect();
    format!(
        "waiting {} s until every process writes events to the new version of {}, so that none is missing \
         in it",
        time.as_secs_f64(),
        groups.join(", ")
    )
}

/// Returns the names of the groups that have another version in the wanted definitions than in the
/// live ones, and that events are written to by one of them.
fn replaced_by_events<'a>(live: &'a Definitions, wanted: &'a Definitions) -> BTreeSet<&'a str> {
    let names = replaced(live, wanted);
    let names = names.into_iter().map(|(_, group)| group.name.as_str());
    let takes_events =
        |name: &&str| is_written_by_events(live, name) || is_written_by_events(wanted, name);
    names.filter(takes_events).collect()
}

/// Returns the names of the pipelines that write the groups of which a version is replaced, by the
/// live definitions or by the wanted ones.
fn pipelines_of_replaced<'a>(live: &'a Definitions, wanted: &'a Definitions) -> BTreeSet<&'a str> {
    let groups = replaced(live, wanted);
    let is_replaced = |name: &str| groups.iter().any(|(group, _)| group.name == name);
    let pipelines = live.pipelines.iter().chain(&wanted.pipelines);
    let writing = pipelines.filter(|(_, pipeline)| is_replaced(&pipeline.group));
    writing.map(|(name, _)| name.as_str()).collect()
}

/// Returns the groups that have another version in the wanted definitions than in the live ones:
/// the live version and the wanted one of each.
fn replaced<'a>(
    live: &'a Definitions,
    wanted: &'a Definitions,
) -> Vec<(&'a GroupDef, &'a GroupDef)> {
    let groups = wanted.groups.iter();
    let both = groups.filter_map(|(name, group)| Some((live.groups.get(name)?, group)));
    both.filter(|(live, group)| live.version != group.version)
        .collect()
}

/// Returns the tables of other versions of a group, of the tables that are known.
fn other_versions<'a>(known: &'a [String], group: &GroupDef) -> Vec<&'a str> {
    let prefix = format!("{}_v", group.name);
    let version_of = |table: &str| table.strip_prefix(&prefix)?.parse::<u32>().ok();
    let is_other = |table: &&str| version_of(table).is_some_and(|found| found != group.version);
    let tables = known.iter().map(String::as_str);
    tables.filter(is_other).collect()
}

/// Returns whether events are written to a group.
fn is_written_by_events(definitions: &Definitions, group: &str) -> bool {
    let mut pipelines = definitions.pipelines.values();
    pipelines.any(|pipeline| {
        pipeline.group == group && definitions.sources[&pipeline.source].kind.takes_events()
    })
}

/// Returns the first part of a span that no interval covers. The intervals must be sorted by
/// their start.
fn first_gap(span: Interval, done: &[Interval]) -> Option<Interval> {
    let mut from = span.from;
    for interval in done {
        if interval.from > from {
            let to = interval.from.min(span.to);
            return (from < span.to).then_some(Interval { from, to });
        }
        from = from.max(interval.to);
    }
    (from < span.to).then_some(Interval { from, to: span.to })
}

/// A table that definitions write to.
#[derive(Debug)]
pub struct WrittenTable {
    /// The table.
    pub table: TableDef,
    /// When it is created.
    pub created: Created,
}

/// When a table is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// When the definitions are applied, so that it can be read before it has rows.
    WhenApplied,
    /// With its first rows. Most groups never have late or rejected rows.
    WithFirstRows,
}

/// Returns the tables that definitions write to.
pub fn written_tables(definitions: &Definitions) -> Vec<WrittenTable> {
    let written = |table, created| WrittenTable { table, created };
    let groups = definitions.groups.values();
    let mut tables: Vec<_> = groups
        .flat_map(|group| {
            [
                written(group.rows_table(), Created::WhenApplied),
                written(group.late_table(), Created::WithFirstRows),
                written(group.quarantine_table(), Created::WithFirstRows),
            ]
        })
        .collect();
    let kept = definitions
        .sources
        .iter()
        .filter(|(_, source)| source.keeps_events());
    tables.extend(kept.map(|(name, _)| written(TableDef::archive(name), Created::WithFirstRows)));
    tables
}

#[cfg(test)]
mod tests;
