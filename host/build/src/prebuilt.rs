//! Prebuilt files: components that `wafer build` did not compile.
//!
//! A prebuilt file is a component, which is used unchanged, or a core module with its WIT world in
//! a custom section, as bindings generators write it. Such a module is wrapped into a component,
//! also if it imports WASI's first preview, as C and Go do.

use bytes::Bytes;
use wit_component::metadata;

use crate::component::{read, to_component};
use crate::toolchain::{BuildError, BuildOptions, Toolchain, ToolchainError};

/// The first bytes of a component.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
/// The first bytes of a core module.
const MODULE: &[u8] = b"\0asm\x01\0\0\0";
/// The first bytes of everything that is WebAssembly, whatever its version.
const WEBASSEMBLY: &[u8] = b"\0asm";

/// The toolchain for prebuilt files. It needs no programs on the machine.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PrebuiltFiles;

impl Toolchain for PrebuiltFiles {
    fn name(&self) -> &'static str {
        "prebuilt files"
    }

    fn find(&self) -> Result<Option<String>, ToolchainError> {
        Ok(None)
    }

    fn find_or_install(
        &self,
        _say: &mut dyn FnMut(&str),
    ) -> Result<Option<String>, ToolchainError> {
        Ok(None)
    }

    fn version(&self) -> Result<String, ToolchainError> {
        Ok(String::new())
    }

    fn needs_build(&self) -> bool {
        false
    }

    fn build(&self, options: &BuildOptions) -> Result<Bytes, BuildError> {
        let path = &options.source;
        let component = component(read(path)?).map_err(|reason| BuildError::Prebuilt {
            path: path.clone(),
            reason,
        })?;
        Ok(component.into())
    }
}

/// Converts the bytes of a file into a component: a component is returned as it is, and a core
/// module with an embedded world is wrapped.
///
/// # Errors
/// Returns a message that says what the file is instead.
fn component(bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    if bytes.starts_with(COMPONENT) {
        return Ok(bytes);
    }
    if !bytes.starts_with(MODULE) {
        return Err(what_it_is(&bytes).to_owned());
    }
    if !carries_world(&bytes)? {
        return Err(
            "it is a core module; make it with `wafer build`, or embed the world of the contract"
                .to_owned(),
        );
    }
    to_component(&bytes)
        .map_err(|message| format!("it is a core module that cannot be wrapped: {message}"))
}

/// Returns whether a module has a section with its world. The encoder would make an empty component
/// of one without.
fn carries_world(module: &[u8]) -> Result<bool, String> {
    metadata::decode(module)
        .map(|(without_world, _)| without_world.is_some())
        .map_err(|e| format!("it is a damaged core module: {e:#}"))
}

/// Describes bytes that are neither a component nor a core module.
fn what_it_is(bytes: &[u8]) -> &'static str {
    if bytes.is_empty() {
        return "it is empty";
    }
    if bytes.starts_with(WEBASSEMBLY) {
        return "it is WebAssembly of a version that Wafer does not know";
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return "it is not WebAssembly";
    };
    let text = text.trim_start();
    if text.starts_with("(component") || text.starts_with("(module") {
        return "it is WebAssembly as text; `wasm-tools parse` makes it binary";
    }
    "it is text, not WebAssembly"
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use wit_component::{DecodedWasm, StringEncoding};

    use super::*;

    /// A file with the given bytes, which is removed at the end.
    struct File(PathBuf);

    impl File {
        fn new(name: &str, bytes: &[u8]) -> Self {
            let name = format!("wafer-prebuilt-{}-{name}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, bytes).unwrap();
            Self(path)
        }

        fn build(&self) -> Result<Bytes, BuildError> {
            PrebuiltFiles.build(&BuildOptions {
                source: self.0.clone(),
                ..BuildOptions::default()
            })
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    /// A core module that carries an empty world.
    fn module_with_world() -> Vec<u8> {
        let DecodedWasm::Component(resolve, world) = wit_component::decode(COMPONENT).unwrap()
        else {
            panic!("it is a component")
        };
        let mut module = MODULE.to_vec();
        let encoding = StringEncoding::UTF8;
        wit_component::embed_component_metadata(&mut module, &resolve, world, encoding).unwrap();
        module
    }

    #[test]
    fn a_component_is_taken_as_it_is() {
        let whole = [COMPONENT, b"\0\x02\x01x"].concat();
        assert_eq!(File::new("component", &whole).build().unwrap(), whole);
    }

    #[test]
    fn a_core_module_that_carries_its_world_is_wrapped() {
        let file = File::new("world", &module_with_world());
        let made = file.build().unwrap();
        assert!(made.starts_with(COMPONENT));
        assert!(
            made.windows(MODULE.len()).any(|bytes| bytes == MODULE),
            "the module is inside"
        );
        assert_eq!(
            file.build().unwrap(),
            made,
            "the bytes depend on the file only"
        );
    }

    #[test]
    fn other_files_are_refused_with_their_path_and_what_they_are() {
        let check = |name: &str, bytes: &[u8], wanted: &str| {
            let file = File::new(name, bytes);
            let message = file.build().unwrap_err().to_string();
            let path = file.0.display();
            assert!(message.starts_with(&format!("{path}: ")), "{message}");
            assert!(message.contains(wanted), "{message}");
        };
        check(
            "no-world",
            MODULE,
            "it is a core module; make it with `wafer build`",
        );
        check(
            "damaged",
            &[MODULE, &[1, 200]].concat(),
            "it is a damaged core module: ",
        );
        check(
            "cut",
            &module_with_world()[..20],
            "it is a damaged core module: ",
        );
        check("text", b"fn main() {}", "it is text, not WebAssembly");
        check("wat", b"\n(module)", "it is WebAssembly as text");
        check(
            "version",
            b"\0asm\x0c\0\x01\0",
            "it is WebAssembly of a version that Wafer does not know",
        );
        check("binary", b"\x7fELF\xff", "it is not WebAssembly");
        check("empty", b"", "it is empty");
    }

    #[test]
    fn a_missing_file_is_named() {
        let file = File(PathBuf::from("/nowhere/x.wasm"));
        let message = file.build().unwrap_err().to_string();
        assert!(
            message.starts_with("cannot read /nowhere/x.wasm: "),
            "{message}"
        );
    }
}
