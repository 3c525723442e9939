//! Components of core modules that are written as text.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::project::repository;

/// Makes a component of a core module with the world `guest` of a WIT package. The package may use
/// those of `wit/`.
pub(crate) fn component(module: &str, package: &str) -> Vec<u8> {
    let module = with_world(module, package);
    let encoder = ComponentEncoder::default().validate(true).module(&module);
    encoder.unwrap().encode().unwrap()
}

/// Makes a core module that carries the world `guest` of a WIT package, as bindings generators do.
pub(crate) fn with_world(module: &str, package: &str) -> Vec<u8> {
    carrying_world(wat::parse_str(module).unwrap(), package)
}

/// Adds the world `guest` of a WIT package to a core module.
pub(crate) fn carrying_world(mut module: Vec<u8>, package: &str) -> Vec<u8> {
    let wit = repository().join("wit");
    let mut resolve = Resolve::default();
    resolve.push_path(&wit).unwrap();
    resolve.push_path(wit.join("interpreter")).unwrap();
    let package = resolve.push_str("world.wit", package).unwrap();
    let world = resolve.select_world(&[package], Some("guest")).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    module
}
