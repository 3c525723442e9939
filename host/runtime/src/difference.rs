//! Registering a function in an interpreter: it is initialised, and its memory is compared with
//! that of a new instance.

use bytes::Bytes;
use wafer_core::{Signature, bytes_text};
use wafer_store::ArtifactStore;
use wasmtime::Store;
use wasmtime::component::{Instance, WasmList};

use crate::Runtime;
use crate::bindings::FunctionPre;
use crate::deadline::start_time;
use crate::delta::{Delta, MAX_RUN_BYTES, MAX_RUNS};
use crate::error::said;
use crate::interpreter::Interpreter;
use crate::register::{FunctionSpec, RegisterError, host, limited};
use crate::snapshot::initialise;
use crate::state::State;

/// The interface that makes a component an interpreter.
const MEMORY: &str = "wafer:interpreter/memory@0.1.0";

impl Runtime {
    /// Initialises a function in its interpreter, and returns its signature and its compressed
    /// delta. The interpreter is compiled unless its native code is in `artifacts`.
    ///
    /// Returns `None` if the component is not an interpreter, or if a delta cannot stand for the
    /// memory of the function. The function needs a snapshot then.
    ///
    /// # Errors
    /// Returns [`RegisterError`].
    pub(crate) fn delta(
        &self,
        spec: &FunctionSpec,
        artifacts: &dyn ArtifactStore,
    ) -> Result<Option<(Signature, Bytes)>, RegisterError> {
        if !has_name(&spec.component, MEMORY) {
            return Ok(None);
        }
        let function: FunctionPre = self.linked(spec, artifacts)?;
        let component = function.instance.component();
        if component.get_export_index(None, MEMORY).is_none() {
            return Ok(None);
        }
        let mut store = limited(&function, spec);
        let initialised = initialise(spec, &function, &mut store);
        let made = initialised.and_then(|(signature, instance)| {
            let mut new_store = limited(&function, spec);
            let new = function.instantiate(&mut new_store);
            let (new_instance, _) = new.map_err(|e| host(&spec.name, &e))?;
            let mut initialised = Running {
                store: &mut store,
                instance,
            };
            let mut new = Running {
                store: &mut new_store,
                instance: new_instance,
            };
            let delta = delta(function, spec, &mut initialised, &mut new);
            Ok(delta.map(|delta| (signature, delta)))
        });
        if let Ok(Err(reason)) = &made {
            tracing::warn!(
                "function `{}` does not share the compiled code of its interpreter, and is compiled by \
                 itself, which takes longer: {reason}",
                spec.name
            );
        } else {
            // Otherwise the function is initialised again, and says again what it said.
            store.data_mut().emit(&spec.name);
        }
        made.map(Result::ok)
    }
}

/// Returns whether a component may export something of this name. It would be near its end.
fn has_name(component: &[u8], name: &str) -> bool {
    let mut places = component.windows(name.len()).rev();
    places.any(|place| place == name.as_bytes())
}

/// Computes what an initialised instance has different from a new one, and gives it to the new one
/// as every call will, to see that the memories are the same then.
///
/// # Errors
/// Returns why there is no delta.
fn delta(
    function: FunctionPre,
    spec: &FunctionSpec,
    initialised: &mut Running<'_>,
    new: &mut Running<'_>,
) -> Result<Bytes, String> {
    let interpreter = Interpreter::new(function).map_err(|e| text(&e))?;
    let kept = initialised.store.data().kept_streams();
    if kept.is_none() || kept != new.store.data().kept_streams() {
        return Err("it holds other handles of WASI than a new instance".to_owned());
    }
    let wanted = initialised.read(spec)?;
    let wanted = wanted.as_le_slice(&*initialised.store);
    let before = new.read(spec)?;
    let delta = Delta::between(before.as_le_slice(&*new.store), wanted).ok_or_else(too_large)?;
    let restored = interpreter.restore(&delta, new.store, &new.instance);
    restored.map_err(|e| text(&e))?;
    let found = new.read(spec)?;
    if found.as_le_slice(&*new.store) != wanted {
        return Err("the interpreter's `write` leaves another memory than it should".to_owned());
    }
    let packed = delta.pack();
    packed.map_err(|e| format!("its memory cannot be compressed: {e}"))
}

fn too_large() -> String {
    format!(
        "its sources and assets take more than {} of memory, or more than {MAX_RUNS} pieces of it",
        bytes_text(MAX_RUN_BYTES as u64)
    )
}

/// Returns what a guest did, for a message.
fn text(error: &wasmtime::Error) -> String {
    said(error.root_cause())
}

/// An instance of an interpreter.
struct Running<'a> {
    store: &'a mut Store<State>,
    instance: Instance,
}

impl Running<'_> {
    /// Calls `read`, which has as much time as an initialisation. The memory is not copied, so that
    /// its size is not an output. A list of its size is all of it.
    fn read(&mut self, spec: &FunctionSpec) -> Result<WasmList<u8>, String> {
        start_time(self.store, spec.limits.init_time);
        self.store.set_hostcall_fuel(usize::MAX);
        let found = "an interpreter exports it";
        let memory = self
            .instance
            .get_export_index(&mut *self.store, None, MEMORY);
        let memory = memory.expect(found);
        let read = self
            .instance
            .get_export_index(&mut *self.store, Some(&memory), "read");
        let read = read.expect(found);
        let read = self
            .instance
            .get_typed_func::<(), (WasmList<u8>,)>(&mut *self.store, read);
        let read = read.map_err(|e| text(&e))?;
        let (list,) = read.call(&mut *self.store, ()).map_err(|e| text(&e))?;
        match list.len() as u64 == self.store.data().memory() {
            true => Ok(list),
            false => Err("the interpreter's `read` does not return the whole memory".to_owned()),
        }
    }
}
