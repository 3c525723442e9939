//! The guest SDK and the contract, as this binary was built with them: `wafer
//! new` unpacks them, so that a project builds without a registry.

use std::path::Path;

use anyhow::{Context as _, Result};

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../", $path)))),*]
    };
}

const FILES: &[(&str, &str)] = files![
    "guest-sdk/Cargo.toml",
    "guest-sdk/macros/Cargo.toml",
    "guest-sdk/macros/src/function.rs",
    "guest-sdk/macros/src/lib.rs",
    "guest-sdk/macros/src/row.rs",
    "guest-sdk/src/bindings.rs",
    "guest-sdk/src/column.rs",
    "guest-sdk/src/export.rs",
    "guest-sdk/src/function.rs",
    "guest-sdk/src/init.rs",
    "guest-sdk/src/lib.rs",
    "guest-sdk/src/log.rs",
    "guest-sdk/src/row.rs",
    "guest-sdk/src/time.rs",
    "guest-sdk/src/value.rs",
    "wit/function.wit",
    "wit/log.wit",
    "wit/types.wit",
];

/// Writes the SDK below a folder.
pub(crate) fn unpack(folder: &Path) -> Result<()> {
    for (path, text) in FILES {
        write(&folder.join(path), text)?;
    }
    Ok(())
}

/// Writes a file, making its folder.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_sdk_is_unpacked() {
        let here = std::env::var_os("CARGO_MANIFEST_DIR").expect("run by `cargo test`");
        let root = Path::new(&here).join("../..");
        let mut missing = Vec::new();
        for folder in ["guest-sdk/src", "guest-sdk/macros/src", "wit"] {
            for entry in std::fs::read_dir(root.join(folder)).unwrap() {
                let name = format!("{folder}/{}", entry.unwrap().file_name().to_string_lossy());
                let is_source = name.ends_with(".rs") || name.ends_with(".wit");
                if is_source && !FILES.iter().any(|(path, _)| *path == name) {
                    missing.push(name);
                }
            }
        }
        assert!(missing.is_empty(), "add to FILES: {missing:?}");
    }
}
