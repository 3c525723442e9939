//! Dropping: removing tables that nothing uses any more, such as those of versions of groups that
//! were replaced.
//!
//! A table is in use when definitions that are live or staged write or read it, when a training set
//! pins one of its versions, or when an endpoint answers with it, or would after a rollback.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use wafer_catalog::{Definitions, Recipe, TrainingSet, nearest};
use wafer_pipelines::{TableStatus, written_tables};
use wafer_store::{Error, Kind, Result};

use crate::Platform;

/// A table, with what uses it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableUse {
    /// The name of the table.
    pub table: String,
    /// The number of its rows.
    pub rows: u64,
    /// The size of its files in bytes.
    pub bytes: u64,
    /// What uses it. If there is nothing, it can be dropped.
    pub used_by: Vec<String>,
}

/// A table that was dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DroppedTable {
    /// The name of the table.
    pub table: String,
    /// The number of rows that it had.
    pub rows: u64,
}

/// What uses each table, by its name.
type Uses = BTreeMap<String, Vec<String>>;

impl Platform {
    /// Returns all tables with what uses them.
    ///
    /// # Errors
    /// Returns the errors of the stores.
    pub async fn table_uses(&self) -> Result<Vec<TableUse>> {
        self.context.refresh().await?;
        let sizes = self.pipelines.upkeep().tables().await?;
        let sizes: BTreeMap<&str, &TableStatus> = sizes
            .iter()
            .map(|table| (table.table.as_str(), table))
            .collect();
        let mut uses = self.uses().await?;
        let tables = self.tables.known_tables().await?;
        let table = |table: wafer_catalog::TableDef| {
            let size = sizes.get(table.name.as_str());
            TableUse {
                rows: size.map_or(0, |size| size.rows),
                bytes: size.map_or(0, |size| size.bytes),
                used_by: uses.remove(&table.name).unwrap_or_default(),
                table: table.name,
            }
        };
        Ok(tables.into_iter().map(table).collect())
    }

    /// Drops tables: their rows online, and their offline tables with all versions. Nothing is
    /// dropped if one of them is in use.
    ///
    /// A name of a table stands for that table, and `GROUP@VERSION` for all tables of a version of
    /// a group.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] for an unknown table, and [`Kind::Conflict`] when a table is in
    /// use; the message says by what.
    pub async fn drop_tables(&self, names: &[String]) -> Result<Vec<DroppedTable>> {
        if self.unused(names).await?.is_empty() {
            return Ok(Vec::new());
        }
        // A process that has not learned yet that they are not used any more may write them. While
        // this is waited for, somebody may use them again.
        self.pipelines.staging().settle_events().await?;
        let mut dropped = Vec::new();
        for table in self.unused(names).await? {
            self.pipelines.upkeep().remove_table(&table.table).await?;
            dropped.push(DroppedTable {
                table: table.table,
                rows: table.rows,
            });
        }
        Ok(dropped)
    }

    /// Returns the tables that names stand for, in their order, after a check that nothing uses
    /// them.
    async fn unused(&self, names: &[String]) -> Result<Vec<TableUse>> {
        let known = self.table_uses().await?;
        let mut wanted: BTreeMap<&str, &TableUse> = BTreeMap::new();
        for name in names {
            for table in named(&known, name)? {
                wanted.insert(&table.table, table);
            }
        }
        let used = wanted.values().filter(|table| !table.used_by.is_empty());
        let used: Vec<String> = used
            .map(|table| format!("`{}` is used by {}", table.table, table.used_by.join(", ")))
            .collect();
        if !used.is_empty() {
            let message = format!("nothing was dropped: {}", used.join("; "));
            return Err(Error::new(Kind::Conflict, message));
        }
        Ok(wanted.into_values().cloned().collect())
    }

    async fn uses(&self) -> Result<Uses> {
        let mut uses = Uses::new();
        let applied = self.context.applied();
        add_definitions(&mut uses, &applied.live, "the live definitions");
        if let Some(staged) = &applied.staged {
            add_definitions(&mut uses, staged, "the staged definitions");
        }
        let mut recorded = BTreeSet::new();
        for set in TrainingSet::read_all(&self.context).await? {
            for table in set.versions.keys() {
                add(&mut uses, table, format!("training set {}", set.id));
                recorded.insert(table.clone());
            }
        }
        for table in self.tables.pinned().await?.into_keys() {
            if !recorded.contains(&table) {
                add(
                    &mut uses,
                    &table,
                    "a training set that is being made".to_owned(),
                );
            }
        }
        self.add_endpoints(&mut uses).await?;
        Ok(uses)
    }

    /// Adds what endpoints look up, now and after a rollback, and what they log to.
    async fn add_endpoints(&self, uses: &mut Uses) -> Result<()> {
        let endpoints = self.serving.endpoints().await?;
        for (name, endpoint) in &endpoints {
            let before = endpoint.history.last().map(|(_, routing)| routing);
            let routings = std::iter::once(&endpoint.routing).chain(before);
            let releases: BTreeSet<&str> = routings
                .flat_map(|r| r.releases().map(String::as_str))
                .collect();
            for release in releases {
                let bound = self.registry.release(release).await?;
                let recipe = Recipe::read(&self.context, &bound.view, &bound.view_version).await?;
                for group in recipe.groups.values() {
                    add(uses, &group.table(), format!("endpoint `{name}`"));
                }
            }
        }
        for table in self.tables.known_tables().await? {
            let endpoint = table
                .name
                .rsplit_once("_log_")
                .map(|(endpoint, _)| endpoint);
            if let Some(endpoint) = endpoint.filter(|name| endpoints.contains_key(*name))
                && table.keys.is_empty()
            {
                add(uses, &table.name, format!("endpoint `{endpoint}`"));
            }
        }
        Ok(())
    }
}

/// Adds the tables that definitions write.
fn add_definitions(uses: &mut Uses, definitions: &Definitions, user: &str) {
    for written in written_tables(definitions) {
        add(uses, &written.table.name, user.to_owned());
    }
}

/// Adds a user of a table, unless it is known.
fn add(uses: &mut Uses, table: &str, user: String) {
    let users = uses.entry(table.to_owned()).or_default();
    if !users.contains(&user) {
        users.push(user);
    }
}

/// Returns the tables that a name stands for.
fn named<'a>(known: &'a [TableUse], name: &str) -> Result<Vec<&'a TableUse>> {
    let version = name.split_once('@');
    let version = version.map(|(group, version)| format!("{group}_v{version}"));
    let is_named = |table: &&TableUse| match &version {
        None => table.table == name,
        Some(version) => {
            let rest = table.table.strip_prefix(version.as_str());
            rest.is_some_and(|rest| ["", "_late", "_quarantine"].contains(&rest))
        }
    };
    let tables: Vec<&TableUse> = known.iter().filter(is_named).collect();
    if !tables.is_empty() {
        return Ok(tables);
    }
    let names = known.iter().map(|table| table.table.as_str());
    let hint = nearest(version.as_deref().unwrap_or(name), names);
    let hint = hint.map_or_else(
        || "; see `wafer drop`".to_owned(),
        |nearest| format!("; did you mean `{nearest}`?"),
    );
    let message = match version {
        None => format!("there is no table `{name}`{hint}"),
        Some(_) => format!("there is no version of a group `{name}`{hint}"),
    };
    Err(Error::new(Kind::NotFound, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_named_alone_or_by_the_version_of_their_group() {
        let table = |name: &str| TableUse {
            table: name.to_owned(),
            rows: 0,
            bytes: 0,
            used_by: Vec::new(),
        };
        let known = [
            "rides_v1",
            "rides_v10",
            "rides_v1_late",
            "rides_v1_quarantine",
            "other_v1",
        ];
        let known = known.map(table);
        for (name, wanted) in [
            ("rides_v1", Ok(&["rides_v1"][..])),
            ("rides_v10", Ok(&["rides_v10"])),
            (
                "rides@1",
                Ok(&["rides_v1", "rides_v1_late", "rides_v1_quarantine"]),
            ),
            ("rides@10", Ok(&["rides_v10"])),
            ("rides@2", Err("there is no version of a group `rides@2`")),
            ("ride_v1", Err("did you mean `rides_v1`?")),
            ("zzzzzzzzz", Err("see `wafer drop`")),
        ] {
            match (named(&known, name), wanted) {
                (Ok(found), Ok(wanted)) => {
                    let found: Vec<&str> = found.iter().map(|t| t.table.as_str()).collect();
                    assert_eq!(found, wanted, "{name}");
                }
                (Err(found), Err(wanted)) => {
                    assert!(found.to_string().contains(wanted), "{found}");
                }
                (found, wanted) => panic!("{name}: {found:?}, not {wanted:?}"),
            }
        }
    }
}
