//! All stores of a project.

use std::path::Path;
use std::sync::Arc;

use crate::{
    ArtifactFolder, ArtifactStore, MetadataStore, Metered, OfflineTables, OnlineStore, Outbox,
    Result, Upkeep,
};

/// All stores of a project, as a [`Backend`](crate::Backend) opens them.
#[derive(Clone, Debug)]
pub struct Stores {
    /// The online store: the newest row, or the summary, of each entity.
    pub online: Arc<dyn OnlineStore>,
    /// The outbox of the online store.
    pub outbox: Arc<dyn Outbox>,
    /// What the online store wants done from time to time.
    pub upkeep: Arc<dyn Upkeep>,
    /// What the calls of the online and of the metadata store cost.
    pub metered: Arc<dyn Metered>,
    /// Runs, leases, and the pointer to the applied definitions.
    pub metadata: Arc<dyn MetadataStore>,
    /// Components, compiled code, assets, models and definitions.
    pub artifacts: Arc<dyn ArtifactStore>,
    /// All rows, as Delta tables.
    pub offline: OfflineTables,
}

impl Stores {
    /// Puts together the stores of a backend whose online and metadata store are one.
    pub fn new<S>(store: Arc<S>, artifacts: Arc<dyn ArtifactStore>, offline: OfflineTables) -> Self
    where
        S: OnlineStore + Outbox + Upkeep + Metered + MetadataStore,
    {
        Self {
            online: Arc::<S>::clone(&store),
            outbox: Arc::<S>::clone(&store),
            upkeep: Arc::<S>::clone(&store),
            metered: Arc::<S>::clone(&store),
            metadata: store,
            artifacts,
            offline,
        }
    }

    /// Puts together the stores of a backend whose online and metadata store are one, with
    /// artifacts and offline tables in `artifacts/` and `offline/` of a folder of this machine. It
    /// creates what does not exist.
    ///
    /// # Errors
    /// Fails when a folder cannot be created.
    pub fn with_folder<S>(store: Arc<S>, objects: &Path) -> Result<Self>
    where
        S: OnlineStore + Outbox + Upkeep + Metered + MetadataStore,
    {
        let artifacts = ArtifactFolder::open(objects.join("artifacts"))?;
        let offline = OfflineTables::in_folder(&objects.join("offline"))?;
        Ok(Self::new(store, Arc::new(artifacts), offline))
    }
}
