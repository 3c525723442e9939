//! Functions that import WASI: `tests/guests/wasi/guest.wat`.

use super::components;
use super::project::repository;

/// What a function asks WASI for, as WebAssembly text.
#[derive(Clone, Copy, Default)]
pub(crate) struct Guest<'a> {
    /// The imports.
    pub(crate) imports: &'a str,
    /// What it does when it is initialised.
    pub(crate) init: &'a str,
    /// The value of `y` for the local variable `$x`.
    pub(crate) value: &'a str,
}

impl Guest<'_> {
    /// Returns the core module as text.
    fn module(&self) -> String {
        let path = repository().join("tests/guests/wasi/guest.wat");
        let text = std::fs::read_to_string(path).unwrap();
        text.replace(";; IMPORTS", self.imports)
            .replace(";; INIT", self.init)
            .replace(";; VALUE", self.value)
    }

    /// Makes the component.
    pub(crate) fn component(&self) -> Vec<u8> {
        let path = repository().join("tests/guests/wasi/world.wit");
        let world = std::fs::read_to_string(path).unwrap();
        components::component(&self.module(), &world)
    }
}
