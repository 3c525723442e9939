//! `wafer build`: compiles the crates of functions to components.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use wafer_build::{BuildOptions, Toolchain, build};
use wafer_config::{FunctionSource, Project};

use crate::output::say;
use crate::sdk;

/// Returns the folder for the components of a project. It is below the folder of the project,
/// wherever the stores are.
pub(crate) fn built_folder(project: &Project) -> PathBuf {
    project.folder.join(".wafer").join("build")
}

/// The folder of a project that the sources of stock functions are unpacked to.
const STOCK: &str = ".wafer/stock";

/// A component that was built.
#[derive(serde::Serialize)]
pub(crate) struct Built {
    /// Name of the function.
    pub(crate) function: String,
    /// Path of the component.
    pub(crate) path: PathBuf,
    /// Size of the component in bytes.
    pub(crate) bytes: usize,
}

/// Builds every function of a project that has a crate, stock functions included. Functions that
/// are given as a component are skipped.
///
/// # Errors
/// Returns an error when there is no compiler for WebAssembly, and when a crate does not compile.
pub(crate) fn build_project(project: &Project) -> Result<Vec<Built>> {
    let stock_folder = project.folder.join(STOCK);
    let crates: Vec<_> = project
        .functions
        .iter()
        .filter_map(|(name, config)| {
            let folder = match project.function_source(config) {
                FunctionSource::Crate(folder) => folder,
                FunctionSource::Stock(stock) => stock_folder.join(stock.folder()),
                FunctionSource::Component(_) => return None,
            };
            Some((name, folder, config.stack(project.role(name))))
        })
        .collect();
    if crates.is_empty() {
        return Ok(Vec::new());
    }
    if crates
        .iter()
        .any(|(_, folder, _)| folder.starts_with(&stock_folder))
    {
        sdk::unpack_stock(&stock_folder)?;
    }
    let toolchain = Toolchain::find()?;
    let out = built_folder(project);
    std::fs::create_dir_all(&out)
        .with_context(|| format!("cannot make the folder {}", out.display()))?;
    let target_dir = target_dir(project);
    crates
        .into_iter()
        .map(|(name, folder, stack)| {
            say(format!(
                "building function `{name}` from {}",
                folder.display()
            ));
            let options = BuildOptions {
                folder,
                target_dir: target_dir.clone(),
                stack,
            };
            let component = build(&toolchain, &options)?;
            let path = out.join(format!("{name}.wasm"));
            std::fs::write(&path, &component)
                .with_context(|| format!("cannot write {}", path.display()))?;
            Ok(Built {
                function: name.clone(),
                path,
                bytes: component.len(),
            })
        })
        .collect()
}

/// Returns the target folder for functions. It differs from that of other builds, because cargo
/// would compile everything again whenever the flags change.
fn target_dir(project: &Project) -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(shared) => Path::new(&shared).join("functions"),
        None => project.folder.join("target").join("functions"),
    }
}
