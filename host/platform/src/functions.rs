//! The functions of a project: their components, assets and registration.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use wafer_core::Digest;
use wafer_runtime::FunctionSpec;

use crate::definition::FunctionDef;
use crate::error::{Error, Kind, Result};
use crate::platform::Platform;
use crate::project::{FunctionSource, Project};

/// Reads components, assets and parameters of all functions of a project.
/// Components of crates are looked for in `built`, as `NAME.wasm`.
///
/// # Errors
/// When a file is missing: which one, and what makes it.
pub fn specs(project: &Project, built: &Path) -> Result<Vec<FunctionSpec>> {
    project
        .functions
        .iter()
        .map(|(name, config)| {
            let component = match project.function_source(config) {
                FunctionSource::Crate(_) => {
                    let path = built.join(format!("{name}.wasm"));
                    read(&path, || {
                        format!("function `{name}` is not built; run `wafer build`")
                    })?
                }
                FunctionSource::Component(path) => read(&path, || {
                    format!("functions.{name}.component: cannot read {}", path.display())
                })?,
            };
            let assets = config.assets.iter().map(|(asset, path)| {
                let path = project.folder.join(path);
                let bytes = read(&path, || {
                    format!(
                        "functions.{name}.assets.{asset}: cannot read {}",
                        path.display()
                    )
                })?;
                Ok((asset.clone(), bytes))
            });
            Ok(FunctionSpec {
                name: name.clone(),
                component,
                assets: assets.collect::<Result<_>>()?,
                parameters: config.parameters(),
                limits: config.limits(),
                strict_nan: config.strict_nan,
            })
        })
        .collect()
}

fn read(path: &Path, message: impl FnOnce() -> String) -> Result<Bytes> {
    std::fs::read(path)
        .map(Bytes::from)
        .map_err(|e| Error::caused(Kind::NotFound, message(), e))
}

impl Platform {
    /// Registers functions, as far as they are not registered already with the
    /// same component, assets and parameters. Runs guest code.
    ///
    /// # Errors
    /// [`Kind::Function`] when a function refuses, traps or is no function.
    pub async fn register(
        &self,
        specs: Vec<FunctionSpec>,
    ) -> Result<BTreeMap<String, FunctionDef>> {
        let mut functions = BTreeMap::new();
        let known = self.definitions();
        for spec in specs {
            let name = spec.name.clone();
            let stored = known
                .functions
                .get(&name)
                .filter(|def| def.registered.digest == spec.digest());
            let registered = match stored {
                Some(def) => def.registered.clone(),
                None => self.register_one(spec.clone()).await?,
            };
            let def = FunctionDef {
                registered,
                limits: spec.limits.clone(),
                assets: spec
                    .assets
                    .iter()
                    .map(|(name, b)| (name.clone(), Digest::of(b)))
                    .collect(),
                parameters: spec.parameters.clone(),
            };
            functions.insert(name, def);
        }
        Ok(functions)
    }

    async fn register_one(&self, spec: FunctionSpec) -> Result<wafer_runtime::Registered> {
        let runtime = self.components().runtime.clone();
        let artifacts = std::sync::Arc::clone(&self.components().artifacts);
        let registered =
            tokio::task::spawn_blocking(move || runtime.register(&spec, artifacts.as_ref()));
        Ok(registered
            .await
            .map_err(|e| Error::caused(Kind::Internal, "registration failed", e))??)
    }
}
