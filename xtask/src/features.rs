//! Checks that the dependencies of the program have the same features whatever else is built.
//!
//! Cargo gives a dependency the features that all packages of a command ask for. If the packages for
//! AWS or the tests asked for more than the program does, then the second command would compile the
//! dependency again, and everything above it: Arrow, Delta and wasmtime take minutes. So
//! `wafer-cli` names such features itself, and this check finds those that it does not name.

use std::collections::BTreeSet;
use std::process::Command;

use crate::{PROGRAM, Result, WITH_AWS, root};

/// Refuses dependencies of the program that have more features when all packages are built.
pub(crate) fn check() -> Result {
    let program = packages(&[&PROGRAM[..], &["--edges", "normal,build"]].concat())?;
    let all = packages(&[&WITH_AWS[..], &["--edges", "normal,build,dev"]].concat())?;
    let differ: Vec<String> = differing(&program, &all);
    if differ.is_empty() {
        return Ok(());
    }
    Err(format!(
        "these dependencies are compiled twice, because other packages need more of their features; \
         name the features in host/cli/Cargo.toml:\n{}",
        differ.join("\n")
    ))
}

/// Returns the packages of `program` that have other features in `all`. The packages of this
/// repository are left out: features of theirs are meant to differ.
fn differing(program: &BTreeSet<String>, all: &BTreeSet<String>) -> Vec<String> {
    let differ = program.difference(all).filter(|line| !line.contains('/'));
    differ
        .map(|line| {
            let name = line.split('\t').next().unwrap_or_default();
            let others = all
                .iter()
                .filter(|other| other.split('\t').next() == Some(name));
            let others: Vec<&str> = others
                .filter_map(|other| other.split('\t').nth(1))
                .collect();
            format!("  {line}  (or: {})", others.join("; or: "))
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
    fn packages_with_other_features_are_found() {
        let set = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        let program = set(&["a v1\tstd", "b v1\t", "own v1 (/x/own)\t"]);
        let all = set(&["a v1\tserde,std", "b v1\t", "own v1 (/x/own)\tmore"]);
        let found = differing(&program, &all);
        assert_eq!(found, ["  a v1\tstd  (or: serde,std)"]);
        assert_eq!(differing(&program, &program), Vec::<String>::new());
    }
}
