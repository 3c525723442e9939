//! Functions that import WASI: `tests/guests/wasi/guest.wat`, and one in C.

use std::path::Path;
use std::process::Command;

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

    /// Makes a core module that carries the world of a function, and imports what `imports` says of
    /// WASI's first preview.
    pub(crate) fn core_module(&self) -> Vec<u8> {
        components::with_world(&self.module(), WORLD)
    }
}

/// The world of a function, as a generator of bindings for it writes it.
const WORLD: &str = "
    package test:function;
    world guest {
        include wafer:function/function@0.1.0;
    }
";

/// Compiles the function in C by clang and wasi-libc, to a core module that carries its world.
/// Returns `None` when one of them is not on the machine.
pub(crate) fn c_function(folder: &Path) -> Option<Vec<u8>> {
    let source = repository().join("tests/guests/c/guest.c");
    let module = folder.join("guest.wasm");
    let compiled = Command::new("clang")
        .args(["--target=wasm32-wasi", "--sysroot=/usr"])
        .args(["-mexec-model=reactor", "-O2", "-o"])
        .arg(&module)
        .arg(source)
        .output();
    let reason = match compiled {
        Ok(output) if output.status.success() => {
            let module = std::fs::read(module).unwrap();
            return Some(components::carrying_world(module, WORLD));
        }
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    println!(
        "skipped: clang makes no WebAssembly of C (Debian's packages clang, lld, wasi-libc and \
         libclang-rt-14-dev-wasm32 are needed): {reason}"
    );
    None
}
