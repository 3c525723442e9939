//! Registering the functions of a project before its definitions are applied.
//!
//! A function may have artifacts of models as assets. They come from the registry, so they are
//! added here ([`Platform::with_fitted`]) before the function is registered.

use wafer_catalog::{FunctionRole, ProjectFunction, ProjectFunctions, definition};
use wafer_store::{Error, Result};

use crate::Platform;

impl Platform {
    /// Registers the functions of a project. Runs guest code.
    ///
    /// A function that is registered already with the same component, assets and parameters is
    /// not registered again. The components of models and trainers are only stored, because they
    /// are registered together with the artifacts of a version.
    ///
    /// # Errors
    /// Returns [`Kind::Function`](wafer_store::Kind::Function) when a component is not a function,
    /// or fails when it is initialised.
    pub async fn register(&self, functions: Vec<ProjectFunction>) -> Result<ProjectFunctions> {
        let mut all = ProjectFunctions::default();
        let known = self.context.definitions();
        for function in functions {
            let ProjectFunction { role, spec, .. } = self.with_fitted(function).await?;
            let name = spec.name.clone();
            if role != FunctionRole::Features {
                let kept = self.context.keep_component(role, spec).await?;
                all.components.insert(name, kept);
                continue;
            }
            let stored = known
                .functions
                .get(&name)
                .filter(|def| def.registered.digest == spec.digest());
            let registered = match stored {
                Some(def) => def.registered.clone(),
                None => self.context.register_one(spec.clone()).await?,
            };
            all.registered.insert(name, definition(&spec, registered));
        }
        Ok(all)
    }

    /// Adds to a function the assets that are artifacts of models in the registry.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`](wafer_store::Kind::NotFound) for an unknown version or artifact.
    pub async fn with_fitted(&self, mut function: ProjectFunction) -> Result<ProjectFunction> {
        for (asset, artifact) in std::mem::take(&mut function.fitted) {
            let found = self.registry.fitted(&artifact).await.map_err(|e| {
                let place = format!("functions.{}.assets.{asset}: {e}", function.spec.name);
                Error::caused(e.kind(), place, e)
            })?;
            function.spec.assets.insert(asset, found);
        }
        Ok(function)
    }
}
