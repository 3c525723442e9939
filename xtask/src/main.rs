//! `cargo xtask`: set-up, tests and checks of this repository, each by one command.
//!
//! A task runs other programs: cargo, the `wafer` binary, Terraform, Python. It prints each command
//! line before it runs it, and stops at the first that fails. What a task needs and is missing (a
//! Python environment, servers) is installed below the target folder.
#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a task prints the commands that it runs"
)]

mod dependencies;
mod fuzz;
mod infra;
mod kernel;
mod lines;
mod local;
mod names;
mod rooms;
mod sources;
mod test_count;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use local::{Ceph, Servers};

const HELP: &str = "\
cargo xtask quickstart   set everything up, and run the flights project on its real data
cargo xtask test         build everything and run all tests
cargo xtask python       build the program, and run the tests of the Python package and of the author's library
cargo xtask check        rooms, dependencies, comments, names in texts, the number of tests, spelling, format,
                         clippy and docs, with warnings as errors
cargo xtask infra        check infra/: Terraform and checkov, without AWS
cargo xtask slow         slow tests: the Python package, all behaviours on AWS, Ceph's S3, licences and known
                         faults of dependencies, fuzz targets, the package for Lambda, the components of
                         Python and JavaScript functions built again
cargo xtask kernel       the program for Lambda, or one that is named, on kernels such as Lambda's, in emulated machines
cargo xtask fuzz         run each fuzz target, or those that are named, for a minute
cargo xtask demo         replay three days of January 2013 against a server
cargo xtask model        train a model of late arrivals, serve two releases, compare with training
cargo xtask bench        run all benchmarks
cargo xtask aws          run servers that speak the protocols of AWS, until interrupted";

fn main() -> ExitCode {
    let task = std::env::args().nth(1).unwrap_or_default();
    let result = match task.as_str() {
        "quickstart" => quickstart(),
        "test" => test(),
        "python" => python_package(),
        "check" => check(),
        "infra" => infra::infra(),
        "slow" => slow(),
        "kernel" => kernel(std::env::args().nth(2)),
        "fuzz" => fuzz::fuzz(&std::env::args().skip(2).collect::<Vec<_>>()),
        "demo" => flights_script("demo.sh"),
        "model" => flights_script("model.sh"),
        "bench" => bench(),
        "aws" => aws(),
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

/// Returns the folder of the checkout. It is found at run time: checkouts can share a target
/// folder, and then this program may have been compiled in another one.
fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it for `cargo xtask`");
    Path::new(&here)
        .parent()
        .expect("xtask is in the repository")
        .to_owned()
}

/// Arguments of cargo for all packages but those for AWS, which take minutes to compile.
const WITHOUT_AWS: [&str; 7] = [
    "--workspace",
    "--exclude",
    "wafer-aws",
    "--exclude",
    "wafer-lambda",
    "--exclude",
    "wafer-local-dynamodb",
];
/// Arguments of cargo for the program alone.
const PROGRAM: [&str; 2] = ["--package", "wafer-cli"];
/// Arguments of cargo for the packages for AWS, and the program with its stores on AWS.
///
/// Whichever packages are named, dependencies have the same features: `wafer-cli` names those that
/// only other packages need. So nothing is compiled again when more packages are named.
const AWS: [&str; 10] = [
    "--package",
    "wafer-cli",
    "--package",
    "wafer-aws",
    "--package",
    "wafer-lambda",
    "--package",
    "wafer-local-dynamodb",
    "--features",
    "wafer-cli/aws",
];
/// The tests of behaviour, by folder and subject, that [`test()`] runs on the stores on AWS as
/// well: those of what is written to stores and read from them. What the others are about is
/// decided before a store is reached (how files are read, what a server refuses, what a function
/// may do), or takes minutes to fill a local table (exports). [`slow`] runs those on AWS too.
const ON_AWS: [&str; 35] = [
    "aws::",
    "catalog::plan::",
    "pipelines::backfill::",
    "pipelines::chains::",
    "pipelines::delta_tables::",
    "pipelines::distributed::",
    "pipelines::events::",
    "pipelines::expectations::",
    "pipelines::late_events::",
    "pipelines::rejects::",
    "pipelines::run::",
    "pipelines::schedule::",
    "pipelines::sources::",
    "pipelines::ties::",
    "pipelines::upstream_changes::",
    "pipelines::versions::",
    "pipelines::windows::",
    "registry::",
    "sandbox::javascript::",
    "sandbox::same_bytes::",
    "serving::batch_inference::",
    "serving::endpoints::",
    "serving::feast::",
    "serving::features::",
    "serving::replay::",
    "serving::request_log::",
    "serving::shadows::",
    "serving::skew::",
    "serving::switching::",
    "stores::",
    "training::known_rows::",
    "training::left_overs::",
    "training::preprocessing::",
    "training::train::",
    "training::training_set::",
];
/// Arguments of cargo for all packages.
const WITH_AWS: [&str; 3] = ["--workspace", "--features", "wafer-cli/aws"];

/// Builds some packages, the `wafer` binary among them, and returns its path.
fn binary(packages: &[&str]) -> Result<PathBuf> {
    cargo(&[&["build", "--release"], packages].concat())?;
    Ok(target().join("release/wafer"))
}

/// Sets everything up, and runs the flights project.
fn quickstart() -> Result {
    let wafer = &binary(&PROGRAM)?;
    run(wafer, &["doctor", "--fix"])?;
    flights(wafer, &["apply"])?;
    for pipeline in ["airport", "airport_weather", "plane_outcome"] {
        flights(wafer, &["run", pipeline])?;
    }
    // This is the last flight of 2013 from Newark to Houston.
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

/// Runs all tests: first everything on the embedded stores, for which little is compiled that the
/// program did not need; then the packages for AWS, and the behaviours that reach stores once more,
/// on the stores on AWS.
fn test() -> Result {
    let wafer = &binary(&PROGRAM)?;
    run(wafer, &["doctor", "--fix"])?;
    spawn(&mut cargo_test(&WITHOUT_AWS)?)?;
    stock(&["test", "--release"])?;
    python_functions(None)?;
    javascript_functions(None)?;
    binary(&AWS)?;
    let servers = Servers::start()?;
    for targets in [
        &["--lib", "--bins", "--test", "aws"][..],
        &[&["--test", "behaviour", "--"], &ON_AWS[..]].concat(),
    ] {
        spawn(&mut tests_on_aws(targets, &servers)?)?;
    }
    Ok(())
}

/// Returns the command that runs the tests of some packages, with what the tests need of this
/// machine.
fn cargo_test(packages: &[&str]) -> Result<Command> {
    let oracle = python("oracle", "tests/oracle/requirements.txt")?;
    let clients = python("clients", "tests/clients/requirements.txt")?;
    let mut tests = Command::new("cargo");
    tests
        .args(["test", "--release"])
        .args(packages)
        .env("WAFER_ORACLE_PYTHON", &oracle)
        .env("WAFER_CLIENTS_PYTHON", &clients)
        .env("RUST_TEST_THREADS", threads().to_string());
    // These are the outputs of the last `cargo xtask infra`, if it has run.
    if infra::outputs().is_dir() {
        tests.env("WAFER_TEST_TERRAFORM", infra::outputs());
    }
    Ok(tests)
}

/// Returns how many tests run at the same time: half as many again as there are processors, because
/// tests of behaviour wait for servers and other processes a part of their time.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, |processors| processors.get() * 3 / 2)
}

/// Returns the command that runs tests of the packages for AWS on the stores of local servers that
/// speak the protocols of AWS.
fn tests_on_aws(arguments: &[&str], servers: &Servers) -> Result<Command> {
    let mut tests = cargo_test(&[&AWS[..], arguments].concat())?;
    tests
        .env_remove("AWS_PROFILE")
        .env_remove("AWS_SESSION_TOKEN")
        .envs(servers.environment())
        .env("WAFER_TEST_STORES", "aws");
    Ok(tests)
}

/// Builds the program, and runs the tests of the library that authors of Python functions import,
/// of the Python package, which run the program, and of functions in Python, and checks the types
/// of both packages and of the flights project in Python.
fn python_package() -> Result {
    let wafer = &binary(&PROGRAM)?;
    run(wafer, &["doctor", "--fix"])?;
    let python = python("python-package", "python/requirements-test.txt")?;
    python_functions(None)?;
    let mut tests = Command::new(&python);
    tests
        .args(["-B", "-m", "pytest", "-q", "-p", "no:cacheprovider"])
        .arg("python/tests")
        // Stock functions are built where the tests of behaviour have them, too.
        .env("WAFER_CACHE", target().join("tmp/wafer-cache"))
        .env("WAFER_BINARY", wafer);
    spawn(&mut tests)?;
    // Types are checked in the package as the wheel has it.
    let tree = target().join("python-package/tree");
    if tree.is_dir() {
        std::fs::remove_dir_all(&tree).map_err(|e| e.to_string())?;
    }
    let package = tree.join("wafer").display().to_string();
    let cache = target().join("python-package/mypy").display().to_string();
    let tree = tree.display().to_string();
    let build = "python/build_wheel.py";
    run(&python, &["-B", build, "--tree", &tree])?;
    let mypy = ["-m", "mypy", "--config-file", "python/pyproject.toml"];
    let files = ["--cache-dir", &cache, &package, build];
    run(&python, &[&mypy[..], &files].concat())?;
    let mut types = Command::new(&python);
    types
        .args(mypy)
        .args(["--cache-dir", &cache, "functions/flights-python/features"])
        .env("MYPYPATH", "functions/stock/python/library");
    spawn(&mut types)?;
    let mut functions = cargo_test(&PROGRAM)?;
    functions.args(["--test", "behaviour", "--", "sandbox::python_flights::"]);
    spawn(functions.env("WAFER_TEST_PYTHON", "1"))
}

/// Runs the slow tests: those of the Python package; all behaviours on the stores on AWS; the
/// stores, also on a slow line, and several processes at once, on a real S3 store; known faults of
/// dependencies; the fuzz targets; then the package for Lambda, whose program takes the place of
/// the one that was built, is frozen for minutes, and runs on Lambda's kernels; and the components
/// of interpreters, built again.
fn slow() -> Result {
    python_package()?;
    let wafer = &binary(&AWS)?;
    let servers = Servers::start()?;
    let tests = |arguments: &[&str]| tests_on_aws(arguments, &servers);
    spawn(&mut tests(&["--test", "behaviour"])?)?;
    let ceph = Ceph::start()?;
    let mut stores = tests(&["--test", "aws"])?;
    spawn(
        stores
            .envs(ceph.environment())
            .env("WAFER_TEST_LINE", SLOW_LINE),
    )?;
    let several = [
        "--test",
        "behaviour",
        "--",
        "stores::processes::",
        "stores::kill::",
        "stores::deletion::",
        "stores::compaction::",
        "pipelines::distributed::",
        "pipelines::late_events::",
        "pipelines::expectations::",
        "pipelines::versions::",
        "pipelines::chains::",
    ];
    spawn(tests(&several)?.envs(ceph.environment()))?;
    drop(ceph);
    licences()?;
    advisories()?;
    fuzz::fuzz(&[])?;
    let source = root().display().to_string();
    run(wafer, &["package", "--source", &source])?;
    let folder = target().join("package/tested");
    let zip = root().join("dist/wafer-x86_64.zip").display().to_string();
    let to = folder.display().to_string();
    run(Path::new("python3"), &["-m", "zipfile", "-e", &zip, &to])?;
    let bootstrap = folder.join("bootstrap").display().to_string();
    run(Path::new("chmod"), &["+x", &bootstrap])?;
    let lambda = ["--test", "behaviour", "--", "aws::lambda::"];
    spawn(
        tests(&lambda)?
            .env("WAFER_TEST_BOOTSTRAP", &bootstrap)
            .env("WAFER_TEST_FROZEN", FROZEN),
    )?;
    kernel::kernel(Path::new(&bootstrap), &servers)?;
    python_functions(Some(&interpreter("python")?))?;
    javascript_functions(Some(&interpreter("javascript")?))
}

/// Builds the component of an interpreter. The recipe fails if it is not the one that is committed.
/// Returns its path.
fn interpreter(name: &str) -> Result<PathBuf> {
    let folder = target().join(name);
    let mut recipe = Command::new("sh");
    recipe
        .arg(format!("functions/stock/{name}/recipe/build.sh"))
        .arg(&folder)
        .env("CARGO_TARGET_DIR", target().join("flatten"));
    spawn(&mut recipe)?;
    Ok(folder.join(format!("{name}.wasm")))
}

/// Tests what authors of Python functions import, natively and, if it is given, in a component, and
/// the Python functions of the flights project natively.
fn python_functions(component: Option<&Path>) -> Result {
    let tests = [
        "functions/stock/python/tests",
        "functions/flights-python/tests",
    ];
    interpreted_functions("python", &tests, component)
}

/// Tests the component of JavaScript functions: the one that is given, or the one that is
/// committed.
fn javascript_functions(component: Option<&Path>) -> Result {
    let tests = ["functions/stock/javascript/tests"];
    interpreted_functions("javascript", &tests, component)
}

/// Runs the tests of an interpreter, of which the first ones name what they need.
fn interpreted_functions(name: &str, tests: &[&str], component: Option<&Path>) -> Result {
    let requirements = format!("{}/requirements.txt", tests[0]);
    let python = python(&format!("{name}-functions"), &requirements)?;
    // Each has a `conftest.py` of its own, so each is a run of its own.
    for tests in tests {
        let mut pytest = Command::new(&python);
        pytest.args(["-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", tests]);
        if let Some(component) = component {
            pytest.env(
                format!("WAFER_{}_COMPONENT", name.to_uppercase()),
                component,
            );
        }
        spawn(&mut pytest)?;
    }
    Ok(())
}

/// Runs a program for Lambda, or the one that is built here, on kernels such as Lambda's.
fn kernel(bootstrap: Option<String>) -> Result {
    let wafer = &binary(&AWS)?;
    run(wafer, &["doctor", "--fix"])?;
    let built = || wafer.with_file_name("bootstrap");
    let bootstrap = bootstrap.map_or_else(built, |named| root().join(named));
    kernel::kernel(&bootstrap, &Servers::start()?)
}

/// A line with 5 Mbit/s, in KiB/s. It is the slowest one that the timeouts of parts allow for.
const SLOW_LINE: &str = "640";
/// For how many seconds a function is frozen: longer than a connection may be idle.
const FROZEN: &str = "120";

/// The version of cargo-deny that `deny.toml` is written for.
const CARGO_DENY: &str = "0.20.2";

/// Checks the licences and sources of all dependencies, and that none is there in two versions that
/// need not be.
fn licences() -> Result {
    run(&cargo_deny()?, &["check", "licenses", "bans", "sources"])
}

/// Checks that no dependency has a known fault, where the database of advisories can be had.
fn advisories() -> Result {
    let program = cargo_deny()?;
    if run(&program, &["fetch", "db"]).is_err() {
        eprintln!("skipped: the database of advisories cannot be had");
        return Ok(());
    }
    run(&program, &["check", "advisories"])
}

/// Returns the path of cargo-deny, which is compiled when it is needed for the first time.
fn cargo_deny() -> Result<PathBuf> {
    let tools = target().join(format!("cargo-deny-{CARGO_DENY}"));
    let program = tools.join("bin/cargo-deny");
    if !program.is_file() {
        let root = tools.display().to_string();
        let version = ["--version", CARGO_DENY, "--locked", "--root", &root];
        cargo(&[&["install", "cargo-deny"][..], &version].concat())?;
    }
    Ok(program)
}

/// Runs servers that speak the protocols of AWS, until this is interrupted. Prints the environment
/// variables with which they are found.
fn aws() -> Result {
    cargo(&[&["build", "--release"], &AWS[..]].concat())?;
    let servers = Servers::start()?;
    for (name, value) in servers.environment() {
        println!("export {name}={value}");
    }
    println!("# the servers run until this is interrupted");
    loop {
        std::thread::park();
    }
}

/// Makes a Python environment with the packages of a requirements file, and returns the path of its
/// interpreter. An environment that has the right packages is used again.
fn python(name: &str, requirements: &str) -> Result<PathBuf> {
    let folder = target().join(name);
    let python = folder.join("bin/python");
    let requirements = root().join(requirements);
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
        // On Debian, the module `venv` is in a package of its own.
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

/// Returns the target folder of cargo.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Runs cargo on the stock functions, which have a workspace of their own.
fn stock(arguments: &[&str]) -> Result {
    let mut cargo = Command::new("cargo");
    cargo.args(arguments);
    let target = target().join("stock");
    spawn(
        cargo
            .current_dir(root().join("functions/stock"))
            .env("CARGO_TARGET_DIR", target),
    )
}

/// Checks the shape of the code, its dependencies, the number of tests that texts state, format,
/// lints and docs, and that everything compiles without the crates for AWS.
fn check() -> Result {
    rooms::check(&root())?;
    dependencies::check()?;
    lines::check(&root())?;
    names::check(&root())?;
    test_count::check(&root())?;
    spelling()?;
    cargo(&["fmt", "--all", "--check"])?;
    stock(&["fmt", "--all", "--check"])?;
    cargo(&["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"])?;
    let clippy = |packages: &[&str]| {
        let deny = ["--all-targets", "--", "-D", "warnings"];
        cargo(&[&["clippy", "--release"], packages, &deny].concat())
    };
    clippy(&WITH_AWS)?;
    stock(&[
        "clippy",
        "--release",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ])?;
    cargo(&[&["check", "--release"], &WITHOUT_AWS[..]].concat())?;
    let mut docs = Command::new("cargo");
    docs.args(["doc", "--release", "--no-deps"])
        .args(WITH_AWS)
        .env("RUSTDOCFLAGS", "-D warnings");
    spawn(&mut docs)
}

/// Checks the spelling of all texts and names; `_typos.toml` has the words that are not mistakes.
fn spelling() -> Result {
    let python = python("spelling", "xtask/requirements.txt")?;
    run(&python.with_file_name("typos"), &["--format", "brief"])
}

/// Runs a script of the flights project.
fn flights_script(script: &str) -> Result {
    let wafer = &binary(&PROGRAM)?;
    run(wafer, &["doctor", "--fix"])?;
    let script = root().join("functions/flights").join(script);
    let mut shell = Command::new("sh");
    spawn(shell.arg(script).env("WAFER", wafer))
}

/// Runs all benchmarks.
fn bench() -> Result {
    let wafer = &binary(&WITHOUT_AWS)?;
    run(wafer, &["-C", "functions/flights", "build"])?;
    // The same packages are named in both commands, so that nothing is built a second time with
    // other features.
    let benches = ["invoke", "cold_start", "languages"].map(|bench| ["--bench", bench]);
    cargo(&[&["bench"], &WITHOUT_AWS[..], &benches.concat()].concat())
}

/// Runs cargo.
fn cargo(arguments: &[&str]) -> Result {
    run(Path::new("cargo"), arguments)
}

/// Runs a `wafer` command on the flights project.
fn flights(wafer: &Path, arguments: &[&str]) -> Result {
    run(wafer, &[&["-C", "functions/flights"], arguments].concat())
}

/// Runs a program in the checkout.
fn run(program: &Path, arguments: &[&str]) -> Result {
    spawn(Command::new(program).args(arguments))
}

/// Prints a command and runs it, in the checkout unless it has a folder of its own.
///
/// # Errors
/// Returns the command line when the command cannot be started or fails.
fn spawn(command: &mut Command) -> Result {
    let shown = format!("{command:?}").replace('"', "");
    eprintln!("$ {shown}");
    // Cargo sets these variables for this program. Passed on, they would make build scripts of some
    // dependencies run again, depending on who called cargo.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    if command.get_current_dir().is_none() {
        command.current_dir(root());
    }
    let status = command.status().map_err(|e| format!("{shown}: {e}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{shown}: {status}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subject_that_is_tested_on_aws_exists() {
        let tests = root().join("tests");
        for filter in ON_AWS {
            let subject = tests.join(filter.trim_end_matches("::").replace("::", "/"));
            let exists = subject.is_dir() || subject.with_extension("rs").is_file();
            assert!(exists, "{filter}");
        }
    }
}
