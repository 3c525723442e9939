//! The sources that are embedded in this program: the guest SDK, the contract in `wit/`, the stock
//! functions, and the libraries that functions in Python and JavaScript import.
//!
//! `wafer new` unpacks the SDK into a project, so that the project builds without a registry, or
//! a library, so that its functions can be tested. Stock functions are unpacked and compiled when
//! a project uses them.

use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context as _, Result};
use wafer_core::{Digest, Hasher};

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../", $path)))),*]
    };
}

/// The SDK and the contract: paths in the repository with the contents.
const FILES: &[(&str, &str)] = files![
    "guest-sdk/Cargo.toml",
    "guest-sdk/macros/Cargo.toml",
    "guest-sdk/macros/src/exported.rs",
    "guest-sdk/macros/src/function.rs",
    "guest-sdk/macros/src/lib.rs",
    "guest-sdk/macros/src/row.rs",
    "guest-sdk/macros/src/trainer.rs",
    "guest-sdk/src/bindings.rs",
    "guest-sdk/src/bindings/function.rs",
    "guest-sdk/src/bindings/trainer.rs",
    "guest-sdk/src/column.rs",
    "guest-sdk/src/export.rs",
    "guest-sdk/src/function.rs",
    "guest-sdk/src/init.rs",
    "guest-sdk/src/labels.rs",
    "guest-sdk/src/lib.rs",
    "guest-sdk/src/log.rs",
    "guest-sdk/src/row.rs",
    "guest-sdk/src/table.rs",
    "guest-sdk/src/time.rs",
    "guest-sdk/src/training.rs",
    "guest-sdk/src/value.rs",
    "wit/function.wit",
    "wit/log.wit",
    "wit/trainer.wit",
    "wit/types.wit",
];

/// The stock functions: paths in the repository with the contents.
const STOCK: &[(&str, &str)] = files![
    "functions/stock/Cargo.lock",
    "functions/stock/Cargo.toml",
    "functions/stock/fit-preprocess/Cargo.toml",
    "functions/stock/fit-preprocess/src/lib.rs",
    "functions/stock/fit-preprocess/src/moments.rs",
    "functions/stock/lightgbm/Cargo.toml",
    "functions/stock/lightgbm/src/lib.rs",
    "functions/stock/linear/Cargo.toml",
    "functions/stock/linear/src/lib.rs",
    "functions/stock/onnx/Cargo.toml",
    "functions/stock/onnx/src/columns.rs",
    "functions/stock/onnx/src/graph.rs",
    "functions/stock/onnx/src/lib.rs",
    "functions/stock/onnx/src/ml/encoders.rs",
    "functions/stock/onnx/src/ml/linear.rs",
    "functions/stock/onnx/src/ml/mod.rs",
    "functions/stock/onnx/src/ml/scores.rs",
    "functions/stock/onnx/src/ml/svm.rs",
    "functions/stock/onnx/src/ml/trees.rs",
    "functions/stock/preprocess/Cargo.toml",
    "functions/stock/preprocess/src/lib.rs",
    "functions/stock/train-trees/Cargo.toml",
    "functions/stock/train-trees/src/categories.rs",
    "functions/stock/train-trees/src/lib.rs",
    "functions/stock/train-trees/src/model_file.rs",
    "functions/stock/trees/Cargo.toml",
    "functions/stock/trees/src/lib.rs",
    "functions/stock/xgboost/Cargo.toml",
    "functions/stock/xgboost/src/lib.rs",
    "functions/stock/xgboost/src/ubjson.rs",
];

/// What functions in Python import: paths in the repository with the contents. The interpreter has
/// it too, with what only runs inside of it.
const PYTHON: &[(&str, &str)] = files![
    "functions/stock/python/library/wafer/__init__.py",
    "functions/stock/python/library/wafer/_errors.py",
    "functions/stock/python/library/wafer/_function.py",
    "functions/stock/python/library/wafer/_kinds.py",
    "functions/stock/python/library/wafer/_rows.py",
    "functions/stock/python/library/wafer/_signature.py",
    "functions/stock/python/library/wafer/_trainer.py",
];

/// The folder of [`PYTHON`] in the repository.
const PYTHON_FOLDER: &str = "functions/stock/python/library/";

/// What functions in JavaScript import, and its types: paths in the repository with the contents.
/// The interpreter has it too, with what only runs inside of it.
const JAVASCRIPT: &[(&str, &str)] = files![
    "functions/stock/javascript/library/wafer.d.ts",
    "functions/stock/javascript/library/wafer.js",
];

/// The folder of [`JAVASCRIPT`] in the repository.
const JAVASCRIPT_FOLDER: &str = "functions/stock/javascript/library/";

/// Writes the library of functions in Python below a folder, as the package `wafer`.
pub(crate) fn unpack_python(folder: &Path) -> Result<()> {
    unpack_library(PYTHON, PYTHON_FOLDER, folder)
}

/// Writes the library of functions in JavaScript to a folder, as the module `wafer.js`.
pub(crate) fn unpack_javascript(folder: &Path) -> Result<()> {
    unpack_library(JAVASCRIPT, JAVASCRIPT_FOLDER, folder)
}

fn unpack_library(files: &[(&str, &str)], from: &str, to: &Path) -> Result<()> {
    for (path, text) in files {
        let path = path.strip_prefix(from).unwrap_or(path);
        write(&to.join(path), text)?;
    }
    Ok(())
}

/// Writes the SDK and the contract below a folder.
pub(crate) fn unpack(folder: &Path) -> Result<()> {
    for (path, text) in FILES {
        write(&folder.join(path), text)?;
    }
    Ok(())
}

/// The folder of the stock functions in the repository.
const STOCK_FOLDER: &str = "functions/stock/";

/// Writes the stock functions to a folder, together with the SDK that they use. Files that have the
/// right content already are not written again, so that cargo compiles nothing twice.
pub(crate) fn unpack_stock(folder: &Path) -> Result<()> {
    for (path, text) in FILES.iter().chain(STOCK) {
        let text = stock_text(path, text);
        let path = folder.join(path.strip_prefix(STOCK_FOLDER).unwrap_or(path));
        if std::fs::read_to_string(&path).is_ok_and(|found| found == text) {
            continue;
        }
        write(&path, &text)?;
    }
    Ok(())
}

/// Returns the digest of the stock functions and the SDK, as they are unpacked.
pub(crate) fn stock_digest() -> Digest {
    static DIGEST: OnceLock<Digest> = OnceLock::new();
    *DIGEST.get_or_init(|| {
        let mut hasher = Hasher::new();
        for (path, text) in FILES.iter().chain(STOCK) {
            let text = stock_text(path, text);
            hasher.part(path.as_bytes()).part(text.as_bytes());
        }
        hasher.finish()
    })
}

/// Returns the content of a file as it is unpacked.
///
/// In the manifest of the stock functions, the path of the SDK is changed to be inside their
/// workspace. Cargo then names the SDK's sources by paths relative to the workspace, so that
/// components are the same wherever they are built.
fn stock_text(path: &str, text: &str) -> String {
    if path != "functions/stock/Cargo.toml" {
        return text.to_owned();
    }
    text.replace("path = \"../../guest-sdk\"", "path = \"guest-sdk\"")
        .replace("[workspace]\n", "[workspace]\nexclude = [\"guest-sdk\"]\n")
}

/// Writes a file, and makes its folder if needed.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpacked_stock_functions_have_the_sdk_inside_their_workspace() {
        let folder = tempfile::tempdir().unwrap();
        unpack_stock(folder.path()).unwrap();
        let manifest = std::fs::read_to_string(folder.path().join("Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        let sdk = &manifest["workspace"]["dependencies"]["wafer"]["path"];
        assert_eq!(sdk.as_str(), Some("guest-sdk"));
        assert_eq!(
            manifest["workspace"]["exclude"][0].as_str(),
            Some("guest-sdk")
        );
        for path in ["guest-sdk/Cargo.toml", "wit/types.wit", "linear/src/lib.rs"] {
            assert!(folder.path().join(path).is_file(), "{path}");
        }
    }

    /// Returns the sources below a folder of the repository, by their paths in it.
    fn sources(root: &Path, folder: &str) -> Vec<String> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.file_type().unwrap().is_dir() {
                found.extend(sources(root, &name));
            } else if [".rs", ".wit", ".toml"]
                .iter()
                .any(|end| name.ends_with(end))
            {
                found.push(name);
            }
        }
        found
    }

    #[test]
    fn every_source_file_is_embedded() {
        let here = std::env::var_os("CARGO_MANIFEST_DIR").expect("run by `cargo test`");
        let root = Path::new(&here).join("../..");
        let folders = ["guest-sdk", "wit", "functions/stock"];
        let is_embedded = |name: &String| {
            let files = FILES.iter().chain(STOCK);
            files.map(|(path, _)| *path).any(|path| path == name)
        };
        let missing: Vec<String> = folders
            .iter()
            .flat_map(|folder| sources(&root, folder))
            // Tests are not unpacked, and a build may have put something beside the sources.
            .filter(|name| !name.contains("/tests/") && !name.contains("/target/"))
            // Components of interpreters are built by recipes of their own, and the SDK makes none.
            .filter(|name| !name.starts_with("functions/stock/python/"))
            .filter(|name| !name.starts_with("functions/stock/javascript/"))
            .filter(|name| !name.starts_with("wit/interpreter/"))
            .filter(|name| !is_embedded(name))
            .collect();
        assert!(missing.is_empty(), "add to FILES or STOCK: {missing:?}");
    }

    /// Modules of the library that only run inside of the interpreter.
    const INSIDE: [&str; 7] = [
        "_guest.py",
        "_imports.py",
        "_log.py",
        "_prepare.py",
        "_rehearsal.py",
        "_start.py",
        "_zones.py",
    ];

    #[test]
    fn python_library_is_embedded_without_what_runs_inside_of_the_interpreter() {
        let here = std::env::var_os("CARGO_MANIFEST_DIR").expect("run by `cargo test`");
        let folder = Path::new(&here)
            .join("../..")
            .join(PYTHON_FOLDER)
            .join("wafer");
        let files = std::fs::read_dir(folder).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names
            .filter(|name| name.ends_with(".py") && !INSIDE.contains(&name.as_str()))
            .collect();
        names.sort();
        let folder = tempfile::tempdir().unwrap();
        unpack_python(folder.path()).unwrap();
        let unpacked = std::fs::read_dir(folder.path().join("wafer")).unwrap();
        let unpacked = unpacked.map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut unpacked: Vec<String> = unpacked.collect();
        unpacked.sort();
        assert_eq!(unpacked, names, "add to PYTHON or INSIDE");
        for (path, text) in PYTHON {
            for module in INSIDE {
                let name = module.trim_end_matches(".py");
                let imports = format!("from .{name} import");
                assert!(!text.contains(&imports), "{path} imports {name}");
            }
        }
    }

    #[test]
    fn javascript_library_is_one_module_that_imports_nothing() {
        let folder = tempfile::tempdir().unwrap();
        unpack_javascript(folder.path()).unwrap();
        let module = std::fs::read_to_string(folder.path().join("wafer.js")).unwrap();
        assert!(module.contains("export function fn("));
        let mut lines = module.lines();
        assert!(!lines.any(|line| line.starts_with("import ")), "{module}");
        assert!(folder.path().join("wafer.d.ts").is_file());
    }
}
