//! The context that all services share: the stores, the sandbox, the clocks, the applied
//! definitions and the loaded functions.
//!
//! A service asks the context for the definitions and for the functions that it needs.
//! [`Context::refresh`] reads definitions that another process has applied; long-running processes
//! call it regularly. [`Context::load_function`] keeps loaded functions, so that their code is
//! mapped or compiled once in a process.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock};

use wafer_core::{Clock, Digest, Timestamp};
use wafer_runtime::{Function, Guests, Runtime};
use wafer_store::{Error, Expect, Kind, RemoteFiles, Result, Stores};

use crate::definitions::{Definitions, FunctionDef};
use crate::generations::{self, Applied};
use crate::names::get;

/// The parts that a [`Context`] is made of. The composition root decides which backend each is.
#[derive(Clone, Debug)]
pub struct Components {
    /// The stores, as a backend opened them.
    pub stores: Stores,
    /// Access to source files that are not on this machine.
    pub remote: Arc<dyn RemoteFiles>,
    /// The sandbox that functions run in.
    pub runtime: Runtime,
    /// The threads that run guest code for requests.
    pub guests: Guests,
    /// The threads that run guest code for events, which may take longer than a request.
    pub event_guests: Guests,
    /// The clock of requests, events and schedules. It may be set to a time in the past, to replay
    /// history.
    pub clock: Arc<dyn Clock>,
    /// The machine's clock, which leases use.
    pub machine_clock: Arc<dyn Clock>,
    /// The name of this process, which no other process has: `HOST/PROCESS`.
    pub holder: String,
}

/// What all services of a project share. After it is opened, only the applied definitions, the
/// cache of loaded functions and the counter of leases change.
#[derive(Debug)]
pub struct Context {
    project: String,
    /// The id of the online store. It is part of the identity of the Delta commits that flush the
    /// store's outbox.
    store_id: String,
    components: Components,
    applied: RwLock<Arc<Applied>>,
    functions: RwLock<HashMap<(String, Digest), LoadedFunction>>,
    lease_numbers: LeaseNumbers,
}

/// The counter that numbers the leases of this process. The number is part of the holder's name, so
/// that two tasks of one process exclude each other.
#[derive(Debug, Default)]
pub(crate) struct LeaseNumbers(pub(crate) AtomicU64);

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
        let applied = generations::read(components.stores.metadata.as_ref(), project).await?;
        Ok(Self {
            project: project.to_owned(),
            store_id: store_id(project, &components).await?,
            components,
            applied: RwLock::new(Arc::new(applied)),
            functions: RwLock::default(),
            lease_numbers: LeaseNumbers::default(),
        })
    }

    /// Returns the name of the project.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// Returns the id of the online store. A new store that replaces a lost one has another id.
    pub fn store_id(&self) -> &str {
        &self.store_id
    }

    /// Returns the parts that this context was made of.
    pub fn components(&self) -> &Components {
        &self.components
    }

    /// Returns the counter that numbers the leases of this process.
    pub(crate) fn lease_numbers(&self) -> &LeaseNumbers {
        &self.lease_numbers
    }

    /// Returns the live and the staged definitions, as last read. The same `Arc` means the same
    /// definitions, so caches compare it by pointer.
    pub fn applied(&self) -> Arc<Applied> {
        Arc::clone(&self.applied.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the live definitions, as last read.
    pub fn definitions(&self) -> Arc<Definitions> {
        Arc::clone(&self.applied().live)
    }

    /// Returns the staged definitions, as last read. They become live when their new group
    /// versions are filled.
    pub fn staged(&self) -> Option<Arc<Definitions>> {
        self.applied().staged.clone()
    }

    /// Reads the applied definitions again if another process has applied the project since.
    /// Returns whether they changed.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn refresh(&self) -> Result<bool> {
        let metadata = self.components.stores.metadata.as_ref();
        if generations::is_current(metadata, &self.project, &self.applied()).await? {
            return Ok(false);
        }
        self.replace_applied(generations::read(metadata, &self.project).await?);
        Ok(true)
    }

    pub(crate) fn replace_applied(&self, applied: Applied) {
        let mut current = self.applied.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(applied);
    }

    /// Returns the current time of the clock of requests, events and schedules.
    pub fn now(&self) -> Timestamp {
        self.components.clock.now()
    }

    /// Returns the current time of the machine's clock.
    pub fn machine_now(&self) -> Timestamp {
        self.components.machine_clock.now()
    }

    /// Returns the time up to which a store may do for good what is due: apply early rows, and
    /// forget identities. It is the present, or what the machine's clock shows if that is earlier.
    /// A process with a clock that is set to the future (`--clock`) sees what will be due, but must
    /// not make it so for everybody else.
    pub fn due_until(&self) -> Timestamp {
        self.now().min(self.machine_now())
    }

    /// Returns a function of the live definitions, and loads it if this process has not loaded it
    /// yet. Loading maps the function's native code, or compiles the function if there is none.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when no function of that name is live, and the errors of
    /// [`load_function`](Self::load_function).
    pub fn function(&self, name: &str) -> Result<Function> {
        self.function_of(&self.definitions(), name)
    }

    /// Returns a function of the given definitions, and loads it if necessary.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when the definitions have no function of that name, and the
    /// errors of [`load_function`](Self::load_function).
    pub fn function_of(&self, definitions: &Definitions, name: &str) -> Result<Function> {
        self.load_function(name, get(&definitions.functions, name, "function")?)
    }

    /// Returns the function with this definition from the cache, or loads it.
    ///
    /// # Errors
    /// Returns [`Kind::Function`] when the function's code cannot be compiled or mapped, and the
    /// errors of the artifact store.
    pub fn load_function(&self, name: &str, definition: &FunctionDef) -> Result<Function> {
        // The digest is part of the key because a name may stand for several functions at once: a
        // live one, a staged one, and those of old training sets.
        let key = (name.to_owned(), definition.registered.digest);
        let functions = self.functions.read();
        let functions = functions.unwrap_or_else(PoisonError::into_inner);
        let loaded = functions.get(&key);
        if let Some(loaded) = loaded.filter(|loaded| loaded.definition == *definition) {
            return Ok(loaded.function.clone());
        }
        drop(functions);
        // Loading may compile the function. Meanwhile, other tasks of this thread move to other
        // threads.
        let function = tokio::task::block_in_place(|| {
            let artifacts = self.components.stores.artifacts.as_ref();
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

/// Reads the id of the online store. The first process that opens the store chooses the id.
async fn store_id(project: &str, components: &Components) -> Result<String> {
    let Components {
        stores,
        machine_clock,
        holder,
        ..
    } = components;
    let metadata = &stores.metadata;
    let name = format!("{project}/store_id");
    if metadata.get(&name).await?.is_none() {
        let id = Digest::of(format!("{holder} {}", machine_clock.now()).as_bytes()).short();
        match metadata.put(&name, id.into(), Expect::Absent).await {
            // Another process opened the store at the same time, and its id counts.
            Err(e) if e.kind() == Kind::Conflict => {}
            other => drop(other?),
        }
    }
    let stored = metadata.get(&name).await?;
    let id = stored.and_then(|stored| String::from_utf8(stored.value.to_vec()).ok());
    id.ok_or_else(|| {
        let message = format!("stored object `{name}` cannot be read: it is damaged");
        Error::new(Kind::Corrupt, message)
    })
}
