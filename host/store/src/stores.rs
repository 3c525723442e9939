//! All stores of a project.

use std::sync::Arc;

use crate::{ArtifactStore, MetadataStore, Metered, OfflineTables, OnlineStore, Outbox, Upkeep};

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
}
