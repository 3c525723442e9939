//! The last step of toolchains that compile to a core module: the module is wrapped into a
//! component.

use std::path::Path;

use wit_component::{ComponentEncoder, DecodedWasm};

use crate::toolchain::BuildError;

/// Wraps a core module that carries its world into a component.
///
/// # Errors
/// Returns a message that says why the module cannot be wrapped.
pub(crate) fn to_component(module: &[u8]) -> Result<Vec<u8>, String> {
    let encoder = ComponentEncoder::default().validate(true).module(module);
    encoder
        .and_then(|mut encoder| encoder.encode())
        .map_err(|e| format!("{e:#}"))
}

/// Returns whether a component exports anything. A crate without a function makes one that does
/// not.
pub(crate) fn has_exports(component: &[u8]) -> bool {
    match wit_component::decode(component) {
        Ok(DecodedWasm::Component(resolve, world)) => !resolve.worlds[world].exports.is_empty(),
        // Whatever else is wrong with it is found when it is registered.
        _ => true,
    }
}

/// Reads a module or a component.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, BuildError> {
    std::fs::read(path).map_err(|source| BuildError::Read {
        path: path.to_owned(),
        source,
    })
}
