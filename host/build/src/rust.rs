//! Rust crates: cargo compiles the library of a crate, and the module is wrapped into a component.

mod compiler;
mod hints;
mod messages;

use std::io::IsTerminal as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use bytes::Bytes;

use self::compiler::WasmCompiler;
use self::messages::Messages;
use crate::component::{has_exports, read, to_component};
use crate::toolchain::{BuildError, BuildOptions, Toolchain, ToolchainError};

/// The toolchain for folders of Rust crates. Stock functions are such crates too.
///
/// The bytes of a component depend only on the sources and the compiler; paths of cargo's home are
/// left out of them. Cargo fetches the crates that a manifest names, as in every build.
#[derive(Debug, Default)]
pub struct RustCrates {
    /// The compiler, once it was found. Looking for it runs several programs.
    compiler: OnceLock<WasmCompiler>,
}

impl RustCrates {
    fn compiler(
        &self,
        find: impl FnOnce() -> Result<WasmCompiler, ToolchainError>,
    ) -> Result<&WasmCompiler, ToolchainError> {
        if let Some(found) = self.compiler.get() {
            return Ok(found);
        }
        let found = find()?;
        Ok(self.compiler.get_or_init(|| found))
    }
}

impl Toolchain for RustCrates {
    /// Users see this name beside the compiler that was found.
    fn name(&self) -> &'static str {
        "WebAssembly"
    }

    fn find(&self) -> Result<Option<String>, ToolchainError> {
        let compiler = self.compiler(WasmCompiler::find)?;
        Ok(Some(compiler.to_string()))
    }

    fn find_or_install(&self, say: &mut dyn FnMut(&str)) -> Result<Option<String>, ToolchainError> {
        let compiler = self.compiler(|| WasmCompiler::find_or_install(say))?;
        Ok(Some(compiler.to_string()))
    }

    fn version(&self) -> Result<String, ToolchainError> {
        self.compiler(WasmCompiler::find)?.version()
    }

    fn needs_build(&self) -> bool {
        true
    }

    fn build(&self, options: &BuildOptions) -> Result<Bytes, BuildError> {
        let compiler = self.compiler(WasmCompiler::find)?;
        let module = compile(compiler, options)?;
        let component = to_component(&read(&module)?);
        let component = component.map_err(|message| BuildError::Component {
            path: module,
            message,
        })?;
        if !has_exports(&component) {
            return Err(BuildError::NoFunction(options.source.clone()));
        }
        Ok(component.into())
    }

    fn hints(&self, source: &Path) -> Vec<String> {
        hints::of_sources(source)
    }
}

/// Returns a command that runs cargo. If cargo started this program, it is the same cargo.
#[allow(
    clippy::disallowed_methods,
    reason = "cargo names itself to what it runs"
)]
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn compile(compiler: &WasmCompiler, options: &BuildOptions) -> Result<PathBuf, BuildError> {
    let manifest = options.source.join("Cargo.toml");
    let mut cargo = cargo();
    cargo
        .args(["rustc", "--lib", "--release", "--crate-type", "cdylib"])
        .arg("--manifest-path")
        .arg(&manifest)
        .arg("--target-dir")
        .arg(&options.target_dir)
        .arg(match std::io::stderr().is_terminal() {
            true => "--message-format=json-diagnostic-rendered-ansi",
            false => "--message-format=json",
        });
    compiler.configure(&mut cargo);
    // The same sources must give the same code, whatever profile the workspace has. Without
    // link-time optimisation, functions with many columns take twice as long for a row; the thin
    // one makes them as fast as the fat one, and an edit is built sooner.
    for (name, value) in [
        ("OPT_LEVEL", "3"),
        ("LTO", "thin"),
        ("CODEGEN_UNITS", "1"),
        ("PANIC", "abort"),
        ("DEBUG", "0"),
        ("STRIP", "debuginfo"),
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

    let mut running = cargo
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(BuildError::Cargo)?;
    let mut messages = Messages::default();
    if let Some(stdout) = running.stdout.take() {
        messages
            .read(stdout, &manifest)
            .map_err(BuildError::Cargo)?;
    }
    let status = running.wait().map_err(BuildError::Cargo)?;
    if !status.success() {
        if let Some(signal) = status.signal() {
            let message = format!("it was ended by signal {signal}; build again");
            return Err(BuildError::Cargo(std::io::Error::other(message)));
        }
        let hint = hints::of_errors(&messages.errors);
        return Err(BuildError::Compile {
            path: options.source.clone(),
            hint: hint.map_or_else(String::new, |hint| format!(": {hint}")),
        });
    }
    messages
        .module
        .ok_or_else(|| BuildError::NoModule(options.source.clone()))
}

#[allow(
    clippy::disallowed_methods,
    reason = "the folder of cargo, whose path must not get into what is compiled"
)]
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
