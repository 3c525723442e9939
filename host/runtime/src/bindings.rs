//! Host bindings generated from `wit/`. The worlds are generated together, because they share their
//! types.

use wasmtime::component::{Instance, InstancePre};
use wasmtime::{AsContextMut, Result};

use crate::state::State;

pub(crate) use generated::exports::wafer::function::{training, transform};
pub(crate) use generated::exports::wafer::interpreter::memory;
pub(crate) use generated::wafer::function::{log, types};

mod generated {
    #![allow(
        rustdoc::bare_urls,
        missing_docs,
        missing_debug_implementations,
        unreachable_pub,
        reason = "generated code"
    )]
    #![allow(clippy::all, clippy::pedantic, reason = "generated code")]
    #![allow(
        clippy::allow_attributes_without_reason,
        clippy::use_self,
        clippy::clone_on_ref_ptr,
        clippy::needless_pass_by_value,
        reason = "generated code"
    )]

    wasmtime::component::bindgen!({
        inline: "
            package wafer:host;
            world all {
                include wafer:function/function@0.1.0;
                include wafer:function/trainer@0.1.0;
                include wafer:interpreter/interpreter@0.1.0;
            }
        ",
        path: ["../../wit", "../../wit/interpreter"],
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

/// Adds the log, which is all that components may import, to a linker.
pub(crate) fn add_to_linker(linker: &mut wasmtime::component::Linker<State>) -> Result<()> {
    generated::All::add_to_linker::<_, wasmtime::component::HasSelf<_>>(linker, |state| state)
}

/// A linked component of one of the worlds, whose exports have been looked up.
#[derive(Clone)]
pub(crate) struct Linked<I> {
    pub(crate) instance: InstancePre<State>,
    exports: I,
}

/// A linked function.
pub(crate) type FunctionPre = Linked<transform::GuestIndices>;
/// A linked trainer.
pub(crate) type TrainerPre = Linked<training::GuestIndices>;

/// The interface that a world exports.
pub(crate) trait Exports: Sized {
    /// The interface's functions in an instance.
    type Guest;
    /// Name of the interface in the WIT package.
    const INTERFACE: &str;
    /// Looks up the interface's functions in a linked component.
    fn find(instance: &InstancePre<State>) -> Result<Self>;
    /// Loads the interface's functions from an instance.
    fn load(&self, store: impl AsContextMut, instance: &Instance) -> Result<Self::Guest>;
}

macro_rules! exports {
    ($module:ident, $interface:literal) => {
        impl Exports for $module::GuestIndices {
            type Guest = $module::Guest;
            const INTERFACE: &str = $interface;
            fn find(instance: &InstancePre<State>) -> Result<Self> {
                Self::new(instance)
            }
            fn load(
                &self,
                store: impl AsContextMut,
                instance: &Instance,
            ) -> Result<$module::Guest> {
                $module::GuestIndices::load(self, store, instance)
            }
        }
    };
}

exports!(transform, "transform");
exports!(training, "training");

impl<I: Exports> Linked<I> {
    pub(crate) fn new(instance: InstancePre<State>) -> Result<Self> {
        let exports = I::find(&instance)?;
        Ok(Self { instance, exports })
    }

    /// Creates an instance, and loads the functions of its interface.
    pub(crate) fn instantiate(
        &self,
        mut store: impl AsContextMut<Data = State>,
    ) -> Result<(Instance, I::Guest)> {
        let instance = self.instance.instantiate(&mut store)?;
        let guest = self.exports.load(&mut store, &instance)?;
        Ok((instance, guest))
    }
}
