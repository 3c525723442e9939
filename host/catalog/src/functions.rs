//! Keeps components and assets as artifacts, and registers functions.

use std::collections::BTreeMap;
use std::sync::Arc;

use wafer_core::Digest;
use wafer_runtime::{Asset, AssetContent, FunctionSpec, RegisterError, Registered};
use wafer_store::{ArtifactStoreExt as _, Error, Kind, Result, blob_name, damaged_artifact};

use crate::context::Context;
use crate::definitions::{ArtifactName, ComponentDef, FunctionDef, FunctionRole, digests};
use crate::task::blocking;

/// A function of a project that is to be registered or kept.
#[derive(Clone, Debug)]
pub struct ProjectFunction {
    /// What the function is used for.
    pub role: FunctionRole,
    /// The component with its assets, parameters and limits.
    pub spec: FunctionSpec,
    /// The assets that are artifacts of models, by name. They are not in `spec` yet.
    pub fitted: BTreeMap<String, ArtifactName>,
}

/// The functions of a project after registration.
#[derive(Clone, Debug, Default)]
pub struct ProjectFunctions {
    /// The registered functions, which map rows, by name.
    pub registered: BTreeMap<String, FunctionDef>,
    /// The kept components, which predict or train, by name.
    pub components: BTreeMap<String, ComponentDef>,
}

impl Context {
    /// Checks that a component can do what it is used for, and stores it with its assets.
    ///
    /// # Errors
    /// Returns an error when the component is not fit for its role, and the errors of the artifact
    /// store.
    pub async fn keep_component(
        &self,
        role: FunctionRole,
        spec: FunctionSpec,
    ) -> Result<ComponentDef> {
        let runtime = self.components().runtime.clone();
        let artifacts = Arc::clone(&self.components().stores.artifacts);
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
        let artifacts = &self.components().stores.artifacts;
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

    /// Stores an asset under its digest.
    ///
    /// # Errors
    /// Returns the errors of the artifact store.
    pub async fn keep_asset(&self, asset: &Asset) -> Result<()> {
        let name = blob_name(asset.digest());
        let artifacts = &self.components().stores.artifacts;
        match asset.content() {
            AssetContent::Bytes(bytes) => artifacts.put_new(&name, bytes.clone()).await?,
            AssetContent::File(path) => artifacts.put_file(&name, path).await?,
        }
        Ok(())
    }

    /// Returns the stored asset with this digest.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when the asset is not stored, [`Kind::Internal`] when it cannot
    /// be read, and [`Kind::Corrupt`] when it is damaged.
    pub async fn kept_asset(&self, digest: Digest) -> Result<Asset> {
        let artifacts = &self.components().stores.artifacts;
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
        Err(damaged_artifact(artifacts, digest, asset.digest()))
    }

    /// Returns a stored component with its assets, ready to be loaded.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when the component or an asset is not stored, and an error when
    /// one is damaged.
    pub async fn kept_component(&self, kept: &ComponentDef) -> Result<FunctionSpec> {
        let mut assets = BTreeMap::new();
        for (name, digest) in &kept.assets {
            assets.insert(name.clone(), self.kept_asset(*digest).await?);
        }
        Ok(FunctionSpec {
            name: kept.name.clone(),
            component: self
                .components()
                .stores
                .artifacts
                .get_blob(kept.component)
                .await?,
            assets,
            parameters: kept.parameters.clone(),
            limits: kept.limits.clone(),
            strict_nan: kept.strict_nan,
        })
    }

    /// Registers a component: the sandbox initialises it, asks for its signature and snapshots it.
    /// This runs guest code.
    ///
    /// # Errors
    /// Returns an error when the component is refused, and the errors of the artifact store.
    pub async fn register_one(&self, spec: FunctionSpec) -> Result<Registered> {
        let runtime = self.components().runtime.clone();
        let artifacts = Arc::clone(&self.components().stores.artifacts);
        Ok(blocking(move || runtime.register(&spec, artifacts.as_ref())).await??)
    }
}
