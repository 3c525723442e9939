//! Definitions and snapshots of the project's tables, and its deletions.
//!
//! The definition of a table is the object `table/NAME` of the metadata store. It stays when no
//! definitions that are applied write the table any more. One that is damaged, or is that of
//! another table, is an error; `wafer apply` writes it again for the tables that applied
//! definitions write, and `wafer endpoints set` for those that an endpoint logs to.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as StdError;
use std::sync::{Arc, PoisonError};

use wafer_catalog::{Recipe, TableDef, meant};
use wafer_store::{AsOf, Error, Expect, Kind, Result, TableSnapshot, Versioned};

use crate::deletions::Deletions;
use crate::service::Tables;

impl Tables {
    /// Returns the definition of a table, whose group or source is applied now or was once.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] for a table that was never applied, [`Kind::Corrupt`] when its
    /// definition is damaged, and the errors of the metadata store.
    pub async fn table_definition(&self, table: &str) -> Result<TableDef> {
        match self.stored_definition(table).await? {
            Some(stored) => Ok(stored),
            None => Err(self.unknown_table(table).await?),
        }
    }

    /// Returns the definition of a table, or `None` if the table was never applied.
    ///
    /// # Errors
    /// Returns [`Kind::Corrupt`] when the definition is damaged, and the errors of the metadata
    /// store.
    pub async fn stored_definition(&self, table: &str) -> Result<Option<TableDef>> {
        let metadata = &self.context.components().stores.metadata;
        let stored = metadata.get(&self.definition_name(table)).await?;
        let read = stored.map(|stored| self.read_definition(table, &stored.value));
        read.transpose()
    }

    /// Returns the name of the object with the definition of a table.
    fn definition_name(&self, table: &str) -> String {
        format!("{}/table/{table}", self.context.project())
    }

    /// Decodes the stored definition of a table.
    fn read_definition(&self, table: &str, stored: &[u8]) -> Result<TableDef> {
        let read: Result<TableDef> = wafer_catalog::read(&self.definition_name(table), stored);
        let definition = read.map_err(|error| self.damaged_definition(table, error))?;
        match definition.check_stored(table) {
            Ok(()) => Ok(definition),
            Err(reason) => Err(self.damaged_definition(table, reason)),
        }
    }

    /// Makes the error for an object that should define a table, and cannot be read or does not.
    fn damaged_definition(
        &self,
        table: &str,
        reason: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Error {
        let metadata = &self.context.components().stores.metadata;
        let message = format!(
            "the definition of table `{table}`, object `{}` in {metadata}, is damaged, or is not that of the \
             table: if the project writes the table, run `wafer apply` with the project as it was applied, \
             which writes it again; if an endpoint logs to it, run `wafer endpoints set` with the routing \
             that the endpoint has; otherwise, restore the metadata store from a backup",
            self.definition_name(table)
        );
        Error::caused(Kind::Corrupt, message, reason)
    }

    /// Makes the error for a table that was never applied, which suggests a similar name.
    async fn unknown_table(&self, table: &str) -> Result<Error> {
        let known = self.known_names().await?;
        let known = known.iter().map(String::as_str);
        let message = format!(
            "there is no definition of table `{table}`: it was never applied{}",
            meant(table, known)
        );
        Ok(Error::new(Kind::NotFound, message))
    }

    /// Stores the definition of a table for ever, because rows may still be on their way to the
    /// table when nothing writes to it any more.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn keep_table(&self, table: &TableDef) -> Result<()> {
        let name = format!("table/{}", table.name);
        self.context
            .put_object(&name, table, Expect::Anything)
            .await
            .map(drop)
    }
}

impl Tables {
    /// Returns every table that was ever applied.
    ///
    /// # Errors
    /// Returns [`Kind::Corrupt`] when a definition is damaged, and the errors of the metadata
    /// store.
    pub async fn known_tables(&self) -> Result<Vec<TableDef>> {
        let stored = self.stored_definitions().await?;
        let read = stored.iter();
        read.map(|(table, stored)| self.read_definition(table, &stored.value))
            .collect()
    }

    /// Returns the names of all tables that were ever applied, also of those whose definitions are
    /// damaged.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn known_names(&self) -> Result<Vec<String>> {
        let stored = self.stored_definitions().await?.into_iter();
        Ok(stored.map(|(table, _)| table).collect())
    }

    /// Returns the names of the tables whose definitions are damaged.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn damaged_tables(&self) -> Result<BTreeSet<String>> {
        let stored = self.stored_definitions().await?.into_iter();
        let is_damaged = |(table, stored): &(String, Versioned)| {
            self.read_definition(table, &stored.value).is_err()
        };
        let damaged = stored.filter(is_damaged);
        Ok(damaged.map(|(table, _)| table).collect())
    }

    /// Returns the stored definitions of all tables, with the names of these.
    async fn stored_definitions(&self) -> Result<Vec<(String, Versioned)>> {
        let prefix = self.definition_name("");
        let metadata = &self.context.components().stores.metadata;
        let stored = metadata.list(&prefix).await?.into_iter();
        let named = stored.map(|(name, stored)| (name[prefix.len()..].to_owned(), stored));
        Ok(named.collect())
    }
}

impl Tables {
    /// Returns snapshots of the tables that a version of a view reads.
    ///
    /// # Errors
    /// Returns the errors of the stores.
    pub async fn snapshots(
        &self,
        recipe: &Recipe,
        as_of: AsOf,
    ) -> Result<BTreeMap<String, TableSnapshot>> {
        let mut snapshots = BTreeMap::new();
        for group in recipe.groups.values() {
            let table = group.table();
            let snapshot = self
                .context
                .components()
                .stores
                .offline
                .snapshot(&table, as_of)
                .await?;
            snapshots.insert(table, snapshot);
        }
        Ok(snapshots)
    }

    /// Returns snapshots of tables at the given versions.
    ///
    /// # Errors
    /// Returns the errors of the stores.
    pub async fn snapshots_of(
        &self,
        versions: &BTreeMap<String, u64>,
    ) -> Result<BTreeMap<String, TableSnapshot>> {
        let mut snapshots = BTreeMap::new();
        for (table, version) in versions {
            let as_of = AsOf::Version(*version);
            let snapshot = self
                .context
                .components()
                .stores
                .offline
                .snapshot(table, as_of)
                .await?;
            snapshots.insert(table.clone(), snapshot);
        }
        Ok(snapshots)
    }
}

impl Tables {
    /// Returns the deletions that were read last.
    pub fn known_deletions(&self) -> Arc<Deletions> {
        let known = self.deletions.read();
        Arc::clone(&known.unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the current deletions. They are read again only if there are new ones.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn deletions(&self) -> Result<Arc<Deletions>> {
        let metadata = &self.context.components().stores.metadata;
        let counter = metadata.get(&self.deletions_name()).await?;
        let version = counter.map_or(0, |counter| counter.version);
        let known = self.known_deletions();
        if known.version == version {
            return Ok(known);
        }
        let stored = self.context.objects("deletion").await?;
        let deletions = Arc::new(Deletions {
            version,
            all: stored.into_iter().map(|(_, deletion)| deletion).collect(),
        });
        let mut known = self
            .deletions
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *known = Arc::clone(&deletions);
        Ok(deletions)
    }

    /// Returns the name of the object whose version counts the deletions.
    pub fn deletions_name(&self) -> String {
        format!("{}/deletions", self.context.project())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wafer_store::MetadataStore as _;

    use super::*;
    use crate::tests::{Project, planes};

    #[tokio::test]
    async fn damaged_and_foreign_definitions_of_tables_are_errors_that_name_them() {
        let project = Project::new();
        let tables = project.open("one").await;
        for table in ["a_v1", "b_v1"] {
            tables.keep_table(&planes(table)).await.unwrap();
        }
        let known = tables.known_tables().await.unwrap();
        assert_eq!(known, [planes("a_v1"), planes("b_v1")]);
        let nothing =
            json!({"name": "b_v1", "keys": [], "columns": [{"name": "", "type": "utf8"}]});
        for (stored, wanted) in [
            ("{".to_owned(), "cannot be read"),
            (json!({}).to_string(), "missing field"),
            (json!(planes("a_v1")).to_string(), "it defines table `a_v1`"),
            (nothing.to_string(), "its columns are not valid"),
        ] {
            let put = project
                .store
                .put("p/table/b_v1", stored.into(), Expect::Anything);
            put.await.unwrap();
            let errors = [
                tables.table_definition("b_v1").await.unwrap_err(),
                tables.stored_definition("b_v1").await.unwrap_err(),
                tables.known_tables().await.unwrap_err(),
            ];
            for error in errors {
                assert_eq!(error.kind(), Kind::Corrupt);
                let said = error.chain();
                let parts = [
                    "table `b_v1`",
                    "object `p/table/b_v1` in memory",
                    "`wafer apply`",
                    "`wafer endpoints set`",
                ];
                for part in parts.into_iter().chain([wanted]) {
                    assert!(said.contains(part), "{said}");
                }
            }
            let damaged = tables.damaged_tables().await.unwrap();
            assert_eq!(damaged, BTreeSet::from(["b_v1".to_owned()]));
            // Their names are known, and others are read as before.
            assert_eq!(tables.known_names().await.unwrap(), ["a_v1", "b_v1"]);
            let unknown = tables.table_definition("c_v1").await.unwrap_err();
            assert_eq!(unknown.kind(), Kind::NotFound);
            let other = tables.table_definition("a_v1").await.unwrap();
            assert_eq!(other, planes("a_v1"));
        }
    }
}
