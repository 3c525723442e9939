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
use wafer_runtime::{Function, Guests, Runtime, RuntimeConfig};
use wafer_store::{
    Error, Expect, Kind, MetadataStore, RemoteFiles, Result, Stores, UnreachableFiles,
};

use crate::definitions::{Definitions, FunctionDef};
use crate::generations::{self, Applied, Generation, OnDamage, Pointer, artifact};
use crate::names::get;

/// How long after a read of the pointer events may be committed by the definitions that it found.
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

impl Components {
    /// Returns the components of a process as the tests of crates need them: with one guest thread,
    /// one clock, and no source files elsewhere. Processes with different names are different
    /// holders of leases.
    ///
    /// # Errors
    /// Fails when the sandbox cannot be started on this machine.
    pub fn for_tests(stores: Stores, clock: Arc<dyn Clock>, process: &str) -> Result<Self> {
        let config = RuntimeConfig {
            instances: 1,
            ..RuntimeConfig::default()
        };
        let runtime = Runtime::new(config).map_err(|e| {
            let message = format!("the sandbox cannot be started: {e:#}");
            Error::new(Kind::Internal, message)
        })?;
        Ok(Self {
            stores,
            remote: Arc::new(UnreachableFiles {
                form: "s3://BUCKET/FOLDER",
                reason: "this is a test".to_owned(),
            }),
            runtime,
            guests: Guests::new(1, 1),
            event_guests: Guests::new(1, 1),
            machine_clock: Arc::clone(&clock),
            clock,
            holder: format!("{process}/{}", std::process::id()),
        })
    }
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
    last_read: RwLock<LastRead>,
    /// Lets one task after the other read what is applied, so that what was read last is newest.
    reading: tokio::sync::Mutex<()>,
    functions: RwLock<HashMap<(String, Digest), LoadedFunction>>,
    lease_numbers: LeaseNumbers,
}

/// The counter that numbers the leases of this process. The number is part of the holder's name, so
/// that two tasks of one process exclude each other.
#[derive(Debug, Default)]
pub(crate) struct LeaseNumbers(pub(crate) AtomicU64);

/// How long a generation that could not be read is not read again, unless the pointer moves. It may
/// be large, and many tasks may ask for it.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// What was read last of what is applied.
#[derive(Debug)]
struct LastRead {
    applied: Arc<Applied>,
    /// The version of the pointer that was read last. Since `applied` was read, the pointer may
    /// have counted changes of endpoints.
    version: u64,
    /// The number of changes of endpoints that this pointer has.
    endpoints: u64,
    /// When the last read with strong consistency was begun, by the machine's clock.
    read_at: Timestamp,
    /// The pointer that was found since, if what it names cannot be read.
    unreadable: Option<Unreadable>,
}

/// Applied definitions, with the time of a read that found them.
#[derive(Clone, Debug)]
pub struct LatelyApplied {
    /// The definitions.
    pub applied: Arc<Applied>,
    /// When the read was begun, by the machine's clock.
    read_at: Timestamp,
}

/// A pointer whose definitions cannot be read.
#[derive(Debug)]
struct Unreadable {
    /// The version of the pointer's object.
    version: u64,
    kind: Kind,
    message: String,
    /// When that was found out, by the machine's clock.
    noted: Timestamp,
}

impl Unreadable {
    fn error(&self) -> Error {
        Error::new(self.kind, self.message.clone())
    }
}

/// Returns whether something was less than `span` ago. A clock that was set back does not tell.
fn is_within(span: Duration, since: Timestamp, now: Timestamp) -> bool {
    (Duration::ZERO..span).contains(&now.since(since))
}

impl LastRead {
    fn new(applied: Applied, read_at: Timestamp) -> Self {
        Self {
            version: applied.version,
            endpoints: applied.pointer.endpoints,
            applied: Arc::new(applied),
            read_at,
            unreadable: None,
        }
    }

    /// Returns whether this pointer is the one that was read last.
    fn is_of(&self, pointer: &Pointer, version: u64) -> bool {
        version == self.version
            && pointer.endpoints == self.endpoints
            && pointer.has_definitions_of(&self.applied.pointer)
    }

    /// Takes over what a read found that was begun at the time `read_at`. Returns whether other
    /// definitions are applied than before. The pointer may have gone back, if the metadata store
    /// was restored from a backup.
    fn learn(&mut self, read: Applied, read_at: Timestamp) -> bool {
        self.read_at = read_at;
        if read.version < self.version {
            tracing::warn!(
                "the pointer to the definitions went back from version {} to {}, as when the metadata store \
                 is restored: what it names now is followed",
                self.version,
                read.version
            );
        }
        self.version = read.version;
        self.endpoints = read.pointer.endpoints;
        self.unreadable = None;
        let was_whole = self.applied.damaged.is_empty();
        let is_other = !was_whole || !read.pointer.has_definitions_of(&self.applied.pointer);
        if is_other {
            self.applied = Arc::new(read);
        }
        is_other
    }

    /// Returns the error of a pointer that could not be read a short while ago.
    fn check_readable(&self, version: u64, now: Timestamp) -> Result<()> {
        let is_paused = |unreadable: &&Unreadable| {
            unreadable.version == version && is_within(RETRY_PAUSE, unreadable.noted, now)
        };
        let paused = self.unreadable.as_ref().filter(is_paused);
        paused.map_or(Ok(()), |unreadable| Err(unreadable.error()))
    }

    /// Returns what the last read found, or why nothing could be read then, if that was less than
    /// [`DEFINITIONS_AGE`] ago.
    fn recent_read(&self, now: Timestamp) -> Result<Option<LatelyApplied>> {
        let is_recent = |since| is_within(DEFINITIONS_AGE, since, now);
        if is_recent(self.read_at) {
            return Ok(Some(self.lately_applied()));
        }
        let unreadable = self.unreadable.as_ref();
        let recent = unreadable.filter(|unreadable| is_recent(unreadable.noted));
        recent.map_or(Ok(None), |unreadable| Err(unreadable.error()))
    }

    fn lately_applied(&self) -> LatelyApplied {
        LatelyApplied {
            applied: Arc::clone(&self.applied),
            read_at: self.read_at,
        }
    }

    /// Notes that what a pointer names could not be read. Only what is stored counts, and not a
    /// store that does not answer.
    fn note_unreadable(&mut self, version: u64, error: &Error, now: Timestamp) {
        let (Kind::Corrupt | Kind::Invalid) = error.kind() else {
            return;
        };
        self.unreadable = Some(Unreadable {
            version,
            kind: error.kind(),
            message: error.chain(),
            noted: now,
        });
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
        Self::open_by(project, components, OnDamage::Fail).await
    }

    /// Opens a project to apply definitions to it. Applied generations that are damaged are noted
    /// ([`Applied::damaged`]), since applying is what mends them ([`mend`](Self::mend)).
    ///
    /// # Errors
    /// Returns the errors of the stores.
    pub async fn open_to_apply(project: &str, components: Components) -> Result<Self> {
        Self::open_by(project, components, OnDamage::Note).await
    }

    async fn open_by(project: &str, components: Components, on_damage: OnDamage) -> Result<Self> {
        let read_at = components.machine_clock.now();
        let nothing = Applied::default();
        let applied = generations::read(&components.stores, project, &nothing, on_damage).await?;
        Ok(Self {
            project: project.to_owned(),
            store_id: store_id(project, &components).await?,
            components,
            last_read: RwLock::new(LastRead::new(applied, read_at)),
            reading: tokio::sync::Mutex::default(),
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
        Arc::clone(&self.last_read().applied)
    }

    fn last_read(&self) -> RwLockReadGuard<'_, LastRead> {
        self.last_read
            .read()
            .unwrap_or_else(PoisonError::into_inner)
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

    /// Returns the number of changes of endpoints, as last read. If it is another than before,
    /// endpoints have to be read again.
    pub fn endpoint_changes(&self) -> u64 {
        self.last_read().endpoints
    }

    /// Reads the pointer, and the applied definitions if another process has applied others since.
    /// Returns whether they changed. It is for work that depends on the present definitions.
    ///
    /// Definitions that cannot be read are tried again after ten seconds, or when the pointer
    /// moves, whoever asks for them. Until then, the error is the same.
    ///
    /// # Errors
    /// Returns the errors of the stores.
    pub async fn refresh(&self) -> Result<bool> {
        self.read_applied().await
    }

    /// Asks whether another process has changed what is applied, and only then reads it, as
    /// [`refresh`](Self::refresh) does. Returns whether the definitions changed.
    ///
    /// It is for processes that ask again and again. Between two calls they do not know of a
    /// change, so the pointer may be read eventually consistently, which costs half: what one call
    /// misses is found by the next one. An earlier version than the last one comes of such a read,
    /// or of a store that was restored from a backup: the read with strong consistency that follows
    /// tells.
    ///
    /// What was read before stays if the call fails. What cannot be read is tried again as by
    /// [`refresh`](Self::refresh).
    ///
    /// # Errors
    /// Returns [`Kind::Corrupt`] when what is applied now is damaged, [`Kind::Invalid`] when a
    /// later version of Wafer wrote it, and the errors of the stores.
    pub async fn poll(&self) -> Result<bool> {
        let name = format!("{}/{}", self.project, generations::POINTER);
        let metadata: &dyn MetadataStore = self.components.stores.metadata.as_ref();
        let found = metadata.get_eventual(&name).await?;
        let version = found.as_ref().map_or(0, |found| found.version);
        let pointer = match &found {
            None => Pointer::default(),
            Some(found) => generations::parse_pointer(metadata, &name, found)?,
        };
        if self.last_read().is_of(&pointer, version) {
            return Ok(false);
        }
        // The read with strong consistency would say the same.
        self.last_read()
            .check_readable(version, self.machine_now())?;
        self.read_applied().await
    }

    pub(crate) async fn read_applied(&self) -> Result<bool> {
        let _reading = self.reading.lock().await;
        self.read_consistently(OnDamage::Fail).await
    }

    /// Reads the pointer with strong consistency, and what it names. The caller must hold
    /// `reading`.
    async fn read_consistently(&self, on_damage: OnDamage) -> Result<bool> {
        let (before, read_at) = (self.applied(), self.machine_now());
        let stores = &self.components.stores;
        let found = generations::read_pointer(stores.metadata.as_ref(), &self.project).await?;
        let (pointer, version) = (&found.0, found.1);
        self.check_names_definitions(pointer)?;
        if on_damage == OnDamage::Fail {
            self.last_read().check_readable(version, read_at)?;
        }
        let read = generations::read_named(stores, &self.project, found, &before, on_damage).await;
        let now = self.machine_now();
        let mut last_read = self
            .last_read
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(read) => Ok(last_read.learn(read, read_at)),
            Err(error) => {
                last_read.note_unreadable(version, &error, now);
                Err(error)
            }
        }
    }

    /// Checks that a pointer names definitions, if one did before.
    fn check_names_definitions(&self, pointer: &Pointer) -> Result<()> {
        if pointer.live.number > 0 || self.applied().pointer.live.number == 0 {
            return Ok(());
        }
        let metadata = self.components.stores.metadata.as_ref();
        Err(generations::lost_pointer(metadata, &self.project))
    }

    /// Returns the applied definitions, and reads the pointer first if that was last done longer
    /// ago than [`DEFINITIONS_AGE`]. Reads that may be eventually consistent do not count.
    ///
    /// It is for work on whose result others rely: a new version of a group is complete only if
    /// every process writes events to it soon after it was staged.
    ///
    /// # Errors
    /// Returns [`Kind::Unavailable`] when what is applied now cannot be read, and the errors of the
    /// stores.
    pub async fn lately_applied(&self) -> Result<LatelyApplied> {
        let lately = self.read_lately().await;
        lately.map_err(|error| match error.kind() {
            // Nothing is wrong with what is to be done. It can be done later, or by a process that
            // knows these definitions.
            Kind::Corrupt | Kind::Invalid => {
                let message = "no events are taken in while the definitions that are applied now \
                               cannot be read; push them again later";
                Error::caused(Kind::Unavailable, message, error)
            }
            _ => error,
        })
    }

    async fn read_lately(&self) -> Result<LatelyApplied> {
        if let Some(recent) = self.recent_read()? {
            return Ok(recent);
        }
        let _reading = self.reading.lock().await;
        // Another task may have read while this one waited.
        if let Some(recent) = self.recent_read()? {
            return Ok(recent);
        }
        self.read_consistently(OnDamage::Fail).await?;
        Ok(self.last_read().lately_applied())
    }

    fn recent_read(&self) -> Result<Option<LatelyApplied>> {
        let now = self.machine_now();
        self.last_read().recent_read(now)
    }

    /// Checks right before something is committed that the definitions that it was made by are
    /// still applied, with another read if the last one was longer ago than [`DEFINITIONS_AGE`].
    /// Returns them with the time of the last read.
    ///
    /// # Errors
    /// Returns [`Kind::Unavailable`] when others are applied or staged by now, or what is cannot be
    /// read, and the errors of the stores.
    pub async fn still_applied(&self, before: LatelyApplied) -> Result<LatelyApplied> {
        if is_within(DEFINITIONS_AGE, before.read_at, self.machine_now()) {
            return Ok(before);
        }
        let present = self.lately_applied().await?;
        // A number alone may be given again after the metadata store was restored from a backup.
        let generations = |lately: &LatelyApplied| {
            let pointer = &lately.applied.pointer;
            (pointer.live, pointer.staged)
        };
        if generations(&before) == generations(&present) {
            return Ok(present);
        }
        let message = "other definitions were applied while the events were taken in; push them \
                       again: those that are durable already do not count twice";
        Err(Error::new(Kind::Unavailable, message))
    }

    /// Writes the artifacts of applied generations that are damaged or missing, as far as these
    /// definitions are what they held, and reads what is applied again. Returns the generations.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when the definitions are too large together, and the errors of the
    /// stores.
    pub async fn mend(&self, wanted: &Definitions) -> Result<Vec<Generation>> {
        let applied = self.applied();
        if applied.damaged.is_empty() {
            return Ok(Vec::new());
        }
        let wanted = Arc::new(wanted.clone());
        let (digest, _) = artifact::packed(Arc::clone(&wanted)).await?;
        let damaged = applied.damaged.iter().map(|damaged| damaged.generation);
        let mended: Vec<_> = damaged.filter(|g| g.artifact == Some(digest)).collect();
        if !mended.is_empty() {
            artifact::write(self.components.stores.artifacts.as_ref(), wanted).await?;
            let _reading = self.reading.lock().await;
            self.read_consistently(OnDamage::Note).await?;
        }
        Ok(mended)
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
    use crate::generations::Damaged;

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
    fn applied_definitions_are_replaced_only_when_they_changed() {
        let at = Timestamp::from_micros;
        let mut last_read = LastRead::new(applied(3, 1, 0), at(1));
        let first = Arc::clone(&last_read.applied);
        // A change of endpoints keeps the definitions, and what was cached by them.
        assert!(!last_read.learn(applied(4, 1, 1), at(2)));
        assert_eq!((last_read.version, last_read.endpoints), (4, 1));
        assert!(Arc::ptr_eq(&last_read.applied, &first));
        assert!(last_read.learn(applied(5, 2, 1), at(4)));
        assert_eq!(last_read.applied.pointer.live.number, 2);
        // The store was restored from a backup.
        assert!(last_read.learn(applied(4, 1, 1), at(5)));
        assert_eq!((last_read.version, last_read.applied.version), (4, 4));
        assert_eq!(last_read.read_at, at(5));
        // Definitions that were damaged are taken over when they can be read.
        let damaged = Damaged {
            generation: Generation::default(),
            reason: String::new(),
        };
        let damaged = Applied {
            damaged: vec![damaged],
            ..applied(4, 1, 1)
        };
        let mut last_read = LastRead::new(damaged, at(6));
        assert!(last_read.learn(applied(4, 1, 1), at(7)));
        assert!(last_read.applied.damaged.is_empty());
    }

    #[test]
    fn a_pointer_is_known_by_its_version_and_content() {
        let last_read = LastRead::new(applied(3, 1, 2), Timestamp::MIN);
        for (version, live, endpoints, is_known) in [
            (3, 1, 2, true),
            (4, 1, 2, false),
            (2, 1, 2, false),
            // The store was restored, and written to since.
            (3, 2, 2, false),
            (3, 1, 1, false),
        ] {
            let pointer = applied(version, live, endpoints).pointer;
            assert_eq!(
                last_read.is_of(&pointer, version),
                is_known,
                "{version} {live}"
            );
        }
    }

    #[test]
    fn definitions_that_cannot_be_read_are_tried_again_after_a_pause_or_a_move() {
        let at = |second: i64| Timestamp::from_micros(second * 1_000_000);
        let mut last_read = LastRead::new(applied(3, 1, 0), at(0));
        let unreachable = Error::new(Kind::Unavailable, "no answer");
        last_read.note_unreadable(4, &unreachable, at(0));
        assert!(last_read.check_readable(4, at(0)).is_ok());
        let damaged = Error::new(Kind::Corrupt, "it is damaged");
        last_read.note_unreadable(4, &damaged, at(0));
        for (version, second, is_tried) in [(4, 9, false), (4, 10, true), (5, 1, true)] {
            let checked = last_read.check_readable(version, at(second));
            assert_eq!(checked.is_ok(), is_tried, "{version} {second}");
        }
        let again = last_read.check_readable(4, at(1)).unwrap_err();
        assert_eq!(
            (again.kind(), again.to_string()),
            (Kind::Corrupt, "it is damaged".to_owned())
        );
        last_read.learn(applied(4, 2, 0), at(1));
        assert!(last_read.check_readable(4, at(1)).is_ok());
    }
}
