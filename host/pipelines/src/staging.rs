//! Staged group versions: which tables have to be filled before staged definitions become live.
//!
//! Applying a new version of a group whose old version has rows stages the whole generation of
//! definitions. The old definitions stay live, and events are written to both versions from then
//! on (`events/routes.rs`). A backfill (`backfill.rs`) fills the staged version from files and
//! from the raw events that were not written to it when they came in, and then rebuilds its
//! online rows. The intervals that were filled must cover, without a gap, the event times that
//! the old version had when the new one was staged. When this holds for all staged tables, the
//! pointer to the live generation moves, and every process serves the new generation after its
//! next look at the pointer.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde_json::json;
use wafer_catalog::{Definitions, Pointer, RunState, TableDef};
use wafer_core::rules::Interval;
use wafer_core::{DataType, Duration};
use wafer_store::{AsOf, Error, Expect, Kind, Result};

use crate::service::Pipelines;

impl Pipelines {
    /// Checks that a table keeps the keys, columns and aggregates that it was first applied
    /// with; only new columns may be added at the end. Rows and summaries with the old columns
    /// may exist already. Returns whether its definition is stored as it is.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when the definition changed in another way.
    pub async fn check_table(&self, wanted: &TableDef) -> Result<bool> {
        if self.was_removed(&wanted.name).await? {
            return Err(Error::invalid(format!(
                "table `{}` was dropped, and its name is not used again: give the group a version that was \
                 not used yet",
                wanted.name
            )));
        }
        let Some(stored) = self.tables.stored_definition(&wanted.name).await? else {
            return Ok(false);
        };
        let kept = stored.keys.len() + stored.columns.len();
        let columns = |table: &TableDef| -> Vec<(String, DataType)> {
            let fields = table.keys.iter().chain(&table.columns).take(kept);
            fields
                .map(|field| (field.name.clone(), field.data_type.clone()))
                .collect()
        };
        if stored.aggregates == wanted.aggregates && columns(&stored) == columns(wanted) {
            return Ok(stored == *wanted);
        }
        Err(Error::invalid(format!(
            "table `{}` was applied with other columns or aggregates before, and may have rows; \
             give the group a version that was not used yet",
            wanted.name
        )))
    }

    /// Returns the tables of new group versions that would replace versions with rows, and are
    /// not filled yet.
    ///
    /// # Errors
    /// Returns the errors of the stores.
    pub async fn to_fill(&self, wanted: &Definitions) -> Result<Vec<String>> {
        let live = self.context.definitions();
        let mut tables = Vec::new();
        for (name, group) in &wanted.groups {
            let Some(stored) = live.groups.get(name) else {
                continue;
            };
            if stored.version != group.version
                && self
                    .context
                    .components()
                    .stores
                    .offline
                    .info(&stored.table())
                    .await?
                    .rows
                    > 0
                && !self.is_filled(&group.table()).await?
            {
                tables.push(group.table());
            }
        }
        Ok(tables)
    }

    /// Returns the tables of versions of groups that may be live, and whose rows would no longer be
    /// served, if it is not known which versions are live: those with rows of other versions than
    /// the wanted ones, unless the wanted one is recorded as filled.
    ///
    /// # Errors
    /// Returns the errors of the stores.
    pub async fn may_be_live(&self, wanted: &Definitions) -> Result<Vec<String>> {
        let known = self.tables.known_tables().await?;
        let mut tables = Vec::new();
        for group in wanted.groups.values() {
            let prefix = format!("{}_v", group.name);
            let version_of = |table: &str| table.strip_prefix(&prefix)?.parse::<u32>().ok();
            let others = known
                .iter()
                .map(|table| &table.name)
                .filter(|table| version_of(table).is_some_and(|version| version != group.version));
            let others: Vec<&String> = others.collect();
            if others.is_empty() || self.is_filled(&group.table()).await? {
                continue;
            }
            for table in others {
                if !self.was_removed(table).await? && self.has_rows(table).await? {
                    tables.push(table.clone());
                }
            }
        }
        Ok(tables)
    }

    async fn has_rows(&self, table: &str) -> Result<bool> {
        let offline = &self.context.components().stores.offline;
        match offline.info(table).await {
            Err(e) if e.kind() == Kind::NotFound => Ok(false),
            info => Ok(info?.rows > 0),
        }
    }

    /// Returns the span of event times in the live table of each group that gets another
    /// version, by the name of the new version's table.
    ///
    /// # Errors
    /// Returns the errors of the stores.
    pub async fn spans(&self, wanted: &Definitions) -> Result<BTreeMap<String, Interval>> {
        self.tables.flush_all().await?;
        let live = self.context.definitions();
        let mut spans = BTreeMap::new();
        for (name, group) in &wanted.groups {
            let other = live
                .groups
                .get(name)
                .filter(|live| live.version != group.version);
            let Some(live) = other else {
                continue;
            };
            let offline = &self.context.components().stores.offline;
            let snapshot = offline.snapshot(&live.table(), AsOf::Latest).await?;
            let times = snapshot.files().iter().filter_map(|file| file.events);
            if let Some((from, last)) = times.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) {
                let to = last.plus(Duration::MICROSECOND);
                spans.insert(group.table(), Interval { from, to });
            }
        }
        Ok(spans)
    }

    /// Returns the first span of event times that a staged table has yet to be filled for.
    pub(crate) async fn first_missing(&self, table: &str) -> Result<Option<Interval>> {
        let Some(span) = self.context.applied().pointer.spans.get(table).copied() else {
            return Ok(None);
        };
        let mut done: Vec<Interval> = self
            .claims(table)
            .await?
            .into_iter()
            .filter(|run| run.state == RunState::Succeeded)
            .map(|run| run.interval)
            .collect();
        done.sort_by_key(|interval| interval.from);
        Ok(first_gap(span, &done))
    }

    /// Returns whether a staged table was recorded as filled.
    async fn is_filled(&self, table: &str) -> Result<bool> {
        let name = filled_name(table);
        Ok(self.context.object::<IgnoredAny>(&name).await?.is_some())
    }

    /// Records that a staged table is filled, and makes the staged definitions live when all
    /// staged tables are. Returns whether they became live.
    pub(crate) async fn record_filled(&self, table: &str) -> Result<bool> {
        self.context
            .put_object(&filled_name(table), &json!({}), Expect::Anything)
            .await?;
        self.context.refresh().await?;
        let applied = self.context.applied();
        let (Some(staged), Some(generation)) = (&applied.staged, applied.pointer.staged) else {
            return Ok(false);
        };
        if !self.to_fill(staged).await?.is_empty() {
            return Ok(false);
        }
        let pointer = Pointer {
            live: generation,
            ..Pointer::default()
        };
        self.context.point(pointer, &applied).await?;
        Ok(true)
    }
}

/// Returns the name of the object that records that a staged table is filled.
fn filled_name(table: &str) -> String {
    format!("filled/{table}")
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
mod tests {
    use wafer_core::Timestamp;

    use super::*;

    #[test]
    fn first_gap_is_the_first_uncovered_part() {
        let interval = |from, to| Interval {
            from: Timestamp::from_micros(from),
            to: Timestamp::from_micros(to),
        };
        for (done, wanted) in [
            (&[][..], Some((10, 20))),
            (&[(0, 30)], None),
            (&[(10, 20)], None),
            (&[(0, 12), (12, 20)], None),
            (&[(0, 12), (13, 20)], Some((12, 13))),
            (&[(11, 20)], Some((10, 11))),
            (&[(0, 19)], Some((19, 20))),
            (&[(0, 5), (30, 40)], Some((10, 20))),
            (&[(5, 15), (6, 8), (15, 25)], None),
        ] {
            let done: Vec<Interval> = done.iter().map(|(a, b)| interval(*a, *b)).collect();
            let wanted = wanted.map(|(from, to)| interval(from, to));
            assert_eq!(first_gap(interval(10, 20), &done), wanted, "{done:?}");
        }
    }
}
