//! An interpreter in a few lines, as a component: `tests/guests/interpreter/guest.wat`.

use super::components;
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
    components::component(module, WORLD)
}
