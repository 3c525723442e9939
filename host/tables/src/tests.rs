//! A project on stores in memory, for the tests of this crate. Its Delta tables are in a temporary
//! folder.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tempfile::TempDir;
use wafer_catalog::{Components, Context, Definitions, Pointer, TableDef};
use wafer_core::{Clock, DataType, Duration, Field, Timestamp};
use wafer_runtime::{Guests, Runtime, RuntimeConfig};
use wafer_store::{ArtifactFolder, MemoryStore, OfflineTables, Outbox, Stores, UnreachableFiles};

use crate::Tables;

/// A clock that stands still until a test advances it.
#[derive(Debug, Default)]
pub(crate) struct ManualClock(AtomicI64);

impl ManualClock {
    pub(crate) fn advance(&self, duration: Duration) {
        self.0.fetch_add(duration.as_micros(), Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::Relaxed))
    }
}

/// The stores and the clock that all processes of a project share.
pub(crate) struct Project {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) clock: Arc<ManualClock>,
    folder: Arc<TempDir>,
}

impl Project {
    pub(crate) fn new() -> Self {
        Self {
            store: Arc::default(),
            clock: Arc::default(),
            folder: Arc::new(tempfile::tempdir().unwrap()),
        }
    }

    /// Returns the project as it is after its online store was lost: the tables are still there.
    pub(crate) fn with_lost_store(&self) -> Self {
        Self {
            store: Arc::default(),
            clock: Arc::clone(&self.clock),
            folder: Arc::clone(&self.folder),
        }
    }

    /// Opens the project as a process of this name does.
    pub(crate) async fn open(&self, process: &str) -> Tables {
        let outbox = Arc::<MemoryStore>::clone(&self.store);
        self.open_with(process, outbox).await
    }

    /// Opens the project as a process of this name does, with another way to the outbox. The first
    /// one applies definitions, before there are tables.
    pub(crate) async fn open_with(&self, process: &str, outbox: Arc<dyn Outbox>) -> Tables {
        let artifacts = ArtifactFolder::open(self.folder.path().join("artifacts")).unwrap();
        let offline = OfflineTables::in_folder(&self.folder.path().join("offline")).unwrap();
        let stores = Stores::new(Arc::clone(&self.store), Arc::new(artifacts), offline);
        let config = RuntimeConfig {
            instances: 1,
            ..RuntimeConfig::default()
        };
        let components = Components {
            stores: Stores { outbox, ..stores },
            remote: Arc::new(UnreachableFiles {
                form: "s3://BUCKET/FOLDER",
                reason: "this is a test".to_owned(),
            }),
            runtime: Runtime::new(config).unwrap(),
            guests: Guests::new(1, 1),
            event_guests: Guests::new(1, 1),
            clock: Arc::<ManualClock>::clone(&self.clock),
            machine_clock: Arc::<ManualClock>::clone(&self.clock),
            holder: format!("{process}/{}", std::process::id()),
        };
        let context = Context::open("p", components).await.unwrap();
        let applied = context.applied();
        if applied.pointer == Pointer::default() {
            let live = context.write_generation(&Definitions::default()).await;
            let pointer = Pointer {
                live: live.unwrap(),
                ..Pointer::default()
            };
            context.point(pointer, &applied).await.unwrap();
        }
        Tables::new(Arc::new(context))
    }
}

/// Returns the definition of a table of planes with one feature.
pub(crate) fn planes(name: &str) -> TableDef {
    TableDef {
        name: name.to_owned(),
        entity: "plane".to_owned(),
        keys: vec![Field::new("tailnum", DataType::Utf8, false)],
        columns: vec![Field::new("delay", DataType::Int64, true)],
        aggregates: Vec::new(),
        subjects: Vec::new(),
    }
}
