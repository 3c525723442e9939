//! The objects of a run in the metadata store, by which its processes share what they know.

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wafer_catalog::read;
use wafer_store::{Error, Expect, Kind, Result};

use super::DistributedRuns;

/// The number of objects that are written or removed concurrently.
pub(super) const CONCURRENT_WRITES: usize = 16;

impl DistributedRuns {
    /// Returns the folder of a run's objects in the metadata store.
    pub(super) fn folder(&self, pipeline: &str, key: &str) -> String {
        format!("{}/distributed/{pipeline}/{key}", self.context.project())
    }

    /// Removes all objects in a folder of the metadata store.
    pub(super) async fn delete_folder(&self, folder: &str) -> Result<()> {
        let metadata = &self.context.components().stores.metadata;
        let stored = metadata.list(&format!("{folder}/")).await?;
        let removed = stored
            .iter()
            .map(|(name, _)| metadata.delete(name, Expect::Anything));
        stream::iter(removed)
            .buffer_unordered(CONCURRENT_WRITES)
            .try_collect::<()>()
            .await?;
        Ok(())
    }

    /// Reads an object of a run; returns `None` if there is none.
    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        folder: &str,
        name: &str,
    ) -> Result<Option<T>> {
        let name = format!("{folder}/{name}");
        let stored = self.context.components().stores.metadata.get(&name).await?;
        stored.map(|stored| read(&name, &stored.value)).transpose()
    }

    /// Writes an object of a run.
    pub(super) async fn write<T: Serialize>(
        &self,
        name: &str,
        object: &T,
        expect: Expect,
    ) -> Result<()> {
        let json =
            Bytes::from(serde_json::to_vec(object).expect("the objects of a run are plain data"));
        let put = self
            .context
            .components()
            .stores
            .metadata
            .put(name, json, expect)
            .await;
        put.map(drop).map_err(|e| match e.kind() {
            Kind::Conflict => Error::caused(Kind::Conflict, "the object exists already", e),
            _ => e,
        })
    }
}

/// Returns the name of a partition's object. The names sort in the order of the numbers.
pub(super) fn partition_object(kind: &str, number: usize) -> String {
    format!("{kind}/{number:06}")
}
