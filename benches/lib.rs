//! Functions for the benches, compiled and loaded.

use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array};
use wafer_build::{BuildOptions, RustCrates, Toolchain, ToolchainKind, Toolchains};
use wafer_runtime::{Asset, Function, FunctionSpec, Registered, Runtime, RuntimeConfig};
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

/// Registers the function in a file of `benches/functions/languages`.
///
/// # Panics
/// Panics when it cannot be registered.
pub fn interpreted(language: ToolchainKind, file: &str) -> Bench {
    let toolchains = Toolchains::default();
    let toolchain = toolchains.of(language);
    let options = BuildOptions {
        name: file.to_owned(),
        source: root().join("benches/functions/languages").join(file),
        ..BuildOptions::default()
    };
    let code = toolchain.code(&options).expect("it has a function");
    let assets = code.assets.into_iter();
    registered(FunctionSpec {
        name: file.to_owned(),
        component: toolchain.build(&options).expect("it is there"),
        assets: assets
            .map(|(name, asset)| (name, Asset::of(asset)))
            .collect(),
        parameters: code.parameters,
        ..FunctionSpec::default()
    })
}

/// Returns the columns that a function of numbers is called with.
pub fn arrays(columns: usize, rows: usize) -> Vec<ArrayRef> {
    let columns = values(columns, rows).into_iter();
    columns
        .map(|column| Arc::new(Float64Array::from(column)) as ArrayRef)
        .collect()
}

/// Returns the values of these columns.
pub fn values(columns: usize, rows: usize) -> Vec<Vec<f64>> {
    let value = |column: usize, row: usize| ((column * 31 + row * 7) % 170) as f64 - 85.0;
    (0..columns)
        .map(|c| (0..rows).map(|r| value(c, r)).collect())
        .collect()
}

/// Returns the folder of the repository.
fn root() -> PathBuf {
    let here = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("run by `cargo bench`"));
    here.join("..")
}

/// Compiles the crate in a folder of the repository to a component.
///
/// # Panics
/// Panics when it cannot be built.
pub fn component(folder: &str) -> Vec<u8> {
    let root = root();
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
