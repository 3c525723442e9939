//! Compiles a crate and wraps the module into a component.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use wit_component::ComponentEncoder;

use crate::Toolchain;

/// How a crate is built.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// Folder of the crate, which has its `Cargo.toml`.
    pub folder: PathBuf,
    /// Target folder of cargo.
    pub target_dir: PathBuf,
    /// Size of the stack inside the linear memory, in bytes. A small stack makes fresh instances
    /// cheaper.
    pub stack: u64,
}

/// The error for a crate that could not be built into a component.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Cargo could not be run.
    #[error("cargo could not be run: {0}")]
    Cargo(std::io::Error),
    /// The crate does not compile. The compiler has printed the reason.
    #[error("{0} does not compile")]
    Compile(PathBuf),
    /// The crate compiled, but cargo reported no module.
    #[error("{0} made no WebAssembly module; has the crate a library (src/lib.rs)?")]
    NoModule(PathBuf),
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The module cannot be wrapped into a component.
    #[error("{path} cannot be made a component: {message}; does it have a `#[wafer::function]`?")]
    Component {
        /// The module.
        path: PathBuf,
        /// The reason.
        message: String,
    },
}

/// Compiles the library of a crate and wraps it into a component. The output of the compiler goes
/// to standard error. The bytes depend only on the sources and the compiler; paths of cargo's home
/// are left out of them.
///
/// # Errors
/// Returns [`BuildError`] when the crate does not compile, or its module cannot be wrapped.
pub fn build(toolchain: &Toolchain, options: &BuildOptions) -> Result<Vec<u8>, BuildError> {
    let module = compile(toolchain, options)?;
    let bytes = std::fs::read(&module).map_err(|source| BuildError::Read {
        path: module.clone(),
        source,
    })?;
    to_component(&bytes).map_err(|message| BuildError::Component {
        path: module,
        message,
    })
}

/// Wraps a core module that carries its world into a component. A component is returned unchanged.
///
/// # Errors
/// Returns a message that says why the module cannot be wrapped.
pub fn to_component(bytes: &[u8]) -> Result<Vec<u8>, String> {
    const COMPONENT: [u8; 8] = *b"\0asm\x0d\0\x01\0";
    if bytes.starts_with(&COMPONENT) {
        return Ok(bytes.to_vec());
    }
    let encoder = ComponentEncoder::default().validate(true).module(bytes);
    encoder
        .and_then(|mut encoder| encoder.encode())
        .map_err(|e| format!("{e:#}"))
}

fn compile(toolchain: &Toolchain, options: &BuildOptions) -> Result<PathBuf, BuildError> {
    let manifest = options.folder.join("Cargo.toml");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["rustc", "--lib", "--release", "--crate-type", "cdylib"])
        .arg("--manifest-path")
        .arg(&manifest)
        .arg("--target-dir")
        .arg(&options.target_dir)
        .arg("--message-format=json-render-diagnostics");
    toolchain.configure(&mut cargo);
    // The same sources must give the same code, whatever profile the workspace has.
    for (name, value) in [
        ("OPT_LEVEL", "3"),
        ("LTO", "fat"),
        ("CODEGEN_UNITS", "1"),
        ("PANIC", "abort"),
        ("DEBUG", "0"),
        ("STRIP", "none"),
        ("INCREMENTAL", "false"),
        ("OVERFLOW_CHECKS", "false"),
    ] {
        cargo.env(format!("CARGO_PROFILE_RELEASE_{name}"), value);
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", rust_flags().join("\x1f"));
    cargo.env_remove("RUSTFLAGS");
    // These flags are for the crate alone. Flags of the dependencies must not differ from function
    // to function, or cargo would compile all dependencies again for each.
    let stack = options.stack;
    cargo.args(["--", &format!("-Clink-arg=-zstack-size={stack}")]);

    let done = cargo
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(BuildError::Cargo)?;
    if !done.status.success() {
        return Err(BuildError::Compile(options.folder.clone()));
    }
    let messages = String::from_utf8_lossy(&done.stdout);
    module_path(&messages, &manifest).ok_or_else(|| BuildError::NoModule(options.folder.clone()))
}

fn rust_flags() -> Vec<String> {
    let mut flags = vec![
        "-Ctarget-feature=+simd128".to_owned(),
        // There is no randomness in the sandbox: crates that could ask for it compile, and get an
        // error if they do.
        "--cfg=getrandom_backend=\"unsupported\"".to_owned(),
    ];
    let mut remap = |from: PathBuf, to: &str| {
        flags.push(format!("--remap-path-prefix={}={to}", from.display()));
    };
    let home = std::env::var_os("HOME").map(PathBuf::from);
    if let Some(cargo_home) = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or(home.map(|h| h.join(".cargo")))
    {
        remap(cargo_home, "/cargo");
    }
    // Paths inside the workspace are relative already. Naming its folder here would compile every
    // dependency again for each project.
    flags
}

/// The path of the module that the crate with this manifest was compiled to, from cargo's messages.
fn module_path(messages: &str, manifest: &Path) -> Option<PathBuf> {
    let manifest = manifest.canonicalize().ok()?;
    let artifacts = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact")
        .filter(|message| {
            let path = message["manifest_path"].as_str().map(Path::new);
            path.and_then(|p| p.canonicalize().ok()).as_deref() == Some(&manifest)
        });
    let files: Vec<PathBuf> = artifacts
        .flat_map(|artifact| {
            artifact["filenames"]
                .as_array()
                .cloned()
                .unwrap_or_default()
        })
        .filter_map(|file| file.as_str().map(PathBuf::from))
        .collect();
    files
        .into_iter()
        .find(|file| file.extension().is_some_and(|e| e == "wasm"))
}
