//! Fuzz targets: `fuzz/`, compiled with the instrumentation of libFuzzer and run for a minute each.
//!
//! Everything that is needed is in stable rustc: the pass that counts edges and comparisons is an
//! option of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{PROGRAM, Result, binary, root, spawn, target};

/// The options that cargo-fuzz gives to rustc as well, without a sanitizer.
const FLAGS: [&str; 8] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "-Cforce-frame-pointers",
];

/// How long each target runs by default, in seconds.
const SECONDS: &str = "60";

/// Builds the targets, and runs those of these names, or all.
pub(crate) fn fuzz(names: &[String]) -> Result {
    let wafer = binary(&PROGRAM)?;
    let triple = host()?;
    let manifest = root().join("fuzz/Cargo.toml").display().to_string();
    let folder = target().join("fuzz");
    let mut build = Command::new("cargo");
    build
        .args(["build", "--release", "--bins", "--manifest-path", &manifest])
        // With a target, the flags are not those of build scripts and macros.
        .args(["--target", &triple])
        .env("CARGO_TARGET_DIR", &folder)
        .env("RUSTFLAGS", FLAGS.join(" "));
    spawn(&mut build)?;
    for name in targets()? {
        if names.is_empty() || names.contains(&name) {
            let program = folder.join(&triple).join("release").join(&name);
            run(&program, &name, &folder, &wafer)?;
        }
    }
    Ok(())
}

/// Runs a target, which starts from what it has learnt before and from the inputs of the checkout.
fn run(program: &Path, name: &str, folder: &Path, wafer: &Path) -> Result {
    let learnt = folder.join("learnt").join(name);
    let found = folder.join("found").join(name);
    for made in [&learnt, &found] {
        std::fs::create_dir_all(made).map_err(|e| format!("{}: {e}", made.display()))?;
    }
    let seconds = std::env::var("WAFER_FUZZ_SECONDS").unwrap_or_else(|_| SECONDS.to_owned());
    let mut fuzzer = Command::new(program);
    fuzzer
        // The first folder gets new inputs.
        .arg(&learnt)
        .arg(root().join("fuzz/corpus").join(name))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", found.display()))
        .args(["-timeout=20", "-rss_limit_mb=2048", "-max_len=65536"])
        .env("WAFER", wafer);
    spawn(&mut fuzzer)
}

/// Returns the names of the targets, in their order.
fn targets() -> Result<Vec<String>> {
    let folder = root().join("fuzz/fuzz_targets");
    let entries = std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let paths = entries
        .filter_map(std::result::Result::ok)
        .map(|entry| entry.path());
    let stem = |path: PathBuf| Some(path.file_stem()?.to_string_lossy().into_owned());
    let mut names: Vec<String> = paths.filter_map(stem).collect();
    names.sort();
    Ok(names)
}

/// Returns the triple of this machine, as rustc names it.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output();
    let output = output.map_err(|e| format!("rustc -vV: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let triple = text.lines().find_map(|line| line.strip_prefix("host: "));
    triple
        .map(str::to_owned)
        .ok_or_else(|| "rustc -vV names no host".to_owned())
}
