//! Snapshots: a component is initialised, and its memory becomes the initial memory of a new
//! component.

use wafer_core::{Digest, Signature};
use wafer_store::ArtifactStore;
use wasmtime::Store;
use wasmtime::component::{Instance, Lift, WasmList};
use wasmtime_wizer::{ComponentInstanceState, Wizer};

use crate::bindings::FunctionPre;
use crate::engine::Target;
use crate::error::LimitKind;
use crate::function::failure;
use crate::register::{FunctionSpec, RegisterError, block_on, host, limited, linked, not_loaded};
use crate::state::State;
use crate::{Runtime, lift, load, reopen};

impl Runtime {
    /// Initialises a function, and returns its signature and its snapshot.
    pub(crate) fn snapshot(
        &self,
        spec: &FunctionSpec,
    ) -> Result<(Signature, Vec<u8>), RegisterError> {
        let refuse = |message: String| RegisterError::Component {
            function: spec.name.clone(),
            message,
        };
        let wizer = Wizer::new();
        let (context, instrumented) = wizer
            .instrument_component(&spec.component)
            .map_err(|e| refuse(format!("{e:#}")))?;
        let set = self
            .engine(spec.strict_nan)
            .map_err(|e| host(&spec.name, &e))?;
        let digest = Digest::of(&spec.component);
        let code = self.compile(&spec.compiler_input(&instrumented, digest), Target::Here)?;
        let component =
            load::from_bytes(&set.engine, &code).map_err(|e| not_loaded(&spec.name, &e))?;
        let pre: FunctionPre = linked(&set, &component, digest).map_err(refuse)?;

        let mut store = limited(&pre, spec);
        let result = initialise(spec, &pre, &mut store);
        store.data_mut().emit(&spec.name);
        let (signature, instance) = result?;
        let Some(streams) = store.data().kept_streams() else {
            return Err(RegisterError::init(&spec.name, HOLDS_HANDLES.to_owned()));
        };

        // The limits of the function do not apply while the host reads its memory.
        store.set_epoch_deadline(u64::MAX / 2);
        store.set_hostcall_fuel(usize::MAX);
        let mut reader = SnapshotReader { store, instance };
        let snapshot = block_on(wizer.snapshot_component(&context, &mut reader))
            .map_err(|e| refuse(format!("its memory cannot be snapshotted: {e:#}")))?;
        let snapshot = reopen::with_streams(snapshot, &streams)
            .map_err(|message| refuse(format!("its streams cannot be opened again: {message}")))?;
        Ok((signature, snapshot))
    }
}

/// Why a function is refused whose handles would be others in a new instance.
const HOLDS_HANDLES: &str = "after `init` and `describe` it holds handles of WASI that a snapshot \
     cannot keep: what it can wait for (pollables), or a stream that it opened after it had closed \
     a handle. Close them before these functions return, and open them in `call`";

impl Runtime {
    /// Initialises a function in a new instance like [`register`](Self::register), but makes no
    /// snapshot, and returns its signature. For measuring what every call would cost without
    /// snapshots. The component is compiled unless its native code is in `artifacts`.
    ///
    /// # Errors
    /// Returns [`RegisterError`].
    pub fn initialise_once(
        &self,
        spec: &FunctionSpec,
        artifacts: &dyn ArtifactStore,
    ) -> Result<Signature, RegisterError> {
        let pre: FunctionPre = self.linked(spec, artifacts)?;
        let mut store = limited(&pre, spec);
        Ok(initialise(spec, &pre, &mut store)?.0)
    }
}

/// Creates an instance, loads its assets, initialises it and asks for its signature.
pub(crate) fn initialise(
    spec: &FunctionSpec,
    pre: &FunctionPre,
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
    let (instance, transform) = pre.instantiate(&mut *store).map_err(|e| failed(e, store))?;
    spec.load_assets(|name, chunk, last| {
        transform
            .call_load(&mut *store, name, chunk, last)
            .map_err(|e| failed(e, store))
    })?;
    let parameters = spec.wit_parameters();
    let initialised = transform
        .call_init(&mut *store, &parameters)
        .map_err(|e| failed(e, store))?;
    initialised.map_err(|message| RegisterError::init(&spec.name, message))?;
    let described = transform
        .call_describe(&mut *store)
        .map_err(|e| failed(e, store))?;
    let signature = lift::signature(described)
        .map_err(|message| RegisterError::signature(&spec.name, message))?;
    Ok((signature, instance))
}

/// Reads the memories and globals of an instance, through exports that Wizer added to the
/// component.
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
