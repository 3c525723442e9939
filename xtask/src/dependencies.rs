//! Checks the dependencies of the crates: none is unused, none is declared for a workspace in vain,
//! and those of the program have the same features whatever else is built.
//!
//! Cargo compiles a dependency with the union of the features that the selected packages need. If
//! the packages for AWS or the tests needed more features than the program, then building them
//! after the program would compile the dependency a second time, and everything that depends on it:
//! Arrow, Delta and wasmtime take minutes. So `wafer-cli` enables these features itself, and this
//! check finds those that it does not enable.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::sources::{files, is_rust, read};
use crate::{PROGRAM, Result, WITH_AWS, root};

/// Dependencies that no code names: they are there for their features (see `Cargo.toml`), or for
/// their sources (`functions/stock/javascript/recipe`).
const NOT_NAMED: [&str; 8] = [
    "cranelift-codegen",
    "crc32fast",
    "hashbrown",
    "rquickjs-sys",
    "rustls",
    "tower-http",
    "typenum",
    "uuid",
];

/// Refuses dependencies that are unused, and those of the program that have more features when all
/// packages are built.
pub(crate) fn check() -> Result {
    check_use(&root())?;
    check_workspaces(&root())?;
    check_features()
}

/// Refuses dependencies that the code of their crate does not name.
fn check_use(root: &Path) -> Result {
    let mut found = Vec::new();
    let manifests = files(root, &|path| path.ends_with("Cargo.toml"))?;
    for manifest in &manifests {
        let folder = manifest.parent().expect("a file has a folder");
        let mut sources = files(folder, &is_rust)?;
        // A crate may have others in its folder, as `guest-sdk` has `guest-sdk/macros`.
        let inner = manifests.iter().filter_map(|other| other.parent());
        let inner: Vec<_> = inner
            .filter(|other| *other != folder && other.starts_with(folder))
            .collect();
        sources.retain(|path| !inner.iter().any(|other| path.starts_with(other)));
        // The tests of behaviour are a test of the program. They have the proxies of other tests.
        if folder.ends_with("host/cli") {
            for tests in ["tests", "host/aws/tests"] {
                sources.extend(files(&root.join(tests), &is_rust)?);
            }
        }
        let code = sources
            .iter()
            .map(|path| read(path))
            .collect::<Result<String>>()?;
        let shown = manifest.strip_prefix(root).unwrap_or(manifest).display();
        found.extend(
            dependencies_of(&read(manifest)?)
                .filter(|name| !NOT_NAMED.contains(name) && !is_used_in(&code, name))
                .map(|name| format!("{shown}: `{name}` is unused")),
        );
    }
    match found.is_empty() {
        true => Ok(()),
        false => Err(found.join("\n")),
    }
}

/// Refuses dependencies that a workspace declares and none of its members takes.
fn check_workspaces(root: &Path) -> Result {
    let mut manifests = Vec::new();
    for path in files(root, &|path| path.ends_with("Cargo.toml"))? {
        let text = read(&path)?;
        manifests.push((path, text));
    }
    let workspaces = manifests
        .iter()
        .filter(|(_, text)| text.lines().any(|line| line == "[workspace]"));
    let workspaces: Vec<&Path> = workspaces.filter_map(|(path, _)| path.parent()).collect();
    let mut found = Vec::new();
    for (path, text) in &manifests {
        let members = manifests
            .iter()
            .filter(|(other, _)| workspace_of(other, &workspaces) == path.parent());
        let members: Vec<&str> = members.map(|(_, text)| text.as_str()).collect();
        let shown = path.strip_prefix(root).unwrap_or(path).display();
        let untaken = untaken(text, &members).into_iter();
        found.extend(untaken.map(|name| format!("{shown}: no member takes `{name}`")));
    }
    match found.is_empty() {
        true => Ok(()),
        false => Err(found.join("\n")),
    }
}

/// Returns the folder of the workspace that a manifest is in: one may be in the folder of another.
fn workspace_of<'a>(manifest: &Path, workspaces: &[&'a Path]) -> Option<&'a Path> {
    let above = workspaces.iter().copied();
    above
        .filter(|folder| manifest.starts_with(folder))
        .max_by_key(|folder| folder.components().count())
}

/// Returns the dependencies that a manifest declares for its workspace and that no member takes.
fn untaken<'a>(manifest: &'a str, members: &[&str]) -> Vec<&'a str> {
    let is_taken = |name: &str| members.iter().any(|member| takes(member, name));
    let declared = names_in(manifest, |title| title == "workspace.dependencies");
    declared.filter(|name| !is_taken(name)).collect()
}

/// Whether a manifest takes a dependency from its workspace.
fn takes(manifest: &str, dependency: &str) -> bool {
    manifest.lines().any(|line| {
        let settings = line.strip_prefix(dependency).map(str::trim_start);
        settings.is_some_and(|settings| {
            settings.starts_with(".workspace")
                || settings.starts_with('=') && settings.contains("workspace = true")
        })
    })
}

/// Returns the names of the dependencies in a manifest, those of tests and builds included.
fn dependencies_of(manifest: &str) -> impl Iterator<Item = &str> {
    names_in(manifest, |title| {
        title.ends_with("dependencies") && !title.starts_with("workspace")
    })
}

/// Returns the names of the dependencies in those tables of a manifest whose titles are wanted.
fn names_in(manifest: &str, is_wanted: fn(&str) -> bool) -> impl Iterator<Item = &str> {
    let sections = manifest
        .split("\n[")
        .filter(move |section| is_wanted(section.split(']').next().unwrap_or_default()));
    let lines = sections.flat_map(|section| section.lines().skip(1));
    lines
        .filter(|line| line.starts_with(|c: char| c.is_ascii_alphabetic()))
        .filter_map(|line| line.split(['.', ' ', '=']).next())
}

/// Whether code names a crate: by a path, or in a `use`. The SDK is named `wafer` in code.
fn is_used_in(code: &str, dependency: &str) -> bool {
    let name = match dependency {
        "wafer-sdk" => "wafer".to_owned(),
        other => other.replace('-', "_"),
    };
    code.match_indices(&name).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        // A module of the same name has the path of its crate before it.
        let is_whole = before
            .chars()
            .next_back()
            .is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':');
        let is_used = before.ends_with("use ") && after.starts_with([';', ' ']);
        is_whole && (after.starts_with("::") || is_used)
    })
}

/// Refuses dependencies of the program that have more features when all packages are built.
fn check_features() -> Result {
    let program = packages(&[&PROGRAM[..], &["--edges", "normal,build"]].concat())?;
    let all = packages(&[&WITH_AWS[..], &["--edges", "normal,build,dev"]].concat())?;
    let differ: Vec<String> = differing(&program, &all);
    if differ.is_empty() {
        return Ok(());
    }
    Err(format!(
        "these dependencies are compiled twice, because other packages need more of their features; \
         enable the features in host/cli/Cargo.toml:\n{}",
        differ.join("\n")
    ))
}

/// Returns the packages of `program` that have other features in `all`. The packages of this
/// repository are left out: their features may differ.
fn differing(program: &BTreeSet<String>, all: &BTreeSet<String>) -> Vec<String> {
    let differ = program.difference(all).filter(|line| !line.contains('/'));
    differ
        .map(|line| {
            let (name, own) = line.split_once('\t').unwrap_or((line, ""));
            let others = all
                .iter()
                .filter(|other| other.split('\t').next() == Some(name));
            let others: Vec<&str> = others
                .filter_map(|other| other.split('\t').nth(1))
                .collect();
            let others = others.join("`, `");
            format!("  {name}: `{own}` for the program, `{others}` for all packages")
        })
        .collect()
}

/// Returns the packages that cargo would build, each with its features.
fn packages(arguments: &[&str]) -> Result<BTreeSet<String>> {
    let output = Command::new("cargo")
        .args(["tree", "--prefix", "none", "--format", "{p}\t{f}"])
        .args(arguments)
        .current_dir(root())
        .output()
        .map_err(|e| format!("cargo tree: {e}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().map(|line| line.trim_end_matches(" (*)"));
    Ok(lines.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_that_no_code_names_are_found() {
        let manifest = "[package]\nname = \"x\"\n\n[dependencies]\n# Why.\na-b.workspace = true\n\
                        c = { version = \"1\" }\n\n[dev-dependencies]\nwafer-sdk = \"1\"\n\n\
                        [workspace.dependencies]\nd = \"1\"\n";
        assert_eq!(
            dependencies_of(manifest).collect::<Vec<_>>(),
            ["a-b", "c", "wafer-sdk"]
        );
        for (code, name, wanted) in [
            ("use a_b::C;", "a-b", true),
            ("use a_bc::C;", "a-b", false),
            ("let x_c = 1;", "c", false),
            ("let c = c + 1;", "c", false),
            ("use crate::c::D;", "c", false),
            ("use c as d;", "c", true),
            ("#[wafer::function]", "wafer-sdk", true),
        ] {
            assert_eq!(is_used_in(code, name), wanted, "{name} in {code}");
        }
    }

    #[test]
    fn dependencies_of_a_workspace_that_no_member_takes_are_found() {
        let manifest = "[workspace]\n\n[workspace.dependencies]\n# Why.\na = \"1\"\na-b = \"1\"\n\
                        c = { version = \"1\" }\nd = { path = \"d\" }\n\n[profile.release]\ne = 1\n";
        let members = [
            "[dependencies]\na-b.workspace = true\nd = { path = \"../d\" }\n",
            "[dev-dependencies]\nc = { workspace = true, features = [\"f\"] }\n",
        ];
        assert_eq!(untaken(manifest, &members), ["a", "d"]);
        assert_eq!(untaken("[dependencies]\na = \"1\"\n", &members), [""; 0]);
    }

    #[test]
    fn the_nearest_workspace_is_that_of_a_manifest() {
        let workspaces = ["/r", "/r/fuzz"].map(Path::new);
        for (manifest, wanted) in [
            ("/r/host/core/Cargo.toml", Some("/r")),
            ("/r/fuzz/Cargo.toml", Some("/r/fuzz")),
            ("/other/Cargo.toml", None),
        ] {
            let found = workspace_of(Path::new(manifest), &workspaces);
            assert_eq!(found, wanted.map(Path::new), "{manifest}");
        }
    }

    #[test]
    fn packages_with_other_features_are_found() {
        let set = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        let program = set(&["a v1\tstd", "b v1\t", "own v1 (/x/own)\t"]);
        let all = set(&["a v1\tserde,std", "b v1\t", "own v1 (/x/own)\tmore"]);
        let found = differing(&program, &all);
        assert_eq!(
            found,
            ["  a v1: `std` for the program, `serde,std` for all packages"]
        );
        assert_eq!(differing(&program, &program), Vec::<String>::new());
    }
}
