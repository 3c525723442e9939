//! Interpreters: components whose code is the same for many functions, because their sources are
//! assets (`wit/interpreter/memory.wit`).
//!
//! A function in an interpreter has no snapshot and no native code of its own. When it is
//! registered (`difference.rs`), the host computes what its initialised memory has
//! different from that of a new instance, a [`Delta`]. Each call runs in a new instance of the
//! interpreter, which is given that memory first. The functions of a process share the code and
//! the memory image of their interpreter.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use wasmtime::Store;
use wasmtime::component::Instance;

use crate::bindings::{FunctionPre, memory};
use crate::delta::Delta;
use crate::register::{Code, RegisterError};
use crate::state::State;

/// A linked interpreter.
pub(crate) struct Interpreter {
    pub(crate) function: FunctionPre,
    memory: memory::GuestIndices,
}

impl Interpreter {
    /// Looks up the functions for its memory in a linked component.
    ///
    /// # Errors
    /// Fails when the component does not export them.
    pub(crate) fn new(function: FunctionPre) -> wasmtime::Result<Self> {
        let memory = memory::GuestIndices::new(&function.instance)?;
        Ok(Self { function, memory })
    }

    /// Gives a new instance the memory of an initialised one.
    pub(crate) fn restore(
        &self,
        delta: &Delta,
        store: &mut Store<State>,
        instance: &Instance,
    ) -> wasmtime::Result<()> {
        let memory = self.memory.load(&mut *store, instance)?;
        memory.call_expect(&mut *store, delta.pages())?;
        memory.call_write(&mut *store, delta.addresses(), &delta.runs())
    }
}

/// The memory with which the instances of a function in an interpreter begin.
pub(crate) struct InitialMemory {
    interpreter: Arc<Interpreter>,
    delta: Delta,
}

impl InitialMemory {
    pub(crate) fn new(interpreter: Arc<Interpreter>, delta: Delta) -> Self {
        Self { interpreter, delta }
    }

    /// Gives this memory to a new instance. The time that it takes is part of the call's.
    ///
    /// # Errors
    /// Fails when the memory is larger than the limit, or the time of the call is over.
    pub(crate) fn restore(
        &self,
        store: &mut Store<State>,
        instance: &Instance,
    ) -> wasmtime::Result<()> {
        self.interpreter.restore(&self.delta, store, instance)
    }
}

/// The interpreters whose functions are loaded in this process.
#[derive(Default)]
pub(crate) struct Interpreters(Mutex<HashMap<Code, InterpreterSlot>>);

/// Where an interpreter is while a function of it is loaded. Whoever loads it holds the lock, so
/// that others wait for its code instead of compiling it as well.
type InterpreterSlot = Arc<Mutex<Weak<Interpreter>>>;

impl Interpreters {
    /// Returns the interpreter with this code, which is loaded if no function of it is.
    ///
    /// # Errors
    /// Returns the error of `load`.
    pub(crate) fn get_or_load(
        &self,
        code: Code,
        load: impl FnOnce() -> Result<Interpreter, RegisterError>,
    ) -> Result<Arc<Interpreter>, RegisterError> {
        let place = self.place_of(code);
        let mut kept = lock(&place);
        if let Some(loaded) = kept.upgrade() {
            return Ok(loaded);
        }
        let loaded = Arc::new(load()?);
        *kept = Arc::downgrade(&loaded);
        Ok(loaded)
    }

    /// Returns the place of an interpreter. The places of those of which no function is loaded any
    /// more are given up, unless somebody holds them to load one.
    fn place_of(&self, code: Code) -> InterpreterSlot {
        let mut places = lock(&self.0);
        places.retain(|_, place| Arc::strong_count(place) > 1 || lock(place).strong_count() > 0);
        Arc::clone(places.entry(code).or_default())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use wafer_core::Digest;

    use super::*;

    #[test]
    fn interpreters_that_are_not_loaded_any_more_keep_no_place() {
        let code = |number: u8| Code::of_component(Digest::of(&[number]), false);
        let failed = || {
            Err(RegisterError::Init {
                function: "f".to_owned(),
                message: "it fails".to_owned(),
            })
        };
        let interpreters = Interpreters::default();
        for number in 0..3 {
            assert!(interpreters.get_or_load(code(number), failed).is_err());
            assert_eq!(lock(&interpreters.0).len(), 1);
        }
        // Somebody is about to load this one.
        let held = interpreters.place_of(code(7));
        assert!(interpreters.get_or_load(code(8), failed).is_err());
        assert!(Arc::ptr_eq(&held, &interpreters.place_of(code(7))));
    }
}
