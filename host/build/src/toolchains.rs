//! The toolchains that Wafer has, and which of them a function's source is for.

use crate::interpreter::Interpreter;
use crate::javascript::JAVASCRIPT;
use crate::prebuilt::PrebuiltFiles;
use crate::python::PYTHON;
use crate::rust::RustCrates;
use crate::toolchain::Toolchain;

/// The kinds of sources that functions are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolchainKind {
    /// The folder of a Rust crate.
    Crate,
    /// The file of a component, or of a core module that carries its world.
    Prebuilt,
    /// Python modules, for the interpreter that comes with Wafer.
    Python,
    /// JavaScript modules, for the interpreter that comes with Wafer.
    JavaScript,
}

impl ToolchainKind {
    /// All kinds, in the order in which `wafer doctor` lists their toolchains.
    pub const ALL: [Self; 4] = [Self::Crate, Self::Prebuilt, Self::Python, Self::JavaScript];
}

/// All toolchains. Each of them keeps what it found on the machine, so one value is used for all
/// functions of a project.
#[derive(Debug)]
pub struct Toolchains {
    rust: RustCrates,
    prebuilt: PrebuiltFiles,
    python: Interpreter,
    javascript: Interpreter,
}

impl Default for Toolchains {
    fn default() -> Self {
        Self {
            rust: RustCrates::default(),
            prebuilt: PrebuiltFiles,
            python: Interpreter::of(&PYTHON),
            javascript: Interpreter::of(&JAVASCRIPT),
        }
    }
}

impl Toolchains {
    /// Returns the toolchain for sources of a kind.
    pub fn of(&self, kind: ToolchainKind) -> &dyn Toolchain {
        match kind {
            ToolchainKind::Crate => &self.rust,
            ToolchainKind::Prebuilt => &self.prebuilt,
            ToolchainKind::Python => &self.python,
            ToolchainKind::JavaScript => &self.javascript,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_source_has_its_toolchain() {
        let toolchains = Toolchains::default();
        let check = |kind, name, needs_build| {
            let toolchain = toolchains.of(kind);
            assert_eq!(
                (toolchain.name(), toolchain.needs_build()),
                (name, needs_build),
                "{kind:?}"
            );
        };
        check(ToolchainKind::Crate, "WebAssembly", true);
        check(ToolchainKind::Prebuilt, "prebuilt files", false);
        check(ToolchainKind::Python, "Python", false);
        check(ToolchainKind::JavaScript, "JavaScript", false);
    }

    #[test]
    fn names_of_toolchains_differ() {
        let toolchains = Toolchains::default();
        let mut names = ToolchainKind::ALL.map(|kind| toolchains.of(kind).name());
        names.sort_unstable();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    }
}
