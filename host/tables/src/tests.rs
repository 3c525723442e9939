//! A project on stores in memory, for the tests of this crate. Its Delta tables are in a temporary
//! folder.

use std::sync::Arc;

use tempfile::TempDir;
use wafer_catalog::{Components, Context, Definitions, Pointer, TableDef};
use wafer_core::{Clock as _, DataType, Duration, Field, SettableClock, Timestamp};
use wafer_store::{MemoryStore, Outbox, Stores};

use crate::Tables;

/// The stores and the clock that all processes of a project share. The clock stands still.
pub(crate) struct Project {
    pub(crate) store: Arc<MemoryStore>,
    clock: Arc<SettableClock>,
    folder: Arc<TempDir>,
}

impl Project {
    pub(crate) fn new() -> Self {
        Self {
            store: Arc::default(),
            clock: Arc::new(SettableClock::stopped_at(Timestamp::from_micros(0))),
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

    pub(crate) fn advance_clock(&self, duration: Duration) {
        let later = self.clock.now().plus(duration);
        assert_eq!(self.clock.set(later), Some(later));
    }

    /// Opens the project as a process of this name does.
    pub(crate) async fn open(&self, process: &str) -> Tables {
        let outbox = Arc::<MemoryStore>::clone(&self.store);
        self.open_with(process, outbox).await
    }

    /// Opens the project as a process of this name does, with another way to the outbox. The first
    /// one applies definitions, before there are tables.
    pub(crate) async fn open_with(&self, process: &str, outbox: Arc<dyn Outbox>) -> Tables {
        let stores = Stores::with_folder(Arc::clone(&self.store), self.folder.path()).unwrap();
        let stores = Stores { outbox, ..stores };
        let clock = Arc::clone(&self.clock);
        let components = Components::for_tests(stores, clock, process).unwrap();
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
