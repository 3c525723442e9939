//! Functions for the benches, compiled and loaded.

use std::path::PathBuf;

use wafer_build::{BuildOptions, RustCrates, Toolchain};
use wafer_runtime::{Function, FunctionSpec, Registered, Runtime, RuntimeConfig};
use wafer_store::ArtifactFolder;

/// A function, registered in an artifact store of its own.
#[derive(Debug)]
pub struct Bench {
    /// The store of the function's artifacts.
    pub artifacts: ArtifactFolder,
    /// The record of the registration.
    pub registered: Registered,
    /// The loaded function.
    pub function: Function,
    _folder: tempfile::TempDir,
}

/// Compiles and registers the function `benches/functions/NAME`.
///
/// # Panics
/// Panics when it cannot be built or registered.
pub fn bench(name: &str) -> Bench {
    registered(FunctionSpec {
        name: name.to_owned(),
        component: component(&format!("benches/functions/{name}")).into(),
        ..FunctionSpec::default()
    })
}

/// Compiles the crate in a folder of the repository to a component.
///
/// # Panics
/// Panics when it cannot be built.
pub fn component(folder: &str) -> Vec<u8> {
    let here = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("run by `cargo bench`"));
    let root = here.join("..");
    let target_dir =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let options = BuildOptions {
        source: root.join(folder),
        target_dir: target_dir.join("functions"),
        stack: 64 << 10,
        ..BuildOptions::default()
    };
    let toolchain = RustCrates::default();
    toolchain.build(&options).expect("it compiles").into()
}

/// Registers a function in an artifact store of its own.
///
/// # Panics
/// Panics when it cannot be registered.
pub fn registered(spec: FunctionSpec) -> Bench {
    let folder = tempfile::tempdir().expect("a folder");
    let artifacts = ArtifactFolder::open(folder.path()).expect("a folder");
    let runtime = Runtime::new(RuntimeConfig::default()).expect("a sandbox");
    let registered = runtime.register(&spec, &artifacts).expect("it registers");
    let function = runtime
        .load(&spec.name, &registered, &spec.limits, &artifacts)
        .expect("it loads");
    Bench {
        artifacts,
        registered,
        function,
        _folder: folder,
    }
}
