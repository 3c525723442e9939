//! Registering a function: initialise once, describe, snapshot, compile.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wafer_core::{Digest, Hasher, Signature};
use wafer_store::ArtifactStore;
use wasmtime::Store;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Instance, Lift, WasmList};
use wasmtime_wizer::{ComponentInstanceState, Wizer};

use crate::bindings::exports::wafer::function::transform::Parameter;
use crate::bindings::{Function as FunctionExports, FunctionPre};
use crate::compile::CompileError;
use crate::engine::{EngineSet, ticks};
use crate::error::{InvokeError, LimitKind};
use crate::function::{Function, failure};
use crate::limits::Limits;
use crate::state::State;
use crate::{CONTRACT, Runtime, lift, load};

/// Bytes of an asset in one call of `load`.
const ASSET_CHUNK: usize = 1 << 20;

/// Everything that makes a function what it is.
#[derive(Clone, Debug, Default)]
pub struct FunctionSpec {
    /// Name for messages.
    pub name: String,
    /// The component.
    pub component: Bytes,
    /// Bytes by name, given to `load`.
    pub assets: BTreeMap<String, Bytes>,
    /// Texts by name, given to `init`.
    pub parameters: BTreeMap<String, String>,
    /// Limits.
    pub limits: Limits,
    /// Whether the bits of a NaN are fixed inside the function too, at the cost
    /// of slower arithmetic; see `docs` of the setting `strict_nan`.
    pub strict_nan: bool,
}

impl FunctionSpec {
    /// The function's identity: component, assets, parameters and `strict_nan`.
    /// Limits are not part of it: they change what is allowed, not the result.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new();
        hasher
            .part(b"wafer function 1")
            .part(Digest::of(&self.component).as_bytes());
        for (name, bytes) in &self.assets {
            hasher
                .part(b"asset")
                .part(name.as_bytes())
                .part(Digest::of(bytes).as_bytes());
        }
        for (name, value) in &self.parameters {
            hasher
                .part(b"parameter")
                .part(name.as_bytes())
                .part(value.as_bytes());
        }
        hasher.part(if self.strict_nan { b"strict" } else { b"" });
        hasher.finish()
    }
}

/// A function that was registered: immutable, and all that is needed to load it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// Its identity, which covers assets and parameters.
    pub digest: Digest,
    /// Digest of the component's bytes.
    pub component: Digest,
    /// Digest of the initialised component, an artifact.
    pub snapshot: Digest,
    /// What it takes and gives.
    pub signature: Signature,
    /// How it is compiled.
    #[serde(default)]
    pub strict_nan: bool,
}

/// Why a function was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The bytes are not a component of the contract's world.
    #[error("function `{function}` is not a component of {CONTRACT}: {message}")]
    Component {
        /// Name of the function.
        function: String,
        /// What is wrong with it.
        message: String,
    },
    /// Its `init` returned an error.
    #[error("function `{function}` could not be initialised: {message}")]
    Init {
        /// Name of the function.
        function: String,
        /// Its message.
        message: String,
    },
    /// Its signature breaks the contract.
    #[error("function `{function}` describes itself wrongly: {message}")]
    Signature {
        /// Name of the function.
        function: String,
        /// What is wrong with it.
        message: String,
    },
    /// It trapped or ran into a limit in `load`, `init` or `describe`.
    #[error("while it was registered: {0}")]
    Invoke(#[from] InvokeError),
    /// The compiler could not be run, or took too much.
    #[error("function `{function}` could not be compiled: {source}")]
    Compile {
        /// Name of the function.
        function: String,
        /// Why.
        source: CompileError,
    },
    /// The artifact store failed.
    #[error(transparent)]
    Store(#[from] wafer_store::Error),
}

impl Runtime {
    /// Registers a function: checks its world, feeds its assets, initialises it,
    /// asks for its signature, snapshots it, and keeps snapshot and native code
    /// in `artifacts`. Runs guest code, under the limits; call it on a thread
    /// that may block.
    ///
    /// # Errors
    /// [`RegisterError`]
    pub fn register(
        &self,
        spec: &FunctionSpec,
        artifacts: &dyn ArtifactStore,
    ) -> Result<Registered, RegisterError> {
        let (signature, snapshot) = self.snapshot(spec)?;
        let snapshot = Bytes::from(snapshot);
        let registered = Registered {
            digest: spec.digest(),
            component: Digest::of(&spec.component),
            snapshot: block_on(wafer_store::ArtifactStoreExt::put_blob(
                artifacts,
                snapshot.clone(),
            ))?,
            signature,
            strict_nan: spec.strict_nan,
        };
        let code = self.compile(&spec.name, &snapshot, spec.strict_nan)?;
        let name = self
            .code_name(&registered)
            .map_err(|e| host(&spec.name, &e))?;
        block_on(artifacts.put(&name, code.into()))?;
        Ok(registered)
    }

    /// Initialises a function and returns its signature and the component that
    /// starts from there.
    fn snapshot(&self, spec: &FunctionSpec) -> Result<(Signature, Vec<u8>), RegisterError> {
        let refuse = |message: String| RegisterError::Component {
            function: spec.name.clone(),
            message,
        };
        if spec.component.get(4..8) == Some(&[1, 0, 0, 0]) {
            return Err(refuse(
                "it is a core module; make it with `wafer build`".to_owned(),
            ));
        }
        let wizer = Wizer::new();
        let (context, instrumented) = wizer
            .instrument_component(&spec.component)
            .map_err(|e| refuse(format!("{e:#}")))?;
        let set = self
            .engine(spec.strict_nan)
            .map_err(|e| host(&spec.name, &e))?;
        let code = self.compile(&spec.name, &instrumented, spec.strict_nan)?;
        let component = load::from_bytes(&set.engine, &code).map_err(|e| host(&spec.name, &e))?;
        check_world(&set, &component).map_err(refuse)?;
        let pre = link(&set, &component).map_err(refuse)?;

        let mut store = Store::new(&set.engine, State::new(spec.limits.memory));
        store.limiter(|state| state);
        store.set_hostcall_fuel(usize::try_from(spec.limits.output).unwrap_or(usize::MAX));
        store.set_epoch_deadline(ticks(spec.limits.init_time));
        let result = initialise(spec, &pre, &mut store);
        store.data_mut().log.emit(&spec.name);
        let (signature, instance) = result?;

        // Reading the memory out is the host's own work: it has no limits.
        store.set_epoch_deadline(u64::MAX / 2);
        store.set_hostcall_fuel(usize::MAX);
        let mut reader = SnapshotReader { store, instance };
        let snapshot = block_on(wizer.snapshot_component(&context, &mut reader))
            .map_err(|e| refuse(format!("its memory cannot be snapshotted: {e:#}")))?;
        Ok((signature, snapshot))
    }

    /// Loads a registered function: maps its native code, compiling it again
    /// when the artifact is missing, damaged or of another compiler.
    ///
    /// # Errors
    /// [`RegisterError`]
    pub fn load(
        &self,
        name: &str,
        registered: &Registered,
        limits: &Limits,
        artifacts: &dyn ArtifactStore,
    ) -> Result<Function, RegisterError> {
        let set = self
            .engine(registered.strict_nan)
            .map_err(|e| host(name, &e))?;
        let component = match self.load_code(&set, registered, artifacts) {
            Some(component) => component,
            None => self.recompile(name, &set, registered, artifacts)?,
        };
        let refuse = |message: String| RegisterError::Component {
            function: name.to_owned(),
            message,
        };
        let pre = link(&set, &component).map_err(refuse)?;
        Ok(Function::new(
            name,
            registered.signature.clone(),
            limits.clone(),
            pre,
            self.clone(),
        ))
    }

    fn load_code(
        &self,
        set: &EngineSet,
        registered: &Registered,
        artifacts: &dyn ArtifactStore,
    ) -> Option<Component> {
        let name = code_name(set, registered);
        let path = block_on(artifacts.file(&name))
            .inspect_err(|e| tracing::warn!("compiled code {name} cannot be read: {e}"))
            .ok()??;
        load::from_file(&set.engine, &path)
            .inspect_err(|e| {
                tracing::info!("compiled code {name} cannot be used, compiling again: {e:#}")
            })
            .ok()
    }

    fn recompile(
        &self,
        name: &str,
        set: &EngineSet,
        registered: &Registered,
        artifacts: &dyn ArtifactStore,
    ) -> Result<Component, RegisterError> {
        let snapshot = block_on(wafer_store::ArtifactStoreExt::get_blob(
            artifacts,
            registered.snapshot,
        ))?;
        let code = self.compile(name, &snapshot, registered.strict_nan)?;
        let component = load::from_bytes(&set.engine, &code).map_err(|e| host(name, &e))?;
        block_on(artifacts.put(&code_name(set, registered), code.into()))?;
        Ok(component)
    }

    fn compile(
        &self,
        name: &str,
        component: &[u8],
        strict_nan: bool,
    ) -> Result<Vec<u8>, RegisterError> {
        let set = self.engine(strict_nan).map_err(|e| host(name, &e))?;
        let compiled = self
            .shared
            .config
            .compiler
            .compile(&set.engine, strict_nan, component);
        compiled.map_err(|source| match source {
            CompileError::Invalid(message) => RegisterError::Component {
                function: name.to_owned(),
                message,
            },
            source => RegisterError::Compile {
                function: name.to_owned(),
                source,
            },
        })
    }

    fn code_name(&self, registered: &Registered) -> wasmtime::Result<String> {
        Ok(code_name(&self.engine(registered.strict_nan)?, registered))
    }
}

/// Where the native code of a function is kept: by everything it depends on.
fn code_name(set: &EngineSet, registered: &Registered) -> String {
    format!(
        "compiled/{}/{}.cwasm",
        set.compatibility,
        registered.digest.hex()
    )
}

fn host(function: &str, error: &wasmtime::Error) -> RegisterError {
    InvokeError::Host {
        function: function.to_owned(),
        message: format!("{error:#}"),
    }
    .into()
}

/// A component may import the log and nothing else, and must export `transform`.
fn check_world(set: &EngineSet, component: &Component) -> Result<(), String> {
    let (package, version) = CONTRACT.split_once('@').expect("a contract has a version");
    let allowed = [
        format!("{package}/log@{version}"),
        format!("{package}/types@{version}"),
    ];
    let ty = component.component_type();
    for (name, _) in ty.imports(&set.engine) {
        if !allowed.iter().any(|allowed| allowed == name) {
            return Err(format!(
                "it imports `{name}`; a function may import `{}` only: no clock, files, network or randomness",
                allowed[0]
            ));
        }
    }
    let wanted = format!("{package}/transform@{version}");
    let exports: Vec<_> = ty
        .exports(&set.engine)
        .filter(|(name, _)| !name.starts_with("wasmtime:wizer/"))
        .collect();
    match exports.iter().find(|(name, _)| *name == wanted) {
        Some((_, item)) if matches!(item.ty, ComponentItem::ComponentInstance(_)) => Ok(()),
        _ => {
            let names: Vec<_> = exports
                .iter()
                .map(|(name, _)| format!("`{name}`"))
                .collect();
            let found = if names.is_empty() {
                "nothing".to_owned()
            } else {
                names.join(", ")
            };
            Err(format!(
                "it does not export `{wanted}` (it exports {found})"
            ))
        }
    }
}

fn link(set: &EngineSet, component: &Component) -> Result<FunctionPre<State>, String> {
    set.linker
        .instantiate_pre(component)
        .and_then(FunctionPre::new)
        .map_err(|e| format!("its types differ from the contract's: {e:#}"))
}

fn initialise(
    spec: &FunctionSpec,
    pre: &FunctionPre<State>,
    store: &mut Store<State>,
) -> Result<(Signature, Instance), RegisterError> {
    let time = LimitKind::InitTime(spec.limits.init_time);
    let failed = |error: wasmtime::Error, store: &Store<State>| {
        RegisterError::Invoke(failure(
            &spec.name,
            &error,
            store.data(),
            &spec.limits,
            time,
        ))
    };
    let instance = pre
        .instance_pre()
        .instantiate(&mut *store)
        .map_err(|e| failed(e, store))?;
    let exports = FunctionExports::new(&mut *store, &instance).map_err(|e| failed(e, store))?;
    let transform = exports.wafer_function_transform();
    for (asset, bytes) in &spec.assets {
        let count = bytes.len().div_ceil(ASSET_CHUNK).max(1);
        for n in 0..count {
            let end = ((n + 1) * ASSET_CHUNK).min(bytes.len());
            let chunk = &bytes[n * ASSET_CHUNK..end];
            transform
                .call_load(&mut *store, asset, chunk, n + 1 == count)
                .map_err(|e| failed(e, store))?;
        }
    }
    let parameters: Vec<_> = spec
        .parameters
        .iter()
        .map(|(name, value)| Parameter { name, value })
        .collect();
    let initialised = transform
        .call_init(&mut *store, &parameters)
        .map_err(|e| failed(e, store))?;
    initialised.map_err(|message| RegisterError::Init {
        function: spec.name.clone(),
        message,
    })?;
    let described = transform
        .call_describe(&mut *store)
        .map_err(|e| failed(e, store))?;
    let signature = lift::signature(described).map_err(|message| RegisterError::Signature {
        function: spec.name.clone(),
        message,
    })?;
    Ok((signature, instance))
}

/// Reads an instance's memories and globals through the exports that the
/// snapshotter added.
struct SnapshotReader {
    store: Store<State>,
    instance: Instance,
}

impl SnapshotReader {
    fn call<R, T>(
        &mut self,
        instance: &str,
        func: &str,
        read: impl FnOnce(&Store<State>, R) -> T,
    ) -> T
    where
        R: Lift + Send + Sync + 'static,
    {
        let missing = "the snapshotter exports what it calls";
        let outer = self
            .instance
            .get_export_index(&mut self.store, None, instance)
            .expect(missing);
        let inner = self
            .instance
            .get_export_index(&mut self.store, Some(&outer), func)
            .expect(missing);
        let func = self
            .instance
            .get_typed_func::<(), (R,)>(&mut self.store, inner)
            .expect(missing);
        let (value,) = func
            .call(&mut self.store, ())
            .expect("reading memory does not trap");
        read(&self.store, value)
    }
}

impl ComponentInstanceState for SnapshotReader {
    async fn call_func_ret_list_u8(
        &mut self,
        instance: &str,
        func: &str,
        contents: impl FnOnce(&[u8]) + Send,
    ) {
        self.call(instance, func, |store, list: WasmList<u8>| {
            contents(list.as_le_slice(store))
        });
    }

    async fn call_func_ret_s32(&mut self, instance: &str, func: &str) -> i32 {
        self.call(instance, func, |_, value| value)
    }

    async fn call_func_ret_s64(&mut self, instance: &str, func: &str) -> i64 {
        self.call(instance, func, |_, value| value)
    }

    async fn call_func_ret_f32(&mut self, instance: &str, func: &str) -> u32 {
        self.call(instance, func, |_, value: f32| value.to_bits())
    }

    async fn call_func_ret_f64(&mut self, instance: &str, func: &str) -> u64 {
        self.call(instance, func, |_, value: f64| value.to_bits())
    }
}

/// Runs a future to its end on this thread, which may block.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    match future.as_mut().poll(&mut context) {
        Poll::Ready(output) => output,
        // The store really waits: leave that to a runtime.
        Poll::Pending => match tokio::runtime::Handle::try_current() {
            Ok(handle) => handle.block_on(future),
            Err(_) => tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime of one thread can be made")
                .block_on(future),
        },
    }
}
