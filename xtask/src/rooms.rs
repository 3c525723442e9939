//! Checks the arrows between the rooms of the house.
//!
//! A crate may depend on those that [`MAY_DEPEND_ON`] lists for it, and inside of a crate no circle
//! of imports may go through more than one folder: such a folder could not be understood, moved or
//! tested by itself. A module file `x.rs` counts as a part of the folder `x/` beside it. A file
//! that calls a method of its own type in another file depends on that one as if it imported it
//! (`methods`).

mod methods;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use self::methods::own_calls;
use crate::Result;

/// For each crate under `host/` those of the same folder that it may depend on, from the ground up.
///
/// Feature pipelines, training and serving share only the registry, the tables and what is below
/// them. Only the edges know a concrete backend.
const MAY_DEPEND_ON: [(&str, &[&str]); 19] = [
    ("core", &[]),
    ("store", &["core"]),
    ("store-contract", &["core", "store"]),
    ("build", &[]),
    ("log", &["core"]),
    ("runtime", &["core", "store"]),
    ("catalog", &["core", "runtime", "store"]),
    ("config", &["catalog", "core", "runtime", "store"]),
    ("files", &["catalog", "core", "runtime", "store"]),
    ("tables", &["catalog", "core", "store"]),
    ("registry", &["catalog", "core", "runtime", "store"]),
    (
        "pipelines",
        &["catalog", "core", "files", "runtime", "store", "tables"],
    ),
    (
        "training",
        &[
            "catalog", "core", "files", "registry", "runtime", "store", "tables",
        ],
    ),
    (
        "serving",
        &["catalog", "core", "registry", "runtime", "store", "tables"],
    ),
    (
        "platform",
        &[
            "catalog",
            "core",
            "files",
            "pipelines",
            "registry",
            "runtime",
            "serving",
            "store",
            "tables",
            "training",
        ],
    ),
    ("aws", &["catalog", "core", "store"]),
    ("server", &["core", "platform"]),
    (
        "lambda",
        &[
            "aws", "core", "log", "platform", "runtime", "server", "store",
        ],
    ),
    (
        "cli",
        &[
            "aws", "build", "config", "core", "log", "platform", "runtime", "server", "store",
        ],
    ),
];

/// Checks all crates of the repository.
///
/// # Errors
/// Returns every dependency that is not allowed and every circle.
pub(crate) fn check(root: &Path) -> Result {
    let mut faults = Vec::new();
    for name in crates(root)? {
        faults.extend(wrong_dependencies(root, &name)?);
        let src = format!("host/{name}/src");
        faults.extend(circles(root, &src)?);
        faults.extend(trusting_readers(root, &src)?);
    }
    for folder in ["guest-sdk", "guest-sdk/macros", "xtask"] {
        faults.extend(circles(root, &format!("{folder}/src"))?);
    }
    match faults.is_empty() {
        true => Ok(()),
        false => Err(faults.join("\n")),
    }
}

/// Modules of the libraries that read Arrow and Parquet, which trust the bytes that they read.
const READERS: [&str; 3] = [
    "arrow_ipc::reader",
    "arrow::arrow_reader",
    "arrow::async_reader",
];

/// Where these are used: for files from outside, with limits; for temporary files of a training
/// set; and for the Delta tables of a project.
const MAY_READ: [&str; 3] = [
    "host/files/src/decode/",
    "host/training/src/spool",
    "host/store/src/offline/snapshot",
];

/// Returns the modules that read Arrow or Parquet past the place that expects hostile files.
fn trusting_readers(root: &Path, src: &str) -> Result<Vec<String>> {
    let mut texts = BTreeMap::new();
    collect(root, src, &Vec::new(), &mut texts)?;
    let reads = |text: &str| READERS.iter().any(|reader| text.contains(reader));
    let modules = texts.iter().filter(|(_, text)| reads(text));
    let names = modules.map(|(module, _)| format!("{src}/{}", module.join("/")));
    let wrong = names.filter(|name| !MAY_READ.iter().any(|place| name.starts_with(place)));
    Ok(wrong
        .map(|name| {
            format!("{name}: only host/files/src/decode gives files from outside to libraries")
        })
        .collect())
}

/// Returns the names of the folders of crates below `host/`.
fn crates(root: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(root.join("host")).map_err(|e| format!("host: {e}"))?;
    let mut names: Vec<String> = entries
        .filter_map(std::result::Result::ok)
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}

/// Reads a file of the checkout. The error names the file by its path within the checkout.
fn read(root: &Path, path: &str) -> Result<String> {
    std::fs::read_to_string(root.join(path)).map_err(|e| format!("{path}: {e}"))
}

/// Returns the dependencies of a crate on others of `host/` that it may not have.
fn wrong_dependencies(root: &Path, name: &str) -> Result<Vec<String>> {
    let Some((_, allowed)) = MAY_DEPEND_ON.iter().find(|(known, _)| *known == name) else {
        return Ok(vec![format!(
            "host/{name}: say in xtask/src/rooms.rs which crates it may depend on"
        )]);
    };
    let manifest = read(root, &format!("host/{name}/Cargo.toml"))?;
    let found = dependencies(&manifest).into_iter();
    let wrong = found.filter(|dependency| !allowed.contains(dependency));
    Ok(wrong
        .map(|dependency| format!("host/{name} may not depend on wafer-{dependency}"))
        .collect())
}

/// Returns the crates of the repository that a manifest depends on, by their names without
/// `wafer-`: the crate itself, its build script, and either of them on some targets. The
/// dependencies of tests are left out.
fn dependencies(manifest: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    for section in manifest.split("\n[") {
        let title = section.trim_start_matches('[');
        let title = title.split(']').next().unwrap_or_default();
        let mut parts = title.split('.');
        if !parts.any(|part| part == "dependencies" || part == "build-dependencies") {
            continue;
        }
        // A dependency may be named by the title, at the start of a line, or as `package = "NAME"`.
        let lines = section.lines().filter_map(|line| line.split('#').next());
        let words = lines.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '-'));
        found.extend(words.filter_map(|word| word.strip_prefix("wafer-")));
    }
    found
}

/// A file of a crate, by the path of its module; the root is the empty path.
type Module = Vec<String>;

/// Returns the circles of imports, and of calls of methods in other files, that go through more
/// than one folder of a crate. `src` is the path of its sources within the checkout, by which the
/// circles are named.
fn circles(root: &Path, src: &str) -> Result<Vec<String>> {
    let mut texts = BTreeMap::new();
    collect(root, src, &Vec::new(), &mut texts)?;
    let called = own_calls(&texts);
    let graph: BTreeMap<&Module, BTreeSet<&Module>> = texts
        .iter()
        .map(|(module, text)| {
            let mut named = imports(module, text, &texts);
            named.extend(called.get(module).into_iter().flatten());
            (module, named)
        })
        .collect();
    let mut found = BTreeSet::new();
    for from in texts.keys() {
        let reached = reachable(from, &graph);
        if !reached.contains(from) {
            continue;
        }
        let circle: BTreeSet<&Module> = reached
            .into_iter()
            .filter(|other| reachable(other, &graph).contains(from))
            .collect();
        let folders: BTreeSet<&[String]> = circle
            .iter()
            .map(|module| folder_of(module, &texts))
            .collect();
        if folders.len() > 1 {
            found.insert(circle);
        }
    }
    let name = |module: &Module| match module.is_empty() {
        true => "lib".to_owned(),
        false => module.join("/"),
    };
    let describe = |circle: BTreeSet<&Module>| {
        let names: Vec<String> = circle.into_iter().map(name).collect();
        format!(
            "{src}: these import each other, or call methods in each other, in a circle: {}",
            names.join(", ")
        )
    };
    Ok(found.into_iter().map(describe).collect())
}

/// Reads the files of a folder and of those below, without their tests and comments.
fn collect(
    root: &Path,
    folder: &str,
    parent: &Module,
    texts: &mut BTreeMap<Module, String>,
) -> Result {
    let entries = std::fs::read_dir(root.join(folder)).map_err(|e| format!("{folder}: {e}"))?;
    for entry in entries.filter_map(std::result::Result::ok) {
        let path = entry.path();
        let below = format!("{folder}/{}", entry.file_name().to_string_lossy());
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let mut module = parent.clone();
        if path.is_dir() {
            module.push(name.into_owned());
            collect(root, &below, &module, texts)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            if !["lib", "main", "mod"].contains(&&*name) {
                module.push(name.clone().into_owned());
            }
            if name != "tests" {
                texts.insert(module, without_tests(&read(root, &below)?));
            }
        }
    }
    Ok(())
}

/// Returns a text without its comments and without the tests at its end. A line `mod tests;`, whose
/// tests are in another file, ends nothing.
fn without_tests(text: &str) -> String {
    let code = text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default();
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The folder that a module belongs to: its own if it has parts, else that of its parent.
fn folder_of<'a>(module: &'a Module, texts: &BTreeMap<Module, String>) -> &'a [String] {
    let has_parts = texts
        .keys()
        .any(|other| other.len() > module.len() && other.starts_with(module));
    match has_parts {
        true => module,
        false => &module[..module.len().saturating_sub(1)],
    }
}

/// The modules that a module names.
fn imports<'a>(
    module: &Module,
    text: &str,
    texts: &'a BTreeMap<Module, String>,
) -> BTreeSet<&'a Module> {
    let mut found = BTreeSet::new();
    for path in paths(text) {
        let Some(target) = resolve(module, &path, texts, 0) else {
            continue;
        };
        if target != module {
            found.insert(target);
        }
    }
    found
}

/// Returns the module that has an item, through the re-exports on the way.
fn resolve<'a>(
    from: &Module,
    path: &[String],
    texts: &'a BTreeMap<Module, String>,
    depth: usize,
) -> Option<&'a Module> {
    let mut here = from.clone();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => here.clear(),
        "super" => {
            here.pop();
        }
        _ => {}
    }
    rest = match rest[0].as_str() {
        "crate" | "super" | "self" => &rest[1..],
        _ => rest,
    };
    while let Some(first) = rest.first() {
        if first == "super" {
            here.pop();
        } else {
            here.push(first.clone());
            if !texts.contains_key(&here) {
                here.pop();
                break;
            }
        }
        rest = &rest[1..];
    }
    let (module, text) = texts.get_key_value(&here)?;
    let (Some(item), true) = (rest.first(), depth < 4) else {
        return Some(module);
    };
    let re_exported = re_exports(text)
        .into_iter()
        .find(|path| path.last() == Some(item));
    match re_exported {
        Some(path) => resolve(module, &path, texts, depth + 1).or(Some(module)),
        None => Some(module),
    }
}

/// The paths of `pub use` statements.
fn re_exports(text: &str) -> Vec<Vec<String>> {
    let statements = text.split(';').filter_map(|statement| {
        let statement = statement.trim_start();
        let at = statement
            .find("pub use ")
            .or_else(|| statement.find("pub(crate) use "))?;
        let (_, path) = statement[at..].split_once("use ")?;
        Some(path)
    });
    let mut found = Vec::new();
    for path in statements {
        tree(path, &mut Vec::new(), &mut found);
    }
    found
}

/// All paths in a text that begin with `crate::` or `super::`.
fn paths(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for root in ["crate::", "super::"] {
        for (at, _) in text.match_indices(root) {
            let before = text[..at].chars().next_back();
            if before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':' && c != '$') {
                tree(&text[at..], &mut Vec::new(), &mut found);
            }
        }
    }
    found
}

/// Reads a path, or a tree of paths in braces; returns what follows.
fn tree<'a>(text: &'a str, above: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = tree(rest, above, found).trim_start();
            // A renamed item: `name as other`.
            rest = rest.trim_start_matches(|c: char| c != ',' && c != '}' && c != ';');
            match rest.strip_prefix(',') {
                Some(after) if !after.trim_start().starts_with('}') => rest = after,
                Some(after) => return after.trim_start().strip_prefix('}').unwrap_or(after),
                None => return rest.strip_prefix('}').unwrap_or(rest),
            }
        }
    }
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        return rest;
    }
    above.push(name.to_owned());
    let rest = match rest.strip_prefix("::") {
        Some(below) if !below.starts_with('<') => tree(below, above, found),
        _ => {
            found.push(above.clone());
            rest
        }
    };
    above.pop();
    rest
}

/// The modules that can be reached from one by one import or more.
fn reachable<'a>(
    from: &Module,
    graph: &BTreeMap<&'a Module, BTreeSet<&'a Module>>,
) -> BTreeSet<&'a Module> {
    let mut found = BTreeSet::new();
    let mut next: Vec<&Module> = graph[from].iter().copied().collect();
    while let Some(module) = next.pop() {
        if found.insert(module) {
            next.extend(graph[module].iter().copied());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn dependencies_of_a_manifest_are_found_without_those_of_tests() {
        let manifest = "[package]\nname = \"wafer-x\"\n\n[dependencies]\nwafer-core.workspace = true\n\
                        # Not wafer-log.\nwafer-aws = { workspace = true } # Nor wafer-files.\n\
                        serde = \"1\"\nwafer = { package = \"wafer-sdk\", path = \"../sdk\" }\n\n\
                        [dev-dependencies]\nwafer-cli = \"1\"\n\n\
                        [build-dependencies]\nwafer-build.workspace = true\n\n\
                        [target.'cfg(unix)'.dependencies]\nwafer-store-contract = \"1\"\n\n\
                        [target.'cfg(unix)'.dev-dependencies]\nwafer-server = \"1\"\n\n\
                        [dependencies.wafer-config]\nworkspace = true\n\n\
                        [features]\naws = [\"wafer-lambda/aws\"]\n";
        let wanted = ["aws", "build", "config", "core", "sdk", "store-contract"];
        assert_eq!(dependencies(manifest), BTreeSet::from(wanted));
    }

    #[test]
    fn code_below_a_declaration_of_tests_counts() {
        let code = "#[cfg(test)]\nmod tests;\nuse super::one::One;\n";
        let text =
            format!("{code}// No code.\n#[cfg(test)]\nmod tests {{\n    use super::*;\n}}\n");
        assert_eq!(without_tests(&text), code.trim_end());
    }

    #[test]
    fn circles_through_folders_are_found_and_others_allowed() {
        let folder = std::env::temp_dir().join(format!("wafer-rooms-{}", std::process::id()));
        let clean: [(&str, &str); 5] = [
            ("lib.rs", "mod a;\nmod b;\npub use a::one::One;\n"),
            ("a.rs", "mod one;\nmod two;\nuse self::one::One;\n"),
            ("a/one.rs", "use super::two::Two;\npub struct One;\n"),
            ("a/two.rs", "use crate::One;\npub struct Two;\n"),
            (
                "b.rs",
                "use crate::{a::{two::Two}, One as Other};\n#[cfg(test)]\nmod tests {\n}\n",
            ),
        ];
        let src = folder.join("part/src");
        write(&src, &clean);
        // `a/one` and `a/two` are of one folder.
        assert_eq!(circles(&folder, "part/src").unwrap(), Vec::<String>::new());
        write(&src, &[("a/two.rs", "use crate::{One, b::B};\n")]);
        let found = circles(&folder, "part/src").unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        // Folders are named by their paths within the checkout.
        assert!(found[0].starts_with("part/src: "), "{found:?}");
        assert!(found[0].ends_with("a/one, a/two, b"), "{found:?}");
    }

    #[test]
    fn circles_of_calls_through_folders_are_found() {
        let folder = std::env::temp_dir().join(format!("wafer-calls-{}", std::process::id()));
        let src = folder.join("part/src");
        let imports = "use crate::service::Service;\n";
        let calls_two = format!(
            "{imports}impl Service {{\n    pub fn one(&self) {{\n        self.two();\n    }}\n}}\n"
        );
        let calls_none = format!("{imports}impl Service {{\n    fn two(&self) {{\n    }}\n}}\n");
        let calls_one = calls_none.replace("{\n    }", "{\n        self.one();\n    }");
        let files: [(&str, &str); 5] = [
            ("lib.rs", "mod a;\nmod b;\nmod service;\n"),
            ("service.rs", "pub struct Service;\n"),
            ("a.rs", &calls_two),
            ("a/part.rs", ""),
            ("b.rs", &calls_none),
        ];
        write(&src, &files);
        assert_eq!(circles(&folder, "part/src").unwrap(), Vec::<String>::new());
        write(&src, &[("b.rs", calls_one.as_str())]);
        let found = circles(&folder, "part/src").unwrap();
        // Files of one folder may call each other.
        std::fs::remove_file(src.join("a/part.rs")).unwrap();
        let in_one_folder = circles(&folder, "part/src").unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].ends_with("in a circle: a, b"), "{found:?}");
        assert_eq!(in_one_folder, Vec::<String>::new());
    }
}
