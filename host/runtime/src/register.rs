//! Registering functions (initialise, describe, snapshot, compile) and loading them.
//!
//! [`Runtime::register`] instruments the component for the snapshot, compiles it (`compile.rs`),
//! checks its imports and exports, passes the assets to it, calls `init` and `describe` under
//! limits, and writes its memory back as the initial memory of a new component (`snapshot.rs`).
//! This snapshot and its native code are artifacts, named by everything that they depend on.
//! [`Runtime::load`] maps the native code, or compiles the snapshot again if the code is missing or
//! damaged.
//!
//! A function in an interpreter (`interpreter.rs`) has a memory delta in the place of a snapshot
//! (`difference.rs`), and its native code is that of the component itself, which all functions of
//! the interpreter share.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wafer_core::{Digest, Hasher, Signature, bytes_text};
use wafer_store::{ArtifactStore, ArtifactStoreExt as _, COMPILED, Error, Kind, blob_name};
use wasmtime::Store;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use crate::asset::Asset;
use crate::bindings::types::Parameter;
use crate::bindings::{Exports, FunctionPre, Linked};
use crate::compile::{CompileError, Compiler};
use crate::deadline::start_time;
use crate::delta::Delta;
use crate::engine::{EngineSet, Target};
use crate::error::{InvokeError, said};
use crate::function::Function;
use crate::interpreter::{InitialMemory, Interpreter};
use crate::limits::Limits;
use crate::state::{
    MAX_INSTANCE_BYTES, MAX_MEMORIES, MAX_MODULES, MAX_TABLE_ELEMENTS, MAX_TABLES, State,
};
use crate::{CONTRACT, Runtime, load, wasi};

/// The definition of a function or trainer that is to be registered.
#[derive(Clone, Debug, Default)]
pub struct FunctionSpec {
    /// Name for error messages and logs.
    pub name: String,
    /// The bytes of the component.
    pub component: Bytes,
    /// Assets by name, passed to `load`.
    pub assets: BTreeMap<String, Asset>,
    /// Parameters by name, passed to `init`.
    pub parameters: BTreeMap<String, String>,
    /// Limits of each call.
    pub limits: Limits,
    /// Whether NaNs have canonical bits inside the function, too, at the cost of slower
    /// arithmetic. Outputs have canonical NaNs in any case. Setting `strict_nan`.
    pub strict_nan: bool,
}

impl FunctionSpec {
    /// Computes the function's identity, a digest of component, assets, parameters and
    /// `strict_nan`. Limits are not part of it, because they do not change the result of a call.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new();
        hasher
            .part(b"wafer function 1")
            .part(Digest::of(&self.component).as_bytes());
        for (name, asset) in &self.assets {
            hasher
                .part(b"asset")
                .part(name.as_bytes())
                .part(asset.digest().as_bytes());
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

    pub(crate) fn wit_parameters(&self) -> Vec<Parameter<'_>> {
        self.parameters
            .iter()
            .map(|(name, value)| Parameter { name, value })
            .collect()
    }

    /// Returns what the compiler is given to compile a component with the same functions.
    /// `origin` is the digest of this one.
    pub(crate) fn compiler_input<'a>(
        &'a self,
        component: &'a [u8],
        origin: Digest,
    ) -> CompilerInput<'a> {
        CompilerInput {
            function: &self.name,
            component,
            origin,
            strict_nan: self.strict_nan,
        }
    }

    /// Passes the assets to `load` in chunks, in the order of their names.
    pub(crate) fn load_assets(
        &self,
        mut load: impl FnMut(&str, &[u8], bool) -> Result<(), RegisterError>,
    ) -> Result<(), RegisterError> {
        for (name, asset) in &self.assets {
            let unreadable = |e: std::io::Error| InvokeError::Host {
                function: self.name.clone(),
                message: format!("asset `{name}` cannot be read: {e}"),
            };
            asset.chunks(unreadable, |chunk, last| load(name, chunk, last))?;
        }
        Ok(())
    }
}

/// A registered function: immutable, with everything that is needed to load it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// Identity of the function; see [`FunctionSpec::digest`].
    pub digest: Digest,
    /// Digest of the component's bytes.
    pub component: Digest,
    /// Digest of the snapshot, which is an artifact. Of a function with a delta it is the digest
    /// of that: versions of Wafer that know no deltas refuse it, because it is not a component.
    pub snapshot: Digest,
    /// Digest of the memory delta of a function in an interpreter, which is an artifact, as its
    /// component is. `None` for functions with a snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<Digest>,
    /// Input and output columns of the function.
    pub signature: Signature,
    /// Whether the function is compiled with canonical NaNs; see [`FunctionSpec::strict_nan`].
    #[serde(default)]
    pub strict_nan: bool,
}

impl Registered {
    /// Returns the digests of the artifacts that the function is made from when it is loaded. What
    /// is compiled can be made again from them.
    pub fn artifacts(&self) -> impl Iterator<Item = Digest> {
        [Some(self.compiled()), self.delta].into_iter().flatten()
    }

    /// Digest of the component whose native code is that of the function.
    fn compiled(&self) -> Digest {
        match self.delta {
            Some(_) => self.component,
            None => self.snapshot,
        }
    }
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
    /// `init` returned an error, or `begin` for a trainer.
    #[error("function `{function}` could not be initialised: {message}")]
    Init {
        /// Name of the function.
        function: String,
        /// Message of the function.
        message: String,
    },
    /// The signature violates the contract.
    #[error("function `{function}` describes itself wrongly: {message}")]
    Signature {
        /// Name of the function.
        function: String,
        /// What is wrong with it.
        message: String,
    },
    /// The function trapped or exceeded a limit in `load`, `init` or `describe`.
    #[error("while it was initialised: {0}")]
    Invoke(#[from] InvokeError),
    /// The compiler is absent, could not be run, or took too much time or memory.
    #[error("function `{function}` could not be compiled: {source}")]
    Compile {
        /// Name of the function.
        function: String,
        /// The cause.
        source: CompileError,
    },
    /// The artifact store failed.
    #[error(transparent)]
    Store(#[from] wafer_store::Error),
}

impl RegisterError {
    /// The error of a function that refused to be initialised.
    pub(crate) fn init(function: &str, message: String) -> Self {
        Self::Init {
            function: function.to_owned(),
            message: said(message),
        }
    }

    /// The error of a function whose columns are not valid.
    pub(crate) fn signature(function: &str, message: String) -> Self {
        Self::Signature {
            function: function.to_owned(),
            message: said(message),
        }
    }
}

impl From<RegisterError> for wafer_store::Error {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::Store(store) => store,
            error => {
                let message = error.to_string();
                // The message already includes that of the call's error, so it is not the source.
                match error {
                    RegisterError::Invoke(InvokeError::Starved { .. }) => {
                        Self::new(wafer_store::Kind::Unavailable, message)
                    }
                    RegisterError::Invoke(_) => Self::new(wafer_store::Kind::Function, message),
                    error => Self::caused(wafer_store::Kind::Function, message, error),
                }
            }
        }
    }
}

/// Creates a store with the limits of an initialisation.
pub(crate) fn limited<I: Exports>(linked: &Linked<I>, spec: &FunctionSpec) -> Store<State> {
    let mut store = linked.store(spec.limits.memory);
    store.set_hostcall_fuel(usize::try_from(spec.limits.output).unwrap_or(usize::MAX));
    start_time(&mut store, spec.limits.init_time);
    store
}

impl Runtime {
    /// Registers a function: checks its world, loads its assets, initialises it, asks for its
    /// signature, snapshots it, and stores the snapshot and its native code in `artifacts`. Of a
    /// function in an interpreter it stores the memory delta and the component in their place, and
    /// compiles the component unless its native code is there.
    ///
    /// Runs guest code, under the limits of the function. Blocks; call it on a thread that may
    /// block.
    ///
    /// # Errors
    /// Returns [`RegisterError`].
    pub fn register(
        &self,
        spec: &FunctionSpec,
        artifacts: &dyn ArtifactStore,
    ) -> Result<Registered, RegisterError> {
        if spec.component.get(4..8) == Some(&[1, 0, 0, 0]) {
            return Err(RegisterError::Component {
                function: spec.name.clone(),
                message: "it is a core module; make it with `wafer build`".to_owned(),
            });
        }
        let component = Digest::of(&spec.component);
        if let Some((signature, delta)) = self.delta(spec, artifacts)? {
            let delta = block_on(artifacts.put_blob(delta))?;
            block_on(artifacts.put_new(&blob_name(component), spec.component.clone()))?;
            return Ok(Registered {
                digest: spec.digest(),
                component,
                snapshot: delta,
                delta: Some(delta),
                signature,
                strict_nan: spec.strict_nan,
            });
        }
        let (signature, snapshot) = self.snapshot(spec)?;
        let snapshot = Bytes::from(snapshot);
        let registered = Registered {
            digest: spec.digest(),
            component,
            snapshot: block_on(artifacts.put_blob(snapshot.clone()))?,
            delta: None,
            signature,
            strict_nan: spec.strict_nan,
        };
        let code = self.compile(&spec.compiler_input(&snapshot, component), Target::Here)?;
        let name = Code::of(&registered).name(Target::Here);
        block_on(artifacts.put(&name, code))?;
        Ok(registered)
    }

    #[cfg(not(feature = "compiler"))]
    fn delta(
        &self,
        _: &FunctionSpec,
        _: &dyn ArtifactStore,
    ) -> Result<Option<(Signature, Bytes)>, RegisterError> {
        Ok(None)
    }

    #[cfg(not(feature = "compiler"))]
    fn snapshot(&self, spec: &FunctionSpec) -> Result<(Signature, Vec<u8>), RegisterError> {
        Err(RegisterError::Compile {
            function: spec.name.clone(),
            source: CompileError::Absent,
        })
    }

    /// Loads a registered function: maps its native code into memory, and first compiles it again
    /// if the code is missing, damaged or from another version of the compiler. The code of an
    /// interpreter is mapped once for all of its functions that are loaded. Blocks.
    ///
    /// # Errors
    /// Returns [`RegisterError`].
    pub fn load(
        &self,
        name: &str,
        registered: &Registered,
        limits: &Limits,
        artifacts: &dyn ArtifactStore,
    ) -> Result<Function, RegisterError> {
        let (pre, memory) = match registered.delta {
            None => (self.registered(name, registered, artifacts)?, None),
            Some(delta) => {
                let interpreter = self.interpreter(name, registered, artifacts)?;
                let delta = stored_delta(name, delta, artifacts)?;
                let pre = interpreter.function.clone();
                (pre, Some(InitialMemory::new(interpreter, delta)))
            }
        };
        Ok(Function::new(
            name,
            registered.signature.clone(),
            limits.clone(),
            pre,
            memory,
            self.clone(),
        ))
    }

    /// Returns the interpreter of a registered function, which its other functions use as well.
    fn interpreter(
        &self,
        name: &str,
        registered: &Registered,
        artifacts: &dyn ArtifactStore,
    ) -> Result<Arc<Interpreter>, RegisterError> {
        let interpreters = &self.shared.interpreters;
        interpreters.get_or_load(Code::of(registered), || {
            let function = self.registered(name, registered, artifacts)?;
            Interpreter::new(function).map_err(|e| RegisterError::Component {
                function: name.to_owned(),
                message: format!("it is not an interpreter: {e:#}"),
            })
        })
    }

    /// Loads the native code of a registered function, or compiles it, and links it.
    fn registered(
        &self,
        name: &str,
        registered: &Registered,
        artifacts: &dyn ArtifactStore,
    ) -> Result<FunctionPre, RegisterError> {
        let set = self
            .engine(registered.strict_nan)
            .map_err(|e| host(name, &e))?;
        let code = Code::of(registered);
        let code = (&code, registered.component);
        let component = self.component(name, code, &set, artifacts, || {
            Ok(block_on(artifacts.get_blob(registered.compiled()))?)
        })?;
        link(&set, &component, registered.component).map_err(|message| RegisterError::Component {
            function: name.to_owned(),
            message,
        })
    }

    /// Checks that a component exports the world of a function, and compiles it unless its native
    /// code is in `artifacts`. Runs no guest code.
    ///
    /// # Errors
    /// Returns [`RegisterError`].
    pub fn check_function(
        &self,
        spec: &FunctionSpec,
        artifacts: &dyn ArtifactStore,
    ) -> Result<(), RegisterError> {
        let checked: Result<FunctionPre, _> = self.linked(spec, artifacts);
        checked.map(drop)
    }

    /// Compiles and links the component of `spec` itself, without a snapshot, and checks its world.
    pub(crate) fn linked<I: Exports>(
        &self,
        spec: &FunctionSpec,
        artifacts: &dyn ArtifactStore,
    ) -> Result<Linked<I>, RegisterError> {
        let set = self
            .engine(spec.strict_nan)
            .map_err(|e| host(&spec.name, &e))?;
        let digest = Digest::of(&spec.component);
        let code = Code::of_component(digest, spec.strict_nan);
        let component = self.component(&spec.name, (&code, digest), &set, artifacts, || {
            Ok(spec.component.clone())
        })?;
        linked(&set, &component, digest).map_err(|message| RegisterError::Component {
            function: spec.name.clone(),
            message,
        })
    }

    /// Maps native code into memory. If it is missing, damaged or from another version of the
    /// compiler, compiles it from the component that `source` returns, and stores it. `origin` is
    /// the digest of the component that was registered.
    pub(crate) fn component(
        &self,
        name: &str,
        (code, origin): (&Code, Digest),
        set: &EngineSet,
        artifacts: &dyn ArtifactStore,
        source: impl FnOnce() -> Result<Bytes, RegisterError>,
    ) -> Result<Component, RegisterError> {
        if let Some(component) = load_code(set, code, artifacts) {
            return Ok(component);
        }
        let input = CompilerInput {
            function: name,
            component: &source()?,
            origin,
            strict_nan: code.strict_nan,
        };
        let compiled = self.compile(&input, Target::Here)?;
        let component =
            load::from_bytes(&set.engine, &compiled).map_err(|e| not_loaded(name, &e))?;
        block_on(artifacts.put(&code.name(Target::Here), compiled))?;
        Ok(component)
    }

    /// Compiles a registered function for a kind of machine, unless the native code, which may be
    /// that of its interpreter, is in `artifacts`. Returns whether it was compiled.
    ///
    /// # Errors
    /// Returns [`RegisterError`].
    pub fn compile_for(
        &self,
        target: Target,
        name: &str,
        registered: &Registered,
        artifacts: &dyn ArtifactStore,
    ) -> Result<bool, RegisterError> {
        let code_name = Code::of(registered).name(target);
        if block_on(artifacts.contains(&code_name))? {
            return Ok(false);
        }
        let component = block_on(artifacts.get_blob(registered.compiled()))?;
        let input = CompilerInput {
            function: name,
            component: &component,
            origin: registered.component,
            strict_nan: registered.strict_nan,
        };
        let code = self.compile(&input, target)?;
        block_on(artifacts.put(&code_name, code))?;
        Ok(true)
    }

    /// Compiles a component, unless its native code is kept on this machine.
    pub(crate) fn compile(
        &self,
        source: &CompilerInput<'_>,
        target: Target,
    ) -> Result<Bytes, RegisterError> {
        let config = &self.shared.config;
        let Some(cache) = &config.code_cache else {
            return Ok(source.compile(&config.compiler, target, None)?.into());
        };
        let machine = format!("{}-{COMPILER}", target.compatibility(source.strict_nan));
        let kept_name = format!("{machine}/{}.cwasm", Digest::of(source.component).hex());
        if let Some(code) = cache.get(&kept_name) {
            match self.check_kept(source, target, &code) {
                Ok(()) => return Ok(code),
                Err(error) => {
                    tracing::info!(
                        "kept code {kept_name} cannot be used, compiling again: {error}"
                    );
                }
            }
        }
        let function_code =
            cache.function_code(&format!("{machine}/{}.functions", source.origin.hex()));
        let code = source.compile(&config.compiler, target, function_code.as_deref())?;
        cache.put(&kept_name, &code);
        Ok(code.into())
    }
}

impl Runtime {
    /// Checks that code that was kept can be loaded on this machine, if it is for this machine.
    fn check_kept(
        &self,
        source: &CompilerInput<'_>,
        target: Target,
        code: &[u8],
    ) -> Result<(), RegisterError> {
        if target != Target::Here {
            return Ok(());
        }
        let set = self
            .engine(source.strict_nan)
            .map_err(|e| host(source.function, &e))?;
        let loaded = load::from_bytes(&set.engine, code);
        loaded.map(drop).map_err(|e| host(source.function, &e))
    }
}

/// The size of a component from which on compiling it is announced.
const LARGE_COMPONENT: usize = 1 << 20;

/// The versions of the compiler and of Wafer, for code that is kept for other projects: a version
/// of the compiler that mends what another one compiled wrongly does not use what that one left.
const COMPILER: &str = concat!("48.0.8-wafer", env!("CARGO_PKG_VERSION"));

/// A component that is compiled.
pub(crate) struct CompilerInput<'a> {
    /// The name of the function, for errors.
    pub(crate) function: &'a str,
    /// The bytes of the component.
    pub(crate) component: &'a [u8],
    /// The digest of the component that was registered. This one is the same, or has the same
    /// functions.
    pub(crate) origin: Digest,
    /// Whether NaNs are made canonical.
    pub(crate) strict_nan: bool,
}

impl CompilerInput<'_> {
    fn compile(
        &self,
        compiler: &Compiler,
        target: Target,
        function_code: Option<&Path>,
    ) -> Result<Vec<u8>, RegisterError> {
        if self.component.len() >= LARGE_COMPONENT {
            tracing::info!(
                target: "compiler",
                "function `{}`: its component of {} is compiled to native code; this takes up to a minute",
                self.function,
                bytes_text(self.component.len() as u64)
            );
        }
        let compiled = compiler.compile(target, self.strict_nan, self.component, function_code);
        compiled.map_err(|source| match source {
            CompileError::Invalid(message) => RegisterError::Component {
                function: self.function.to_owned(),
                message,
            },
            source => RegisterError::Compile {
                function: self.function.to_owned(),
                source,
            },
        })
    }
}

/// Identifies the native code of a component.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Code {
    /// Digest of the input of the compiler.
    digest: Digest,
    strict_nan: bool,
}

impl Code {
    fn of(registered: &Registered) -> Self {
        match registered.delta {
            Some(_) => Self::of_component(registered.component, registered.strict_nan),
            None => Self {
                digest: registered.digest,
                strict_nan: registered.strict_nan,
            },
        }
    }

    /// The code of a component itself, as opposed to its snapshot.
    pub(crate) fn of_component(component: Digest, strict_nan: bool) -> Self {
        let mut hasher = Hasher::new();
        hasher.part(b"wafer component 1").part(component.as_bytes());
        Self {
            digest: hasher.finish(),
            strict_nan,
        }
    }

    /// Returns the name of the artifact that holds the code.
    fn name(&self, target: Target) -> String {
        let machine = target.compatibility(self.strict_nan);
        format!("{COMPILED}{machine}/{}.cwasm", self.digest.hex())
    }
}

/// Reads the memory delta with this digest.
fn stored_delta(
    function: &str,
    digest: Digest,
    artifacts: &dyn ArtifactStore,
) -> Result<Delta, RegisterError> {
    let packed = block_on(artifacts.get_blob_at_most(digest, Delta::max_packed_bytes()))?;
    Delta::unpack(&packed).map_err(|reason| {
        let message = format!(
            "the memory of function `{function}`, artifact {} in {artifacts}, cannot be read: {reason}. \
             Change the function and apply it again",
            blob_name(digest)
        );
        RegisterError::Store(Error::new(Kind::Corrupt, message))
    })
}

fn load_code(set: &EngineSet, code: &Code, artifacts: &dyn ArtifactStore) -> Option<Component> {
    let name = code.name(Target::Here);
    let path = block_on(artifacts.file(&name))
        .inspect_err(|e| tracing::warn!("compiled code {name} cannot be read: {e}"))
        .ok()??;
    load::from_file(&set.engine, &path)
        .inspect_err(|e| {
            tracing::info!("compiled code {name} cannot be used, compiling again: {e:#}")
        })
        .ok()
}

pub(crate) fn host(function: &str, error: &wasmtime::Error) -> RegisterError {
    InvokeError::Host {
        function: function.to_owned(),
        message: format!("{error:#}"),
    }
    .into()
}

/// Returns the error of code that was just compiled and cannot be loaded: an instance of the
/// component would have more than a place in the pool has room for, or the host cannot map it.
pub(crate) fn not_loaded(function: &str, error: &wasmtime::Error) -> RegisterError {
    let reason = format!("{error:#}");
    // wasmtime has no type for this error. What it says of a size is followed by a table.
    if !reason.contains("pooling allocator") {
        return host(function, error);
    }
    let (reason, _) = reason
        .split_once("; breakdown")
        .unwrap_or((reason.as_str(), ""));
    RegisterError::Component {
        function: function.to_owned(),
        message: format!(
            "an instance of it is larger than a sandbox ({MAX_MODULES} core modules, {MAX_MEMORIES} memories, \
             {MAX_TABLES} tables of {MAX_TABLE_ELEMENTS} entries, {} beside them); make it of fewer modules or \
             less code: {reason}",
            bytes_text(MAX_INSTANCE_BYTES as u64)
        ),
    }
}

/// Links a component, and looks up the exports of its world. `digest` is that of the component that
/// was registered, of which this one may be the snapshot.
pub(crate) fn link<I: Exports>(
    set: &EngineSet,
    component: &Component,
    digest: Digest,
) -> Result<Linked<I>, String> {
    let has_wasi = wasi::is_imported_by(component);
    let linked = match has_wasi {
        false => set.linker.instantiate_pre(component),
        true => wasi::linker(&set.linker, component)
            .and_then(|linker| linker.instantiate_pre(component)),
    };
    linked
        .and_then(|instance| Linked::new(instance, has_wasi.then_some(digest)))
        .map_err(|e| format!("its types differ from the contract's: {e:#}"))
}

/// Checks the imports and exports of a component, and links it.
pub(crate) fn linked<I: Exports>(
    set: &EngineSet,
    component: &Component,
    digest: Digest,
) -> Result<Linked<I>, String> {
    check_world(set, component, I::INTERFACE)?;
    link(set, component, digest)
}

/// Checks that a component imports nothing but the log and WASI, and exports the interface.
fn check_world(set: &EngineSet, component: &Component, interface: &str) -> Result<(), String> {
    let (package, version) = CONTRACT.split_once('@').expect("a contract has a version");
    let allowed = [
        format!("{package}/log@{version}"),
        format!("{package}/types@{version}"),
    ];
    let ty = component.component_type();
    for (name, _) in ty.imports(&set.engine) {
        if !wasi::is_wasi(name) && !allowed.iter().any(|allowed| allowed == name) {
            return Err(format!(
                "it imports `{name}`; a function may import `{}` and WASI 0.2 only, and is granted no \
                 clock, files, network or randomness by it",
                allowed[0]
            ));
        }
    }
    let wanted = format!("{package}/{interface}@{version}");
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

/// Blocks this thread until a future is complete.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    match future.as_mut().poll(&mut context) {
        Poll::Ready(output) => output,
        // The embedded stores are ready at once; other stores need a Tokio runtime to wait.
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

#[cfg(test)]
mod tests {
    use wafer_core::{DataType, Field, Mapping, Schema};

    use super::*;

    fn registered(function: &str, delta: Option<Digest>) -> Registered {
        let columns = Schema::new(vec![Field::new("x", DataType::Int64, false)]).unwrap();
        Registered {
            digest: Digest::of(function.as_bytes()),
            component: Digest::of(b"component"),
            snapshot: delta.unwrap_or(Digest::of(b"snapshot")),
            delta,
            signature: Signature {
                inputs: columns.clone(),
                outputs: columns,
                mapping: Mapping::OneToOne,
                doc: String::new(),
            },
            strict_nan: false,
        }
    }

    #[test]
    fn kept_code_is_named_by_the_version_of_the_compiler() {
        let here = std::env::var_os("CARGO_MANIFEST_DIR").expect("run by `cargo test`");
        let lock = std::fs::read_to_string(Path::new(&here).join("../../Cargo.lock")).unwrap();
        let (_, package) = lock
            .split_once("name = \"wasmtime\"\nversion = \"")
            .unwrap();
        let (version, _) = package.split_once('"').unwrap();
        let wanted = format!("{version}-wafer{}", env!("CARGO_PKG_VERSION"));
        assert_eq!(COMPILER, wanted, "write this version to COMPILER");
    }

    #[test]
    fn functions_without_a_delta_are_written_and_read_as_before_there_were_deltas() {
        let before = registered("f", None);
        let mut json = serde_json::to_value(&before).unwrap();
        let fields = json.as_object_mut().unwrap();
        assert!(!fields.contains_key("delta"));
        fields.remove("strict_nan");
        let read: Registered = serde_json::from_value(json).unwrap();
        assert_eq!(read, before);
        let artifacts: Vec<_> = read.artifacts().collect();
        assert_eq!(artifacts, [Digest::of(b"snapshot")]);
    }

    #[test]
    fn functions_with_a_delta_are_made_from_it_and_their_interpreter() {
        let delta = Digest::of(b"delta");
        let function = registered("f", Some(delta));
        let json = serde_json::to_vec(&function).unwrap();
        let read: Registered = serde_json::from_slice(&json).unwrap();
        assert_eq!(read, function);
        let artifacts: Vec<_> = read.artifacts().collect();
        assert_eq!(artifacts, [Digest::of(b"component"), delta]);
    }

    #[test]
    fn functions_of_one_interpreter_have_the_same_code() {
        let delta = |name: &str| Some(Digest::of(name.as_bytes()));
        let name = |function: &Registered| Code::of(function).name(Target::X86_64);
        let shared = name(&registered("f", delta("f")));
        assert_eq!(name(&registered("g", delta("g"))), shared);
        assert_ne!(name(&registered("f", None)), shared);
        assert_ne!(
            name(&registered("f", None)),
            name(&registered("g", None)),
            "snapshots are compiled each by itself"
        );
        let strict = Registered {
            strict_nan: true,
            ..registered("f", delta("f"))
        };
        assert_ne!(name(&strict), shared);
    }
}
