//! Packages the program for AWS Lambda, compiled against the C library of Amazon Linux 2023.
//!
//! cargo-lambda links with zig, which has the C libraries of all versions of glibc:
//! <https://www.cargo-lambda.info/guide/cross-compiling.html>

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The package of cargo-lambda on PyPI. It installs zig as well.
const CARGO_LAMBDA: &str = "cargo-lambda==1.9.2";
/// Version of glibc in Amazon Linux 2023:
/// <https://docs.aws.amazon.com/linux/al2023/ug/core-glibc.html>
const GLIBC: &str = "2.34";

/// What to package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Folder of Wafer's checkout.
    pub source: PathBuf,
    /// Whether to compile for Graviton (arm64) instead of x86-64.
    pub arm64: bool,
}

/// The error for a package that could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct PackageError {
    what: String,
    reason: String,
}

fn error(what: impl Into<String>, reason: impl ToString) -> PackageError {
    PackageError {
        what: what.into(),
        reason: reason.to_string(),
    }
}

/// Builds and packs the program for Lambda, and returns the path of the zip file, which the next
/// package of the checkout replaces. `say` is called with a line for each slow step.
///
/// # Errors
/// Returns a [`PackageError`] that says which step failed and how to go on.
pub fn package(wanted: &Package, say: &mut dyn FnMut(&str)) -> Result<PathBuf, PackageError> {
    let absolute =
        |path: &Path| std::path::absolute(path).map_err(|e| error(path.display().to_string(), e));
    // The build runs in the checkout, not in the current folder.
    let source = absolute(&wanted.source)?;
    let target = absolute(&target_folder(&source))?;
    let tools = target.join("package-tools");
    let lambda = cargo_lambda(&tools, say)?;
    let triple = match wanted.arm64 {
        true => "aarch64-unknown-linux-gnu",
        false => "x86_64-unknown-linux-gnu",
    };
    check_target(triple)?;
    let folder = target.join("package");
    say("compiling the program for Lambda; the first time takes minutes");
    let status = Command::new(&lambda)
        .args(["lambda", "build", "--release", "--output-format", "zip"])
        // The package alone, so that features which other programs of the workspace need are not
        // compiled into it.
        .args(["--package", "wafer-lambda", "--bin", "bootstrap"])
        .args(["--target", &format!("{triple}.{GLIBC}")])
        .arg("--lambda-dir")
        .arg(&folder)
        .current_dir(&source)
        .env("CARGO_TARGET_DIR", target.join("lambda"))
        .env("PATH", path_starting_with(&tools.join("bin")))
        .stdin(Stdio::null())
        .status()
        .map_err(|e| error(lambda.display().to_string(), e))?;
    if !status.success() {
        return Err(error("cargo lambda build", status));
    }
    Ok(folder.join("bootstrap/bootstrap.zip"))
}

#[allow(
    clippy::disallowed_methods,
    reason = "a setting of cargo, which this crate runs"
)]
fn target_folder(source: &Path) -> PathBuf {
    let set = std::env::var_os("CARGO_TARGET_DIR");
    set.map_or_else(|| source.join("target"), PathBuf::from)
}

/// The path of cargo-lambda in the pinned version, which is installed if necessary.
fn cargo_lambda(tools: &Path, say: &mut dyn FnMut(&str)) -> Result<PathBuf, PackageError> {
    let program = tools.join("bin/cargo-lambda");
    let version_file = tools.join("installed.txt");
    if std::fs::read_to_string(&version_file).is_ok_and(|installed| installed == CARGO_LAMBDA) {
        return Ok(program);
    }
    say(&format!("installing {CARGO_LAMBDA} with pip"));
    let run = |program: &Path, arguments: &[&str]| {
        let what = format!("{} {}", program.display(), arguments.join(" "));
        let output = Command::new(program)
            .args(arguments)
            .output()
            .map_err(|e| error(&what, e))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(error(what, String::from_utf8_lossy(&output.stderr).trim())),
        }
    };
    run(
        Path::new("python3"),
        &["-m", "venv", &tools.display().to_string()],
    )?;
    run(
        &tools.join("bin/python"),
        &["-m", "pip", "install", "--quiet", CARGO_LAMBDA],
    )?;
    std::fs::write(&version_file, CARGO_LAMBDA)
        .map_err(|e| error(version_file.display().to_string(), e))?;
    Ok(program)
}

/// Refuses a target whose standard library is not installed, before minutes of compiling.
fn check_target(triple: &str) -> Result<(), PackageError> {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", triple])
        .output()
        .map_err(|e| error("rustc", e))?;
    let libraries = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && Path::new(&libraries).is_dir() {
        return Ok(());
    }
    Err(error(
        format!("Rust's target {triple} is not installed"),
        format!("run `rustup target add {triple}`, or build on a machine of that kind"),
    ))
}

#[allow(
    clippy::disallowed_methods,
    reason = "the folders of programs, for the program that is run"
)]
fn path_starting_with(folder: &Path) -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path));
    std::env::join_paths(folders).unwrap_or(path)
}
