//! What the attribute's generated code calls; not part of the public interface.

use std::cell::RefCell;

pub use crate::bindings::transform::{Guest, Parameter};
pub use crate::bindings::types::{Batch, CallError, Output, Signature};
pub use crate::function::{ColumnsOf, call_columns, call_rows, columns_signature, rows_signature};
pub use crate::row::null_message;
use crate::{Init, Level, init, log};

thread_local! {
    static INIT: RefCell<Init> = RefCell::default();
}

/// Keeps a chunk of an asset until `init`.
pub fn load(asset: String, mut chunk: Vec<u8>) {
    INIT.with_borrow_mut(|init| init.push_chunk(asset, &chunk));
    init::wipe(&mut chunk);
}

/// Runs the author's initialisation over what was loaded, then frees it.
pub fn init<E: ToString>(
    parameters: Vec<Parameter>,
    build: impl FnOnce(&Init) -> Result<(), E>,
) -> Result<(), String> {
    std::panic::set_hook(Box::new(|info| log(Level::Error, &info.to_string())));
    INIT.with_borrow_mut(|init| {
        init.set_parameters(parameters.into_iter().map(|p| (p.name, p.value)));
        let result = build(init).map_err(|e| e.to_string());
        init.wipe();
        *init = Init::default();
        result
    })
}
