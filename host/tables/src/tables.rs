//! Definitions and snapshots of the project's tables, and its deletions.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use wafer_catalog::{Recipe, TableDef, meant};
use wafer_store::{AsOf, Error, Expect, Kind, Result, TableSnapshot};

use crate::deletions::Deletions;
use crate::service::Tables;

impl Tables {
    /// Returns the definition of a table, whose group or source is applied now or was once.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] for a table that was never applied, and the errors of the
    /// metadata store.
    pub async fn table_definition(&self, table: &str) -> Result<TableDef> {
        match self.stored_definition(table).await? {
            Some(stored) => Ok(stored),
            None => Err(self.unknown_table(table).await?),
        }
    }

    /// Returns the definition of a table, or `None` if the table was never applied.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn stored_definition(&self, table: &str) -> Result<Option<TableDef>> {
        let stored = self.context.object(&format!("table/{table}")).await?;
        Ok(stored.map(|(stored, _)| stored))
    }

    /// Makes the error for a table that was never applied, which suggests a similar name.
    async fn unknown_table(&self, table: &str) -> Result<Error> {
        let known = self.known_tables().await?;
        let known = known.iter().map(|table| table.name.as_str());
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
    /// Returns the errors of the metadata store.
    pub async fn known_tables(&self) -> Result<Vec<TableDef>> {
        let tables = self.context.objects("table").await?;
        Ok(tables.into_iter().map(|(_, table)| table).collect())
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
