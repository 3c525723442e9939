//! `cargo xtask`: set-up, tests and checks of this repository, each one command.
#![allow(clippy::print_stderr, reason = "it says what it runs")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const HELP: &str = "\
cargo xtask quickstart   set everything up, and run the flights project on its real data
cargo xtask test         build everything and run all tests
cargo xtask check        format, clippy and docs, with warnings as errors
cargo xtask demo         live through three days of January 2013 against a server
cargo xtask bench        all benches";

fn main() -> ExitCode {
    let task = std::env::args().nth(1).unwrap_or_default();
    let result = match task.as_str() {
        "quickstart" => quickstart(),
        "test" => test(),
        "check" => check(),
        "demo" => demo(),
        "bench" => bench(),
        _ => Err(HELP.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

type Result<T = (), E = String> = std::result::Result<T, E>;

/// The checkout. Asked for when it runs: what was compiled in another checkout is
/// not compiled again where the two share their target folder.
fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").expect("run by `cargo xtask`");
    Path::new(&here)
        .parent()
        .expect("xtask is in the repository")
        .to_owned()
}

/// The binary, built. The whole workspace is built, here and for the tests, so
/// that its dependencies are compiled once, with one set of features.
fn binary() -> Result<PathBuf> {
    cargo(&["build", "--release", "--workspace"])?;
    Ok(target().join("release/wafer"))
}

fn quickstart() -> Result {
    let wafer = &binary()?;
    run(wafer, &["doctor", "--fix"])?;
    flights(wafer, &["apply"])?;
    for pipeline in ["airport", "airport_weather", "plane_outcome"] {
        flights(wafer, &["run", pipeline])?;
    }
    // The last flight of the year that left Newark for Houston.
    flights(
        wafer,
        &[
            "get",
            "arrival_delay",
            "--clock",
            "2013-12-31T23:59:00Z,0",
            "tailnum=N37470",
            "origin=EWR",
            "dest=IAH",
            "scheduled_departure=2013-12-31T23:59:00Z",
            "scheduled_arrival=2014-01-01T04:10:00Z",
        ],
    )
}

fn test() -> Result {
    let wafer = &binary()?;
    run(wafer, &["doctor", "--fix"])?;
    let python = oracle()?;
    let mut tests = Command::new("cargo");
    tests.args(["test", "--release", "--workspace"]);
    spawn(tests.env("WAFER_ORACLE_PYTHON", python))
}

/// A Python with what `tests/oracle` needs, installed once.
fn oracle() -> Result<PathBuf> {
    let folder = target().join("oracle");
    let python = folder.join("bin/python");
    let requirements = root().join("tests/oracle/requirements.txt");
    let wanted = std::fs::read(&requirements).map_err(|e| e.to_string())?;
    let installed = folder.join("installed.txt");
    if std::fs::read(&installed).is_ok_and(|there| there == wanted) {
        return Ok(python);
    }
    let make = || {
        run(
            Path::new("python3"),
            &["-m", "venv", &folder.display().to_string()],
        )
    };
    if make().is_err() {
        // Debian has it in a package of its own.
        run(Path::new("apt-get"), &["install", "-y", "python3-venv"])?;
        make()?;
    }
    let requirements = requirements.display().to_string();
    run(
        &python,
        &["-m", "pip", "install", "--quiet", "-r", &requirements],
    )?;
    std::fs::write(installed, wanted).map_err(|e| e.to_string())?;
    Ok(python)
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

fn check() -> Result {
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&[
        "clippy",
        "--release",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ])?;
    let mut docs = Command::new("cargo");
    docs.args(["doc", "--release", "--workspace", "--no-deps"])
        .env("RUSTDOCFLAGS", "-D warnings");
    spawn(&mut docs)
}

fn demo() -> Result {
    let wafer = &binary()?;
    run(wafer, &["doctor", "--fix"])?;
    let script = root().join("functions/flights/demo.sh");
    let mut demo = Command::new("sh");
    spawn(demo.arg(script).env("WAFER", wafer))
}

fn bench() -> Result {
    let wafer = &binary()?;
    run(wafer, &["-C", "functions/flights", "build"])?;
    // The whole workspace, as for the tests: the same features, no second build.
    cargo(&[
        "bench",
        "--workspace",
        "--bench",
        "invoke",
        "--bench",
        "cold_start",
    ])
}

fn cargo(arguments: &[&str]) -> Result {
    run(Path::new("cargo"), arguments)
}

fn flights(wafer: &Path, arguments: &[&str]) -> Result {
    run(wafer, &[&["-C", "functions/flights"], arguments].concat())
}

fn run(program: &Path, arguments: &[&str]) -> Result {
    spawn(Command::new(program).args(arguments))
}

fn spawn(command: &mut Command) -> Result {
    let shown = format!("{command:?}").replace('"', "");
    eprintln!("$ {shown}");
    // What cargo tells this program of itself would make some dependencies'
    // build scripts run again, depending on who called cargo.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    let status = command
        .current_dir(root())
        .status()
        .map_err(|e| format!("{shown}: {e}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{shown}: {status}"))
    }
}
