//! Registering a function: initialise once, describe, snapshot, compile.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wafer_core::{Digest, Hasher, Signature};
use wafer_store::ArtifactStore;
use wasmtime::component::Component;

use crate::bindings::FunctionPre;
use crate::compile::CompileError;
use crate::engine::{EngineSet, Target};
use crate::error::InvokeError;
use crate::function::Function;
use crate::limits::Limits;
use crate::state::State;
use crate::{CONTRACT, Runtime, load};

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
        let code = self.compile(&spec.name, &snapshot, spec.strict_nan, Target::Here)?;
        let name = code_name(&registered, Target::Here);
        block_on(artifacts.put(&name, code.into()))?;
        Ok(registered)
    }

    #[cfg(not(feature = "compiler"))]
    fn snapshot(&self, spec: &FunctionSpec) -> Result<(Signature, Vec<u8>), RegisterError> {
        Err(RegisterError::Compile {
            function: spec.name.clone(),
            source: CompileError::Absent,
        })
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
        let name = code_name(registered, Target::Here);
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
        let code = self.compile(name, &snapshot, registered.strict_nan, Target::Here)?;
        let component = load::from_bytes(&set.engine, &code).map_err(|e| host(name, &e))?;
        block_on(artifacts.put(&code_name(registered, Target::Here), code.into()))?;
        Ok(component)
    }

    /// Compiles a registered function for some kind of machine, unless that was done;
    /// says whether it was not.
    ///
    /// # Errors
    /// [`RegisterError`]
    pub fn compile_for(
        &self,
        target: Target,
        name: &str,
        registered: &Registered,
        artifacts: &dyn ArtifactStore,
    ) -> Result<bool, RegisterError> {
        let code_name = code_name(registered, target);
        if block_on(artifacts.contains(&code_name))? {
            return Ok(false);
        }
        let snapshot = block_on(wafer_store::ArtifactStoreExt::get_blob(
            artifacts,
            registered.snapshot,
        ))?;
        let code = self.compile(name, &snapshot, registered.strict_nan, target)?;
        block_on(artifacts.put(&code_name, code.into()))?;
        Ok(true)
    }

    pub(crate) fn compile(
        &self,
        name: &str,
        component: &[u8],
        strict_nan: bool,
        target: Target,
    ) -> Result<Vec<u8>, RegisterError> {
        let compiled = self
            .shared
            .config
            .compiler
            .compile(target, strict_nan, component);
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
}

/// Where the native code of a function is kept: by everything it depends on.
fn code_name(registered: &Registered, target: Target) -> String {
    format!(
        "compiled/{}/{}.cwasm",
        target.compatibility(registered.strict_nan),
        registered.digest.hex()
    )
}

pub(crate) fn host(function: &str, error: &wasmtime::Error) -> RegisterError {
    InvokeError::Host {
        function: function.to_owned(),
        message: format!("{error:#}"),
    }
    .into()
}

pub(crate) fn link(set: &EngineSet, component: &Component) -> Result<FunctionPre<State>, String> {
    set.linker
        .instantiate_pre(component)
        .and_then(FunctionPre::new)
        .map_err(|e| format!("its types differ from the contract's: {e:#}"))
}

/// Runs a future to its end on this thread, which may block.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
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
