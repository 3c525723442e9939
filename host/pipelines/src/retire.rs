//! Removes tables that nothing uses any more, with their rows online.
//!
//! Whoever calls this has made sure that no definitions write the table and nothing reads it. The
//! name of a group version is not used again: the numbers of its outbox go on, and a version that
//! was trained on must not mean other rows later.

use std::sync::Arc;

use serde_json::{Value as Json, json};
use wafer_catalog::{Context, TableDef};
use wafer_store::{EarlyWrite, Error, Expect, GroupContent, Kind, OutboxRow, Result};

use crate::upkeep::TableUpkeep;

impl TableUpkeep {
    /// Removes a table: its rows online, its offline table with all versions, and its definition. A
    /// removal that was interrupted can be repeated.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] for an unknown table, [`Kind::Conflict`] when rows are still on
    /// their way to it, and the errors of the stores.
    pub async fn remove_table(&self, name: &str) -> Result<()> {
        let table = self.tables.table_definition(name).await?;
        self.tables.flush_all().await?;
        // Rows move from the outbox to tables only under this lease.
        let lease = self.context.renewed(self.tables.outbox_lease().await?);
        let removed = self.remove_flushed(&table).await;
        lease.end().await;
        removed
    }

    async fn remove_flushed(&self, table: &TableDef) -> Result<()> {
        let name = &table.name;
        let stores = &self.context.components().stores;
        if !stores.outbox.read(name, 1).await?.is_empty() {
            let message =
                format!("rows are on their way to table `{name}`: something still writes it");
            return Err(Error::new(Kind::Conflict, message));
        }
        if has_online_rows(table) {
            let dropped = json!({ "at": self.context.machine_now() });
            let marker = dropped_name(name);
            self.context
                .put_object(&marker, &dropped, Expect::Anything)
                .await?;
            self.remove_online(name).await?;
        }
        stores.offline.remove(name).await?;
        self.filled.forget(name).await?;
        self.context.remove_object(&format!("table/{name}")).await
    }

    /// Removes the online rows of a table. It is done already if there is no offline table.
    async fn remove_online(&self, name: &str) -> Result<()> {
        let stores = &self.context.components().stores;
        let app_id = self.tables.outbox_app_id();
        let flushed = match stores.offline.txn_version(name, &app_id).await {
            Err(e) if e.kind() == Kind::NotFound => return Ok(()),
            flushed => flushed?,
        };
        let unexpected = |row: &OutboxRow| -> Result<EarlyWrite> {
            let message = format!(
                "a row of table `{}` came in while it was removed",
                row.table
            );
            Err(Error::new(Kind::Conflict, message))
        };
        let nothing = GroupContent {
            rows: Vec::new(),
            early: Vec::new(),
            outbox_after: flushed.map_or(0, |last| u64::try_from(last).unwrap_or(0)),
            from_outbox: Arc::new(unexpected),
            now: self.context.due_until(),
        };
        stores.online.replace_group(name, nothing).await
    }
}

/// Returns whether a version of a group was removed under this name.
pub(crate) async fn was_removed(context: &Context, table: &str) -> Result<bool> {
    let marker: Option<(Json, u64)> = context.object(&dropped_name(table)).await?;
    Ok(marker.is_some())
}

/// Returns whether a table has rows online: those of groups have, and no others.
fn has_online_rows(table: &TableDef) -> bool {
    !table.keys.is_empty() && !table.is_late()
}

/// Returns the name of the object that records that a table was removed.
fn dropped_name(table: &str) -> String {
    format!("dropped/{table}")
}
