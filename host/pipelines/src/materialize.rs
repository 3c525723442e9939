//! Materializes groups: rebuilds the online rows of a group from its offline table.
//!
//! A materialization reads the offline table and the rows that are still in the outbox, and
//! replaces the group's online rows atomically. It holds the lease of the outbox, so that no rows
//! move meanwhile. Rows of the outbox that the table has already are recognized by their sequence
//! numbers. Runs that replace what an interval had, and backfills, update the online store in this
//! way.

use std::sync::Arc;

use futures::TryStreamExt as _;
use wafer_catalog::{Context, PipelineDef, blocking, get};
use wafer_core::rules::Interval;
use wafer_core::{ColumnBuilder, decode_row, entity_key};
use wafer_store::{AsOf, EarlyWrite, Error, FromOutbox, GroupContent, Kind, OutboxRow, Result};
use wafer_tables::{Deleted, StoredRows, Tables};

use crate::group_rows::{OnlineRows, Standing, Target};
use crate::run::lease::run_lease;

/// The report of a materialization.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Materialized {
    /// The number of offline rows that were read.
    pub rows: u64,
    /// The number of entities that have values online now.
    pub entities: u64,
}

/// Rebuilds the online rows of groups.
#[derive(Clone, Debug)]
pub struct Materializer {
    context: Arc<Context>,
    tables: Arc<Tables>,
}

impl Materializer {
    pub(crate) fn new(context: Arc<Context>, tables: Arc<Tables>) -> Self {
        Self { context, tables }
    }

    /// Rebuilds the online rows of a live group from its offline table and from the rows that
    /// are still in the outbox, and replaces them at once.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] for an unknown group, [`Kind::Conflict`] when the group's
    /// pipeline is being run, and the errors of the stores.
    pub async fn materialize_group(&self, group: &str) -> Result<Materialized> {
        let definitions = self.context.definitions();
        let target = get(&definitions.groups, group, "feature group")?.clone();
        let target = Target::of(&self.context, target, &*self.tables.deletions().await?);
        let writes = |(_, pipeline): &(&String, &PipelineDef)| pipeline.group == group;
        let pipeline = definitions.pipelines.iter().find(writes);
        let (pipeline, _) = pipeline.expect("every group is written by a pipeline");
        // A run writes its committed rows to the online store, which must not happen while the
        // online rows are rebuilt.
        let lease = run_lease(&self.context, pipeline).await?;
        lease.during(self.materialize(&Arc::new(target))).await
    }

    /// Rebuilds the online rows of a group. The caller must hold the lease of its pipeline.
    pub(crate) async fn materialize(&self, target: &Arc<Target>) -> Result<Materialized> {
        // Rows move from the outbox to the table only under this lease. A flush that died may have
        // left rows in both; `outbox_after` excludes them from the outbox.
        let lease = self.context.renewed(self.tables.outbox_lease().await?);
        lease.during(self.materialize_current(target)).await
    }

    /// Rebuilds the online rows, and repeats this if an entity was deleted in the meantime,
    /// because its rows may have been read already.
    async fn materialize_current(&self, target: &Arc<Target>) -> Result<Materialized> {
        loop {
            let deletions = self.tables.deletions().await?;
            let deleted = deletions.of(&target.table);
            let done = self.materialize_once(target, &deleted).await?;
            if self.tables.deletions().await?.version() == deletions.version() {
                return Ok(done);
            }
        }
    }

    /// Rebuilds the online rows once, without the rows of deleted entities.
    async fn materialize_once(
        &self,
        target: &Arc<Target>,
        deleted: &Deleted,
    ) -> Result<Materialized> {
        let table = &target.table.name;
        let offline = &self.context.components().stores.offline;
        let flushed = offline
            .txn_version(table, &self.tables.outbox_app_id())
            .await?;
        let snapshot = offline.snapshot(table, AsOf::Latest).await?;
        // The new content is for everybody, whatever the clock of this process says.
        let now = self.context.due_until();
        let (sender, mut receiver) = tokio::sync::mpsc::channel(8);
        let gathering = {
            let target = Arc::clone(target);
            blocking(move || {
                let mut gathered = OnlineRows::new(&target, now);
                while let Some(batch) = receiver.blocking_recv() {
                    gathered.add(&StoredRows::new(&target.table, &batch)?)?;
                }
                Ok::<_, Error>(gathered.finish())
            })
        };
        let columns = snapshot.columns();
        let mut batches = snapshot.read_all(snapshot.files().to_vec(), columns, Interval::ALL);
        let reading = async {
            let mut rows = 0;
            while let Some(batch) = batches.try_next().await? {
                let batch = deleted.without(&target.table, batch)?;
                rows += batch.num_rows() as u64;
                if sender.send(batch).await.is_err() {
                    break;
                }
            }
            drop(sender);
            Ok::<_, Error>(rows)
        };
        let (gathered, rows) = tokio::join!(gathering, reading);
        let (rows, (writes, early)) = (rows?, gathered??);
        let entities = writes.len() as u64;
        let content = GroupContent {
            rows: writes,
            early,
            outbox_after: flushed.map_or(0, |last| u64::try_from(last).unwrap_or(0)),
            from_outbox: from_outbox(Arc::clone(target)),
            now,
        };
        self.context
            .components()
            .stores
            .online
            .replace_group(table, content)
            .await?;
        Ok(Materialized { rows, entities })
    }
}

/// Returns a function that turns rows of a group's outbox into online writes.
fn from_outbox(target: Arc<Target>) -> FromOutbox {
    Arc::new(move |row: &OutboxRow| target.outbox_write(row))
}

impl Target {
    /// Turns a row of the outbox into an online write.
    fn outbox_write(&self, row: &OutboxRow) -> Result<EarlyWrite> {
        let fields = self.table.keys.iter().chain(&self.table.columns);
        let mut builders: Vec<_> = fields
            .map(|f| ColumnBuilder::new(&f.data_type, 1))
            .collect();
        let message = || format!("cannot decode a row of the outbox of `{}`", self.table.name);
        decode_row(&row.values, &mut builders)
            .map_err(|e| Error::caused(Kind::Corrupt, message(), e))?;
        let mut keys: Vec<_> = builders.iter_mut().map(ColumnBuilder::finish).collect();
        let columns = keys.split_off(self.table.keys.len());
        let entity =
            entity_key(&keys, 0).map_err(|e| Error::caused(Kind::Corrupt, message(), e))?;
        let standing = Standing::new(row.event, row.created, row.order, &row.event_id);
        Ok(EarlyWrite {
            due: row.event.max(row.available),
            write: self.first_row_write(entity, &columns, standing),
        })
    }
}
