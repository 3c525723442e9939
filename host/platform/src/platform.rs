//! The services' common ground: stores, sandbox, clocks, and what was applied.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use wafer_core::{Clock, Digest, Timestamp};
use wafer_runtime::{Function, Guests, Runtime};
use wafer_store::{
    ArtifactStore, Expect, Kind as StoreKind, Lease, MetadataStore, OfflineTables, OnlineStore,
    RemoteFiles,
};

use crate::definition::{Definitions, FunctionDef};
use crate::deletion::Deletions;
use crate::endpoints::{EndpointServing, Unready};
use crate::error::{Error, Kind, Result};
use crate::events::Routes;
use crate::features::Serving;
use crate::log::RequestLog;
use crate::metrics::Counters;
use crate::plan::{self, Applied};
use crate::project::nearest;

/// What a platform is made of; the composition root decides what each is.
#[derive(Clone, Debug)]
pub struct Components {
    /// Latest rows and the outbox.
    pub online: Arc<dyn OnlineStore>,
    /// Definitions, runs, leases.
    pub metadata: Arc<dyn MetadataStore>,
    /// Components and compiled code.
    pub artifacts: Arc<dyn ArtifactStore>,
    /// All rows.
    pub offline: OfflineTables,
    /// Sources that are not on this machine; `None`: this program reaches none.
    pub remote: Option<Arc<dyn RemoteFiles>>,
    /// The sandbox.
    pub runtime: Runtime,
    /// Threads for guest code inside requests.
    pub guests: Guests,
    /// Threads for guest code on events, which may take longer.
    pub event_guests: Guests,
    /// The present, which may be a past that is lived through.
    pub clock: Arc<dyn Clock>,
    /// The machine's time, for leases.
    pub wall: Arc<dyn Clock>,
    /// Names this process to others: `host/pid`.
    pub holder: String,
}

/// Runs what was applied to a project.
#[derive(Debug)]
pub struct Platform {
    project: String,
    /// Names the online store, for those who count its rows.
    store_id: String,
    components: Components,
    definitions: RwLock<Arc<Applied>>,
    /// For each source the latest event time that came in.
    watermarks: Mutex<HashMap<String, Timestamp>>,
    counters: Counters,
    /// Leases that were claimed.
    claims: AtomicU64,
    loaded: RwLock<HashMap<(String, Digest), Loaded>>,
    /// For each view what its requests need, of the present definitions.
    serving: RwLock<HashMap<String, Arc<Serving>>>,
    /// Endpoints that answer: replaced as a whole.
    endpoints: RwLock<Arc<BTreeMap<String, Arc<EndpointServing>>>>,
    /// Held by who makes endpoints ready.
    unready: tokio::sync::Mutex<Unready>,
    /// What endpoints answered and is to be logged.
    request_log: RequestLog,
    deletions: RwLock<Arc<Deletions>>,
    /// For each source where its events go.
    routes: RwLock<HashMap<String, Routes>>,
}

#[derive(Debug)]
struct Loaded {
    definition: FunctionDef,
    function: Function,
}

impl Platform {
    /// Reads what was applied to a project.
    ///
    /// # Errors
    /// Those of the metadata store.
    pub async fn open(project: &str, components: Components) -> Result<Self> {
        let applied = plan::read(components.metadata.as_ref(), project).await?;
        Ok(Self {
            project: project.to_owned(),
            store_id: store_id(project, &components).await?,
            components,
            definitions: RwLock::new(Arc::new(applied)),
            watermarks: Mutex::new(HashMap::new()),
            counters: Counters::default(),
            claims: AtomicU64::new(0),
            loaded: RwLock::new(HashMap::new()),
            serving: RwLock::new(HashMap::new()),
            endpoints: RwLock::default(),
            unready: tokio::sync::Mutex::default(),
            request_log: RequestLog::default(),
            deletions: RwLock::default(),
            routes: RwLock::default(),
        })
    }

    /// Name of the project.
    pub fn project(&self) -> &str {
        &self.project
    }

    pub(crate) fn store_id(&self) -> &str {
        &self.store_id
    }

    /// What the platform is made of.
    pub fn components(&self) -> &Components {
        &self.components
    }

    /// What is live and what is staged, as last read.
    pub(crate) fn applied(&self) -> Arc<Applied> {
        Arc::clone(
            &self
                .definitions
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// What was applied and is live, as last read.
    pub fn definitions(&self) -> Arc<Definitions> {
        Arc::clone(&self.applied().live)
    }

    /// What was applied and waits until its new group versions are filled.
    pub fn staged(&self) -> Option<Arc<Definitions>> {
        self.applied().staged.clone()
    }

    /// Reads again what was applied, by whichever process; says whether it differs from
    /// before.
    ///
    /// # Errors
    /// Those of the metadata store.
    pub async fn refresh(&self) -> Result<bool> {
        let metadata = self.components.metadata.as_ref();
        if plan::is_current(metadata, &self.project, &self.applied()).await? {
            return Ok(false);
        }
        self.replace_applied(plan::read(metadata, &self.project).await?);
        Ok(true)
    }

    pub(crate) fn replace_applied(&self, applied: Applied) {
        // Both under one lock: nothing of the old definitions is served after.
        let mut present = self
            .definitions
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        self.serving
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        *present = Arc::new(applied);
    }

    pub(crate) fn serving_endpoints(&self) -> &RwLock<Arc<BTreeMap<String, Arc<EndpointServing>>>> {
        &self.endpoints
    }

    pub(crate) fn unready_endpoints(&self) -> &tokio::sync::Mutex<Unready> {
        &self.unready
    }

    pub(crate) fn request_log(&self) -> &RequestLog {
        &self.request_log
    }

    /// Deletions as last read.
    pub(crate) fn known_deletions(&self) -> Arc<Deletions> {
        Arc::clone(
            &self
                .deletions
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    pub(crate) fn learn_deletions(&self, deletions: Arc<Deletions>) {
        *self
            .deletions
            .write()
            .unwrap_or_else(PoisonError::into_inner) = deletions;
    }

    /// Where a source's events go, as last worked out.
    pub(crate) fn known_routes(&self, source: &str) -> Option<Routes> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        routes.get(source).cloned()
    }

    pub(crate) fn learn_routes(&self, source: &str, made: Routes) {
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        routes.insert(source.to_owned(), made);
    }

    /// Numbers about what this process did, for `/metrics`.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The latest event time of a source that came in at this process.
    pub(crate) fn watermark(&self, source: &str) -> Timestamp {
        let watermarks = self
            .watermarks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        watermarks.get(source).copied().unwrap_or(Timestamp::MIN)
    }

    pub(crate) fn raise_watermark(&self, source: &str, time: Timestamp) {
        let mut watermarks = self
            .watermarks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let stored = watermarks.entry(source.to_owned()).or_insert(time);
        *stored = time.max(*stored);
    }

    /// What requests for a view need: made once for the present definitions.
    pub(crate) fn cached_serving(
        &self,
        view: &str,
        make: impl FnOnce(&Definitions) -> Result<Serving>,
    ) -> Result<Arc<Serving>> {
        if let Some(found) = self
            .serving
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(view)
        {
            return Ok(Arc::clone(found));
        }
        let applied = self.applied();
        let made = Arc::new(make(&applied.live)?);
        let present = self
            .definitions
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&applied, &present) {
            let mut serving = self.serving.write().unwrap_or_else(PoisonError::into_inner);
            serving.insert(view.to_owned(), Arc::clone(&made));
        }
        Ok(made)
    }

    /// The present.
    pub fn now(&self) -> Timestamp {
        self.components.clock.now()
    }

    /// A function, loaded. The first time takes as long as mapping its code.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when it was not applied.
    pub fn function(&self, name: &str) -> Result<Function> {
        self.function_of(&self.definitions(), name)
    }

    /// A function of some definitions, loaded.
    pub(crate) fn function_of(&self, definitions: &Definitions, name: &str) -> Result<Function> {
        self.load_function(name, get(&definitions.functions, name, "function")?)
    }

    pub(crate) fn load_function(&self, name: &str, definition: &FunctionDef) -> Result<Function> {
        // Of one name there may be a live one, a staged one and those of old
        // training sets.
        let key = (name.to_owned(), definition.registered.digest);
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = loaded.get(&key).filter(|l| l.definition == *definition) {
            return Ok(found.function.clone());
        }
        drop(loaded);
        // It may have to be compiled: others go on meanwhile.
        let function = tokio::task::block_in_place(|| {
            let artifacts = self.components.artifacts.as_ref();
            let FunctionDef {
                registered, limits, ..
            } = definition;
            self.components
                .runtime
                .load(name, registered, limits, artifacts)
        })?;
        let entry = Loaded {
            definition: definition.clone(),
            function: function.clone(),
        };
        let mut loaded = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
        loaded.insert(key, entry);
        Ok(function)
    }

    /// Claims a piece of work for a while. A holder on this machine that is no
    /// longer alive does not count.
    pub(crate) async fn lease(&self, name: &str, duration: i64) -> Result<Result<Lease, String>> {
        let Components {
            metadata,
            wall,
            holder,
            ..
        } = &self.components;
        // Each claim has a name of its own: within a process, too, one excludes another.
        let number = self.claims.fetch_add(1, Ordering::Relaxed);
        let holder = &format!("{holder}/{number}");
        let name = format!("{}/{name}", self.project);
        let claimed =
            Lease::acquire(metadata.as_ref(), &name, holder, wall.now(), duration).await?;
        match claimed {
            // Claimed in its name for no time at all, it is free.
            Err(gone) if is_gone(&gone, holder) => {
                let _ = Lease::acquire(metadata.as_ref(), &name, &gone, wall.now(), 0).await?;
                Ok(Lease::acquire(metadata.as_ref(), &name, holder, wall.now(), duration).await?)
            }
            other => Ok(other),
        }
    }
}

/// The id of the online store, given to it by the first who opens it.
async fn store_id(project: &str, components: &Components) -> Result<String> {
    let Components {
        metadata,
        wall,
        holder,
        ..
    } = components;
    let name = format!("{project}/store_id");
    if metadata.get(&name).await?.is_none() {
        let id = Digest::of(format!("{holder} {}", wall.now()).as_bytes()).short();
        match metadata.put(&name, id.into(), Expect::Absent).await {
            // Somebody else opened it at the same time.
            Err(e) if e.kind() == StoreKind::Conflict => {}
            other => drop(other?),
        }
    }
    let stored = metadata.get(&name).await?;
    let id = stored.and_then(|stored| String::from_utf8(stored.value.to_vec()).ok());
    id.ok_or_else(|| {
        Error::new(
            Kind::Internal,
            format!("stored object `{name}` cannot be read"),
        )
    })
}

/// Whether a holder was a process of this machine that has ended.
fn is_gone(holder: &str, own: &str) -> bool {
    // host/process/number of the claim
    let parts = |holder: &str| -> Option<(String, u32)> {
        let mut parts = holder.split('/');
        let host = parts.next()?.to_owned();
        Some((host, parts.next()?.parse().ok()?))
    };
    match (parts(holder), parts(own)) {
        (Some((host, pid)), Some((own_host, _))) if host == own_host => {
            std::path::Path::new("/proc/self").exists()
                && !std::path::Path::new(&format!("/proc/{pid}")).exists()
        }
        _ => false,
    }
}

/// A definition by name, or which name could be meant.
pub(crate) fn get<'a, T>(
    things: &'a std::collections::BTreeMap<String, T>,
    name: &str,
    what: &str,
) -> Result<&'a T> {
    things.get(name).ok_or_else(|| {
        let hint = match nearest(name, things.keys().map(String::as_str)) {
            Some(nearest) => format!("; did you mean `{nearest}`?"),
            None if things.is_empty() => "; nothing was applied yet, run `wafer apply`".to_owned(),
            None => format!(
                "; known are {}",
                things.keys().cloned().collect::<Vec<_>>().join(", ")
            ),
        };
        Error::new(Kind::NotFound, format!("there is no {what} `{name}`{hint}"))
    })
}
