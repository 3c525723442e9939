//! Pins: versions of tables that a training set is being made of.
//!
//! A pin keeps compaction from removing the files of these versions. It is a metadata object
//! `training_pin/NAME`, and it counts as long as its lease of the same name is renewed. It is
//! removed when the training set is made, has failed, or was given up; the pins of processes that
//! were killed are removed by [`Tables::remove_abandoned_pins`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wafer_catalog::{Context, LEASE, RenewedLease, TrainingSet};
use wafer_core::Digest;
use wafer_store::{Error, Expect, Kind, Leased, Result};

use crate::service::Tables;

/// The kind of metadata object, and how the names of the leases begin.
const KIND: &str = "training_pin";
/// Numbers the pins of this process.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A pin, which is removed when this is dropped.
#[derive(Debug)]
pub struct Pin {
    context: Arc<Context>,
    name: String,
    /// `None` once the pin is being removed.
    lease: Option<RenewedLease>,
}

impl Tables {
    /// Pins versions of tables for a training set of a view.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn pin(&self, view: &str, versions: &BTreeMap<String, u64>) -> Result<Pin> {
        let context = &self.context;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let holder = &context.components().holder;
        let own = format!("{holder} {number} {}", context.machine_now());
        let name = format!("{KIND}/{view}-{}", Digest::of(own.as_bytes()).short());
        let Leased::Mine(lease) = context.lease(&name, LEASE).await? else {
            let message = format!("`{name}` exists already; try again");
            return Err(Error::new(Kind::Conflict, message));
        };
        let pin = Pin {
            context: Arc::clone(context),
            name,
            lease: Some(context.renewed(lease)),
        };
        context
            .put_object(&pin.name, versions, Expect::Absent)
            .await?;
        Ok(pin)
    }

    /// Removes the pins that nobody renews any more.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn remove_abandoned_pins(&self) -> Result<()> {
        let pins = self.context.objects::<BTreeMap<String, u64>>(KIND).await?;
        for (name, _) in pins {
            let name = format!("{KIND}/{name}");
            if let Leased::Mine(lease) = self.context.lease(&name, LEASE).await? {
                self.context.remove_object(&name).await?;
                let metadata = &self.context.components().stores.metadata;
                lease.release(metadata.as_ref()).await?;
            }
        }
        Ok(())
    }

    /// Returns the versions of each table that training sets were made from or are being made
    /// from. Vacuuming must keep the files of these versions.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn pinned(&self) -> Result<BTreeMap<String, Vec<u64>>> {
        let mut pinned: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        let mut add = |versions: BTreeMap<String, u64>| {
            for (table, version) in versions {
                pinned.entry(table).or_default().push(version);
            }
        };
        for set in TrainingSet::read_all(&self.context).await? {
            add(set.versions);
        }
        for (_, versions) in self.context.objects(KIND).await? {
            add(versions);
        }
        for versions in pinned.values_mut() {
            versions.sort_unstable();
            versions.dedup();
        }
        Ok(pinned)
    }
}

impl Pin {
    /// Removes the pin.
    ///
    /// # Errors
    /// Returns the errors of the metadata store. The pin then counts until its lease runs out.
    pub async fn remove(mut self) -> Result<()> {
        let Some(lease) = self.lease.take() else {
            return Ok(());
        };
        remove(&self.context, &self.name, lease).await
    }
}

async fn remove(context: &Context, name: &str, lease: RenewedLease) -> Result<()> {
    let removed = context.remove_object(name).await;
    lease.end().await;
    removed
}

impl Drop for Pin {
    fn drop(&mut self) {
        // Without a Tokio runtime the process is ending, and the pin with it, once its lease has
        // run out.
        let Some((lease, runtime)) = self
            .lease
            .take()
            .zip(tokio::runtime::Handle::try_current().ok())
        else {
            return;
        };
        let (context, name) = (Arc::clone(&self.context), std::mem::take(&mut self.name));
        runtime.spawn(async move {
            if let Err(error) = remove(&context, &name, lease).await {
                tracing::warn!("`{name}` was not removed: {}", error.chain());
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Project;

    fn versions(version: u64) -> BTreeMap<String, u64> {
        BTreeMap::from([("plane_v1".to_owned(), version)])
    }

    async fn pinned(tables: &Tables) -> Vec<u64> {
        let mut pinned = tables.pinned().await.unwrap();
        pinned.remove("plane_v1").unwrap_or_default()
    }

    #[tokio::test]
    async fn versions_are_pinned_until_the_pin_is_removed_or_dropped() {
        let project = Project::new();
        let tables = project.open("one").await;
        let removed = tables.pin("delays", &versions(3)).await.unwrap();
        let dropped = tables.pin("delays", &versions(4)).await.unwrap();
        assert_eq!(pinned(&tables).await, [3, 4]);
        removed.remove().await.unwrap();
        assert_eq!(pinned(&tables).await, [4]);
        drop(dropped);
        // It is removed in the background.
        while !pinned(&tables).await.is_empty() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn pins_of_killed_processes_are_removed_when_their_leases_have_run_out() {
        let project = Project::new();
        let (killed, other) = (project.open("killed").await, project.open("other").await);
        // What a killed process leaves: a pin, and a lease that nobody renews.
        let name = format!("{KIND}/delays-1");
        let lease = killed.context.lease(&name, LEASE).await.unwrap();
        assert!(matches!(lease, Leased::Mine(_)));
        let pinned_versions = versions(3);
        let put = killed
            .context
            .put_object(&name, &pinned_versions, Expect::Absent);
        put.await.unwrap();
        other.remove_abandoned_pins().await.unwrap();
        assert_eq!(pinned(&other).await, [3]);
        project.advance_clock(LEASE);
        let used = other.pin("delays", &versions(4)).await.unwrap();
        other.remove_abandoned_pins().await.unwrap();
        assert_eq!(pinned(&other).await, [4]);
        used.remove().await.unwrap();
        assert!(pinned(&other).await.is_empty());
    }
}
