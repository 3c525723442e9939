//! The context that all services share: the stores, the sandbox, the clocks, the applied
//! definitions and the loaded functions.
//!
//! A service asks the context for the definitions and for the functions that it needs.
//! [`Context::poll`] reads definitions that another process has applied; long-running processes
//! call it regularly. Events are taken in by definitions that are not older than
//! [`DEFINITIONS_AGE`], whether or not the process polls ([`Context::lately_applied`]).
//! [`Context::load_function`] keeps loaded functions, so that their code is mapped or compiled once
//! in a process.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use wafer_core::{Clock, Digest, Duration, Timestamp};
use wafer_runtime::{Function, Guests, Runtime};
use wafer_store::{Error, Expect, Kind, RemoteFiles, Result, Stores};

use crate::definitions::{Definitions, FunctionDef};
use crate::generations::{self, Applied};
use crate::names::get;

/// How long after a look at the pointer events may be committed by the definitions that it found.
/// Whoever needs all processes to use a change of definitions waits for longer than that.
pub const DEFINITIONS_AGE: Duration = Duration::from_secs(1);

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
    known: RwLock<Known>,
    functions: RwLock<HashMap<(String, Digest), LoadedFunction>>,
    lease_numbers: LeaseNumbers,
}

/// The counter that numbers the leases of this process. The number is part of the holder's name, so
/// that two tasks of one process exclude each other.
#[derive(Debug, Default)]
pub(crate) struct LeaseNumbers(pub(crate) AtomicU64);

/// What was read last of what is applied.
#[derive(Debug)]
struct Known {
    applied: Arc<Applied>,
    /// The version of the pointer that was read last. Since `applied` was read, the pointer may
    /// have counted changes of endpoints.
    version: u64,
    /// The number of changes of endpoints that this pointer has.
    endpoints: u64,
    /// When the last look with strong consistency was begun, by the machine's clock.
    looked: Timestamp,
}

/// Applied definitions, with the time of a look that found them.
#[derive(Clone, Debug)]
pub struct LatelyApplied {
    /// The definitions.
    pub applied: Arc<Applied>,
    /// When the look was begun, by the machine's clock.
    looked: Timestamp,
}

impl Known {
    fn new(applied: Applied, looked: Timestamp) -> Self {
        Self {
            version: applied.version,
            endpoints: applied.pointer.endpoints,
            applied: Arc::new(applied),
            looked,
        }
    }

    /// Takes over what a look found that was begun at the time `looked`, unless something newer was
    /// read meanwhile. Returns whether other definitions are applied than before.
    fn learn(&mut self, read: Applied, looked: Timestamp) -> bool {
        self.looked = looked;
        if read.version < self.version {
            return false;
        }
        self.version = read.version;
        self.endpoints = read.pointer.endpoints;
        let is_other = !read.pointer.has_definitions_of(&self.applied.pointer);
        if is_other {
            self.applied = Arc::new(read);
        }
        is_other
    }
}

#[derive(Debug)]
struct LoadedFunction {
    definition: FunctionDef,
    function: Function,
}

impl Context {
    /// Opens a project by reading the definitions that were applied to it.
    ///
    /// # Errors
    /// Returns the errors of the stores.
    pub async fn open(project: &str, components: Components) -> Result<Self> {
        let looked = components.machine_clock.now();
        let applied = generations::read(&components.stores, project, &Applied::default()).await?;
        Ok(Self {
            project: project.to_owned(),
            store_id: store_id(project, &components).await?,
            components,
            known: RwLock::new(Known::new(applied, looked)),
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
        Arc::clone(&self.known().applied)
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
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

    /// Returns the number of changes of endpoints, as last read. If it rises, endpoints have to be
    /// read again.
    pub fn endpoint_changes(&self) -> u64 {
        self.known().endpoints
    }

    /// Reads the pointer, and the applied definitions if another process has applied others since.
    /// Returns whether they changed. It is for work that depends on the present definitions.
    ///
    /// # Errors
    /// Returns the errors of the stores.
    pub async fn refresh(&self) -> Result<bool> {
        self.read_applied().await
    }

    /// Looks whether another process has changed what is applied, and only then reads it, as
    /// [`refresh`](Self::refresh) does. Returns whether the definitions changed.
    ///
    /// It is for processes that look again and again. Between two looks they do not know of a
    /// change, so the look may be an eventually consistent read, which costs half: what it misses
    /// is found by the next one.
    ///
    /// # Errors
    /// Returns the errors of the stores.
    pub async fn poll(&self) -> Result<bool> {
        let name = format!("{}/{}", self.project, generations::POINTER);
        let metadata = &self.components.stores.metadata;
        let found = metadata.get_eventual(&name).await?;
        let version = found.map_or(0, |found| found.version);
        // Such a read may also find an earlier version than the one before did.
        if version <= self.known().version {
            return Ok(false);
        }
        self.read_applied().await
    }

    pub(crate) async fn read_applied(&self) -> Result<bool> {
        let (before, looked) = (self.applied(), self.machine_now());
        let read = generations::read(&self.components.stores, &self.project, &before).await?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        Ok(known.learn(read, looked))
    }

    /// Returns the applied definitions, and reads the pointer first if the last look at it was
    /// longer ago than [`DEFINITIONS_AGE`]. Looks that may be eventually consistent do not count.
    ///
    /// It is for work on whose result others rely: a new version of a group is complete only if
    /// every process writes events to it soon after it was staged.
    ///
    /// # Errors
    /// Returns the errors of the stores.
    pub async fn lately_applied(&self) -> Result<LatelyApplied> {
        let last = self.last_look();
        if self.is_recent(&last) {
            return Ok(last);
        }
        self.read_applied().await?;
        Ok(self.last_look())
    }

    /// Checks right before something is committed that the definitions that it was made by are
    /// still applied, with another look if the last one was longer ago than [`DEFINITIONS_AGE`].
    /// Returns them with the time of the last look.
    ///
    /// # Errors
    /// Returns [`Kind::Unavailable`] when others are applied or staged by now, and the errors of
    /// the stores.
    pub async fn still_applied(&self, before: LatelyApplied) -> Result<LatelyApplied> {
        if self.is_recent(&before) {
            return Ok(before);
        }
        let present = self.lately_applied().await?;
        let numbers = |lately: &LatelyApplied| {
            let pointer = &lately.applied.pointer;
            (
                pointer.live.number,
                pointer.staged.map(|staged| staged.number),
            )
        };
        if numbers(&before) == numbers(&present) {
            return Ok(present);
        }
        let message = "other definitions were applied while the events were taken in; push them \
                       again: those that are durable already do not count twice";
        Err(Error::new(Kind::Unavailable, message))
    }

    fn last_look(&self) -> LatelyApplied {
        let known = self.known();
        LatelyApplied {
            applied: Arc::clone(&known.applied),
            looked: known.looked,
        }
    }

    fn is_recent(&self, lately: &LatelyApplied) -> bool {
        let age = self.machine_now().since(lately.looked);
        // A clock that was set back does not tell how long ago the look was.
        (Duration::ZERO..DEFINITIONS_AGE).contains(&age)
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
    let mut stored = metadata.get(&name).await?;
    if stored.is_none() {
        let id = Digest::of(format!("{holder} {}", machine_clock.now()).as_bytes()).short();
        match metadata.put(&name, id.into(), Expect::Absent).await {
            // Another process opened the store at the same time, and its id counts.
            Err(e) if e.kind() == Kind::Conflict => {}
            other => drop(other?),
        }
        stored = metadata.get(&name).await?;
    }
    let id = stored.and_then(|stored| String::from_utf8(stored.value.to_vec()).ok());
    id.ok_or_else(|| {
        let message = format!("stored object `{name}` cannot be read: it is damaged");
        Error::new(Kind::Corrupt, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generations::{Generation, Pointer};

    fn applied(version: u64, live: u64, endpoints: u64) -> Applied {
        let live = Generation {
            number: live,
            artifact: None,
        };
        let pointer = Pointer {
            live,
            endpoints,
            ..Pointer::default()
        };
        Applied {
            pointer,
            version,
            ..Applied::default()
        }
    }

    #[test]
    fn what_is_known_changes_only_with_the_definitions_and_never_back() {
        let at = Timestamp::from_micros;
        let mut known = Known::new(applied(3, 1, 0), at(1));
        let first = Arc::clone(&known.applied);
        // A change of endpoints keeps the definitions, and what was cached by them.
        assert!(!known.learn(applied(4, 1, 1), at(2)));
        assert_eq!((known.version, known.endpoints), (4, 1));
        assert!(Arc::ptr_eq(&known.applied, &first));
        assert!(known.learn(applied(5, 2, 1), at(4)));
        assert_eq!(known.applied.pointer.live.number, 2);
        // Another task began to read before, and ended later.
        assert!(!known.learn(applied(4, 1, 1), at(3)));
        assert_eq!((known.version, known.applied.version), (5, 5));
        // What is known may be as old as the look that ended last.
        assert_eq!(known.looked, at(3));
    }
}
