//! The last step of toolchains that compile to a core module: the module is wrapped into a
//! component.

use std::fmt::Display;
use std::path::Path;

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME as PREVIEW1,
    WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER as ADAPTER,
};
use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, DecodedWasm};

use crate::toolchain::BuildError;

/// Wraps a core module that carries its world into a component. What it imports of WASI's first
/// preview, as modules of many toolchains do, is translated to WASI 0.2 by wasmtime's adapter.
///
/// # Errors
/// Returns a message that says why the module cannot be wrapped.
pub(crate) fn to_component(module: &[u8]) -> Result<Vec<u8>, String> {
    let encoder = ComponentEncoder::default().validate(true).module(module);
    let encoder = match imports_from(module, PREVIEW1)? {
        true => encoder.and_then(|encoder| encoder.adapter(PREVIEW1, ADAPTER)),
        false => encoder,
    };
    encoder
        .and_then(|mut encoder| encoder.encode())
        .map_err(text)
}

/// Returns whether a core module imports anything from another one.
fn imports_from(module: &[u8], other: &str) -> Result<bool, String> {
    for payload in Parser::new(0).parse_all(module) {
        if let Payload::ImportSection(imports) = payload.map_err(text)? {
            for import in imports.into_imports() {
                if import.map_err(text)?.module == other {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

fn text(error: impl Display) -> String {
    format!("{error:#}")
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
