//! The functions of a project: their components, assets and registration.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use wafer_core::Digest;
use wafer_runtime::{Asset, AssetContent, FunctionSpec, RegisterError, Registered};
use wafer_store::{ArtifactStoreExt as _, blob_name};

use crate::definition::{ComponentDef, FunctionDef};
use crate::error::{Error, Kind, Result};
use crate::models::ArtifactName;
use crate::platform::{Platform, get};
use crate::project::{AssetSource, FunctionRole, FunctionSource, Project};
use crate::run::blocking;

/// A function of a project, as it is to be registered or kept.
#[derive(Clone, Debug)]
pub struct ProjectFunction {
    /// What it is used for.
    pub role: FunctionRole,
    /// The component, with all that belongs to it.
    pub spec: FunctionSpec,
    /// Assets that are artifacts of models, by name; they are not in `spec` yet.
    pub fitted: BTreeMap<String, ArtifactName>,
}

/// The functions of a project: those that were registered, and those that models are made
/// with.
#[derive(Clone, Debug, Default)]
pub struct ProjectFunctions {
    /// Functions that map rows.
    pub registered: BTreeMap<String, FunctionDef>,
    /// Functions that predict or train.
    pub components: BTreeMap<String, ComponentDef>,
}

/// Reads components, assets and parameters of all functions of a project.
/// Components of crates are looked for in `built`, as `NAME.wasm`.
///
/// # Errors
/// When a file is missing: which one, and what makes it.
pub fn specs(project: &Project, built: &Path) -> Result<Vec<ProjectFunction>> {
    project
        .functions
        .iter()
        .map(|(name, config)| {
            let component = match project.function_source(config) {
                FunctionSource::Crate(_) | FunctionSource::Stock(_) => {
                    let path = built.join(format!("{name}.wasm"));
                    read(&path, || {
                        format!("function `{name}` is not built; run `wafer build`")
                    })?
                }
                FunctionSource::Component(path) => read(&path, || {
                    format!("functions.{name}.component: cannot read {}", path.display())
                })?,
            };
            let mut fitted = BTreeMap::new();
            let mut files = Vec::new();
            for (asset, source) in &config.assets {
                match source {
                    AssetSource::File(path) => files.push((asset, path)),
                    AssetSource::Model(artifact) => {
                        fitted.insert(asset.clone(), artifact.clone());
                    }
                }
            }
            let assets = files.into_iter().map(|(asset, path)| {
                let path = project.folder.join(path);
                let read = Asset::file(&path).map_err(|e| {
                    let path = path.display();
                    let message = format!("functions.{name}.assets.{asset}: cannot read {path}");
                    Error::caused(Kind::NotFound, message, e)
                })?;
                Ok((asset.clone(), read))
            });
            let role = project.role(name);
            let spec = FunctionSpec {
                name: name.clone(),
                component,
                assets: assets.collect::<Result<_>>()?,
                parameters: config.parameters(),
                limits: config.limits(role),
                strict_nan: config.strict_nan,
            };
            Ok(ProjectFunction { role, spec, fitted })
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
    /// same component, assets and parameters; keeps those that models are made with. Runs
    /// guest code.
    ///
    /// # Errors
    /// [`Kind::Function`] when a function refuses, traps or is no function.
    pub async fn register(&self, functions: Vec<ProjectFunction>) -> Result<ProjectFunctions> {
        let mut all = ProjectFunctions::default();
        let known = self.definitions();
        for function in functions {
            let ProjectFunction { role, spec, .. } = self.with_fitted(function).await?;
            let name = spec.name.clone();
            if role != FunctionRole::Features {
                let kept = self.keep_component(role, spec).await?;
                all.components.insert(name, kept);
                continue;
            }
            let stored = known
                .functions
                .get(&name)
                .filter(|def| def.registered.digest == spec.digest());
            let registered = match stored {
                Some(def) => def.registered.clone(),
                None => self.register_one(spec.clone()).await?,
            };
            all.registered.insert(name, definition(&spec, registered));
        }
        Ok(all)
    }

    /// A function with the assets that are artifacts of models, which are in this
    /// platform's registry.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for a version or an artifact that there is not.
    pub async fn with_fitted(&self, mut function: ProjectFunction) -> Result<ProjectFunction> {
        for (asset, artifact) in std::mem::take(&mut function.fitted) {
            let found = self.fitted(&artifact).await.map_err(|e| {
                let place = format!("functions.{}.assets.{asset}: {e}", function.spec.name);
                Error::caused(e.kind(), place, e)
            })?;
            function.spec.assets.insert(asset, found);
        }
        Ok(function)
    }

    async fn fitted(&self, name: &ArtifactName) -> Result<Asset> {
        let version = self.model_version(&name.version).await?;
        let mut artifacts = version.artifacts.iter();
        let only = artifacts.next().filter(|_| version.artifacts.len() == 1);
        let found = match &name.artifact {
            Some(artifact) => get(&version.artifacts, artifact, "artifact")?,
            None => only.map(|(_, artifact)| artifact).ok_or_else(|| {
                let names: Vec<&str> = version.artifacts.keys().map(String::as_str).collect();
                let (name, first) = (version.name(), names.first().unwrap_or(&""));
                let names = names.join(", ");
                Error::invalid(format!(
                    "{name} has several artifacts ({names}); name one, such as model:{name}/{first}"
                ))
            })?,
        };
        self.kept_asset(found.digest).await
    }

    /// Checks that a component is what it is used for, and keeps it with its assets.
    async fn keep_component(&self, role: FunctionRole, spec: FunctionSpec) -> Result<ComponentDef> {
        let runtime = self.components().runtime.clone();
        let artifacts = Arc::clone(&self.components().artifacts);
        let checked = blocking(move || {
            let artifacts = artifacts.as_ref();
            match role {
                FunctionRole::Trainer => runtime.check_trainer(&spec, artifacts),
                FunctionRole::Features | FunctionRole::Inference => {
                    runtime.check_function(&spec, artifacts)
                }
            }?;
            Ok::<_, RegisterError>(spec)
        });
        let spec = checked.await??;
        let artifacts = &self.components().artifacts;
        let component = artifacts.put_blob(spec.component.clone()).await?;
        for asset in spec.assets.values() {
            self.keep_asset(asset).await?;
        }
        Ok(ComponentDef {
            name: spec.name.clone(),
            component,
            assets: digests(&spec),
            parameters: spec.parameters,
            limits: spec.limits,
            strict_nan: spec.strict_nan,
        })
    }

    /// Keeps an asset under its digest.
    pub(crate) async fn keep_asset(&self, asset: &Asset) -> Result<()> {
        let name = blob_name(asset.digest());
        let artifacts = &self.components().artifacts;
        match asset.content() {
            AssetContent::Bytes(bytes) => artifacts.put_new(&name, bytes.clone()).await?,
            AssetContent::File(path) => artifacts.put_file(&name, path).await?,
        }
        Ok(())
    }

    /// A kept asset.
    pub(crate) async fn kept_asset(&self, digest: Digest) -> Result<Asset> {
        let artifacts = &self.components().artifacts;
        let path = artifacts.file(&blob_name(digest)).await?;
        let path = path.ok_or_else(|| {
            let message = format!("{artifacts} has no artifact {digest}");
            Error::new(Kind::NotFound, message)
        })?;
        let asset = blocking(move || Asset::file(&path)).await?;
        let asset =
            asset.map_err(|e| Error::caused(Kind::Internal, format!("artifact {digest}"), e))?;
        if asset.digest() == digest {
            return Ok(asset);
        }
        let message =
            format!("artifact {digest} in {artifacts} is damaged: it is not what its name says");
        Err(Error::new(Kind::Internal, message))
    }

    /// A kept component, to be loaded.
    pub(crate) async fn kept_component(&self, kept: &ComponentDef) -> Result<FunctionSpec> {
        let mut assets = BTreeMap::new();
        for (name, digest) in &kept.assets {
            assets.insert(name.clone(), self.kept_asset(*digest).await?);
        }
        Ok(FunctionSpec {
            name: kept.name.clone(),
            component: self.components().artifacts.get_blob(kept.component).await?,
            assets,
            parameters: kept.parameters.clone(),
            limits: kept.limits.clone(),
            strict_nan: kept.strict_nan,
        })
    }

    pub(crate) async fn register_one(&self, spec: FunctionSpec) -> Result<Registered> {
        let runtime = self.components().runtime.clone();
        let artifacts = Arc::clone(&self.components().artifacts);
        Ok(blocking(move || runtime.register(&spec, artifacts.as_ref())).await??)
    }
}

/// A registered function, with its limits.
pub(crate) fn definition(spec: &FunctionSpec, registered: Registered) -> FunctionDef {
    FunctionDef {
        registered,
        limits: spec.limits.clone(),
        assets: digests(spec),
        parameters: spec.parameters.clone(),
    }
}

fn digests(spec: &FunctionSpec) -> BTreeMap<String, Digest> {
    let assets = spec.assets.iter();
    assets
        .map(|(name, asset)| (name.clone(), asset.digest()))
        .collect()
}
