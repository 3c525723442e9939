//! The context that all services share: stores, sandbox, clocks, the applied definitions and
//! the loaded functions.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock};

use wafer_core::{Clock, Digest, Timestamp};
use wafer_runtime::{Function, Guests, Runtime};
use wafer_store::{
    ArtifactStore, Error, Expect, Kind, MetadataStore, OfflineTables, OnlineStore, RemoteFiles,
    Result,
};

use crate::definitions::{Definitions, FunctionDef};
use crate::generations::{self, Applied};
use crate::names::get;

/// The parts that a [`Context`] is made of. The composition root decides which backend each is.
#[derive(Clone, Debug)]
pub struct Components {
    /// The online store: latest rows, and the outbox of rows on their way to the tables.
    pub online: Arc<dyn OnlineStore>,
    /// The metadata store: definitions, records, leases.
    pub metadata: Arc<dyn MetadataStore>,
    /// The artifact store: components, assets and compiled code.
    pub artifacts: Arc<dyn ArtifactStore>,
    /// The offline tables: all rows.
    pub offline: OfflineTables,
    /// Source files that are not on this machine.
    pub remote: Arc<dyn RemoteFiles>,
    /// The sandbox.
    pub runtime: Runtime,
    /// Threads for guest code inside requests.
    pub guests: Guests,
    /// Threads for guest code on events, which may take longer than a request.
    pub event_guests: Guests,
    /// The clock that requests, events and schedules go by. It may be set to a past that is
    /// lived through.
    pub clock: Arc<dyn Clock>,
    /// The machine's clock, which leases go by.
    pub machine_clock: Arc<dyn Clock>,
    /// The name of this process among others: `HOST/PROCESS`.
    pub holder: String,
}

/// What all services of a project share. It is read mostly: only applied definitions and loaded
/// functions change.
#[derive(Debug)]
pub struct Context {
    project: String,
    /// The id of the online store, which is part of the identity of what is flushed from it.
    store_id: String,
    components: Components,
    applied: RwLock<Arc<Applied>>,
    functions: RwLock<HashMap<(String, Digest), LoadedFunction>>,
    claims: ClaimNumbers,
}

/// Numbers the leases that a process claims: each claim has a holder of its own, so that two
/// tasks of one process exclude one another.
#[derive(Debug, Default)]
pub(crate) struct ClaimNumbers(pub(crate) AtomicU64);

#[derive(Debug)]
struct LoadedFunction {
    definition: FunctionDef,
    function: Function,
}

impl Context {
    /// Opens a project by reading the definitions that were applied to it.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn open(project: &str, components: Components) -> Result<Self> {
        let applied = generations::read(components.metadata.as_ref(), project).await?;
        Ok(Self {
            project: project.to_owned(),
            store_id: store_id(project, &components).await?,
            components,
            applied: RwLock::new(Arc::new(applied)),
            functions: RwLock::default(),
            claims: ClaimNumbers::default(),
        })
    }

    /// The name of the project.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// The id of the online store. Another store, as after a loss, has another id.
    pub fn store_id(&self) -> &str {
        &self.store_id
    }

    /// The parts that this context is made of.
    pub fn components(&self) -> &Components {
        &self.components
    }

    /// The numbers of the leases that this process claimed.
    pub(crate) fn claims(&self) -> &ClaimNumbers {
        &self.claims
    }

    /// The live and the staged definitions, as last read. The same `Arc` means the same
    /// definitions, so caches compare it by pointer.
    pub fn applied(&self) -> Arc<Applied> {
        Arc::clone(&self.applied.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The live definitions, as last read.
    pub fn definitions(&self) -> Arc<Definitions> {
        Arc::clone(&self.applied().live)
    }

    /// The staged definitions, as last read: they become live when their new group versions
    /// are filled.
    pub fn staged(&self) -> Option<Arc<Definitions>> {
        self.applied().staged.clone()
    }

    /// Reads the applied definitions again if any process has applied others since; returns
    /// whether they changed.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn refresh(&self) -> Result<bool> {
        let metadata = self.components.metadata.as_ref();
        if generations::is_current(metadata, &self.project, &self.applied()).await? {
            return Ok(false);
        }
        self.replace_applied(generations::read(metadata, &self.project).await?);
        Ok(true)
    }

    pub(crate) fn replace_applied(&self, applied: Applied) {
        let mut present = self.applied.write().unwrap_or_else(PoisonError::into_inner);
        *present = Arc::new(applied);
    }

    /// The present, by the clock that requests, events and schedules go by.
    pub fn now(&self) -> Timestamp {
        self.components.clock.now()
    }

    /// The present, by the machine's clock.
    pub fn machine_now(&self) -> Timestamp {
        self.components.machine_clock.now()
    }

    /// Loads a function of the live definitions. The first time takes as long as mapping its
    /// code, or compiling it where there is none.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when no such function was applied.
    pub fn function(&self, name: &str) -> Result<Function> {
        self.function_of(&self.definitions(), name)
    }

    /// Loads a function of some definitions.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when they have no such function.
    pub fn function_of(&self, definitions: &Definitions, name: &str) -> Result<Function> {
        self.load_function(name, get(&definitions.functions, name, "function")?)
    }

    /// Loads a function by its definition, or takes it from the cache.
    ///
    /// # Errors
    /// Returns [`Kind::Function`] when its code cannot be made or mapped, and the errors of the
    /// artifact store.
    pub fn load_function(&self, name: &str, definition: &FunctionDef) -> Result<Function> {
        // One name may have a live version, a staged one and those of old training sets.
        let key = (name.to_owned(), definition.registered.digest);
        let functions = self.functions.read();
        let functions = functions.unwrap_or_else(PoisonError::into_inner);
        let loaded = functions.get(&key);
        if let Some(loaded) = loaded.filter(|loaded| loaded.definition == *definition) {
            return Ok(loaded.function.clone());
        }
        drop(functions);
        // It may have to be compiled: other tasks of this thread go on meanwhile.
        let function = tokio::task::block_in_place(|| {
            let artifacts = self.components.artifacts.as_ref();
            let FunctionDef {
                registered, limits, ..
            } = definition;
            self.components
                .runtime
                .load(name, registered, limits, artifacts)
        })?;
        let loaded = LoadedFunction {
            definition: definition.clone(),
            function: function.clone(),
        };
        let functions = self.functions.write();
        functions
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, loaded);
        Ok(function)
    }
}

/// Reads the id of the online store. The first process that opens the store gives it one.
async fn store_id(project: &str, components: &Components) -> Result<String> {
    let Components {
        metadata,
        machine_clock,
        holder,
        ..
    } = components;
    let name = format!("{project}/store_id");
    if metadata.get(&name).await?.is_none() {
        let id = Digest::of(format!("{holder} {}", machine_clock.now()).as_bytes()).short();
        match metadata.put(&name, id.into(), Expect::Absent).await {
            // Another process opened the store at the same time; its id counts.
            Err(e) if e.kind() == Kind::Conflict => {}
            other => drop(other?),
        }
    }
    let stored = metadata.get(&name).await?;
    let id = stored.and_then(|stored| String::from_utf8(stored.value.to_vec()).ok());
    id.ok_or_else(|| {
        let message = format!("stored object `{name}` cannot be read");
        Error::new(Kind::Internal, message)
    })
}
