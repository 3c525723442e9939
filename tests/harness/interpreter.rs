//! An interpreter in a few lines, as a component: `tests/guests/interpreter/guest.wat`.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::project::repository;

/// What the component imports and exports.
const WORLD: &str = "
    package test:interpreter;
    world guest {
        include wafer:function/function@0.1.0;
        include wafer:interpreter/interpreter@0.1.0;
    }
";

/// Returns the core module as text.
pub(crate) fn module() -> String {
    let path = repository().join("tests/guests/interpreter/guest.wat");
    std::fs::read_to_string(path).unwrap()
}

/// Makes a component of a core module.
pub(crate) fn component(module: &str) -> Vec<u8> {
    let wit = repository().join("wit");
    let mut resolve = Resolve::default();
    resolve.push_path(&wit).unwrap();
    resolve.push_path(wit.join("interpreter")).unwrap();
    let package = resolve.push_str("world.wit", WORLD).unwrap();
    let world = resolve.select_world(&[package], Some("guest")).unwrap();
    let mut module = wat::parse_str(module).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    let encoder = ComponentEncoder::default().validate(true).module(&module);
    encoder.unwrap().encode().unwrap()
}
