//! Finds or installs a compiler for WebAssembly.
//!
//! In order of preference, this is the target of the installed Rust toolchain, which rustup adds if
//! it can reach its server; or, on Debian and Ubuntu, the packages `rustc-web` and `rust-web-src`,
//! with which the standard library is built from source once.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::toolchain::ToolchainError;

/// The target that functions are compiled for. It has nothing to import, so that code for it is
/// deterministic.
pub(super) const WASM_TARGET: &str = "wasm32-unknown-unknown";

const DEBIAN_PACKAGES: [&str; 2] = ["rustc-web", "rust-web-src"];

/// A compiler for WebAssembly, with the linker and the standard library that it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WasmCompiler {
    /// The target of the installed Rust toolchain.
    Installed {
        /// Folder of its libraries.
        libraries: PathBuf,
    },
    /// The compiler of Debian's package, which builds the standard library from source.
    Debian {
        /// Path of the compiler.
        rustc: PathBuf,
        /// Version of the compiler.
        version: String,
        /// Path of the linker, which comes from the Rust toolchain.
        linker: PathBuf,
    },
}

impl WasmCompiler {
    /// Finds a compiler that is installed already.
    ///
    /// # Errors
    /// Returns a [`ToolchainError`] that says what was looked for and how to install it.
    pub(super) fn find() -> Result<Self, ToolchainError> {
        let mut tried = FailedAttempts::default();
        tried
            .step("the installed target", installed())
            .or_else(|| tried.step("Debian's rustc-web", debian()))
            .ok_or_else(|| tried.error())
    }

    /// Finds a compiler, or installs one: by rustup, then by apt-get (with sudo when not root).
    /// `say` is called with a line for each step of the installation.
    ///
    /// # Errors
    /// Returns a [`ToolchainError`] that says what was tried and why it did not work.
    pub(super) fn find_or_install(say: &mut dyn FnMut(&str)) -> Result<Self, ToolchainError> {
        if let Ok(found) = Self::find() {
            return Ok(found);
        }
        let mut tried = FailedAttempts::default();
        say(&format!("adding the target {WASM_TARGET} with rustup"));
        let added = run(Command::new("rustup").args(["target", "add", WASM_TARGET]));
        if let Some(found) = tried.step("rustup target add", added.and_then(|()| installed())) {
            return Ok(found);
        }
        say(&format!(
            "installing {} with apt-get",
            DEBIAN_PACKAGES.join(" and ")
        ));
        let packaged = apt_get(&["update"]).and_then(|()| {
            apt_get(
                &[
                    &["install", "-y", "--no-install-recommends"][..],
                    &DEBIAN_PACKAGES,
                ]
                .concat(),
            )
        });
        tried
            .step("apt-get install", packaged.and_then(|()| debian()))
            .ok_or_else(|| tried.error())
    }

    /// Returns the version of the compiler in full.
    ///
    /// # Errors
    /// Returns a [`ToolchainError`] when the compiler cannot be run.
    pub(super) fn version(&self) -> Result<String, ToolchainError> {
        let rustc = match self {
            Self::Installed { .. } => installed_rustc(),
            Self::Debian { rustc, .. } => rustc.into(),
        };
        output(Command::new(rustc).arg("-vV")).map_err(ToolchainError)
    }

    /// Prepares a cargo command for the target. Its subcommand must have been added before.
    pub(super) fn configure(&self, cargo: &mut Command) {
        cargo.args(["--target", WASM_TARGET]);
        if let Self::Debian { rustc, linker, .. } = self {
            cargo
                .arg("-Zbuild-std=std,panic_abort")
                .env("RUSTC", rustc)
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker)
                // Set inside `cargo run`; it would choose the libraries of the other compiler.
                .env_remove("RUSTUP_TOOLCHAIN");
        }
    }
}

impl fmt::Display for WasmCompiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Installed { libraries } => {
                write!(
                    f,
                    "target {WASM_TARGET} of the Rust toolchain ({})",
                    libraries.display()
                )
            }
            Self::Debian { rustc, version, .. } => {
                write!(
                    f,
                    "Debian's rustc-web {version} ({}), standard library from source",
                    rustc.display()
                )
            }
        }
    }
}

/// The attempts that failed, and why.
#[derive(Default)]
struct FailedAttempts(Vec<String>);

impl FailedAttempts {
    fn step<T>(&mut self, what: &str, result: Result<T, String>) -> Option<T> {
        result
            .map_err(|why| self.0.push(format!("  {what}: {why}")))
            .ok()
    }

    fn error(&self) -> ToolchainError {
        ToolchainError(format!(
            "no compiler for {WASM_TARGET} on this machine. Do one of these, or run `wafer doctor --fix`:\n  \
             rustup target add {WASM_TARGET}\n  \
             apt-get install {}   (Debian 12 or later, Ubuntu)\n\
             What was tried:\n{}",
            DEBIAN_PACKAGES.join(" "),
            self.0.join("\n")
        ))
    }
}

/// The compiler of the installed Rust toolchain.
#[allow(
    clippy::disallowed_methods,
    reason = "a setting of cargo, which this crate runs"
)]
fn installed_rustc() -> OsString {
    std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())
}

fn installed() -> Result<WasmCompiler, String> {
    let printed = output(Command::new(installed_rustc()).args([
        "--print",
        "target-libdir",
        "--target",
        WASM_TARGET,
    ]))?;
    let libraries = PathBuf::from(printed);
    let has_core = std::fs::read_dir(&libraries).is_ok_and(|entries| {
        entries
            .flatten()
            .any(|e| e.file_name().to_string_lossy().starts_with("libcore-"))
    });
    if has_core {
        Ok(WasmCompiler::Installed { libraries })
    } else {
        Err(format!("{} has no libraries", libraries.display()))
    }
}

fn debian() -> Result<WasmCompiler, String> {
    let rustc = Path::new("/usr/bin/rustc");
    if !rustc.exists() {
        return Err(format!("{} is not there", rustc.display()));
    }
    let version = output(Command::new(rustc).arg("--version"))?;
    let version = version.split(' ').nth(1).unwrap_or(&version).to_owned();
    let sources = PathBuf::from(output(Command::new(rustc).args(["--print", "sysroot"]))?)
        .join("lib/rustlib/src/rust/library/std");
    if !sources.is_dir() {
        return Err(format!(
            "{} is not there: the package rust-web-src is missing",
            sources.display()
        ));
    }
    Ok(WasmCompiler::Debian {
        rustc: rustc.to_owned(),
        version,
        linker: linker()?,
    })
}

/// The linker that comes with the Rust toolchain, or else LLVM's.
fn linker() -> Result<PathBuf, String> {
    let sysroot = PathBuf::from(output(Command::new("rustc").args(["--print", "sysroot"]))?);
    let targets = std::fs::read_dir(sysroot.join("lib/rustlib")).map_err(|e| e.to_string())?;
    let bundled = targets
        .flatten()
        .map(|t| t.path().join("bin/rust-lld"))
        .find(|p| p.is_file());
    bundled
        .or_else(|| {
            output(Command::new("which").arg("wasm-ld"))
                .ok()
                .map(PathBuf::from)
        })
        .ok_or_else(|| format!("neither rust-lld below {} nor wasm-ld", sysroot.display()))
}

fn apt_get(arguments: &[&str]) -> Result<(), String> {
    let is_root = output(Command::new("id").arg("-u")).is_ok_and(|id| id == "0");
    let mut command = Command::new(if is_root { "apt-get" } else { "sudo" });
    if !is_root {
        command.arg("apt-get");
    }
    run(command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}

fn run(command: &mut Command) -> Result<(), String> {
    output(command).map(drop)
}

/// Runs a command and returns its standard output, trimmed, or a message that says why it failed.
fn output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let done = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("{program}: {e}"))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned());
    }
    let errors = String::from_utf8_lossy(&done.stderr);
    let last = errors
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("no message");
    Err(format!("{program}: {last}"))
}
