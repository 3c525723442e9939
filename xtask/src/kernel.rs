//! `cargo xtask kernel`: tests the program for Lambda on kernels such as Lambda's.
//!
//! Lambda runs functions on Linux 5.10 or 6.1, and on processors that may be ten years old. Both
//! decide what the sandbox does: how much address space its pool gets, how memory is reset, which
//! instructions compiled code may have. So the program is run in emulated machines, each with a
//! kernel of Debian, by the tests that start it: `infra/local/machine/bootstrap.sh` takes the
//! program's place there. The servers and the Runtime API are those of this machine.
//!
//! A kernel is fetched once; to fetch a newer one, delete its folder below the target folder.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::local::Servers;
use crate::{Result, root, run, sources, spawn, target, tests_on_aws};

/// Versions of Linux, and the release of Debian that has each. Lambda has the first two; the last
/// one tells the sandbox which pages were written (`PAGEMAP_SCAN`).
const KERNELS: [(&str, &str); 3] = [
    ("5.10", "bullseye"),
    ("6.1", "bookworm"),
    ("6.12", "trixie"),
];
/// The package that needs the newest kernel of a release.
const NEWEST: &str = "linux-image-cloud-amd64";
/// The modules that the network of the machine needs, each after those that it needs itself. Some
/// kernels have a part of them built in.
const MODULES: [&str; 8] = [
    "failover",
    "net_failover",
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_net",
];
/// The keys by which Debian signs its archives.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The certificates of authorities, which clients read before they connect to anything.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Memory of a machine in MiB. Its files are in memory as well, some 60 MiB. Lambda gives one
/// processor for the second, which `infra/` takes unless it is told otherwise.
const MEMORY: [&str; 2] = ["512", "1769"];
/// The tests that are run on each kernel: of requests, events, parts of runs, and environments that
/// are frozen, by which the whole machine stands still.
const TESTS: [&str; 4] = [
    "aws::lambda::distributed::",
    "aws::lambda::endpoints::endpoints_answer_and_log_requests_and_pipelines_predict",
    "aws::lambda::events::",
    "aws::lambda::thaw::",
];

/// Runs tests with the program for Lambda on each kernel.
///
/// # Errors
/// Returns an error when a kernel cannot be had, and when a test fails on it.
pub(crate) fn kernel(bootstrap: &Path, servers: &Servers) -> Result {
    for (version, release) in KERNELS {
        let machine = machine(version, release, bootstrap)?;
        for memory in MEMORY {
            eprintln!("Linux {version}, {memory} MiB:");
            let tests = [&["--test", "behaviour", "--"], &TESTS[..]].concat();
            spawn(
                tests_on_aws(&tests, servers)?
                    .env("WAFER_TEST_BOOTSTRAP", script())
                    .env("WAFER_TEST_MEMORY", memory)
                    .env("WAFER_MACHINE", &machine)
                    .env("RUST_TEST_THREADS", "1"),
            )?;
        }
    }
    Ok(())
}

/// Returns the script that starts a machine in the place of the program.
fn script() -> PathBuf {
    files().join("bootstrap.sh")
}

/// Returns the folder with what machines are made of.
fn files() -> PathBuf {
    root().join("infra/local/machine")
}

/// Puts together what a machine needs, and returns the folder with it: the kernel, and an archive
/// of all files that the machine has.
fn machine(version: &str, release: &str, bootstrap: &Path) -> Result<PathBuf> {
    let is_missing = |program: &str| Command::new(program).arg("--help").output().is_err();
    if is_missing("qemu-system-x86_64") || is_missing("busybox") {
        let packages = ["qemu-system-x86", "busybox-static"];
        let install = ["install", "-y", "--no-install-recommends"];
        run(Path::new("apt-get"), &[&install[..], &packages].concat())?;
    }
    let folder = target().join("kernel").join(version);
    if !folder.join("kernel").is_file() {
        fetch(release, &folder)?;
    }
    let tree = folder.join("tree");
    let program = tree.join("var/task/bootstrap");
    let busybox = Path::new("/bin/busybox");
    copy(busybox, &tree.join("bin/busybox"))?;
    copy(&files().join("init"), &tree.join("init"))?;
    copy(&files().join("usage"), &tree.join("usage"))?;
    copy(bootstrap, &program)?;
    run(Path::new("chmod"), &["+x", &program.display().to_string()])?;
    let mut others = [libraries(busybox)?, libraries(&program)?].concat();
    others.extend(Some(PathBuf::from(CERTIFICATES)).filter(|file| file.is_file()));
    for other in others {
        copy(
            &other,
            &tree.join(other.strip_prefix("/").unwrap_or(&other)),
        )?;
    }
    let mut archive = Command::new("sh");
    archive
        .arg("-c")
        .arg("find . | busybox cpio -o -H newc > ../files")
        .current_dir(&tree);
    spawn(&mut archive)?;
    Ok(folder)
}

/// Fetches the newest kernel of a release of Debian into a folder, with the modules of the network.
fn fetch(release: &str, folder: &Path) -> Result {
    let unpacked = folder.join("unpacked");
    // What an attempt before has left would be taken for the newest.
    let _ = fs::remove_dir_all(folder);
    for made in ["lists/partial", "cache/archives/partial", "tree/modules"] {
        let made = folder.join(made);
        fs::create_dir_all(&made).map_err(|e| format!("{}: {e}", made.display()))?;
    }
    let list: Vec<String> = archives()?
        .iter()
        .map(|archive| {
            let suite = match archive.trim_end_matches('/').ends_with("-security") {
                true => format!("{release}-security"),
                false => release.to_owned(),
            };
            format!("deb [signed-by={KEYS}] {archive} {suite} main\n")
        })
        .collect();
    let list = list.concat();
    fs::write(folder.join("sources.list"), list).map_err(|e| e.to_string())?;
    spawn(apt("apt-get", folder).arg("update"))?;
    let depends = output(apt("apt-cache", folder).args(["depends", NEWEST]))?;
    let package = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "))
        .ok_or_else(|| format!("{NEWEST} of {release} needs no kernel: {depends}"))?;
    spawn(apt("apt-get", folder).args(["download", package]))?;
    let package = first(folder, &|path| path.extension().is_some_and(|e| e == "deb"))?;
    spawn(
        Command::new("dpkg-deb")
            .arg("-x")
            .args([&package, &unpacked]),
    )?;
    for (number, module) in MODULES.iter().enumerate() {
        // Modules have the extension `ko`, or `ko.xz`.
        let Ok(found) = first(&unpacked, &|path| is_module(path, module)) else {
            continue;
        };
        let is_packed = found.extension().is_some_and(|extension| extension == "xz");
        if is_packed {
            spawn(Command::new("busybox").arg("unxz").arg(&found))?;
        }
        let found = if is_packed {
            found.with_extension("")
        } else {
            found
        };
        copy(
            &found,
            &folder.join(format!("tree/modules/{number}-{module}.ko")),
        )?;
    }
    let kernel = first(&unpacked.join("boot"), &|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("vmlinuz-")
    })?;
    copy(&kernel, &folder.join("kernel"))
}

/// Returns the addresses of Debian's archives that this machine has its packages from.
fn archives() -> Result<BTreeSet<String>> {
    let mut list = Command::new("apt-get");
    list.args(["indextargets", "--format", "$(REPO_URI)"]);
    list.args(["Created-By: Packages", "Origin: Debian"]);
    let found = output(&mut list)?;
    let found: BTreeSet<String> = found.lines().map(ToOwned::to_owned).collect();
    match found.is_empty() {
        true => Err("apt has no packages of Debian, which has the kernels".to_owned()),
        false => Ok(found),
    }
}

/// Returns whether a file is a module of the kernel with this name.
fn is_module(path: &Path, name: &str) -> bool {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let rest = file.strip_prefix(name);
    rest.is_some_and(|rest| rest == ".ko" || rest == ".ko.xz")
}

/// Returns a command of apt that knows only the release of Debian whose list is in a folder.
fn apt(program: &str, folder: &Path) -> Command {
    let at = |name: &str| folder.join(name).display().to_string();
    let mut apt = Command::new(program);
    apt.current_dir(folder);
    for (option, value) in [
        ("Dir::Etc::sourcelist", at("sources.list")),
        ("Dir::Etc::sourceparts", "/dev/null".to_owned()),
        ("Dir::State::lists", at("lists")),
        ("Dir::Cache", at("cache")),
        // The user that apt downloads by otherwise cannot write to the target folder.
        ("APT::Sandbox::User", "root".to_owned()),
    ] {
        apt.arg("-o").arg(format!("{option}={value}"));
    }
    apt
}

/// Returns the first file below a folder that is wanted.
fn first(folder: &Path, is_wanted: &dyn Fn(&Path) -> bool) -> Result<PathBuf> {
    let mut found = sources::files(folder, is_wanted)?;
    found.sort();
    let first = found.into_iter().next();
    first.ok_or_else(|| format!("{}: what is looked for is not there", folder.display()))
}

/// Returns the libraries that a program is linked with, and the one that loads them. A program that
/// is linked statically has none; `ldd` says so as an error.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let listed = Command::new("ldd").arg(program).output();
    let listed = listed.map_err(|e| format!("ldd {}: {e}", program.display()))?;
    let listed = String::from_utf8_lossy(&listed.stdout);
    let words = listed.split_whitespace();
    let paths = words.filter(|word| word.starts_with('/'));
    Ok(paths.map(PathBuf::from).collect())
}

/// Runs a command, and returns what it writes to its standard output.
fn output(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}").replace('"', "");
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|e| format!("{shown}: {e}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{shown}: {}", output.status)),
    }
}

/// Copies a file, and makes the folder that it is to be in.
fn copy(from: &Path, to: &Path) -> Result {
    let failed = |e: std::io::Error| format!("{} to {}: {e}", from.display(), to.display());
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    fs::copy(from, to).map(drop).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_found_by_its_whole_name() {
        for (file, wanted) in [
            ("virtio.ko", true),
            ("virtio.ko.xz", true),
            ("virtio_ring.ko", false),
            ("virtio.c", false),
        ] {
            let path = Path::new("/lib/modules").join(file);
            assert_eq!(is_module(&path, "virtio"), wanted, "{file}");
        }
    }
}
